"""Callbacks that go wrong in unusual ways, values that cannot be copied, keys that cannot be keys, and equal puts."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from chronomap import AsyncChronoMap, ChronoMap, ChronoMapTypeError, ChronoMapValueError, ClosedError, ConflictError, Retention
from chronomap.runtime.owner import Command
from chronomap.runtime.ports import ThreadBell
from chronomap.testing import ManualClock

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("maps")]


async def test_a_callback_that_is_cancelled_by_itself_cancels_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """What a callback waited for was cancelled, not its writer: it is logged, the writer and later callbacks go on."""
    cm = AsyncChronoMap[str, int]()
    seen: list[int] = []

    async def broken(*_: Any) -> None:
        raise asyncio.CancelledError

    async def sound(key: str, old: int | None, new: int, timestamp: float) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(new)

    def plain(*_: Any) -> None:
        raise asyncio.CancelledError

    cm.on_change(plain)
    cm.on_change(broken)
    cm.on_change(sound)
    with caplog.at_level(logging.ERROR, "chronomap"):
        assert await cm.put("k", 1) == 1
    assert seen == [1]
    assert caplog.messages == ["Error in change callback"] * 2


async def test_closing_from_inside_an_async_callback() -> None:
    """A callback of a bridged write that closes the map does not wait for itself."""
    cm = AsyncChronoMap[str, int]()
    closed = anyio.Event()

    async def close(*_: Any) -> None:
        await cm.aclose()
        closed.set()

    async with cm:
        cm.on_change(close)
        with anyio.fail_after(4):  # waiting for itself took five seconds
            assert await anyio.to_thread.run_sync(cm.bridge().put, "k", 1) == 1
            await closed.wait()
    with pytest.raises(ClosedError):
        await cm.get("k")


class Uncopied:
    """A value that can be copied once, when it is put."""

    def __init__(self, copies: int) -> None:
        self.copies = copies

    def __deepcopy__(self, memo: object) -> Uncopied:
        if not self.copies:
            raise ValueError("no more copies")
        return Uncopied(self.copies - 1)


@pytest.mark.memory_only
async def test_a_value_that_cannot_be_copied_hides_no_conflict() -> None:
    """The error tells of the conflict; the copy is made when somebody asks for it."""
    cm = AsyncChronoMap[str, Any]()
    await cm.put("k", Uncopied(1))
    with pytest.raises(ConflictError) as caught:
        await cm.put("k", 2, if_absent=True)
    assert (caught.value.keys, caught.value.revision) == (("k",), 1)
    with pytest.raises(ValueError, match="no more copies"):
        _ = caught.value.version
    with pytest.raises(ValueError, match="no more copies"):
        await cm.get_latest_keys(1)
    assert await cm.put("k", 2) == 2
    with pytest.raises(ConflictError) as caught:
        await cm.put("k", 3, if_revision=1)
    assert caught.value.version.value == 2
    cm._check()


def test_what_cannot_be_a_key_gets_the_typed_error() -> None:
    """In every read and write, of maps and snapshots."""
    cm = ChronoMap[Any, Any]()
    snapshot = cm.snapshot()
    for call in (
        lambda: snapshot.get([]),
        lambda: snapshot.version([]),
        lambda: snapshot.history([]),
        lambda: snapshot[[]],
        lambda: cm.aggregate(list, keys=[[]]),
        lambda: cm.versions([]),
        lambda: cm.get([], 5),
        lambda: cm.put([], 1),
        lambda: cm.delete([]),
        lambda: cm.touch([], 5),
        lambda: cm.watch([]),
        lambda: cm.replay(key=[]),
        lambda: [] in cm,
    ):
        with pytest.raises(ChronoMapTypeError, match="Key must be hashable"):
            call()


def test_a_put_of_what_is_there_already() -> None:
    """``if_changed`` leaves out what would say nothing new, by value, type, expiry and timestamp."""
    clock = ManualClock(100.0)
    cm = ChronoMap[str, Any](clock=clock)
    assert cm.put("k", 1, if_changed=True) == 1
    assert cm.put("k", 1, if_changed=True) == 1
    assert cm.put("k", True, if_changed=True) == 2
    assert cm.put("k", [1], if_changed=True) == 3
    assert cm.put("k", [1], if_changed=True) == 3
    assert cm.put("k", [1], ttl=10, if_changed=True) == 4
    assert cm.put("k", [1], if_changed=True) == 5, "it never expires now"
    assert cm.put("k", [1], timestamp=50, if_changed=True) == 6, "it held nothing then"
    assert cm.put("k", [1], timestamp=60, if_changed=True) == 6
    assert cm.put_many({"k": [1], "new": 1}, if_changed=True) == 7
    assert cm.put_many({"k": [1], "new": 1}, if_changed=True) == 7
    assert [len(cm.versions(key)) for key in ("k", "new")] == [6, 1]
    assert cm.put("k", [1], if_changed=True, request_id="r") == 7
    cm.put("k", 2)
    assert cm.put("k", [1], if_changed=True, request_id="r") == 7, "a retry of what had nothing to do"
    assert cm["k"] == 2
    cm._check()


def test_an_idle_key_grows_old() -> None:
    """Retention by age reaches keys that nobody writes, also through a loaded map; the version in force stays."""
    clock = ManualClock(100.0)
    cm = ChronoMap[str, int](clock=clock, retention=Retention(max_age=10))
    for number in range(3):
        cm.put("k", number)
        clock.advance(3)
    plain = cm.to_dict()
    for seconds, left in ((0, [0, 1, 2]), (2, [1, 2]), (3, [2]), (100, [2])):
        clock.advance(seconds)
        cm.clean_expired_keys()
        assert [version.value for version in cm.versions("k")] == left
    loaded = ChronoMap[str, int].from_dict(plain, clock=clock, retention=Retention(max_age=10))  # type: ignore[arg-type]
    loaded.clean_expired_keys()
    assert [version.value for version in loaded.versions("k")] == [2]
    loaded._check()


@pytest.mark.memory_only
def test_an_interrupt_loses_nobodys_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt that strikes right after a command was taken leaves it to whoever comes next."""
    cm = ChronoMap[str, int]()
    owner = cm._owner
    bell = ThreadBell()
    command = owner.enter(Command(owner.store.put, ("k", 1), bell))

    def strike() -> None:
        raise KeyboardInterrupt

    run = owner._run_taken
    calls = [run, strike]

    monkeypatch.setattr(owner, "_run_taken", lambda: calls.pop(0)())  # noqa: PLW0108
    with pytest.raises(KeyboardInterrupt):
        owner.help()
    monkeypatch.setattr(owner, "_run_taken", run)
    assert (list(owner.taken), list(owner.mailbox)) == ([command], [])
    cm.put("other", 2)
    owner.help()
    assert command.answered
    assert command.outcome() in (1, 2)
    assert cm["k"] == 1
    assert not owner.taken
    cm._check()


