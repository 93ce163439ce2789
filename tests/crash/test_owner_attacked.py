"""What is done to the owner of a durable map at the worst moment: interrupting, breaking, calling back, a slow disk."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from slow import SlowJournal, ended, in_thread, reopened
from waiting import LONG, until

from chronomap import AsyncChronoMap, ChronoMap, ChronoMapError, ClosedError, JournalError
from chronomap.journal import ExactCodec
from chronomap.runtime.owner import Command


class Boom(Exception):
    """What a block raises."""


class OddCodec(ExactCodec):
    """Calls a function for lists."""

    def __init__(self) -> None:
        super().__init__()
        self.odd: Callable[[], object] = lambda: None
        encode = self.encode

        def encoded(value: Any) -> bytes:
            if type(value) is list:
                self.odd()
            return encode(value)

        self.encode = encoded


# -- interrupts, signal handlers, finalizers ---------------------------------------------------------------------------


@contextmanager
def struck(cm: ChronoMap[Any, Any], strike: Callable[[], object]) -> Iterator[None]:
    """Something strikes right after the next taking of the baton by this thread, as a signal handler would."""
    owner: Any = cm._owner
    acquire = owner._acquire

    def taken(*arguments: Any) -> bool:
        got: bool = acquire(*arguments)
        if threading.current_thread() is threading.main_thread():
            owner._acquire = acquire
            strike()
        return got

    owner._acquire = taken
    try:
        yield
    finally:
        owner._acquire = acquire


def test_a_handler_that_calls_or_closes_the_map() -> None:
    """In the middle of a turn it is refused, and closing there does not wait for the writer, which waits for the turn."""
    journal = SlowJournal()
    cm = ChronoMap[str, int].open(journal)
    cm.put("a", 1)
    with struck(cm, lambda: cm.put("b", 1)), pytest.raises(ChronoMapError, match="from inside one of its own commands"):
        cm.snapshot()
    with struck(cm, lambda: cm.snapshot()), pytest.raises(ChronoMapError, match="from inside one of its own commands"):  # noqa: PLW0108
        cm.snapshot()
    assert cm.put("a", 2) == 2
    with struck(cm, cm.close):
        assert cm.snapshot()["a"] == 2
    cm.close()
    assert not journal.shelf.owned


def test_a_handler_between_the_steps_of_ringing() -> None:
    """The writer is noted as rung and has not been: the handler's own write waited for ever, and everybody with it."""
    cm = ChronoMap[str, int].open(SlowJournal())
    owner: Any = cm._owner
    bell, ring = owner._bell, owner._bell.ring
    done: list[int] = []

    def strike() -> None:
        bell.ring = ring
        done.append(cm.put("handler", 1))
        ring()

    def work() -> None:
        bell.ring = strike
        done.append(cm.put("main", 1))

    ended(in_thread(work))
    assert sorted(done) == [1, 2]
    cm.close()


@pytest.mark.anyio
async def test_an_interrupt_between_the_steps_of_ringing() -> None:
    """The same for tasks, which do not look again by themselves."""
    async with AsyncChronoMap.open(SlowJournal()) as cm:
        owner: Any = cm._owner
        bell, ring = owner._bell, owner._bell.ring

        def interrupt() -> None:
            bell.ring = ring
            raise KeyboardInterrupt

        bell.ring = interrupt
        with pytest.raises(KeyboardInterrupt):
            await cm.put("interrupted", 1)
        with anyio.fail_after(LONG):
            await cm.put("a", 1)


@pytest.mark.anyio
async def test_an_interrupt_when_the_baton_has_just_been_taken() -> None:
    """It is given back: the writer would wait for it."""
    async with AsyncChronoMap.open(SlowJournal()) as cm:
        await cm.put("a", 1)

        def interrupt() -> None:
            raise KeyboardInterrupt

        with struck(cm.bridge(), interrupt), pytest.raises(KeyboardInterrupt):
            await cm.snapshot()
        assert not cm._owner._is_owned()
        with anyio.fail_after(LONG):
            assert await cm.put("a", 2) == 2


def test_a_real_signal_while_the_disk_is_waited_for() -> None:
    """A handler may read and write the map while the main thread waits for its own write."""
    journal = SlowJournal()
    cm = ChronoMap[str, int].open(journal)
    found: list[Any] = []

    def handler(*_: object) -> None:
        found.append(cm.get("a"))
        journal.release()
        found.append(cm.put("handler", 1))

    def send() -> None:
        assert journal.busy.wait(LONG)
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        journal.hold()
        sender = in_thread(send)
        assert cm.put("a", 1) == 1
        ended(sender)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert found == [None, 2]
    cm._check()
    cm.close()


