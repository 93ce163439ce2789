"""Maps whose older history is in the journal only: the same answers, from less memory."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chronomap import AsyncChronoMap, ChronoMap, CompactedError, LaggedError, Retention
from chronomap.core.timeline import NOT_LOADED, Shape
from chronomap.errors import ChronoMapError, JournalError, NotResidentError
from chronomap.journal import MemoryJournal, Shelf, SqliteJournal
from chronomap.testing import ManualClock
from tests.journal.faulty import FaultySystem, NthFails

SEEDS = range(6)
STEPS = 120
KEYS = "abcd"
FEW = Retention(max_versions=2)


class Pair:
    """The same map twice: all in memory, and with two versions of a key in memory; both go through the same."""

    def __init__(self, seed: int, path: Path) -> None:
        self.random = random.Random(seed)
        self.clock = ManualClock(1000.0)
        self.plain: ChronoMap[Any, Any] = ChronoMap(clock=self.clock)
        self.shelf, self.path, self.file = Shelf(), path, seed % 2 == 1
        self.durable = self.open()

    def open(self) -> ChronoMap[Any, Any]:
        """The durable one, on a file or in a list."""
        limits = Retention(max_versions=2, max_age=self.random.choice([None, 20]))
        journal = SqliteJournal.open(self.path, durability="off") if self.file else MemoryJournal(self.shelf)
        return ChronoMap.open(journal, clock=self.clock, resident=limits)

    def reopen(self) -> None:
        """Close it and open it again."""
        self.durable.close()
        self.durable = self.open()

    def same(self, call: Callable[[ChronoMap[Any, Any]], Any]) -> None:
        """Both answer, or refuse, alike."""
        outcomes = []
        for cm in (self.plain, self.durable):
            try:
                outcomes.append(("returned", call(cm)))
            except ChronoMapError as error:
                outcomes.append(("refused", type(error)))
        assert outcomes[0] == outcomes[1]

    def somewhen(self) -> float:
        """A timestamp within what happens."""
        return 990 + self.random.random() * 80

    def write(self) -> None:
        """One write to both."""
        key, when, past = self.random.choice(KEYS), self.somewhen(), self.random.randint(0, 10)
        value: Any = self.random.choice([1, [2], {"n": past}])
        revision = max(0, self.plain.revision - past)
        ahead = self.clock() + past

        def transaction(cm: ChronoMap[Any, Any]) -> None:
            with cm.transaction() as tx:
                tx.put("a", value)
                tx.delete("b")

        what: list[Callable[[ChronoMap[Any, Any]], Any]] = [
            *[lambda cm: cm.put(key, value)] * 8,
            lambda cm: cm.put(key, value, timestamp=when),
            lambda cm: cm.put(key, value, timestamp=ahead),
            lambda cm: cm.put(key, value, ttl=3),
            lambda cm: cm.delete(key),
            lambda cm: cm.delete(key, when),
            lambda cm: cm.rollback(revision),
            lambda cm: cm.undo(revision),
            lambda cm: cm.undo(max(1, revision // 3)),
            lambda cm: cm.touch(key, 4),
            lambda cm: cm.unschedule(key),
            transaction,
        ]
        self.same(self.random.choice(what))

    def step(self) -> None:
        """A write, or time passes, or the map is pruned or reopened."""
        chance = self.random.random()
        if chance < 0.05:
            self.reopen()
        elif chance < 0.1:
            self.clock.advance(self.random.choice([0.5, 2, 7]))
            self.same(lambda cm: cm.clean_expired_keys())
        elif chance < 0.12:
            key, keep = self.random.choice(KEYS), self.random.randint(1, 6)
            self.same(lambda cm: cm.prune_history(key, keep_last=keep))
        else:
            self.write()

    def check(self) -> None:
        """Both tell the same."""
        assert self.plain.revision == self.durable.revision
        for key in KEYS:
            when = self.random.choice([None, self.somewhen()])
            revision = self.random.choice([None, self.random.randint(0, self.plain.revision)])
            self.same(lambda cm: cm.get(key, when, revision=revision))
            self.same(lambda cm: cm.version(key, when, revision=revision))
            self.same(lambda cm: cm.history(key))
            self.same(lambda cm: cm.versions(key, scheduled=True))
            self.same(lambda cm: cm.get_range(key, 1005, 1010))
        at = self.somewhen()
        self.same(lambda cm: cm.latest(at))
        self.same(lambda cm: (len(cm), list(cm.items())))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_answers(seed: int, tmp_path: Path) -> None:
    """Whatever is written, read, pruned and reopened, at every timestamp and revision."""
    print("seed", seed)
    pair = Pair(seed, tmp_path / "map.chrono")
    for _ in range(STEPS):
        pair.step()
        pair.check()
    pair.same(lambda cm: {name: part for name, part in cm.to_dict().items() if name not in ("notes", "pruned_to")})
    pair.reopen()
    pair.check()
    pair.durable._check()
    pair.durable.close()


@pytest.fixture
def shelf() -> Shelf:
    """A journal with 50 versions of each of three keys; those of "a" are lists."""
    shelf = Shelf()
    with ChronoMap.open(MemoryJournal(shelf), clock=ManualClock(1000.0)) as cm:
        for number in range(50):
            cm.put("a", [number], timestamp=number)
            cm.put_many({"b": number, "c": number}, timestamp=number)
    return shelf


@pytest.fixture
def few(shelf: Shelf) -> Iterator[ChronoMap[Any, Any]]:
    """A map on it with two versions of each key in memory."""
    with ChronoMap.open(MemoryJournal(shelf), clock=ManualClock(1000.0), resident=FEW) as cm:
        yield cm


def in_memory(cm: Any) -> int:
    """How many versions are."""
    return sum(map(len, cm._store.timelines.values()))


def test_only_recent_history_is_in_memory(few: ChronoMap[Any, Any]) -> None:
    """After opening, after reading everything, and while more is written."""
    assert in_memory(few) == 6
    assert few.history("a") == [(float(number), [number]) for number in range(50)]
    assert in_memory(few) == 6
    for number in range(1000):
        few.put("b", number)
    assert in_memory(few) < 50
    assert few.get("b", revision=few.revision - 500) == 499
    assert few.get("b", 10) == 10


def test_by_the_wall_clock(shelf: Shelf) -> None:
    """What is in force is told by the map's clock, which is the wall clock if it was given none."""
    with ChronoMap.open(MemoryJournal(shelf), resident=FEW) as cm:
        assert in_memory(cm) == 6


