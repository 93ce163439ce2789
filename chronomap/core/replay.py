"""Replay: the commits of the past again, from the history itself, however long ago the feed let go of them.

A timeline knows what was written at which revision, and the ledger of what kind it was; the rest follows from the
visibility rule. Example: ``put a``, ``put b``, ``delete a`` leave entries of revisions 1 and 3 on the timeline of a and of 2
on that of b; sorted by revision they are the three commits, and what a held before revision 3 is what it reads as of 2.

What the feed still has is taken from there. What came before is exact but for the order within a commit of several keys:
keys come as they first appeared in the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice
from math import nextafter
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from chronomap.core.ledger import Ledger
from chronomap.core.records import FORGOTTEN, NEVER, Commit, Entry, Record, owned
from chronomap.core.timeline import Pruned, Timeline
from chronomap.core.values import MISSING
from chronomap.core.view import View
from chronomap.errors import CompactedError

if TYPE_CHECKING:
    from chronomap.core.chronicle import Chronicle


class Older(Protocol):
    """Where the versions are that are not in memory: a journal."""

    def versions(self, key: Any, before: tuple[float, int] | None = None) -> Iterator[Entry]:
        """The versions of a key below a position, newest first."""

    def floor(self, key: Any) -> tuple[float, int] | None:
        """The smallest timestamp and revision ever pruned of a key."""


Row = tuple[int, int, float, Any, Entry, bool]
"""``(revision, place of the key, timestamp, key, entry, whether it took effect then)``."""


def commits(view: View, since: int) -> Iterator[Commit]:
    """The commits after a revision up to a pinned view's. O(versions), of which those in between are sorted.

    Raises:
        CompactedError: If a version that was committed in between has been pruned.
    """
    store = view.store
    store.check_revision(since)
    if since < store.pruned_to:
        raise CompactedError(
            f"some of what was committed up to revision {store.pruned_to} has been pruned; replay(since={store.pruned_to}) "
            f"is whole"
        )
    floor = max(since, store.feed.floor)
    newest = store.feed.since(floor)
    yield from rebuilt(view, since, min(floor, view.revision))
    for commit in newest:
        if since < commit.revision <= view.revision:
            yield commit


def rebuilt(view: View, since: int, until: int) -> Iterator[Commit]:
    """The commits after a revision, up to another, with what is left of them; those of which nothing is are left out."""
    if since >= until:
        return
    ledger = view.store.ledger
    rows = sorted(_rows(view, ledger, since, until), key=itemgetter(0, 1, 2))
    for revision, group in groupby(rows, key=itemgetter(0)):
        written = list(group)
        note = ledger.notes.get(revision)
        if note is not None and note.kind == "expire":
            written.sort(key=itemgetter(2))  # what falls due is committed in due order
        records: list[Record] = []
        in_force: set[int] = set()
        instant = view.store.instant_of(revision)
        for row in written:
            timeline = view.whole(row[3])
            if timeline is not None:
                if row[2] < instant and _decides(timeline, revision, row[2], instant):
                    in_force.add(len(records))
                records.append(_record(timeline, ledger, row))
        yield Commit(revision, instant, tuple(records), () if note is None else note.meta, frozenset(in_force))


def _rows(view: View, ledger: Ledger, since: int, until: int) -> Iterator[Row]:
    places = {key: place for place, key in enumerate(list(view.store.timelines))}
    for key, place in places.items():
        if (timeline := view.whole(key)) is not None:
            for entry in timeline.entries(until):
                if entry.revision > since:
                    yield entry.revision, place, entry.timestamp, key, entry, False
    for revision, note in list(ledger.notes.items()):
        if since < revision <= until:
            for key, timestamp, learned in note.activated:
                timeline = view.whole(key)
                stood = None if timeline is None else timeline.at_exactly(timestamp, revision)
                if stood is not None and stood.revision == learned:
                    yield revision, places[key], timestamp, key, stood, True


def _record(timeline: Timeline, ledger: Ledger, row: Row) -> Record:
    revision, _, timestamp, key, entry, activated = row
    kind = "activate" if activated else ledger.kind_of(revision, entry.value)
    at = nextafter(timestamp, -NEVER) if kind == "activate" else timestamp
    previous = MISSING if kind == "erase" else _held(timeline, at, revision - 1, whole=kind != "expire")
    return Record(kind, key, entry.value, previous, timestamp, entry.expires_at)


def _held(timeline: Timeline, timestamp: float, revision: int, *, whole: bool) -> Any:
    try:
        entry = timeline.find(timestamp, revision)
    except Pruned:
        return FORGOTTEN
    if entry is None:
        return MISSING
    return entry.value if entry.holds(timestamp) or not whole else MISSING


class Completion:
    """Gives commits from a journal what can be told from the timelines; see ``Journal.replay``. The oldest come first.

    Args:
        store: The store, with its timelines.
        older: Has the versions that are not in memory, if there are such.
    """

    def __init__(self, store: Chronicle, older: Older | None) -> None:
        self._store = store
        self._older = older
        self._deep: dict[Any, Timeline] = {}  # those of which more had to be read

    def complete(self, commit: Commit) -> Commit:
        """The commit with the previous values, the values of activations, and what decides what is held."""
        revision, instant, records, meta, _ = commit
        in_force: set[int] = set()
        whole = []
        for record in records:
            kind, key, value, _, timestamp, expires_at = record
            if self._store.erased.get(key, 0) > revision:
                continue  # the journal may still tell what took effect; it is left out like everything else of it
            at = nextafter(timestamp, -NEVER) if kind == "activate" else timestamp
            if (timeline := self._timeline(key, at, revision - 1)) is None:
                whole.append(record)
                continue
            entry = timeline.at_exactly(timestamp, revision)
            if entry is not None and (kind == "activate" or entry.revision == revision):
                value, expires_at = entry.value, entry.expires_at  # not a copy of its own
            previous = MISSING if kind == "erase" else _held(timeline, at, revision - 1, whole=kind != "expire")
            if timestamp < instant and _decides(timeline, revision, timestamp, instant):
                in_force.add(len(whole))
            whole.append(Record(kind, key, value, previous, timestamp, expires_at))
        return Commit(revision, instant, tuple(whole), meta, frozenset(in_force))

    def _timeline(self, key: Any, timestamp: float, revision: int) -> Timeline | None:
        """The timeline of a key with as much of what is not in memory as it takes to tell what held there."""
        timeline = self._deep.get(key) or self._store.timelines.get(key)
        if timeline is None or self._older is None or not timeline.partial:
            return timeline
        rest = self._older.versions(key, timeline.oldest)
        while True:
            try:
                timeline.find(timestamp, revision)
                break
            except Pruned:
                # As much again as there is, since each time all of it is copied.
                more = [entry._replace(value=owned(entry.value)) for entry in islice(rest, len(timeline))]
                if not more:
                    timeline = timeline.extended([], self._older.floor(key))
                    break
                timeline = timeline.extended(more[::-1], timeline.floor)
        self._deep[key] = timeline
        return timeline


def _decides(timeline: Timeline, revision: int, timestamp: float, instant: float) -> bool:
    try:
        entry = timeline.find(instant, revision)
    except Pruned:
        return False
    return entry is not None and entry.timestamp == timestamp
