"""What several of these tests need: a turn that stays open, so that everybody else has to wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import anyio.lowlevel

from chronomap import AsyncChronoMap, ChronoMap

LONG = 10.0
"""Seconds after which something that should have happened at once has not happened."""


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


async def until(condition: Callable[[], object]) -> None:
    """Let others run until something is so."""
    with anyio.fail_after(LONG):
        while not condition():
            await anyio.lowlevel.checkpoint()
