"""Taking what is readable of a damaged file into a new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chronomap.core.meta import NOTHING, Meta
from chronomap.core.records import NEVER, Commit, Record
from chronomap.errors import ChronoMapError, CorruptJournalError
from chronomap.journal.codec import Codec, ExactCodec
from chronomap.journal.extras import apsw
from chronomap.journal.loading import cut_of
from chronomap.journal.log import COLUMNS, UNREADABLE, is_whole, read_meta, record_of
from chronomap.journal.opening import check_path
from chronomap.journal.protocol import Pruned
from chronomap.journal.schema import header_checksum
from chronomap.journal.sqlite import SqliteJournal, _check_codec
from chronomap.journal.state import State

GROUP: Final = 1_000
"""Commits that are written at a time."""

FAR: Final = 1 << 62
"""An id that no record reaches."""


@dataclass(slots=True)
class Salvage:
    """What was taken over.

    Attributes:
        revision: The newest revision in the new file.
        records: How many records were taken over.
        headers_lost: Of how many commits the header is lost, and with it what was noted (a request id, for example).
        incomplete: The revisions of which something, or everything, is or may be lost. They are in the new file, with what
            is left.
            What their keys are said to hold may be wrong from then on.
    """

    revision: int = 0
    records: int = 0
    headers_lost: int = 0
    incomplete: list[int] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing is known to be lost."""
        return not self.incomplete and not self.headers_lost


def salvage(path: str | os.PathLike[str], new_path: str | os.PathLike[str], codec: Codec | None = None) -> Salvage:
    """Write every record that is as it was written into a new file, under its own revision.

    The old file is not changed. Records, headers and what was pruned are each taken one by one, past whatever SQLite
    cannot read.

    Args:
        path: The damaged file.
        new_path: Where to; must not be there yet.
        codec: The one that the file was written with.

    Raises:
        CorruptJournalError: If not even the tables can be found.
        JournalOpenError: If ``path`` is not there, another codec wrote it, or ``new_path`` cannot be made.
    """
    source, target = Path(os.path.realpath(path)), Path(os.path.realpath(new_path))
    check_path(source)
    if target.exists():
        raise ChronoMapError(f"{target} is there already; salvage into a new file")
    codec = codec or ExactCodec()
    report = Salvage()
    connection = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        for table in ("records", "commits"):
            if not _is_there(connection, table):
                raise CorruptJournalError(f"{source} is too damaged: its table {table} cannot be found")
        _check_codec(_state(connection).codec or codec.name, codec, source)
        with SqliteJournal.open(target, durability="normal", codec=codec) as journal:
            group: list[Commit] = []
            for commit in _commits(connection, codec, report):
                group.append(commit)
                if len(group) == GROUP:
                    journal.append(group)
                    group = []
            journal.append(group)
            with journal._writing("noting what was pruned") as state:
                for text, cut in _cuts(connection):
                    journal._remover.note(state, text, cut)
                known = _state(connection)
                state.complete_since = max(known.complete_since, *report.incomplete, 0)
                state.pruned_to = max(known.pruned_to, state.pruned_to, *report.incomplete)
    finally:
        connection.close(True)  # noqa: FBT003 - apsw's own signature: "force"
    return report


def _is_there(connection: Any, table: str) -> bool:
    try:
        connection.execute(f"SELECT 1 FROM {table} WHERE rowid = 0").fetchall()  # noqa: S608 - of constants
    except apsw.Error as error:
        return not isinstance(error, apsw.SQLError | apsw.NotADBError)
    return True


@dataclass(slots=True)
class _Found:
    """What is readable of one commit."""

    ids: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    total: int = 0
    instant: float = NEVER


def _commits(connection: Any, codec: Codec, report: Salvage) -> Iterator[Commit]:
    """All commits without gaps, with what is left of each."""
    headers = {row[0]: row for row in _rows(connection, "commits", "*", "revision") if _is_header(row)}
    taken: dict[int, _Found] = {}
    for row in _rows(connection, "records", COLUMNS, "id"):
        if is_whole(row):
            try:
                record = record_of(row, codec)
            except ChronoMapError:
                continue
            found = taken.setdefault(row[1], _Found(instant=row[6] if row[8] is None else row[8]))
            found.ids.append(row[0])
            found.records.append(record)
            found.total += row[9]
    state = _state(connection)
    ids = {number for found in taken.values() for number in found.ids} | {0, state.id + 1}
    report.headers_lost = max(0, state.commits - len(headers))
    now = min([row[1] for row in headers.values()] + [found.instant for found in taken.values()], default=0.0)
    for revision in range(1, max((*headers, *taken, state.revision), default=0) + 1):
        found, header = taken.get(revision, _Found()), headers.get(revision)
        if not _is_complete(found, header, ids if report.headers_lost or not state.id else None):
            report.incomplete.append(revision)
        if header is not None or found.ids:
            now = max(now, found.instant if header is None else header[1])
        report.records += len(found.records)
        report.revision = revision
        yield Commit(revision, now, tuple(found.records), _meta(header))


def _is_complete(found: _Found, header: Any, ids: set[int] | None) -> bool:
    """Whether nothing of a commit is lost; ``ids`` are those of all records, if headers have been lost.

    Then a lone record may be what is left of several, unless the records on both sides of it are there as well.
    """
    if header is not None:
        return bool((len(found.ids), found.total) == (header[2], header[3]))
    if len(found.ids) != 1:
        return False
    return ids is None or {found.ids[0] - 1, found.ids[0] + 1} <= ids


def _meta(header: Any) -> Meta:
    return NOTHING if header is None or header[4] is None else read_meta(header[4])


def _state(connection: Any) -> State:
    try:
        return State.read(connection)
    except (ChronoMapError, UnicodeDecodeError, apsw.Error):
        return State()


def _is_header(row: tuple[Any, ...]) -> bool:
    try:
        return bool(header_checksum(*row[:5]) == row[5])
    except UNREADABLE:
        return False


def _cuts(connection: Any) -> Iterator[tuple[bytes, Pruned]]:
    try:
        for row in connection.execute("SELECT * FROM pruned"):
            try:
                yield row[0], cut_of(row)
            except ChronoMapError:
                continue
    except (UnicodeDecodeError, apsw.Error):
        return


def _rows(connection: Any, table: str, columns: str, number: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a table by number, past the stretches that SQLite cannot read."""
    query = f"SELECT {columns} FROM {table} WHERE {number} > ? ORDER BY {number}"  # noqa: S608 - of constants
    place = 0
    while place < FAR:
        try:
            for row in connection.execute(query, (place,)):
                if type(row[0]) is not int or row[0] <= place:
                    raise apsw.CorruptError
                place = row[0]
                yield row
        except (UnicodeDecodeError, apsw.Error):
            place = _beyond(connection, query, place)
        else:
            return


def _beyond(connection: Any, query: str, place: int) -> int:
    """Before where reading works again after a place where it does not; ``FAR`` if nowhere. O(log) probes."""

    def works(start: int) -> bool:
        try:
            return connection.execute(query, (start,)).fetchone() is not None
        except (UnicodeDecodeError, apsw.Error):
            return False

    step = 1
    while not works(place + step):
        step *= 2
        if place + step >= FAR:
            return FAR
    low, high = place + step // 2, place + step
    while high - low > 1:
        middle = (low + high) // 2
        if works(middle):
            high = middle
        else:
            low = middle
    return high
