"""For tests of programs that use ChronoMap: a clock that moves only when told to."""

from __future__ import annotations

import weakref
from typing import Any


class ManualClock:
    """A clock for ``ChronoMap(clock=...)`` that the test moves.

    Moving it wakes the reaper of every map that uses it, so expiries and scheduled values take effect without waiting.

    Args:
        start: The first reading, in seconds since the epoch.
    """

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        self._now = float(start)
        self._listeners: weakref.WeakSet[Any] = weakref.WeakSet()

    def __call__(self) -> float:
        """The present reading, in seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move forward (or back, like a wall clock that is corrected); returns the new reading."""
        return self.set(self._now + seconds)

    def set(self, timestamp: float) -> float:
        """Move to a reading; returns it."""
        self._now = float(timestamp)
        for listener in list(self._listeners):
            listener.clock_moved()
        return self._now

    def subscribe(self, listener: Any) -> None:
        """Call ``listener.clock_moved()`` after every move, for as long as the listener lives."""
        self._listeners.add(listener)
