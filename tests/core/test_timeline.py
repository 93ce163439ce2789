"""One key's versions: the visibility rule, versions that arrive out of order, cancellations, pruning."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronomap import ChronoMap, CompactedError, Retention
from chronomap.core.records import CANCELLED, NEVER
from chronomap.core.timeline import UNSETTLED, Pruned, Series, Single, begun
from chronomap.core.values import MISSING
from chronomap.testing import ManualClock

Row = tuple[float, int, Any]


def build(*rows: Row) -> Series:
    """A timeline of (timestamp, revision, value), added in that order."""
    timeline = Series()
    for timestamp, revision, value in rows:
        timeline = timeline.add(timestamp, revision, value, NEVER)
        timeline.changed = revision
    timeline._check()
    return timeline


def value_at(timeline: Series, timestamp: float, revision: int) -> Any:
    """The value that decides, or MISSING."""
    entry = timeline.find(timestamp, revision)
    return MISSING if entry is None else entry.value


def naive(rows: list[Row], timestamp: float, revision: int) -> Any:
    """The visibility rule, word by word."""
    known = sorted((row for row in rows if row[1] <= revision and row[0] <= timestamp), key=lambda row: row[:2])
    while known:
        if known[-1][2] is not CANCELLED:
            return known[-1][2]
        called_off = known[-1][0]
        known = [row for row in known if row[0] != called_off]
    return MISSING


EXAMPLE: tuple[Row, ...] = ((10, 1, 1), (30, 2, 2), (20, 3, 3), (30, 4, CANCELLED))


@given(
    row=st.tuples(st.integers(0, 4), st.integers(1, 4), st.sampled_from([1, None, MISSING])),
    more=st.tuples(st.integers(0, 5), st.integers(5, 6), st.sampled_from([2, MISSING, CANCELLED]), st.sampled_from([NEVER, 6])),
    points=st.lists(st.tuples(st.integers(-1, 6), st.integers(0, 7)), min_size=1, max_size=5),
)
def test_a_single_version_reads_as_in_arrays(row: Row, more: tuple[Any, ...], points: list[tuple[int, int]]) -> None:
    """Both shapes give the same answers, before and after they are copied, cut, settled and given another version."""
    timestamp, revision, value = row
    single, series = begun(4, timestamp, revision, value, NEVER), build(row)
    assert type(single) is Single
    assert type(single.timestamps[0]) is float
    single._check()
    series.since = revision
    assert (len(single), single.partial, single.changed, single.since) == (1, False, revision, revision)
    for one, other in (
        (single, series),
        (single.frozen(), series.frozen()),
        (single.upto(4), series.upto(4)),
        (single.extended([series.entry(0)._replace(timestamp=-9)], None), build((-9, revision, value), row)),
        (single.with_room(), series),
        (single.add(*more), build(row).add(*more)),
    ):
        assert [*map(one.entry, range(len(one.timestamps)))] == [*map(other.entry, range(len(other.timestamps)))]
        for at, known in points:
            assert one.find(at, known) == other.find(at, known)
            assert one.locate(at, known) == other.locate(at, known)
            assert one.at_exactly(at, known) == other.at_exactly(at, known)
            assert one.standing(known, at) == other.standing(known, at)
            assert [*one.entries(known, after=at)] == [*other.entries(known, after=at)]
            assert one.touched(known, 7, at) == other.touched(known, 7, at)
        assert one.settled is other.settled is UNSETTLED
    single.settle(4, 4)
    series.settle(4, 4)
    assert single.settled is series.settled is value


@pytest.mark.parametrize(("timestamp", "value", "expires_at"), [(11, 1, NEVER), (10, CANCELLED, NEVER), (10, 1, 20)])
def test_what_must_be_told_by_the_clock_has_arrays(timestamp: float, value: Any, expires_at: float) -> None:
    """A first version that lies ahead, calls something off or expires is not a ``Single``."""
    series = begun(10, timestamp, 1, value, expires_at)
    assert type(series) is Series
    assert (series.changed, len(series)) == (1, 1)
    series._check()


def test_worked_example() -> None:
    """The example in the module's head: its arrays, and both of its reads."""
    timeline = build(*EXAMPLE)
    assert list(timeline.timestamps) == [10, 20, 30, 30]
    assert list(timeline.revisions) == [1, 3, 2, 4]
    assert timeline.values == [1, 3, 2, CANCELLED]
    assert not timeline.ordered
    assert value_at(timeline, 35, 2) == 2
    assert value_at(timeline, 35, 4) == 3


def test_worked_example_elsewhere() -> None:
    """The same timeline before its first version, between versions, and at each revision."""
    timeline = build(*EXAMPLE)
    assert value_at(timeline, 9, 4) is MISSING
    assert value_at(timeline, 35, 0) is MISSING
    assert value_at(timeline, 35, 1) == 1
    assert value_at(timeline, 25, 2) == 1
    assert value_at(timeline, 25, 3) == 3
    assert value_at(timeline, 30, 3) == 2


def test_append_stays_in_place() -> None:
    """What goes to the end goes into the same timeline; what is back-dated gives a new one and leaves the old alone."""
    timeline = build((10, 1, "a"))
    assert timeline.add(10, 2, "b", NEVER) is timeline
    assert timeline.ordered
    grown = timeline.add(5, 3, "c", NEVER)
    assert grown is not timeline
    assert timeline.values == ["a", "b"]
    assert grown.values == ["c", "a", "b"]
    assert not grown.ordered


