"""Rows 9, 10 and 11 of the table in ``__init__``: change streams that are slow, reconnect, or begin with the present."""

from __future__ import annotations

import random
import threading
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from waiting import LONG

from chronomap import AsyncChronoMap, Change, ChronoMap, LaggedError, SyncChangeStream
from chronomap.core.feed import RETAINED_CHANGES, SLACK

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("maps")]

Place = tuple[int, int]
"""The revision of a change and its place within the commit."""


def test_slow_watchers_cost_nothing() -> None:
    """Row 9: fifty watchers that never look neither stall a writer nor keep what it wrote; each is told where to go on."""
    cm = ChronoMap[str, int]()
    streams = [cm.watch() for _ in range(50)]
    cm.put("k", 0)
    half_way = cm.watch(since=0)
    assert next(half_way).value == 0
    writes = RETAINED_CHANGES + 3 * SLACK
    for number in range(1, writes):
        cm.put("k", number)
    assert len(cm._store.feed.tail) < RETAINED_CHANGES + 2 * SLACK, "the feed keeps what slow watchers have not seen"
    assert not any(stream._cursor._ready for stream in streams)
    for stream in [*streams, half_way]:
        reached = stream.revision
        with pytest.raises(LaggedError) as caught:
            next(stream)
        assert (caught.value.since, stream.revision) == (reached, reached)
        resumed = cm.watch(since=caught.value.oldest, timeout=0)
        assert [change.revision for change in resumed] == list(range(caught.value.oldest + 1, writes + 1))


class Reader:
    """A watcher that disconnects now and then and resumes where its stream says it was."""

    def __init__(self, cm: ChronoMap[str, int], seed: random.Random, **choice: Any) -> None:
        self.cm, self.seed, self.choice = cm, seed, choice
        self.seen: list[Place] = []
        self.lost: list[range] = []
        self.stream: SyncChangeStream[str, int] = cm.watch(since=0, timeout=0, **choice)

    def resume(self, since: int) -> None:
        """Connect anew; what was seen of a commit that is not complete comes again."""
        self.seen = [place for place in self.seen if place[0] <= since]
        self.stream.close()
        self.stream = self.cm.watch(since=since, timeout=0, **self.choice)

    def read(self, most: int) -> None:
        """Read so many changes, or until there are no more."""
        for _ in range(most):
            try:
                change = next(self.stream)
            except StopIteration:
                return
            except LaggedError as lagged:
                self.lost.append(range(lagged.since + 1, lagged.oldest + 1))
                self.resume(lagged.oldest)
            else:
                self.seen.append((change.revision, change.index))
                if self.seed.random() < 0.2:
                    self.resume(self.stream.revision)


def test_reconnecting_watchers_while_the_log_is_cut(seed: random.Random) -> None:
    """Row 10: whatever they filter, wherever they resume: every change exactly once, or LaggedError for all of a gap."""
    cm = ChronoMap[str, int]()
    cm._store.feed.retained = 300
    readers = [
        Reader(cm, seed),
        Reader(cm, seed, key="a1"),
        Reader(cm, seed, prefix="b"),
        Reader(cm, seed, where=lambda change: change.value is not None and change.value % 3 == 0),
    ]
    wanted = [
        lambda change: True,
        lambda change: change.key == "a1",
        lambda change: change.key.startswith("b"),
        lambda change: change.value is not None and change.value % 3 == 0,
    ]
    witness = cm.watch(timeout=0)
    log: list[Change[str, int]] = []
    while cm.revision < 6000:
        for number in range(seed.choice([1, 5, 50, 2000])):
            keys = seed.sample(["a1", "a2", "b1", "b2"], seed.randrange(1, 4))
            if seed.random() < 0.1:
                cm.delete_many(keys)
            else:
                cm.put_many({key: seed.randrange(100) for key in keys})
            if number % 100 == 0:
                log += witness
        log += witness
        for reader in seed.sample(readers, 3):
            reader.read(seed.choice([0, 1, 20, 5000]))
    for reader in readers:
        reader.read(100_000)
    assert sum(len(reader.lost) for reader in readers) > 0
    for reader, wants in zip(readers, wanted, strict=True):
        lost = {revision for gap in reader.lost for revision in gap}
        assert reader.stream.revision == cm.revision
        assert reader.seen == [(one.revision, one.index) for one in log if wants(one) and one.revision not in lost]