def test_what_was_read_is_one_s_own(few: ChronoMap[Any, Any]) -> None:
    """A value from the journal may be changed like any other."""
    few.history("a")[0][1].append("spoilt")
    few["a"].append("spoilt")
    assert few.get("a", 0) == [0]
    assert few.get("a", 49) == [49]


def test_a_snapshot_keeps_what_was_in_memory(few: ChronoMap[Any, Any]) -> None:
    """Letting go of history does not reach it, nor does pruning."""
    snapshot = few.snapshot()
    for number in range(100):
        few.put("b", number + 100)
    few.prune_history("b", keep_last=1)
    assert snapshot["b"] == 49
    assert snapshot.get("b", 48) == 48
    with pytest.raises(CompactedError):
        few.get("b", 48)


def test_pruning_and_erasing_reach_the_journal(shelf: Shelf, few: ChronoMap[Any, Any]) -> None:
    """History that is not in memory is pruned and erased too; reopened in full, the map knows no more."""
    assert few.prune_history("a", keep_last=10) == 40
    few.history("b")
    assert few.erase("b") == 50
    assert few.history("b") == []
    few.close()
    with ChronoMap.open(MemoryJournal(shelf), clock=ManualClock(1000.0)) as again:
        assert len(again.history("a")) == 10
        assert again.history("b") == []
        with pytest.raises(CompactedError):
            again.get("a", 3)


def test_retention_of_what_is_not_in_memory(shelf: Shelf) -> None:
    """A map that keeps more than is in memory forgets what it should all the same, when it has nothing else to do."""
    journal = MemoryJournal(shelf)
    with ChronoMap.open(journal, clock=ManualClock(1000.0), resident=FEW, retention=Retention(max_versions=20)) as cm:
        for number in range(100):
            cm.put("a", number)
        assert cm._store.timelines["a"].floor == NOT_LOADED
        cm.prune_all_history()
        assert len(cm.history("a")) == 20
        for number in range(100):
            cm.put("a", number)
        assert "a" in cm._store.overdue
        cm._owner.call(cm._store.retain_overdue, ["a"])  # what the writer does when it is idle
        assert "a" not in cm._store.overdue
    with ChronoMap.open(MemoryJournal(shelf), clock=ManualClock(1000.0)) as everything:
        assert len(everything.history("a")) == 20


