"""The tables of a journal in SQLite, and what makes one record of it checkable.

``records`` is the log: one row per change, appended at the end, whatever its key. Measured before deciding, in groups of
100 on one disk, writes per second: an index by key that every insert keeps up to date 50k to 77k, tables clustered by key
40k, no index 210k to 260k; so there is none while writing. ``places`` is that index, brought up to date (600k rows per
second, in the order of keys) when somebody needs it. Activations are no versions: they have no value and no place.

A commit of one record is that record, and the record has its instant. A row in ``commits`` is only for those that are more:
several records, something noted (``meta``), or no record left. So a plain put is one row, and yet nothing can be lost
unseen: revisions have no gaps, a row in ``commits`` counts and sums up its records, ``state`` knows the newest revision and
how many rows every table has, and every row has a checksum of all that is in it.

``instant`` is NULL where it is the timestamp; ``exact`` is the key's own text where that is not the canonical one (True is
``1``); ``value`` is NULL for a tombstone and empty for a cancellation.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, Final
from zlib import crc32

from chronomap.core.records import NEVER

APPLICATION: Final = 0x43684D70
"""``ChMp``: SQLite keeps it in the file's head, where the ``file`` program finds it."""

FORMAT: Final = 1
"""Of the tables below; a file with a greater one was written by a newer ChronoMap."""

PLACES: Final = """CREATE TABLE places (
  key BLOB NOT NULL,
  timestamp REAL NOT NULL,
  revision INTEGER NOT NULL,
  id INTEGER NOT NULL,
  PRIMARY KEY (key, timestamp, revision, id)
) WITHOUT ROWID"""
"""The index by key."""

TABLES: Final = (
    """CREATE TABLE records (
  id INTEGER PRIMARY KEY,
  revision INTEGER NOT NULL,
  kind TEXT NOT NULL,
  key BLOB NOT NULL,
  exact BLOB,
  value BLOB,
  timestamp REAL NOT NULL,
  expires_at REAL,
  instant REAL,
  checksum INTEGER NOT NULL
)""",
    """CREATE TABLE commits (
  revision INTEGER PRIMARY KEY,
  instant REAL NOT NULL,
  size INTEGER NOT NULL,
  total INTEGER NOT NULL,
  meta TEXT,
  checksum INTEGER NOT NULL
)""",
    PLACES,
    """CREATE TABLE pruned (
  key BLOB PRIMARY KEY,
  timestamp REAL NOT NULL,
  revision INTEGER NOT NULL,
  floor_timestamp REAL NOT NULL,
  floor_revision INTEGER NOT NULL,
  changed INTEGER NOT NULL,
  checksum INTEGER NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE state (
  id INTEGER PRIMARY KEY,
  text TEXT NOT NULL,
  checksum INTEGER NOT NULL
)""",
)

_KEY: Final = """CASE WHEN substr(r.key, 1, 1) = x'00' THEN substr(r.key, 2)
    ELSE json_extract(CAST(coalesce(r.exact, r.key) AS TEXT), '$') END"""

READABLE_VALUE: Final = """CASE WHEN length(r.value) = 0 THEN NULL WHEN substr(r.value, 1, 1) = x'00' THEN substr(r.value, 2)
    ELSE json_extract(CAST(r.value AS TEXT), '$') END"""
"""A value in the default codec as SQLite has it: a number, a text, NULL, bytes; what has parts as JSON text."""

_STATUS: Final = "CASE WHEN r.value IS NULL THEN 'tombstone' WHEN length(r.value) = 0 THEN 'cancellation' ELSE 'value' END"


_NOW: Final = "(julianday('now') - 2440587.5) * 86400.0"
"""Seconds since the epoch, for SQLites that do not know ``unixepoch('now', 'subsec')`` yet."""


def views(value: str) -> tuple[str, str]:
    """The views for people; ``value`` is how a value is shown.

    ``history`` has every version, in the order of the log. ``current`` has what every key holds now.
    """
    history = f"""CREATE VIEW history AS SELECT {_KEY} AS key, {value} AS value, r.timestamp, r.revision,
  coalesce(r.instant, r.timestamp) AS committed_at, r.expires_at, {_STATUS} AS status, r.kind
FROM records r LEFT JOIN pruned p ON p.key = r.key
WHERE r.kind <> 'activate' AND (p.key IS NULL OR (r.timestamp, r.revision) >= (p.timestamp, p.revision))
ORDER BY r.id"""  # noqa: S608 - of constants above
    current = f"""CREATE VIEW current AS SELECT {_KEY} AS key, {value} AS value, r.timestamp, r.revision,
  coalesce(r.instant, r.timestamp) AS committed_at, r.expires_at
FROM (SELECT *, row_number() OVER (PARTITION BY key ORDER BY timestamp DESC, revision DESC) AS place
  FROM (SELECT *, max(CASE WHEN value IS NOT NULL AND length(value) = 0 THEN revision ELSE 0 END)
      OVER (PARTITION BY key, timestamp) AS void
    FROM records WHERE kind <> 'activate' AND timestamp <= {_NOW})
  WHERE revision > void) r
WHERE r.place = 1 AND r.value IS NOT NULL AND (r.expires_at IS NULL OR r.expires_at > {_NOW})
ORDER BY r.key"""  # noqa: S608
    return history, current


# -- checksums ---------------------------------------------------------------------------------------------------------

KINDS: Final = {
    kind: number
    for number, kind in enumerate(
        ("put", "delete", "expire", "activate", "erase", "touch", "unschedule", "clear", "rollback", "undo", "merge"), 1
    )
}

record_head: Final = Struct("<qqdddq").pack
_header: Final = Struct("<qdqq").pack
_cut: Final = Struct("<dqdqq").pack

EXACT_BIT: Final = 1 << 40
VALUE_BIT: Final = 1 << 41
PLAIN_PUT: Final = KINDS["put"] + VALUE_BIT
"""What is added to a key's length, shifted by 4, for a put of a value under its canonical key."""


def record_checksum(  # noqa: PLR0917 - in the order of the columns
    number: int,
    revision: int,
    kind: str,
    key: bytes,
    exact: bytes | None,
    value: bytes | None,
    timestamp: float,
    expires_at: float | None,
    instant: float | None,
) -> int:
    """The checksum of a row of ``records``: of every column before it, and of what the NULLs stand for."""
    parts = (len(key) << 4) + KINDS[kind]
    text = key
    if value is not None:
        parts += VALUE_BIT
        text += value
    if exact is not None:
        parts += EXACT_BIT + (len(exact) << 42)
        text += exact
    until = NEVER if expires_at is None else expires_at
    return crc32(record_head(number, revision, timestamp, until, timestamp if instant is None else instant, parts) + text)


def header_checksum(revision: int, instant: float, size: int, total: int, meta: str | None) -> int:
    """The checksum of a row of ``commits``; ``total`` is the sum of its records' checksums."""
    head = _header(revision, instant, size, total)
    return crc32(head if meta is None else head + b"+" + meta.encode())


def cut_checksum(key: bytes, pruned: Sequence[Any]) -> int:
    """The checksum of a row of ``pruned``: of the key, and of the five numbers after it."""
    return crc32(key + _cut(*pruned))
