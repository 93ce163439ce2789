"""Making a file that is an exact copy of a map, in memory or on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from chronomap.core.records import Commit
from chronomap.core.replay import rebuilt
from chronomap.core.view import View, compacted
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError
from chronomap.journal.codec import Codec, encode_key
from chronomap.journal.opening import check_new, check_place, remove, settle
from chronomap.journal.ownership import Ownership
from chronomap.journal.protocol import Progress, Pruned
from chronomap.journal.sqlite import SqliteJournal

GROUP: Final = 1_000
"""Commits that are written at a time."""

ASIDE: Final = "-saving"


def make(path: str | os.PathLike[str], view: View, *, codec: Codec | None = None, progress: Progress | None = None) -> None:
    """Make a file that holds all that a pinned view knows.

    Everything is kept: revisions, instants, timestamps, kinds, meta, and what is known of what was pruned.

    Args:
        path: Where to; must not be there yet.
        view: What to write; one that can fetch what is not in memory.
        codec: See ``ChronoMap.open``.
        progress: ``progress(done, total)`` in revisions, called now and then.

    Raises:
        JournalOpenError: If the file is there, or cannot be made.
        ChronoMapTypeError, ChronoMapValueError: If a key or value would not come back as it is; says which. No file is made.
        CompactedError: If all that the view's revision knew of a key has been pruned since.
    """
    real = Path(os.path.realpath(path))
    check_place(real)
    ownership = Ownership(real)  # so that nobody makes the file meanwhile
    aside = real.with_name(real.name + ASIDE)
    try:
        check_new(real, "give the new file another name")
        remove(aside)
        with SqliteJournal.open(aside, durability="normal", codec=codec) as journal:
            _write(journal, view, progress)
        settle(aside, real)
    except BaseException:
        remove(aside)
        raise
    finally:
        ownership.release()


def _write(journal: SqliteJournal, view: View, progress: Progress | None) -> None:
    commits = _whole(view)
    while group := list(islice(commits, GROUP)):
        try:
            journal.append(group)
        except (ChronoMapTypeError, ChronoMapValueError):
            _name_culprit(journal, group)
            raise
        if progress is not None:
            progress(group[-1].revision, view.revision)
    pruned_to = min(view.store.pruned_to, view.revision)
    with journal._writing("noting what was pruned") as state:
        for key, pruned in _pruned(view):
            journal._remover.note(state, encode_key(key)[0], pruned)
        state.pruned_to = max(state.pruned_to, pruned_to)
        state.complete_since = max(state.complete_since, pruned_to)


def _whole(view: View) -> Iterator[Commit]:
    """All commits that there were, also those of which nothing is left, so that there are no gaps."""
    newest = 0
    for commit in rebuilt(view, 0, view.revision):
        yield from (_empty(view, revision) for revision in range(newest + 1, commit.revision))
        yield commit
        newest = commit.revision
    yield from (_empty(view, revision) for revision in range(newest + 1, view.revision + 1))


def _empty(view: View, revision: int) -> Commit:
    return Commit(revision, view.store.instant_of(revision), ())


def _pruned(view: View) -> Iterator[tuple[object, Pruned]]:
    """What was pruned of the keys, as far as the view's revision knew it."""
    for key in list(view.store.timelines):
        timeline = view.whole(key)
        if timeline is None or timeline.floor is None or timeline.floor[1] > view.revision:
            continue
        oldest = next(iter(timeline.entries(view.revision)), None)
        if oldest is None:
            raise compacted(key, timeline)
        yield key, Pruned(oldest[:2], timeline.floor, 0)


def _name_culprit(journal: SqliteJournal, group: list[Commit]) -> None:
    """Raise an error that says which record of a group it is that a map on disk cannot keep."""
    for commit in group:
        for record in commit.records:
            try:
                journal.check((record,))
            except (ChronoMapTypeError, ChronoMapValueError) as error:
                raise type(error)(f"key {record.key!r}, revision {commit.revision}: {error}") from error
