"""Maps on disk as the commands use them: read beside whoever has them open, followed, copied, and made from other maps.

The other modules of the command line use what everybody can import; this one needs what lies below. It is imported only when
a file turns out to be such a map, since it needs the extra ``chronomap[durable]``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, Self

from chronomap import Change, ChronoMap, ChronoMapError, ChronoMapValueError, JournalError, LaggedError
from chronomap.cli.words import BadInput, Map, progress_bar, reported, shown
from chronomap.core.records import Commit, Record
from chronomap.core.replay import _rebuilt
from chronomap.core.view import View
from chronomap.journal import ExactCodec, SqliteJournal
from chronomap.journal.codec import encode_key
from chronomap.journal.log import COLUMNS, damaged, is_whole, record_of
from chronomap.journal.opening import connect, leave_as_found, pragma, remove, settle, translated
from chronomap.journal.ownership import Ownership
from chronomap.journal.protocol import Pruned
from chronomap.journal.schema import FORMAT
from chronomap.journal.sqlite import _check_codec
from chronomap.journal.state import State
from chronomap.runtime.opening import Opening

GROUP: Final = 1_000
"""Commits that are written, or read, at a time."""

POLL: Final = 0.1
"""Seconds between two looks at a file that is followed."""

IMPORTING: Final = "-importing"

_STANDS: Final = (
    f"SELECT {COLUMNS} FROM records WHERE key = ? AND timestamp = ? AND revision <= ? AND kind <> 'activate' "  # noqa: S608
    "ORDER BY revision DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A value with a class in it that only the program which wrote it knows: its text in the file."""

    text: bytes

    def plain(self) -> Any:
        """As JSON has it, with tags."""
        return json.loads(self.text)


class AnyCodec(ExactCodec):
    """Reads what ``ExactCodec`` wrote for any program: what it cannot make, it leaves as it is, also when writing it again."""

    def __init__(self) -> None:
        exact = ExactCodec()

        def encode(value: Any) -> bytes:
            return value.text if type(value) is Foreign else exact.encode(value)

        def decode(text: bytes) -> Any:
            try:
                return exact.decode(text)
            except ChronoMapValueError:
                if not _is_json(text):
                    raise
                return Foreign(text)

        def decode_all(texts: Sequence[bytes]) -> list[Any]:
            try:
                return exact.decode_all(texts)
            except ChronoMapValueError:
                return [decode(text) for text in texts]

        self.encode, self.decode, self.decode_all = encode, decode, decode_all


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class _Nobody:
    """Stands for the owner of a file that is only read."""

    def release(self) -> None:
        """There is nothing to let go of."""


class ReadingJournal(SqliteJournal):
    """A file that is only read, as of one moment: others may own it meanwhile, and write.

    The moment is that of ``look``, until ``rest`` lets go of it and ``refresh`` takes the next.
    """

    @classmethod
    def look(cls, path: str) -> Self:
        """Open a file that is there for reading."""
        real = Path(os.path.realpath(path))
        connection = connect(real, "full")
        try:
            with translated(str(real), "reading it"):
                pragma(connection, "query_only = ON")
                connection.execute("BEGIN")
                state = State.read(connection)
            codec = AnyCodec()
            _check_codec(state.codec, codec, real)
        except BaseException:
            connection.close(True)  # noqa: FBT003 - apsw's own signature: "force"
            raise
        new = cls(real, _Nobody(), connection, codec, state)  # type: ignore[arg-type]
        new.failure = JournalError(f"{path} is open for reading only; to write to it, open it without --read-only")
        return new

    def rest(self) -> None:
        """Let go of the moment, so that SQLite's log can be emptied."""
        if not self._connection.get_autocommit():
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

    def close(self) -> None:
        """Leave the file as it was found: alone, unless somebody has it open or had no time to close it."""
        if not self._closed and self._pid == os.getpid():
            leave_as_found(self._connection, self.path)
        super().close()


def read(path: str, *, bar: bool = False) -> Map:
    """The map in a file as it is now, not to be written to; whoever has it open goes on."""
    journal = ReadingJournal.look(path)
    with progress_bar("reading", shown_if=bar) as progress:
        owner = Opening(journal, progress=progress).open()
    journal.rest()
    cm: Map = ChronoMap.__new__(ChronoMap)
    cm._adopt(owner, "copy", debug=False)
    return cm


def own(path: str, *, create: bool = False, at_once: bool = False) -> Map:
    """The map in a file, to be written to by this process alone; ``at_once``: all is safe when it is closed, not before."""
    with progress_bar("reading", shown_if=True) as progress:
        durability: Literal["full", "normal"] = "normal" if at_once else "full"
        return ChronoMap.open(path, codec=AnyCodec(), create=create, durability=durability, progress=progress)


