"""Rows 12, 14 and 20 of the table in ``__init__``: deadlines, the edge of what is retained, and clocks that misbehave."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from chronomap import ChronoMap, CompactedError, Retention
from chronomap.testing import ManualClock

OVERWRITE: dict[str, Callable[[ChronoMap[str, str]], Any]] = {
    "put": lambda cm: cm.put("k", "fresh"),
    "put_many": lambda cm: cm.put_many({"k": "fresh"}),
    "update": lambda cm: cm.update("k", lambda _: "fresh"),
    "transaction": lambda cm: cm.transact(lambda tx: tx.put("k", "fresh")),
    "merge": lambda cm: cm.merge(other(cm, "fresh"), "overwrite"),
    "touch": lambda cm: cm.touch("k", None),
    "delete and put": lambda cm: (cm.delete("k"), cm.put("k", "fresh")),
}


def other(cm: ChronoMap[str, str], value: str) -> ChronoMap[str, str]:
    """Another map on the same clock that holds a value."""
    made = ChronoMap[str, str](clock=cm._owner.clock)
    made.put("k", value)
    return made


@pytest.mark.parametrize("overwrite", OVERWRITE.values(), ids=OVERWRITE)
def test_an_old_ttl_does_not_take_a_fresh_value(overwrite: Callable[[ChronoMap[str, str]], Any]) -> None:
    """Row 12: whatever is written over a value with a ttl, without one, stays for ever, and nothing expires."""
    clock = ManualClock(1000.0)
    cm = ChronoMap[str, str](clock=clock)
    stream = cm.watch(timeout=0)
    cm.put("k", "old", ttl=10)
    clock.advance(5)
    overwrite(cm)
    written = cm["k"]
    for _ in range(3):
        clock.advance(1000)
        assert cm.get("k") == written
        assert len(cm) == 1
    assert cm.clean_expired_keys() == 0
    assert "expire" not in [change.kind for change in stream]
    assert cm.versions("k")[0].expires_at == 1010
    version = cm.version("k")
    assert version is not None and version.expires_at is None
    cm._check()


def test_a_ttl_over_a_lasting_value() -> None:
    """Row 12: a value with a ttl over one without ends with its own, and the older one does not show through."""
    clock = ManualClock(1000.0)
    cm = ChronoMap[str, str](clock=clock)
    cm.put("k", "lasting")
    cm.put("k", "first", ttl=100)
    clock.advance(50)
    cm.put("k", "second", ttl=10)
    clock.advance(9.5)
    assert cm["k"] == "second"
    clock.advance(0.5)
    assert "k" not in cm
    assert cm.clean_expired_keys() == 1
    clock.advance(100)
    assert "k" not in cm
    assert cm.clean_expired_keys() == 0
    assert cm.get("k", timestamp=1049) == "first"


def edges(clock: ManualClock, **options: Any) -> ChronoMap[str, Any]:
    """A map with every kind of version in force at 1000: value, tombstone, expired, cancelled, and some ahead."""
    cm = ChronoMap[str, Any](clock=clock, **options)
    for number in range(6):
        cm.put_many(dict.fromkeys(["value", "deleted", "expired", "called off", "ahead"], number))
        clock.advance(10)
    cm.delete("deleted")
    cm.put("expired", "short", ttl=1)
    cm.put("called off", "never", timestamp=clock() + 50)
    cm.unschedule("called off")
    cm.put("ahead", "later", timestamp=clock() + 500)
    cm.put("only ahead", "later", timestamp=clock() + 500)
    clock.set(1000.0)
    cm.clean_expired_keys()
    return cm


def test_the_version_in_force_is_never_pruned(seed: random.Random) -> None:
    """Row 14: however hard it is pruned, the present is what it was, and so is what was planned for later."""
    for _ in range(30):
        clock = ManualClock(800.0)
        cm = edges(clock)
        present, ahead = cm.latest(), cm.latest(2000.0)
        assert present == {"value": 5, "called off": 5, "ahead": 5}
        assert ahead == {"value": 5, "called off": 5, "ahead": "later", "only ahead": "later"}
        for _ in range(3):
            keep_last = seed.choice([None, 1, 2, 5])
            older_than = seed.choice([850.0, 999.0, 5000.0]) if keep_last is None else None
            print(keep_last, older_than)
            if seed.random() < 0.5:
                cm.prune_all_history(keep_last, older_than)
            else:
                cm.prune_history(seed.choice(list(ahead)), keep_last, older_than)
            assert cm.latest() == present
            assert cm.latest(2000.0) == ahead
            assert {key: cm[key] for key in present} == present
            cm._check()
        clock.set(2000.0)
        assert cm.latest() == ahead
        assert "deleted" not in cm and "expired" not in cm


def test_the_present_outlives_its_age() -> None:
    """Row 14: a value far older than ``Retention(max_age=...)`` is still the present one, also after the next write."""
    clock = ManualClock(1000.0)
    cm = ChronoMap[str, int](clock=clock, retention=Retention(max_versions=1, max_age=5))
    cm.put("k", 1)
    clock.advance(3600)
    cm.put("other", 1)
    assert cm.prune_all_history() == 0
    assert cm["k"] == 1
    cm.put("k", 2, timestamp=clock() + 100)
    assert (cm["k"], cm.get("k", timestamp=clock() + 100)) == (1, 2)
    cm.put("k", 3)
    assert (cm["k"], cm.get("k", timestamp=clock() + 100)) == (3, 2)
    cm._check()


def test_below_the_edge_nobody_says_missing() -> None:
    """Row 14: a read that would need what was pruned raises CompactedError, on either axis and by every route."""
    clock = ManualClock(800.0)
    cm = edges(clock)
    before = cm.at(815.0)
    pruned = cm.revision
    cm.prune_all_history(keep_last=1)
    reads: list[Callable[[], Any]] = [
        lambda: cm.get("value", timestamp=815.0),
        lambda: cm.get("value", revision=2),
        lambda: cm.version("value", timestamp=815.0),
        lambda: cm.latest(815.0),
        lambda: cm.at(815.0)["value"],
        lambda: "value" in cm.at(815.0),
        lambda: cm.at(revision=2)["value"],
        lambda: cm.rollback(2),
        lambda: cm.put("value", "in a stretch that is not known", timestamp=815.0),
    ]
    for read in reads:
        with pytest.raises(CompactedError):
            read()
    assert cm.get("value", timestamp=799.0) is None, "before the first version it was missing, and that is still known"
    assert before["value"] == 1, "a snapshot taken before is not reached"
    assert cm.revision == pruned
    cm.put("solo", 1)
    newest = cm.put("solo", 2)
    cm.prune_history("solo", keep_last=1)
    with pytest.raises(CompactedError):
        cm.undo(newest)


def test_a_clock_that_steps_back() -> None:
    """Row 20: the newest put is what is read, its instant is not before the last, and a snapshot knows what it knew."""
    clock = ManualClock(1000.0)
    cm = ChronoMap[str, int](clock=clock)
    cm.put("k", 1)
    for number, step in enumerate((-3600.0, -1.0, +0.5, -100_000.0), 2):
        before = cm.snapshot()
        clock.advance(step)
        assert before["k"] == cm["k"] == number - 1
        cm.put("k", number)
        cm.put_many({"k": number, "also": number})
        assert cm["k"] == cm.get("k") == cm.latest()["k"] == cm.at()["k"] == cm.snapshot()["also"] == number
        assert before["k"] == number - 1
    instants = [version.committed_at for version in cm.versions("k")]
    assert instants == sorted(instants)
    assert [value for _, value in cm.history("k")] == [1, 2, 2, 3, 3, 4, 4, 5, 5]
    cm.put("lease", 1, ttl=10)
    assert "lease" in cm
    clock.set(1000.0 + 10)
    assert "lease" not in cm
    cm._check()


def test_several_stamps_in_one_tick() -> None:
    """Row 20: of what is written while the clock stands still the last counts, and each revision finds its own."""
    cm = ChronoMap[str, int](clock=ManualClock(1000.0))
    revisions = {number: cm.put("k", number) for number in range(5)}
    assert cm["k"] == 4
    assert cm.history("k") == [(1000.0, number) for number in range(5)]
    assert {number: cm.get("k", revision=revision) for number, revision in revisions.items()} == {n: n for n in range(5)}
    cm.put("k", 5, timestamp=2000.0)
    cm.put("k", 6, timestamp=1000.0)
    assert (cm["k"], cm.get("k", timestamp=1000.0), cm.get("k", timestamp=999.0)) == (6, 6, None)
    cm.delete("k")
    assert "k" not in cm
    cm.put("k", 7)
    assert cm["k"] == 7
    cm._check()


def test_the_hour_that_comes_twice() -> None:
    """Row 20: when summer time ends, 2:30 before and 2:30 after are an hour apart; text without a zone is UTC."""
    cm = ChronoMap[str, str]()
    berlin = ZoneInfo("Europe/Berlin")
    first = datetime.datetime(2024, 10, 27, 2, 30, tzinfo=berlin)
    second = first.replace(fold=1)
    cm.put("k", "winter", timestamp=second)
    cm.put("k", "summer", timestamp=first)
    assert cm["k"] == "winter"
    (one, _), (other, _) = cm.history("k")
    assert other - one == 3600
    assert cm.get("k", timestamp="2024-10-27T00:30:00") == "summer"
    assert cm.get("k", timestamp="2024-10-27T00:29:59") is None
    assert cm.get("k", timestamp="2024-10-27T02:30:00+01:00") == "winter"
