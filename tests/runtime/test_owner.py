"""The owner under threads, tasks, cancellation, re-entrance, closing, forking and exiting."""

from __future__ import annotations

import gc
import logging
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from chronomap import AsyncChronoMap, ChronoMap, ChronoMapError, ClosedError, ConflictError, LaggedError, Retention
from chronomap.testing import ManualClock

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("maps")]


def replay(cm: Any, acknowledged: dict[int, tuple[str, Any]], keys: list[str]) -> None:
    """Every acknowledged put stands at its revision, and reads as of any revision follow from those before it."""
    expected: dict[str, Any] = {}
    for revision in range(1, cm.revision + 1):
        if revision in acknowledged:
            key, value = acknowledged[revision]
            expected[key] = value
        if revision % 97 == 0 or revision == cm.revision:
            snapshot = cm.at(revision=revision)
            assert {key: snapshot.get(key) for key in keys if key in expected} == expected


async def test_threads_tasks_and_reaper_see_one_order(seed: random.Random) -> None:
    """16 threads, 100 tasks and the reaper on one map: revisions are unique and explain every read."""
    async with AsyncChronoMap[str, Any]() as cm:
        bridge = cm.bridge()
        keys = [f"k{number}" for number in range(20)]
        acknowledged: dict[int, tuple[str, Any]] = {}
        choices = [seed.random() for _ in range(64)]

        def write(name: int) -> None:
            for number in range(60):
                key = keys[int(choices[(name * 7 + number) % 64] * len(keys))]
                value = (name, number)
                revision = bridge.put(key, value)
                assert acknowledged.setdefault(revision, (key, value)) == (key, value)
                assert bridge.get(key, revision=revision) == value
                bridge.put(f"session-{name}", number, ttl=0.001)
                assert bridge.revision >= revision

        async def task(name: int) -> None:
            for number in range(10):
                key, value = keys[(name * 3 + number) % len(keys)], ("task", name, number)
                revision = await cm.put(key, value)
                assert acknowledged.setdefault(revision, (key, value)) == (key, value)
                assert await cm.get(key, revision=revision) == value
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            limiter = anyio.CapacityLimiter(16)
            for name in range(16):
                tasks.start_soon(lambda name=name: anyio.to_thread.run_sync(write, name, limiter=limiter))
            for name in range(100):
                tasks.start_soon(task, name)
        assert len(acknowledged) == 16 * 60 + 100 * 10
        cm._check()
        replay(bridge, acknowledged, keys)


def test_no_update_is_lost_between_threads() -> None:
    """Eight threads counting in one key: the sum is right, and so is it through transactions."""
    cm = ChronoMap[str, int]()

    def count() -> None:
        for _ in range(50):
            cm.update("n", lambda n: n + 1, default=0)
            cm.transact(lambda tx: tx.put("m", tx.get("m", 0) + 1), attempts=10_000)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(count) for _ in range(8)]:
            future.result()
    assert (cm["n"], cm["m"]) == (400, 400)
    cm._check()


def test_nobody_sees_half_a_batch() -> None:
    """While a batch of two keys is written over and over, a thread that saw the new first key sees the new second."""
    cm = ChronoMap[str, int]()
    cm.put_many({"a": 0, "b": 0})
    done = threading.Event()
    torn: list[tuple[int, int]] = []

    def read() -> None:
        while not done.is_set():
            first = cm["a"]
            second = cm["b"]
            latest = cm.latest()
            if second < first or latest["a"] != latest["b"]:
                torn.append((first, second))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1, 3000):
        cm.put_many({"a": number, "b": number})
    done.set()
    for reader in readers:
        reader.join()
    assert torn == []


async def test_a_tight_loop_lets_others_run() -> None:
    """Puts and gets that never have to wait still yield to the loop."""
    cm = AsyncChronoMap[str, int]()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        for number in range(2000):
            await cm.put("k", number)
            await cm.get("k")
        tasks.cancel_scope.cancel()
    assert turns >= 10


