"""From records in the order of the log to timelines; and how much of a timeline is resident."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from chronomap.core.records import CANCELLED, NEVER, Entry
from chronomap.core.retention import Retention
from chronomap.core.timeline import Timeline
from chronomap.core.values import IMMUTABLE, MISSING, Captured
from chronomap.journal.protocol import Pruned


def owned(value: Any) -> Any:
    """A value that nobody else has, as a store keeps it."""
    return value if value is MISSING or value is CANCELLED or type(value) in IMMUTABLE else Captured(value)


def add(timeline: Timeline, entry: Entry) -> None:
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


def complete(timeline: Timeline) -> None:
    """Note what the entries added so far amount to: expiries of those after the last that expires, the last change."""
    if timeline.expiries is not None:
        _fill_up(timeline.expiries, len(timeline.timestamps))
    timeline.changed = max(timeline.revisions, default=0)


def arrange(timeline: Timeline, cut: Pruned | None) -> Timeline:
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


def timeline_of(entries: list[Entry], changed: int, cut: Pruned | None) -> Timeline:
    """A timeline of entries that are in order, last changed by a revision (or by one that was pruned)."""
    timeline = Timeline()
    for entry in entries:
        add(timeline, entry)
    complete(timeline)
    timeline.ordered = all(one <= two for one, two in pairwise(timeline.revisions))
    timeline.changed = changed if cut is None else max(changed, cut.changed)
    timeline.floor = None if cut is None else cut.floor
    return timeline
