"""Long histories in blocks: they read as short ones do, and a late version touches nothing but its block."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronomap import ChronoMap, Retention
from chronomap.core import timeline as timelines
from chronomap.core.records import CANCELLED, NEVER
from chronomap.core.timeline import BLOCK, NOT_LOADED, WIDE, Chain, Pruned, Series, Timeline
from chronomap.core.values import MISSING
from chronomap.testing import ManualClock

Row = tuple[float, int, Any, float]

rows = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["v", "w", MISSING, CANCELLED]), st.sampled_from([NEVER, NEVER, 5.0])),
    min_size=4,
    max_size=12,
).map(lambda told: [(float(at), number, value, until) for number, (at, value, until) in enumerate(told, 1)])


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    """So short are the blocks meanwhile."""
    timelines.BLOCK, before = size, timelines.BLOCK  # type: ignore[misc]
    try:
        yield
    finally:
        timelines.BLOCK = before  # type: ignore[misc]


def build(told: list[Row], size: int) -> Timeline:
    """A timeline of versions that were learned in this order, in blocks of such a size."""
    with blocks_of(size):
        timeline: Timeline = Series()
        for timestamp, revision, value, until in told:
            timeline = timeline.add(timestamp, revision, value, until)
            timeline.changed = revision
    timeline._check()
    return timeline


def asked(call: Any, *arguments: Any) -> Any:
    """What a call answers; iterators as lists, and that it has been pruned as an answer like others."""
    try:
        answer = call(*arguments)
    except Pruned:
        return Pruned
    return list(answer) if isinstance(answer, Iterator) else answer


def answers(timeline: Timeline) -> list[Any]:
    """Everything that can be asked of a timeline, at every point and at some beyond."""
    first = timeline.start
    found: list[Any] = [list(timeline), len(timeline), timeline.oldest, timeline.partial, timeline.changed]
    found += [list(timeline.known()), timeline.values[-1], timeline.timestamps[-1], timeline.revisions[-1]]
    found += [list(timeline.stamps(first, timeline.size)), list(timeline.stamps(first + 1, timeline.size - 1))]
    found += [timeline.entry(index) for index in range(first, timeline.size)]
    for at in range(-1, 8):
        found.append(max(timeline.index(at) - first, 0))
        for known in range(14):
            index = asked(timeline.locate, at, known)
            found.append(index if index is Pruned or index < 0 else index - first)
            found.append(asked(timeline.find, at, known))
            found.append(timeline.at_exactly(at, known))
            found.append([timeline.standing(known, at), list(timeline.entries(known, after=at))])
            found.append(timeline.touched(known, 13, at))
    return found


def check_columns(timeline: Timeline) -> None:
    """They are the same as its entries, wherever they begin and end; and they are there if all are known."""
    for known, start, until in product(range(14), range(-1, 8, 2), range(-1, 8)):
        columns = timeline.columns(known, start, until)
        if columns is None:
            assert known < max(timeline.known())
            continue
        entries = [entry for entry in timeline.entries(known, until) if entry.timestamp >= start]
        assert [*columns[0]] == [entry.timestamp for entry in entries]
        assert [*columns[1]] == [entry.value for entry in entries]


def settled(timeline: Timeline) -> Any:
    """What holds at 5, if that needs no clock to tell."""
    timeline.settled = timelines.UNSETTLED
    timeline.settle(5, 13)
    return timeline.settled


@settings(max_examples=60)
@given(rows, st.integers(1, 3), st.data())
def test_it_reads_as_four_arrays(told: list[Row], size: int, data: st.DataObject) -> None:
    """Whatever is asked, as it is and as it becomes: the answers of a timeline that is not in blocks."""
    timeline, whole = build(told, size), build(told, BLOCK)
    assert isinstance(whole, Series)
    whole.ordered = whole.ordered and not isinstance(timeline, Chain)  # it may have been cut for a late version only
    assert answers(timeline) == answers(whole)
    check_columns(timeline)
    check_columns(whole)
    assert settled(timeline) is settled(whole)
    assert answers(timeline.frozen()) == answers(whole.frozen())
    assert list(timeline.upto(5)) == list(whole.upto(5))
    assert list(timeline.widened()) == list(whole)
    late = (data.draw(st.integers(-1, 7)), 13, "late", 9.0)
    with blocks_of(size):
        grown = timeline.add(*late)
    grown.changed = 13
    grown._check()
    assert list(grown) == sorted([*whole, late], key=lambda entry: entry[:2])


@settings(max_examples=60)
@given(rows, st.integers(1, 3), st.data())
def test_it_forgets_as_four_arrays(told: list[Row], size: int, data: st.DataObject) -> None:
    """Pruned or let go of, once and again, it has the same floor and knows the same; what was frozen goes on."""
    timeline, whole = build(told, size), build(told, BLOCK)
    assert isinstance(whole, Series)
    whole.ordered = whole.ordered and not isinstance(timeline, Chain)
    frozen, before = timeline.frozen(), answers(timeline)
    for _ in range(2):
        if len(timeline) == 1:
            break
        gone = data.draw(st.integers(1, len(timeline) - 1))
        forget = data.draw(st.sampled_from(["prune", "evict"])) if timeline.floor is None else "prune"
        timeline = getattr(timeline, forget)(timeline.start + gone)
        whole = getattr(whole, forget)(whole.start + gone)
        assert timeline.floor == whole.floor
        assert (timeline.floor == NOT_LOADED) is timeline.partial
        timeline._check()
        whole.ordered = timeline.ordered
        assert answers(timeline) == answers(whole)
        check_columns(timeline)
    assert answers(frozen) == before


def test_a_late_version_copies_one_block() -> None:
    """However long the history: all other blocks are the same objects afterwards, and none grows without end."""
    timeline: Timeline = Series()
    for number in range(20 * BLOCK):
        timeline = timeline.add(float(number), number + 1, number, NEVER)
    assert isinstance(timeline, Series)  # nothing came late
    timeline = timeline.add(0.5, 20 * BLOCK + 1, "late", NEVER)
    assert isinstance(timeline, Chain)
    assert len(timeline.blocks) == 19
    for late in range(3 * BLOCK):
        before = timeline
        timeline = timeline.add(2 * BLOCK + late / (4 * BLOCK), 20 * BLOCK + 2 + late, "late", NEVER)
        assert isinstance(timeline, Chain)
        there = {id(block) for block in before.blocks}
        assert 1 <= sum(id(block) not in there for block in timeline.blocks) <= 2
    timeline.changed = 23 * BLOCK + 1
    timeline._check()
    assert max(map(len, timeline.blocks)) <= 2 * BLOCK + 1
    assert min(map(len, timeline.blocks)) >= BLOCK / 2


def test_what_is_appended_stays_in_place() -> None:
    """A chain goes on as a series does: what comes last goes into its last block, and that is cut when it must be copied."""
    timeline = build([(float(at), number, number, NEVER) for number, at in enumerate([1, 3, 4, 5, 6, 2], 1)], 1)
    assert isinstance(timeline, Chain)
    last = timeline.blocks[-1]
    for number in range(7, 20):
        assert timeline.add(float(number), number, number, NEVER) is timeline
        assert timeline.blocks[-1] is last
    timeline.with_room()
    timeline.values.append("plain")
    timeline.revisions.append(20)
    timeline.timestamps.append(20.0)
    assert timeline.find(21, 20) == (20.0, 20, "plain", NEVER)
    with blocks_of(1):
        cut = timeline.add(18.5, 21, "late", NEVER)
    assert isinstance(cut, Chain)
    assert len(cut.blocks) > len(timeline.blocks)
    assert len(last) == 16  # readers may still be in it


def test_versions_of_one_timestamp_stay_together() -> None:
    """Where all have the same timestamp nothing can be cut, and where many have they make one block."""
    same = build([(1.0, number, number, NEVER) for number in range(1, 9)] + [(0.0, 9, "late", NEVER)], 1)
    assert isinstance(same, Series)
    assert len(same) == 9
    many = [(float(at), number, number, NEVER) for number, at in enumerate([0, 1, 1, 1, 1, 1, 2, 3, 0.5], 1)]
    timeline = build(many, 1)
    assert isinstance(timeline, Chain)
    assert 5 in [len(block) for block in timeline.blocks]


def test_a_history_as_of_an_old_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that were learned later are passed over as a whole, not entry by entry."""
    timeline: Timeline = Series().add(0.0, 1, "first", NEVER).add(1e9, 2, "last", NEVER)
    for number in range(10 * BLOCK):
        timeline = timeline.add(float(10 * BLOCK - number), number + 3, number, NEVER)
    assert isinstance(timeline, Chain)
    looked = 0
    locate = Series.locate

    def counted(self: Series, timestamp: float, revision: int) -> int:
        nonlocal looked
        looked += 1
        return locate(self, timestamp, revision)

    monkeypatch.setattr(Series, "locate", counted)
    entry = timeline.find(5.0 * BLOCK, 2)
    assert entry is not None
    assert entry.value == "first"
    assert looked == 1