def test_two_threads_in_one_stream_are_told() -> None:
    """The second one gets an error, the first one goes on."""
    cm = ChronoMap[str, int]()
    stream = cm.watch(timeout=20)
    found: list[int | None] = []
    reader = threading.Thread(target=lambda: found.append(next(stream).value))
    reader.start()
    while not stream._asleep:
        threading.Event().wait(0.001)
    with pytest.raises(Exception, match="somebody else is waiting"):
        next(stream)
    cm.put("k", 1)
    reader.join(10)
    assert found == [1]


@pytest.mark.memory_only
async def test_slips_get_an_answer() -> None:
    """What is easily written instead of what was meant, and would be taken for something else."""
    coroutines: list[Any] = []

    async def doubled(value: int) -> int:
        return 2 * value

    def double(value: int) -> Any:
        coroutines.append(doubled(value))
        return coroutines[-1]

    cm, acm = ChronoMap[str, Any](), AsyncChronoMap[str, Any]()
    cm.put("a", 1)
    await acm.put("a", 1)
    slips: list[tuple[str, Any]] = [
        ("debug is True or False.*open", lambda _: ChronoMap("config.chrono")),  # type: ignore[arg-type]
        ("debug is True or False.*open", lambda _: AsyncChronoMap("config.chrono")),  # type: ignore[arg-type]
        ("max_age must be a number", lambda _: Retention(max_age="1 day")),  # type: ignore[arg-type]
        ("several keys", lambda m: m.delete_many("abc")),
        ("several keys", lambda m: m.aggregate(sum, "abc")),
        ("several keys.*got int", lambda m: m.delete_many(5)),
        ("several keys.*got int", lambda m: m.aggregate(sum, 5)),
        ("func is a function", lambda m: m.aggregate(None)),
        ("a predicate is a function", lambda m: m.query(None)),
        ("a predicate is a function", lambda m: m.count(5)),
        ("fn is a function", lambda m: m.update("a", 5)),
        ("fn is a function", lambda m: m.transact(None)),
        ("is to be awaited", lambda m: m.put("a", double(1))),
    ]
    for message, slip in slips:
        for m in (cm, acm):
            with pytest.raises(ChronoMapTypeError, match=message):
                if inspect.isawaitable(outcome := slip(m)):
                    await outcome
    with pytest.raises(ChronoMapTypeError, match="is to be awaited"):
        cm.update("a", double)
    assert await acm.update("a", double) == 2
    with pytest.raises(ChronoMapValueError, match=r"max_age must be positive, got -1$"):
        Retention(max_age=-1)
    assert cm["a"] == 1
    assert cm.revision == 1
    for coroutine in coroutines:
        coroutine.close()
