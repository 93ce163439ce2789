"""Change streams: positions in the feed that wait for more.

A stream holds no queue that grows: it reads one commit at a time and is woken when there is another. It is a class with
``__anext__`` and not an async generator, so that no cancel scope is ever held across a ``yield``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, Self, TypeVar

from chronomap.core.records import NEVER, Change, Commit
from chronomap.core.view import View
from chronomap.runtime.owner import Owner
from chronomap.runtime.ports import Bell, TaskBell, ThreadBell

K = TypeVar("K")
V = TypeVar("V")


class Cursor(Generic[K, V]):
    """Where a stream is in the feed, and what it lets through. Knows nothing of waiting."""

    def __init__(
        self,
        view: View,
        key: K | None,
        prefix: str | None,
        where: Callable[[Change[K, V]], object] | None,
        since: int | None,
        *,
        initial: bool,
    ) -> None:
        if since is not None:
            view.store.check_revision(since)
        self._feed = view.store
        self._key = key
        self._prefix = prefix
        self._where = where
        self.position = view.revision if since is None or initial else since
        self.revision = self.position
        self._buffer: deque[Change[K, V]] = deque(self._present(view) if initial else ())

    def _present(self, view: View) -> list[Change[K, V]]:
        found = [stamped for stamped in view.stamped() if self._wants(stamped[0])]
        return [
            Change(
                revision=view.revision,
                index=index,
                size=len(found),
                committed_at=view.store.instant_of(revision),
                key=key,
                kind="initial",
                value=value,
                previous=None,
                timestamp=timestamp,
                expires_at=None,
                created=True,
            )
            for index, (key, timestamp, revision, value) in enumerate(found)
        ]

    def _wants(self, key: Any) -> bool:
        if self._key is not None and not (key is self._key or key == self._key):
            return False
        return self._prefix is None or (isinstance(key, str) and key.startswith(self._prefix))

    def next(self) -> Change[K, V] | None:
        """The next change, or None if there is none yet.

        Raises:
            LaggedError: If the feed no longer retains it.
        """
        while True:
            while self._buffer:
                change = self._buffer.popleft()
                if not self._buffer:
                    self.revision = self.position
                if self._where is None or self._where(change):
                    return change
            self.revision = self.position
            commit = self._next_commit()
            if commit is None:
                return None
            size = len(commit.records)
            self._buffer.extend(
                commit.change(index, record, size) for index, record in enumerate(commit.records) if self._wants(record.key)
            )
            self.position = commit.revision

    def _next_commit(self) -> Commit | None:
        if self.position >= self._feed.revision:
            return None
        commit = self._feed.feed.commit(self.position + 1)
        return commit if commit is not None else self._feed.feed.since(self.position)[0]


class _Stream(Generic[K, V]):
    def __init__(self, owner: Owner, cursor: Cursor[K, V]) -> None:
        self._owner = owner
        self._cursor = cursor
        self._closed = False
        self._bell: Bell | None = None
        owner.streams.add(self)
        owner.observed = True

    @property
    def revision(self) -> int:
        """Up to this revision everything that matches has been yielded."""
        return self._cursor.revision

    def _park(self, bell: Bell) -> Change[K, V] | None:
        """Ask to be woken; the second look closes the gap between the first look and the asking."""
        self._bell = bell
        self._owner.parked[id(self)] = bell
        return self._cursor.next()

    def _check(self) -> bool:
        return not self._closed and not self._owner.closed

    def _end(self) -> None:
        self._closed = True
        self._owner.parked.pop(id(self), None)
        self._owner.streams.discard(self)
        self._owner.look_again()
        if self._bell is not None:
            self._bell.ring()


class ChangeStream(_Stream[K, V]):
    """``async for change in stream``; ends when it or the map is closed."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change[K, V]:
        """The next change.

        Cancellation: nothing is lost; the next call yields what this one would have.
        """
        while self._check():
            if (change := self._cursor.next()) is not None:
                return change
            bell = TaskBell()
            if (change := self._park(bell)) is not None:
                return change
            try:
                await bell.wait()
            finally:
                self._owner.parked.pop(id(self), None)
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream, also for a task that is waiting in it."""
        self.close()

    def close(self) -> None:
        """The same without waiting for anything."""
        self._end()


class SyncChangeStream(_Stream[K, V]):
    """``for change in stream`` in a thread; ends when it or the map is closed, or after its timeout without a change."""

    def __init__(self, owner: Owner, cursor: Cursor[K, V], timeout: float | None) -> None:
        super().__init__(owner, cursor)
        self._timeout = NEVER if timeout is None else timeout

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change[K, V]:
        deadline = monotonic() + self._timeout
        while self._check():
            if (change := self._cursor.next()) is not None:
                return change
            bell = ThreadBell()
            if (change := self._park(bell)) is not None:
                return change
            try:
                if not bell.wait(None if self._timeout == NEVER else max(0.0, deadline - monotonic())):
                    if (change := self._cursor.next()) is not None:
                        return change
                    raise StopIteration
            finally:
                self._owner.parked.pop(id(self), None)
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream, also for a thread that is waiting in it."""
        self._end()
