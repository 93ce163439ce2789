"""What several of these tests need: a turn that stays open, so that everybody else has to wait."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from waiting import LONG

from chronomap import AsyncChronoMap, ChronoMap


class Held:
    """``with Held(cm) as held``: a thread has the baton until ``held.release()`` or the end of the block."""

    def __init__(self, cm: ChronoMap[Any, Any] | AsyncChronoMap[Any, Any]) -> None:
        self._owner = cm._owner
        self._inside, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._owner.call, args=(self._hold,), daemon=True)

    def _hold(self, _: float) -> None:
        self._inside.set()
        self._leave.wait(LONG)

    def release(self) -> None:
        """Let the turn end."""
        self._leave.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._inside.wait(LONG)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
        self._thread.join(LONG)
