"""From the file to timelines: all of them in one pass over the log, or of each key the newest part.

The pass is the one place here that is written for speed: a million plain puts take it about twice as long as fetching and
decoding them. So what an ordinary record needs stands in the loop, and everything else in functions.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from chronomap.core.records import CANCELLED, NEVER, Entry
from chronomap.core.retention import Retention
from chronomap.core.timeline import Timeline
from chronomap.core.values import IMMUTABLE, MISSING, Captured
from chronomap.errors import ChronoMapValueError, CorruptJournalError
from chronomap.journal.codec import Codec, decode_key
from chronomap.journal.log import COLUMNS, UNREADABLE, Pace, damaged, is_whole, value_of
from chronomap.journal.protocol import Contents, Position, Progress, Pruned
from chronomap.journal.reading import arrange, owned, resident_part, timeline_of
from chronomap.journal.schema import cut_checksum, record_checksum
from chronomap.journal.state import State

REPORT_EVERY: Final = 1 << 14
"""Records between two reports of progress."""

CHUNK: Final = 64
"""Versions of one key that are fetched at a time."""


@contextmanager
def no_collection() -> Iterator[None]:
    """Garbage is not collected meanwhile: nothing here becomes garbage, and looking for it takes longer than all the rest."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_cuts(connection: Any, state: State) -> dict[bytes, Pruned]:
    """What was pruned of every key, by its canonical text."""
    cuts: dict[bytes, Pruned] = {}
    total = 0
    for row in connection.execute("SELECT * FROM pruned"):
        cuts[row[0]] = cut_of(row)
        total += row[-1]
    if (len(cuts), total) != (state.pruned, state.cuts):
        raise CorruptJournalError("what was pruned of the keys is damaged: some of it is missing")
    return cuts


def cut_of(row: tuple[Any, ...]) -> Pruned:
    """A row of ``pruned``, checked."""
    text, timestamp, revision, floor_timestamp, floor_revision, changed, checksum = row
    try:
        whole = cut_checksum(text, row[1:-1]) == checksum
    except UNREADABLE:
        whole = False
    if not whole:
        raise CorruptJournalError(f"what was pruned of key {text!r} is damaged")
    return Pruned((timestamp, revision), (floor_timestamp, floor_revision), changed)


def load(  # noqa: PLR0917 - where from, then how
    connection: Any,
    codec: Codec,
    state: State,
    limits: tuple[Retention, float] | None,
    share: bool,
    progress: Progress | None,
) -> Contents:
    """Everything, in one pass; or with ``limits`` (and now) in one pass that only takes down where versions are."""
    contents = Contents()
    pace = Pace(connection, 0, state.revision)
    rows = connection.execute(f"SELECT {COLUMNS} FROM records ORDER BY id")  # noqa: S608
    with no_collection():
        full = _Pass(codec, contents, pace, share=share, sketch=limits is not None)
        count = full.run(rows, progress, state.records)
        pace.end(state.revision)
        if (count, pace.headers) != (state.records, state.commits):
            raise CorruptJournalError(f"{state.records} records were written, but {count} are there")
        contents.instants = pace.instants
        for revision, meta in pace.metas.items():
            if (request_id := meta.get("request_id")) is not None:
                text = full.firsts.get(revision)
                contents.requests[request_id] = MISSING if text is None else full.keys.get(text, MISSING), revision
        cuts = read_cuts(connection, state)
        for text in full.disordered | cuts.keys():
            if (key := full.keys.get(text, MISSING)) is not MISSING:
                contents.timelines[key] = arrange(contents.timelines[key], cuts.get(text))
        if limits is not None:
            _fill_in(connection, codec, contents, *limits, share=share)
    return contents


def _fill_in(  # noqa: PLR0917
    connection: Any, codec: Codec, contents: Contents, resident: Retention, now: float, *, share: bool
) -> None:
    """Turn sketches into timelines of what is to be resident."""
    for key, sketch in contents.timelines.items():
        places = [sketch.entry(index) for index in reversed(range(len(sketch)))]
        newest_first = (place._replace(value=CANCELLED) if place.value < 0 else place for place in places)
        kept, more = resident_part(newest_first, resident, now)
        entries = [place if place.value is CANCELLED else _fetch(connection, codec, place.value, share=share) for place in kept]
        whole = timeline_of(entries, sketch.changed, None)
        whole.floor = sketch.floor
        contents.timelines[key] = whole
        if more:
            contents.partial.add(key)


def _fetch(connection: Any, codec: Codec, number: int, *, share: bool) -> Entry:
    row = connection.execute(f"SELECT {COLUMNS} FROM records WHERE id = ?", (number,)).fetchone()  # noqa: S608
    if row is None or not is_whole(row):
        raise CorruptJournalError(f"record {number} is damaged")
    return entry_of(row, codec, share=share)


def entry_of(row: tuple[Any, ...], codec: Codec, *, share: bool) -> Entry:
    """A checked row of ``records`` as a version, its value as a store keeps it."""
    found = value_of(row[5], codec, row[1])
    return Entry(row[6], row[1], found if share else owned(found), NEVER if row[7] is None else row[7])