def numbers(path: str) -> dict[str, Any]:
    """What there is to say of a file beside what is in the map."""
    with ReadingJournal.look(path) as journal:
        state = journal._state
        beside = journal.path.with_name(journal.path.name + "-wal")
        size = journal.path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
        return {"bytes": size, "format": FORMAT, "codec": state.codec, "records": state.records}


def back_up(path: str, target: str) -> int:
    """Copy a file, also while somebody writes to it; returns the copy's revision."""
    with ReadingJournal.look(path) as journal, progress_bar("copying", shown_if=True) as progress:
        for done, total in journal.backup(target):
            if progress is not None:
                progress(done, total)
        return journal.revision


# -- following ---------------------------------------------------------------------------------------------------------


def follow(path: str, since: int | None, timeout: float | None) -> Generator[Change[Any, Any]]:
    """The changes after a revision (default: from now on), whoever commits them.

    Args:
        path: The file.
        since: Begin after this revision.
        timeout: End after so many seconds without a commit; None: never.
    """
    with ReadingJournal.look(path) as journal:
        place = journal.revision if since is None else since
        if place > journal.revision:
            raise BadInput(f"revision {place} is in the future: the newest is {journal.revision}")
        waited_since = time.monotonic()
        while True:
            journal.rest()
            before = journal.changed()
            journal.refresh()
            while group := _next(journal, place):
                journal.rest()
                for commit in group:
                    yield from (Change(commit, index) for index in range(len(commit.records)))
                place = group[-1].revision
                waited_since = time.monotonic()
                journal.refresh()
            journal.rest()
            while journal.changed() == before:
                if timeout is not None and time.monotonic() - waited_since >= timeout:
                    return
                time.sleep(POLL if timeout is None else min(POLL, timeout))


def _next(journal: ReadingJournal, after: int) -> list[Commit]:
    try:
        found = list(islice(journal.replay(after), GROUP))
    except LaggedError as error:
        raise BadInput(f"some changes after r{after} have been compacted; --since {error.oldest} is whole") from None
    return [
        commit._replace(
            records=tuple(
                journal.standing(record, commit.revision) if record.kind == "activate" else record for record in commit.records
            )
        )
        for commit in found
    ]


# -- making ------------------------------------------------------------------------------------------------------------


def make(path: str, view: View, source: str) -> None:
    """Make a map on disk that is what a view sees of the map in another file.

    Everything is kept: revisions, instants, timestamps, kinds, meta, and what is known of what was pruned.
    """
    with reported(path):
        real = Path(os.path.realpath(path))
        if not real.parent.is_dir():
            raise BadInput(f"{real.parent} is not a directory; make it first")
        ownership = Ownership(real)  # so that nobody makes the file meanwhile
        aside = real.with_name(real.name + IMPORTING)
        try:
            _insist_on_new(real)
            remove(aside)
            with SqliteJournal.open(aside, durability="normal", codec=AnyCodec()) as journal:
                _write(journal, view, source)
            settle(aside, real)
        except BaseException:
            remove(aside)
            raise
        finally:
            ownership.release()


def _insist_on_new(path: Path) -> None:
    if path.exists():
        raise BadInput(f"{path} is there already")


def _write(journal: SqliteJournal, view: View, source: str) -> None:
    with progress_bar("writing", shown_if=True) as progress:
        commits = _whole(view)
        while group := list(islice(commits, GROUP)):
            try:
                journal.append(group)
            except ChronoMapError as error:
                raise BadInput(_culprit(journal, group, source) or str(error)) from error
            if progress is not None:
                progress(group[-1].revision, view.revision)
    with journal._writing("noting what was pruned") as state:
        for key in list(view.store.timelines):
            timeline = view.timeline(key)
            if timeline is not None and timeline.floor is not None:
                start = timeline.timestamps[timeline.start], timeline.revisions[timeline.start]
                journal._remover.note(state, encode_key(key)[0], Pruned(start, timeline.floor, 0))
        state.pruned_to = max(state.pruned_to, view.store.pruned_to)
        state.complete_since = max(state.complete_since, view.store.pruned_to)


def _whole(view: View) -> Iterator[Commit]:
    """All commits that there were, also those of which nothing is left, so that there are no gaps."""
    newest = 0
    for commit in _rebuilt(view, 0, view.revision):
        yield from (_empty(view, revision) for revision in range(newest + 1, commit.revision))
        yield commit
        newest = commit.revision
    yield from (_empty(view, revision) for revision in range(newest + 1, view.revision + 1))


def _empty(view: View, revision: int) -> Commit:
    return Commit(revision, view.store.instant_of(revision), ())


def _culprit(journal: SqliteJournal, group: list[Commit], source: str) -> str | None:
    """Which record of a group it is that a map on disk cannot keep."""
    for commit in group:
        for record in commit.records:
            try:
                journal.check((record,))
            except ChronoMapError as error:
                return f"{source}: key {shown(record.key)}, revision {commit.revision}: {error}"
    return None
