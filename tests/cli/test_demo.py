"""The demo runs, checks itself, and says so when the data is not what git had."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

DATA = Path(__file__).parents[2] / "examples" / "data"


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as `make demo` does."""
    command = [sys.executable, "-m", "chronomap", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def test_every_state_matches_git() -> None:
    """In both orders, in time, without colours."""
    start = time.monotonic()
    done = demo()
    assert done.stdout.count("27 of 27 states match git") == 2
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert time.monotonic() - start < 10


def test_a_wrong_state_is_noticed(tmp_path: Path) -> None:
    """The check can fail."""
    shutil.copytree(DATA, tmp_path / "data")
    truth = tmp_path / "data" / "anyio-truth.jsonl"
    truth.write_text(truth.read_text().replace('"files": 27', '"files": 26', 1))
    done = demo("--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "26 of 27 states match git" in done.stdout
