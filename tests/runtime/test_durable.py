"""Maps on disk, on both faces: groups, who is told of what, failures of the journal, opening and closing."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from waiting import LONG, until

from chronomap import (
    AsyncChronoMap,
    ChronoMap,
    ChronoMapError,
    ChronoMapTypeError,
    ChronoMapValueError,
    ClosedError,
    ConflictError,
    JournalError,
)
from chronomap.core.change import PlainCommit, as_commit
from chronomap.errors import CorruptJournalError, JournalInUseError, JournalOpenError
from chronomap.journal import ExactCodec, MemoryJournal, Shelf
from chronomap.testing import ManualClock


class Gate(MemoryJournal):
    """A journal whose groups wait until they are let through, or told to fail."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        super().__init__(shelf)
        self.open = threading.Event()
        self.open.set()
        self.here = threading.Semaphore(0)
        self.groups: list[list[Any]] = []
        self.error: BaseException | None = None

    def append(self, group: Sequence[PlainCommit]) -> None:
        """Wait, then write or fail."""
        self.groups.append([record.key for commit in map(as_commit, group) for record in commit.records])
        self.here.release()
        assert self.open.wait(LONG)
        if self.error is not None:
            raise self.error
        super().append(group)

    def shut(self) -> None:
        """Hold up the next group."""
        self.open.clear()

    def arrived(self) -> None:
        """Wait until one more group is here."""
        assert self.here.acquire(timeout=LONG)


# -- groups ------------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_next_group_gathers_while_one_is_written() -> None:
    """Everybody who comes meanwhile shares the next one; readers and the loop go on, and see nothing before it is safe."""
    journal = Gate()
    async with AsyncChronoMap[str, int].open(journal) as cm:
        await cm.put("known", 1)
        journal.groups.clear()
        journal.arrived()
        journal.shut()
        stream = cm.watch()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cm.put, "first", 1)
            await anyio.to_thread.run_sync(journal.arrived)
            for number in range(20):
                tasks.start_soon(cm.put, f"k{number}", number)
            for number in range(5):
                tasks.start_soon(anyio.to_thread.run_sync, cm.bridge().put, f"t{number}", number)
            await until(lambda: len(cm._owner.mailbox) == 25)
            await anyio.wait_all_tasks_blocked()  # it asks what each of them sleeps on
            assert (cm.revision, len(cm), await cm.get("first"), "first" in cm) == (1, 1, None, False)
            assert await cm.latest() == {"known": 1}
            assert (await cm.snapshot()).revision == 1
            assert [change async for change in cm.replay()][-1].revision == 1
            journal.open.set()
        assert [len(group) for group in journal.groups] == [1, 25]
        assert (cm.revision, len(cm)) == (27, 27)
        seen = [await anext(stream) for _ in range(26)]
        assert [change.revision for change in seen] == list(range(2, 28))
        await stream.aclose()
        cm._check()


def test_an_erase_ends_its_group() -> None:
    """What comes after it is not written before its values are gone."""
    journal = Gate()
    with ChronoMap[str, int].open(journal) as cm:
        cm.put("a", 1)
        journal.shut()
        threads = [threading.Thread(target=cm.put, args=("held up", 1), daemon=True)]
        threads[0].start()
        journal.arrived()
        journal.arrived()
        for work in (lambda: cm.put("b", 1), lambda: cm.erase("a"), lambda: cm.put("a", 2), lambda: cm.put("c", 1)):
            expected = len(cm._owner.mailbox) + 1
            threads.append(threading.Thread(target=work, daemon=True))
            threads[-1].start()
            while len(cm._owner.mailbox) < expected:
                threading.Event().wait(0.001)
        journal.open.set()
        for thread in threads:
            thread.join(LONG)
        assert journal.groups == [["a"], ["held up"], ["b", "a"], ["a", "c"]]
        assert [(v.kind, v.value) for v in cm.versions("a")] == [("tombstone", None), ("value", 2)]


