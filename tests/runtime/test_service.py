"""The owner task of an async map: callbacks that nobody awaits, a clock that fails, and the end."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from waiting import LONG, until

from chronomap import AsyncChronoMap, ChronoMap, ClosedError
from chronomap.runtime import service
from chronomap.testing import ManualClock

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("maps")]

user: ContextVar[str] = ContextVar("user", default="nobody")


async def test_closing_from_a_callback_of_an_expiry() -> None:
    """The owner task does not wait for a callback, so the callback may wait for its end."""
    clock = ManualClock(100)
    cm = AsyncChronoMap[str, int](clock=clock)
    closed = anyio.Event()

    async def close(*_: Any) -> None:
        await cm.aclose()
        closed.set()

    await cm.put("k", 1, ttl=5)
    cm.on_change(close)
    clock.set(106)
    with anyio.fail_after(4):  # waiting for itself took five seconds
        await closed.wait()
    with pytest.raises(ClosedError):
        await cm.put("k", 1)


async def test_a_callback_of_an_expiry_that_waits_for_another() -> None:
    """What falls due later is committed and told while it waits."""
    clock = ManualClock(100)
    second = anyio.Event()
    told: list[str] = []

    async def callback(key: str, old: Any, new: Any, timestamp: float) -> None:
        if new is not None:
            return
        if key == "a":
            clock.set(120)
            await second.wait()
        else:
            second.set()
        told.append(key)

    async with AsyncChronoMap[str, int](clock=clock) as cm:
        cm.on_change(callback)
        await cm.put("a", 1, ttl=5)
        await cm.put("b", 1, ttl=15)
        clock.set(106)
        with anyio.fail_after(LONG):
            await until(lambda: len(told) == 2)
    assert told == ["b", "a"]


@pytest.mark.parametrize("way", ["thread", "cancelled"])
async def test_a_callback_sees_the_context_of_who_wrote(way: str) -> None:
    """Also when the writer was a thread, or is not there any more to await it."""
    seen: list[tuple[str, str]] = []
    begun, end = anyio.Event(), anyio.Event()

    async def slow(*_: Any) -> None:
        begun.set()
        if way == "cancelled":
            await anyio.sleep_forever()

    async def callback(*_: Any) -> None:
        seen.append(("callback", user.get()))
        user.set("changed")
        end.set()

    async with AsyncChronoMap[str, int]() as cm:
        cm.on_change(slow)
        cm.on_change(callback)
        await cm.snapshot()

        async def write() -> None:
            user.set("ann")
            if way == "thread":
                await anyio.to_thread.run_sync(cm.bridge().put, "k", 1)
            else:
                await cm.put("k", 1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await begun.wait()
            if way == "cancelled":
                tasks.cancel_scope.cancel()
        with anyio.fail_after(LONG):
            await end.wait()
    assert seen == [("callback", "ann")]
    assert user.get() == "nobody"


async def test_a_clock_that_fails_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """The owner task says so and lives on: on trio it would have taken the whole run along."""
    broken = False
    now = 100.0

    def clock() -> float:
        if broken:
            raise OSError("no time")
        return now

    expired = anyio.Event()

    async def callback(key: str, old: Any, new: Any, timestamp: float) -> None:
        if new is None:
            expired.set()

    async with AsyncChronoMap[str, int](clock=clock) as cm:
        cm.on_change(callback)
        await cm.put("k", 1, ttl=5)
        with caplog.at_level(logging.ERROR, "chronomap"), anyio.fail_after(LONG):
            broken = True
            await until(lambda: caplog.messages)
            now, broken = 106.0, False
            await expired.wait()
    assert {message.partition(",")[0] for message in caplog.messages} == {"the reaper cannot tell the time"}


def test_a_clock_that_fails_in_a_thread(caplog: pytest.LogCaptureFixture) -> None:
    """The same without an event loop: the thread lives on."""
    broken = False
    now = 100.0

    def clock() -> float:
        if broken:
            raise OSError("no time")
        return now

    expired = threading.Event()
    with ChronoMap[str, int](clock=clock) as cm:
        cm.on_change(lambda key, old, new, when: expired.set() if new is None else None)
        cm.put("k", 1, ttl=5)
        with caplog.at_level(logging.ERROR, "chronomap"):
            broken = True
            while not caplog.messages:
                expired.wait(0.001)
            now, broken = 106.0, False
            assert expired.wait(LONG)
    assert {message.partition(",")[0] for message in caplog.messages} == {"the reaper cannot tell the time"}


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_callback_of_an_expiry_that_exits(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """There is nobody whom it could end; the next expiry is told."""
    clock = ManualClock(100)
    told: list[str] = []

    def plain(key: str, old: Any, new: Any, timestamp: float) -> None:
        if new is None:
            told.append(key)
            sys.exit(f"because of {key}")

    async def asynchronous(*arguments: Any) -> None:
        async with anyio.create_task_group():  # which may wrap what is raised inside
            plain(*arguments)

    async with AsyncChronoMap[str, int](clock=clock) as cm:
        cm.on_change(plain if kind == "plain" else asynchronous)
        await cm.put("a", 1, ttl=5)
        await cm.put("b", 1, ttl=15)
        with caplog.at_level(logging.ERROR, "chronomap"), anyio.fail_after(LONG):
            for number, now in enumerate((106, 116), 1):
                clock.set(now)
                await until(lambda number=number: len(told) == number)
    assert told == ["a", "b"]
    assert caplog.messages == [service.EXITED] * 2


def test_a_callback_that_exits_in_the_reapers_thread(caplog: pytest.LogCaptureFixture) -> None:
    """The thread lives on."""
    clock = ManualClock(100)
    told: list[str] = []
    bell = threading.Semaphore(0)

    def callback(key: str, old: Any, new: Any, timestamp: float) -> None:
        if new is None:
            told.append(key)
            bell.release()
            sys.exit()

    with ChronoMap[str, int](clock=clock) as cm:
        cm.on_change(callback)
        cm.put("a", 1, ttl=5)
        cm.put("b", 1, ttl=15)
        with caplog.at_level(logging.ERROR, "chronomap"):
            for now in (106, 116):
                clock.set(now)
                assert bell.acquire(timeout=LONG)
    assert told == ["a", "b"]


async def test_closing_cancels_callbacks_that_take_too_long(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have some seconds to end; what goes on then is cancelled, and over when closing is."""
    monkeypatch.setattr(service, "GRACE", 0.01)
    clock = ManualClock(100)
    begun, ended = anyio.Event(), False

    async def stuck(*_: Any) -> None:
        nonlocal ended
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended = True

    cm = AsyncChronoMap[str, int](clock=clock)
    await cm.put("k", 1, ttl=5)
    cm.on_change(stuck)
    clock.set(106)
    with anyio.fail_after(LONG):
        await begun.wait()
        with caplog.at_level(logging.WARNING, "chronomap"):
            await cm.aclose()
    assert ended
    assert any("they are cancelled" in message for message in caplog.messages)


