"""``ChronoMap``: the map for plain code and threads. Every call returns when it is done; nothing here needs an event loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from chronomap import formats
from chronomap.core.change import Change
from chronomap.core.draft import Draft
from chronomap.core.feed import RETAINED_CHANGES
from chronomap.core.meta import Plain
from chronomap.core.records import Version
from chronomap.core.retention import Retention
from chronomap.core.timestamps import Timestamp, seconds
from chronomap.core.values import IMMUTABLE, MISSING, Captured, hashable, release
from chronomap.core.view import View
from chronomap.durable import SyncDurable, save_journal
from chronomap.errors import ChronoMapError, ChronoMapKeyError, ChronoMapTypeError, ConflictError, JournalError
from chronomap.face import (
    ATTEMPTS,
    Choose,
    Face,
    K,
    Readable,
    V,
    check_number,
    function,
    several,
)
from chronomap.runtime import annotate
from chronomap.runtime.blocks import Block
from chronomap.runtime.hooks import Callback
from chronomap.runtime.reaper import ThreadReaper
from chronomap.runtime.watch import SyncChangeStream, replayed, select
from chronomap.snapshots import Reads, Snapshot, Transaction

if TYPE_CHECKING:
    import pandas as pd

    from chronomap.journal import Codec

SLICE: Final = 256
"""Keys that one command of many prunes."""


class ChronoMap(Reads[K, V], SyncDurable[K, V]):
    """A key-value map that keeps every version of every key. Thread-safe; no call waits for a lock.

    Args:
        debug: Log every put and delete.
        use_rwlock: Accepted for programs written for ChronoMap 2; there is no lock to choose.
        retention: How much history to keep; default: everything.
        isolation: "copy" keeps and hands out copies of values that can change; "share" does not, for those who promise
            not to change them.
        clock: Returns the time in seconds since the epoch; default ``time.time``.
        feed_retention: How many changes a change stream can fall behind before it has to begin anew. More costs memory,
            and time with each put.
    """

    _before_blocking: Callable[[], None] | None = None  # a bridge's check for calls on its own event loop

    def __init__(
        self,
        debug: bool = False,
        use_rwlock: bool | None = None,
        *,
        retention: Retention | None = None,
        isolation: Literal["copy", "share"] = "copy",
        clock: Callable[[], float] | None = None,
        feed_retention: int = RETAINED_CHANGES,
    ) -> None:
        if use_rwlock is not None:
            warnings.warn("use_rwlock does nothing: ChronoMap has no locks any more", DeprecationWarning, stacklevel=2)
        super().__init__(retention=retention, isolation=isolation, clock=clock, feed_retention=feed_retention, debug=debug)
        self._reap()

    @classmethod
    def _bridge(cls, face: Face[K, V], before_blocking: Callable[[], None]) -> ChronoMap[K, V]:
        bridge: ChronoMap[K, V] = cls.__new__(cls)
        bridge._adopt(face._owner, face._isolation, debug=face._debug)
        bridge._before_blocking = before_blocking
        return bridge

    def _reap(self) -> None:
        self._owner.alarm = ThreadReaper(self._owner).alarm
        self._owner.set_alarm()

    def _begin(self) -> None:
        self._reap()
        with suppress(JournalError):  # then the map can be read all the same, and says that it is read-only
            self._do(self._store.begin)  # what fell due while the file was closed

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse everything from now on with ``ClosedError``; a file is let go of. Closing twice is fine."""
        self._owner.close()
        self._owner.ended()

    def _pin(self, timestamp: Timestamp | None = None, revision: int | None = None) -> View:
        view: View = self._do(self._store.pin, None if timestamp is None else seconds(timestamp), revision)
        return self._for_reading(view)

    def _do(self, operation: Callable[..., Any], *arguments: Any, meta: Mapping[str, Plain] | None = None) -> Any:
        if self._before_blocking is not None:
            self._before_blocking()
        if meta is not None or annotate.used:
            operation, arguments = self._annotated(meta, operation, arguments)
        try:
            return self._owner.call(operation, *arguments)
        except TypeError as error:
            if not isinstance(error, ChronoMapError) and "unhashable" in str(error):
                raise ChronoMapTypeError(f"Key must be hashable: {error}") from None
            raise

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(
        self,
        key: K,
        timestamp: Timestamp | None = None,
        default: Any = None,
        *,
        strict: bool = False,
        revision: int | None = None,
    ) -> V | Any:
        """What the key holds, or the default.

        Args:
            key: The key.
            timestamp: When; default now. A later time than now shows what is scheduled.
            default: Returned if the key holds nothing then.
            strict: Raise instead of returning the default.
            revision: As known at that revision; default the newest.

        Raises:
            ChronoMapKeyError: If ``strict`` and the key holds nothing.
            CompactedError: If the answer has been pruned.
            FutureRevisionError: If there is no such revision yet.

        Cost: O(1) for the present value, whatever the length of the history; O(log n) for the past.
        """
        value = self._held(key) if timestamp is None and revision is None else self._held_at(key, timestamp, revision)
        if value is MISSING:
            if strict:
                raise ChronoMapKeyError(key)
            return default
        return release(value) if type(value) is Captured else value

    def version(self, key: K, timestamp: Timestamp | None = None, *, revision: int | None = None) -> Version[K, V] | None:
        """The version that ``get`` with the same arguments would answer from, or None."""
        return self._view(timestamp, revision).version(key)

    def get_latest_keys(self, n: int) -> list[tuple[K, float, V]]:
        """The n present keys with the newest timestamps, newest first: ``(key, timestamp, value)``. O(n)."""
        found = self._do(self._store.latest_keys, check_number(n, "n"))
        return [(key, timestamp, release(kept)) for key, timestamp, kept in found]

    def snapshot(self) -> Snapshot[K, V]:
        """The map as it is now, frozen. O(1) in time and memory."""
        self._store.snapshots += 1
        return Snapshot(self._owner, self._pin(), ChronoMap.from_dict)

    def at(self, timestamp: Timestamp | None = None, *, revision: int | None = None) -> Snapshot[K, V]:
        """The map at a timestamp (default now), as known at a revision (default the newest), frozen. O(1)."""
        return Snapshot(self._owner, self._pin(timestamp, revision), ChronoMap.from_dict)

    # -- writing -------------------------------------------------------------------------------------------------------

    def put(
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
        """Add a version; returns the revision of the commit.

        Args:
            key: Any hashable object.
            value: Anything that can be copied; later changes of it do not reach the map.
            timestamp: Since when it holds; default now. May be in the past (a correction) or future (a schedule).
            ttl: After how many seconds it expires, from now or from the timestamp, whichever is later.
            if_revision: Only if that is the revision that last changed the key (0: it was never written).
            if_absent: Only if the key holds nothing now.
            if_changed: Only if the key does not hold an equal value of the same type already, for as long; else nothing is
                written, and the present revision is returned.
            request_id: Put at most once for the same id, however often this is called with it.
            meta: What to keep with the commit: a small mapping of text to text, numbers, booleans or None, such as
                ``{"author": "ann"}``. See also ``chronomap.meta``. Every write takes it.

        Raises:
            ConflictError: If a condition is not met; nothing was written.
            CompactedError: If the timestamp lies before what has been pruned.
        """
        if type(value) not in IMMUTABLE:
            value = self._capture(value)
        revision: int
        plain = if_revision is None and not if_absent and not if_changed and request_id is None
        if plain and meta is None and not (annotate.used and annotate.current.get()):
            owner = self._owner
            try:
                revision = owner.try_put(key, value, timestamp, ttl) or self._do(*owner.putting(key, value, timestamp, ttl))
            except TypeError:
                hashable(key)
                raise
        else:
            arguments = (key, value, timestamp, ttl, if_revision, if_absent, if_changed, request_id)
            revision = self._do(self._store.put, *arguments, meta=meta)
        if self._debug:
            self._log("PUT key=%r value=%r timestamp=%r ttl=%r revision=%d", key, value, timestamp, ttl, revision)
        return revision

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def put_many(
        self,
        items: Mapping[K, V],
        timestamp: Timestamp | None = None,
        ttl: float | None = None,
        *,
        if_changed: bool = False,
        meta: Mapping[str, Plain] | None = None,
    ) -> int:
        """Put several keys in one commit; all or nothing. Returns its revision.

        With ``if_changed`` those that hold an equal value of the same type already are left out.
        """
        revision: int = self._do(self._store.put_many, self._captured(items), timestamp, ttl, if_changed, meta=meta)
        return revision

    def delete(
        self,
        key: K,
        timestamp: Timestamp | None = None,
        *,
        if_revision: int | None = None,
        meta: Mapping[str, Plain] | None = None,
    ) -> bool:
        """Add a tombstone; the history stays. What is scheduled for later is called off. False if there was nothing."""
        deleted: bool = self._do(self._store.delete, key, timestamp, if_revision, meta=meta)
        if self._debug:
            self._log("DELETE key=%r deleted=%r", key, deleted)
        return deleted

    def __delitem__(self, key: K) -> None:
        if not self.delete(key):
            raise ChronoMapKeyError(key)

    def delete_many(
        self, keys: Iterable[K], timestamp: Timestamp | None = None, *, meta: Mapping[str, Plain] | None = None
    ) -> int:
        """Delete several keys in one commit; returns how many there were to delete."""
        deleted: int = self._do(self._store.delete_many, several(keys), timestamp, meta=meta)
        return deleted

    def update(
        self,
        key: K,
        fn: Callable[[V], V],
        *,
        default: Any = None,
        ttl: float | None = None,
        meta: Mapping[str, Plain] | None = None,
    ) -> V:
        """Put ``fn(present value, or default)`` and return it; nobody's change in between is lost.

        ``fn`` runs outside any turn, and again if somebody else changed the key meanwhile: let it have no side effects.
        """
        function(fn, "fn")
        while True:
            expected = self._view(None, None).identity(key)
            value = fn(self.get(key, default=default))
            try:
                self._do(self._store.put_if, key, self._capture(value), ttl, expected, meta=meta)
            except ConflictError:
                continue
            return value

    def touch(self, key: K, ttl: float | None, *, meta: Mapping[str, Plain] | None = None) -> bool:
        """Let the present value expire ``ttl`` seconds from now (None: never); False if the key is missing."""
        touched: bool = self._do(self._store.touch, key, ttl, meta=meta)
        return touched

    def erase(self, key: K, *, meta: Mapping[str, Plain] | None = None) -> int:
        """Remove all values of a key for good, from history, snapshots and feed; returns how many versions that were."""
        erased: int = self._do(self._store.erase, key, meta=meta)
        return erased

    def clear(self, *, meta: Mapping[str, Plain] | None = None) -> None:
        """Delete everything in one commit. The history stays; ``rollback`` brings it back."""
        self._do(self._store.clear, meta=meta)

    def unschedule(self, key: K, timestamp: Timestamp | None = None, *, meta: Mapping[str, Plain] | None = None) -> int:
        """Call off what is scheduled for a key, at one timestamp or all; returns how many timestamps that were."""
        cancelled: int = self._do(self._store.unschedule, key, timestamp, meta=meta)
        return cancelled

    @contextmanager
    def transaction(self, *, meta: Mapping[str, Plain] | None = None) -> Iterator[Transaction[K, V]]:
        """Reads of one snapshot and writes that are committed together when the block ends without an exception.

        Raises:
            ConflictError: At the end of the block, if what it read has changed meanwhile; nothing was written.
        """
        transaction: Transaction[K, V] = Transaction(self, Draft(self._pin()))
        try:
            yield transaction
        finally:
            commit = transaction._end()
        if commit is not None:
            operation, arguments = commit
            transaction.revision = self._do(operation, *arguments, meta=meta)

    def transact(
        self,
        fn: Callable[[Transaction[K, V]], Any],
        *,
        attempts: int = ATTEMPTS,
        meta: Mapping[str, Plain] | None = None,
    ) -> Any:
        """Run ``fn(transaction)`` and commit, again after a conflict, up to so many times; returns what it returned."""
        function(fn, "fn")
        for attempt in range(1, check_number(attempts, "attempts") + 1):
            try:
                with self.transaction(meta=meta) as transaction:
                    result = fn(transaction)
            except ConflictError:
                if attempt >= attempts:
                    raise
            else:
                return result
        raise ChronoMapTypeError("attempts must be at least 1")

    # -- back in time --------------------------------------------------------------------------------------------------

    def rollback(self, to: Snapshot[K, V] | int, *, meta: Mapping[str, Plain] | None = None) -> int:
        """Behave from now on as if nothing had been committed since a snapshot or revision; returns the new revision.

        History is not touched, and the rollback can be rolled back. O(keys changed since).
        """
        revision: int = self._do(self._store.rollback, *self._rollback_arguments(to), meta=meta)
        return revision

    def undo(self, revision: int, *, meta: Mapping[str, Plain] | None = None) -> int:
        """Commit the inverse of one commit; ``ConflictError`` if a later one touched its keys."""
        undone: int = self._do(self._store.undo, revision, meta=meta)
        return undone

    @contextmanager
    def snapshot_context(self) -> Iterator[ChronoMap[K, V]]:
        """If the block raises, undo what it wrote, and only that; the exception goes on.

        Raises:
            ConflictError: If somebody else changed a key the block wrote; then nothing is undone. The block's own
                exception is its ``__cause__``; but an interrupt (``KeyboardInterrupt``) goes on itself, with a note.
        """
        self._check_open()
        block = Block(self._owner)
        try:
            yield self
        except BaseException as error:
            block.end()
            try:
                if block.revisions:
                    self._do(self._store.undo_block, block.revisions)
            except Exception as failure:  # noqa: BLE001 - most likely a ConflictError
                block.not_undone(failure, error)
            raise
        else:
            block.end()

    def merge(
        self, other: Readable[K, V], strategy: str | Choose = "timestamp", *, meta: Mapping[str, Plain] | None = None
    ) -> int:
        """Take over another map's history or values, in one commit; returns its revision.

        Args:
            other: Another map or snapshot, of either face.
            strategy: "timestamp" (the union of both histories; merging again adds nothing), "overwrite" (the other's
                present values), or ``function(key, ours, theirs)`` that gives the value for keys that differ.
            meta: What to keep with the commit; see ``put``.
        """
        while True:
            operation, arguments = self._merge_plan(other, strategy, patient=True)
            try:
                revision: int = self._do(operation, *arguments, meta=meta)
            except ConflictError:
                continue  # a key changed while the function chose
            return revision

    # -- housekeeping --------------------------------------------------------------------------------------------------

    def prune_history(self, key: K, keep_last: int | None = None, older_than: Timestamp | None = None) -> int:
        """Forget a key's oldest versions: all but the last so many, and those dated before a time. Returns how many.

        The version in force is always kept. Reads that needed what is gone raise ``CompactedError``.
        """
        hashable(key)
        pruned: int = self._do(self._store.prune, [key], *self._prune_arguments(keep_last, older_than))
        return pruned

    def prune_all_history(self, keep_last: int | None = None, older_than: Timestamp | None = None) -> int:
        """The same for every key; without arguments by the map's ``Retention``."""
        arguments = self._retained(keep_last, older_than)
        keys = list(self._store.timelines)
        return sum(self._do(self._store.prune, keys[start : start + SLICE], *arguments) for start in range(0, len(keys), SLICE))

    def clean_expired_keys(self) -> int:
        """How many keys have expired since the last call, whoever found them."""
        expired: int = self._do(self._store.clean_expired_keys)
        return expired

    def on_change(self, callback: Callback) -> None:
        """Call ``callback(key, old, new, timestamp)`` after every change, before the call that made it returns.

        What it raises is logged. It may call the map.
        """
        self._add_callback(callback, allow_async=False)

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
        timeout: float | None = None,
    ) -> SyncChangeStream[K, V]:
        """Follow changes, in revision order: ``for change in cm.watch(): …``.

        Each matching change is yielded once, and ``stream.revision`` says up to where everything has been: store it, and
        ``since=`` goes on from there without a gap or a repeat.

        Args:
            key: Only this key (any key, if None).
            prefix: Only text keys that start with it.
            where: Only changes for which it is true.
            since: Begin after this revision; default: with what is committed from now on.
            initial: First yield what is present, as changes of kind "initial", then follow from there.
            present_only: Only changes of what a key holds when they are committed: not what is dated ahead (its "activate"
                comes in time), nor corrections of the past that a newer value stands in front of.
            latest_only: Only the newest such change of each key among those not yet yielded: for who is slow and only wants
                to know how things stand.
            on_lag: What to do after falling behind what the feed retains: "raise", or "resync": yield one change of kind
                "resync" (forget what you know), then what is present, as "initial" does, and follow from there.
            timeout: End the iteration after so many seconds without a change; default: wait for ever.

        Raises:
            FutureRevisionError: If there is no such revision yet.
            LaggedError: While iterating, if it fell behind; the error says where to resume.
            ChronoMapError: While iterating, if it would block an event loop that runs on this thread.
        """
        selection = select(key, prefix, where, present_only, latest_only, on_lag)
        return SyncChangeStream(self._owner, selection, since, initial, self._pin, timeout)

    def replay(
        self,
        since: int = 0,
        until: int | None = None,
        *,
        key: K | None = None,
        prefix: str | None = None,
        where: Callable[[Change[K, V]], object] | None = None,
    ) -> Iterator[Change[K, V]]:
        """The changes of the past again, from the history itself: to build something from them, or to test a watcher.

        Args:
            since: After this revision.
            until: Up to this revision (inclusive; default: the newest now).
            key: Only this key (any key, if None).
            prefix: Only text keys that start with it.
            where: Only changes for which it is true.

        Returns:
            The changes a stream would have yielded, in revision order. Within a commit that the feed does not retain any
            more they come in the order in which their keys first appeared in the map. What was erased is left out.

        Raises:
            CompactedError: If some of it has been pruned; the error says since when it is whole.
            FutureRevisionError: If there is no such revision yet.

        Cost: O(versions kept), and what lies in between is sorted in memory.
        """
        selection = select(key, prefix, where, False, False, "raise")  # noqa: FBT003
        return (change for changes in replayed(self._pin(None, until), since, selection) for change in changes)

    # -- files ---------------------------------------------------------------------------------------------------------

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any] | bytes, debug: bool = False, use_rwlock: bool | None = None, **options: Any
    ) -> ChronoMap[K, V]:
        """A map from what ``to_dict`` gave (also that of ChronoMap 2)."""
        del use_rwlock  # there is no lock to choose any more
        new: ChronoMap[K, V] = cls(debug, **options)
        formats.load(new._store, formats.unpack(data) if isinstance(data, bytes | bytearray) else data, new._owner.now())
        new._owner.set_alarm()
        return new

    def save_json(self, file_path: str | Path) -> None:
        """Write the whole map with its history; the file is replaced as a whole or not at all.

        Raises:
            ChronoMapTypeError: If a key or value would not come back as it is; nothing was written.
        """
        formats.save_json(self._pin(), Path(file_path))

    @classmethod
    def load_json(
        cls, file_path: str | Path, debug: bool = False, use_rwlock: bool | None = None, **options: Any
    ) -> ChronoMap[K, V]:
        """A map from a file that ``save_json`` wrote (also that of ChronoMap 2)."""
        return cls.from_dict(formats.load_json(Path(file_path)), debug, use_rwlock, **options)

    def save_pickle(self, file_path: str | Path, compress: bool = False) -> None:
        """The same in pickle format: smaller and faster, plain data only."""
        formats.save_pickle(self._pin(), Path(file_path), compress=compress)

    def save_journal(
        self, file_path: str | Path, *, codec: Codec | None = None, progress: formats.Progress | None = None
    ) -> None:
        """Write the map with its history into a new file for ``open``: revisions, instants, meta, what was pruned.

        Args:
            file_path: Where to; must not be there yet.
            codec: See ``open``.
            progress: ``progress(done, total)`` in revisions, called now and then.

        Raises:
            JournalOpenError: If the file is there already, or cannot be made.
            ChronoMapTypeError, ChronoMapValueError: If a key or value would not come back as it is; no file is made.
        """
        save_journal(self._pin(), Path(file_path), codec, progress)

    @classmethod
    def load_pickle(
        cls, file_path: str | Path, debug: bool = False, use_rwlock: bool | None = None, **options: Any
    ) -> ChronoMap[K, V]:
        """A map from a file that ``save_pickle`` wrote. Loading runs no code, whoever wrote the file."""
        return cls.from_dict(formats.load_pickle(Path(file_path)), debug, use_rwlock, **options)

    def export_changes(self, file_path: str | Path, *, progress: formats.Progress | None = None) -> int:
        """Write the history as change lines (JSON Lines; gzip if the name ends in .gz); returns how many."""
        return formats.export_changes(self._pin(), Path(file_path), progress)

    def import_changes(self, file_path: str | Path, *, progress: formats.Progress | None = None) -> int:
        """Commit the changes of such a file, one commit per revision; returns how many changes.

        The file is read and checked as a whole first: if anything in it is wrong, nothing is committed.
        """
        lines = 0
        for operation, waiting, number in self._import_commands(formats.read_changes(Path(file_path), progress)):
            self._do(operation, waiting)
            lines += number
        return lines

    def to_dataframe(self) -> pd.DataFrame:
        """The history as a pandas DataFrame: key, value, timestamp, datetime, version (0, 1, … per key)."""
        return formats.dataframe(self._pin())
