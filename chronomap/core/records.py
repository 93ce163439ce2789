"""The words of history: versions and commits.

``Version`` is what users see. ``Entry`` and ``Record`` are the same facts as the store keeps them, with values captured;
they are plain tuples because one of each is made per write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from chronomap.core.meta import NOTHING, Meta, Plain
from chronomap.core.values import IMMUTABLE, MISSING, Captured, release, same

K = TypeVar("K")
V = TypeVar("V")

Kind = Literal[
    "put", "delete", "expire", "activate", "erase", "touch", "unschedule", "clear", "rollback", "undo", "merge",
    "initial", "resync",
]  # fmt: skip
"""What happened. The last two are never committed: streams show what is present with them."""


class _Marker:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


CANCELLED: Final[Any] = _Marker("CANCELLED")
"""In the place of a value: voids every earlier-learned version at the same timestamp."""

FORGOTTEN: Final[Any] = _Marker("FORGOTTEN")
"""In the place of a previous value: there was a version, perhaps, but it has been pruned."""

NEVER: Final = float("inf")
"""The ``expires_at`` of what does not expire, inside the store; users see None."""


make: Final[Any] = tuple.__new__
"""Makes a named tuple of its class and a tuple, in a third of the time that its constructor takes."""


class Entry(NamedTuple):
    """One version as the store keeps it; ``value`` is MISSING for a tombstone and may be CANCELLED."""

    timestamp: float
    revision: int
    value: Any
    expires_at: float

    def holds(self, timestamp: float) -> bool:
        """Whether a value is in force at that timestamp, given that this is the entry found for it."""
        return self.value is not MISSING and timestamp < self.expires_at

    def equals(self, other: Entry) -> bool:
        """Whether it says the same, for as long: value and expiry, or both tombstones."""
        if self.value is MISSING or other.value is MISSING:
            return self.value is other.value
        return self.expires_at == other.expires_at and same(self.value, other.value)


@dataclass(frozen=True, slots=True)
class Version(Generic[K, V]):
    """One version of a key.

    Attributes:
        key: The key.
        value: What it holds from then on; None for a tombstone or a cancellation.
        timestamp: Since when it holds in the world, in seconds since the epoch.
        revision: The commit that wrote it.
        committed_at: The wall-clock instant of that commit, in seconds since the epoch.
        expires_at: From when on it holds no more (exclusive end), or None.
        kind: "value", "tombstone" (the key is missing from then on), or "cancellation" (what was scheduled for exactly
            this timestamp is called off).
        meta: What was passed with the write: author, reason, request id.
    """

    key: K
    value: V | None
    timestamp: float
    revision: int
    committed_at: float
    expires_at: float | None = None
    kind: Literal["value", "tombstone", "cancellation"] = "value"
    meta: Mapping[str, Plain] = field(default_factory=dict)

    @property
    def deleted(self) -> bool:
        """Whether it is a tombstone."""
        return self.kind == "tombstone"


class Record(NamedTuple):
    """One change of one key within a commit; values as kept, MISSING for none."""

    kind: Kind
    key: Any
    value: Any
    previous: Any
    timestamp: float
    expires_at: float


class Commit(NamedTuple):
    """Everything that one revision changed.

    Attributes:
        revision: The revision.
        instant: When it was committed, in seconds since the epoch.
        records: The changes, in the order in which they were made.
        meta: What was passed with the write.
        in_force: The places of those records, dated before the instant, that decide what their key holds at the instant.
    """

    revision: int
    instant: float
    records: tuple[Record, ...]
    meta: Meta = NOTHING
    in_force: frozenset[int] = frozenset()

    def present(self, index: int) -> bool:
        """Whether a record decides what its key holds at the instant of the commit."""
        record = self.records[index]
        return record.timestamp == self.instant or index in self.in_force


def owned(value: Any) -> Any:
    """A value that nobody else has, as a store keeps it."""
    return value if value is MISSING or value is CANCELLED or type(value) in IMMUTABLE else Captured(value)


def plain(kept: Any) -> Any:
    """A kept value as a user gets it; None where there is none."""
    return None if kept is MISSING or kept is CANCELLED or kept is FORGOTTEN else release(kept)
