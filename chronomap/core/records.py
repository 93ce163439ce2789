"""The words of history: versions, changes and commits.

``Version`` and ``Change`` are what users see. ``Entry`` and ``Record`` are the same facts as the store keeps them, with
values captured; they are plain tuples because one of each is made per write.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from chronomap.core.values import MISSING, release, same

K = TypeVar("K")
V = TypeVar("V")

Kind = Literal["put", "delete", "expire", "activate", "erase", "touch", "unschedule", "clear", "rollback", "undo", "merge"]


class _Marker:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


CANCELLED: Final[Any] = _Marker("CANCELLED")
"""In the place of a value: voids every earlier-learned version at the same timestamp."""

NEVER: Final = float("inf")
"""The ``expires_at`` of what does not expire, inside the store; users see None."""


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
    """

    key: K
    value: V | None
    timestamp: float
    revision: int
    committed_at: float
    expires_at: float | None = None
    kind: Literal["value", "tombstone", "cancellation"] = "value"

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
    """Everything that one revision changed."""

    revision: int
    instant: float
    records: tuple[Record, ...]
    meta: dict[str, str | int | float | bool | None] | None = None

    def changes(self) -> list[Change[Any, Any]]:
        """The changes as users see them, each with its own copies of the values."""
        size = len(self.records)
        return [self.change(index, record, size) for index, record in enumerate(self.records)]

    def change(self, index: int, record: Record, size: int) -> Change[Any, Any]:
        """One of the changes as users see it."""
        return Change(
            revision=self.revision,
            index=index,
            size=size,
            committed_at=self.instant,
            key=record.key,
            kind=record.kind,
            value=plain(record.value),
            previous=plain(record.previous),
            timestamp=record.timestamp,
            expires_at=None if record.expires_at == NEVER else record.expires_at,
            removed=record.value is MISSING or record.value is CANCELLED,
            created=record.previous is MISSING,
        )


@dataclass(frozen=True, slots=True)
class Change(Generic[K, V]):
    """One change of one key, as watchers see it.

    Attributes:
        revision: The commit it belongs to.
        index: Its place within the commit, from 0.
        size: How many changes the commit has.
        committed_at: The commit's wall-clock instant, in seconds since the epoch.
        key: The key.
        kind: What happened: "put", "delete", "expire", "activate", "erase", "touch", "unschedule", "clear", "rollback",
            "undo", "merge", or "initial" for what a watcher with ``initial=True`` is shown first.
        value: The value from ``timestamp`` on; None if there is none (``removed`` tells).
        previous: What the key held at ``timestamp`` until then; None if nothing (``created`` tells).
        timestamp: Since when it holds in the world, in seconds since the epoch.
        expires_at: When it expires, or None.
        removed: Whether the key holds nothing of its own from ``timestamp`` on.
        created: Whether the key held nothing at ``timestamp`` before.
    """

    revision: int
    index: int
    size: int
    committed_at: float
    key: K
    kind: Kind | Literal["initial"]
    value: V | None
    previous: V | None
    timestamp: float
    expires_at: float | None
    removed: bool = field(default=False)
    created: bool = field(default=False)


def plain(kept: Any) -> Any:
    """A kept value as a user gets it; None where there is none."""
    return None if kept is MISSING or kept is CANCELLED else release(kept)
