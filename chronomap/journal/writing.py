"""From a group of commits to what is bound to statements, by columns rather than by rows.

Two things make this fast. Most of the work on a column is done by C code. And a statement inserts many rows: during every
statement other threads may run Python, and if one that is busy takes its chance, the writer waits for it, five milliseconds
each time. The numbers of rows are powers of two: so there are few statements for a group of any size, and few different
ones, which the connection remembers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from operator import concat
from typing import Any, Final
from zlib import crc32

from chronomap.core.change import PlainCommit, as_commit
from chronomap.core.meta import Meta
from chronomap.core.records import NEVER, Commit, Record
from chronomap.errors import JournalError
from chronomap.journal.encoding import Encoder, Records, turned
from chronomap.journal.extras import msgspec
from chronomap.journal.schema import PLAIN_PUT, header_checksum, record_checksum, record_head
from chronomap.journal.state import State

MOST: Final = 256
"""Rows of one statement: few enough for SQLite's limit of values, and for a text that is remembered."""


class Insert:
    """Inserts rows of one table, as many as there are.

    Args:
        table: The table.
        row: What a row of it is, with ``?`` for each value that is given.
    """

    def __init__(self, table: str, row: str) -> None:
        self.width = row.count("?")
        sizes = [1 << power for power in reversed(range(MOST.bit_length()))]
        texts = [f"INSERT INTO {table} VALUES {','.join([f'({row})'] * size)}" for size in sizes]  # noqa: S608
        self._statements = [(size * self.width, text) for size, text in zip(sizes, texts, strict=True)]

    def __call__(self, connection: Any, values: list[Any]) -> None:
        """Insert rows, whose values are given one row after the other."""
        place = 0
        for size, text in self._statements:
            while len(values) - place >= size:
                connection.execute(text, values[place : place + size])
                place += size


OPTIONAL: Final = 3
"""Columns that are NULL in all of many records: ``exact``, ``expires_at`` and ``instant``."""

PUT: Final = 5
"""Parts of a plain put in its short form."""

_insert_records: Final = Insert("records", "?,?,?,?,?,?,?,?,?,?")
_insert_puts: Final = Insert("records", "?,?,'put',?,NULL,?,?,NULL,NULL,?")
_insert_headers: Final = Insert("commits", "?,?,?,?,?,?")