@pytest.mark.memory_only
async def test_cancellation_is_noticed_in_a_tight_loop() -> None:
    """A loop of awaited puts can be cancelled, and what was acknowledged stays."""
    cm = AsyncChronoMap[str, int]()
    acknowledged = 0
    with anyio.CancelScope() as scope:
        while True:
            acknowledged = await cm.put("k", acknowledged)
            if acknowledged == 1000:
                scope.cancel()
    assert 1000 <= acknowledged < 2000
    assert cm.revision == acknowledged
    cm._check()


async def test_cancelled_before_the_turn_means_nothing_happened() -> None:
    """A task whose command waits for a thread's turn withdraws it when it is cancelled."""
    async with AsyncChronoMap[str, int]() as cm:
        owner = cm._owner
        inside, leave = threading.Event(), threading.Event()

        def hold(_: float) -> None:
            inside.set()
            leave.wait(10)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, owner.call, hold)
            await anyio.to_thread.run_sync(inside.wait)
            with anyio.move_on_after(0.02) as scope:
                await cm.put("k", 1)
            assert scope.cancelled_caught
            assert not owner.mailbox
            async with anyio.create_task_group() as others:
                others.start_soon(cm.put, "k", 2)
                await anyio.lowlevel.checkpoint()
                leave.set()
        assert cm["k"] == 2
        assert cm.revision == 1


