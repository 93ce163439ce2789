"""The demo runs, checks itself, and says so when something is not as it should be."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import chronomap
from chronomap import AsyncChronoMap, ChronoMap
from chronomap.cli import storm
from chronomap.cli.demo import ENOUGH

DATA = Path(__file__).parents[2] / "examples" / "data"


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as `make demo` does."""
    command = [sys.executable, "-m", "chronomap", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def test_every_state_matches_git_and_a_crash_loses_nothing() -> None:
    """In both orders, without colours."""
    done = demo()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("27 of 27 states match git") == 2
    assert "found 0 problems" in done.stdout
    assert "without holes" in done.stdout
    assert "\x1b" not in done.stdout
    assert "✗" not in done.stdout


def test_a_wrong_state_is_noticed(tmp_path: Path) -> None:
    """The check can fail."""
    shutil.copytree(DATA, tmp_path / "data")
    truth = tmp_path / "data" / "anyio-truth.jsonl"
    truth.write_text(truth.read_text().replace('"files": 27', '"files": 26', 1))
    done = demo("--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "✗ 26 of 27 states match git" in done.stdout


def test_a_storm_is_told_from_its_acknowledgements(tmp_path: Path) -> None:
    """They come in the order of no key's steps but its own, and the file has all of them."""
    acknowledged = storm.rage(tmp_path / "map.chrono", 200)
    assert len(acknowledged) >= 200
    assert chronomap.verify(tmp_path / "map.chrono").ok
    with ChronoMap.open(tmp_path / "map.chrono") as cm:
        for revision, key, step in acknowledged:
            version = cm.version(key, revision=revision)
            assert version is not None
            assert (version.revision, version.value) == (revision, step)
    assert ENOUGH > 10 * (storm.TASKS + storm.THREADS)  # so it is in the middle of its writes that it ends


@pytest.mark.anyio
async def test_what_a_storm_has_lost_is_noticed() -> None:
    """A write that is missing, one that is another one's, a step left out, one out of order."""
    writes = [storm.Write(2, "a", 1), storm.Write(3, "b", 1), storm.Write(4, "a", 2)]

    async def left(*puts: tuple[str, int], acknowledged: list[storm.Write] = writes) -> storm.Left:
        async with AsyncChronoMap[str, int]() as cm:
            await cm.put("before", 1)
            for key, step in puts:
                await cm.put(key, step)
            return await storm.look(cm, 1, acknowledged)

    assert await left(("a", 1), ("b", 1), ("a", 2)) == (0, False, 0)
    assert await left(("a", 1), ("b", 1), ("a", 2), ("b", 2)) == (0, False, 1)
    assert await left(("a", 1), ("b", 1)) == (1, False, 0)
    assert await left(("b", 1), ("a", 1), ("a", 2)) == (2, False, 2)
    assert (await left(("a", 1), ("b", 1), ("a", 3))).holes
    assert (await left(("a", 2), ("b", 1), ("a", 1))).holes
