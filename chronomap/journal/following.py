"""Following a file: what any process commits to it, as it comes to stand there."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from itertools import islice
from typing import Any, Final

from chronomap.core.change import Change
from chronomap.core.records import FORGOTTEN, Commit, Record
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError, FutureRevisionError
from chronomap.journal.codec import Codec
from chronomap.journal.looking import ReadingJournal

GROUP: Final = 1_000
"""Commits that are read at a time."""

POLL: Final = 0.1
"""Seconds between two looks at a file that is followed."""


def follow(
    path: str | os.PathLike[str], since: int | None = None, timeout: float | None = None, *, codec: Codec | None = None
) -> Generator[Change[Any, Any]]:
    """The changes of a map on disk, whichever process commits them: ``for change in chronomap.follow("config.chrono"): ...``.

    In the order of the log, each once, when it is in the file. It reads beside the owner and holds nobody up; the file is
    looked at ten times a second. It blocks: with an event loop, iterate in a worker thread. The process that has the map open
    hears sooner, and of more, from ``watch``.

    The changes are what the log says. It does not say what a key held before: ``previous`` is None and ``created`` False in
    all of them. ``present`` is True of what is dated at the instant of its commit; of what is dated back it cannot be told, and
    is False. What expires or falls due is told when the owner has committed it. What was erased is left out.

    Args:
        path: The file.
        since: Begin after this revision, which the last change told: then there is neither a gap nor a repeat. Default: with
            what is committed from now on.
        timeout: End after so many seconds without a commit; default: never. 0: what there is by now.
        codec: The one that the file was written with, if it is not the default one.

    Raises:
        JournalOpenError: When the iteration begins: if there is no such file, it is no map, or another codec wrote it.
        FutureRevisionError: The same: if there is no such revision yet.
        LaggedError: Also later: if some of what comes next was compacted; the error says since when everything is there.
        CorruptJournalError: If what is read is damaged.
    """
    _check(since, timeout)
    with ReadingJournal.look(path, codec) as journal:
        place = journal.revision if since is None else since
        if place > journal.revision:
            raise FutureRevisionError(place, journal.revision)
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


def _check(since: int | None, timeout: float | None) -> None:
    if since is not None and (isinstance(since, bool) or not isinstance(since, int)):
        raise ChronoMapTypeError(f"a revision is an int, got {type(since).__name__}")
    if since is not None and since < 0:
        raise ChronoMapValueError(f"a revision is 0 or more, got {since}")
    if timeout is not None and not timeout >= 0:
        raise ChronoMapValueError(f"a timeout is 0 or more seconds, got {timeout}")


def _next(journal: ReadingJournal, after: int) -> list[Commit]:
    found = list(islice(journal.replay(after), GROUP))
    return [
        commit._replace(records=tuple(_told(journal, record, commit.revision) for record in commit.records)) for commit in found
    ]


def _told(journal: ReadingJournal, record: Record, revision: int) -> Record:
    whole = journal.standing(record, revision) if record.kind == "activate" else record
    return whole._replace(previous=FORGOTTEN)
