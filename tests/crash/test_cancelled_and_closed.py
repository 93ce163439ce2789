"""Cancelling and closing a durable map at the worst moment."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from slow import SlowJournal, ended, reopened
from waiting import LONG, until

from chronomap import AsyncChronoMap, ChronoMap, ClosedError

# -- cancelling --------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("taken", [False, True], ids=["waiting", "taken"])
async def test_a_cancelled_put_is_withdrawn_or_applied(taken: bool) -> None:
    """Before the writer took it nothing happened; after, it is applied, and the block around it undoes it."""
    journal = SlowJournal()
    async with AsyncChronoMap.open(journal) as cm:
        await cm.put("a", 0)
        journal.hold()
        async with anyio.create_task_group() as others:
            if not taken:
                others.start_soon(cm.put, "other", 1)
                await until(journal.busy.is_set)
            scope = anyio.CancelScope()

            async def work() -> None:
                with scope:
                    async with cm.snapshot_context():
                        await cm.put("a", 1)

            others.start_soon(work)
            if taken:
                await until(journal.busy.is_set)
            else:
                await until(lambda: cm._owner.mailbox)
            scope.cancel()
            if taken:
                await anyio.lowlevel.checkpoint()
            else:
                await until(lambda: not cm._owner.mailbox)
            journal.release()
        assert await cm.get("a") == 0
        history = [value for _, value in await cm.history("a")]
        assert history == ([0, 1, 0] if taken else [0])
        cm._check()
    with reopened(journal) as again:
        assert [value for _, value in again.history("a")] == history


@pytest.mark.anyio
async def test_cancelling_at_every_step() -> None:
    """However many steps a writer has made: it was withdrawn or it is applied, and the map and its file agree."""
    for steps in range(14):
        journal = SlowJournal()
        told: list[Any] = []
        async with AsyncChronoMap.open(journal) as cm:
            cm.on_change(lambda key, old, new, when: told.append(new))
            returned = []
            async with anyio.create_task_group() as tasks:
                scope = anyio.CancelScope()

                async def work() -> None:
                    with scope:
                        for n in range(3):
                            returned.append(await cm.put("a", n))  # noqa: PERF401 - cancelled in between

                tasks.start_soon(work)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
            history = [value for _, value in await cm.history("a")]
            assert history == told == list(range(len(history)))
            assert len(returned) <= len(history) <= len(returned) + 1
            cm._check()
        with reopened(journal) as again:
            assert [value for _, value in again.history("a")] == history


def test_cancelled_twice_by_asyncio_itself() -> None:
    """``task.cancel()`` is kept out by no scope: a second one made the block forget what it had written."""
    journal = SlowJournal()

    async def main() -> None:
        async with AsyncChronoMap.open(journal) as cm:
            await cm.put("a", 0)

            async def work() -> None:
                async with cm.snapshot_context():
                    await cm.put("a", 1)

            journal.hold()
            task = asyncio.create_task(work())
            await until(journal.busy.is_set)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            journal.release()
            await asyncio.wait([task])
            assert task.cancelled()
            assert [value for _, value in await cm.history("a")] == [0, 1, 0]

    asyncio.run(main())


def test_a_block_is_undone_though_it_is_cancelled_again() -> None:
    """While the undoing waits in the mailbox: it was withdrawn, and half a block stayed."""
    journal = SlowJournal()

    async def main() -> None:
        async with AsyncChronoMap.open(journal) as cm:
            await cm.put("a", 0)
            written, leave = asyncio.Event(), asyncio.Event()

            async def work() -> None:
                async with cm.snapshot_context():
                    await cm.put("a", 1)
                    written.set()
                    await leave.wait()

            task = asyncio.create_task(work())
            await written.wait()
            journal.hold()
            other = asyncio.create_task(cm.put("other", 1))
            await until(journal.busy.is_set)
            task.cancel()
            await until(lambda: cm._owner.mailbox)
            task.cancel()
            await asyncio.sleep(0)
            journal.release()
            await asyncio.wait([task, other])
            assert await cm.get("a") == 0

    asyncio.run(main())


def test_a_coroutine_that_is_taken_down() -> None:
    """A task that is destroyed cannot wait: the command is withdrawn, or applied without it."""
    journal = SlowJournal()

    async def main() -> None:
        async with AsyncChronoMap.open(journal) as cm:
            journal.hold()
            first = cm.put("first", 1)
            first.send(None)
            await until(journal.busy.is_set)
            second = cm.put("second", 1)
            second.send(None)
            first.close()
            second.close()
            journal.release()
            await cm.put("third", 1)
            assert await cm.keys() == ["first", "third"]

    asyncio.run(main())


# -- closing -----------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_closing_while_a_group_is_on_its_way() -> None:
    """What is on its way is answered as it turns out, what waits is refused; closing twice is fine."""
    journal = SlowJournal()
    cm = await AsyncChronoMap.open(journal)
    journal.hold()
    outcomes: dict[str, Any] = {}

    async def put(key: str) -> None:
        try:
            outcomes[key] = await cm.put(key, 1)
        except ClosedError:
            outcomes[key] = "refused"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put, "on its way")
        await until(journal.busy.is_set)
        tasks.start_soon(put, "waiting")
        await until(lambda: cm._owner.mailbox)
        tasks.start_soon(cm.aclose)
        await until(lambda: cm._owner.closed)
        tasks.start_soon(put, "late")
        tasks.start_soon(cm.aclose)
        await until(lambda: "late" in outcomes)
        journal.release()
    assert outcomes == {"on its way": 1, "waiting": "refused", "late": "refused"}
    await cm.aclose()
    with reopened(journal) as again:
        assert again.latest() == {"on its way": 1}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["plain", "async", "bridge"])
async def test_closing_in_a_callback(kind: str) -> None:
    """From a callback of either kind, on the loop or on a thread: nobody waits for himself."""
    journal = SlowJournal()
    cm = await AsyncChronoMap.open(journal)
    bridge = cm.bridge()
    if kind == "async":

        async def hook(*_: object) -> None:
            await cm.aclose()

        cm.on_change(hook)
    else:
        cm.on_change(lambda *_: bridge.close())
    with anyio.fail_after(LONG):
        if kind == "bridge":
            assert await anyio.to_thread.run_sync(bridge.put, "a", 1) == 1
        else:
            assert await cm.put("a", 1) == 1
        await cm.aclose()
    assert not journal.shelf.owned
    with pytest.raises(ClosedError):
        await cm.put("a", 2)


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["cancelled", "closed"])
async def test_a_backup_that_is_given_up(tmp_path: Path, end: str) -> None:
    """In the middle of it: no copy is left, and writing goes on (or the map is closed)."""
    begun, go = threading.Event(), threading.Event()

    def progress(done: int, total: int) -> None:
        if done < total:
            begun.set()
            assert go.wait(LONG)

    async with AsyncChronoMap.open(tmp_path / "map.chrono", durability="off") as cm:
        await cm.put_many({f"k{n}": "x" * 500_000 for n in range(6)})
        scope = anyio.CancelScope()

        async def work() -> None:
            with scope, contextlib.suppress(ClosedError):
                await cm.backup(tmp_path / "copy.chrono", progress=progress)
                pytest.fail("it was not given up")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await until(begun.is_set)
            if end == "cancelled":
                scope.cancel()
                await anyio.lowlevel.checkpoint()
            else:
                tasks.start_soon(cm.aclose)
                await until(lambda: cm._owner.closed)
            go.set()
        assert not any(name.startswith("copy") for name in os.listdir(tmp_path))  # noqa: PTH208
        if end == "cancelled":
            assert await cm.put("a", 1) == 2


def test_closing_in_the_progress_of_a_backup(tmp_path: Path) -> None:
    """On the writer's own thread: the backup is given up, and the map closes."""
    cm = ChronoMap[str, int].open(tmp_path / "map.chrono")
    cm.put("a", 1)
    with pytest.raises(ClosedError):
        cm.backup(tmp_path / "copy.chrono", progress=lambda done, total: cm.close())
    cm.close()
    assert {path.name for path in tmp_path.iterdir()} == {"map.chrono"}


