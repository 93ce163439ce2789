"""ChronoMap: a key-value map that keeps every version of every key, for asyncio, trio, threads and scripts."""

from chronomap.aio import AsyncChronoMap, AsyncSnapshot, AsyncTransaction
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
    LaggedError,
    MissingExtraError,
)
from chronomap.runtime.annotate import meta
from chronomap.runtime.watch import ChangeStream, SyncChangeStream
from chronomap.sync import ChronoMap, Snapshot, Transaction

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
    "LaggedError",
    "MissingExtraError",
    "Retention",
    "Snapshot",
    "SyncChangeStream",
    "Transaction",
    "Version",
    "meta",
]