@pytest.mark.anyio
async def test_errors_reach_whom_they_belong_to() -> None:
    """Of one group, that is: a conflict, a value nobody can keep, an exception of an update; the others are written."""
    journal = Gate()
    async with AsyncChronoMap[str, Any].open(journal) as cm:
        outcomes: dict[str, Any] = {}

        async def told(name: str, call: Callable[..., Any], *arguments: Any, **more: Any) -> None:
            try:
                outcomes[name] = await call(*arguments, **more)
            except Exception as error:  # noqa: BLE001 - whatever it is
                outcomes[name] = type(error)

        journal.shut()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(told, "first", cm.put, "a", 1)
            await anyio.to_thread.run_sync(journal.arrived)

            async def then(name: str, call: Callable[..., Any], *arguments: Any, **more: Any) -> None:
                waiting = len(cm._owner.mailbox)
                tasks.start_soon(lambda: told(name, call, *arguments, **more))
                await until(lambda: len(cm._owner.mailbox) > waiting)

            await then("absent", cm.put, "b", 1, if_absent=True)
            await then("conflict", cm.put, "b", 2, if_absent=True)
            await then("refused", cm.put_many, {"c": 1, "d": object})
            await then("retry", cm.put, "e", 1, request_id="one")
            await then("again", cm.put, "e", 2, request_id="one")
            await then("gone", cm.delete, "nothing")
            journal.open.set()
        assert outcomes == {
            "first": 1,
            "absent": 2,
            "conflict": ConflictError,
            "refused": ChronoMapTypeError,
            "retry": 3,
            "again": 3,
            "gone": False,
        }
        assert await cm.latest() == {"a": 1, "b": 1, "e": 1}


@pytest.mark.anyio
@pytest.mark.parametrize("shared", [False, True])
async def test_a_journal_that_fails(shared: bool) -> None:
    """Its group is gone, everybody in it is told, later writes are refused; reads go on, streams see nothing of it."""
    journal = Gate()
    cm = await AsyncChronoMap[str, int].open(journal)
    await cm.put("a", 1, request_id="first")
    journal.arrived()
    stream, callbacks = cm.watch(since=0), list[Any]()
    cm.on_change(lambda *change: callbacks.append(change))
    journal.shut()
    journal.error = OSError(5, "no disk")
    errors: list[JournalError] = []

    async def put(key: str) -> None:
        with pytest.raises(JournalError, match="no disk") as raised:
            await cm.put(key, 2)
        errors.append(raised.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put, "a")
        await anyio.to_thread.run_sync(journal.arrived)
        if shared:
            tasks.start_soon(put, "b")
            await until(lambda: cm._owner.mailbox)
        assert cm.read_only is None
        journal.open.set()
    assert len({id(error) for error in errors}) == 1 + shared
    assert cm.read_only is not None
    assert "no disk" in cm.read_only
    journal.error = None
    for write in (cm.put("a", 3), cm.delete("a"), cm.clear(), cm.put("a", 1, request_id="first")):
        with pytest.raises(JournalError, match="no disk"):
            await write
    with pytest.raises(JournalError):
        await anyio.to_thread.run_sync(cm.bridge().put, "a", 3)
    assert (await cm.latest(), cm.revision, callbacks) == ({"a": 1}, 1, [])
    assert (await anext(stream)).revision == 1
    assert (await cm.snapshot())["a"] == 1
    cm._check()
    await stream.aclose()
    await cm.aclose()
    async with AsyncChronoMap[str, int].open(MemoryJournal(journal.shelf)) as again:
        assert await again.put("a", 4) == 2


def test_a_cancellation_that_is_taken_back_is_no_answer() -> None:
    """It wakes the task without cancelling it, from Python 3.13 on; nothing is acknowledged before it is on the disk."""

    async def run() -> None:
        journal = Gate()
        async with AsyncChronoMap[str, int].open(journal) as cm:
            journal.shut()
            task = asyncio.create_task(cm.put("k", 1))
            await asyncio.to_thread(journal.arrived)
            task.cancel()
            task.uncancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert not task.done()
            journal.open.set()
            with suppress(asyncio.CancelledError):
                assert await task == 1
            assert (cm.revision, await cm.get("k")) == (1, 1)

    asyncio.run(run())


@pytest.mark.anyio
async def test_cancelled_before_and_after_the_writer_took_it() -> None:
    """Before: nothing happened. After: it is applied, and callbacks hear of it."""
    journal = Gate()
    async with AsyncChronoMap[str, int].open(journal) as cm:
        heard: list[str] = []
        cm.on_change(lambda key, *_: heard.append(key))
        journal.shut()
        async with anyio.create_task_group() as tasks:
            taken, waiting = anyio.CancelScope(), anyio.CancelScope()

            async def put(key: str, scope: anyio.CancelScope) -> None:
                with scope:
                    await cm.put(key, 1)

            tasks.start_soon(put, "taken", taken)
            await anyio.to_thread.run_sync(journal.arrived)
            tasks.start_soon(put, "waiting", waiting)
            await until(lambda: cm._owner.mailbox)
            waiting.cancel()
            taken.cancel()
            await until(lambda: not cm._owner.mailbox)
            journal.open.set()
        assert taken.cancelled_caught
        assert waiting.cancelled_caught
        assert (await cm.latest(), heard, cm.revision) == ({"taken": 1}, ["taken"], 1)


