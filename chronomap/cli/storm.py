"""The demo's write storm: a process that writes as fast as it can until it is killed, and a look at what it has left.

``python -m chronomap.cli.storm FILE`` writes 1, 2, 3 … to one key a task or thread, for ever, and prints a line for each write
once it is acknowledged. It is meant to be killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread

from chronomap import AsyncChronoMap, ChronoMap

TASKS, THREADS = 24, 4
PREFIX = "storm/"


class Write(NamedTuple):
    """One write, as the storm acknowledged it or as it is found."""

    revision: int
    key: str
    step: int


class Left(NamedTuple):
    """What a storm has left in a map.

    Attributes:
        lost: Acknowledged writes that are not there, as they were.
        holes: Whether a revision is missing, or a step of some key, or one is out of order.
        more: Writes that were on the disk, while nobody had been told yet.
    """

    lost: int
    holes: bool
    more: int


def rage(path: Path, enough: int) -> list[Write]:
    """Let it storm in a process of its own, kill that after so many writes, and return all that were acknowledged."""
    command = [sys.executable, "-m", "chronomap.cli.storm", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own module
        assert process.stdout is not None  # noqa: S101 - it was asked for
        lines = []
        for line in process.stdout:
            lines.append(line)
            if len(lines) == enough:
                process.kill()  # SIGKILL: nothing is flushed, closed or finished
    return [_write(line) for line in lines if line.endswith(b"\n")]


def _write(line: bytes) -> Write:
    revision, key, step = line.decode().split()
    return Write(int(revision), key, int(step))


async def look(cm: AsyncChronoMap[str, Any], before: int, acknowledged: list[Write]) -> Left:
    """Hold what is in the map after a revision against what was acknowledged."""
    found = [Write(change.revision, change.key, change.value or 0) async for change in cm.replay(before)]
    steps: dict[str, list[int]] = defaultdict(list)
    for write in found:
        steps[write.key].append(write.step)
    in_order = all(each == list(range(1, len(each) + 1)) for each in steps.values())
    whole = [write.revision for write in found] == list(range(before + 1, cm.revision + 1))
    lost = set(acknowledged) - set(found)
    return Left(len(lost), not (in_order and whole), len(found) - len(acknowledged) + len(lost))


# -- the process that is killed ----------------------------------------------------------------------------------------


async def _storm(path: str) -> None:
    async with AsyncChronoMap[str, int].open(path) as cm, anyio.create_task_group() as tasks:
        for number in range(TASKS):
            tasks.start_soon(_task, cm, f"{PREFIX}task-{number}")
        for number in range(THREADS):
            tasks.start_soon(anyio.to_thread.run_sync, _thread, cm.bridge(), f"{PREFIX}thread-{number}")


async def _task(cm: AsyncChronoMap[str, int], key: str) -> None:
    for step in count(1):
        _acknowledge(await cm.put(key, step), key, step)


def _thread(cm: ChronoMap[str, int], key: str) -> None:
    for step in count(1):
        _acknowledge(cm.put(key, step), key, step)


def _acknowledge(revision: int, key: str, step: int) -> None:
    os.write(1, f"{revision} {key} {step}\n".encode())  # in one piece, whoever else writes


if __name__ == "__main__":
    anyio.run(_storm, sys.argv[1])
