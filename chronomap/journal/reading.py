"""From records in the order of the log to timelines and notes; and how much of a timeline is resident."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from chronomap.core.ledger import ORDINARY, Activation, Note
from chronomap.core.meta import NOTHING, Meta
from chronomap.core.records import CANCELLED, NEVER, Entry, Kind
from chronomap.core.retention import Retention
from chronomap.core.timeline import Series, sorted_up
from chronomap.journal.protocol import Contents, Pruned


def add(timeline: Series, entry: Entry) -> None:
    """Add an entry at the end, wherever it belongs.

    ``complete`` must follow when all are there, and if they did not come in order, ``arrange``.
    """
    timestamp, revision, value, expires_at = entry
    if expires_at != NEVER:
        if timeline.expiries is None:
            timeline.expiries = array("d")
        _fill_up(timeline.expiries, len(timeline.timestamps))
        timeline.expiries.append(expires_at)
    timeline.values.append(value)
    timeline.revisions.append(revision)
    timeline.timestamps.append(timestamp)


def _fill_up(expiries: array[float], size: int) -> None:
    expiries.extend([NEVER] * (size - len(expiries)))


def complete(timeline: Series) -> None:
    """Note what the entries added so far amount to: expiries of those after the last that expires, the last change."""
    if timeline.expiries is not None:
        _fill_up(timeline.expiries, len(timeline.timestamps))
    timeline.changed = max(timeline.revisions, default=0)


def arrange(timeline: Series, cut: Pruned | None) -> Series:
    """A timeline of the same entries, in order, without those that have been pruned."""
    places = sorted(zip(timeline.timestamps, timeline.revisions, range(len(timeline)), strict=True))
    first = 0 if cut is None else bisect_left(places, cut.start)
    entries = [timeline.entry(index) for _, _, index in places[first:]]
    return timeline_of(entries, max(timeline.revisions, default=0), cut)


def resident_part(newest_first: Iterable[Entry], resident: Retention, now: float) -> tuple[list[Entry], bool]:
    """What of a key is loaded, oldest first, and whether there is more.

    The same as pruning would leave: the version in force and what comes after it, and before it whatever is both among
    the newest ``max_versions`` and no older than ``max_age``.
    """
    oldest = resident.oldest(now)
    kept: list[Entry] = []
    in_force, void = False, None
    for entry in newest_first:
        if in_force:
            too_many = resident.max_versions is not None and len(kept) >= resident.max_versions
            if too_many or (oldest is not None and entry.timestamp < oldest):
                return kept[::-1], True
        elif entry.timestamp <= now:
            if entry.value is CANCELLED:
                void = entry.timestamp
            elif entry.timestamp != void:
                in_force = True
        kept.append(entry)
    return kept[::-1], False


def timeline_of(entries: list[Entry], changed: int, cut: Pruned | None) -> Series:
    """A timeline of entries that are in order, last changed by a revision (or by one that was pruned)."""
    timeline = Series()
    for entry in entries:
        add(timeline, entry)
    complete(timeline)
    timeline.ordered = sorted_up(timeline.revisions)
    timeline.changed = changed if cut is None else max(changed, cut.changed)
    timeline.floor = None if cut is None else cut.floor
    return timeline


# -- notes -------------------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """A record of a commit that may have something to tell."""

    revision: int
    kind: Kind
    key: Any
    timestamp: float


class Telling:
    """Gathers those, from all records in the order of the log."""

    def __init__(self) -> None:
        self.records: list[Told] = []
        self._revision = 0

    def meet(self, revision: int, kind: Kind, key: Any, timestamp: float, *, noted: bool) -> None:
        """Take a record; ``noted``: its commit has a ``meta``."""
        if noted or kind not in ORDINARY or revision == self._revision:
            self._revision = revision
            self.records.append(Told(revision, kind, key, timestamp))


def annotate(contents: Contents, told: Iterable[Told], metas: Mapping[int, Meta], cuts: Mapping[Any, Pruned]) -> None:
    """Add what commits have to tell, the timelines being complete.

    Args:
        contents: What has been loaded. ``pruned_to`` is raised to the last activation of a version that has been pruned.
        told: The records in question, in the order of the log.
        metas: What is noted with commits, by revision.
        cuts: What was pruned, by key.
    """
    for revision, records in groupby(told, key=lambda record: record.revision):
        kind: Kind | None = None
        activated: list[Activation] = []
        versions = 0
        for record in _standing(contents, records, cuts):
            if not versions and not activated:
                kind = None if record.kind in ORDINARY else "expire" if record.kind == "activate" else record.kind
            if record.kind == "activate":
                learned = _learned(contents.timelines[record.key], record.timestamp, revision)
                activated.append((record.key, record.timestamp, learned))
            else:
                versions += 1
        note = Note(kind, metas.get(revision, NOTHING), tuple(activated))
        if (versions or activated) and (kind is not None or note.meta or activated):
            contents.notes.append((revision, note, versions))


def _standing(contents: Contents, records: Iterable[Told], cuts: Mapping[Any, Pruned]) -> Iterator[Told]:
    """Those of which the version is still there, neither pruned nor erased."""
    for record in records:
        revision, kind, key, timestamp = record
        if kind != "activate":
            cut = cuts.get(key)
            if cut is None or (timestamp, revision) >= cut.start:
                yield record
        elif revision > contents.erased.get(key, 0):
            if _learned(contents.timelines.get(key), timestamp, revision):
                yield record
            else:
                contents.pruned_to = max(contents.pruned_to, revision)


def _learned(timeline: Series | None, timestamp: float, before: int) -> int:
    """The last revision before another that wrote a version for a timestamp; 0 if that is not there any more."""
    if timeline is not None:
        index = bisect_right(timeline.timestamps, timestamp) - 1
        while index >= 0 and timeline.timestamps[index] == timestamp:
            if timeline.revisions[index] < before:
                return timeline.revisions[index]
            index -= 1
    return 0