@pytest.mark.anyio
async def test_closing_while_a_group_is_written() -> None:
    """It is safe and its writer is told so; who waits behind it is refused; afterwards the shelf is free."""
    journal = Gate()
    cm = await AsyncChronoMap[str, int].open(journal)
    outcomes: list[Any] = []

    async def put(key: str) -> None:
        try:
            outcomes.append(await cm.put(key, 1))
        except ClosedError:
            outcomes.append(ClosedError)

    journal.shut()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put, "a")
        await anyio.to_thread.run_sync(journal.arrived)
        tasks.start_soon(put, "b")
        await until(lambda: cm._owner.mailbox)
        tasks.start_soon(cm.aclose)
        await until(lambda: cm._owner.closed)
        journal.open.set()
    assert outcomes in ([1, ClosedError], [ClosedError, 1])  # either may be told first
    with pytest.raises(ClosedError):
        await cm.get("a")
    assert [commit.revision for commit in journal.shelf.commits] == [1]
    assert not journal.shelf.owned


# -- faces -------------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_reaper_writes_to_the_journal() -> None:
    """What falls due is committed when the clock is moved, with nobody calling, and when a map is opened."""
    clock, shelf = ManualClock(1000.0), Shelf()
    async with AsyncChronoMap[str, int].open(MemoryJournal(shelf), clock=clock) as cm:
        await cm.put("a", 1, ttl=10)
        await cm.put("b", 1, 1050.0)
        clock.advance(20)
        await until(lambda: cm.revision == 3)
        await until(lambda: len(shelf.commits) == 3)
    clock.advance(50)
    async with AsyncChronoMap[str, int].open(MemoryJournal(shelf), clock=clock) as cm:
        assert cm.revision == 4
        assert [(change.kind, change.key) async for change in cm.replay(since=2)] == [("expire", "a"), ("activate", "b")]


@pytest.mark.anyio
async def test_callbacks_blocks_and_transactions() -> None:
    """Plain and async callbacks run before the call returns, blocks are undone, transactions are tried again."""
    async with AsyncChronoMap[str, int].open(MemoryJournal()) as cm:
        heard: list[tuple[str, Any]] = []

        async def later(key: str, old: Any, new: Any, timestamp: float) -> None:
            await anyio.lowlevel.checkpoint()
            heard.append(("async", new))

        cm.on_change(lambda key, old, new, timestamp: heard.append(("plain", new)))
        cm.on_change(later)
        await cm.put("a", 1)
        assert heard == [("plain", 1), ("async", 1)]
        await anyio.to_thread.run_sync(cm.bridge().put, "a", 2)
        assert heard[2:] == [("plain", 2), ("async", 2)]
        with pytest.raises(RuntimeError, match="taken back"):
            async with cm.snapshot_context():
                await cm.put("a", 3)
                await anyio.to_thread.run_sync(cm.bridge().put, "b", 3)
                raise RuntimeError("taken back")
        assert cm["a"] == 2

        async def add(tx: Any) -> None:
            await tx.put("n", await tx.get("n", 0) + 1)

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(lambda: cm.transact(add, attempts=100))
        assert cm["n"] == 8
        cm._check()


@pytest.mark.anyio
async def test_streams_on_a_loop_and_in_threads() -> None:
    """All are woken by what is safe, whoever wrote it, and ``revision`` moves past what does not match."""
    async with AsyncChronoMap[str, int].open(MemoryJournal()) as cm:
        threaded = cm.bridge().watch("a", timeout=LONG)
        streams = [cm.watch("a"), cm.watch(prefix="a"), cm.watch(where=lambda change: change.key == "a")]
        seen: list[list[int | None]] = [[] for _ in range(4)]

        async def read(number: int) -> None:
            async for change in streams[number]:
                seen[number].append(change.value)

        def read_in_a_thread() -> None:
            for change in threaded:
                seen[3].append(change.value)
                if change.value == 19:
                    return

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, read_in_a_thread)
            for number in range(3):
                tasks.start_soon(read, number)
            for number in range(20):
                key = "a" if number % 3 == 1 else "b"
                if number % 2:
                    await cm.put(key, number)
                else:
                    await anyio.to_thread.run_sync(cm.bridge().put, key, number)
                await until(lambda: all(stream.revision == cm.revision for stream in streams))
            for stream in streams:
                stream.close()
        assert seen == [[1, 4, 7, 10, 13, 16, 19]] * 4


