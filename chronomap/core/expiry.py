"""What will fall due without anybody writing: expiries and scheduled values.

A heap of promises. A promise names the version it is about and is checked against the timeline when its time comes, so
nothing has to be removed when a version is superseded; the heap is swept when it has doubled. Example: a put at 100 with a
ttl of 10 promises ``(110, "expire", key, 100, revision)``; after another put at 105 that version is no longer in force at
110, and the promise comes to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, Literal, NamedTuple

from chronomap.core.records import NEVER, make

SWEEP_FROM: Final = 1024
"""Promises below which sweeping is not worth it."""


Occasion = Literal["expire", "activate", "age"]
"""What falls due: a version expires, takes effect, or a key's oldest version outlives the map's retention."""


class Promise(NamedTuple):
    """Something that happens to one version (or, by age, to one key) at ``due`` unless it is superseded before.

    ``order`` keeps promises for the same moment in the order they were made and keeps the heap from comparing keys.
    """

    due: float
    order: int
    kind: Occasion
    key: Any
    timestamp: float
    revision: int


class Deadlines:
    """The promises, by due time. The owner's; ``next_due`` may be read anywhere."""

    def __init__(self) -> None:
        self.next_due: float = NEVER
        self._heap: list[Promise] = []
        self._order = count()
        self._sweep_at = SWEEP_FROM

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due: float, kind: Occasion, key: Any, timestamp: float, revision: int) -> None:
        """Note that something falls due. O(log n)."""
        heappush(self._heap, make(Promise, (due, next(self._order), kind, key, timestamp, revision)))
        self.next_due = self._heap[0].due

    def take(self, now: float) -> list[Promise]:
        """Remove and return what is due by now, in due order."""
        due = []
        while self._heap and self._heap[0].due <= now:
            due.append(heappop(self._heap))
        self.next_due = self._heap[0].due if self._heap else NEVER
        return due

    def give_back(self, promises: list[Promise]) -> None:
        """Undo a ``take`` whose commit did not happen."""
        for promise in promises:
            heappush(self._heap, promise)
        self.next_due = self._heap[0].due if self._heap else NEVER

    def cut_after(self, revision: int) -> None:
        """Drop what was promised for versions of commits that came to nothing. O(n)."""
        self._heap = [promise for promise in self._heap if promise.revision <= revision]
        heapify(self._heap)
        self.next_due = self._heap[0].due if self._heap else NEVER

    def sweep(self, stands: Callable[[Promise], bool]) -> None:
        """Drop the promises that can no longer come true or were made twice, if enough have gathered.

        Amortised O(1) per promise.
        """
        if len(self._heap) < self._sweep_at:
            return
        self._heap = list({(promise.due, *promise[2:]): promise for promise in self._heap if stands(promise)}.values())
        heapify(self._heap)
        self.next_due = self._heap[0].due if self._heap else NEVER
        self._sweep_at = max(SWEEP_FROM, 2 * len(self._heap))