def test_an_interrupted_put_is_applied_or_not() -> None:
    """Ctrl-C while the disk is waited for: the write that is on its way is applied, one that waits is not."""
    journal = SlowJournal()
    cm = ChronoMap[str, int].open(journal)

    def interrupt(key: str) -> None:
        def strike(*_: object) -> None:
            journal.release()
            raise KeyboardInterrupt

        def send() -> None:
            assert journal.busy.wait(LONG)
            while key == "waiting" and not cm._owner.mailbox:
                pass
            signal.raise_signal(signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, strike)
        sender = in_thread(send)
        try:
            with pytest.raises(KeyboardInterrupt):
                cm.put(key, 1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        ended(sender)

    journal.hold()
    interrupt("on its way")
    journal.hold()
    other = in_thread(lambda: cm.put("other", 1))
    assert journal.busy.wait(LONG)
    interrupt("waiting")
    ended(other)
    assert sorted(cm.keys()) == ["on its way", "other"]
    cm.close()


# -- code of others inside a command -----------------------------------------------------------------------------------


def test_a_codec_that_calls_the_map() -> None:
    """On the writer's thread, in the middle of a command: it is refused, and the turn stays the command's."""
    codec = OddCodec()
    cm = ChronoMap[str, Any].open(SlowJournal(codec=codec))
    cm.put("a", 1)
    for call in (lambda: cm.put("b", 1), cm.snapshot, lambda: list(cm.items()), lambda: cm.delete("a")):
        codec.odd = call
        with pytest.raises(ChronoMapError, match="from inside one of its own commands"):
            cm.put("a", [2])
        assert cm.latest() == {"a": 1}
    codec.odd = lambda: cm.get("a")
    assert cm.put("a", [2]) == 2
    codec.odd = cm.close
    with pytest.raises(ClosedError):
        cm.put("a", [3]), cm.put("a", 4)
    cm.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, StopIteration, Boom])
def test_a_codec_that_raises_anything(error: type[BaseException]) -> None:
    """It is the caller's; nothing has been stored, and the writer lives on."""
    codec = OddCodec()
    with ChronoMap[str, Any].open(SlowJournal(codec=codec)) as cm:
        cm.put("a", 1)

        def odd() -> None:
            raise error

        codec.odd = odd
        with pytest.raises(error):
            cm.put_many({"b": 1, "a": [2]})
        assert cm.latest() == {"a": 1}
        assert cm.put("a", 2) == 2
        cm._check()


def test_keys_that_raise_or_call_the_map() -> None:
    """A key whose ``__hash__`` or ``__eq__`` misbehaves in the writer's thread."""
    cm = ChronoMap[Any, int].open(SlowJournal())
    cm.put(7, 1)
    behaviour: list[Callable[[], object]] = []

    class Odd:
        def __hash__(self) -> int:
            return hash(7)

        def __eq__(self, other: object) -> bool:
            if threading.current_thread() is not threading.main_thread():
                behaviour[-1]()
            return False

    def interrupt() -> None:
        raise KeyboardInterrupt

    for call, error in ((interrupt, KeyboardInterrupt), (cm.snapshot, ChronoMapError), (lambda: cm.put(1, 1), ChronoMapError)):
        behaviour.append(call)
        with pytest.raises(error):
            cm.put(Odd(), 2)
        assert cm.latest() == {7: 1}
    assert cm.put(7, 2) == 2
    cm._check()
    cm.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError("gone"), JournalError("as it should be")])
def test_a_journal_that_raises_anything(error: BaseException) -> None:
    """The caller gets a ``JournalError``, the map is read-only, and what was acknowledged is read on."""
    journal = SlowJournal()
    cm = ChronoMap[str, int].open(journal)
    cm.put("a", 1)
    journal.breaks = error
    for _ in range(2):
        with pytest.raises(JournalError):
            cm.put("a", 2)
    assert cm.read_only is not None
    assert cm.latest() == {"a": 1}
    cm._check()
    cm.close()


