"""Change streams: cursors in the feed that sleep at a gate when there is nothing to read.

A stream is a class with ``__anext__`` and not an async generator, so that no cancel scope is ever held across a ``yield``.
It may be used bare (``async for change in cm.watch()``): what it holds in the map goes when nobody refers to it any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from sys import modules
from time import monotonic
from typing import Any, Final, Generic, NoReturn, Self, TypeVar

from chronomap.core.change import Change
from chronomap.core.cursor import PAUSE, Cursor, LatestCursor, Selection
from chronomap.core.replay import commits
from chronomap.core.values import MISSING, hashable
from chronomap.core.view import View
from chronomap.errors import ChronoMapError, ChronoMapTypeError, ChronoMapValueError, ClosedError
from chronomap.runtime.gates import Gate, LoopGate
from chronomap.runtime.owner import BUDGET, Owner
from chronomap.runtime.ports import Port, TaskBell, ThreadBell
from chronomap.runtime.threads import in_thread

K = TypeVar("K")
V = TypeVar("V")

PATIENCE: Final = 0.05
"""Seconds after which ``caught_up`` looks again by itself: nobody rings when a sleeping stream moves past commits of other
keys."""


def select(  # noqa: PLR0917 - what both faces' ``watch`` take
    key: Any, prefix: Any, where: Any, present_only: bool, latest_only: bool, on_lag: Any
) -> Selection:
    """The arguments of ``watch``, checked."""
    hashable(key)
    if prefix is not None and not isinstance(prefix, str):
        raise ChronoMapTypeError(f"a prefix is text, got {type(prefix).__name__}")
    if key is not None and prefix is not None:
        raise ChronoMapValueError("give a key or a prefix, not both")
    if where is not None and not callable(where):
        raise ChronoMapTypeError(f"where is a function of a change, got {type(where).__name__}")
    if on_lag not in ("raise", "resync"):
        raise ChronoMapValueError(f"on_lag is 'raise' or 'resync', got {on_lag!r}")
    return Selection(
        key=MISSING if key is None else key,
        prefix=prefix,
        where=where,
        present_only=present_only or latest_only,
        latest_only=latest_only,
        resync=on_lag == "resync",
    )


class _Stream(Generic[K, V]):
    """What both kinds of stream are made of."""

    def __init__(self, owner: Owner, selection: Selection, since: int | None, initial: bool, pin: Callable[[], View]) -> None:
        if since is not None:
            if initial:
                raise ChronoMapValueError("since= goes on where a stream left off, initial= begins anew: give one of them")
            owner.store.check_revision(since)
        view = pin()
        cursor = LatestCursor if selection.latest_only else Cursor
        begin = 0 if initial else view.revision if since is None else since
        self._cursor = cursor(owner.store, selection, begin, pin)
        if initial:
            self._cursor.begin_with(view)
        owner.call(owner.join, self._cursor.watcher)
        self._owner = owner
        self._gate: Any = None  # where it sleeps
        self._ticket: Any = None  # and with what
        self._asleep = False  # or about to be, or waking, or letting others run
        self._closed = False
        self._hopes: tuple[tuple[int, TaskBell | ThreadBell], ...] = ()  # who waits for it to catch up, with which revision

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise ChronoMapTypeError("a change stream cannot be copied or pickled: pass on its revision, and watch(since=…) there")

    @property
    def revision(self) -> int:
        """Up to this revision everything that matches has been yielded; resume with ``watch(since=revision)``.

        With ``initial=True`` it is 0 until all that is present has been yielded. It moves on past commits that do not match.
        """
        return self._cursor.revision

    @property
    def _open(self) -> bool:
        """Whether more may come.

        Raises:
            ForkedError: If the stream was made before a fork; to end quietly would look like the end of changes.
        """
        if self._owner.closed and not self._closed:
            self._owner.refuse_if_forked()
        return not self._closed and not self._owner.closed

    def _enter(self, gate: Gate, ticket: Any) -> bool:
        """Enter a ticket where a writer finds it; False if there is something to read, or nothing more to come."""
        self._asleep = True
        cursor = self._cursor
        if (watcher := cursor.watcher) is None:
            gate.sleepers[ticket] = None
            asleep = not cursor.behind
        else:
            watcher.who = (gate, ticket)
            gate.others[ticket] = None
            self._owner.store.interest.wait(watcher)
            asleep = cursor.fall_asleep()
        if self._hopes:
            self._fulfil()
        return asleep and not (self._closed or self._owner.closed)

    def _leave(self, gate: Gate, ticket: Any) -> None:
        """Take the ticket back."""
        gate.sleepers.pop(ticket, None)
        gate.others.pop(ticket, None)
        if ticket is self._ticket:  # else the stream is read on another loop by now
            self._asleep = False
            self._cursor.awake()

    def _check_alone(self) -> None:
        if self._asleep and (self._gate is None or self._gate.alive()):
            raise ChronoMapError("somebody else is waiting in this stream; make a stream for each with watch()")

    def _fulfil(self) -> None:
        """Tell those who wait for the stream to catch up."""
        if self._hopes:
            reached = self._cursor.revision
            for revision, bell in self._hopes:
                if reached >= revision or not self._open:
                    bell.ring()

    def _caught_up(self, revision: int) -> bool:
        if not self._open:
            raise ClosedError(f"the stream has been closed at revision {self.revision}, before it reached {revision}")
        return self._cursor.revision >= revision

    def close(self) -> None:
        """End the stream, at once, also for whoever is waiting in it. Closing twice is fine."""
        self._closed = True
        self._cursor.end()
        if self._asleep and self._gate is not None:
            self._gate.call(self._ticket)
        self._fulfil()
        self._part()

    def _part(self) -> None:
        if (watcher := self._cursor.watcher) is not None and watcher.post is not None:
            self._owner.store.interest.leave(watcher)
        if self._gate is not None:
            self._gate.users.discard(self)

    def __del__(self) -> None:
        """Leave the index; the garbage collector may call this in the middle of anything."""
        if not getattr(self, "_closed", True):
            self._part()


class ChangeStream(_Stream[K, V]):
    """``async for change in stream``: changes in revision order, each once. Ends when it or the map is closed.

    Read it with one task at a time. ``async for changes in stream.commits()`` gives whole commits instead.
    """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self, _read: Callable[[], Any] | None = None) -> Change[K, V]:  # noqa: C901, PLR0912
        """The next change.

        Raises:
            LaggedError: If it fell behind what the feed retains; the error says where to resume.

        Cancellation: nothing is lost; the next call yields what this one would have.
        """
        # All here, with whole commits read the same way: each call in between costs every delivery to every watcher.
        cursor = self._cursor
        rested = False  # others have had their turn during this call
        while True:
            if cursor.short and _read is None:
                # What has been made already costs nothing of the budget, but at each 256th revision all of it. A closed
                # stream has no short way, and a closed map nothing there.
                revision = cursor.position + 1
                if (change := cursor.feed.lone.get(revision)) is not None and (revision % BUDGET or rested):
                    cursor.position = revision
                    return change
                if not revision % BUDGET and not rested:
                    self._owner.budget = 0
            owner = self._owner
            if self._closed or owner.closed:
                raise self._end()
            if not rested:
                rested = True
                owner.budget -= 1
                if owner.budget < 0:
                    await self._breathe()
                    continue
            if not cursor.short or cursor.position < cursor.store.revision:
                found = cursor.next() if _read is None else _read()
                if found is PAUSE:
                    await self._breathe()
                    continue
                if found is not None:
                    if self._hopes:
                        self._fulfil()
                    return found  # type: ignore[no-any-return]  # a cast is a call
            if (gate := self._gate) is None or self._asleep or "trio" in modules:
                gate = self._here()
            ticket = self._ticket
            try:
                if cursor.short and not self._hopes:  # `_enter`, for most who sleep
                    self._asleep = True
                    gate.sleepers[ticket] = None
                    closed = self._closed or owner.closed  # type: ignore[redundant-expr]  # by another thread
                    asleep = cursor.position == cursor.store.revision and not closed
                else:
                    asleep = self._enter(gate, ticket)
                if asleep:
                    await ticket
                    self._asleep = False
                    if cursor.watcher is not None:
                        cursor.awake()
                else:
                    self._leave(gate, ticket)
            except BaseException as error:
                if not self._elsewhere(gate, ticket, error):
                    raise

    async def _breathe(self) -> None:
        """Let others run; another reader is refused meanwhile."""
        self._check_alone()
        self._asleep = True
        try:
            await self._owner.breathe()
        finally:
            self._asleep = False

    def _here(self) -> LoopGate:
        """The gate of the loop it is read on.

        Where there is no trio nobody need ask: asyncio tells who sleeps on another loop than its own.
        """
        self._check_alone()
        gate: LoopGate | None = self._gate
        return gate if gate is not None and gate.port.leads_here() else self._come_to_this_loop()

    def _elsewhere(self, gate: LoopGate, ticket: Any, error: BaseException) -> bool:
        """After a wait that failed: whether it did because this is another event loop, where the stream has come by now."""
        self._leave(gate, ticket)
        if ticket is self._ticket:
            self._ticket = gate.port.ticket()  # nobody knows who may wake that one yet
        if not isinstance(error, RuntimeError) or gate.port.leads_here():
            return False
        self._come_to_this_loop()
        return True

    def _end(self) -> StopAsyncIteration:
        """What ends the stream."""
        if not self._closed:
            self._owner.refuse_if_forked()
        return StopAsyncIteration()

    def _come_to_this_loop(self) -> LoopGate:
        if self._gate is not None:
            self._gate.users.discard(self)
        port = Port()
        self._gate = self._owner.gate(self, port)
        self._ticket = port.ticket()
        return self._gate  # type: ignore[no-any-return]  # a loop's, since it is for a port

    def commits(self) -> Commits[K, V]:
        """The same by whole commits: ``async for changes in stream.commits()`` yields lists of what matches in each."""
        return Commits(self)

    async def caught_up(self) -> int:
        """Wait until everything that was committed before this call has been yielded; returns ``revision`` then.

        Another task has to read the stream meanwhile.

        Raises:
            ClosedError: If the stream or the map is closed before.

        Cancellation: changes nothing.
        """
        revision, bell = self._owner.store.revision, TaskBell()
        hope = (revision, bell)
        self._hopes = (*self._hopes, hope)
        try:
            while not self._caught_up(revision):
                await bell.wait(PATIENCE)
        finally:
            self._hopes = tuple(other for other in self._hopes if other is not hope)
        return self.revision

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def aclose(self) -> None:
        """The same as ``close``."""
        self.close()


class Commits(Generic[K, V]):
    """The changes of a stream by commit; made by ``ChangeStream.commits()``."""

    def __init__(self, stream: ChangeStream[K, V]) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Change[K, V]]:
        """All changes of the next commit that match. What is present at first comes in lists of any length.

        Cancellation: nothing is lost; the next call yields what this one would have.
        """
        stream = self._stream
        changes: Any = await stream.__anext__(stream._cursor.next_commit)
        stream._owner.budget -= len(changes)
        return changes  # type: ignore[no-any-return]


class SyncChangeStream(_Stream[K, V]):
    """``for change in stream`` in a thread: changes in revision order, each once.

    Ends when it or the map is closed, or after its timeout without a change; after a timeout it can be read on.
    """

    def __init__(  # noqa: PLR0917
        self,
        owner: Owner,
        selection: Selection,
        since: int | None,
        initial: bool,
        pin: Callable[[], View],
        timeout: float | None,
    ) -> None:
        self._timeout = check_timeout(timeout)
        super().__init__(owner, selection, since, initial, pin)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change[K, V]:
        """The next change.

        Raises:
            LaggedError: If it fell behind what the feed retains; the error says where to resume.
            ChronoMapError: If it would have to wait on the event loop's own thread, which it would block.
        """
        found: Change[K, V] = self._next(self._cursor.next)
        return found

    def commits(self) -> Iterator[list[Change[K, V]]]:
        """The same by whole commits: each a list of what matches in it."""
        while True:
            try:
                changes: list[Change[K, V]] = self._next(self._cursor.next_commit)
            except StopIteration:
                return
            yield changes

    def _next(self, read: Callable[[], Any]) -> Any:
        deadline: float | None = None
        while self._open:
            found = read()
            if found is not None and found is not PAUSE:
                self._fulfil()
                return found
            if found is PAUSE:
                continue
            now = monotonic()
            if deadline is None:
                deadline = now + self._timeout
            if now >= deadline:
                break
            self._sleep(deadline - now)
        raise StopIteration

    def _sleep(self, timeout: float) -> None:
        if Port.here() is not None:
            raise ChronoMapError(
                "waiting for changes here would block the event loop that runs on this thread: use "
                "`async for change in AsyncChronoMap.watch()`, or read the stream in a worker thread (anyio.to_thread.run_sync)"
            )
        self._check_alone()
        if self._gate is None:
            self._gate = self._owner.gate(self, None)
        gate = self._gate
        bell = self._ticket = ThreadBell()
        try:
            if self._enter(gate, bell):
                bell.wait(min(timeout, threading.TIMEOUT_MAX))
        finally:
            self._leave(gate, bell)

    def caught_up(self, timeout: float | None = None) -> bool:
        """Wait until everything that was committed before this call has been yielded to the thread that reads the stream.

        Args:
            timeout: Seconds to wait at most; default: for ever.

        Returns:
            Whether it has; False after the timeout.

        Raises:
            ClosedError: If the stream or the map is closed before.
        """
        revision, bell = self._owner.store.revision, ThreadBell()
        hope = (revision, bell)
        self._hopes = (*self._hopes, hope)
        deadline = monotonic() + check_timeout(timeout)
        try:
            while not self._caught_up(revision):
                if (left := deadline - monotonic()) <= 0:
                    return False
                bell.wait(min(left, PATIENCE))
        finally:
            self._hopes = tuple(other for other in self._hopes if other is not hope)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def replayed(view: View, since: int, selection: Selection) -> Iterator[list[Change[Any, Any]]]:
    """The matching changes of each commit after a revision, up to that of a pinned view."""
    where = selection.where
    for commit in commits(view, since):
        changes: list[Change[Any, Any]] = [
            Change(commit, index) for index, record in enumerate(commit.records) if selection.names(record.key)
        ]
        yield changes if where is None else [change for change in changes if where(change)]


class Replay(Generic[K, V]):
    """``async for change in cm.replay()``: the changes of the past again; what must be sorted is sorted in a thread."""

    def __init__(self, owner: Owner, view: View, since: int, selection: Selection) -> None:
        view.store.check_revision(since)
        self._arguments = (view, since, selection)
        self._owner = owner
        self._changes: Iterator[Change[K, V]] | None = None
        self._reading = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change[K, V]:
        """The next change.

        Cancellation: nothing is lost; the next call yields what this one would have.
        """
        if (changes := self._changes) is None:
            changes = await self._read()
        owner = self._owner
        owner.budget -= 1
        if owner.budget < 0:
            await owner.breathe()
        for change in changes:
            return change
        raise StopAsyncIteration

    async def _read(self) -> Iterator[Change[K, V]]:
        if self._reading:
            raise ChronoMapError("somebody else is reading this replay; make one for each with replay()")
        self._reading = True
        try:
            found = await in_thread(lambda: list(replayed(*self._arguments)))
        finally:
            self._reading = False
        self._changes = (change for changes in found for change in changes)
        return self._changes


def check_timeout(timeout: float | None) -> float:
    """A timeout in seconds, infinity for None."""
    if timeout is None or timeout == float("inf"):
        return float("inf")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ChronoMapTypeError(f"a timeout is a number of seconds, got {type(timeout).__name__}")
    if timeout < 0 or timeout != timeout:  # noqa: PLR0124 - NaN
        raise ChronoMapValueError(f"a timeout is 0 or more seconds, got {timeout}")
    return float(timeout)
