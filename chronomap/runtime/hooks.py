"""Change callbacks: called after the commit, outside the turn, before the writing call returns."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from chronomap.core.records import Commit, plain
from chronomap.errors import ChronoMapTypeError
from chronomap.runtime.ports import CancelledError, being_cancelled

log = logging.getLogger("chronomap")

Callback = Callable[[Any, Any, Any, float], Any]
"""``callback(key, old, new, timestamp)``; None stands for nothing."""


class Pending:
    """Calls of async callbacks that have not begun; false when there are none."""

    def __init__(self, calls: Iterable[tuple[Callback, tuple[Any, Any, Any, float]]]) -> None:
        self._calls = deque(calls)

    def __bool__(self) -> bool:
        return bool(self._calls)

    async def run(self) -> None:
        """Await them one by one; what they raise is logged. After a cancellation those are left that have not begun."""
        while self._calls:
            callback, arguments = self._calls.popleft()
            try:
                await callback(*arguments)
            except CancelledError:
                if being_cancelled():
                    raise
                log.exception("Error in change callback")
            except Exception:
                log.exception("Error in change callback")


class Hooks:
    """The callbacks of one map, in the order they were registered.

    A callback runs in the context of the call that wrote (or of the reaper), so it may read context variables of the
    writer; a plain one also on the writer's thread. It may call the map. Writers on several threads run theirs side by side;
    who needs strict revision order watches the feed.
    """

    def __init__(self) -> None:
        self.plain: tuple[Callback, ...] = ()
        self.asynchronous: tuple[Callback, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.plain or self.asynchronous)

    def add(self, callback: Callback, *, allow_async: bool) -> None:
        """Register a callback."""
        if not callable(callback):
            raise ChronoMapTypeError(f"a change callback is callable, got {type(callback).__name__}")
        if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None)):  # noqa: B004
            if not allow_async:
                raise ChronoMapTypeError("async callbacks need an event loop: register them on an AsyncChronoMap")
            self.asynchronous = (*self.asynchronous, callback)
        else:
            self.plain = (*self.plain, callback)

    def remove(self, callback: Callback) -> bool:
        """Take a callback back; False if it was not registered."""
        for name in ("plain", "asynchronous"):
            callbacks = list(getattr(self, name))
            if callback in callbacks:
                callbacks.remove(callback)
                setattr(self, name, tuple(callbacks))
                return True
        return False

    def run(self, commits: Iterable[Commit]) -> None:
        """Call the plain callbacks; what they raise is logged."""
        if not self.plain:
            return
        for arguments in calls(commits):
            for callback in self.plain:
                try:
                    callback(*arguments)
                except (Exception, CancelledError):  # nobody is cancelled here: it is the callback's own
                    log.exception("Error in change callback")

    def pending(self, commits: Iterable[Commit]) -> Pending:
        """The async calls that some commits ask for."""
        return Pending((callback, arguments) for arguments in calls(commits) for callback in self.asynchronous)


def calls(commits: Iterable[Commit]) -> Iterator[tuple[Any, Any, Any, float]]:
    """The arguments for each change of some commits."""
    for commit in commits:
        for record in commit.records:
            yield record.key, plain(record.previous), plain(record.value), record.timestamp