def test_a_map_that_is_forgotten() -> None:
    """It lets go of its file all the same, and somebody is told."""
    shelf = Shelf()
    cm: ChronoMap[str, int] | None = ChronoMap.open(MemoryJournal(shelf))
    assert cm is not None
    cm.put("a", 1)
    writer = cm._owner._writer  # type: ignore[attr-defined]
    warned: list[Any] = []
    hook, threading.excepthook = threading.excepthook, warned.append
    try:
        cm = None
        gc.collect()
        writer.join(LONG)
    finally:
        threading.excepthook = hook
    assert not writer.is_alive()
    assert [argument.exc_type for argument in warned] == [ResourceWarning]  # warnings are errors in tests


# -- what is refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_file", [False, True])
def test_what_cannot_be_kept_is_refused_before_anything_is_stored(on_file: bool, tmp_path: Path) -> None:
    """Values and keys, alone, in a batch, in a transaction, in a merge; the map goes on."""
    with ChronoMap[Any, Any].open(tmp_path / "map.chrono" if on_file else MemoryJournal()) as cm:
        cm.put("a", 1)
        for bad in (object(), lambda: 1, {"deep": [object()]}, type("Text", (str,), {})("x")):
            for write in (
                lambda bad=bad: cm.put("a", bad),
                lambda bad=bad: cm.put_many({"a": 2, "b": bad}),
                lambda bad=bad: cm.put("new", bad, request_id="r"),
                lambda bad=bad: cm.update("a", lambda _, bad=bad: bad),
                lambda bad=bad: cm.transact(lambda tx, bad=bad: (tx.put("a", 2), tx.put("b", bad))),
            ):
                with pytest.raises(ChronoMapTypeError):
                    write()
        for key in (frozenset(), object(), (1, frozenset())):
            with pytest.raises(ChronoMapTypeError):
                cm.put(key, 1)
            with pytest.raises(ChronoMapTypeError):
                cm.put_many({"a": 2, key: 1})
        other: ChronoMap[Any, Any] = ChronoMap()
        other.put("x", object())
        with pytest.raises(ChronoMapTypeError):
            cm.merge(other)
        with pytest.raises(ChronoMapError):
            cm.put("a", 2, meta={"bad": object()})  # type: ignore[dict-item]
        assert (cm.latest(), cm.revision, cm.read_only) == ({"a": 1}, 1, None)
        assert cm.put("new", 1, request_id="r") == 2
        cm._check()


def test_how_a_map_cannot_be_opened(tmp_path: Path) -> None:
    """Each with its own error, and nothing is left behind."""
    path = tmp_path / "map.chrono"
    with pytest.raises(JournalOpenError, match="not there"):
        ChronoMap.open(path, create=False)
    with pytest.raises(JournalOpenError, match="directory"):
        ChronoMap.open(tmp_path)
    with pytest.raises(ChronoMapValueError, match="redis"):
        ChronoMap.open("redis://localhost")
    with pytest.raises(ChronoMapTypeError):
        ChronoMap.open(3)  # type: ignore[arg-type]
    for wrong in ("fast", "", None, 3):
        with pytest.raises(ChronoMapError):
            ChronoMap.open(path, durability=wrong)  # type: ignore[arg-type]
    with pytest.raises(ChronoMapValueError):
        ChronoMap.open(path, isolation="none")  # type: ignore[arg-type]
    assert not path.exists()
    (tmp_path / "text").write_text("no database " * 99)
    with pytest.raises(CorruptJournalError):
        ChronoMap.open(tmp_path / "text")
    with ChronoMap[str, int].open(path) as cm:
        cm.put("a", 1)
        for again in (path, str(path)):
            with pytest.raises(JournalInUseError) as in_use:
                ChronoMap.open(again)
            assert in_use.value.pid == os.getpid()
        assert cm.put("a", 2) == 2

    class Other(ExactCodec):
        name = "another"

    with pytest.raises(JournalOpenError):
        ChronoMap.open(path, codec=Other())
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalOpenError, match="newer"):
        ChronoMap.open(path)
    assert not [file for file in tmp_path.iterdir() if file.name.endswith(("-owner", "-new"))]


