"""The journal in one SQLite file.

What is promised when ``append`` returns, by ``durability``:

=========  ===========================  ================================================================
durability the process is killed        the power fails
=========  ===========================  ================================================================
"full"     everything appended is there everything appended is there
"normal"   everything appended is there a prefix is there: the newest groups may be lost, none in between
"off"      everything appended is there the file may be damaged
=========  ===========================  ================================================================

A group is one transaction, so it is there as a whole or not at all. When SQLite cannot say that it is on the disk, the
journal fails: everything written before goes on being readable, nothing more can be written, and whether the group is there
is decided when the file is next opened. (Trying again would be a lie: after a failed sync the system may have dropped what
was to be written, and report success the next time.)

Erasing overwrites: ``secure_delete`` is on, and SQLite's own log, which still has the old pages, is emptied before
``append`` returns. If another program is reading the file just then, that is made up for after a later group, at the
latest when the journal is closed (unless it is being read even then). A log that a crash has left is emptied after the first
group, since nobody knows what is in it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from chronomap.core.change import PlainCommit
from chronomap.core.records import Commit, Entry, Record
from chronomap.core.retention import Cut, Retention
from chronomap.errors import (
    ChronoMapValueError,
    ClosedError,
    CorruptJournalError,
    ForkedError,
    JournalError,
    JournalOpenError,
    LaggedError,
)
from chronomap.journal import opening
from chronomap.journal.codec import Codec, ExactCodec, encode_key
from chronomap.journal.encoding import Encoder
from chronomap.journal.extras import apsw
from chronomap.journal.loading import load, newest_first, read_cuts, unindexed
from chronomap.journal.log import COLUMNS, is_whole, walk
from chronomap.journal.opening import translated
from chronomap.journal.ownership import Ownership
from chronomap.journal.protocol import Contents, Position, Progress, Pruned
from chronomap.journal.removing import Remover
from chronomap.journal.room import Room
from chronomap.journal.state import State
from chronomap.journal.writing import Group

LOG_PAGES: Final = 1_000
"""Pages in SQLite's own log after which they are moved to where they belong: its own default."""

ROOM: Final = LOG_PAGES + LOG_PAGES // 4
"""Pages for which there is room in the log: the last group before that goes a little beyond it."""

SCRUB_PATIENCE: Final = 50
"""Milliseconds that a group waits, after an erase, for other programs to stop reading."""

_NEWEST: Final = f"SELECT {COLUMNS} FROM records WHERE id <= ? ORDER BY id DESC LIMIT 1 OFFSET ?"  # noqa: S608
"""One of the newest records, by how many are newer."""

_BEING_READ: Final = (apsw.BusyError, apsw.LockedError)
"""Somebody is reading: another program, or an iterator of this journal's that has not ended."""

BACKUP_PAGES: Final = 256
"""Pages (1 MiB) that a step of a backup copies."""

_open: weakref.WeakSet[SqliteJournal] = weakref.WeakSet()