async def test_closing_answers_what_waits() -> None:
    """Commands that wait while the map is closed get ClosedError, and every later call does."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()
    await cm.put("k", 1)
    stream = cm.watch()
    ended = anyio.Event()

    async def watch() -> None:
        async for _ in stream:
            pass
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.lowlevel.checkpoint()
        await cm.aclose()
        await cm.aclose()
        await ended.wait()
    for call in (
        lambda: bridge.put("k", 2),
        lambda: bridge.get("k"),
        lambda: bridge["k"],
        lambda: len(bridge),
        bridge.snapshot,
    ):
        with pytest.raises(ClosedError):
            call()
    with pytest.raises(ClosedError):
        await cm.put("k", 2)
    with pytest.raises(ClosedError):
        await cm.get("k")


def test_closing_in_the_middle_of_writers() -> None:
    """Threads that write while the map is closed each end with a reply or ClosedError, none hangs."""
    cm = ChronoMap[int, int]()
    outcomes: list[str] = []

    def write(name: int) -> None:
        number = 0
        try:
            while True:
                cm.put(name, number)
                number += 1
        except ClosedError:
            outcomes.append("closed")

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    while cm.revision < 500:
        time.sleep(0)
    cm.close()
    for thread in threads:
        thread.join(10)
    assert outcomes == ["closed"] * 8


def test_callbacks_may_call_the_map(caplog: pytest.LogCaptureFixture) -> None:
    """A callback runs after the commit and outside the turn: it may read and write, and what it raises is logged."""
    cm = ChronoMap[str, Any]()
    seen: list[Any] = []

    def callback(key: str, old: Any, new: Any, timestamp: float) -> None:
        seen.append((key, old, new, cm.get(key)))
        if key == "a":
            cm.put("copy", new)

    def broken(*_: Any) -> None:
        raise ValueError("no")

    cm.on_change(callback)
    cm.on_change(broken)
    with caplog.at_level(logging.ERROR, "chronomap"):
        cm.put("a", 1)
    assert seen == [("a", None, 1, 1), ("copy", None, 1, 1)]
    assert caplog.messages == ["Error in change callback"] * 2
    assert cm.remove_change_callback(broken)
    assert not cm.remove_change_callback(broken)
    cm.delete("a")
    cm.clear()
    assert seen[2:] == [("a", 1, None, None), ("copy", 1, None, None), ("copy", None, None, None)]


def test_every_kind_of_change_reaches_callbacks() -> None:
    """Puts, deletes, expiries, activations, erasures, rollbacks and merges all call back."""
    clock = ManualClock(100.0)
    cm = ChronoMap[str, Any](clock=clock)
    kinds = cm.watch()
    seen: list[str] = []
    cm.on_change(lambda key, *_: seen.append(key))
    cm.put("ttl", 1, ttl=5)
    cm.put("later", 1, timestamp=103)
    clock.advance(10)
    cm.clean_expired_keys()
    cm.rollback(0)
    other = ChronoMap[str, Any](clock=clock)
    other.put("merged", 1)
    cm.merge(other)
    cm.touch("merged", 100)
    cm.erase("merged")
    cm.undo(cm.put("u", 1))
    assert cm.put("end", 1) == cm.revision
    wanted = ["put", "put", "activate", "expire", "rollback", "merge", "touch", "erase", "put", "undo", "put"]
    found = [next(kinds).kind for _ in wanted]
    assert found == wanted
    assert len(seen) == len(wanted)


async def test_async_callbacks_are_awaited_before_the_call_returns() -> None:
    """On the async face, and for a thread that writes through the bridge."""
    async with AsyncChronoMap[str, int]() as cm:
        seen: list[tuple[str, Any]] = []

        async def callback(key: str, old: Any, new: Any, timestamp: float) -> None:
            await anyio.lowlevel.checkpoint()
            seen.append((key, new))

        cm.on_change(callback)
        await cm.put("a", 1)
        assert seen == [("a", 1)]
        bridge = cm.bridge()

        def in_thread() -> list[tuple[str, Any]]:
            bridge.put("b", 2)
            return list(seen)

        assert await anyio.to_thread.run_sync(in_thread) == [("a", 1), ("b", 2)]
        with pytest.raises(ChronoMapError, match="await the AsyncChronoMap"):
            bridge.put("c", 3)
        assert "c" not in cm
        with pytest.raises(ChronoMapError, match="async callbacks"):
            ChronoMap[str, int]().on_change(callback)


async def test_the_reaper_needs_no_caller() -> None:
    """An expiry is committed and seen by a watcher although nobody calls the map; also without ``async with``."""
    cm = AsyncChronoMap[str, int]()
    await cm.put("s", 1, ttl=0.02)
    with anyio.fail_after(5):
        async for change in cm.watch():
            assert (change.kind, change.key, change.previous, change.value) == ("expire", "s", 1, None)
            break


@pytest.mark.memory_only
def test_the_reaper_follows_a_moved_clock() -> None:
    """The sync map's reaper thread wakes when a manual clock is moved, and goes when the map goes."""
    clock = ManualClock(1000.0)
    cm = ChronoMap[str, int](clock=clock)
    stream = cm.watch(timeout=5)
    cm.put("s", 1, ttl=3600)
    assert next(stream).kind == "put"
    clock.advance(3600)
    assert next(stream).kind == "expire"
    assert cm.clean_expired_keys() == 1
    del cm, stream
    gc.collect()
    for _ in range(500):
        if not any(thread.name == "chronomap-reaper" for thread in threading.enumerate()):
            break
        threading.Event().wait(0.01)
    assert not any(thread.name == "chronomap-reaper" for thread in threading.enumerate())


async def test_the_reaper_prunes_what_grows_old() -> None:
    """Retention by age reaches what plain puts have left, although nobody looks, also where nothing else falls due."""
    cm = AsyncChronoMap[str, int](retention=Retention(max_age=0.05))
    await cm.put("s", 1)
    await cm.put("s", 2)
    with anyio.fail_after(5):
        while cm.get_stats()["versions"] != 1:  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.001)
    assert await cm.get("s") == 2


@pytest.mark.memory_only
def test_a_plain_map_starts_no_thread() -> None:
    """Until something has a deadline."""
    before = threading.active_count()
    cm = ChronoMap[str, int]()
    cm.put("a", 1)
    cm.snapshot()
    assert threading.active_count() == before


