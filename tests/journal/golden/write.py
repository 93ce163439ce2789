"""Wrote 1.chrono, with the first version that knew this format: python tests/journal/golden/write.py."""

from __future__ import annotations

import datetime
import decimal
import enum
import zoneinfo
from pathlib import Path
from typing import Any

from chronomap.core.meta import NOTHING, Meta
from chronomap.core.records import CANCELLED, NEVER, Commit, Record
from chronomap.core.values import MISSING
from chronomap.journal import ExactCodec, SqliteJournal


class Size(enum.Enum):
    """Known to the codec as "size"."""

    LARGE = "L"


def codec() -> ExactCodec:
    """The one the file is written with."""
    return ExactCodec({"size": Size})


def commit(revision: int, *records: tuple[Any, ...], meta: Meta = NOTHING) -> Commit:
    """A commit of ``(kind, key, value, timestamp, expires_at)``."""
    return Commit(revision, 1e9 + revision, tuple(Record(k, key, v, MISSING, t, e) for k, key, v, t, e in records), meta)


LOG = [
    commit(1, ("put", "plain", {"a": [1, 2.5, None, "ü"]}, 1e9 + 1, NEVER)),
    commit(
        2,
        ("put", True, (1, {2, 3}, b"\x00\xff", 1 << 70, float("inf")), 5.0, 2e9),
        (
            "put",
            ("t", -1.5),
            datetime.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"), fold=1),
            6.0,
            NEVER,
        ),
        ("put", b"\x00key", b"raw", 7.0, NEVER),
        ("put", None, {1: decimal.Decimal("1.10"), "$x": Size.LARGE}, 8.0, NEVER),
    ),
    commit(3, ("put", "noted", "\ud800", 1e9 + 3, NEVER), meta=(("request_id", "once"),)),
    commit(4, ("delete", "plain", MISSING, 1e9 + 4, NEVER), ("delete", "plain", CANCELLED, 2e9, NEVER)),
    commit(5, ("activate", "noted", MISSING, 1e9 + 5, NEVER)),
]

if __name__ == "__main__":
    place = Path(__file__).parent / "1.chrono"
    place.unlink(missing_ok=True)
    with SqliteJournal.open(place, codec=codec()) as journal:
        journal.append(LOG[:2])
        journal.append(LOG[2:])
        list(journal.versions("plain"))
