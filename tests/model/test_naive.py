"""Worked examples for the naive model, so that a reader can trust it as the judge of the real map."""

from __future__ import annotations

import pytest

from .naive import CANCELLATION, TOMBSTONE, VALUE, Compacted, Conflict, FutureRevision, NaiveMap, Op


def kinds(m: NaiveMap, key: str, now: float) -> list[tuple[float, str]]:
    """A key's whole timeline, as (timestamp, kind)."""
    return [(v.timestamp, v.kind) for v in m.versions(key, scheduled=True, now=now)]


def test_worked_example() -> None:
    """The example in the module's head: past, present and future of one key."""
    m = NaiveMap()
    assert m.put("k", "old", now=100) == 1
    assert m.put("k", "soon", timestamp=110, now=101) == 2
    assert m.put("k", "late", timestamp=90, now=102) == 3
    assert m.get("k", now=102) == "old"
    assert m.get("k", timestamp=95, now=102) == "late"
    assert m.get("k", timestamp=95, revision=2, now=102) is None
    assert m.get("k", timestamp=110, now=102) == "soon"
    assert m.history("k", now=102) == [(90, "late"), (100, "old")]
    assert m.get("k", now=110) == "soon"


def test_equal_timestamps() -> None:
    """At one timestamp the later revision wins, and both stay in the history."""
    m = NaiveMap()
    m.put("k", 1, timestamp=50, now=100)
    m.put("k", 2, timestamp=50, now=100)
    assert m.get("k", now=100) == 2
    assert m.get("k", revision=1, now=100) == 1
    assert m.history("k", now=100) == [(50, 1), (50, 2)]


def test_delete_calls_off_what_is_scheduled() -> None:
    """A delete writes a tombstone and cancels the future; deleting again changes nothing."""
    m = NaiveMap()
    m.put("k", 1, now=100)
    m.put("k", 2, timestamp=120, now=100)
    assert m.delete("k", now=105)
    assert kinds(m, "k", 105) == [(100, VALUE), (105, TOMBSTONE), (120, VALUE), (120, CANCELLATION)]
    assert m.get("k", now=130) is None
    assert m.get("k", timestamp=104, now=130) == 1
    assert not m.delete("k", now=131)
    assert m.revision == 3


def test_cancellation_lets_the_value_in_force_go_on() -> None:
    """Past a cancelled timestamp the value before it goes on, even one written after the cancellation."""
    m = NaiveMap()
    m.put("k", "a", now=100)
    m.put("k", "b", timestamp=120, now=100)
    assert m.unschedule("k", now=101) == 1
    m.put("k", "c", now=110)
    assert m.get("k", now=130) == "c"
    assert m.get("k", revision=2, now=130) == "b"
    assert m.history("k", now=130) == [(100, "a"), (110, "c")]


def test_expired_value_does_not_reveal_an_older_one() -> None:
    """A ttl ends exactly at its deadline; the expiry is committed once, at the deadline's timestamp."""
    m = NaiveMap()
    m.put("k", "a", now=100)
    m.put("k", "b", ttl=10, now=105)
    assert m.get("k", timestamp=114.5, now=115) == "b"
    assert m.get("k", now=115) is None
    assert m.clean_expired_keys(now=120) == 1
    assert m.clean_expired_keys(now=120) == 0
    assert m.log[-1] == (3, "expire", "k", 115)
    assert m.put("k", "c", now=120) == 4


def test_falling_due_is_one_commit_in_due_order() -> None:
    """An activation and two expiries that fell due together are one revision."""
    m = NaiveMap()
    m.put("x", 1, ttl=5, now=100)
    m.put("y", 2, timestamp=103, ttl=10, now=100)
    m.settle(now=200)
    assert m.log[2:] == [(3, "activate", "y", 103), (3, "expire", "x", 105), (3, "expire", "y", 113)]
    m.settle(now=200)
    assert m.revision == 3


def test_rollback() -> None:
    """What was scheduled then is scheduled again, what was scheduled since is cancelled; the past stays."""
    m = NaiveMap()
    m.put("k", "a", now=100)
    m.put("k", "plan", timestamp=150, now=100)
    m.delete("k", now=110)
    m.put("k", "other plan", timestamp=160, now=111)
    assert m.rollback(2, now=120) == 5
    assert m.get("k", now=120) == "a"
    assert m.get("k", timestamp=115, now=120) is None
    assert m.get("k", now=155) == "plan"
    assert m.get("k", now=165) == "plan"
    assert m.rollback(4, now=120) == 6
    assert m.get("k", now=120) is None
    assert m.get("k", now=165) == "other plan"