async def test_reconnecting_while_threads_write(seed: random.Random) -> None:
    """Row 10: a task that reconnects at any moment, while threads write, is woken for and shown every commit once."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()
    choices = [seed.random() for _ in range(100)]

    def write(name: int) -> None:
        for number in range(300):
            bridge.put(f"k{name}", number)
            if choices[number % 100] < 0.05:
                threading.Event().wait(0.0001)

    threads = [threading.Thread(target=write, args=(name,), daemon=True) for name in range(2)]
    seen: list[int] = []
    stream = cm.watch()
    for thread in threads:
        thread.start()
    with anyio.fail_after(LONG):
        while len(seen) < 600:
            change = await anext(stream)
            seen.append(change.revision)
            if seed.random() < 0.1:
                stream.close()
                stream = cm.watch(since=stream.revision)
    assert seen == list(range(1, 601))


async def test_a_commit_just_before_the_watcher_sleeps() -> None:
    """Row 10: what is committed after a watcher looked and before it asked to be woken does not leave it asleep."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()
    task_stream, thread_stream = cm.watch(), bridge.watch(timeout=LONG)

    def slip_in(stream: Any, step: str) -> None:
        on_the_way = getattr(stream, step)

        def late(*arguments: Any) -> Any:
            bridge.put("k", 1)
            return on_the_way(*arguments)

        setattr(stream, step, late)

    slip_in(task_stream, "_here")
    with anyio.fail_after(LONG):
        assert (await anext(task_stream)).revision == 1
    assert next(thread_stream).revision == 1
    slip_in(thread_stream, "_enter")
    assert (await anyio.to_thread.run_sync(next, thread_stream)).revision == 2


async def test_the_present_is_told_apart_from_silence() -> None:
    """Row 11: ``initial=True`` over nothing says at once that it is complete, over something after its last change."""
    cm = AsyncChronoMap[str, int]()
    await cm.put("gone", 1)
    await cm.delete("gone")
    for nothing in (cm.watch(initial=True), cm.watch(prefix="none", initial=True), cm.watch("none", initial=True)):
        assert nothing.revision == cm.revision == 2
        with anyio.move_on_after(0) as silence:
            await anext(nothing)
        assert silence.cancelled_caught
    await cm.put_many({"a": 1, "b": 2, "other": 3})
    stream = cm.watch(where=lambda change: change.key != "other", initial=True)
    await cm.put("a", 4)
    await cm.put("c", 5)
    found = [await anext(stream) for _ in range(2)]
    assert [(change.kind, change.key, change.value) for change in found] == [("initial", "a", 1), ("initial", "b", 2)]
    with anyio.move_on_after(0):
        following = await anext(stream)
        assert (following.kind, following.key, following.value, following.revision) == ("put", "a", 4, 4)
    assert stream.revision == 4
    assert (await anext(stream)).key == "c"


def test_what_does_not_match_is_progress_too() -> None:
    """Row 11: a stream that yields nothing still tells up to where nothing has matched, so resuming skips it."""
    cm = ChronoMap[str, int]()
    streams = [
        cm.watch("a", timeout=0),
        cm.watch(prefix="a", timeout=0),
        cm.watch(where=lambda _: False, timeout=0),
        cm.watch("a", timeout=0, initial=True),
    ]
    for number in range(RETAINED_CHANGES):
        cm.put("b", number)
    for stream in streams:
        assert list(stream) == []
        assert stream.revision == cm.revision
    for number in range(2 * SLACK):
        cm.put("b", number)
    assert cm._store.feed.floor > 0
    for stream in streams:
        assert list(cm.watch("a", since=stream.revision, timeout=0)) == []
