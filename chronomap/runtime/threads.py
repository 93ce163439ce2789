"""Worker threads for what would hold up the event loop: files, history on the disk, whole maps.

They are counted apart from those that the application runs with ``anyio.to_thread``: a thread of the application may wait
for an async callback that reads the map, so the map must not wait for a thread of the application.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from chronomap.runtime.ports import CancelledError, TaskBell

T = TypeVar("T")

MOST: Final = 40
"""Threads at a time, of all maps on one event loop; what comes then waits."""

limiter: RunVar[anyio.CapacityLimiter] = RunVar("chronomap_threads")


async def in_thread(work: Callable[[], T]) -> T:
    """What a function returns that is called in a worker thread.

    Cancellation: a function that has begun is waited for, by whatever means its caller is cancelled: nothing goes on behind
    the caller's back.
    """
    try:
        threads = limiter.get()
    except LookupError:
        limiter.set(threads := anyio.CapacityLimiter(MOST))
    ended = TaskBell()
    permit = [None]  # taken once: by the thread that begins, or by who does not want it to begin any more

    def begin() -> T:
        permit.pop()
        try:
            return work()
        finally:
            ended.ring()

    try:
        return await anyio.to_thread.run_sync(begin, limiter=threads)
    except CancelledError:  # asyncio's own, which no scope keeps out, and which may come again; the first is raised
        with suppress(IndexError):
            permit.pop()
            raise
        over = False
        while not over:
            with suppress(CancelledError), anyio.CancelScope(shield=True):
                over = await ended.wait()
        raise
