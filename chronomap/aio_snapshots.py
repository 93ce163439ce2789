"""What the async face reads, of a live map and of a snapshot alike; snapshots, transactions and snapshot contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import anyio
import anyio.lowlevel

from chronomap import formats
from chronomap.core.draft import Draft
from chronomap.core.meta import Plain
from chronomap.core.records import Version
from chronomap.core.timestamps import Timestamp, seconds
from chronomap.core.values import MISSING, release
from chronomap.core.view import View, all_keys, differences
from chronomap.durable import save_journal
from chronomap.errors import ChronoMapError, ChronoMapKeyError, ChronoMapTypeError, NotResidentError
from chronomap.face import Difference, Frozen, K, Readable, V, check_number, function, newest, prefix_text, several
from chronomap.runtime.blocks import Block
from chronomap.runtime.threads import in_thread
from chronomap.snapshots import Transaction

if TYPE_CHECKING:
    from chronomap.aio import AsyncChronoMap
    from chronomap.journal import Codec

T = TypeVar("T")

SLICE: Final = 256
"""Keys a scan looks at between two yields to the event loop."""


class Breathing(Readable[K, V]):
    """What is awaited though it needs no waiting: it yields to the event loop now and then."""

    async def _breathe_now_and_then(self) -> None:
        owner = self._owner
        owner.budget -= 1
        if owner.budget < 0:
            await owner.breathe()


class AsyncReads(Breathing[K, V]):
    """The reads of several keys, the same for a live map and a snapshot; scans yield to the event loop."""

    async def _view_for(self, timestamp: Timestamp | None = None) -> View:
        raise NotImplementedError

    async def _scan(self, view: View, step: Callable[[View, list[Any]], Iterable[T]], keys: list[Any] | None = None) -> list[T]:
        """Everything ``step`` finds among the keys, a slice at a time."""
        keys = list(view.store.timelines) if keys is None else keys
        found: list[T] = []
        for start in range(0, len(keys), SLICE):
            among = keys[start : start + SLICE]
            found += await self._read(view, lambda view, among=among: list(step(view, among)))  # type: ignore[misc]
            await anyio.lowlevel.checkpoint()
        return found

    async def _read(self, view: View, read: Callable[[View], T]) -> T:
        """What a read finds; in a worker thread if it has to wait for the disk."""
        await self._breathe_now_and_then()
        try:
            return read(view)
        except NotResidentError:
            return await self._read_in_thread(view, read)

    async def _read_in_thread(self, view: View, read: Callable[[View], T]) -> T:
        fetch = self._owner.fetch
        patient = view if fetch is None else view.fetching(fetch)
        return await in_thread(lambda: read(patient))

    async def keys(self, prefix: str | None = None) -> list[K]:
        """The present keys, in the order they first appeared; with a prefix, the text keys that start with it."""
        prefix_text(prefix)
        view = await self._view_for()
        return await self._scan(view, lambda view, among: (key for key, _ in view.scan(prefix, among)))

    async def values(self, prefix: str | None = None) -> list[V]:
        """The present values, in the order of their keys."""
        return [value for _, value in await self.items(prefix)]

    async def items(self, prefix: str | None = None) -> list[tuple[K, V]]:
        """The present keys with their values."""
        prefix_text(prefix)
        view = await self._view_for()
        return await self._scan(view, lambda view, among: view.pairs(prefix, among))

    async def latest(self, timestamp: Timestamp | None = None) -> dict[K, V]:
        """Everything present, as a dict. O(keys)."""
        view = await self._view_for(timestamp)
        return dict(await self._scan(view, lambda view, among: view.pairs(None, among)))

    async def query(self, predicate: Callable[[K, V], object], timestamp: Timestamp | None = None) -> dict[K, V]:
        """The present items for which ``predicate(key, value)`` is true. What the predicate raises is raised here."""
        function(predicate, "a predicate")
        view = await self._view_for(timestamp)
        return dict(await self._scan(view, lambda view, among: view.select(predicate, among)))

    async def count(self, predicate: Callable[[K, V], object] | None = None, timestamp: Timestamp | None = None) -> int:
        """How many items are present, or fulfil a predicate of key and value."""
        if predicate is None and timestamp is None:
            await self._breathe_now_and_then()
            return len(self)
        view = await self._view_for(timestamp)
        if predicate is None:
            return len(await self._scan(view, lambda view, among: view.scan(None, among)))
        chosen = function(predicate, "a predicate")
        return len(await self._scan(view, lambda view, among: view.select(chosen, among)))

    async def aggregate(
        self, func: Callable[[list[V]], Any], keys: Iterable[K] | None = None, timestamp: Timestamp | None = None
    ) -> Any:
        """``func`` of the list of present values (of some keys; those that are missing are left out)."""
        function(func, "func")
        among = None if keys is None else several(keys)
        view = await self._view_for(timestamp)
        pairs = await self._scan(view, lambda view, among: view.pairs(None, among), among)
        return func([value for _, value in pairs])

    async def get_keys_by_value(self, value: V, timestamp: Timestamp | None = None) -> list[K]:
        """The keys that hold a value equal to a given one."""
        view = await self._view_for(timestamp)
        return await self._scan(view, lambda view, among: view.holders(value, among))

    async def history(self, key: K) -> list[tuple[float, V]]:
        """``[(timestamp, value), …]`` of everything the key has held until now, oldest first; no tombstones."""
        return await self._read(await self._view_for(), lambda view: view.history(key))

    async def iter_history(self, key: K) -> list[tuple[float, V]]:
        """The same."""
        return await self.history(key)

    async def get_range(
        self, key: K, start_ts: Timestamp | None = None, end_ts: Timestamp | None = None
    ) -> list[tuple[float, V]]:
        """The part of ``history`` with ``start_ts <= timestamp <= end_ts`` (both inclusive; default: all, until now)."""
        start = -float("inf") if start_ts is None else seconds(start_ts)
        end = None if end_ts is None else seconds(end_ts)
        return await self._read(await self._view_for(), lambda view: view.history(key, start, end))

    async def versions(self, key: K, *, scheduled: bool = False) -> list[Version[K, V]]:
        """Everything ever written of a key until now (or ahead too), with tombstones and cancellations."""
        return await self._read(await self._view_for(), lambda view: view.versions(key, scheduled=scheduled))

    async def diff(self, other: Readable[K, V]) -> set[K]:
        """The keys on which two maps (or snapshots) differ now; holding None and holding nothing are different."""
        return {key for key, _, _ in await self._differences(other)}

    async def diff_detailed(self, other: Readable[K, V]) -> list[Difference]:
        """``[(key, other's value, own value), …]`` of the same, None for nothing; ``kind`` of each tells the difference."""
        return [Difference(*found) for found in await self._differences(other)]

    async def _differences(self, other: Readable[K, V]) -> list[tuple[Any, Any, Any]]:
        if not isinstance(other, Readable):
            raise ChronoMapTypeError(f"Expected a ChronoMap or a snapshot for diff, got {type(other).__name__}")
        ours, theirs = await self._view_for(), other._pin()
        return await self._scan(ours, lambda ours, among: differences(ours, theirs, among), all_keys(ours, theirs))

    async def to_dict(self, compress: bool = False) -> dict[str, Any] | bytes:
        """The whole map with its history as plain data; with ``compress`` as bytes that ``from_dict`` takes too."""
        view = await self._view_for()
        return await self._read_in_thread(view, lambda view: _dump(view, compress))

    async def save_json(self, file_path: str | Path) -> None:
        """Write the whole map with its history, in a worker thread; the file is replaced as a whole or not at all.

        Cancellation: the file is the old one or the new one, never a mixture.
        """
        view = await self._view_for()
        await self._read_in_thread(view, lambda view: formats.save_json(view, Path(file_path)))

    async def save_pickle(self, file_path: str | Path, compress: bool = False) -> None:
        """The same in pickle format."""
        view = await self._view_for()
        await self._read_in_thread(view, lambda view: formats.save_pickle(view, Path(file_path), compress=compress))

    async def save_journal(
        self, file_path: str | Path, *, codec: Codec | None = None, progress: formats.Progress | None = None
    ) -> None:
        """Write the map with its history into a new file for ``open``, in a worker thread. See ``ChronoMap.save_journal``.

        Cancellation: the file is there as a whole or not at all.
        """
        view = await self._view_for()
        await self._read_in_thread(view, lambda view: save_journal(view, Path(file_path), codec, progress))

    async def export_changes(self, file_path: str | Path, *, progress: formats.Progress | None = None) -> int:
        """Write the history as change lines, in a worker thread; returns how many."""
        view = await self._view_for()
        return await self._read_in_thread(view, lambda view: formats.export_changes(view, Path(file_path), progress))

    async def to_dataframe(self) -> Any:
        """The history as a pandas DataFrame: key, value, timestamp, datetime, version (0, 1, … per key)."""
        view = await self._view_for()
        return await self._read_in_thread(view, formats.dataframe)


def _dump(view: View, compress: bool) -> dict[str, Any] | bytes:
    plain = formats.dump(view)
    return formats.pack(plain, compress=True) if compress else plain


class AsyncSnapshot(Frozen[K, V], AsyncReads[K, V]):
    """The map as it was at one revision and one instant; it never changes, and costs nothing to keep.

    ``snap[key]``, ``in``, ``len`` and iteration work without ``await``: there is nothing to wait for.

    Attributes:
        revision: The newest revision it knows.
    """

    async def _view_for(self, timestamp: Timestamp | None = None) -> View:
        return self._pin(timestamp)

    async def get(self, key: K, timestamp: Timestamp | None = None, default: Any = None, *, strict: bool = False) -> V | Any:
        """The value of a key in the snapshot, or the default; with ``strict`` a missing key raises."""
        value = await self._read(self._pin(timestamp), lambda view: view.held(key))
        if value is MISSING and strict:
            raise ChronoMapKeyError(key)
        return default if value is MISSING else release(value)

    async def version(self, key: K, timestamp: Timestamp | None = None) -> Version[K, V] | None:
        """The version of a key in the snapshot, or None."""
        return await self._read(self._pin(timestamp), lambda view: view.version(key))

    async def get_latest_keys(self, n: int) -> list[tuple[K, float, V]]:
        """The n keys with the newest timestamps, newest first: ``(key, timestamp, value)``. O(keys)."""
        check_number(n, "n")
        return newest(await self._scan(self._view, lambda view, among: view.stamped(among)), n)

    async def fork(self) -> AsyncChronoMap[K, V]:
        """An independent map with the same history up to here, which can be written to. O(versions)."""
        plain = await self._read_in_thread(self._view, formats.dump)
        forked: AsyncChronoMap[K, V] = self._make(plain, clock=self._owner.clock)
        return forked


class AsyncTransaction(Breathing[K, V]):
    """Reads of one snapshot plus the block's own writes; made by ``AsyncChronoMap.transaction()``.

    After the block every call raises ``ChronoMapError``.

    Attributes:
        revision: After the block: the revision of its commit (the one it read, if it wrote nothing).
    """

    def __init__(self, face: AsyncChronoMap[K, V], meta: Mapping[str, Plain] | None) -> None:
        self._face = face
        self._owner = face._owner
        self._meta = meta
        self._inner: Transaction[K, V] | None = None
        self.revision = face.revision

    async def __aenter__(self) -> Self:
        if self._inner is not None:
            raise ChronoMapError("a transaction is one block; begin another with cm.transaction()")
        self._inner = Transaction(self._face, Draft(await self._face._view_for()))
        self.revision = self._inner.revision
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        commit = self._transaction._end()
        if kind is None and commit is not None:
            operation, arguments = commit
            self.revision = await self._face._do(operation, *arguments, meta=self._meta)

    @property
    def _transaction(self) -> Transaction[K, V]:
        if self._inner is None:
            raise ChronoMapError("a transaction begins with its block: async with cm.transaction() as tx: ...")
        return self._inner

    def _held(self, key: Any) -> Any:
        return self._transaction._held(key)

    async def get(self, key: K, default: Any = None, *, strict: bool = False) -> V | Any:
        """The value as the transaction sees it, or the default."""
        await self._breathe_now_and_then()
        return self._transaction.get(key, default, strict=strict)

    async def put(self, key: K, value: V, timestamp: Timestamp | None = None, ttl: float | None = None) -> None:
        """Write when the block ends."""
        await self._breathe_now_and_then()
        self._transaction.put(key, value, timestamp, ttl)

    async def delete(self, key: K, timestamp: Timestamp | None = None) -> bool:
        """Delete when the block ends; whether the key is present as the transaction sees it."""
        await self._breathe_now_and_then()
        return self._transaction.delete(key, timestamp)

    async def keys(self, prefix: str | None = None) -> list[K]:
        """The keys as the transaction sees them; somebody else's change among them is a conflict."""
        await self._breathe_now_and_then()
        return self._transaction.keys(prefix)


class AsyncSnapshotContext:
    """If its block raises, undoes what the block wrote, and only that; made by ``AsyncChronoMap.snapshot_context()``."""

    def __init__(self, face: AsyncChronoMap[Any, Any]) -> None:
        self._face = face
        self._block: Block | None = None

    async def __aenter__(self) -> AsyncChronoMap[Any, Any]:
        self._face._check_open()
        if self._block is not None:
            raise ChronoMapError("a snapshot_context() is one block; call it again for another")
        await self._face._breathe_now_and_then()
        self._block = Block(self._face._owner)
        return self._face

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block = self._block
        if block is None:
            raise ChronoMapError("the block was left without having been entered")
        block.end()
        if error is None or not block.revisions:
            return
        try:
            with anyio.CancelScope(shield=True):  # one turn, also when the block was cancelled; but not the callbacks
                command = await self._face._owner.wait(self._face._store.undo_block, block.revisions, firm=True)
            if command.commits:
                await self._face._tell(command.commits)
            command.outcome()
        except Exception as failure:  # noqa: BLE001 - most likely a ConflictError
            block.not_undone(failure, error)
        finally:
            self._face._owner.set_alarm()
