"""From the file to timelines: all of them in one pass over the log, or of each key the newest part.

The pass is the one place here that is written for speed: a million plain puts take it about twice as long as fetching and
decoding them. So what an ordinary record needs stands in the loop, and everything else in functions.
"""

from __future__ import annotations

import gc
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


def load_all(connection: Any, codec: Codec, state: State, share: bool, progress: Progress | None) -> Contents:
    """Everything, in one pass."""
    contents = Contents()
    pace = Pace(connection, 0, state.revision)
    rows = connection.execute(f"SELECT {COLUMNS} FROM records ORDER BY id")  # noqa: S608
    with no_collection():
        full = _Pass(codec, contents, pace, share=share)
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
    return contents


class _Pass:
    """One pass over the log, and what it met.

    Attributes:
        keys: By their canonical text.
        firsts: The key (its text) of the first record of commits with which something is noted.
        disordered: The keys (their texts) that got a version dated before another.
    """

    def __init__(self, codec: Codec, contents: Contents, pace: Pace, *, share: bool) -> None:
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
        codec, decode, share = self.codec, self.codec.decode, self.share
        newest = count = 0
        for row in rows:
            _, revision, kind, text, _, value, timestamp, expires_at, instant, checksum = row
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
            if value:
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
        return timeline


def load_newest(connection: Any, codec: Codec, state: State, share: bool, resident: Retention, now: float) -> Contents:
    """The newest part of every key, found by the index; what is read is checked, and the index is counted."""
    contents = Contents()
    [(placed,)] = connection.execute("SELECT count(*) FROM places").fetchall()
    if placed != state.places:
        raise CorruptJournalError(f"{state.places} records were put into the index by key, but {placed} are there")
    cuts = read_cuts(connection, state)
    with no_collection():
        _load_instants(connection, state, contents)
        text = None
        while (text := _next_key(connection, text)) is not None:
            cut = cuts.get(text)
            seen: list[tuple[Any, ...]] = []
            entries, more = resident_part(newest_first(connection, codec, text, None, cut, seen, share=share), resident, now)
            if not entries:
                continue
            key = decode_key(text, seen[0][4])
            [(changed,)] = connection.execute("SELECT max(revision) FROM places WHERE key = ?", (text,))
            contents.timelines[key] = timeline_of(entries, changed, cut)
            if more:
                contents.partial.add(key)
            if erasures := [row[1] for row in seen if row[2] == "erase"]:
                contents.erased[key] = max(erasures)
    return contents


def _load_instants(connection: Any, state: State, contents: Contents) -> None:
    pace = Pace(connection, 0, state.revision)
    firsts: dict[int, int] = {}
    rows = connection.execute("SELECT id, revision, checksum, coalesce(instant, timestamp) FROM records ORDER BY id")
    add_instant = pace.instants.append
    count = 0
    for count, (number, revision, checksum, instant) in enumerate(rows, 1):  # noqa: B007 - how many is asked below
        if revision == pace.newest + 1 < pace.due:
            pace.newest = revision
            add_instant(instant)
        else:
            pace.step(revision, checksum, instant)
            if revision in pace.metas:
                firsts.setdefault(revision, number)
    pace.end(state.revision)
    if count != state.records:
        raise CorruptJournalError(f"{state.records} records were written, but {count} are there")
    contents.instants = pace.instants
    for revision, meta in pace.metas.items():
        if (request_id := meta.get("request_id")) is not None:
            key = MISSING
            if revision in firsts:
                [key_of] = connection.execute("SELECT key, exact FROM records WHERE id = ?", (firsts[revision],))
                key = decode_key(*key_of)
            contents.requests[request_id] = key, revision


def _next_key(connection: Any, text: bytes | None) -> bytes | None:
    """The key after another in the index. O(log n)."""
    if text is None:
        found = connection.execute("SELECT key FROM places ORDER BY key LIMIT 1").fetchone()
    else:
        found = connection.execute("SELECT key FROM places WHERE key > ? ORDER BY key LIMIT 1", (text,)).fetchone()
    return None if found is None else found[0]


_NEWEST: Final = (
    "SELECT p.timestamp, p.revision, " + ", ".join(f"r.{name}" for name in COLUMNS.split(", ")) + " FROM places p "  # noqa: S608
    "LEFT JOIN records r ON r.id = p.id WHERE p.key = ? AND (p.timestamp, p.revision) < (?, ?) "
    "ORDER BY p.timestamp DESC, p.revision DESC LIMIT ?"
)


def newest_first(  # noqa: PLR0917 - what is asked of the file, then how
    connection: Any,
    codec: Codec,
    text: bytes,
    before: Position | None,
    cut: Pruned | None,
    seen: list[tuple[Any, ...]],
    *,
    share: bool,
) -> Iterator[Entry]:
    """The versions of a key below a position and not below another, newest first; ``seen`` gets their rows."""
    position = before or (NEVER, 1 << 62)
    fetched = 4
    while True:
        fetched = min(fetched * 4, CHUNK)
        rows = connection.execute(_NEWEST, (text, *position, fetched)).fetchall()
        for timestamp, revision, *columns in rows:
            row = tuple(columns)
            if not is_whole(row) or (row[1], row[3], row[6]) != (revision, text, timestamp):
                raise CorruptJournalError(f"a version of key {text!r}, of revision {revision}, is damaged")
            position = timestamp, revision
            if cut is not None and position < cut.start:
                return
            seen.append(row)
            found = value_of(row[5], codec, revision)
            yield Entry(timestamp, revision, found if share else owned(found), NEVER if row[7] is None else row[7])
        if len(rows) < fetched:
            return
