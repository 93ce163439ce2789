"""Reading a file as of one moment, beside whoever owns it and writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from chronomap.core.records import Record
from chronomap.errors import JournalError
from chronomap.journal.codec import Codec, ExactCodec, encode_key
from chronomap.journal.log import COLUMNS, damaged, is_whole, record_of
from chronomap.journal.opening import connect, leave_as_found, let_go, pragma, translated
from chronomap.journal.protocol import Progress
from chronomap.journal.schema import FORMAT, PLACES
from chronomap.journal.sqlite import BACKUP_PAGES, SqliteJournal, check_codec
from chronomap.journal.state import State
from chronomap.journal.tolerant import TolerantCodec

_STANDS: Final = (
    f"SELECT {COLUMNS} FROM records WHERE key = ? AND timestamp = ? AND revision <= ? AND kind <> 'activate' "  # noqa: S608
    "ORDER BY revision DESC LIMIT 1"
)


class _Nobody:
    """Stands for the owner of a file that is only read."""

    def release(self) -> None:
        """There is nothing to let go of."""


class ReadingJournal(SqliteJournal):
    """A file that is only read, as of one moment: others may own it meanwhile, and write.

    The moment is that of ``look``, until ``rest`` lets go of it and ``refresh`` takes the next. It is a read transaction of
    SQLite's: while it lasts, SQLite cannot empty its own log of what was written since.
    """

    @classmethod
    def look(cls, path: str | os.PathLike[str], codec: Codec | None = None) -> Self:
        """Open a file that is there for reading.

        Raises:
            JournalOpenError: If it is not there, is no journal, or another codec wrote it.
            CorruptJournalError: If it is damaged, or not even a SQLite file.
        """
        codec = codec or ExactCodec()
        real = Path(os.path.realpath(path))
        connection = connect(real, "full")
        try:
            with translated(str(real), "reading it"):
                pragma(connection, "query_only = ON")
                pragma(connection, "temp_store = FILE")  # for an index of its own, see `_place`
                connection.execute("BEGIN")
                state = State.read(connection)
            check_codec(state.codec, codec, real)
        except BaseException:
            leave_as_found(connection, real)
            let_go(connection)
            raise
        new = cls(real, _Nobody(), connection, codec, state)  # type: ignore[arg-type]
        new.failure = JournalError(f"{path} is open for reading only; to write to it, open it without read_only")
        return new

    @property
    def resting(self) -> bool:
        """Whether it has let go of its moment."""
        return bool(self._connection.get_autocommit())

    def rest(self) -> None:
        """Let go of the moment, so that SQLite's log can be emptied."""
        if not self.resting:
            self._connection.execute("COMMIT")

    def refresh(self) -> None:
        """See the newest state from now on."""
        self.rest()
        with translated(str(self.path), "reading it"):
            self._connection.execute("BEGIN")
            self._state = State.read(self._connection)

    def changed(self) -> int:
        """A number that is another one once somebody has written to the file. While at rest."""
        with translated(str(self.path), "looking for changes"):
            [(number,)] = pragma(self._connection, "data_version")
        return int(number)

    def standing(self, record: Record, revision: int) -> Record:
        """An activation, with the value that took effect."""
        bindings = (encode_key(record.key)[0], record.timestamp, revision)
        row = self._connection.execute(_STANDS, bindings).fetchone()
        if row is None:
            return record
        if not is_whole(row):
            raise damaged(row, revision - 1)
        found = record_of(row, self.codec)
        return record._replace(value=found.value, expires_at=found.expires_at)

    def _can_place(self) -> bool:
        return True  # in an index of its own

    def _place(self) -> None:
        """An index by key that is up to date, in a temporary table that hides the file's; at most once. O(versions)."""
        if self._counted:
            return
        self._count_places()
        if self._state.placed < self._state.id:
            self._counted = False  # until it is there
            pragma(self._connection, "query_only = OFF")  # which is about temporary tables too
            try:
                with self._connection:  # all or nothing, within the transaction
                    self._connection.execute(PLACES.replace("CREATE TABLE", "CREATE TEMP TABLE"))
                    self._connection.execute("INSERT INTO temp.places SELECT * FROM main.places")
                    self._remover.place(self._state.copy())
            finally:
                pragma(self._connection, "query_only = ON")
            self._counted = True

    def backup(self, path: str | os.PathLike[str], pages: int = BACKUP_PAGES) -> Iterator[tuple[int, int]]:
        """See ``SqliteJournal``. The copy is the file as of this moment; at rest, as it is when the copying begins."""
        resting = self.resting
        if resting:
            self.refresh()
        try:
            yield from super().backup(path, pages)
        finally:
            if resting:
                self.rest()

    def close(self) -> None:
        """Leave the file as it was found: alone, unless somebody has it open or had no time to close it."""
        if not self._closed and self._pid == os.getpid():
            leave_as_found(self._connection, self.path)
        super().close()


@dataclass(frozen=True, slots=True)
class Description:
    """What a file says about itself.

    Attributes:
        bytes: How large it is, with SQLite's own log.
        format: The number of its format.
        codec: The name of the codec that wrote its values.
        revision: The newest.
        records: How many changes are in the log.
    """

    bytes: int
    format: int
    codec: str
    revision: int
    records: int


def describe(path: str | os.PathLike[str]) -> Description:
    """What there is to say of a map's file without reading the map; also while another process has it open.

    Raises:
        JournalOpenError: If there is no such file, it is not a map's, or it takes a codec other than the default one.
        CorruptJournalError: If it is damaged.
    """
    with ReadingJournal.look(path, TolerantCodec()) as journal:
        state = journal._state
        beside = journal.path.with_name(journal.path.name + "-wal")
        size = journal.path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
        return Description(size, FORMAT, state.codec, state.revision, state.records)


def backup(path: str | os.PathLike[str], new_path: str | os.PathLike[str], *, progress: Progress | None = None) -> int:
    """Copy a map's file, also while another process writes to it; returns the copy's revision. See ``ChronoMap.backup``.

    Raises:
        JournalOpenError: If there is no such file, it is not a map's, or ``new_path`` is there already.
        CorruptJournalError: If it is damaged.
    """
    with ReadingJournal.look(path, TolerantCodec()) as journal:
        for done, total in journal.backup(new_path):
            if progress is not None:
                progress(done, total)
        return journal.revision
