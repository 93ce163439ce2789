"""Taking what is readable of a damaged file into a new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, Final

from chronomap.core.meta import NOTHING, Meta
from chronomap.core.records import NEVER, Commit, Record
from chronomap.errors import ChronoMapError, CorruptJournalError
from chronomap.journal.codec import Codec, ExactCodec
from chronomap.journal.extras import apsw
from chronomap.journal.loading import cut_of
from chronomap.journal.log import COLUMNS, UNREADABLE, is_whole, read_meta, record_of
from chronomap.journal.opening import check_new, check_path, create
from chronomap.journal.ownership import refuse_if_owned_here
from chronomap.journal.protocol import Pruned
from chronomap.journal.schema import header_checksum
from chronomap.journal.sqlite import SqliteJournal, check_codec
from chronomap.journal.state import State

GROUP: Final = 1_000
"""Commits that are written at a time."""

PAGE_SIZE: Final = slice(16, 18)
PAGE_COUNT: Final = slice(28, 32)
"""Where these numbers are in the head of a SQLite file, most significant byte first."""

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
    cannot read. If its first page is lost, it is copied meanwhile to where the new file will be.

    Args:
        path: The damaged file.
        new_path: Where to; must not be there yet.
        codec: The one that the file was written with.

    Raises:
        CorruptJournalError: If nothing of a journal can be found.
        JournalInUseError: If a map of this process has ``path`` open.
        JournalOpenError: If ``path`` is not there, another codec wrote it, or ``new_path`` cannot be made.
    """
    source, target = Path(os.path.realpath(path)), Path(os.path.realpath(new_path))
    check_path(source)
    refuse_if_owned_here(source)
    check_new(target, "salvage into a new file")
    codec = codec or ExactCodec()
    report = Salvage()
    with _readable(source, target.parent) as connection:
        check_codec(_state(connection).codec or codec.name, codec, source)
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
    return report


# -- getting at the tables ---------------------------------------------------------------------------------------------


@contextmanager
def _readable(path: Path, place: Path) -> Iterator[Any]:
    """A connection that finds the tables; if the first page, which says where they are, is lost, to a mended copy."""
    with _connected(path) as connection:
        if _has_tables(connection):
            yield connection
            return
    with TemporaryDirectory(prefix="salvage-", dir=place) as directory:
        copy = Path(directory, path.name)
        _mend(path, copy)
        with _connected(copy) as connection:
            if not (_has_tables(connection) and _has_something(connection)):
                raise CorruptJournalError(f"{path} is too damaged, or not a journal: its tables cannot be found")
            yield connection


@contextmanager
def _connected(path: Path) -> Iterator[Any]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        yield connection
    finally:
        connection.close(True)  # noqa: FBT003 - apsw's own signature: "force"


def _mend(path: Path, copy: Path) -> None:
    """Copy a file with a new first page: that of a journal just made, in which all tables begin at the same pages."""
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            copyfile(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
    fresh = copy.with_name("fresh")
    create(fresh, "")
    content = bytearray(fresh.read_bytes())
    size = int.from_bytes(content[PAGE_SIZE])
    content[PAGE_COUNT] = (copy.stat().st_size // size).to_bytes(4)
    with copy.open("r+b") as file:
        file.write(content[:size])


def _has_tables(connection: Any) -> bool:
    try:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except (UnicodeDecodeError, apsw.Error):
        return False
    return {"records", "commits"} <= found


def _has_something(connection: Any) -> bool:
    """Whether anything is there that only a journal can have written."""
    return bool(_state(connection).codec) or any(is_whole(row) for row in _rows(connection, "records", COLUMNS, "id"))


# -- what is in them ---------------------------------------------------------------------------------------------------


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
