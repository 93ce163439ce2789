"""ChronoMap: a key-value map that keeps every version of every key, for asyncio, trio, threads and scripts."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chronomap.aio import AsyncChronoMap
from chronomap.aio_snapshots import AsyncSnapshot, AsyncTransaction
from chronomap.core.change import Change
from chronomap.core.records import Version
from chronomap.core.retention import Retention
from chronomap.core.values import MISSING
from chronomap.errors import (
    ChronoMapError,
    ChronoMapKeyError,
    ChronoMapTypeError,
    ChronoMapValueError,
    ClosedError,
    CompactedError,
    ConflictError,
    CorruptJournalError,
    ForkedError,
    FutureRevisionError,
    JournalError,
    JournalInUseError,
    JournalOpenError,
    LaggedError,
    MissingExtraError,
)
from chronomap.runtime.annotate import meta
from chronomap.runtime.watch import ChangeStream, SyncChangeStream
from chronomap.snapshots import Snapshot, Transaction
from chronomap.sync import ChronoMap

if TYPE_CHECKING:
    from chronomap.journal.codec import ExactCodec as ExactCodec
    from chronomap.journal.codec import UnsafePickleCodec as UnsafePickleCodec
    from chronomap.journal.following import follow as follow
    from chronomap.journal.looking import backup as backup
    from chronomap.journal.looking import describe as describe
    from chronomap.journal.salvaging import salvage as salvage
    from chronomap.journal.tolerant import TolerantCodec as TolerantCodec
    from chronomap.journal.verifying import verify as verify

__all__ = [
    "MISSING",
    "AsyncChronoMap",
    "AsyncSnapshot",
    "AsyncTransaction",
    "Change",
    "ChangeStream",
    "ChronoMap",
    "ChronoMapError",
    "ChronoMapKeyError",
    "ChronoMapTypeError",
    "ChronoMapValueError",
    "ClosedError",
    "CompactedError",
    "ConflictError",
    "CorruptJournalError",
    "ForkedError",
    "FutureRevisionError",
    "JournalError",
    "JournalInUseError",
    "JournalOpenError",
    "LaggedError",
    "MissingExtraError",
    "Retention",
    "Snapshot",
    "SyncChangeStream",
    "Transaction",
    "Version",
    "meta",
]

_DURABLE = {
    "ExactCodec": "chronomap.journal.codec",
    "TolerantCodec": "chronomap.journal.tolerant",
    "UnsafePickleCodec": "chronomap.journal.codec",
    "backup": "chronomap.journal.looking",
    "describe": "chronomap.journal.looking",
    "follow": "chronomap.journal.following",
    "salvage": "chronomap.journal.salvaging",
    "verify": "chronomap.journal.verifying",
}
"""What needs the extra ``chronomap[durable]``: found when it is asked for, and so not in ``__all__``."""


def __getattr__(name: str) -> Any:
    """What needs an extra.

    Raises:
        MissingExtraError: If that is not installed.
    """
    if name not in _DURABLE:
        raise AttributeError(f"module 'chronomap' has no attribute {name!r}")
    return getattr(import_module(_DURABLE[name]), name)