def test_loading_cuts_what_came_out_of_order(tmp_path: Path) -> None:
    """A long history with late versions comes back from a file in blocks, another one in four arrays."""
    clock = ManualClock(10_000)
    with ChronoMap[str, int](clock=clock) as m:
        for number in range(20):
            m.put("late", number, timestamp=1_000 - number)
            m.put("steady", number, timestamp=1_000 + number)
        m.save_json(str(tmp_path / "map.json"))
        history = m.history("late")
    with blocks_of(2):
        loaded = ChronoMap.load_json(str(tmp_path / "map.json"), clock=clock)
    assert isinstance(loaded._store.timelines["late"], Chain)
    assert isinstance(loaded._store.timelines["steady"], Series)
    assert loaded.history("late") == history
    loaded._check()
    loaded.close()


def test_retention_makes_it_one_again() -> None:
    """What is left of a chain when only one block remains is a plain timeline; what it holds is settled all the while."""
    with blocks_of(2), ChronoMap[str, int](clock=ManualClock(100)) as m:
        for number in range(12):
            m.put("k", number, timestamp=(number * 7) % 12)
        assert isinstance(m._store.timelines["k"], Chain)
        assert m["k"] == 5  # 5 * 7 % 12 = 11
        m.prune_history("k", keep_last=7)
        m._check()
        assert len(m.history("k")) == 7
        m.prune_history("k", keep_last=1)
        assert isinstance(m._store.timelines["k"], Series)
        assert m.history("k") == [(11.0, 5)]
        m._check()


