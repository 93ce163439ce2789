"""Change streams, one promise at a time; the random test is in ``test_watch_random.py``."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from waiting import LONG, until

import chronomap
from chronomap import (
    AsyncChronoMap,
    ChronoMap,
    ChronoMapError,
    ChronoMapTypeError,
    ChronoMapValueError,
    ClosedError,
    CompactedError,
    LaggedError,
)
from chronomap.core import cursor
from chronomap.core.feed import SLACK
from chronomap.runtime.gates import FEW
from chronomap.runtime.owner import BUDGET
from chronomap.runtime.ports import Port
from chronomap.testing import ManualClock

pytestmark = pytest.mark.usefixtures("maps")


def slip_in(cm: ChronoMap[str, int]) -> None:
    """Commit just before a watcher begins its wait, and something of no concern to it just after."""
    interest = cm._store.interest
    wait = interest.wait

    def late(watcher: Any) -> None:
        interest.wait = wait  # type: ignore[method-assign]
        cm.put("k", 1)
        wait(watcher)
        cm.put("other", 1)

    interest.wait = late  # type: ignore[method-assign]


@pytest.mark.anyio
async def test_two_commits_around_the_moment_a_watcher_falls_asleep() -> None:
    """The first concerns it and came before its wait, the second does not and came after: the first is not skipped."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()
    stream = cm.watch("k")
    slip_in(bridge)
    with anyio.fail_after(LONG):
        assert (await anext(stream)).revision == 1
    threaded = bridge.watch(prefix="k", timeout=LONG)
    slip_in(bridge)
    assert (await anyio.to_thread.run_sync(next, threaded)).revision == 3


@pytest.mark.anyio
@pytest.mark.memory_only
async def test_revision_moves_past_what_does_not_match() -> None:
    """Asleep or not, ``revision`` says up to where nothing has been missed, and never goes back."""
    cm = AsyncChronoMap[str, int]()
    streams = [cm.watch("a"), cm.watch(prefix="a"), cm.watch(where=lambda change: change.key == "a"), cm.watch()]

    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async with anyio.create_task_group() as group:
        for stream in streams:
            group.start_soon(read, stream)
        before = [0] * len(streams)
        for number in range(20):
            await cm.put("b" if number % 5 else "a", number)
            await anyio.wait_all_tasks_blocked()
            now = [stream.revision for stream in streams]
            assert now == [cm.revision] * len(streams) and now > before
            before = now
        with anyio.fail_after(LONG):
            assert [await stream.caught_up() for stream in streams] == now
        for stream in streams:
            stream.close()
    with pytest.raises(ClosedError):
        await streams[0].caught_up()


@pytest.mark.anyio
async def test_a_key_watcher_sleeps_through_more_than_is_retained() -> None:
    """Nothing of its key changed, so it has not lagged: neither in one sleep, nor in many, nor without any."""
    cm = AsyncChronoMap[str, int](feed_retention=10)
    sleeper, napper, busy = cm.watch("a"), cm.watch("a"), cm.watch("a")
    found: list[int] = []

    async def sleep() -> None:
        found.append((await anext(sleeper)).revision)

    async with anyio.create_task_group() as group:
        group.start_soon(sleep)
        await anyio.wait_all_tasks_blocked()
        for _ in range(4):
            for number in range(SLACK):
                await cm.put("b", number)
            with anyio.move_on_after(0):
                await anext(napper)
        assert cm._store.feed.floor > 0
        with anyio.move_on_after(0):
            await anext(busy)  # its first look
        last = await cm.put("a", 1)
        assert (await anext(busy)).revision == last
        assert (await anext(napper)).revision == last
    assert found == [last]


