"""Who is told to have fallen behind, and who is let off since nothing of their own was missed."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from chronomap import AsyncChronoMap, ChronoMap, ChronoMapError, LaggedError
from chronomap.core import cursor, feed
from chronomap.testing import ManualClock

KEYS = ["a1", "a2", "a3", "b1", "b2", "c", "d"]
WATCHED: list[dict[str, Any]] = [
    {"key": "a1"},
    {"key": "c"},
    {"prefix": "a"},
    {"prefix": "b"},
    {"prefix": "c", "latest_only": True},
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed lets go of commits at once, and keys are looked at two by two."""
    monkeypatch.setattr(feed, "SLACK", 3)
    monkeypatch.setattr(cursor, "SLICE", 2)


def write(cm: ChronoMap[str, int], seed: random.Random, clock: ManualClock, key: str) -> None:
    """One random command."""
    value, now = seed.randrange(5), clock()
    commands: list[Any] = [
        lambda: cm.put(key, value),
        lambda: cm.put(key, value, timestamp=now + seed.choice([-4, -1, 2, 6])),
        lambda: cm.put(key, value, ttl=seed.choice([1, 5])),
        lambda: cm.put_many({key: value, seed.choice(KEYS): value}),
        lambda: cm.delete(key),
        lambda: cm.unschedule(key),
        lambda: cm.rollback(max(0, cm.revision - seed.randrange(3))),
        lambda: clock.advance(seed.choice([1, 3])),
        lambda: clock.advance(1),
    ]
    with suppress(ChronoMapError):
        seed.choice(commands)()


def read(cm: ChronoMap[str, int], since: int, watched: dict[str, Any]) -> list[tuple[int, int]] | LaggedError:
    """What a watcher gets that begins there."""
    stream = cm.watch(since=since, timeout=0, **watched)
    try:
        return [(change.revision, change.index) for change in stream]
    except LaggedError as error:
        return error


def concerns(watched: dict[str, Any], change: Any) -> bool:
    """Whether it is about what is watched."""
    key: str = change.key
    return key == watched["key"] if "key" in watched else key.startswith(watched["prefix"])


@pytest.mark.parametrize("forgetting", [False, True])
def test_only_who_missed_something_has_lagged(seed: random.Random, forgetting: bool) -> None:
    """Corrections, cancellations, expiries and what takes effect can be missed too; where history was forgotten all may be."""
    spared = lagged = 0
    for _ in range(30):
        clock = ManualClock()
        cm, log = ChronoMap[str, int](clock=clock, feed_retention=4), list[Any]()
        witness = cm.watch(timeout=0)
        busy = seed.sample(KEYS, 3)
        for _ in range(60):
            write(cm, seed, clock, seed.choice(busy if seed.random() < 0.9 else KEYS))
            if forgetting and seed.random() < 0.1:
                seed.choice([cm.erase, lambda key: cm.prune_history(key, keep_last=1)])(seed.choice(KEYS))
            log += witness
        cm.watch().close()  # what has fallen due is committed
        log += witness
        floor = cm._store.feed.floor
        for since in range(floor):
            for watched in WATCHED:
                known, own = [], list[Any]()
                for change in log:
                    if concerns(watched, change):
                        (own if change.revision > since else known).append(change)
                missed = any(change.revision <= floor for change in own)
                found = read(cm, since, watched)
                if isinstance(found, LaggedError):
                    assert (found.since, found.oldest) == (since, floor)
                    lagged += 1
                    instant = cm._store.instant_of(since)
                    # What lay ahead then is not looked for among what took effect or was called off, and who has forgotten
                    # what there was is not sure of anything.
                    assert missed or forgetting or any(change.timestamp > instant for change in known)
                    continue
                assert not missed
                spared += 1
                assert found == [(one.revision, one.index) for one in own] or "latest_only" in watched
    assert spared and lagged


def test_what_was_erased_since_may_have_been_missed() -> None:
    """Also where a correction of the time before the erasure hides that nothing older is left."""
    clock = ManualClock()
    cm = ChronoMap[str, int](clock=clock, feed_retention=4)
    cm.put("a", 1)
    cm.put("a", 2)
    for number in range(20):
        clock.advance(1)
        cm.put_many({"b": number})
    cm.erase("a")
    cm.put("a", 3, timestamp=clock() - 0.5)
    assert 2 < cm._store.feed.floor < cm._store.erased["a"]
    for watched in ({"key": "a"}, {"prefix": "a"}):
        assert isinstance(read(cm, 1, watched), LaggedError)


@pytest.mark.anyio
async def test_a_slow_watcher_of_a_prefix() -> None:
    """It goes on, though more was committed meanwhile than is retained, and lets others run while it looks at the keys."""
    cm = AsyncChronoMap[str, int](feed_retention=10)
    stream, turns = cm.watch(prefix="a"), 0
    await cm.put("a1", 1)
    await anext(stream)
    for number in range(2000):
        await cm.put(f"b{number % 50}", number)
    last = await cm.put("a1", 2)

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(count)
            assert (await anext(stream)).revision == last
            group.cancel_scope.cancel()
    assert turns > 20