def test_rollback_does_not_bring_back_what_has_expired_since() -> None:
    """Deadlines that have passed stay passed."""
    m = NaiveMap()
    m.put("k", "short", ttl=10, now=100)
    m.put("k", "long", now=105)
    m.rollback(1, now=120)
    assert m.get("k", now=120) is None
    assert kinds(m, "k", 120)[-1] == (120, TOMBSTONE)


def test_undo() -> None:
    """The inverse of one commit, also of its back-dated versions; refused once its keys were touched."""
    m = NaiveMap()
    m.put("k", "a", timestamp=50, now=100)
    m.put("k", "b", timestamp=50, now=100)
    assert m.undo(2, now=100) == 3
    assert m.get("k", timestamp=50, now=100) == "a"
    with pytest.raises(Conflict):
        m.undo(2, now=100)
    m.put("other", 1, timestamp=70, now=100)
    m.undo(4, now=101)
    assert m.get("other", timestamp=70, now=101) is None
    assert kinds(m, "other", 101) == [(70, VALUE), (70, CANCELLATION), (101, TOMBSTONE)]


def test_pruned_reads_raise() -> None:
    """Below what was kept a read raises and so does a write; what is in force is kept; snapshots do not notice."""
    m = NaiveMap()
    for now in (100, 110, 120):
        m.put("k", now, now=now)
    snapshot = m.snapshot(now=120)
    assert m.prune("k", keep_last=1, now=125) == 2
    assert m.get("k", now=125) == 120
    assert m.get("k", timestamp=99, now=125) is None
    with pytest.raises(Compacted):
        m.get("k", timestamp=119, now=125)
    with pytest.raises(Compacted):
        m.put("k", 0, timestamp=119, now=125)
    assert m.prune("k", older_than=1000, now=125) == 0
    assert snapshot.history("k") == [(100, 100), (110, 110), (120, 120)]


def test_erase() -> None:
    """Nothing is left of the values, not in a snapshot either."""
    m = NaiveMap()
    m.put("k", "secret", now=100)
    snapshot = m.snapshot(now=100)
    assert m.erase("k", now=101) == 1
    assert snapshot.latest() == {}
    assert kinds(m, "k", 101) == [(101, TOMBSTONE)]
    with pytest.raises(Compacted):
        m.undo(2, now=101)


def test_merge() -> None:
    """By timestamp histories are united, and a second time adds nothing; overwriting copies the present."""
    ours, theirs = NaiveMap(), NaiveMap()
    ours.put("k", "a", now=100)
    theirs.put("k", "b", timestamp=90, now=101)
    theirs.put("k", "c", timestamp=150, now=101)
    assert ours.merge(theirs, now=102) == 2
    assert ours.merge(theirs, now=102) == 2
    assert ours.get("k", now=102) == "a"
    assert ours.get("k", now=150) == "c"
    ours.merge(theirs, "overwrite", now=102)
    assert ours.get("k", now=102) == "b"
    ours.put("k", "x", now=103)
    ours.merge(theirs, lambda key, mine, other: mine + other, now=103)
    assert ours.get("k", now=103) == "xb"


def test_transaction() -> None:
    """One revision for all writes; a key or a prefix that was read and has changed is a conflict."""
    m = NaiveMap()
    m.put("a/1", 1, now=100)
    ops = [Op("a/1", 2), Op("b", 3), Op("b", 4)]
    assert m.apply(ops, snapshot_revision=1, keys_read=["a/1"], now=100) == 2
    assert m.history("b", now=100) == [(100, 4)]
    with pytest.raises(Conflict):
        m.apply([Op("c")], snapshot_revision=1, keys_read=["a/1"], now=100)
    with pytest.raises(Conflict):
        m.apply([Op("c")], snapshot_revision=1, prefixes_read=["a/"], now=100)
    assert m.apply([Op("c")], snapshot_revision=1, prefixes_read=["c"], now=100) == 3
    assert m.apply([], snapshot_revision=1, now=100) == 3


def test_conditions() -> None:
    """A conditional put looks at the last revision that wrote the key, on any timestamp."""
    m = NaiveMap()
    assert m.put("k", 1, if_revision=0, now=100) == 1
    assert m.put("k", 2, timestamp=50, now=100) == 2
    with pytest.raises(Conflict):
        m.put("k", 3, if_revision=1, now=100)
    with pytest.raises(Conflict):
        m.put("k", 3, if_absent=True, now=100)
    assert m.put("k", 3, if_revision=2, now=100) == 3


def test_time_never_goes_back() -> None:
    """The present is never before the newest commit, whatever the clock says; revisions to come are refused."""
    m = NaiveMap()
    m.put("k", 1, now=100)
    m.put("k", 2, now=90)
    assert m.history("k", now=80) == [(100, 1), (100, 2)]
    assert m.get("k", now=80) == 2
    with pytest.raises(FutureRevision):
        m.get("k", revision=3, now=80)