@pytest.mark.anyio
async def test_opening_with_await_and_with_async_with(tmp_path: Path) -> None:
    """Both; errors come when it is awaited, bad options at once; progress is told, and a cancelled opening lets go."""
    path = tmp_path / "map.chrono"
    with pytest.raises(ChronoMapValueError):
        AsyncChronoMap.open(path, isolation="none")  # type: ignore[arg-type]
    with pytest.raises(JournalOpenError):
        await AsyncChronoMap.open(path, create=False)
    cm = await AsyncChronoMap[str, int].open(path)
    assert cm.durable
    await cm.put("a", 1)
    with pytest.raises(JournalInUseError):
        async with AsyncChronoMap.open(path):
            raise AssertionError
    await cm.aclose()
    told: list[tuple[int, int]] = []
    async with AsyncChronoMap[str, int].open(path, progress=lambda done, total: told.append((done, total))) as cm:
        assert await cm.get("a") == 1
    assert told
    with anyio.CancelScope() as scope:
        scope.cancel()
        await AsyncChronoMap.open(path)
    async with AsyncChronoMap[str, int].open(path) as cm:
        assert cm.revision == 1


def test_chores(tmp_path: Path) -> None:
    """A backup is a map of its own; compacting and vacuuming change nothing; a map in memory has no file."""
    with ChronoMap[str, int].open(tmp_path / "map.chrono") as cm:
        for number in range(50):
            cm.put("a", number)
        cm.prune_history("a", keep_last=2)
        cm.compact(50)
        cm.vacuum()
        told: list[tuple[int, int]] = []
        assert cm.backup(tmp_path / "copy.chrono", progress=lambda done, total: told.append((done, total))) == 50
        assert told
        cm.put("a", 50)
    with ChronoMap[str, int].open(tmp_path / "copy.chrono") as copy:
        assert [version.value for version in copy.versions("a")] == [48, 49]
    with pytest.raises(ChronoMapError, match="in memory"):
        ChronoMap[str, int]().compact()
    with ChronoMap[str, int].open(MemoryJournal()) as cm, pytest.raises(ChronoMapError, match="no file"):
        cm.vacuum()


# -- the process ---------------------------------------------------------------------------------------------------------------


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program of its own, with warnings as errors."""
    command = [sys.executable, "-W", "error::DeprecationWarning", "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("face", ["sync", "asyncio", "trio"])
def test_leaving_without_closing(face: str, tmp_path: Path) -> None:
    """A map on disk that nobody closes hinders no exit, and what was acknowledged is there."""
    done = run(
        """
        import sys, threading
        import anyio
        from chronomap import AsyncChronoMap, ChronoMap
        path, face = sys.argv[1:]
        if face == "sync":
            cm = ChronoMap.open(path)
            cm.put("a", 1, ttl=1000)
            cm.put("b", 2)
            threading.Thread(target=lambda: list(cm.watch()), daemon=True).start()
        else:
            async def main():
                global cm
                cm = await AsyncChronoMap.open(path)
                await cm.put("a", 1, ttl=1000)
                await anyio.to_thread.run_sync(cm.bridge().put, "b", 2)
            anyio.run(main, backend=face)
        print("done")
        """,
        tmp_path / "map.chrono",
        face,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
    with ChronoMap[str, int].open(tmp_path / "map.chrono") as cm:
        assert cm.latest() == {"a": 1, "b": 2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told(tmp_path: Path) -> None:
    """The child neither reads nor writes nor closes the parent's file; the parent goes on."""
    done = run(
        """
        import os, sys, warnings
        from chronomap import ChronoMap, ForkedError
        from chronomap.errors import JournalInUseError
        warnings.simplefilter("ignore")
        cm = ChronoMap.open(sys.argv[1]); cm["a"] = 1
        if (child := os.fork()) == 0:
            for call in (lambda: cm["a"], lambda: cm.put("b", 1), lambda: len(cm), lambda: cm.compact(0)):
                try:
                    call()
                except ForkedError:
                    continue
                os._exit(1)
            try:
                ChronoMap.open(sys.argv[1])
            except JournalInUseError:
                os._exit(0)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        cm["b"] = 2
        cm.close()
        with ChronoMap.open(sys.argv[1]) as cm:
            print(cm.latest())
        """,
        tmp_path / "map.chrono",
    )
    assert (done.stdout, done.stderr) == ("{'a': 1, 'b': 2}\n", "")


def test_a_thread_that_got_the_writers_number() -> None:
    """Numbers of threads are used again; who has that of a closed map's writer is told that the map is closed."""
    cm = ChronoMap[str, int].open(MemoryJournal())
    writer = cm._owner._writer  # type: ignore[attr-defined]
    cm.close()
    writer.join(LONG)
    writer._ident = threading.get_ident()
    with pytest.raises(ClosedError):
        cm.put("k", 1)