class Group:
    """A group of commits as it will stand in the file.

    Attributes:
        erased: The keys (their texts) that it erases, with the number of that record.
    """

    def __init__(self, commits: Sequence[PlainCommit], encoder: Encoder, state: State) -> None:
        """Encode the commits that come next after a state.

        Raises:
            JournalError: If they are not those that come next.
            ChronoMapTypeError, ChronoMapValueError: See ``Journal.check``.
        """
        self._revision = commits[-1][0]
        self._insert = _insert_records
        self._values: list[Any] = []
        self._headers: list[Any] = []
        self.erased: list[tuple[bytes, int]] = []
        if {*map(type, commits)} == {tuple}:
            self._take_puts(commits, encoder, state)
        else:
            self._take([*map(as_commit, commits)], encoder, state)

    def _take_puts(self, puts: Sequence[PlainCommit], encoder: Encoder, state: State) -> None:
        """What most groups are: only plain puts, which need no header and have NULL in the same columns."""
        revisions, instants, keys, values, _ = turned(puts, PUT)
        _check_order(revisions, state.revision + 1)
        texts, encoded = encoder.plain_columns(keys, values)
        numbers = self._numbers = range(state.id + 1, state.id + 1 + len(puts))
        checksums = _plain_checksums(numbers, revisions, texts, encoded, instants)
        self._place(_insert_puts, numbers, revisions, texts, encoded, instants, checksums)

    def _take(self, commits: Sequence[Commit], encoder: Encoder, state: State) -> None:
        revisions, instants, parts, metas, _ = turned(commits, len(Commit._fields))
        _check_order(revisions, state.revision + 1)
        sizes = [*map(len, parts)]
        self._numbers = range(state.id + 1, state.id + 1 + sum(sizes))
        self._checksums: list[int] = []
        single = {*sizes} == {1}
        if single:
            self._fill_in(parts, revisions, instants, encoder)
        elif self._numbers:
            self._fill_in(parts, _spread(revisions, sizes), _spread(instants, sizes), encoder)
        if not single or any(metas):
            self._head(zip(revisions, instants, sizes, metas, strict=True))

    def _fill_in(self, parts: Records, revisions: list[int], instants: list[float], encoder: Encoder) -> None:
        """Put the columns of the records in their places; where nothing is put is NULL."""
        kinds, keys, values, _, timestamps, expiries = turned(chain.from_iterable(parts), len(Record._fields))
        texts, exacts, encoded = encoder.columns(parts, kinds, keys, values)
        untils = _unless_equal(expiries, [NEVER] * len(expiries))
        ats = _unless_equal(instants, timestamps)
        columns = self._numbers, revisions, kinds, texts, exacts, encoded, timestamps, untils, ats
        met = {*kinds}
        if met != {"put"} or None in encoded or columns.count(None) != OPTIONAL:
            self._checksums = [*map(record_checksum, *(repeat(None) if column is None else column for column in columns))]
            self._place(_insert_records, *columns, self._checksums)
        else:
            self._checksums = _plain_checksums(self._numbers, revisions, texts, encoded, timestamps)
            self._place(_insert_puts, self._numbers, revisions, texts, encoded, timestamps, self._checksums)
        if "erase" in met:
            self.erased = [(texts[place], self._numbers[place]) for place, kind in enumerate(kinds) if kind == "erase"]

    def _place(self, insert: Insert, *columns: Sequence[Any] | None) -> None:
        """Put the columns of the records in their places; None: NULL in all of them."""
        self._insert = insert
        self._values = [None] * (insert.width * len(self._numbers))
        for place, column in enumerate(columns):
            if column is not None:
                self._values[place :: insert.width] = column

    def _head(self, commits: Iterable[tuple[int, float, int, Meta]]) -> None:
        """Make the headers of those commits that are not just one record."""
        place = 0
        for revision, instant, size, meta in commits:
            if size != 1 or meta:
                noted = _noted(meta) if meta else None
                total = sum(self._checksums[place : place + size])
                self._headers += revision, instant, size, total, noted, header_checksum(revision, instant, size, total, noted)
            place += size

    def write(self, connection: Any, state: State) -> None:
        """Insert it, and note that in the state."""
        self._insert(connection, self._values)
        if self._headers:
            _insert_headers(connection, self._headers)
        state.revision = self._revision
        state.id += len(self._numbers)
        state.records += len(self._numbers)
        state.commits += len(self._headers) // _insert_headers.width


def _noted(meta: Meta) -> str:
    """What is noted with a commit as JSON; ``json`` also writes large numbers and surrogates, in eight times as long."""
    try:
        return msgspec.json.encode(dict(meta)).decode()
    except (OverflowError, ValueError):
        return json.dumps(dict(meta))


def _spread(values: list[Any], sizes: list[int]) -> list[Any]:
    """What is known of commits, for each of their records."""
    return [*chain.from_iterable(map(repeat, values, sizes))]


def _check_order(revisions: list[int], first: int) -> None:
    expected = [*range(first, first + len(revisions))]
    if revisions != expected:
        wrong, right = next(pair for pair in zip(revisions, expected, strict=True) if pair[0] != pair[1])
        raise JournalError(f"revision {wrong} cannot be appended: the next is {right}")


def _unless_equal(values: list[float], usual: list[float]) -> list[float | None] | None:
    """A column with NULL for what is as usual; None if all of it is."""
    if values == usual:
        return None
    return [None if one == other else one for one, other in zip(values, usual, strict=True)]


def _plain_checksums(
    numbers: Sequence[int],
    revisions: Sequence[int],
    keys: Sequence[bytes],
    values: Sequence[Any],
    timestamps: Sequence[float],
) -> list[int]:
    """The checksums of puts dated at the instant of their commit, which most records are."""
    parts = [(len(key) << 4) + PLAIN_PUT for key in keys]
    heads = map(record_head, numbers, revisions, timestamps, repeat(NEVER), timestamps, parts)
    return [*map(crc32, map(concat, map(concat, heads, keys), values))]  # type: ignore[arg-type]
