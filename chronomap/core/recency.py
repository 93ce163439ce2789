"""Which keys are present, by the timestamp of the version in force: the index behind ``len`` and ``get_latest_keys``.

Most writes are dated now, so their keys arrive in timestamp order: for those an ordinary dict, kept in insertion order, is
the whole index (``recent``). A key whose version in force is older than the newest of ``recent`` when it arrives goes to
``older`` and to a heap. Example: puts of a at 10, b at 20, then c back-dated to 5: ``recent`` is a, b and ``older`` is c.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from chronomap.core.values import MISSING

Stamp = tuple[float, int]
"""The timestamp and the revision of a version."""


class Recency:
    """Present keys by timestamp. The owner's alone.

    Attributes:
        last: The key at the end of ``recent``, if that is known: putting it again changes no order.
        newest: No key of ``recent`` has a greater timestamp.
    """

    def __init__(self) -> None:
        self.last: Any = MISSING
        self.newest = -float("inf")
        self._recent: dict[Any, None] = {}
        self._older: dict[Any, float] = {}
        self._heap: list[tuple[float, int, Any]] = []
        self._order = 0  # keeps the heap from comparing keys; newer arrivals first among equal timestamps

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def place(self, key: Any, timestamp: float) -> None:
        """The key is present, by a version of that timestamp. O(1) for versions dated now."""
        self._recent.pop(key, None)
        if self._older:
            self._older.pop(key, None)
        if timestamp >= self.newest:
            self.newest = timestamp
            self.last = key
            self._recent[key] = None
            return
        self.last = MISSING
        self._older[key] = timestamp
        self._order -= 1
        heappush(self._heap, (-timestamp, self._order, key))
        if len(self._heap) > 64 + 2 * len(self._older):
            self._heap = [item for item in self._heap if self._stands(item)]
            heapify(self._heap)

    def remove(self, key: Any) -> None:
        """The key is missing now."""
        self.last = MISSING
        self._recent.pop(key, None)
        self._older.pop(key, None)

    def top(self, n: int, stamp: Callable[[Any], Stamp | None]) -> list[Any]:
        """The n keys with the greatest (timestamp, revision), greatest first; ``stamp`` tells both. O(n log m)."""
        found: list[tuple[Stamp, Any]] = []
        if n == 0:
            return []
        for key in reversed(self._recent):
            at = stamp(key)
            if at is None:
                continue
            if len(found) >= n and at[0] < found[n - 1][0][0]:
                break  # what follows is older; equal timestamps are all looked at, the revision decides
            found.append((at, key))
        popped = []
        seen: set[Any] = set()
        while self._heap:
            item = heappop(self._heap)
            if not self._stands(item):
                continue
            popped.append(item)
            at = stamp(item[2])
            if at is None or item[2] in seen:
                continue
            if len(seen) >= n and -item[0] < popped[n - 1][0] * -1:
                break
            seen.add(item[2])
            found.append((at, item[2]))
        for item in popped:
            heappush(self._heap, item)
        found.sort(key=lambda one: one[0], reverse=True)
        return [key for _, key in found[:n]]

    def _stands(self, item: tuple[float, int, Any]) -> bool:
        return self._older.get(item[2]) == -item[0]

    def _check(self, expected: dict[Any, Stamp]) -> None:
        """Verify every invariant, given the present keys with the timestamp and revision of the version in force."""
        assert not self._recent.keys() & self._older.keys()
        assert self._recent.keys() | self._older.keys() == expected.keys()
        order = [expected[key][0] for key in self._recent]
        assert order == sorted(order)
        assert all(timestamp <= self.newest for timestamp in order)
        assert all(expected[key][0] == timestamp for key, timestamp in self._older.items())
        assert self.last is MISSING or next(reversed(self._recent)) == self.last
        assert self._older.keys() <= {item[2] for item in self._heap}
