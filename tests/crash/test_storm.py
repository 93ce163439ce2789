"""Everything at once, at random: cancelling, failing, closing, tasks on a loop and threads. Then the books are balanced."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.to_thread
import pytest
from waiting import LONG

from chronomap import AsyncChronoMap, ChronoMap, ClosedError, JournalError
from chronomap.core.change import PlainCommit
from chronomap.journal import MemoryJournal, Shelf

CYCLES = int(os.environ.get("CHRONOMAP_CRASH_CYCLES", "0"))


class Moody(MemoryJournal):
    """Takes its time now and then, and breaks at some group."""

    def __init__(self, shelf: Shelf, rng: random.Random, breaks_at: int) -> None:
        super().__init__(shelf)
        self.rng = rng
        self.left = breaks_at

    def append(self, group: Sequence[PlainCommit]) -> None:
        """Append, unless."""
        threading.Event().wait(self.rng.choice((0, 0, 0.0005, 0.002)))
        self.left -= 1
        if self.left == 0:
            self.failure = JournalError("broken")
        if self.failure is not None:
            raise self.failure
        super().append(group)


class Books:
    """What became of every put: each is of a key of its own."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.failed: set[str] = set()
        self.cancelled: set[str] = set()
        self.undone: set[str] = set()


async def write_in_task(cm: AsyncChronoMap[str, Any], books: Books, name: str, block: bool) -> None:
    """Puts in a task, bare or each in a block that is undone."""
    for n in range(8):
        key = f"{name} {n}"
        try:
            if block:
                books.undone.add(key)  # sooner or later, or never applied
                async with cm.snapshot_context():
                    books.done[key] = await cm.put(key, n)
                    raise ZeroDivisionError
            books.done[key] = await cm.put(key, n)
        except ZeroDivisionError:
            pass
        except (JournalError, ClosedError):
            books.failed.add(key)
        except BaseException:
            books.cancelled.add(key)
            raise


async def cancelled_by_scope(steps: int, *arguments: Any) -> None:
    """A task that is cancelled after so many steps of this one."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as both:
            both.start_soon(write_in_task, *arguments)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            scope.cancel()


async def cancelled_by_asyncio(steps: int, *arguments: Any) -> None:
    """The same by asyncio's own means, again and again until it has ended."""
    task = asyncio.create_task(write_in_task(*arguments))
    for _ in range(steps):
        await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])


async def storm(cm: AsyncChronoMap[str, Any], books: Books, rng: random.Random, native: bool) -> None:
    """Many tasks that are cancelled at any moment."""
    async with anyio.create_task_group() as tasks:
        for n in range(25):
            cancelled = cancelled_by_asyncio if native and rng.random() < 0.5 else cancelled_by_scope
            tasks.start_soon(cancelled, rng.randrange(200), cm, books, f"task{n}", rng.random() < 0.3)


def write_in_thread(cm: ChronoMap[str, Any], books: Books, name: str) -> None:
    """Puts in a thread."""
    for n in range(40):
        try:
            books.done[f"{name} {n}"] = cm.put(f"{name} {n}", n)
        except (JournalError, ClosedError):
            books.failed.add(f"{name} {n}")


async def one_storm(rng: random.Random, native: bool) -> None:
    """One map, until it is closed, and what its journal holds then."""
    shelf, books = Shelf(), Books()
    breaks_at = rng.choice((0, rng.randrange(1, 60)))
    closes_after = rng.choice((0.0, rng.random() * 0.05))
    cm = await AsyncChronoMap[str, Any].open(Moody(shelf, random.Random(rng.random()), breaks_at))
    told: list[str] = []
    cm.on_change(lambda key, old, new, when: told.extend([] if new is None else [key]))
    bridge = cm.bridge()
    streamed: list[int] = []
    stream = cm.watch()

    async def read() -> None:
        streamed.extend([change.revision async for change in stream])

    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as reading:
            reading.start_soon(read)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(storm, cm, books, rng, native)
                for n in range(3):
                    tasks.start_soon(anyio.to_thread.run_sync, write_in_thread, bridge, books, f"thread{n}")
                if closes_after:
                    await anyio.sleep(closes_after)
                    await cm.aclose()
            if not closes_after:
                assert len(cm) == len(await cm.latest())
                cm._check()
                await stream.caught_up()
                await cm.aclose()
    published = [record.key for commit in shelf.commits for record in commit.records if record.kind == "put"]
    assert len(published) == len(set(published)), "something was applied twice"
    revisions = {record.key: commit.revision for commit in shelf.commits for record in commit.records if record.kind == "put"}
    for key, revision in books.done.items():
        assert revisions[key] == revision
    assert not (books.failed - books.done.keys() - books.undone) & revisions.keys()  # of a block the undoing may have failed
    assert set(published) <= books.done.keys() | books.cancelled | books.undone
    assert sorted(told) == sorted(published)
    assert streamed == list(range(1, len(streamed) + 1))
    if not closes_after:
        assert len(streamed) == len(shelf.commits)
        if not breaks_at:  # then everything that could be undone has been
            with ChronoMap[str, Any].open(MemoryJournal(shelf)) as again:
                assert not books.undone & set(again.keys())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_storms(backend: str, seed: random.Random) -> None:
    """Nobody waits for ever; every answer is right; nothing is left of what was undone."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for round_ in range(CYCLES or 12):
            print("round", round_)
            anyio.run(one_storm, random.Random(seed.random()), backend == "asyncio", backend=backend)
        gc.collect()
