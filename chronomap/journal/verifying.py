"""Looking through a whole file: is everything in it as it was written?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chronomap.errors import ChronoMapError, CorruptJournalError
from chronomap.journal.codec import Codec, ExactCodec
from chronomap.journal.loading import read_cuts
from chronomap.journal.log import walk
from chronomap.journal.opening import connect, leave_as_found, translated
from chronomap.journal.sqlite import check_codec
from chronomap.journal.state import State

MOST: Final = 100
"""Problems of one sort that are listed."""

_PLACES: Final = "SELECT count(*) FROM places"
_RIGHT_PLACES: Final = (
    "SELECT count(*) FROM places p JOIN records r ON r.id = p.id AND r.key = p.key AND r.timestamp = p.timestamp "
    "AND r.revision = p.revision AND r.kind <> 'activate'"
)


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        path: The file.
        revision: The newest revision; 0 if even that is not known.
        safe: Everything up to this revision is as it was written.
        records: How many records were read and found right.
        problems: What is wrong, one line each.
    """

    path: str
    revision: int = 0
    safe: int = 0
    records: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def insist(self) -> None:
        """Raise ``CorruptJournalError`` unless nothing is wrong."""
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise CorruptJournalError(
                f"{self.path} is damaged after revision {self.safe}: {self.problems[0]}{more}; "
                "restore a backup, or take what is readable into a new file with salvage",
                problems=tuple(self.problems),
                safe=self.safe,
            )


def verify(path: str | os.PathLike[str], codec: Codec | None = None) -> Report:
    """Look at everything in a file: SQLite's own structure, every record, the gap-free revisions, the index by key.

    It may be open elsewhere: what is looked at is the file as of one moment. Nothing is written.

    Raises:
        JournalOpenError: If it is not a journal at all, or another codec wrote it.
    """
    real = Path(os.path.realpath(path))
    report = Report(str(real))
    with _reading(real, report) as connection:
        if connection is None:
            return report
        _note(report, lambda: _structure(connection, report))
        state = State()
        _note(report, lambda: _state(connection, state))
        report.revision = state.revision
        if state.codec:
            check_codec(state.codec, codec or ExactCodec(), real)
            _note(report, lambda: _log(connection, codec or ExactCodec(), state, report))
            _note(report, lambda: _index(connection, state, report))
    return report


@contextmanager
def _reading(path: Path, report: Report) -> Iterator[Any]:
    """A connection within one read transaction; None if the file is too damaged for that."""
    connection = None
    try:
        connection = connect(path, "full")
        with translated(str(path), "reading it"):
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
    except CorruptJournalError as error:
        report.problems.extend(error.problems)
    try:
        yield connection
    finally:
        if connection is not None:
            leave_as_found(connection, path)
            connection.close(True)  # noqa: FBT003 - apsw's own signature: "force"


def _note(report: Report, look: Callable[[], None]) -> None:
    """Look at something; an error that this raises is a problem of the file's."""
    try:
        with translated(report.path, "verifying"):
            look()
    except CorruptJournalError as error:
        report.safe = max(report.safe, error.safe)
        report.problems.extend(error.problems)
    except ChronoMapError as error:
        report.problems.append(str(error))


def _structure(connection: Any, report: Report) -> None:
    found = connection.execute(f"PRAGMA integrity_check({MOST})").fetchall()
    report.problems += [f"SQLite: {text}" for (text,) in found if text != "ok"]


def _state(connection: Any, state: State) -> None:
    found = State.read(connection)
    for name in State.__slots__:
        setattr(state, name, getattr(found, name))


def _log(connection: Any, codec: Codec, state: State, report: Report) -> None:
    for commit in walk(connection, codec, 0, state.revision, state.id):
        report.records += len(commit.records)
        report.safe = commit.revision
    read_cuts(connection, state)
    for table, expected in (("records", state.records), ("commits", state.commits)):
        [(found,)] = connection.execute(f"SELECT count(*) FROM {table}").fetchall()  # noqa: S608 - of constants
        if found != expected:
            report.problems.append(f"the table {table} has {found} rows, where {expected} were written")


def _index(connection: Any, state: State, report: Report) -> None:
    for query, meaning in (
        (_PLACES, "rows are in the index by key"),
        (_RIGHT_PLACES, "rows of the index by key lead to their record"),
    ):
        [(found,)] = connection.execute(query).fetchall()
        if found != state.places:
            report.problems.append(f"{found} {meaning}, where {state.places} were written")