async def test_snapshot_context_undoes_only_its_own() -> None:
    """Other tasks' commits stay; tasks started inside belong to the block; a touched key is a conflict."""
    cm = AsyncChronoMap[str, int]()
    await cm.put("mine", 1)
    with pytest.raises(ValueError, match="block"):
        async with cm.snapshot_context():
            await cm.put("mine", 2)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cm.put, "child", 3)
            await anyio.to_thread.run_sync(threading.Thread(target=lambda: cm.bridge().put("other", 4)).run)
            raise ValueError("block")
    assert await cm.get("mine") == 1
    assert "child" not in cm
    outsider = threading.Thread(target=cm.bridge().put, args=("mine", 9))
    with pytest.raises(ConflictError) as caught:
        async with cm.snapshot_context():
            await cm.put("mine", 5)
            outsider.start()
            outsider.join()
            raise ValueError("block")
    assert isinstance(caught.value.__cause__, ValueError)
    assert await cm.get("mine") == 9
    cm._check()


def test_a_key_that_calls_the_map_gets_an_error() -> None:
    """A key whose __eq__ writes to the map it is being looked up in is told so, instead of deadlocking."""
    cm = ChronoMap[Any, int]()

    class Meddler:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            cm.put("x", 1)
            return False

    cm.put(1, 1)
    with pytest.raises(ChronoMapError, match="from inside"):
        cm.put(Meddler(), 2)
    cm.put("y", 2)
    assert cm["y"] == 2


async def test_a_map_outlives_its_loop() -> None:
    """Used in one event loop after another, each time with a deadline."""
    cm = AsyncChronoMap[str, int]()

    heard = 0

    async def use() -> None:
        nonlocal heard
        await cm.put("k", 1, ttl=0.01)
        with anyio.fail_after(5):
            async for change in cm.watch(since=cm.revision - 1):
                if change.kind == "expire":
                    heard += 1
                    return

    for _ in range(2):
        await anyio.to_thread.run_sync(lambda: anyio.run(use))
    assert heard == 2


def test_watch_since_and_lag() -> None:
    """since= is exclusive; falling behind what is retained says where to go on."""
    cm = ChronoMap[str, int]()
    for number in range(5):
        cm.put("k", number)
    assert [change.value for change in cm.watch(since=2, timeout=0)] == [2, 3, 4]
    assert [change.value for change in cm.watch(initial=True, timeout=0)] == [4]
    for number in range(8000):
        cm.put("k", number)
    with pytest.raises(LaggedError) as caught:
        next(cm.watch(since=2))
    resumed = cm.watch(since=caught.value.oldest)
    assert next(resumed).revision == caught.value.oldest + 1


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told() -> None:
    """After a fork the child's use of the map raises ForkedError, and the parent goes on."""
    done = run("""
        import os
        from chronomap import ChronoMap, ForkedError
        cm = ChronoMap(); cm["a"] = 1
        if (child := os.fork()) == 0:
            for call in (lambda: cm["a"], lambda: cm.put("b", 1), lambda: len(cm)):
                try:
                    call()
                except ForkedError:
                    continue
                os._exit(1)
            fresh = ChronoMap(); fresh["x"] = 1
            os._exit(0 if fresh["x"] == 1 else 2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        cm["b"] = 2
        print(cm.latest())
    """)
    assert (done.stdout, done.stderr) == ("{'a': 1, 'b': 2}\n", "")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_leaving_without_closing(backend: str) -> None:
    """A map with deadlines, watchers and a bridge that nobody closes hinders neither the loop's end nor the exit."""
    done = run(f"""
        import anyio, threading
        from chronomap import AsyncChronoMap, ChronoMap
        left = ChronoMap(); left.put("a", 1, ttl=1000)
        threading.Thread(target=lambda: list(left.watch()), daemon=True).start()
        async def main():
            cm = AsyncChronoMap()
            await cm.put("a", 1, ttl=1000)
            cm.bridge().put("b", 2)
            print(await cm.latest())
        anyio.run(main, backend={backend!r})
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("{'a': 1, 'b': 2}\n", "", 0)
