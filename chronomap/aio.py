"""``AsyncChronoMap``: the map for asyncio and trio. Names and arguments are those of ``ChronoMap``; calls are awaited.

A call is answered on the spot whenever nobody else is in a turn, which on one event loop is always. So that a loop of
awaits starves nobody, every ``BUDGET`` calls of a map one yields to the event loop; cancellation is noticed there. The other
calls are no checkpoints.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast

import anyio
import anyio.lowlevel

from chronomap import formats
from chronomap.aio_snapshots import SLICE, AsyncReads, AsyncSnapshot, AsyncSnapshotContext, AsyncTransaction
from chronomap.core.change import Change
from chronomap.core.feed import RETAINED_CHANGES
from chronomap.core.meta import Plain
from chronomap.core.records import NEVER, Commit, Version
from chronomap.core.retention import Retention
from chronomap.core.timeline import UNSETTLED
from chronomap.core.timestamps import Timestamp, seconds
from chronomap.core.values import IMMUTABLE, MISSING, Captured, hashable, release
from chronomap.core.view import View
from chronomap.durable import AsyncDurable
from chronomap.errors import (
    ChronoMapError,
    ChronoMapKeyError,
    ChronoMapTypeError,
    ConflictError,
    JournalError,
    NotResidentError,
)
from chronomap.face import (
    ATTEMPTS,
    Choose,
    K,
    Readable,
    V,
    check_number,
    function,
    several,
)
from chronomap.runtime import annotate
from chronomap.runtime.hooks import Callback
from chronomap.runtime.owner import TURNS
from chronomap.runtime.ports import Port
from chronomap.runtime.service import Job, Service
from chronomap.runtime.threads import in_thread
from chronomap.runtime.watch import ChangeStream, Replay, select
from chronomap.sync import ChronoMap

T = TypeVar("T")


class AsyncChronoMap(AsyncReads[K, V], AsyncDurable[K, V]):
    """A key-value map that keeps every version of every key, for asyncio and trio.

    Use it with ``async with``, or just use it: what it needs in the background starts with the first need and ends with the
    event loop. See ``ChronoMap`` for the arguments and for what each call means.

    Cancellation: a call that is cancelled before it was carried out did nothing; one that has been carried out stays. Most
    calls are answered without waiting and are no checkpoints, but now and then. A durable write waits for the disk: if it
    is cancelled meanwhile, it may or may not be there. Give it a ``request_id`` and it can be made again without harm.
    """

    _patient = False  # the event loop never waits for the disk

    def __init__(
        self,
        debug: bool = False,
        *,
        retention: Retention | None = None,
        isolation: Literal["copy", "share"] = "copy",
        clock: Callable[[], float] | None = None,
        feed_retention: int = RETAINED_CHANGES,
    ) -> None:
        super().__init__(retention=retention, isolation=isolation, clock=clock, feed_retention=feed_retention, debug=debug)
        self._serve()

    def _serve(self) -> None:
        self._service = Service(self._owner)
        self._owner.alarm = self._service.alarm
        self._owner.finish = self._service.finish_from_thread

    async def _begin(self) -> None:
        self._serve()
        self._service.ensure()
        with suppress(JournalError):  # then the map can be read all the same, and says that it is read-only
            await self._do(self._store.begin)  # what fell due while the file was closed

    async def __aenter__(self) -> Self:
        self._check_open()
        self._service.ensure()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse everything from now on with ``ClosedError``, and end what runs in the background. Closing twice is fine.

        Async callbacks that are running have five seconds to end and are cancelled then.

        Cancellation: they are cancelled at once; the map is closed, and its file free, all the same.
        """
        self._owner.close()
        try:
            await self._service.stop()
        finally:
            if self.durable:
                with anyio.CancelScope(shield=True):
                    await in_thread(self._owner.ended)

    def bridge(self) -> ChronoMap[K, V]:
        """The same store for threads: a ``ChronoMap`` whose calls may be made from any thread."""
        if self._service.port is None:
            try:
                self._service.ensure()
            except RuntimeError:  # no loop is running yet: nothing that needs one can have been asked for
                self._service.port = None
        return ChronoMap._bridge(self, self._service.before_blocking)

    async def _do(self, operation: Callable[..., Any], *arguments: Any, meta: Mapping[str, Plain] | None = None) -> Any:
        """Run a command: on the spot if nobody is in a turn, else through the mailbox."""
        if meta is not None or annotate.used:
            operation, arguments = self._annotated(meta, operation, arguments)
        owner = self._owner
        owner.budget -= 1
        if owner.budget < 0:
            await owner.breathe()
        store = owner.store
        owner.check_reentry()
        commits: Sequence[Commit] = []
        try:
            if owner.begin_on_the_spot(operation):
                before = after = store.revision
                try:
                    reply = operation(owner.clock(), *arguments)
                finally:
                    after = store.revision
                    if owner.observed:
                        commits = store.feed.since(before)
                    owner.end_turn()
                    if after != before:
                        owner.wake_watchers()
            else:
                command = await owner.wait(operation, *arguments)
                commits = command.commits
                reply = command.outcome()
        except TypeError as error:
            if isinstance(error, ChronoMapError) or "unhashable" not in str(error):
                raise
            raise ChronoMapTypeError(f"Key must be hashable: {error}") from None
        finally:
            if commits:
                await self._tell(commits)
        if store.deadlines.next_due < owner.alarm_due:
            owner.set_alarm()
        return reply

    async def _tell(self, commits: Sequence[Commit]) -> None:
        self._owner.announce(commits)
        hooks = self._owner.hooks
        if not hooks.asynchronous:
            return
        if self._service.port is None:
            self._service.ensure()
        pending = hooks.pending(commits)
        try:
            await pending.run()
        except BaseException:
            if pending:  # the caller was cancelled: the owner task goes on with the rest
                self._service.spawn(Job(pending, copy_context()))
            raise

    async def _view_for(self, timestamp: Timestamp | None = None) -> View:
        view: View = await self._do(self._store.pin, None if timestamp is None else seconds(timestamp), None)
        return view

    def _pin(self, timestamp: Timestamp | None = None, revision: int | None = None) -> View:
        view: View = self._owner.call(self._store.pin, None if timestamp is None else seconds(timestamp), revision)
        return view

    # -- reading -------------------------------------------------------------------------------------------------------

    async def get(
        self,
        key: K,
        timestamp: Timestamp | None = None,
        default: Any = None,
        *,
        strict: bool = False,
        revision: int | None = None,
    ) -> V | Any:
        """What the key holds (at a timestamp, as known at a revision), or the default. See ``ChronoMap.get``."""
        owner = self._owner
        owner.budget -= 1
        if owner.budget < 0:
            await owner.breathe()
        if timestamp is None and revision is None:
            # The hot path: a settled value needs neither clock nor search. Everything else is `_held`'s.
            try:
                timeline = owner.timelines.get(key)
            except TypeError:
                hashable(key)
                raise
            if timeline is None or (value := timeline.settled) is UNSETTLED:
                value = self._held(key)
            else:
                self._store.reads += 1
        else:
            self._store.reads += 1
            value = await self._read(self._view(timestamp, revision), lambda view: view.held(key))
        if value is MISSING:
            if strict:
                raise ChronoMapKeyError(key)
            return default
        return release(value) if type(value) is Captured else value

    async def version(self, key: K, timestamp: Timestamp | None = None, *, revision: int | None = None) -> Version[K, V] | None:
        """The version that ``get`` with the same arguments would answer from, or None."""
        return await self._read(self._view(timestamp, revision), lambda view: view.version(key))

    async def get_latest_keys(self, n: int) -> list[tuple[K, float, V]]:
        """The n present keys with the newest timestamps, newest first: ``(key, timestamp, value)``. O(n)."""
        found = await self._do(self._store.latest_keys, check_number(n, "n"))
        return [(key, timestamp, release(kept)) for key, timestamp, kept in found]

    async def snapshot(self) -> AsyncSnapshot[K, V]:
        """The map as it is now, frozen. O(1) in time and memory."""
        self._store.snapshots += 1
        return AsyncSnapshot(self._owner, await self._view_for(), AsyncChronoMap.from_dict)

    async def at(self, timestamp: Timestamp | None = None, *, revision: int | None = None) -> AsyncSnapshot[K, V]:
        """The map at a timestamp (default now), as known at a revision (default the newest), frozen. O(1)."""
        when = None if timestamp is None else seconds(timestamp)
        view: View = await self._do(self._store.pin, when, revision)
        return AsyncSnapshot(self._owner, view, AsyncChronoMap.from_dict)

    # -- writing -------------------------------------------------------------------------------------------------------

    async def put(
        self,
        key: K,
        value: V,
        timestamp: Timestamp | None = None,
        ttl: float | None = None,
        *,
        if_revision: int | None = None,
        if_absent: bool = False,
        if_changed: bool = False,
        request_id: object = None,
        meta: Mapping[str, Plain] | None = None,
    ) -> int:
        """Add a version; returns the revision of the commit. See ``ChronoMap.put``."""
        if type(value) not in IMMUTABLE:
            value = self._capture(value)
        revision: int
        plain = if_revision is None and not if_absent and not if_changed and request_id is None
        if plain and meta is None and not (annotate.used and annotate.current.get()):
            owner = self._owner
            try:
                if self._store.gathers:  # it waits for the disk, so it need not yield before
                    command = await owner.wait(*owner.putting(key, value, timestamp, ttl))
                    if command.commits:
                        await self._tell(command.commits)
                    revision = command.outcome()
                    if self._store.deadlines.next_due < owner.alarm_due:
                        owner.set_alarm()
                else:
                    owner.budget -= 1
                    if owner.budget < 0:
                        await owner.breathe()
                    revision = owner.try_put(key, value, timestamp, ttl)
                    revision = revision or await self._do(*owner.putting(key, value, timestamp, ttl))
            except TypeError:
                hashable(key)
                raise
        else:
            arguments = (key, value, timestamp, ttl, if_revision, if_absent, if_changed, request_id)
            revision = await self._do(self._store.put, *arguments, meta=meta)
        if self._debug:
            self._log("PUT key=%r value=%r timestamp=%r ttl=%r revision=%d", key, value, timestamp, ttl, revision)
        return revision

    async def put_many(
        self,
        items: Mapping[K, V],
        timestamp: Timestamp | None = None,
        ttl: float | None = None,
        *,
        if_changed: bool = False,
        meta: Mapping[str, Plain] | None = None,
    ) -> int:
        """Put several keys in one commit; all or nothing. Returns its revision."""
        revision: int = await self._do(self._store.put_many, self._captured(items), timestamp, ttl, if_changed, meta=meta)
        return revision

    async def delete(
        self,
        key: K,
        timestamp: Timestamp | None = None,
        *,
        if_revision: int | None = None,
        meta: Mapping[str, Plain] | None = None,
    ) -> bool:
        """Add a tombstone; the history stays. What is scheduled for later is called off. False if there was nothing."""
        deleted: bool = await self._do(self._store.delete, key, timestamp, if_revision, meta=meta)
        if self._debug:
            self._log("DELETE key=%r deleted=%r", key, deleted)
        return deleted

    async def delete_many(
        self, keys: Iterable[K], timestamp: Timestamp | None = None, *, meta: Mapping[str, Plain] | None = None
    ) -> int:
        """Delete several keys in one commit; returns how many there were to delete."""
        deleted: int = await self._do(self._store.delete_many, several(keys), timestamp, meta=meta)
        return deleted

    async def update(
        self,
        key: K,
        fn: Callable[[V], V | Awaitable[V]],
        *,
        default: Any = None,
        ttl: float | None = None,
        meta: Mapping[str, Plain] | None = None,
    ) -> V:
        """Put ``fn(present value, or default)`` and return it; nobody's change in between is lost.

        ``fn`` may be async. It runs again if somebody else changed the key meanwhile: let it have no side effects.
        """
        function(fn, "fn")
        while True:
            expected = self._view(None, None).identity(key)
            value = fn(await self.get(key, default=default))
            if inspect.isawaitable(value):
                value = await value
            kept = self._capture(cast("V", value))
            try:
                await self._do(self._store.put_if, key, kept, ttl, expected, meta=meta)
            except ConflictError:
                continue
            return cast("V", value)

    async def touch(self, key: K, ttl: float | None, *, meta: Mapping[str, Plain] | None = None) -> bool:
        """Let the present value expire ``ttl`` seconds from now (None: never); False if the key is missing."""
        touched: bool = await self._do(self._store.touch, key, ttl, meta=meta)
        return touched

    async def erase(self, key: K, *, meta: Mapping[str, Plain] | None = None) -> int:
        """Remove all values of a key for good, from history, snapshots and feed; returns how many versions that were."""
        erased: int = await self._do(self._store.erase, key, meta=meta)
        return erased

    async def clear(self, *, meta: Mapping[str, Plain] | None = None) -> None:
        """Delete everything in one commit. The history stays; ``rollback`` brings it back."""
        await self._do(self._store.clear, meta=meta)

    async def unschedule(self, key: K, timestamp: Timestamp | None = None, *, meta: Mapping[str, Plain] | None = None) -> int:
        """Call off what is scheduled for a key, at one timestamp or all; returns how many timestamps that were."""
        cancelled: int = await self._do(self._store.unschedule, key, timestamp, meta=meta)
        return cancelled

    def transaction(self, *, meta: Mapping[str, Plain] | None = None) -> AsyncTransaction[K, V]:
        """``async with cm.transaction() as tx``: reads of one snapshot, writes committed together when the block ends.

        Raises:
            ConflictError: At the end of the block, if what it read has changed meanwhile; nothing was written.
        """
        return AsyncTransaction(self, meta)

    async def transact(
        self,
        fn: Callable[[AsyncTransaction[K, V]], Any],
        *,
        attempts: int = ATTEMPTS,
        meta: Mapping[str, Plain] | None = None,
    ) -> Any:
        """Run ``fn(transaction)`` and commit, again after a conflict, up to so many times; ``fn`` may be async."""
        function(fn, "fn")
        for attempt in range(1, check_number(attempts, "attempts") + 1):
            try:
                async with self.transaction(meta=meta) as transaction:
                    result = fn(transaction)
                    if inspect.isawaitable(result):
                        result = await result
            except ConflictError:
                if attempt >= attempts:
                    raise
            else:
                return result
        raise ChronoMapTypeError("attempts must be at least 1")

    # -- back in time --------------------------------------------------------------------------------------------------

    async def rollback(self, to: AsyncSnapshot[K, V] | int, *, meta: Mapping[str, Plain] | None = None) -> int:
        """Behave from now on as if nothing had been committed since a snapshot or revision; returns the new revision."""
        revision: int = await self._do(self._store.rollback, *self._rollback_arguments(to), meta=meta)
        return revision

    async def undo(self, revision: int, *, meta: Mapping[str, Plain] | None = None) -> int:
        """Commit the inverse of one commit; ``ConflictError`` if a later one touched its keys."""
        undone: int = await self._do(self._store.undo, revision, meta=meta)
        return undone

    def snapshot_context(self) -> AsyncSnapshotContext:
        """``async with``: if the block raises, undo what it wrote (tasks it started included), and only that."""
        return AsyncSnapshotContext(self)

    async def merge(
        self, other: Readable[K, V], strategy: str | Choose = "timestamp", *, meta: Mapping[str, Plain] | None = None
    ) -> int:
        """Take over another map's history or values, in one commit; returns its revision. See ``ChronoMap.merge``."""
        while True:
            try:
                operation, arguments = self._merge_plan(other, strategy, patient=False)
            except NotResidentError:
                plan = partial(self._merge_plan, other, strategy, patient=True)
                operation, arguments = await in_thread(plan)
            try:
                revision: int = await self._do(operation, *arguments, meta=meta)
            except ConflictError:
                continue  # a key changed while the function chose
            return revision

    # -- housekeeping --------------------------------------------------------------------------------------------------

    async def prune_history(self, key: K, keep_last: int | None = None, older_than: Timestamp | None = None) -> int:
        """Forget a key's oldest versions; returns how many. See ``ChronoMap.prune_history``."""
        hashable(key)
        pruned: int = await self._do(self._store.prune, [key], *self._prune_arguments(keep_last, older_than))
        return pruned

    async def prune_all_history(self, keep_last: int | None = None, older_than: Timestamp | None = None) -> int:
        """The same for every key, in slices; without arguments by the map's ``Retention``."""
        arguments = self._retained(keep_last, older_than)
        keys = list(self._store.timelines)
        pruned = 0
        for start in range(0, len(keys), SLICE):
            pruned += await self._do(self._store.prune, keys[start : start + SLICE], *arguments)
            await anyio.lowlevel.checkpoint()
        return pruned

    async def clean_expired_keys(self) -> int:
        """How many keys have expired since the last call, whoever found them."""
        expired: int = await self._do(self._store.clean_expired_keys)
        return expired

    def on_change(self, callback: Callback) -> None:
        """Call ``callback(key, old, new, timestamp)`` after every change, before the call that made it returns.

        An async callback is awaited. What it raises is logged. It may call the map. When the caller is cancelled during an
        async callback, that callback is cancelled too, and those after it run in the background.
        """
        self._add_callback(callback, allow_async=True)
        if self._owner.hooks.asynchronous and Port.here() is not None:
            self._service.ensure()

    def watch(
        self,
        key: K | None = None,
        *,
        prefix: str | None = None,
        where: Callable[[Change[K, V]], object] | None = None,
        since: int | None = None,
        initial: bool = False,
        present_only: bool = False,
        latest_only: bool = False,
        on_lag: Literal["raise", "resync"] = "raise",
    ) -> ChangeStream[K, V]:
        """Follow changes, in revision order: ``async for change in cm.watch(): …``. See ``ChronoMap.watch``.

        It may be read on any event loop, also on another than the one that writes.
        """
        if self._store.deadlines.next_due != NEVER:
            self._service.alarm()
        selection = select(key, prefix, where, present_only, latest_only, on_lag)
        return ChangeStream(self._owner, selection, since, initial, self._pin)

    def replay(
        self,
        since: int = 0,
        until: int | None = None,
        *,
        key: K | None = None,
        prefix: str | None = None,
        where: Callable[[Change[K, V]], object] | None = None,
    ) -> Replay[K, V]:
        """The changes of the past again: ``async for change in cm.replay(): …``. See ``ChronoMap.replay``.

        They are put together in a worker thread, in which ``where`` is called too.
        """
        selection = select(key, prefix, where, False, False, "raise")  # noqa: FBT003
        view, fetch = self._pin(None, until), self._owner.fetch
        return Replay(self._owner, view if fetch is None else view.fetching(fetch), since, selection)

    # -- files ---------------------------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | bytes, debug: bool = False, **options: Any) -> AsyncChronoMap[K, V]:
        """A map from what ``to_dict`` gave (also that of ChronoMap 2)."""
        new: AsyncChronoMap[K, V] = cls(debug, **options)
        formats.load(new._store, formats.unpack(data) if isinstance(data, bytes | bytearray) else data, new._owner.now())
        new._owner.set_alarm()
        return new

    @classmethod
    async def load_json(cls, file_path: str | Path, debug: bool = False, **options: Any) -> AsyncChronoMap[K, V]:
        """A map from a file that ``save_json`` wrote (also that of ChronoMap 2); read in a worker thread."""
        return cls.from_dict(await in_thread(partial(formats.load_json, Path(file_path))), debug, **options)

    @classmethod
    async def load_pickle(cls, file_path: str | Path, debug: bool = False, **options: Any) -> AsyncChronoMap[K, V]:
        """A map from a file that ``save_pickle`` wrote; loading runs no code, whoever wrote the file."""
        return cls.from_dict(await in_thread(partial(formats.load_pickle, Path(file_path))), debug, **options)

    async def import_changes(self, file_path: str | Path, *, progress: formats.Progress | None = None) -> int:
        """Commit the changes of a file of change lines, one commit per revision; returns how many changes.

        The file is read and checked as a whole first. Cancellation: what was committed stays; whole commits only.
        """
        lines = 0
        commits = await in_thread(lambda: list(formats.read_changes(Path(file_path), progress)))
        for operation, waiting, number in self._import_commands(commits):
            await self._do(operation, waiting)
            lines += number
        return lines


TURNS.add(AsyncChronoMap._do.__code__)
