"""The programs in README.md run as they stand and print what their comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

PRINTED = re.compile(r"^(?:\s*print\(.*\)  # |.*  # prints: )(.*)$", re.MULTILINE)
"""The promise of a line: what ``print`` prints, or what follows "prints:"."""


def test_blocks() -> None:
    """There are programs, each promises output, and no other fence hides one."""
    assert len(BLOCKS) == README.count("```") / 2
    assert BLOCKS
    assert all(PRINTED.search(block) for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block{number}" for number in range(1, len(BLOCKS) + 1)])
def test_block(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The block is a complete program; its output is exactly what it promises."""
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own text
    assert capsys.readouterr().out.splitlines() == PRINTED.findall(block)


def test_length() -> None:
    """It can be read in a few minutes."""
    assert len(README.splitlines()) <= 200