async def test_closing_waits_for_a_callback_that_ends_in_time() -> None:
    """It has not been cancelled."""
    clock = ManualClock(100)
    begun, done = anyio.Event(), False

    async def slow(*_: Any) -> None:
        nonlocal done
        begun.set()
        await anyio.sleep(0.01)
        done = True

    cm = AsyncChronoMap[str, int](clock=clock)
    await cm.put("k", 1, ttl=5)
    cm.on_change(slow)
    clock.set(106)
    with anyio.fail_after(LONG):
        await begun.wait()
        await cm.aclose()
    assert done


async def test_a_cancelled_close_waits_no_longer() -> None:
    """Its callbacks are cancelled at once, and are over when it is."""
    clock = ManualClock(100)
    begun, ended = anyio.Event(), False

    async def stuck(*_: Any) -> None:
        nonlocal ended
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended = True

    cm = AsyncChronoMap[str, int](clock=clock)
    await cm.put("k", 1, ttl=5)
    cm.on_change(stuck)
    clock.set(106)
    with anyio.fail_after(4):  # the grace is five seconds
        await begun.wait()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await cm.aclose()
    assert scope.cancelled_caught
    assert ended
    assert cm._owner.ended(0)
    with pytest.raises(ClosedError):
        await cm.get("k")


