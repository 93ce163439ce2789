"""File systems that fail, put under SQLite: they note what is done to files, lose part of it, or refuse the n-th time."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""

_numbers = itertools.count()


class Step(NamedTuple):
    """Something that was done: "write", "truncate" or "sync" to a file, or "told": a group was acknowledged."""

    what: str
    name: str = ""
    offset: int = 0
    content: bytes = b""


class FaultyFile(apsw.VFSFile):
    """Passes everything on, after noting it and asking whether it shall fail."""

    def __init__(self, system: FaultySystem, filename: Any, flags: list[int]) -> None:
        super().__init__("", filename, flags)
        self.system = system
        self.name = Path(filename if isinstance(filename, str) else filename.filename()).name

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        """Write, unless."""
        self.system.happens(Step("write", self.name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's name
        """Truncate, unless."""
        self.system.happens(Step("truncate", self.name, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        """Sync, unless; nothing needs to reach the real disk."""
        self.system.happens(Step("sync", self.name))


class FaultySystem(apsw.VFS):
    """A file system that keeps a log.

    Args:
        fails: Told each step before it is done; may raise.
    """

    def __init__(self, fails: Callable[[Step], None] = lambda _step: None) -> None:
        self.steps: list[Step] = []
        self.fails = fails
        self.vfs_name = f"faulty{next(_numbers)}"
        super().__init__(self.vfs_name, "")

    def xOpen(self, name: Any, flags: list[int]) -> FaultyFile:  # noqa: N802 - apsw's name
        """Open a file that is watched."""
        return FaultyFile(self, name, flags)

    def happens(self, step: Step) -> None:
        """Fail or note a step."""
        self.fails(step)
        self.steps.append(step)


class NthFails:
    """Lets the n-th write, truncation or sync fail, once or from then on."""

    def __init__(self, n: int, *, for_ever: bool, error: type[Exception] = apsw.IOError) -> None:
        self.n = n
        self.for_ever = for_ever
        self.error = error
        self.count = 0
        self.failed = False

    def __call__(self, _step: Step) -> None:
        """Count, and fail when it is time."""
        self.count += 1
        if self.count == self.n or (self.for_ever and self.count > self.n):
            self.failed = True
            raise self.error("made to fail")


def after_power_loss(steps: list[Step], before: dict[str, bytes], rng: random.Random) -> dict[str, bytes]:
    """What may be on the disk when the power fails after these steps.

    What was synced is there. Of everything since, each step may have reached the disk, or a part of it in whole sectors,
    or nothing of it, independently of the others.
    """
    disk = {name: bytearray(content) for name, content in before.items()}
    waiting: dict[str, list[Step]] = {}
    for step in steps:
        if step.what == "sync":
            for done in waiting.pop(step.name, []):
                _apply(disk, done)
        elif step.what != "told":
            waiting.setdefault(step.name, []).append(step)
    luck = rng.random()
    for queue in waiting.values():
        for step in queue:
            fate = rng.random()
            if fate < luck:
                _apply(disk, step)
            elif fate < luck + 0.2 and step.what == "write":
                _apply(disk, _torn(step, rng))
    return {name: bytes(content) for name, content in disk.items()}


def outages(
    steps: list[Step], before: dict[str, bytes], rng: random.Random, cuts: int, folder: Path
) -> Iterator[tuple[int, int]]:
    """Fail the power at so many of these steps, and put what is left into the folder each time.

    Yields:
        How many of the steps had been done, and the last revision told to the writers by then.
    """
    for _ in range(cuts):
        cut = rng.randrange(len(steps) + 1)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in after_power_loss(steps[:cut], before, rng).items():
            (folder / name).write_bytes(content)
        yield cut, max((step.offset for step in steps[:cut] if step.what == "told"), default=0)


def _torn(step: Step, rng: random.Random) -> Step:
    """The first or last part of a write, cut between two sectors of the disk."""
    edges = range(SECTOR - step.offset % SECTOR, len(step.content), SECTOR)
    if not edges:
        return step
    edge = rng.choice(edges)
    if rng.random() < 0.5:
        return step._replace(content=step.content[:edge])
    return step._replace(offset=step.offset + edge, content=step.content[edge:])


def _apply(disk: dict[str, bytearray], step: Step) -> None:
    content = disk.setdefault(step.name, bytearray())
    if step.what == "truncate":
        del content[step.offset :]
        return
    if len(content) < step.offset:
        content.extend(bytes(step.offset - len(content)))
    content[step.offset : step.offset + len(step.content)] = step.content
