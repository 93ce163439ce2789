"""From the file to timelines: all of them in one pass over the log, or of each key the newest part.

The pass is the one place here that is written for speed: ordinary puts, which most records are, are taken in batches, and
everything else row by row.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, repeat
from operator import concat, itemgetter
from typing import Any, Final
from zlib import crc32

from chronomap.core.records import CANCELLED, NEVER, Entry, owned
from chronomap.core.retention import Retention
from chronomap.core.timeline import NOT_LOADED, WIDE, WIDE_FROM, Series
from chronomap.core.values import MISSING, Captured
from chronomap.errors import ChronoMapValueError, CorruptJournalError
from chronomap.journal.codec import Codec, decode_key
from chronomap.journal.log import COLUMNS, UNREADABLE, Pace, damaged, is_whole, value_of
from chronomap.journal.protocol import Contents, Position, Progress, Pruned
from chronomap.journal.reading import Telling, add, annotate, arrange, complete, resident_part, timeline_of
from chronomap.journal.schema import PLAIN_PUT, cut_checksum, record_head
from chronomap.journal.state import State

BATCH: Final = 256
"""Records that are looked at together: few, so that one of another kind slows few others down."""

MUTABLE: Final = frozenset({dict, list})
"""Types of values that are always captured."""

FETCHED: Final = 16
"""Versions of one key that are fetched first; then so many times as many, and so on."""


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
    if state.revision >= WIDE_FROM:
        Series.code = WIDE
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
            if (request_id := dict(meta).get("request_id")) is not None:
                text = full.firsts.get(revision)
                contents.requests[request_id] = MISSING if text is None else full.keys.get(text, MISSING), revision
        cuts = read_cuts(connection, state)
        for timeline in contents.timelines.values():
            complete(timeline)
        for text in full.disordered | cuts.keys():
            if (key := full.keys.get(text, MISSING)) is not MISSING:
                contents.timelines[key] = arrange(contents.timelines[key], cuts.get(text))
        contents.pruned_to = state.pruned_to
        own_cuts = {full.keys[text]: cut for text, cut in cuts.items() if text in full.keys}
        told = [record._replace(key=full.keys.get(record.key, MISSING)) for record in full.telling.records]
        annotate(contents, told, pace.metas, own_cuts)
        if limits is not None:
            _fill_in(connection, codec, contents, *limits, share=share)
    return contents


def _fill_in(connection: Any, codec: Codec, contents: Contents, resident: Retention, now: float, *, share: bool) -> None:
    """Turn sketches into timelines of what is to be resident."""
    for key, sketch in contents.timelines.items():
        places = map(sketch.entry, reversed(range(len(sketch))))
        newest_first = (place._replace(value=CANCELLED) if place.value < 0 else place for place in places)
        kept, more = resident_part(newest_first, resident, now)
        entries = [place if place.value is CANCELLED else _fetch(connection, codec, place.value, share=share) for place in kept]
        whole = timeline_of(entries, sketch.changed, None)
        whole.floor = sketch.floor
        contents.timelines[key] = whole
        if more:
            contents.partial.add(key)
            whole.floor = NOT_LOADED


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
        telling: The records of commits that may have something to tell; they have the texts of keys.
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
        self.telling = Telling()
        self._timelines: dict[bytes, Series] = {}
        self._decode_all = getattr(codec, "decode_all", lambda texts: [*map(codec.decode, texts)])

    def run(self, rows: Any, progress: Progress | None, total: int) -> int:
        """Take all rows; returns how many there were."""
        count = 0
        while batch := list(islice(rows, BATCH)):
            if not self._take_plain(batch):
                for row in batch:
                    self.take(row)
            count += len(batch)
            if progress is not None:
                progress(count, total)
        return count

    def _take_plain(self, batch: list[tuple[Any, ...]]) -> bool:
        """Take a batch that is nothing but puts for now, each a commit by itself; False, and nothing done, if it is not.

        By columns rather than by rows: most of the work is then done by C code.
        """
        pace = self.pace
        numbers, revisions, kinds, texts, exacts, values, timestamps, expiries, instants, checksums = zip(*batch, strict=True)
        first = pace.newest + 1
        if (
            {*kinds} != {"put"}
            or {*exacts, *expiries, *instants} != {None}
            or {*map(type, values), *map(type, texts)} != {bytes}
            or {*map(type, timestamps)} != {float}
            or not all(values)
            or revisions != tuple(range(first, first + len(batch)))
            or revisions[-1] >= pace.due
        ):
            return False
        parts = [(len(text) << 4) + PLAIN_PUT for text in texts]
        heads = map(record_head, numbers, revisions, timestamps, repeat(NEVER), timestamps, parts)
        if [*map(crc32, map(concat, map(concat, heads, texts), values))] != [*checksums]:  # type: ignore[arg-type]
            return False
        try:
            found = numbers if self.sketch else self._decode_all(values)
        except ChronoMapValueError:
            return False
        if not self.share and not self.sketch:
            found = [*map(Captured, found)] if {*map(type, found)} <= MUTABLE else [*map(owned, found)]
        find = self._timelines.get
        for index, (text, value, timestamp, revision) in enumerate(zip(texts, found, timestamps, revisions, strict=True)):
            if (timeline := find(text)) is None:
                timeline = self._new(batch[index])
            elif timestamp < timeline.timestamps[-1]:
                self.disordered.add(text)
            timeline.values.append(value)
            timeline.revisions.append(revision)
            timeline.timestamps.append(timestamp)
        pace.newest = revisions[-1]
        pace.instants.extend(timestamps)
        return True

    def take(self, row: tuple[Any, ...]) -> None:
        """Take any row."""
        number, revision, kind, text, _, value, timestamp, _, instant, checksum = row
        pace = self.pace
        if not is_whole(row):
            raise damaged(row, pace.newest)
        pace.step(revision, checksum, timestamp if instant is None else instant)
        if noted := revision in pace.metas:
            self.firsts.setdefault(revision, text)
        self.telling.meet(revision, kind, text, timestamp, noted=noted)
        if kind == "activate":
            return
        if (timeline := self._timelines.get(text)) is None or kind == "erase":
            timeline = self._new(row)
        elif timestamp < timeline.timestamps[-1]:
            self.disordered.add(text)
        if self.sketch:
            entry = Entry(timestamp, revision, -number if value == b"" else number, NEVER)
        else:
            entry = entry_of(row, self.codec, share=self.share)
        add(timeline, entry)

    def _key(self, row: tuple[Any, ...]) -> Any:
        text = row[3]
        if text not in self.keys:
            self.keys[text] = decode_key(text, row[4])
        return self.keys[text]

    def _new(self, row: tuple[Any, ...]) -> Series:
        """The timeline of a key that is met for the first time, or has been erased."""
        key, text = self._key(row), row[3]
        if row[2] == "erase":
            self.contents.erased[key] = row[1]
            self.disordered.discard(text)
        timeline = self._timelines[text] = self.contents.timelines[key] = Series()
        if self.sketch:
            timeline.values = array("q")  # type: ignore[assignment]
        return timeline


_NEWEST: Final = (
    "SELECT p.timestamp, p.revision, " + ", ".join(f"r.{name}" for name in COLUMNS.split(", ")) + " FROM places p "  # noqa: S608
    "LEFT JOIN records r ON r.id = p.id WHERE p.key = ? AND p.timestamp <= ? "
    "ORDER BY p.timestamp DESC, p.revision DESC LIMIT ?"
)


_NEIGHBOURS: Final = (
    "SELECT p.key, p.timestamp, p.revision, r.key, r.timestamp, r.revision FROM (SELECT * FROM places "
    "WHERE (key, timestamp, revision) {0} (?, ?, ?) ORDER BY key {1}, timestamp {1}, revision {1} LIMIT 2) p "
    "LEFT JOIN records r ON r.id = p.id"
)
_ABOVE: Final = _NEIGHBOURS.format(">=", "ASC")
_BELOW: Final = _NEIGHBOURS.format("<", "DESC")


def unindexed(
    connection: Any, codec: Codec, text: bytes, before: Position | None, cut: Pruned | None, *, share: bool
) -> Iterator[Entry]:
    """The same as ``newest_first``, by looking at every record."""
    entries = []
    for row in connection.execute(f"SELECT {COLUMNS} FROM records WHERE key = ? AND kind <> 'activate'", (text,)):  # noqa: S608
        if not is_whole(row):
            raise CorruptJournalError(f"record {row[0]} is damaged")
        entries.append(entry_of(row, codec, share=share))
    for entry in sorted(entries, key=itemgetter(0, 1), reverse=True):
        position = entry[:2]
        if cut is not None and position < cut.start:
            return
        if before is None or position < before:
            yield entry


def newest_first(
    connection: Any, codec: Codec, text: bytes, before: Position | None, cut: Pruned | None, *, share: bool
) -> Iterator[Entry]:
    """The versions of a key below a position and not pruned, newest first.

    The rows of the index have no checksums, so each is held against its record, and so are the two on either side of what
    is read: a damaged one sends the search astray, and then the search ends beside it, or where the order is broken.
    """
    first = given = before or (NEVER, 1 << 62)
    _check_neighbours(connection, _ABOVE, text, first, ends=before is None)
    fetched = FETCHED
    while True:
        # From the beginning each time, since a search for where the last part ended could be led past something.
        rows = connection.execute(_NEWEST, (text, first[0], fetched)).fetchall()
        position = first[0], 1 << 62
        for timestamp, revision, *columns in rows:
            row = tuple(columns)
            if (
                not is_whole(row)
                or (row[1], row[3], row[6]) != (revision, text, timestamp)
                or (timestamp, revision) >= position
            ):
                raise CorruptJournalError(f"a version of key {text!r}, of revision {revision}, is damaged")
            position = timestamp, revision
            if position >= first:
                continue
            if cut is not None and position < cut.start:
                return
            if position < given:
                given = position
                yield entry_of(row, codec, share=share)
        if len(rows) < fetched:
            _check_neighbours(connection, _BELOW, text, position, ends=True)
            return
        fetched *= FETCHED


def _check_neighbours(connection: Any, query: str, text: bytes, position: Position, *, ends: bool) -> None:
    """Hold what stands beside a position against the log; ``ends``: no version of the key may be there."""
    found = connection.execute(query, (text, *position)).fetchall()
    places = [row[:3] for row in found]
    try:
        ordered = places == sorted(set(places), reverse=query is _BELOW)
    except TypeError:
        ordered = False
    if not ordered or any(row[:3] != row[3:] or (ends and row[0] == text) for row in found):
        raise CorruptJournalError(f"the index by key is damaged near {text!r}")