async def test_a_thread_whose_callback_is_cut_short_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the map cancels the callback that it waits for."""
    monkeypatch.setattr(service, "GRACE", 0.01)
    begun = anyio.Event()

    async def stuck(*_: Any) -> None:
        begun.set()
        await anyio.sleep_forever()

    cm = AsyncChronoMap[str, int]()
    cm.on_change(stuck)
    revisions: list[int] = []

    def write() -> None:
        revisions.append(bridge.put("k", 1))

    with anyio.fail_after(LONG):
        bridge = cm.bridge()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, write)
            await begun.wait()
            await cm.aclose()
    assert revisions == [1]


@pytest.mark.memory_only
@pytest.mark.parametrize("way", ["from_dict", "fork"])
async def test_what_is_loaded_expires_without_being_asked(way: str) -> None:
    """A map from plain data has deadlines from the start."""
    clock = ManualClock(100)
    source = AsyncChronoMap[str, int](clock=clock)
    await source.put("k", 1, ttl=5)
    if way == "fork":
        cm = await (await source.snapshot()).fork()
    else:
        cm = AsyncChronoMap[str, int].from_dict(await source.to_dict(), clock=clock)  # type: ignore[arg-type]
    await source.aclose()
    told = anyio.Event()
    cm.on_change(lambda *_: told.set())
    clock.set(106)
    with anyio.fail_after(LONG):
        await told.wait()
    await cm.aclose()


async def test_loops_of_calls_that_need_no_waiting_starve_nobody(anyio_backend: Any) -> None:
    """Whatever is awaited in a loop, another task gets its turn."""
    async with AsyncChronoMap[str, int]() as cm:
        await cm.put("k", 1)
        snapshot = await cm.snapshot()

        async def in_a_block() -> None:
            async with cm.snapshot_context():
                pass

        async def streamed() -> None:
            async with cm.watch(since=0) as stream:
                await anext(stream)

        async def in_a_transaction(name: str) -> None:
            async with cm.transaction() as tx:
                for _ in range(1000):
                    await getattr(tx, name)(*(("k", 1) if name == "put" else ("k",)))

        calls: dict[str, Any] = {
            "get": lambda: cm.get("k"),
            "get at": lambda: cm.get("k", 1e12),
            "version": lambda: cm.version("k"),
            "count": cm.count,
            "history": lambda: cm.history("k"),
            "snapshot.get": lambda: snapshot.get("k"),
            "snapshot.version": lambda: snapshot.version("k"),
            "snapshot.count": snapshot.count,
            "block": in_a_block,
            "stream": streamed,
            **{f"tx.{name}": lambda name=name: in_a_transaction(name) for name in ("get", "put", "delete", "keys")},
        }
        for name, call in calls.items():
            turned = False

            async def turn() -> None:
                nonlocal turned
                turned = True

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(turn)
                for _ in range(1 if name.startswith("tx.") else 1000):
                    await call()
                    if turned:
                        break
                assert turned, f"{name} starved the loop"


async def test_a_write_in_a_signal_handler_wakes_a_sleeping_loop(anyio_backend: Any) -> None:
    """The handler strikes while the loop sleeps, and runs on its thread: a stream and a deadline must be heard all the same."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals are the main thread's")
    clock = ManualClock(100)
    cm = AsyncChronoMap[str, int](clock=clock)
    bridge = cm.bridge()
    before = signal.signal(signal.SIGALRM, lambda *_: bridge.put("k", 1))
    try:
        with anyio.fail_after(LONG):
            for stream in (cm.watch(), cm.watch("k")):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                change = await anext(stream)  # nothing else happens on this loop until the deadline of the test
                assert change.value == 1
    finally:
        signal.signal(signal.SIGALRM, before)
    await cm.aclose()


@pytest.mark.parametrize("key", [None, "k"])
def test_a_loop_that_moves_to_another_thread(key: str | None) -> None:
    """It is set up on one thread and then runs on another; what is written on the first must wake it."""
    cm = AsyncChronoMap[str, int]()
    loop = asyncio.new_event_loop()
    stream = cm.watch(key)

    async def sleep_here() -> None:
        with anyio.move_on_after(0.001):
            await anext(stream)

    async def read() -> int:
        return (await anext(stream)).value  # type: ignore[return-value]

    loop.run_until_complete(sleep_here())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for number in range(20):
            found = asyncio.run_coroutine_threadsafe(read(), loop)
            asyncio.run_coroutine_threadsafe(until(lambda: stream._asleep), loop).result(LONG)
            cm.bridge().put("k", number)
            assert found.result(LONG) == number
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LONG)
        loop.run_until_complete(cm.aclose())
        loop.close()


def test_a_stream_goes_on_on_another_loop() -> None:
    """Of the same kind, or of the other: it comes to where it is read."""
    pytest.importorskip("trio")
    cm = AsyncChronoMap[str, int]()
    streams = {"all": cm.watch(), "key": cm.watch("k")}
    seen: list[tuple[str, int]] = []

    async def read(name: str) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cm.put, "k", len(seen))
            with anyio.fail_after(LONG):
                change = await anext(streams[name])
            seen.append((name, change.value))
            with anyio.move_on_after(0.001):  # it sleeps here last
                await anext(streams[name])

    for backend in ("asyncio", "asyncio", "trio", "trio", "asyncio"):
        for name in streams:
            number = len(seen)
            anyio.run(read, name, backend=backend)
            other = next(iter(set(streams) - {name}))
            assert seen[number] == (name, number)
            asyncio.run(_skip(streams[other]))


async def _skip(stream: Any) -> None:
    with anyio.fail_after(LONG):
        await anext(stream)


def test_trio_as_a_guest_of_asyncio() -> None:
    """A task of trio that runs inside an asyncio loop is trio's, and is woken as such."""
    trio = pytest.importorskip("trio")
    clock = ManualClock(100)
    told: list[int] = []

    async def guest() -> str:
        cm = AsyncChronoMap[str, int](clock=clock)

        async def callback(key: str, old: Any, new: Any, timestamp: float) -> None:
            await trio.lowlevel.checkpoint()
            told.append(key)

        cm.on_change(callback)
        async with cm, trio.open_nursery() as nursery:
            stream, seen = cm.watch(), []

            async def read() -> None:
                async for change in stream:
                    seen.append(change.kind)  # noqa: PERF401 - one by one

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await cm.put("k", 1, ttl=5)
            await trio.to_thread.run_sync(cm.bridge().put, "other", 1)
            clock.set(106)
            await until(lambda: len(seen) == len(told) == 3)
            stream.close()
        return " ".join(seen)

    async def host() -> str:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        return (await asyncio.wait_for(done, LONG)).unwrap()  # type: ignore[no-any-return]

    assert asyncio.run(host()) == "put put expire"
