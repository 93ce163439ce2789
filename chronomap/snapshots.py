"""What the sync face reads, of a live map and of a snapshot alike; snapshots and transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from chronomap import formats
from chronomap.core.draft import Draft
from chronomap.core.records import Version
from chronomap.core.timestamps import Timestamp, seconds
from chronomap.core.values import MISSING, hashable, release
from chronomap.core.view import differences
from chronomap.errors import ChronoMapError, ChronoMapKeyError, ChronoMapTypeError
from chronomap.face import Difference, Face, Frozen, K, Readable, V, check_number, function, newest, prefix_text, several

if TYPE_CHECKING:
    from chronomap.sync import ChronoMap


class Reads(Readable[K, V]):
    """The reads of several keys, the same for a live map and a snapshot."""

    def keys(self, prefix: str | None = None) -> Iterator[K]:
        """The present keys, in the order they first appeared; with a prefix, the text keys that start with it."""
        return (key for key, _ in self._pin().scan(prefix_text(prefix)))

    def values(self, prefix: str | None = None) -> Iterator[V]:
        """The present values, in the order of their keys."""
        return (value for _, value in self._pin().pairs(prefix_text(prefix)))

    def items(self, prefix: str | None = None) -> Iterator[tuple[K, V]]:
        """The present keys with their values."""
        return self._pin().pairs(prefix_text(prefix))

    def latest(self, timestamp: Timestamp | None = None) -> dict[K, V]:
        """Everything present, as a dict. O(keys)."""
        return dict(self._pin(timestamp).pairs())

    def query(self, predicate: Callable[[K, V], object], timestamp: Timestamp | None = None) -> dict[K, V]:
        """The present items for which ``predicate(key, value)`` is true. What the predicate raises is raised here."""
        return dict(self._pin(timestamp).select(function(predicate, "a predicate")))

    def count(self, predicate: Callable[[K, V], object] | None = None, timestamp: Timestamp | None = None) -> int:
        """How many items are present, or fulfil a predicate of key and value."""
        if predicate is None and timestamp is None:
            return len(self)
        view = self._pin(timestamp)
        return sum(1 for _ in (view.scan() if predicate is None else view.select(function(predicate, "a predicate"))))

    def aggregate(
        self, func: Callable[[list[V]], Any], keys: Iterable[K] | None = None, timestamp: Timestamp | None = None
    ) -> Any:
        """``func`` of the list of present values (of some keys; those that are missing are left out)."""
        view = self._pin(timestamp)
        function(func, "func")
        if keys is None:
            return func([value for _, value in view.pairs()])
        return func([release(value) for key in several(keys) if (value := view.held(key)) is not MISSING])

    def get_keys_by_value(self, value: V, timestamp: Timestamp | None = None) -> list[K]:
        """The keys that hold a value equal to a given one."""
        return list(self._pin(timestamp).holders(value))

    def history(self, key: K) -> list[tuple[float, V]]:
        """``[(timestamp, value), …]`` of everything the key has held until now, oldest first; no tombstones."""
        return self._pin().history(key)

    def iter_history(self, key: K) -> Iterator[tuple[float, V]]:
        """The same, one at a time."""
        timestamps, values = self._pin().columns(key)
        return zip(timestamps, map(release, values), strict=True)

    def get_range(self, key: K, start_ts: Timestamp | None = None, end_ts: Timestamp | None = None) -> list[tuple[float, V]]:
        """The part of ``history`` with ``start_ts <= timestamp <= end_ts`` (both inclusive; default: all, until now).

        Raises:
            CompactedError: If a bound lies where everything has been pruned.
        """
        start = -float("inf") if start_ts is None else seconds(start_ts)
        return self._pin().history(key, start, None if end_ts is None else seconds(end_ts))

    def versions(self, key: K, *, scheduled: bool = False) -> list[Version[K, V]]:
        """Everything ever written of a key until now, tombstones and cancellations too; oldest timestamp first.

        Args:
            key: The key.
            scheduled: Whether to include what is dated later than now.
        """
        return self._pin().versions(key, scheduled=scheduled)

    def diff(self, other: Readable[K, V]) -> set[K]:
        """The keys on which two maps (or snapshots) differ now; holding None and holding nothing are different."""
        return {key for key, _, _ in self._differences(other)}

    def diff_detailed(self, other: Readable[K, V]) -> list[Difference]:
        """``[(key, other's value, own value), …]`` of the same, None for nothing; ``kind`` of each tells the difference."""
        return [Difference(*found) for found in self._differences(other)]

    def _differences(self, other: Readable[K, V]) -> Iterator[tuple[Any, Any, Any]]:
        if not isinstance(other, Readable):
            raise ChronoMapTypeError(f"Expected a ChronoMap or a snapshot for diff, got {type(other).__name__}")
        return differences(self._pin(), other._pin())

    def to_dict(self, compress: bool = False) -> dict[str, Any] | bytes:
        """The whole map with its history as plain data; with ``compress`` as bytes that ``from_dict`` takes too."""
        plain = formats.dump(self._pin())
        return formats.pack(plain, compress=True) if compress else plain


class Snapshot(Frozen[K, V], Reads[K, V]):
    """The map as it was at one revision and one instant; it never changes, and costs nothing to keep.

    Attributes:
        revision: The newest revision it knows.
    """

    def get(self, key: K, timestamp: Timestamp | None = None, default: Any = None, *, strict: bool = False) -> V | Any:
        """The value of a key in the snapshot, or the default; with ``strict`` a missing key raises."""
        value = self._pin(timestamp).held(key)
        if value is MISSING:
            if strict:
                raise ChronoMapKeyError(key)
            return default
        return release(value)

    def version(self, key: K, timestamp: Timestamp | None = None) -> Version[K, V] | None:
        """The version of a key in the snapshot, or None."""
        return self._pin(timestamp).version(key)

    def get_latest_keys(self, n: int) -> list[tuple[K, float, V]]:
        """The n keys with the newest timestamps, newest first: ``(key, timestamp, value)``. O(keys)."""
        return newest(self._view.stamped(), check_number(n, "n"))

    def fork(self) -> ChronoMap[K, V]:
        """An independent map with the same history up to here, which can be written to. O(versions)."""
        forked: ChronoMap[K, V] = self._make(formats.dump(self._view), clock=self._owner.clock)
        return forked


class Transaction(Readable[K, V]):
    """Reads of one snapshot plus the block's own writes; made by ``ChronoMap.transaction()``.

    After the block every call raises ``ChronoMapError``.

    Attributes:
        revision: After the block: the revision of its commit (the one it read, if it wrote nothing).
    """

    def __init__(self, face: Face[K, V], draft: Draft) -> None:
        self._owner = face._owner
        self._face = face
        self._begun: Draft | None = draft
        self.revision = draft.base.revision

    @property
    def _draft(self) -> Draft:
        if (draft := self._begun) is None:
            raise ChronoMapError("the transaction has ended with its block; begin another with cm.transaction()")
        return draft

    def _held(self, key: Any) -> Any:
        return self._draft.held(key)

    def get(self, key: K, default: Any = None, *, strict: bool = False) -> V | Any:
        """The value as the transaction sees it, or the default."""
        value = self._held(key)
        if value is MISSING and strict:
            raise ChronoMapKeyError(key)
        return default if value is MISSING else release(value)

    def put(self, key: K, value: V, timestamp: Timestamp | None = None, ttl: float | None = None) -> None:
        """Write when the block ends."""
        hashable(key)
        self._draft.put(key, self._face._capture(value), timestamp, ttl)

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def delete(self, key: K, timestamp: Timestamp | None = None) -> bool:
        """Delete when the block ends; whether the key is present as the transaction sees it."""
        hashable(key)
        return self._draft.delete(key, timestamp)

    def __delitem__(self, key: K) -> None:
        if not self.delete(key):
            raise ChronoMapKeyError(key)

    def keys(self, prefix: str | None = None) -> list[K]:
        """The keys as the transaction sees them; somebody else's change among them is a conflict."""
        return self._draft.keys(prefix_text(prefix))

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def _end(self) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """End it; returns the command that commits it, if there is anything to commit."""
        draft, self._begun = self._draft, None
        if not draft.writes:
            return None
        return self._face._store.apply, (draft.base, draft.writes, draft.keys_read, draft.prefixes_read)