@pytest.mark.anyio
async def test_lagged_and_resynced() -> None:
    """Who fell behind is told where to resume, or is given the present, marked as such, and goes on from there."""
    cm = AsyncChronoMap[str, int](feed_retention=10)
    raising, again = cm.watch(), cm.watch(on_lag="resync")
    for number in range(2 * SLACK):
        await cm.put(f"k{number % 3}", number)
    with pytest.raises(LaggedError) as caught:
        await anext(raising)
    assert caught.value.since == raising.revision == 0
    assert (await anext(cm.watch(since=caught.value.oldest))).revision == caught.value.oldest + 1
    kinds = [(await anext(again)).kind for _ in range(4)]
    assert kinds == ["resync", "initial", "initial", "initial"] and again.revision == cm.revision
    await cm.put("k", 1)
    assert (await anext(again)).revision == cm.revision


@pytest.mark.anyio
async def test_a_commit_is_whole() -> None:
    """Leaving in the middle of a commit and resuming gives all of it again; ``commits()`` never splits one."""
    cm = AsyncChronoMap[str, int]()
    stream, whole = cm.watch(), cm.watch()
    await cm.put_many({"a": 1, "b": 2, "c": 3})
    assert (await anext(stream)).index == 0 and stream.revision == 0
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    assert [(await anext(stream)).index for _ in range(2)] == [1, 2] and stream.revision == 1
    commits = whole.commits()
    assert [change.key for change in await anext(commits)] == ["a", "b", "c"]
    with anyio.move_on_after(0):
        await anext(commits)
    await cm.put_many({"d": 1, "e": 2})
    assert [change.key for change in await anext(commits)] == ["d", "e"]


@pytest.mark.memory_only  # on disk the writer wakes them, from its own thread
@pytest.mark.anyio
@pytest.mark.parametrize("choice", [{}, {"key": "k"}, {"prefix": "k"}])
@pytest.mark.parametrize("watchers", [1, 2, 3, 20])
async def test_few_are_woken_at_once(anyio_backend: Any, choice: dict[str, Any], watchers: int) -> None:
    """On asyncio one or two watchers on the writer's loop have a change a turn after it, more of them two turns after it."""
    if anyio_backend[0] != "asyncio":
        pytest.skip("how many turns it takes is promised nowhere else")
    cm = AsyncChronoMap[str, int]()
    seen: dict[Any, int] = {}

    async def read(stream: Any) -> None:
        async for change in stream:
            seen[stream] = change.revision

    async with anyio.create_task_group() as group:
        streams = [cm.watch(**choice) for _ in range(watchers)]
        for stream in streams:
            group.start_soon(read, stream)
        await anyio.wait_all_tasks_blocked()
        for revision in range(1, 4):
            await cm.put("k", revision)
            for _ in range(1 if watchers <= FEW else 2):
                await asyncio.sleep(0)
            assert [seen.get(stream) for stream in streams] == [revision] * watchers
            await anyio.wait_all_tasks_blocked()
        for stream in streams:
            stream.close()


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["stream", "map"])
async def test_closing_ends_every_wait_at_once(by: str) -> None:
    """On the owner's loop, on another loop in a thread, and in a plain thread."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()
    streams: list[Any] = [cm.watch(), cm.watch("a"), cm.watch(prefix="a")]
    far, plain = cm.watch("a"), bridge.watch("a")
    ended: list[Any] = []

    async def read(stream: Any) -> None:
        async for _ in stream:
            pass
        ended.append(stream)

    def drain() -> None:
        assert list(plain) == []
        ended.append(plain)

    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as group:
            for stream in streams:
                group.start_soon(read, stream)
            group.start_soon(anyio.to_thread.run_sync, lambda: anyio.run(read, far))
            group.start_soon(anyio.to_thread.run_sync, drain)
            while not (far._asleep and plain._asleep):  # noqa: ASYNC110 - they are other loops' and threads'
                await anyio.sleep(0.001)
            if by == "map":
                await cm.aclose()
            else:
                for stream in [*streams, far, plain]:
                    stream.close()
    assert len(ended) == 5


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["stream", "map", "bridge"])
@pytest.mark.parametrize("commits", [False, True])
async def test_closing_ends_a_stream_that_is_behind(by: str, commits: bool) -> None:
    """What it has not given out is given out no more, though it or another has had it made already."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()
    streams = [cm.watch(), cm.watch()]
    for number in range(20):
        await cm.put("a", number)
    readers: list[Any] = [stream.commits() if commits else stream for stream in streams]
    for reader in readers:
        assert await anext(reader)
        assert await anext(reader)
    if by == "stream":
        for stream in streams:
            stream.close()
    else:
        await (cm.aclose() if by == "map" else anyio.to_thread.run_sync(bridge.close))
    for reader in readers:
        with pytest.raises(StopAsyncIteration):
            await anext(reader)