def test_with_retention_and_late_versions(seed: Any) -> None:
    """A limit holds whatever comes late, and what remains are the newest."""
    clock = ManualClock(1_000)
    with blocks_of(2), ChronoMap[str, int](clock=clock, retention=Retention(max_versions=9)) as m:
        told: list[tuple[float, int]] = []
        for number in range(200):
            clock.advance(1)
            newest = sorted(told)[-9:]
            least = newest[0][0] if len(told) > 9 else 0.0
            at = seed.uniform(max(least, clock() - 20), clock())
            m.put("k", number, timestamp=at)
            told = sorted([*newest, (at, number)])
            assert m.history("k") == told[-9:]
            m._check()


def test_wide_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer revisions find room in all blocks."""
    timeline = build([(float(at), number, number, NEVER) for number, at in enumerate([1, 3, 4, 5, 6, 2], 1)], 1)
    monkeypatch.setattr(Series, "code", WIDE)
    wide = timeline.widened()
    assert isinstance(wide, Chain)
    assert {block.revisions.typecode for block in wide.blocks} == {WIDE}
    assert list(wide) == list(timeline)


def test_readers_while_versions_come_late(seed: Any) -> None:
    """Threads that read the past never see it torn, while versions come in before, after and between."""
    clock = ManualClock(1e6)
    with blocks_of(2), ChronoMap[str, int](clock=clock) as m:
        for number in range(0, 100, 10):
            m.put("k", number, timestamp=float(number))
        wrong: list[Any] = []
        done = threading.Event()

        def read(base: int) -> None:
            while not done.is_set():
                for at in range(base, 100, 10):
                    value = m.get("k", timestamp=at)
                    if not at - 9 <= value <= at:
                        wrong.append((at, value))
                snapshot = m.snapshot()
                if snapshot.history("k") != sorted(snapshot.history("k")):
                    wrong.append(snapshot.history("k"))

        threads = [threading.Thread(target=read, args=(base,)) for base in (0, 5, 9)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(400):
                at = seed.randrange(100)
                m.put("k", at, timestamp=float(at))
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert not wrong
        m._check()
