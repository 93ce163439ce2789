"""What ``check`` has encoded is written by ``append``, and never anything else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from logs import batch, put

from chronomap.core.records import Record
from chronomap.core.values import MISSING, Captured
from chronomap.errors import ChronoMapTypeError, JournalError
from chronomap.journal import ExactCodec, SqliteJournal, encoding

LONG = "x" * 1000


class Counting:
    """Counts what it encodes."""

    name = ExactCodec.name

    def __init__(self) -> None:
        self.count = 0
        self.exact = ExactCodec()

    def encode(self, value: Any) -> bytes:
        """Count."""
        self.count += 1
        return self.exact.encode(value)

    def decode(self, text: bytes) -> Any:
        """As it is."""
        return self.exact.decode(text)


@pytest.fixture
def codec() -> Counting:
    """A codec that counts."""
    return Counting()


@pytest.fixture
def journal(tmp_path: Path, codec: Counting) -> Iterator[SqliteJournal]:
    """An empty one."""
    with SqliteJournal.open(tmp_path / "map.chrono", durability="off", codec=codec) as opened:
        yield opened


def kept(journal: SqliteJournal) -> int:
    """How many commits are kept for the next group."""
    return len(journal._encoder._kept)


def test_what_was_checked_is_not_encoded_again(journal: SqliteJournal, codec: Counting) -> None:
    """What took long to encode is encoded once, however often it is checked; the next group begins with nothing kept."""
    group = [put(1, "a", Captured([LONG])), batch(2, ("put", True, (1, 2), 5.0), ("delete", "a", MISSING, 5.0)), put(3, "b", 2)]
    for commit in group:
        journal.check(commit.records)
    assert codec.count == 3
    assert kept(journal) == 2
    journal.append(group)
    assert codec.count == 4
    assert kept(journal) == 0
    assert [entry.value for entry in journal.versions("a")] == [[LONG], MISSING]
    assert [entry.value for entry in journal.versions(1)] == [(1, 2)]
    assert [entry.value for entry in journal.versions("b")] == [2]
    assert [repr(record.key) for commit in journal.replay() for record in commit.records] == ["'a'", "True", "'a'", "'b'"]


def test_the_same_records_twice(journal: SqliteJournal, codec: Counting) -> None:
    """The very tuple that was appended can be appended again under another revision; it is encoded anew."""
    first = put(1, "a", LONG)
    journal.check(first.records)
    journal.append([first])
    journal.append([first._replace(revision=2)])
    assert codec.count == 2
    journal.check(first.records)
    journal.append([first._replace(revision=3), first._replace(revision=4)])
    assert codec.count == 3
    assert [entry.value for entry in journal.versions("a")] == [LONG] * 4


def test_equal_records_are_not_the_same(journal: SqliteJournal) -> None:
    """Records equal to those that were checked, but of other types, are written as they are."""
    checked, others = put(1, "a", (1,)), [put(1, "a", (True,)), put(2, "a", (1.0,))]
    journal.check(checked.records)
    assert checked == others[0]
    journal.append(others)
    assert [repr(entry.value) for entry in journal.versions("a")] == ["(1.0,)", "(True,)"]


def test_an_address_that_is_used_again_gives_nothing_away(journal: SqliteJournal) -> None:
    """Were something kept under the id of another tuple, it would not be taken for that one's."""
    checked, other = put(1, "a", (1,)), put(1, "b", (2,))
    journal.check(checked.records)
    journal._encoder._kept[id(other.records)] = journal._encoder._kept[id(checked.records)]
    journal.append([other])
    assert [entry.value for entry in journal.versions("b")] == [(2,)]


def test_what_is_checked_and_never_appended(journal: SqliteJournal) -> None:
    """It is let go of with the next group, whether that succeeds or not, or is empty."""

    def refuse(revision: int, value: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            journal.append([put(revision, "a", value)])

    for use in (
        lambda: journal.append([]),
        lambda: journal.append([put(1, "a", 1)]),
        lambda: refuse(9, 1, JournalError),
        lambda: refuse(2, object(), ChronoMapTypeError),
    ):
        journal.check(put(7, "never", (1,)).records)
        assert kept(journal) == 1
        use()
        assert kept(journal) == 0
    assert list(journal.versions("never")) == []


def test_what_is_kept_is_bounded(journal: SqliteJournal, codec: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is no room for is encoded when it is appended."""
    monkeypatch.setattr(encoding, "ROOM", 1000)
    group = [put(n, "a", "x" * 300 * n) for n in range(1, 10)]
    for commit in group:
        journal.check(commit.records)
    assert kept(journal) == 1
    journal.append(group)
    assert codec.count == 9 + 8
    assert [len(entry.value) for entry in journal.versions("a")] == [300 * n for n in range(9, 0, -1)]


def test_a_refused_value_is_not_kept(journal: SqliteJournal) -> None:
    """Nor is anything that is not a commit's own tuple."""
    with pytest.raises(ChronoMapTypeError):
        journal.check(put(1, "a", object()).records)
    journal.check(list(put(1, "a", LONG).records))
    journal.check(iter(put(1, "a", LONG).records))
    with pytest.raises(ChronoMapTypeError):
        journal.check(iter([Record("put", {1: 2}, 1, MISSING, 5.0, 6.0)]))
    assert kept(journal) == 0