@pytest.mark.anyio
async def test_who_is_behind_lets_others_run() -> None:
    """At each 256th revision, whether it is the first to be given a change or not."""
    cm = AsyncChronoMap[str, int](feed_retention=10_000)
    streams = [cm.watch(), cm.watch()]
    for number in range(3_000):
        await cm.put("a", number)
    turns = 0
    done = False

    async def count() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await anyio.lowlevel.checkpoint()
        for _ in range(3_000):
            for stream in streams:
                await anext(stream)
        done = True
    assert turns >= 3_000 // BUDGET * len(streams)


@pytest.mark.anyio
async def test_who_may_wait() -> None:
    """A second task in one stream gets a typed error and the first is unharmed; nobody blocks an event loop."""
    cm = AsyncChronoMap[str, int]()
    stream = cm.watch()
    found: list[int] = []

    async def first() -> None:
        found.append((await anext(stream)).revision)

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ChronoMapError, match="somebody else"):
            await anext(stream)
        with pytest.raises(ChronoMapError, match="block the event loop"):
            next(cm.bridge().watch())
        await cm.put("a", 1)
    assert found == [1]


@pytest.mark.anyio
async def test_who_may_wait_while_the_first_lets_others_run() -> None:
    """The second is refused too, also if the first has spent the budget and is not asleep."""
    cm = AsyncChronoMap[str, int]()
    stream = cm.watch()
    found: list[int] = []

    async def first() -> None:
        cm._owner.budget = 0
        found.append((await anext(stream)).revision)

    async def second() -> None:
        await until(lambda: stream._asleep)
        with pytest.raises(ChronoMapError, match="somebody else"):
            await anext(stream)
        await cm.put("a", 1)

    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as group:
            group.start_soon(second)
            group.start_soon(first)
    assert found == [1]


@pytest.mark.anyio
async def test_the_gate_is_that_of_its_own_loop_whoever_runs_the_turn() -> None:
    """A thread that carries out commands for others may have an event loop of its own."""
    cm = AsyncChronoMap[str, int]()
    stream, here, found = cm.watch(), Port(), list[Any]()

    async def elsewhere() -> None:
        found.extend((cm._owner._gate(0.0, stream, Port()), cm._owner._gate(0.0, stream, here)))

    await anyio.to_thread.run_sync(anyio.run, elsewhere)
    theirs, ours = found
    assert ours is not theirs
    assert ours.port.leads_here()
    await cm.aclose()


