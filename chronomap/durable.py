"""What maps on disk have beside the others: opening, and the care of the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

import anyio

from chronomap.core.feed import RETAINED_CHANGES
from chronomap.core.retention import Retention
from chronomap.core.view import View
from chronomap.errors import ChronoMapError
from chronomap.face import Face, K, V, check_options
from chronomap.runtime import chores
from chronomap.runtime.journaling import JournalOwner
from chronomap.runtime.opening import Opening, Progress
from chronomap.runtime.threads import in_thread

if TYPE_CHECKING:
    from chronomap.journal import Codec, Journal

M = TypeVar("M", bound="AsyncDurable[Any, Any]")


class _Durable(Face[K, V]):
    """What both faces say about their file."""

    @property
    def durable(self) -> bool:
        """Whether the map is kept in a file."""
        return isinstance(self._owner, JournalOwner)

    @property
    def read_only(self) -> str | None:
        """Why nothing can be written: something failed, or it was opened with ``read_only``. None while all is well."""
        failure = self._owner.failure
        return None if failure is None else str(failure)

    def _chore(self, work: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        self._check_open()
        if not isinstance(self._owner, JournalOwner):
            raise ChronoMapError("this map is in memory only; open one on a file with open(path)")
        return work, (self._owner, *arguments)

    def _compact_arguments(self, revision: int | None) -> tuple[int]:
        store = self._store
        if revision is None:
            return (max(0, store.revision - store.feed.retained),)
        store.check_revision(revision)
        return (revision,)


def save_journal(view: View, path: Path, codec: Codec | None, progress: Progress | None) -> None:
    """Write all that a pinned view knows into a new file; see ``ChronoMap.save_journal``.

    Raises:
        MissingExtraError: If what durable maps need is not installed.
    """
    from chronomap.journal.making import make  # noqa: PLC0415 - needs an extra

    make(path, view, codec=codec, progress=progress)


class SyncDurable(_Durable[K, V]):
    """Opening and caring for a file, for plain code."""

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | Journal,
        *,
        durability: Literal["full", "normal", "off"] = "full",
        codec: Codec | None = None,
        create: bool = True,
        resident: Retention | None = None,
        progress: Progress | None = None,
        read_only: bool = False,
        debug: bool = False,
        retention: Retention | None = None,
        isolation: Literal["copy", "share"] = "copy",
        clock: Callable[[], float] | None = None,
        feed_retention: int = RETAINED_CHANGES,
    ) -> Self:
        """A map that is kept in a file: ``with ChronoMap.open("config.chrono") as cm: ...``.

        A write returns when it is on the disk, and nobody sees it before. Writes that come at the same time share a sync.

        Args:
            path: The file, made if it is not there. It is owned by this process until the map is closed.
            durability: "full": what was acknowledged survives a power failure; "normal": a killed process, while a power
                failure may take the newest commits, never one in between; "off": for data that can be made again.
            codec: What turns values to bytes and back; default: one that brings back exactly what was put (JSON types,
                bytes, tuples, sets, datetimes, Decimal, UUID, registered dataclasses) and refuses everything else.
            create: Whether to make the file if it is not there.
            resident: How much of each key's history to keep in memory; older versions are read from the file when asked
                for. Default: everything.
            progress: ``progress(done, total)`` is called now and then while the file is read.
            read_only: The file as it is at this moment, whoever owns it, who can go on writing: nobody's file is taken, made or
                changed, and what falls due is seen but not committed. Writes raise ``JournalError``. What is committed later is
                not seen (``chronomap.follow`` tells it, and ``backup`` copies it). ``retention`` is left out. As long as
                some of the map is read from the file when asked for (``resident=``), the owner's changes gather in SQLite's
                log beside it: close the map soon, or load everything.
            debug: See ``ChronoMap``.
            retention: See ``ChronoMap``; what it removes is removed from the file too.
            isolation: See ``ChronoMap``.
            clock: See ``ChronoMap``.
            feed_retention: See ``ChronoMap``.

        Raises:
            JournalInUseError: If it is open elsewhere: at once, with the process id of who has it. Not with ``read_only``.
            JournalOpenError: If there is no such file, or it is not one of ChronoMap's, or of a newer version's.
            CorruptJournalError: If it is damaged; the error says what is wrong and up to which revision all is well.
            MissingExtraError: If what durable maps need is not installed.
        """
        check_options(isolation, retention, feed_retention)
        opening = Opening(
            path, durability, codec, create, resident, progress, retention, isolation, clock, feed_retention, read_only
        )  # fmt: skip
        owner = opening.open()
        try:
            new = cls.__new__(cls)
            new._adopt(owner, isolation, debug=debug)
            new._begin()
        except BaseException:
            owner.close()
            owner.ended()
            raise
        return new

    def _begin(self) -> None:
        raise NotImplementedError

    def compact(self, revision: int | None = None) -> None:
        """Take out of the file what no version needs: what was pruned but kept for change streams to resume from.

        Done in slices, while others read and write. ``vacuum`` gives the space back to the file system.

        Args:
            revision: Streams and ``replay`` of a reopened map can begin there or later. Default: as far back as the map's
                own feed reaches.
        """
        self._care(chores.compact, *self._compact_arguments(revision))

    def vacuum(self) -> None:
        """Write the file anew without unused space. O(file); writers wait meanwhile, readers do not."""
        self._care(chores.vacuum)

    def backup(self, path: str | os.PathLike[str], *, progress: Progress | None = None) -> int:
        """Copy the file while the map is in use. The copy is whole and stands at one revision, which is returned.

        Args:
            path: Where to; must not be there yet. ``open`` opens it.
            progress: ``progress(done, total)`` in pages of 4 KiB, called in the map's own thread.
        """
        revision: int = self._care(chores.backup, path, progress)
        return revision

    def _care(self, work: Callable[..., Any], *arguments: Any) -> Any:
        operation, given = self._chore(work, *arguments)
        return self._owner.call(operation, *given)


class AsyncDurable(_Durable[K, V]):
    """Opening and caring for a file, for asyncio and trio."""

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | Journal,
        *,
        durability: Literal["full", "normal", "off"] = "full",
        codec: Codec | None = None,
        create: bool = True,
        resident: Retention | None = None,
        progress: Progress | None = None,
        read_only: bool = False,
        debug: bool = False,
        retention: Retention | None = None,
        isolation: Literal["copy", "share"] = "copy",
        clock: Callable[[], float] | None = None,
        feed_retention: int = RETAINED_CHANGES,
    ) -> Opened[Self]:
        """A map that is kept in a file: ``async with AsyncChronoMap.open("config.chrono") as cm: ...``.

        Or ``cm = await AsyncChronoMap.open(...)``, and ``await cm.aclose()`` in the end. The event loop never waits for the
        disk. See ``ChronoMap.open`` for the arguments; ``progress`` is called in a worker thread.

        Cancellation: of the opening: the file is closed again.
        """
        check_options(isolation, retention, feed_retention)
        opening = Opening(
            path, durability, codec, create, resident, progress, retention, isolation, clock, feed_retention, read_only
        )  # fmt: skip
        return Opened(cls, opening, debug=debug)

    async def _begin(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Refuse everything from now on with ``ClosedError``, and let go of the file."""
        raise NotImplementedError

    async def compact(self, revision: int | None = None) -> None:
        """Take out of the file what no version needs. See ``ChronoMap.compact``."""
        await self._care(chores.compact, *self._compact_arguments(revision))

    async def vacuum(self) -> None:
        """Write the file anew without unused space. O(file); writers wait meanwhile, readers do not."""
        await self._care(chores.vacuum)

    async def backup(self, path: str | os.PathLike[str], *, progress: Progress | None = None) -> int:
        """Copy the file while the map is in use; returns the copy's revision. See ``ChronoMap.backup``.

        Cancellation: no copy is left.
        """
        revision: int = await self._care(chores.backup, path, progress)
        return revision

    async def _care(self, work: Callable[..., Any], *arguments: Any) -> Any:
        operation, given = self._chore(work, *arguments)
        return (await self._owner.wait(operation, *given)).outcome()


class Opened(Generic[M]):
    """An ``AsyncChronoMap`` that is being opened: await it, or use it with ``async with``."""

    def __init__(self, cls: type[M], opening: Opening, *, debug: bool) -> None:
        self._cls = cls
        self._opening = opening
        self._debug = debug
        self._map: M | None = None

    def __await__(self) -> Generator[Any, Any, M]:
        return self._open().__await__()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Tell who takes it for the map."""
            raise AttributeError(
                f"this map is not open yet, so it has no {name!r}: write `async with AsyncChronoMap.open(...) as cm:` or "
                "`cm = await AsyncChronoMap.open(...)`"
            )

    async def _open(self) -> M:
        owners: list[JournalOwner] = []
        try:
            await in_thread(lambda: owners.append(self._opening.open()))
            new = self._cls.__new__(self._cls)
            new._adopt(owners[0], self._opening.isolation, debug=self._debug)
            await new._begin()
        except BaseException as error:
            for owner in owners:
                owner.close()
                if not isinstance(error, GeneratorExit):
                    with anyio.CancelScope(shield=True):
                        await in_thread(owner.ended)
            raise
        return new

    async def __aenter__(self) -> M:
        self._map = await self._open()
        return self._map

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._map is not None:
            await self._map.aclose()
