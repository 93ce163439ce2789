"""Which keys are present, by the timestamp of the version in force: the index behind ``len`` and ``get_latest_keys``.

Most writes are dated now, so their keys arrive in timestamp order: for those an ordinary dict, kept in insertion order, is
the whole index (``recent``). A key whose version in force is older than the newest of ``recent`` when it arrives goes to
``older`` and to a heap. Example: puts of a at 10, b at 20, then c back-dated to 5: ``recent`` is a, b and ``older`` is c.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

from chronomap.core.values import MISSING


class Recency:
    """Present keys by timestamp. The owner's alone."""

    def __init__(self) -> None:
        self._recent: dict[Any, tuple[float, int]] = {}
        self._older: dict[Any, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, int, Any]] = []
        self._newest = -float("inf")
        self._last: Any = MISSING  # the key at the end of ``recent``, if that is known
        self._order = 0  # keeps the heap from comparing keys

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def place(self, key: Any, timestamp: float, revision: int) -> None:
        """The key is present, by a version of that timestamp and revision. O(1) for versions dated now."""
        recent = self._recent
        if key is not self._last:
            recent.pop(key, None)
            if self._older:
                self._older.pop(key, None)
        if timestamp >= self._newest:
            self._newest = timestamp
            self._last = key
            recent[key] = (timestamp, revision)
            return
        if key is self._last:
            self._last = MISSING
            recent.pop(key, None)
        self._older[key] = (timestamp, revision)
        self._order += 1
        heappush(self._heap, (-timestamp, -revision, self._order, key))
        if len(self._heap) > 64 + 2 * len(self._older):
            self._heap = [item for item in self._heap if self._stands(item)]
            heapify(self._heap)

    def remove(self, key: Any) -> None:
        """The key is missing now."""
        self._last = MISSING
        self._recent.pop(key, None)
        self._older.pop(key, None)

    def top(self, n: int) -> list[Any]:
        """The n keys with the greatest (timestamp, revision), greatest first. O(n log m), m back-dated keys."""
        recent = iter(reversed(self._recent.items()))
        popped: list[tuple[float, int, int, Any]] = []
        found: list[Any] = []
        head = next(recent, None)
        while len(found) < n:
            while self._heap and not self._stands(self._heap[0]):
                heappop(self._heap)
            if head is not None and (not self._heap or head[1] > (-self._heap[0][0], -self._heap[0][1])):
                found.append(head[0])
                head = next(recent, None)
            elif self._heap:
                item = heappop(self._heap)
                if not popped or popped[-1][:2] != item[:2] or popped[-1][3] != item[3]:
                    found.append(item[3])
                popped.append(item)
            else:
                break
        for item in popped:
            heappush(self._heap, item)
        return found

    def _stands(self, item: tuple[float, int, int, Any]) -> bool:
        return self._older.get(item[3]) == (-item[0], -item[1])

    def _check(self, expected: dict[Any, tuple[float, int]]) -> None:
        """Verify every invariant, given the present keys with the timestamp and revision of the version in force."""
        assert not self._recent.keys() & self._older.keys()
        assert self._recent | self._older == expected
        order = list(self._recent.values())
        assert order == sorted(order, key=lambda at: at[0])
        assert self._older.keys() <= {item[3] for item in self._heap}
