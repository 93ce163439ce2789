"""Reading the log of a file, in order, and trusting nothing: the walk that loading, replaying and verifying share.

The rows of ``records`` come by id, those of ``commits`` by revision; ``Pace`` steps through both and holds them against
each other. A worked example: a put of one key (revision 1), a batch of two (2), a put that was pruned (3)::

    records   id 1 revision 1    id 2 revision 2    id 3 revision 2
    commits   revision 2 size 2  revision 3 size 0

Record 1 is a commit by itself. Record 2 opens commit 2, which is done when record 3 has been seen and the sum of both
checksums is the one in the header. Commit 3 has no records; it is passed when the next record, or the end, shows it due.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator
from math import inf
from typing import Any, Final

from chronomap.core.meta import NOTHING, Meta
from chronomap.core.records import CANCELLED, NEVER, Commit, Record
from chronomap.core.values import MISSING
from chronomap.errors import ChronoMapValueError, CorruptJournalError
from chronomap.journal.codec import Codec, decode_key
from chronomap.journal.schema import header_checksum, record_checksum

COLUMNS: Final = "id, revision, kind, key, exact, value, timestamp, expires_at, instant, checksum"

UNREADABLE: Final = (AttributeError, KeyError, OverflowError, TypeError, ValueError, struct.error)
"""What comes of columns that are not of the type they should be."""


class Pace:
    """Where a walk is, and what must come next.

    Attributes:
        newest: The newest revision that has begun.
        due: The revision of the next header; 0 while a commit is open, so that no plain record passes.
        instants: Those of all commits that have begun.
        metas: What is noted with commits, by revision.
        headers: How many have been passed.
    """

    def __init__(self, connection: Any, after: int, until: int) -> None:
        self._headers = connection.execute(
            "SELECT * FROM commits WHERE revision > ? AND revision <= ? ORDER BY revision", (after, until)
        )
        self.newest = after
        self.headers = 0
        self.instants = array("d")
        self.metas: dict[int, Meta] = {}
        self._left = self._sum = 0
        self._header: tuple[Any, ...] | None = None
        self.due: float = 0
        self._advance()

    def _advance(self) -> None:
        self._header = next(self._headers, None)
        self.due = inf if self._header is None else self._header[0]

    def step(self, revision: int, checksum: int, instant: float) -> None:
        """Take the next record."""
        if self._left:
            self._belongs(revision, checksum)
            return
        self._pass_empty()
        if self.due == self.newest + 1:
            self._open()
            self._belongs(revision, checksum)
        elif revision == self.newest + 1:
            self.newest = revision
            self.instants.append(instant)
        else:
            raise self.corrupt(f"revision {self.newest + 1} is missing: after {self.newest} comes {revision}")

    def end(self, revision: int) -> None:
        """Nothing comes any more: the walk must have reached a revision."""
        if self._left:
            raise self.corrupt(f"revision {self.newest} lacks {self._left} of its records")
        self._pass_empty()
        if self.newest != revision:
            raise self.corrupt(f"the newest revision is {revision}, but only {self.newest} are there")

    def _belongs(self, revision: int, checksum: int) -> None:
        if revision != self.newest:
            raise self.corrupt(f"revision {self.newest} lacks {self._left} of its records")
        self._left -= 1
        self._sum -= checksum
        if not self._left:
            if self._sum:
                raise self.corrupt(f"the records of revision {revision} are not those that were written")
            self._advance()

    def _pass_empty(self) -> None:
        while self.due == self.newest + 1 and self._header is not None and self._header[2] == 0:
            self._open()
            self._advance()

    def _open(self) -> None:
        try:
            revision, instant, size, total, meta, checksum = self._header or ()
            if header_checksum(revision, instant, size, total, meta) != checksum or size < 0:
                raise ValueError
            if meta is not None:
                self.metas[revision] = read_meta(meta)
        except UNREADABLE as error:
            raise self.corrupt(f"the header of revision {self.newest + 1} is damaged") from error
        self.newest = revision
        self.headers += 1
        self.instants.append(instant)
        self._left, self._sum, self.due = size, total, 0

    def corrupt(self, message: str) -> CorruptJournalError:
        """An error that says how far all is well."""
        return CorruptJournalError(message, safe=max(0, self.newest - bool(self._left)))


# -- rows --------------------------------------------------------------------------------------------------------------


def is_whole(row: tuple[Any, ...]) -> bool:
    """Whether a row of ``records`` is as it was written."""
    try:
        return bool(record_checksum(*row[:9]) == row[9])
    except UNREADABLE:
        return False


def damaged(row: tuple[Any, ...], safe: int) -> CorruptJournalError:
    """An error about a row of ``records``."""
    return CorruptJournalError(f"record {row[0]}, of revision {row[1]}, is damaged", safe=safe)


def value_of(text: bytes | None, codec: Codec, revision: int) -> Any:
    """What a column ``value`` stands for."""
    if text is None:
        return MISSING
    if not text:
        return CANCELLED
    try:
        return codec.decode(text)
    except ChronoMapValueError as error:
        raise CorruptJournalError(f"a value of revision {revision} cannot be read: {error}", safe=revision - 1) from error


def read_meta(text: str) -> Meta:
    """What is noted with a commit, from a checked column ``meta``. Two that were joined may be longer than one may be."""
    return tuple(json.loads(text).items())


def record_of(row: tuple[Any, ...], codec: Codec) -> Record:
    """A checked row as a record."""
    _, revision, kind, key, exact, value, timestamp, expires_at, _, _ = row
    return Record(
        kind,
        decode_key(key, exact),
        value_of(value, codec, revision),
        MISSING,
        timestamp,
        NEVER if expires_at is None else expires_at,
    )


def first_id_after(connection: Any, revision: int, last: int) -> int:
    """The smallest id that a record of a later revision can have. O(log of all records)."""
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(f"SELECT {COLUMNS} FROM records WHERE id >= ? ORDER BY id LIMIT 1", (middle,)).fetchone()  # noqa: S608
        if found is not None and not is_whole(found):
            raise damaged(found, 0)
        if found is None or found[1] > revision:
            high = middle
        else:
            low = found[0] + 1
    return low


def walk(connection: Any, codec: Codec, after: int, newest: int, last: int) -> Iterator[Commit]:
    """The commits after a revision, each checked as a whole before it is given out."""
    pace = Pace(connection, after, newest)
    first = first_id_after(connection, after, last) if after else 1  # from the start nothing is looked for, nor met too early
    records: list[Record] = []
    given = 0

    def finished() -> Iterator[Commit]:
        """The commits that have begun and are done, the records read so far being those of the last of them."""
        nonlocal given, records
        until = len(pace.instants)
        for index in range(given, until):
            revision = after + index + 1
            own = tuple(records) if revision == taken else ()
            yield Commit(revision, pace.instants[index], own, pace.metas.pop(revision, NOTHING))
        given, records = until, []

    taken = 0
    query = f"SELECT {COLUMNS} FROM records WHERE id BETWEEN ? AND ? ORDER BY id"  # noqa: S608
    for row in connection.execute(query, (first, last)):
        if not is_whole(row):
            raise damaged(row, pace.newest)
        revision = row[1]
        if revision != taken and taken:
            yield from finished()
        pace.step(revision, row[9], row[6] if row[8] is None else row[8])
        taken = revision
        records.append(record_of(row, codec))
    pace.end(newest)
    yield from finished()