class SqliteJournal:
    """A ``Journal`` in a file, owned by this process until it is closed.

    Use ``open``. Beside the file, while it is open, are SQLite's ``-wal`` and ``-shm`` and the note of its owner.
    """

    def __init__(self, path: Path, ownership: Ownership, connection: Any, codec: Codec, state: State, *, room: int = 0) -> None:
        self.path = path
        self.codec = codec
        self.failure: JournalError | None = None
        self._ownership = ownership
        self._connection = connection
        self._pid = os.getpid()
        self._closed = False
        self._log_pages = [0]  # in SQLite's own log, as of the last commit; a list, since its counter must not hold us
        self._encoder = Encoder(codec)
        self.sure: Callable[[Any, Any], bool] = self._encoder.sure  # see `Journal`; without a step in between
        self._counted = False  # the index by key
        self._to_scrub = opening.left_log(path)  # it has, or may have, erased values in it
        self._state = state
        self._remover = Remover(connection)
        self._room = Room(connection, room)
        connection.set_wal_hook(_counter(self._log_pages))
        _open.add(self)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        durability: str = "full",
        codec: Codec | None = None,
        create: bool = True,
        vfs: str | None = None,
    ) -> Self:
        """Own a file, made if it is not there.

        Args:
            path: The file. Symbolic links are followed.
            durability: "full", "normal" or "off"; see the head of this module.
            codec: What turns values to bytes; it must be the one that the file was made with.
            create: Whether to make the file if it is not there.
            vfs: The name of a file system registered with apsw; None: the system's own.

        Raises:
            JournalInUseError: If it is open elsewhere; at once.
            JournalOpenError: If there is no such file, or it is not a journal that can be written.
            CorruptJournalError: If it is damaged, or not even a SQLite file.
        """
        if durability not in opening.SYNCHRONOUS:
            raise ChronoMapValueError(f"durability is one of {sorted(opening.SYNCHRONOUS)}, got {durability!r}")
        codec = codec or ExactCodec()
        real = Path(os.path.realpath(path))
        opening.check_place(real)
        if real.is_dir() or not (create or real.exists()):
            opening.check_path(real)
        ownership = Ownership(real)
        connection = None
        try:
            if create and not real.exists():
                opening.create(real, codec.name, vfs, readable=isinstance(codec, ExactCodec))
            connection = opening.connect(real, durability, vfs)
            with translated(str(real), "opening it"):
                state = State.read(connection)
            check_codec(state.codec, codec, real)
        except BaseException:
            if connection is not None:
                opening.let_go(connection)
            ownership.release()
            raise
        return cls(real, ownership, connection, codec, state, room=ROOM if durability == "full" else 0)

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """See ``Journal``."""
        return self._state.revision

    @property
    def complete_since(self) -> int:
        """See ``Journal``."""
        return self._state.complete_since

    def _ready(self, *, writing: bool = True) -> None:
        if self._pid != os.getpid():
            raise ForkedError("the journal belongs to the process that opened it; open it in the one that needs it")
        if self._closed:
            raise ClosedError("the journal has been closed")
        if writing and self.failure is not None:
            raise self.failure

    # -- writing -------------------------------------------------------------------------------------------------------

    def check(self, records: Iterable[Record]) -> None:
        """See ``Journal``."""
        self._encoder.check(records)

    def append(self, group: Sequence[PlainCommit]) -> None:
        """See ``Journal``. Cost: about 2 µs a plain put, and one sync a group."""
        try:
            self._ready()
            if group:
                self._append(group)
        finally:
            self._encoder.forget()

    def _append(self, commits: Sequence[PlainCommit]) -> None:
        group = Group(commits, self._encoder, self._state)
        with self._writing("writing a group") as state:
            group.write(self._connection, state)
            for key, number in group.erased:
                self._remover.erase(state, key, number)
        if group.erased:
            self._to_scrub = True
        self._tidy()

    @contextmanager
    def _writing(self, doing: str) -> Iterator[State]:
        """One transaction; what is yielded becomes the state if it succeeds. Anything else fails the journal."""
        connection = self._connection
        state = self._state.copy()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield state
            state.write(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            self._fail(doing, error)
            try:
                if not connection.get_autocommit():
                    connection.execute("ROLLBACK")
            except apsw.Error:
                pass  # SQLite has done so itself, or never will: the journal is failed either way
            if isinstance(error, apsw.Error):
                raise self.failure from error  # type: ignore[misc]
            raise
        self._state = state

    def _fail(self, doing: str, error: BaseException) -> None:
        kind = CorruptJournalError if isinstance(error, apsw.CorruptError | CorruptJournalError) else JournalError
        self.failure = kind(
            f"{self.path}: {doing} failed ({type(error).__name__}: {error}); the map is read-only until it is reopened, which "
            "also decides whether what was being written is there"
        )

    def _tidy(self) -> None:
        """Move what SQLite's own log holds to where it belongs.

        The group is safe already, so an error here is not the group's: it fails the journal for the next one.
        """
        if not self._to_scrub and self._log_pages[0] < LOG_PAGES:
            self._room.make(self._log_pages[0])
            return
        try:
            if self._to_scrub:
                self._connection.set_busy_timeout(SCRUB_PATIENCE)
                [(busy, _, _)] = opening.pragma(self._connection, "wal_checkpoint(TRUNCATE)")
                self._to_scrub = bool(busy)
                self._room.forget()
            else:
                opening.pragma(self._connection, "wal_checkpoint(PASSIVE)")
        except _BEING_READ:
            pass  # after a later group, then
        except apsw.Error as error:
            self._fail("moving pages out of SQLite's log", error)
        finally:
            self._connection.set_busy_timeout(opening.PATIENCE)

    # -- reading -------------------------------------------------------------------------------------------------------

    def load(
        self,
        resident: Retention | None = None,
        *,
        now: float = 0.0,
        share: bool = False,
        progress: Progress | None = None,
    ) -> Contents:
        """See ``Journal``."""
        self._ready(writing=False)
        with translated(str(self.path), "loading it"):
            unlimited = resident is None or (resident.max_versions is None and resident.max_age is None)
            limits = None if resident is None or unlimited else (resident, now)
            return load(self._connection, self.codec, self._state, limits, share, progress)

    def replay(self, after: int = 0) -> Iterator[Commit]:
        """See ``Journal``."""
        self._ready(writing=False)
        state = self._state
        if after < state.complete_since:
            raise LaggedError(after, state.complete_since)
        with translated(str(self.path), "replaying it"):
            yield from walk(self._connection, self.codec, after, state.revision, state.id)

    def recent(self, changes: int) -> int:
        """See ``Journal``. Cost: O(changes), of which hardly more than the number is read."""
        self._ready(writing=False)
        state = self._state
        with translated(str(self.path), "looking for the newest changes"):
            row = self._connection.execute(_NEWEST, (state.id, changes - 1)).fetchone()
        # A damaged row says nothing. It is among those that are replayed then, and found there.
        oldest = row[1] - 1 if row is not None and is_whole(row) else 0
        return max(state.complete_since, state.revision - changes, oldest)

    def versions(self, key: Any, before: Position | None = None) -> Iterator[Entry]:
        """See ``Journal``. Cost: O(log of all records), and of the versions those that are asked for.

        After a failure O(all records), if the index was behind.
        """
        self._ready(writing=False)
        text, _ = encode_key(key)
        with translated(str(self.path), "reading versions"):
            if self._state.placed < self._state.id and not self._can_place():
                find = unindexed  # the index cannot be brought up to date any more, and reads go on
            else:
                self._place()
                find = newest_first
            yield from find(self._connection, self.codec, text, before, self._cut(text), share=True)

    def floor(self, key: Any) -> Position | None:
        """See ``Journal``."""
        self._ready(writing=False)
        with translated(str(self.path), "reading what was pruned"):
            cut = self._cut(encode_key(key)[0])
        return None if cut is None else cut.floor

    def _cut(self, text: bytes) -> Pruned | None:
        """What was pruned of a key; no look at the file if nothing ever was."""
        return read_cuts(self._connection, self._state).get(text) if self._state.pruned else None

    def _can_place(self) -> bool:
        return self.failure is None

    def _place(self) -> None:
        """Bring the index by key up to date, and count it once. Amortised O(log n) per record."""
        if not self._counted:
            self._count_places()
        if self._state.placed < self._state.id:
            self._ready()
            with self._writing("bringing the index up to date") as state:
                self._remover.place(state)
            self._tidy()

    def _count_places(self) -> None:
        [(places,)] = self._connection.execute("SELECT count(*) FROM places").fetchall()
        if places != self._state.places:
            raise CorruptJournalError(f"{self._state.places} rows were put into the index by key, but {places} are there")
        self._counted = True

    # -- forgetting ----------------------------------------------------------------------------------------------------

    def prune(self, cuts: Sequence[Cut], *, keep_after: int | None = None) -> int:
        """See ``Journal``. Cost: O(log n) per version that is forgotten."""
        self._ready()
        newest = self.revision if keep_after is None else keep_after
        texts = [(encode_key(cut.key)[0], cut) for cut in cuts]
        with self._writing("pruning") as state:
            removed = sum(self._remover.prune(state, text, cut, newest) for text, cut in texts)
        self._tidy()
        return removed

    def compact(self, revision: int, limit: int = 10_000) -> bool:
        """See ``Journal``. Cost: O(limit)."""
        self._ready()
        with self._writing("compacting") as state:
            more = self._remover.compact(state, revision, limit)
        self._tidy()
        return more

    def vacuum(self) -> None:
        """Write the file anew without what is unused in it. O(file), all at once; takes as much space again meanwhile."""
        self._ready()
        try:
            self._connection.execute("VACUUM")
        except apsw.SQLError as error:
            raise JournalError(f"{self.path} cannot be vacuumed while an iterator over it has not ended: {error}") from error
        except BaseException as error:
            self._fail("vacuuming", error)
            if isinstance(error, apsw.Error):
                raise self.failure from error  # type: ignore[misc]
            raise
        self._to_scrub = True
        self._tidy()

    # -- copies, and the end -------------------------------------------------------------------------------------------

    def backup(self, path: str | os.PathLike[str], pages: int = BACKUP_PAGES) -> Iterator[tuple[int, int]]:
        """Copy the file step by step, while groups go on being appended between the steps.

        The copy has the name ``path`` when the iterator has ended, and is the journal as of then: what was appended
        meanwhile is in it. Closing the iterator before leaves nothing.

        Args:
            path: Where to; must not be there yet.
            pages: How much one step copies, in SQLite's pages of 4 KiB.

        Yields:
            The pages that are done, and how many there are.
        """
        self._ready(writing=False)
        target = Path(os.path.realpath(path))
        opening.check_new(target, "give the backup another name")
        new = target.with_name(target.name + opening.NEW)
        opening.remove(new)
        copy = None
        try:
            with translated(str(target), "writing the backup"):
                copy = apsw.Connection(str(new))
                with copy.backup("main", self._connection, "main") as backup:
                    while not backup.done:
                        self._ready(writing=False)
                        backup.step(pages)
                        yield backup.page_count - backup.remaining, backup.page_count
                copy.close()
            opening.sync_file(new)
            opening.settle(new, target)
        finally:
            if copy is not None:
                opening.let_go(copy)
            opening.remove(new)

    def close(self) -> None:
        """See ``Journal``. Afterwards the file stands alone, unless the journal has failed."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        try:
            if self.failure is None:
                with translated(str(self.path), "closing it"), suppress(*_BEING_READ):
                    self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
                    opening.pragma(self._connection, "wal_checkpoint(TRUNCATE)")
        finally:
            opening.let_go(self._connection)
            self._ownership.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._pid == os.getpid():
            try:
                warnings.warn(f"the journal {self.path} was not closed", ResourceWarning, source=self, stacklevel=2)
            finally:
                self.close()


def _counter(found: list[int]) -> Callable[[Any, str, int], int]:
    """What SQLite calls after each commit with how many pages its own log has."""

    def note(_connection: Any, _name: str, pages: int) -> int:
        found[0] = pages
        return int(apsw.SQLITE_OK)

    return note


def check_codec(found: str, codec: Codec, path: Path) -> None:
    """Refuse a codec that did not write a file."""
    if found != codec.name:
        raise JournalOpenError(
            f"{path} was written by the codec {found!r}, not {codec.name!r}; open it with codec=", path=str(path)
        )


def _leave_alone() -> None:
    """In a forked child: never let a connection of the parent's be closed, not even when Python ends.

    SQLite would roll back, in memory it shares with the parent, what the parent is just writing.
    """
    if platform.python_implementation() == "CPython":
        for journal in list(_open):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(journal._connection))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_alone)
