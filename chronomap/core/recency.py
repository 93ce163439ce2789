"""Which keys are present, by the timestamp of the version in force: the index behind ``len`` and ``get_latest_keys``.

Most writes are dated now, so their keys arrive in timestamp order: for those an ordinary dict, kept in insertion order, is
the whole index (``recent``). A key whose version in force is older than the newest of ``recent`` when it arrives goes to
``older`` and to a heap. Example: puts of a at 10, b at 20, then c back-dated to 5: ``recent`` is a, b and ``older`` is c.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import islice
from operator import itemgetter
from typing import Any, Final

ARRIVALS: Final = 16_384
"""Puts after which they are taken in though nobody asks: that takes about a millisecond."""

Stamp = tuple[float, int]
"""The timestamp and the revision of a version."""


class Recency:
    """Present keys by timestamp and, among equal timestamps, by revision. The owner's alone.

    Attributes:
        timestamp: With ``revision``, the stamp that no key of ``recent`` exceeds.
        revision: See ``timestamp``.
    """

    def __init__(self) -> None:
        self.timestamp = -float("inf")
        self.revision = 0
        self._recent: dict[Any, None] = {}
        self._older: dict[Any, Stamp] = {}
        self._heap: list[tuple[float, int, int, Any]] = []
        self._order = 0  # keeps the heap from comparing keys
        self._arrived: list[Any] = []  # keys that belong at the end of ``recent``, the newest last

    def __len__(self) -> int:
        self._take_in()
        return len(self._recent) + len(self._older)

    def place(self, key: Any, timestamp: float, revision: int) -> None:
        """The key is present, by a version of that timestamp and revision. O(1) for versions dated now."""
        self._take_in()
        if self._older:
            if self._older.get(key) == (timestamp, revision):
                return  # it is there; one commit may say so for each of a thousand records of the key
            self._older.pop(key, None)
        self._recent.pop(key, None)
        if (timestamp, revision) >= (self.timestamp, self.revision):
            self.timestamp, self.revision = timestamp, revision
            self._recent[key] = None
            return
        self._order += 1
        heappush(self._heap, (-timestamp, -revision, self._order, key))
        self._older[key] = (timestamp, revision)  # after that, so that what is there is in the heap whatever interrupts
        if len(self._heap) > 64 + 2 * len(self._older):
            self._heap = [item for item in self._heap if self._stands(item)]
            heapify(self._heap)

    def arrive(self, keys: list[Any], timestamp: float, revision: int) -> None:
        """The same for keys whose versions are newer than all others, as those of puts dated now always are.

        They are only noted: most keys are put again before anybody asks.

        Args:
            keys: The keys, the newest version last.
            timestamp: That of the newest version.
            revision: The same.
        """
        self._arrived.extend(keys)
        self.timestamp = timestamp
        self.revision = revision
        if len(self._arrived) > ARRIVALS:
            self._take_in()

    def _take_in(self) -> None:
        """Put those that have arrived where they belong. May be repeated, if it was interrupted."""
        if not self._arrived:
            return
        recent, older = self._recent, self._older
        for key in reversed(dict.fromkeys(reversed(self._arrived))):  # each key once, where it came last
            recent.pop(key, None)
            recent[key] = None
            if older:
                older.pop(key, None)
        self._arrived = []

    def remove(self, key: Any) -> None:
        """The key is missing now."""
        self._take_in()
        self._recent.pop(key, None)
        self._older.pop(key, None)

    def top(self, n: int, stamp: Callable[[Any], Stamp | None]) -> list[Any]:
        """The n keys with the greatest (timestamp, revision), greatest first. O(n log m), m back-dated keys.

        Args:
            n: How many.
            stamp: Tells the timestamp and revision of a present key.
        """
        n = min(n, len(self))
        recent = islice(reversed(self._recent), n)
        older: dict[Any, tuple[float, int, int, Any]] = {}
        while self._heap and len(older) < n:
            item = heappop(self._heap)
            if self._stands(item):
                older[item[3]] = item
        for item in older.values():
            heappush(self._heap, item)
        if not older:
            return list(recent)
        found = [(at, key) for key in recent if (at := stamp(key)) is not None]
        found += [(self._older[key], key) for key in older]
        found.sort(key=itemgetter(0), reverse=True)
        return [key for _, key in found[:n]]

    def _stands(self, item: tuple[float, int, int, Any]) -> bool:
        return self._older.get(item[3]) == (-item[0], -item[1])

    def _check(self, expected: dict[Any, Stamp]) -> None:
        """Verify every invariant, given the present keys with the timestamp and revision of the version in force."""
        self._take_in()
        assert not self._recent.keys() & self._older.keys()
        assert self._recent.keys() | self._older.keys() == expected.keys()
        order = [expected[key] for key in self._recent]
        assert order == sorted(order)
        assert all(stamp <= (self.timestamp, self.revision) for stamp in order)
        assert all(expected[key] == stamp for key, stamp in self._older.items())
        assert self._older.keys() <= {item[3] for item in self._heap}