class _Pass:
    """One pass over the log, and what it met.

    Attributes:
        sketch: Whether timelines get the ids of records instead of values (negative for a cancellation).
        keys: By their canonical text.
        firsts: The key (its text) of the first record of commits with which something is noted.
        disordered: The keys (their texts) that got a version dated before another.
    """

    def __init__(self, codec: Codec, contents: Contents, pace: Pace, *, share: bool, sketch: bool) -> None:
        self.sketch = sketch
        self.codec = codec
        self.contents = contents
        self.pace = pace
        self.share = share
        self.keys: dict[bytes, Any] = {}
        self.firsts: dict[int, bytes] = {}
        self.disordered: set[bytes] = set()
        self._timelines: dict[bytes, Timeline] = {}

    def run(self, rows: Any, progress: Progress | None, total: int) -> int:
        """Take all rows; returns how many there were."""
        pace, metas, find = self.pace, self.pace.metas, self._timelines.get
        step, add_instant = pace.step, pace.instants.append
        codec, decode, share, sketch = self.codec, self.codec.decode, self.share, self.sketch
        newest = count = 0
        for row in rows:
            number, revision, kind, text, _, value, timestamp, expires_at, instant, checksum = row
            try:
                whole = record_checksum(row) == checksum
            except UNREADABLE:
                whole = False
            if not whole:
                raise damaged(row, newest)
            if revision == pace.newest + 1 < pace.due:
                pace.newest = revision
                add_instant(timestamp if instant is None else instant)
            else:
                step(revision, checksum, timestamp if instant is None else instant)
                if revision in metas:
                    self.firsts.setdefault(revision, text)
            newest = revision
            count += 1
            if progress is not None and not count % REPORT_EVERY:
                progress(count, total)
            if kind == "activate":
                continue
            if (timeline := find(text)) is None or kind == "erase":
                timeline = self._new(row)
            if sketch:
                found = -number if value == b"" else number
                expires_at = None  # noqa: PLW2901 - comes with the value
            elif value:
                try:
                    found = decode(value)
                except ChronoMapValueError:
                    found = value_of(value, codec, revision)  # which says where that was
                if not share and type(found) not in IMMUTABLE:
                    found = Captured(found)
            else:
                found = MISSING if value is None else CANCELLED
            timestamps = timeline.timestamps
            if timestamps and timestamp < timestamps[-1]:
                self.disordered.add(text)
            if expires_at is not None or timeline.expiries is not None:
                timeline._append(timestamp, revision, found, NEVER if expires_at is None else expires_at)
            else:
                timeline.values.append(found)
                timeline.revisions.append(revision)
                timestamps.append(timestamp)
            timeline.changed = revision
        return count

    def _key(self, row: tuple[Any, ...]) -> Any:
        text = row[3]
        if text not in self.keys:
            self.keys[text] = decode_key(text, row[4])
        return self.keys[text]

    def _new(self, row: tuple[Any, ...]) -> Timeline:
        """The timeline of a key that is met for the first time, or has been erased."""
        key, text = self._key(row), row[3]
        if row[2] == "erase":
            self.contents.erased[key] = row[1]
            self.disordered.discard(text)
        timeline = self._timelines[text] = self.contents.timelines[key] = Timeline()
        if self.sketch:
            timeline.values = array("q")  # type: ignore[assignment]
        return timeline


_NEWEST: Final = (
    "SELECT p.timestamp, p.revision, " + ", ".join(f"r.{name}" for name in COLUMNS.split(", ")) + " FROM places p "  # noqa: S608
    "LEFT JOIN records r ON r.id = p.id WHERE p.key = ? AND (p.timestamp, p.revision) < (?, ?) "
    "ORDER BY p.timestamp DESC, p.revision DESC LIMIT ?"
)


_NEIGHBOURS: Final = (
    "SELECT p.key, p.timestamp, p.revision, r.key, r.timestamp, r.revision FROM (SELECT * FROM places "
    "WHERE (key, timestamp, revision) {0} (?, ?, ?) ORDER BY key {1}, timestamp {1}, revision {1} LIMIT 1) p "
    "LEFT JOIN records r ON r.id = p.id"
)
_ABOVE: Final = _NEIGHBOURS.format(">=", "ASC")
_BELOW: Final = _NEIGHBOURS.format("<", "DESC")


def newest_first(  # noqa: PLR0917 - what is asked of the file, then how
    connection: Any, codec: Codec, text: bytes, before: Position | None, cut: Pruned | None, *, share: bool
) -> Iterator[Entry]:
    """The versions of a key below a position and not pruned, newest first.

    The rows of the index have no checksums, so each is held against its record, and so are the two that enclose what is
    read: a damaged one would send the search astray, and then it, or a neighbour of it, is where the search ends.
    """
    position = before or (NEVER, 1 << 62)
    _check_neighbour(connection, _ABOVE, (text, *position))
    fetched = 4
    while True:
        fetched = min(fetched * 4, CHUNK)
        rows = connection.execute(_NEWEST, (text, *position, fetched)).fetchall()
        for timestamp, revision, *columns in rows:
            row = tuple(columns)
            if (
                not is_whole(row)
                or (row[1], row[3], row[6]) != (revision, text, timestamp)
                or (timestamp, revision) >= position
            ):
                raise CorruptJournalError(f"a version of key {text!r}, of revision {revision}, is damaged")
            position = timestamp, revision
            if cut is not None and position < cut.start:
                return
            yield entry_of(row, codec, share=share)
        if len(rows) < fetched:
            _check_neighbour(connection, _BELOW, (text, *position))
            return


def _check_neighbour(connection: Any, query: str, position: tuple[Any, ...]) -> None:
    found = connection.execute(query, position).fetchone()
    if found is not None and found[:3] != found[3:]:
        raise CorruptJournalError(f"the index by key is damaged near {found[0]!r}")