@pytest.mark.anyio
@pytest.mark.memory_only
@pytest.mark.parametrize("watched", [{}, {"key": "a"}, {"prefix": "a"}])
async def test_a_writer_that_is_interrupted_while_it_wakes_a_watcher(watched: dict[str, str]) -> None:
    """The watcher is woken with the next write at the latest."""
    cm = AsyncChronoMap[str, int]()
    bridge, stream = cm.bridge(), cm.watch(**watched)

    def write() -> None:
        with pytest.MonkeyPatch.context() as patch:

            def strike(*_: Any) -> None:
                patch.undo()
                raise KeyboardInterrupt

            patch.setattr(Port, "soon", strike)
            with pytest.raises(KeyboardInterrupt):
                bridge.put("a", 1)
        bridge.put("a", 2)

    async def write_when_it_sleeps() -> None:
        await until(lambda: stream._asleep)
        await anyio.to_thread.run_sync(write)

    async with anyio.create_task_group() as group, stream:
        group.start_soon(write_when_it_sleeps)
        with anyio.fail_after(LONG):
            assert [(await anext(stream)).value for _ in range(2)] == [1, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("watched", [{}, {"key": "a"}, {"prefix": "a"}, {"latest_only": True}, {"on_lag": "resync"}])
@pytest.mark.parametrize("whole", [False, True])
async def test_a_filter_that_closes_the_map(watched: dict[str, Any], whole: bool) -> None:
    """The stream ends, as if it had been asleep; on both faces."""
    for synced in (False, True):
        cm = AsyncChronoMap[str, int]()
        await cm.put("a", 1)
        bridge = cm.bridge()

        def where(_: Any, bridge: Any = bridge) -> bool:
            bridge.close()
            return False

        if synced:
            threaded = bridge.watch(since=0, where=where, timeout=LONG, **watched)
            assert await anyio.to_thread.run_sync(list, threaded.commits() if whole else threaded) == []
        else:
            stream = cm.watch(since=0, where=where, **watched)
            assert [found async for found in (stream.commits() if whole else stream)] == []
        await cm.aclose()


@pytest.mark.anyio
@pytest.mark.memory_only
async def test_a_write_touches_one_of_many() -> None:
    """With 10,000 watchers of 10,000 keys a write ends the wait of one."""
    cm = AsyncChronoMap[int, int]()
    streams = [cm.watch(number) for number in range(600)]
    interest = cm._store.interest
    for stream in streams:
        stream._cursor.watcher.who = (stream, None)
        interest.wait(stream._cursor.watcher)
    cm._store.put_now(cm._owner.now(), 77, 1)
    assert [watcher.key for watcher, _ in interest.touched] == [77]
    interest.touched.clear()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "choice", [{"where": lambda change: change.key == "last"}, {"latest_only": True}], ids=["where", "latest"]
)
async def test_who_looks_for_something_rare_lets_others_run(choice: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading through many commits is done in parts, also within one commit, and finds all that matches."""
    monkeypatch.setattr(cursor, "STEPS", 128)
    cm = AsyncChronoMap[Any, int](feed_retention=100_000)
    for _ in range(3):
        await cm.put_many({number: number for number in range(300)})
    for number in range(600):
        await cm.put("k", number)
    await cm.put("last", 1)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        await anyio.lowlevel.checkpoint()
        turns = 0
        changes = [await anext(stream := cm.watch(since=0, **choice))]
        assert turns >= 2
        while changes[-1].key != "last":
            changes.append(await anext(stream))
        tasks.cancel_scope.cancel()
    keys = [change.key for change in changes]
    assert keys == (["last"] if "where" in choice else [*range(300), "k", "last"])
    await cm.aclose()


@pytest.mark.anyio
async def test_two_readers_of_one_replay() -> None:
    """Each of two tasks would read everything: the second is told so, and one after the other shares it."""
    cm = AsyncChronoMap[str, int]()
    for number in range(6):
        await cm.put("k", number)
    replay = cm.replay()
    seen: list[int] = []
    refused = 0

    async def read() -> None:
        nonlocal refused
        try:
            seen.append((await anext(replay)).value)
        except ChronoMapError as error:
            assert "make one for each" in str(error)
            refused += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(read)
    assert (seen, refused) == ([0], 2)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(read)
    assert sorted(seen) == [0, 1, 2, 3]
    await cm.aclose()


@pytest.mark.anyio
async def test_a_stream_that_is_read_on_two_loops_at_once() -> None:
    """The second is refused, and the first sleeps on undisturbed."""
    cm = AsyncChronoMap[str, int]()
    stream = cm.watch("k")
    seen: list[int] = []

    async def read() -> None:
        seen.append((await anext(stream)).value)

    def elsewhere() -> None:
        with pytest.raises(ChronoMapError, match="somebody else is waiting"):
            anyio.run(read)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await until(lambda: stream._asleep)
        await anyio.to_thread.run_sync(elsewhere)
        await cm.put("k", 1)
        with anyio.fail_after(LONG):
            await until(lambda: seen)
    assert seen == [1]
    await cm.aclose()


def test_index_entries_go() -> None:
    """Streams that are closed or forgotten leave the index."""
    cm = ChronoMap[str, int]()
    streams = [cm.watch("a"), cm.watch(prefix="b"), cm.watch("c")]
    streams.pop().close()
    del streams
    gc.collect()
    last = cm.watch("z")
    assert list(cm._store.interest._keys) == ["z"] and not cm._store.interest._prefixes
    last.close()


def test_meta() -> None:
    """Per call, by blocks, nested, in transactions and worker threads; not in expiries; limited."""
    clock = ManualClock()
    cm = ChronoMap[str, int](clock=clock)
    with chronomap.meta(author="ann", reason="x"):
        cm.put("a", 1)
        with chronomap.meta(reason="y"):
            cm.put("a", 2, meta={"request_id": 7})
        with cm.transaction() as transaction:
            transaction.put("t", 1)
        cm.put("b", 1, ttl=5)
        clock.advance(10)
        cm.prune_all_history(keep_last=10)
    assert [(change.kind, change.meta) for change in cm.replay()] == [
        ("put", {"author": "ann", "reason": "x"}),
        ("put", {"author": "ann", "reason": "y", "request_id": 7}),
        ("put", {"author": "ann", "reason": "x"}),
        ("put", {"author": "ann", "reason": "x"}),
        ("expire", {}),
    ]
    with pytest.raises(ChronoMapTypeError):
        cm.put("a", 1, meta={"a": []})  # type: ignore[dict-item]
    with pytest.raises(ChronoMapValueError):
        cm.put("a", 1, meta={"a": "x" * 5000})


def test_kinds_and_replay() -> None:
    """A schedule gives put and activate, an expiry expire; replay yields what the stream did; pruning is told."""
    clock = ManualClock()
    cm = ChronoMap[str, int](clock=clock, feed_retention=10_000)
    stream = cm.watch(since=0, timeout=0)
    cm.put("a", 1, timestamp=clock() + 5)
    cm.put("b", 2, ttl=3)
    clock.advance(10)
    cm.put("a", 3)
    cm.put("c", 1, timestamp=clock() + 5)
    cm.unschedule("c")
    cm.touch("a", 100)
    cm.rollback(cm.revision - 1)
    cm.delete("a")
    cm.undo(cm.revision)
    cm.put("a", 3, if_changed=True)
    cm.clear()
    seen = list(stream)
    kinds = {change.kind for change in seen}
    wanted = {"put", "activate", "expire", "unschedule", "touch", "rollback", "delete", "undo", "clear"}
    assert kinds == wanted
    assert next(change.previous for change in seen if change.kind == "expire") == 2
    assert list(cm.replay()) == seen
    assert list(cm.replay(2, 4)) == [change for change in seen if 2 < change.revision <= 4]
    assert seen[0] != seen[1] and len(set(seen)) == len(seen) and "kind='put'" in repr(seen[0])
    assert seen[0].as_dict()["key"] == "a"
    cm.prune_all_history(keep_last=1)
    with pytest.raises(CompactedError, match=f"since={cm._store.pruned_to}"):
        list(cm.replay())
    list(cm.replay(cm._store.pruned_to))


def test_values_are_copies_and_erase_reaches_what_was_taken_up() -> None:
    """What a watcher does to a value reaches nobody; an erased value is not yielded any more."""
    cm = ChronoMap[str, list[int]]()
    stream = cm.watch(timeout=0)
    cm.put_many({"a": [1], "x": [2]})
    first = next(stream)
    first.value.append(5)  # type: ignore[union-attr]
    assert first.value == [1] == cm.get("a")
    cm.erase("x")
    assert [(change.kind, change.value, change.previous) for change in stream] == [("put", None, None), ("erase", None, None)]


def test_sync_caught_up() -> None:
    """A thread waits until another has been given everything; False after the timeout."""
    cm = ChronoMap[str, int]()
    stream = cm.watch()
    cm.put("a", 1)
    assert not stream.caught_up(timeout=0)
    reader = threading.Thread(target=list, args=(stream,), daemon=True)
    reader.start()
    assert stream.caught_up(timeout=LONG)
    stream.close()
    reader.join(LONG)
    assert not reader.is_alive()
    with pytest.raises(ClosedError):
        stream.caught_up()
