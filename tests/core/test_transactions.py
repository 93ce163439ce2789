"""What a transaction writes, where its own writes meet."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from chronomap import ChronoMap
from chronomap.testing import ManualClock


def test_a_delete_outlasts_what_is_back_dated_after_it() -> None:
    """As when the calls are made one by one, and as the block itself sees it."""
    clock = ManualClock(100.0)
    cm, single = ChronoMap[str, int](clock=clock), ChronoMap[str, int](clock=clock)
    with cm.transaction() as tx:
        for write in (tx, single):
            write.put("a", 1)
            write.delete("a")
            write.put("a", 2, timestamp=90)
        assert tx.get("a") is None
    assert cm.get("a") is single.get("a") is None
    assert cm.get("a", 95) == single.get("a", 95) == 2
    assert [(version.timestamp, version.deleted) for version in cm.versions("a")] == [(90, False), (100, True)]


@pytest.mark.parametrize("scheduled", [False, True])
def test_what_is_taken_back_leaves_nothing(*, scheduled: bool) -> None:
    """A key that held nothing before, and holds nothing after its own puts were deleted, is not written."""
    cm = ChronoMap[str, int](clock=ManualClock(100.0))
    with cm.transaction() as tx:
        tx.put("a", 1)
        if scheduled:
            tx.put("a", 2, timestamp=110)
        tx.delete("a")
        tx.delete("b")
    assert cm.revision == 0
    with cm.transaction() as tx:
        tx.put("a", 1, timestamp=90)
        tx.put("a", 2)
        tx.delete("a")
    assert [(version.timestamp, version.deleted) for version in cm.versions("a")] == [(90, False), (100, True)]


def test_a_delete_of_nothing_ends_nothing() -> None:
    """What is dated back after it holds, as when the calls are made one by one."""
    cm = ChronoMap[str, int](clock=ManualClock(100.0))
    with cm.transaction() as tx:
        tx.delete("a")
        tx.put("a", 1, timestamp=90)
        assert tx.get("a") == 1
    assert cm.get("a") == 1


STEPS: dict[str, tuple[Any, ...]] = {
    "put": ("put", None),
    "past": ("put", 90.0),
    "older": ("put", 80.0),
    "ahead": ("put", 110.0),
    "delete": ("delete", None),
    "delete in the past": ("delete", 85.0),
    "delete ahead": ("delete", 105.0),
}


def write(to: Any, step: str, number: int) -> None:
    """One write of a block, or of a map."""
    verb, timestamp = STEPS[step]
    if verb == "put":
        to.put("a", number, timestamp)
    else:
        to.delete("a", timestamp)


@pytest.mark.parametrize("before", [(), ("put",), ("past", "ahead"), ("put", "delete"), ("older", "delete in the past")])
def test_every_few_writes_are_as_one_by_one(before: tuple[str, ...]) -> None:
    """Whatever four writes there are in a block, the key holds what it would if the calls were made one by one."""
    for steps in product(STEPS, repeat=4):
        clock = ManualClock(100.0)
        cm, single = ChronoMap[str, int](clock=clock), ChronoMap[str, int](clock=clock)
        for number, step in enumerate(before):
            write(cm, step, number)
            write(single, step, number)
        clock.advance(1.0)
        with cm.transaction() as tx:
            for number, step in enumerate(steps, 10):
                write(tx, step, number)
                write(single, step, number)
            seen = tx.get("a")
        assert seen == cm.get("a") == single.get("a"), steps
        for when in (75.0, 82.0, 87.0, 92.0, 100.5, 101.0, 103.0, 107.0, 112.0):
            assert cm.get("a", when) == single.get("a", when), (steps, when)