def test_equal_timestamps() -> None:
    """Of versions at one timestamp the one learned last is seen, and as of an earlier revision the earlier one."""
    timeline = build((10, 1, "a"), (10, 2, "b"), (20, 3, "z"), (10, 4, "c"))
    assert [value_at(timeline, 10, revision) for revision in range(5)] == [MISSING, "a", "b", "b", "c"]
    assert value_at(timeline, 9.999, 4) is MISSING
    entry = timeline.at_exactly(10, 3)
    assert entry is not None
    assert entry.value == "b"
    assert timeline.at_exactly(11, 4) is None


def test_put_again_after_cancellation() -> None:
    """A cancellation voids only what was learned before it: a later put at the same timestamp stands."""
    timeline = build((10, 1, "a"), (30, 2, "b"), (30, 3, CANCELLED), (30, 4, "c"))
    assert value_at(timeline, 30, 3) == "a"
    assert value_at(timeline, 30, 4) == "c"
    assert timeline.at_exactly(30, 3) is None
    assert [entry.value for entry in timeline.standing(3)] == ["a"]
    assert [entry.value for entry in timeline.standing(4)] == ["a", "c"]


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["v", MISSING, CANCELLED])), max_size=12))
def test_any_order(changes: list[tuple[int, Any]]) -> None:
    """Whatever is added in whatever order, every read is the visibility rule's answer."""
    rows: list[Row] = [
        (float(stamp), revision, f"v{revision}" if value == "v" else value)
        for revision, (stamp, value) in enumerate(changes, 1)
    ]
    timeline = build(*rows)
    for timestamp in range(-1, 8):
        for revision in range(len(rows) + 1):
            assert value_at(timeline, timestamp, revision) == naive(rows, timestamp, revision)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.data())
def test_pruning_never_lies(stamps: list[int], data: st.DataObject) -> None:
    """After pruning every read gives the answer it gave before, or says that it does not know."""
    rows: list[Row] = [(float(stamp), revision, revision) for revision, stamp in enumerate(stamps, 1)]
    timeline = build(*rows)
    for _ in range(2):
        if len(timeline) > 1:
            timeline = timeline.prune(data.draw(st.integers(timeline.start + 1, timeline.size - 1)))
            timeline._check()
    for timestamp in range(-1, 8):
        for revision in range(len(rows) + 1):
            try:
                found = value_at(timeline, timestamp, revision)
            except Pruned:
                continue
            assert found == naive(rows, timestamp, revision)


def test_pruning_floor() -> None:
    """Reads below what was pruned are known to be missing; reads that would have needed it raise Pruned."""
    timeline = build((10, 1, "a"), (20, 2, "b"), (30, 3, "c")).prune(2)
    assert timeline.floor == (10, 1)
    assert len(timeline) == 1
    assert value_at(timeline, 30, 3) == "c"
    assert value_at(timeline, 9, 3) is MISSING
    assert value_at(timeline, 30, 0) is MISSING
    for timestamp, revision in ((10, 3), (29, 3), (30, 2)):
        with pytest.raises(Pruned):
            timeline.locate(timestamp, revision)


def test_frozen_outlives_pruning() -> None:
    """A frozen view of a timeline goes on reading what is pruned from the timeline itself."""
    timeline = build(*((float(number), number, number) for number in range(1, 11)))
    frozen = timeline.frozen()
    timeline = timeline.prune(2).prune(8)
    assert value_at(frozen, 1, 10) == 1
    with pytest.raises(Pruned):
        timeline.find(1, 10)


def test_upto() -> None:
    """Taking the newest revision out again leaves what was there before it."""
    timeline = build(*EXAMPLE).upto(3)
    timeline._check()
    assert timeline.values == [1, 3, 2]
    assert timeline.changed == 3
    assert value_at(timeline, 35, 9) == 2


def test_settle() -> None:
    """What needs no clock is settled: not what is scheduled, not what expires."""
    timeline = build((10, 1, "a"))
    timeline.settle(10, 1)
    assert (timeline.settled, timeline.since) == ("a", 1)
    scheduled = build((10, 1, "a"), (30, 2, "b"))
    scheduled.settle(20, 2)
    assert scheduled.settled is UNSETTLED
    scheduled.settle(30, 2)
    assert scheduled.settled == "b"
    expiring = Series().add(10, 1, "a", 15)
    expiring.settle(10, 1)
    assert expiring.settled is UNSETTLED
    only_cancelled = build((10, 1, "a"), (10, 2, CANCELLED))
    only_cancelled.settle(10, 2)
    assert only_cancelled.settled is MISSING


def test_expiries_start_late() -> None:
    """The first version that expires gives those before it no expiry; a version put before it keeps the order."""
    timeline = Series().add(10, 1, "a", NEVER).add(20, 2, "b", 25).add(15, 3, "c", NEVER)
    assert [timeline.entry(index).expires_at for index in range(3)] == [NEVER, NEVER, 25]
    entry = timeline.find(24, 3)
    assert entry is not None
    assert entry.holds(24)
    assert not entry.holds(25)


def test_retention_leaves_exactly_three() -> None:
    """Retention(max_versions=3) leaves exactly three versions after any number of puts from three on."""
    clock = ManualClock(1000)
    m: ChronoMap[str, int] = ChronoMap(retention=Retention(max_versions=3), clock=clock)
    for number in range(1, 21):
        m.put("k", number)
        clock.advance(1)
        assert [value for _, value in m.history("k")] == list(range(max(1, number - 2), number + 1))
        m._check()
    with pytest.raises(CompactedError):
        m.get("k", 1000)
    with pytest.raises(CompactedError):
        m.put("k", 0, 1000)