def test_a_map_that_nobody_closed() -> None:
    """It is let go of, with a warning, also where warnings are errors."""
    journal = SlowJournal()
    cm = ChronoMap[str, int].open(journal)
    cm.put("a", 1)
    writer = cm._owner._writer  # type: ignore[attr-defined]
    died: list[Any] = []
    hook, threading.excepthook = threading.excepthook, lambda arguments: died.append(arguments.exc_value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del cm
            gc.collect()
            ended(writer)
    finally:
        threading.excepthook = hook
    assert [type(error) for error in died] == [ResourceWarning]
    with reopened(journal) as again:
        assert again.latest() == {"a": 1}


@pytest.mark.parametrize("moment", ["while it is read", "afterwards"])
def test_an_opening_that_asyncio_cancels(moment: str) -> None:
    """``asyncio.timeout`` leaves the worker thread to itself: what it opened is closed all the same."""
    reading, go = threading.Event(), threading.Event()

    class SlowToRead(SlowJournal):
        def load(self, *arguments: Any, **named: Any) -> Any:
            reading.set()
            assert go.wait(LONG)
            return super().load(*arguments, **named)

    journal = SlowToRead()

    async def main() -> None:
        async def opened() -> None:
            await AsyncChronoMap.open(journal)

        task = asyncio.create_task(opened())
        await until(reading.is_set)
        if moment == "afterwards":
            go.set()
            await until(lambda: any(thread.name == "chronomap-journal" for thread in threading.enumerate()))
        task.cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.wait([task])
        await until(lambda: not journal.shelf.owned)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
    assert not journal.shelf.owned
