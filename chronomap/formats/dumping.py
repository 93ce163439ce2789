"""A whole store as plain containers: what ``to_dict`` gives and every file of a whole map holds.

One row per version, ``(timestamp, value, revision, expires_at or None, kind)``: the first two are what ChronoMap 2 had.
Example: a map with one put of 1 at instant 100 is::

    {"format": "chronomap/3", "version": "3", "revision": 1, "instants": [100.0],
     "store": {"a": [(100.0, 1, 1, None, "value")]}, "pruned": {}, "pruned_to": 0, "notes": [], "snapshot_time": None}

``notes`` has ``(revision, kind or None, meta, [(key, timestamp, revision) of what took effect])`` of each commit about which
its versions do not tell everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from chronomap.core.records import CANCELLED, NEVER, Entry, plain
from chronomap.core.values import MISSING
from chronomap.core.view import View, compacted

FORMAT: Final = "chronomap/3"

Row = tuple[float, Any, int, float | None, str]


def dump(view: View) -> dict[str, Any]:
    """Everything that was known at the view's revision, what is scheduled included; values are copies.

    Returns:
        ``instants`` are those of all commits by revision - 1, ``pruned`` holds the smallest
        timestamp and revision that were pruned of a key, ``pruned_to`` is the greatest revision that was.

    Raises:
        CompactedError: If all that the revision knew of a key has been pruned since.
    """
    revision = view.revision
    rows: dict[Any, list[Row]] = {}
    pruned: dict[Any, tuple[float, int]] = {}
    for key, entries, floor in known(view):
        rows[key] = [row(entry) for entry in entries]
        if floor is not None:
            pruned[key] = floor
    return {
        "format": FORMAT,
        "version": "3",
        "revision": revision,
        "instants": [view.store.instant_of(one) for one in range(1, revision + 1)],
        "store": rows,
        "pruned": pruned,
        "pruned_to": min(view.store.pruned_to, revision),
        "notes": [
            (one, note.kind, dict(note.meta), list(note.activated))
            for one, note in sorted(view.store.ledger.notes.copy().items())
            if one <= revision
        ],
        "snapshot_time": None,
    }


def known(view: View) -> Iterator[tuple[Any, list[Entry], tuple[float, int] | None]]:
    """``(key, entries, what was pruned)`` of every key that the view's revision knows."""
    revision = view.revision
    for key in list(view.store.timelines):
        timeline = view.whole(key)
        if timeline is None:
            continue
        floor = timeline.floor
        if floor is not None and floor[1] > revision:
            floor = None  # nothing that this revision knew
        if entries := list(timeline.entries(revision)):
            yield key, entries, floor
        elif floor is not None:
            raise compacted(key, timeline)


def row(entry: Entry) -> Row:
    """An entry as it is written."""
    timestamp, revision, value, expires_at = entry
    kind = "tombstone" if value is MISSING else "cancellation" if value is CANCELLED else "value"
    return timestamp, plain(value), revision, None if expires_at == NEVER else expires_at, kind
