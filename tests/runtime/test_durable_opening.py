"""Opening maps on disk in circumstances that are not the usual ones."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chronomap import (
    AsyncChronoMap,
    ChronoMap,
    ChronoMapTypeError,
    JournalError,
    JournalInUseError,
    JournalOpenError,
    Retention,
    salvage,
    verify,
)
from chronomap.core.change import PlainCommit
from chronomap.journal import MemoryJournal, Shelf, SqliteJournal
from chronomap.testing import ManualClock


class Full(MemoryJournal):
    """A journal on a disk without room."""

    def append(self, group: Sequence[PlainCommit]) -> None:
        """Refuse."""
        self.failure = JournalError("the disk is full")
        raise self.failure


@pytest.fixture
def overdue() -> tuple[Shelf, ManualClock]:
    """A journal with something that fell due since it was closed."""
    shelf, clock = Shelf(), ManualClock(100.0)
    with ChronoMap.open(MemoryJournal(shelf), clock=clock) as cm:
        cm.put("a", 1)
        cm.put("b", 2, ttl=5)
    clock.advance(10)
    return shelf, clock


def test_a_full_disk_keeps_nobody_from_reading(overdue: tuple[Shelf, ManualClock]) -> None:
    """The expiry cannot be committed, but reads are exact without that, and the map says that it is read-only."""
    shelf, clock = overdue
    with ChronoMap.open(Full(shelf), clock=clock) as cm:
        assert cm.read_only is not None
        assert "full" in cm.read_only
        assert cm.latest() == {"a": 1}
        assert len(cm) == 1
        with pytest.raises(JournalError, match="full"):
            cm.put("c", 3)
    with ChronoMap.open(MemoryJournal(shelf), clock=clock) as cm:
        assert [(change.kind, change.key) for change in cm.replay(2)] == [("expire", "b")]


@pytest.mark.anyio
async def test_nor_on_the_async_face(overdue: tuple[Shelf, ManualClock]) -> None:
    """The same."""
    shelf, clock = overdue
    async with AsyncChronoMap.open(Full(shelf), clock=clock) as cm:
        assert cm.read_only is not None
        assert await cm.latest() == {"a": 1}


def test_verifying_leaves_a_closed_file_alone(tmp_path: Path) -> None:
    """Nothing stays beside it; beside a file that is open, everything does."""
    path = tmp_path / "map.chrono"
    with ChronoMap[str, Any].open(path) as cm:
        cm.put("a", 1)
        there = sorted(tmp_path.iterdir())
        assert verify(path).problems == []
        assert sorted(tmp_path.iterdir()) == there
        cm.put("a", 2)
    assert verify(path).revision == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_may_come_and_go(tmp_path: Path) -> None:
    """A journal can be verified between two writes of the map that owns it, and both go on."""
    path = tmp_path / "map.chrono"
    with ChronoMap[str, Any].open(path) as cm:
        for number in range(5):
            cm.put("a", number)
            assert verify(path).revision == number + 1
    with SqliteJournal.open(path) as journal:
        assert journal.revision == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [({"resident": 5}, "resident is a Retention"), ({"codec": "json"}, "a codec has a name"), ({"retention": 5}, "got int")],
)
def test_options_that_are_none(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    """They are refused at once, on both faces, and no file is made."""
    for face in (ChronoMap, AsyncChronoMap):
        with pytest.raises(ChronoMapTypeError, match=message):
            face.open(tmp_path / "map.chrono", **options)
    assert not list(tmp_path.iterdir())


def test_a_map_that_is_not_open_yet(tmp_path: Path) -> None:
    """Who forgets to await the opening is told so."""
    opened: Any = AsyncChronoMap.open(tmp_path / "map.chrono")
    with pytest.raises(AttributeError, match=r"has no 'get': write `async with"):
        opened.get("a")


def test_copies_need_a_directory(tmp_path: Path) -> None:
    """A backup, a saved map and what is salvaged alike."""
    nowhere = tmp_path / "no" / "where.chrono"
    with ChronoMap[str, int].open(tmp_path / "map.chrono", retention=Retention(max_versions=3)) as cm:
        cm.put("a", 1)
        for copy in (cm.backup, cm.save_journal):
            with pytest.raises(JournalOpenError, match="is not a directory; make it first"):
                copy(nowhere)
    with pytest.raises(JournalOpenError, match="is not a directory; make it first"):
        salvage(tmp_path / "map.chrono", nowhere)


def test_compacting_where_there_is_nothing_to_do(tmp_path: Path) -> None:
    """The file does not grow by an index that nobody needs."""
    path = tmp_path / "map.chrono"
    with ChronoMap[str, int].open(path) as cm:
        for number in range(2_000):
            cm.put_many({f"k{number % 50}": number})
    before = path.stat().st_size
    with ChronoMap[str, int].open(path) as cm:
        cm.compact()
        cm.vacuum()
    assert path.stat().st_size <= before
    assert verify(path).ok


def test_what_a_refused_put_committed_on_the_way_is_told() -> None:
    """An expiry that fell due before it: callbacks hear of that."""
    clock, told = ManualClock(1000.0), list[Any]()
    with ChronoMap[str, Any].open(MemoryJournal(), clock=clock) as cm:
        cm._owner.alarm = lambda: True  # no reaper
        cm.on_change(lambda *change: told.append(change))
        cm.put("a", 1, ttl=5)
        clock._now = 1010.0
        with pytest.raises(ChronoMapTypeError):
            cm.put("b", object())
        cm.put("c", 2)
        assert told[1:] == [("a", 1, None, 1005.0), ("c", None, 2, 1010.0)]


@pytest.mark.anyio
async def test_plain_puts_grow_old() -> None:
    """With a retention by age, the reaper hears of what they leave to be pruned."""
    clock = ManualClock(1000.0)
    async with AsyncChronoMap[str, int].open(MemoryJournal(), clock=clock, retention=Retention(max_age=5)) as cm:
        await cm.put("k", 1)
        clock.advance(1)
        await cm.put("k", 2)
        assert cm._owner.alarm_due < float("inf")


def test_a_refused_group_leaves_the_newest_change_known() -> None:
    """Also that of a key whose newest version, dated back, has been pruned."""

    class Refusing(MemoryJournal):
        refuses = False

        def append(self, group: Sequence[PlainCommit]) -> None:
            if self.refuses:
                raise ChronoMapTypeError("refused")
            super().append(group)

    journal = Refusing()
    with ChronoMap[str, Any].open(journal, clock=lambda: 1000.0) as cm:
        cm.put("k", "x")
        cm.put("k", "late", timestamp=900.0)
        cm.prune_history("k", keep_last=1)
        journal.refuses = True
        with pytest.raises(ChronoMapTypeError):
            cm.put("k", "no")
        journal.refuses = False
        assert cm.put("k", "y", if_revision=2) == 3


@pytest.mark.parametrize("retained", [0, 4096])
def test_what_the_last_commit_brought_back_expires(tmp_path: Path, retained: int) -> None:
    """The map was closed right after a deletion was undone that had hidden a value when it would have expired."""
    clock = ManualClock(10.0)
    with ChronoMap.open(tmp_path / "map.chrono", clock=clock) as cm:
        cm.put("a", 1, ttl=10)
        clock.advance(6)
        cm.delete("a", timestamp=15)
        clock.advance(15)
        assert cm.undo(2) == 3
    with ChronoMap.open(tmp_path / "map.chrono", clock=clock, feed_retention=retained) as cm:
        assert [(change.kind, change.revision, change.timestamp) for change in cm.replay(2)] == [
            ("undo", 3, 15),
            ("expire", 4, 20),
        ]


@pytest.mark.parametrize("selection", [{}, {"key": "b"}, {"prefix": "b"}, {"where": bool}, {"latest_only": True}])
def test_a_stream_passes_commits_nothing_is_left_of(tmp_path: Path, selection: dict[str, Any]) -> None:
    """The journal keeps their numbers, so they are in the feed, without a change."""
    path = tmp_path / "map.chrono"
    with ChronoMap[str, Any].open(path) as cm:
        cm.put("a", 1)
        cm.put_many({"a": 2})
        cm.erase("a")
        cm.put("b", 4)
    with ChronoMap[str, Any].open(path) as cm, cm.watch(since=0, timeout=0, **selection) as stream:
        seen = [(change.revision, change.kind, change.key) for change in stream]
        assert seen[-1] == (4, "put", "b")
        assert set(seen[:-1]) <= {(3, "erase", "a")}
        assert stream.revision == 4


@pytest.mark.filterwarnings("ignore:a durable map was not closed:ResourceWarning")
def test_a_map_that_was_dropped_can_be_opened_again(tmp_path: Path) -> None:
    """Who forgot to close a map opens the file again at once: its writer is waited for. Not so one that is still there."""
    for number in range(20):
        cm = ChronoMap[str, int].open(tmp_path / "map")
        assert cm.get("number", default=-1) == number - 1
        cm["number"] = number
        del cm
    with ChronoMap[str, int].open(tmp_path / "map") as cm:
        assert cm["number"] == 19
        with pytest.raises(JournalInUseError, match="in this process"):
            ChronoMap.open(tmp_path / "map")


class Slow(MemoryJournal):
    """A journal that takes until it is told to close."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.go_on = threading.Event()

    def close(self) -> None:
        """Wait first."""
        self.go_on.wait(10)
        super().close()


class Interrupt(Exception):
    """What the signal raises."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such signals")
def test_an_interrupted_close_can_be_made_again() -> None:
    """An interrupt while closing waits for the disk: the map has not ended by that, and who closes again waits for it."""

    def strike(*_: object) -> None:
        raise Interrupt

    journal = Slow(Shelf())
    cm = ChronoMap[str, int].open(journal)
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(2):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Interrupt):
                cm.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not cm._owner.ended(0.01)
    threading.Timer(0.02, journal.go_on.set).start()
    cm.close()
    assert journal.go_on.is_set()
    assert cm._owner.ended(0)
