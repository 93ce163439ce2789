"""Work grows with what there is to do, and not with its square: lines are counted, so that no clock decides."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from chronomap import ChronoMap, Retention
from chronomap.core import feed
from chronomap.journal import MemoryJournal, Shelf
from chronomap.testing import ManualClock

SOME = 300
TIMES = 4
FEED = 100
"""Changes that the feed retains: less than there are, so that what is further back is told from history."""


def lines(do: Callable[[], object]) -> int:
    """How many lines of Python are run."""
    counted = 0

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal counted
        counted += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        do()
    finally:
        sys.settrace(before)
    return counted


def filled(number: int, **options: Any) -> ChronoMap[str, int]:
    """A map of so many keys."""
    cm = ChronoMap[str, int](feed_retention=FEED, **options)
    for n in range(number):
        cm.put(f"k{n}", n)
    return cm


def deep(number: int, **options: Any) -> ChronoMap[str, int]:
    """A map of one key with so many versions."""
    cm = ChronoMap[str, int](feed_retention=FEED, **options)
    for n in range(number):
        cm.put("k", n)
    return cm


def fail_in_a_block(cm: ChronoMap[str, int], keys: list[str]) -> None:
    """Write some keys and have it undone."""
    with suppress(LookupError), cm.snapshot_context():
        for key in keys:
            cm.put(key, -1)
        raise LookupError


def falling_due(number: int, keys: int, **how: Any) -> tuple[ChronoMap[str, int], ManualClock]:
    """A map in which so much falls due at once."""
    clock = ManualClock(100)
    cm = ChronoMap[str, int](clock=clock, feed_retention=FEED)
    for n in range(number):
        cm.put(f"k{n % keys}", n, **{name: value + n for name, value in how.items()})
    return cm, clock


def fall_due(made: tuple[ChronoMap[str, int], ManualClock]) -> None:
    """Let it."""
    cm, clock = made
    clock.set(1e6)
    cm.clean_expired_keys()


def shelf_of(number: int, batch: int, keys: int) -> Shelf:
    """A journal of so many versions."""
    shelf = Shelf()
    with ChronoMap[str, int].open(MemoryJournal(shelf)) as cm:
        for n in range(number // batch):
            cm.put_many({f"k{(n * batch + m) % keys}": n for m in range(batch)})
    return shelf


def reopen(shelf: Shelf, **options: Any) -> None:
    """Open it, and look at all that the feed has."""
    with ChronoMap[str, int].open(MemoryJournal(shelf), **options) as cm:
        list(cm.watch(since=cm._store.feed.floor, timeout=0))


SHAPES: dict[str, tuple[Callable[[int], Any], Callable[[Any, int], object]]] = {
    "expire": (lambda n: falling_due(n, n, ttl=5), lambda made, _: fall_due(made)),
    "activate many keys": (lambda n: falling_due(n, n, timestamp=1000), lambda made, _: fall_due(made)),
    "activate few keys": (lambda n: falling_due(n, 5, timestamp=1000), lambda made, _: fall_due(made)),
    "undo a block": (filled, lambda cm, n: fail_in_a_block(cm, [f"k{m}" for m in range(n)])),
    "undo a block of one key": (filled, lambda cm, n: fail_in_a_block(cm, ["k0"] * n)),
    "rollback": (filled, lambda cm, n: (cm.clear(), cm.rollback(n))),
    "read and write in a transaction": (
        lambda _: filled(1),
        lambda cm, n: cm.transact(lambda tx: [tx.put("k0", tx.get("k0") + 1) for _ in range(n)]),
    ),
    "delete and write in a transaction": (
        lambda _: filled(1),
        lambda cm, n: cm.transact(lambda tx: [(tx.delete("k0"), tx.put("k0", 1)) for _ in range(n)]),
    ),
    "merge": (filled, lambda cm, n: cm.merge(filled(n))),
    "merge one key": (deep, lambda cm, n: cm.merge(deep(n))),
    "prune": (deep, lambda cm, _: cm.prune_history("k", keep_last=1)),
    "retention": (lambda _: filled(0, retention=Retention(max_versions=9)), lambda cm, n: [cm.put("k", m) for m in range(n)]),
    "clear and count": (filled, lambda cm, n: [(cm.delete(f"k{m}"), len(cm)) for m in range(n)]),
    "replay": (lambda n: deep(5 * n), lambda cm, _: list(cm.replay())),  # most of it is not in the feed any more
    "open batches": (lambda n: shelf_of(10 * n, 20, 20), lambda shelf, n: reopen(shelf, feed_retention=n)),
    "open batches, little resident": (
        lambda n: shelf_of(10 * n, 20, 20),
        lambda shelf, n: reopen(shelf, feed_retention=n, resident=Retention(max_versions=1)),
    ),
    "open one key, little resident": (
        lambda n: shelf_of(n, 1, 1),
        lambda shelf, n: reopen(shelf, feed_retention=n, resident=Retention(max_versions=1)),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_four_times_as_much_is_about_four_times_the_work(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be sixteen times if each of them looked at all the others."""
    monkeypatch.setattr(feed, "SLACK", 0)
    make, act = SHAPES[shape]
    counted = []
    for number in (SOME, TIMES * SOME):
        made = make(number)
        counted.append(lines(lambda made=made, number=number: act(made, number)))  # type: ignore[misc]
    assert counted[1] < 1.75 * TIMES * counted[0], counted