@pytest.mark.anyio
async def test_the_event_loop_does_not_wait(shelf: Shelf) -> None:
    """What is not in memory is read in the journal's thread; calls without await say what to do instead."""
    asked: list[Any] = []

    class Watched(MemoryJournal):
        def versions(self, key: Any, before: Any = None) -> Any:
            asked.append((key, threading.current_thread().name))
            return super().versions(key, before)

    async with AsyncChronoMap.open(Watched(shelf), clock=ManualClock(1000.0), resident=FEW) as cm:
        asked.clear()  # what opening asked for: what the newest changes had replaced
        assert await cm.get("a") == [49]
        assert asked == []
        assert await cm.get("a", 3) == [3]
        assert asked == [("a", "chronomap-journal")]
        assert len(await cm.history("b")) == 50
        assert await cm.latest(7) == {"a": [7], "b": 7, "c": 7}
        early = await cm.at(5)
        assert await early.get("a") == [5]
        assert early["a"] == [5], "it has been read before"
        await cm.put("a", "new")
        old = await cm.at(5, revision=20)
        with pytest.raises(NotResidentError, match="await"):
            (await cm.at(5)).__getitem__("a")
        assert await old.get("a") == [5]
        assert len([change async for change in cm.replay(0)]) == 151
        fresh: AsyncChronoMap[Any, Any] = AsyncChronoMap()
        await fresh.merge(cm)
        assert await fresh.history("b") == [(float(number), number) for number in range(50)]
        assert (await cm.to_dict())["revision"] == cm.revision


def test_a_failed_journal_goes_on_being_read(tmp_path: Path) -> None:
    """Also what is not in memory, though the index by key was behind and cannot be brought up to date any more."""
    fault = NthFails(1 << 30, for_ever=True)
    system = FaultySystem(fault)
    try:
        journal = SqliteJournal.open(tmp_path / "map.chrono", vfs=system.vfs_name)
        with ChronoMap.open(journal, clock=ManualClock(1000.0), resident=FEW) as cm:
            for number in range(50):
                cm.put("a", [number], timestamp=number)
                cm.put("b", number, timestamp=50 - number)
            fault.n = 0
            with pytest.raises(JournalError):
                cm.put("a", "lost")
            assert in_memory(cm) < 60
            assert cm.history("a") == [(float(number), [number]) for number in range(50)]
            assert cm.history("b") == [(float(50 - number), number) for number in reversed(range(50))]
            assert cm.get("a", 7) == [7]
    finally:
        fault.for_ever = False
        system.unregister()


def test_opening_reads_no_more_of_the_log_than_the_feed_retains() -> None:
    """The feed retains changes, not commits: of large commits it takes few."""
    shelf = Shelf()
    with ChronoMap[str, int].open(MemoryJournal(shelf)) as cm:
        for number in range(40):
            cm.put_many({f"k{n}": number for n in range(50)})
        live = cm._store.feed.floor
    for resident in (None, Retention(max_versions=1)):
        with ChronoMap[str, int].open(MemoryJournal(shelf), feed_retention=120, resident=resident) as cm:
            assert cm._store.feed.floor == 37
            assert [len(list(changes)) for changes in cm.watch(since=37, timeout=0).commits()] == [50] * 3
            assert [change.previous for change in cm.watch("k7", since=37, timeout=0)] == [36, 37, 38]
            with pytest.raises(LaggedError):
                next(cm.watch(since=36, timeout=0))
    assert live == 0


def test_a_key_that_is_put_again_and_again_is_read_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened with little of it resident, what the feed has to tell of it is not put together one version at a time."""
    shelf, steps = Shelf(), 0
    with ChronoMap[str, int].open(MemoryJournal(shelf)) as cm:
        for number in range(1000):
            cm.put("k", number)
    extended = Shape.extended

    def counted(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return extended(*arguments)

    monkeypatch.setattr(Shape, "extended", counted)
    with ChronoMap[str, int].open(MemoryJournal(shelf), resident=Retention(max_versions=1)) as cm:
        assert steps <= 12
        assert [change.previous for change in cm.watch(since=1, timeout=0)] == list(range(999))