@pytest.mark.parametrize("broken", ["publish", "withdraw", "settle"])
def test_a_writer_that_breaks_down(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """No memory in the middle of the owner's own work: everybody is answered, and nobody waits for ever."""
    journal = SlowJournal()
    cm = ChronoMap[str, int].open(journal)
    cm.put("a", 1)
    store = cm._store
    if broken == "withdraw":
        journal.breaks = OSError("gone")
    target = "_finish" if broken == "settle" else broken
    before, calls = getattr(store, target), [0]

    def breaks(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1 or broken == "withdraw":
            raise MemoryError
        return before(*arguments)

    monkeypatch.setattr(store, target, breaks)
    outcomes: list[Any] = []

    def put() -> None:
        try:
            outcomes.append(cm.put("a", 2))
        except JournalError as error:
            outcomes.append(error)

    ended(in_thread(put))
    monkeypatch.undo()
    ended(in_thread(put))
    assert cm.read_only is not None
    assert "broke down" in cm.read_only or broken == "withdraw"
    assert isinstance(outcomes[1], JournalError)
    assert cm.get("a") == (2 if outcomes[0] == 2 else 1)
    assert (outcomes[0] == 2) == (broken == "settle")
    cm.close()
    with reopened(journal) as again:
        assert again.get("a") in (1, 2)


@pytest.mark.anyio
async def test_a_writer_that_breaks_down_before_it_rings() -> None:
    """The answers are there, and nobody has been woken: they are woken all the same."""
    async with AsyncChronoMap.open(SlowJournal()) as cm:
        owner: Any = cm._owner
        answer = owner._answer

        def breaks(commands: list[Command]) -> None:
            owner._answer = answer
            for command in commands:
                command.answered = True
            raise MemoryError

        owner._answer = breaks
        with anyio.fail_after(LONG):
            assert await cm.put("a", 1) == 1
        with pytest.raises(JournalError, match="broke down"):
            await cm.put("a", 2)
        assert await cm.get("a") == 1


# -- hooks -------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("writer", ["loop", "bridge"])
async def test_hooks_that_write_back(kind: str, writer: str) -> None:
    """On both faces, by either kind of hook: everything is committed, and the hooks hear of their own writes too."""
    async with AsyncChronoMap.open(SlowJournal()) as cm:
        bridge = cm.bridge()
        told: list[Any] = []
        if kind == "async":

            async def write_back(key: Any, old: Any, new: Any, when: float) -> None:
                told.append(new)
                if new < 3:
                    await cm.put("back", new + 1)

            cm.on_change(write_back)
        else:

            def write_back_at_once(key: Any, old: Any, new: Any, when: float) -> None:
                told.append(new)
                if new < 3:
                    bridge.put("back", new + 1)

            cm.on_change(write_back_at_once)
        with anyio.fail_after(LONG):
            if writer == "bridge":
                await anyio.to_thread.run_sync(bridge.put, "a", 0)
            else:
                await cm.put("a", 0)
        assert told == [0, 1, 2, 3]
        assert cm.revision == 4


@pytest.mark.anyio
async def test_hooks_hear_only_of_what_is_safe() -> None:
    """A callback and a change stream are told after the group is on the disk, and never if it is not."""
    journal = SlowJournal()
    async with AsyncChronoMap.open(journal) as cm:
        told: list[Any] = []
        cm.on_change(lambda key, old, new, when: told.append(new))
        stream = cm.watch()
        await cm.put("a", 1)
        journal.breaks = JournalError("no")
        journal.hold()
        async with anyio.create_task_group() as tasks:

            async def put() -> None:
                with pytest.raises(JournalError):
                    await cm.put("a", 2)

            tasks.start_soon(put)
            await until(journal.busy.is_set)
            assert told == [1]
            journal.release()
        assert (await anext(stream)).value == 1
        with anyio.move_on_after(0) as nothing_more:
            await anext(stream)
        assert nothing_more.cancelled_caught
        assert told == [1]
        cm._check()


# -- a slow disk -------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_slow_disk_holds_up_nobody_but_writers() -> None:
    """While a group is on its way: the loop runs, every read gives what was published, and nothing else."""
    journal = SlowJournal()
    async with AsyncChronoMap.open(journal) as cm:
        await cm.put_many({"a": 1, "b": 1})
        before = cm.revision
        journal.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cm.put, "a", 2)
            tasks.start_soon(cm.put, "new", 2)
            tasks.start_soon(cm.delete, "b")
            await until(journal.busy.is_set)
            snapshot = await cm.snapshot()
            with anyio.fail_after(LONG):
                assert (await cm.get("a"), await cm.get("new"), await cm.get("b")) == (1, None, 1)
                assert dict(await cm.items()) == await cm.latest() == {"a": 1, "b": 1}
                assert {key for key, _, _ in await cm.get_latest_keys(9)} == {"a", "b"}
                assert (len(cm), "new" in cm, cm.revision) == (2, False, before)
                assert [version.value for version in await cm.versions("a", scheduled=True)] == [1]
                assert await cm.versions("new") == []
                assert [change.revision async for change in cm.replay()] == [before, before]
                assert await anyio.to_thread.run_sync(lambda: dict(cm.bridge().items())) == {"a": 1, "b": 1}
            journal.release()
        assert snapshot["a"] == 1
        assert await cm.latest() == {"a": 2, "new": 2}


def test_expiry_while_the_disk_is_slow() -> None:
    """What has expired and is not committed yet does not count: ``len`` and ``count`` had it, ``get`` did not."""
    from chronomap.testing import ManualClock  # noqa: PLC0415

    clock, journal = ManualClock(100.0), SlowJournal()
    with ChronoMap[str, int].open(journal, clock=clock) as cm:
        cm.put("a", 1)
        cm.put("b", 2, ttl=5)
        journal.hold()
        clock.advance(10)
        assert journal.busy.wait(LONG)
        found = (cm.get("b"), len(cm), cm.count(), [key for key, _, _ in cm.get_latest_keys(5)], list(cm.keys()))
        journal.release()
        assert found == (None, 1, 1, ["a"], ["a"])
        cm.clean_expired_keys()
        assert len(cm) == 1
        cm._check()


def test_two_loops_and_threads() -> None:
    """One map, two event loops and two threads: every write is answered on its own side, once."""
    journal = SlowJournal()
    with ChronoMap[str, int].open(journal) as cm:
        face: Any = AsyncChronoMap.__new__(AsyncChronoMap)
        face._adopt(cm._owner, "copy", debug=False)
        revisions: list[int] = []

        async def puts(name: str) -> None:
            async def some(n: int) -> None:
                for m in range(10):
                    command: Command = await cm._owner.wait(cm._store.put_now, f"{name}{n}", m)
                    revisions.append(command.outcome())

            async with anyio.create_task_group() as tasks:
                for n in range(10):
                    tasks.start_soon(some, n)

        ended(
            in_thread(lambda: asyncio.run(puts("one"))),
            in_thread(lambda: anyio.run(puts, "two", backend="trio")),
            in_thread(lambda: revisions.extend(cm.put("three", n) for n in range(50))),
            in_thread(lambda: revisions.extend(cm.put("four", n) for n in range(50))),
        )
        assert sorted(revisions) == list(range(1, 301))
        assert len(cm) == 22


@pytest.mark.anyio
async def test_blocks_that_raise() -> None:
    """``snapshot_context`` and ``transaction`` on a durable map: what the block wrote is undone, on disk as well."""
    journal = SlowJournal()
    async with AsyncChronoMap.open(journal) as cm:
        await cm.put("a", 0)
        with pytest.raises(Boom):
            async with cm.snapshot_context():
                await cm.put("a", 1)
                await cm.put("b", 1)
                raise Boom
        with pytest.raises(Boom):
            async with cm.transaction() as tx:
                await tx.put("a", 9)
                raise Boom
        bridge = cm.bridge()

        def block() -> None:
            with bridge.snapshot_context():
                bridge.put("a", 2)
                raise Boom

        with pytest.raises(Boom):
            await anyio.to_thread.run_sync(block)
        assert await cm.latest() == {"a": 0}
    with reopened(journal) as again:
        assert again.latest() == {"a": 0}
        assert [value for _, value in again.history("a")] == [0, 1, 0, 2, 0]


def test_a_block_whose_undoing_fails() -> None:
    """The disk fails in the block: its exception tells so, and nothing of what failed is served."""
    journal = SlowJournal()
    cm = ChronoMap[str, int].open(journal)
    cm.put("a", 0)
    with pytest.raises(JournalError), cm.snapshot_context():
        cm.put("a", 1)
        journal.breaks = JournalError("broken")
        raise Boom
    assert (cm.get("a"), cm.read_only is not None) == (1, True)  # the put was acknowledged, its undoing was not
    cm.close()
    assert sys.exc_info() == (None, None, None)
