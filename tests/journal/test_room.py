"""Room in SQLite's own log: there before it is needed, only where it is of use, and never in the way."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from faulty import FaultySystem, Step
from logs import batch, plain, put

from chronomap.core.values import MISSING
from chronomap.journal import SqliteJournal
from chronomap.journal.verifying import verify

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file may be made."""
    return tmp_path / "map.chrono"


def length(path: Path) -> int:
    """Of SQLite's own log."""
    return path.with_name(path.name + "-wal").stat().st_size


def is_filling(step: Step) -> bool:
    """Whether it is the filling up; SQLite itself writes a page at most."""
    return step.what == "write" and len(step.content) > 2 * PAGE and not any(step.content)


def test_the_log_seldom_grows(path: Path) -> None:
    """Filling it takes a few steps, and once SQLite begins it anew, none."""
    with SqliteJournal.open(path) as journal:
        lengths = []
        for revision in range(1, 1_501):
            journal.append([put(revision, f"k{revision % 50}", revision)])
            lengths.append(length(path))
        assert len(set(lengths)) < 8
        assert lengths[-1] == lengths[700] == 32 + 1_250 * (24 + PAGE)
    assert verify(path).ok


@pytest.mark.parametrize("durability", ["normal", "off"])
def test_not_where_nothing_is_synced(path: Path, durability: str) -> None:
    """Where a group is not synced, its length need not be either."""
    system = FaultySystem()
    with SqliteJournal.open(path, durability=durability, vfs=system.vfs_name) as journal:
        for revision in range(1, 200):
            journal.append([put(revision, "k", revision)])
    assert not any(map(is_filling, system.steps))
    system.unregister()


def test_without_room_for_it(path: Path) -> None:
    """What cannot be filled up is left as it was, and nothing else happens."""

    def full(step: Step) -> None:
        if is_filling(step):
            raise apsw.FullError("no room for zeros")

    system = FaultySystem(full)
    log = [put(revision, f"k{revision % 5}", revision) for revision in range(1, 100)]
    with SqliteJournal.open(path, vfs=system.vfs_name) as journal:
        for commit in log:
            journal.append([commit])
        assert journal.failure is None
        assert [step.offset for step in system.steps if step.what == "truncate" and step.name.endswith("-wal")]
        assert length(path) == max(s.offset + len(s.content) for s in system.steps if s.name.endswith("-wal") and s.content)
        assert plain(journal.replay()) == plain(log)
    system.unregister()
    assert verify(path).ok


def test_again_after_an_erasure(path: Path) -> None:
    """That cuts the log back to nothing, since what was erased stands in it."""
    with SqliteJournal.open(path) as journal:
        journal.append([put(1, "a", "secret"), put(2, "b", 1)])
        assert length(path) > 60 * PAGE
        journal.append([batch(3, ("erase", "a", MISSING, 1003.0))])
        assert length(path) == 0
        journal.append([put(4, "b", 2)])
        assert length(path) > 60 * PAGE
