"""From a journal to the owner of a map: everything that stands in it, read into a store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from chronomap.core.feed import RETAINED_CHANGES
from chronomap.core.records import NEVER
from chronomap.core.replay import Completion
from chronomap.core.retention import Retention
from chronomap.core.store import Store
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError, JournalInUseError
from chronomap.runtime.journaling import JournalOwner, let_go

if TYPE_CHECKING:
    from chronomap.journal import Codec, Journal

Progress = Callable[[int, int], None]
"""Called now and then with how many records have been read, and of how many."""

SCHEME: Final = "://"


def _check(resident: object, codec: object) -> None:
    if resident is not None and not isinstance(resident, Retention):
        raise ChronoMapTypeError(f"resident is a Retention(max_versions=..., max_age=...), got {type(resident).__name__}")
    if codec is not None and not all(hasattr(codec, name) for name in ("name", "encode", "decode")):
        raise ChronoMapTypeError(f"a codec has a name, encode() and decode(), as ExactCodec() has; got {codec!r}")


@dataclass(frozen=True, slots=True)
class Opening:
    """How a map is to be opened; see ``ChronoMap.open``."""

    where: str | os.PathLike[str] | Journal
    durability: str = "full"
    codec: Codec | None = None
    create: bool = True
    resident: Retention | None = None
    progress: Progress | None = None
    retention: Retention | None = None
    isolation: Literal["copy", "share"] = "copy"
    clock: Callable[[], float] | None = None
    feed_retention: int = RETAINED_CHANGES
    read_only: bool = False

    def __post_init__(self) -> None:
        _check(self.resident, self.codec)

    def open(self) -> JournalOwner:
        """Own the file, unless it is only looked at, and read it. Blocks.

        Raises:
            MissingExtraError: If what reads it is not installed.
            JournalError: See ``ChronoMap.open``.
        """
        store = Store(None if self.read_only else self.retention, self.feed_retention)
        journal = self._journal()
        try:
            self._fill(store, journal)
            return JournalOwner(store, self.clock, journal, share=self.isolation == "share")
        except BaseException:
            journal.close()
            raise

    def _journal(self) -> Journal:
        where = self.where
        if not isinstance(where, str | os.PathLike):
            if not hasattr(where, "append"):
                raise ChronoMapTypeError(f"a map is opened on the path of a file, got {type(where).__name__}")
            if self.read_only:
                raise ChronoMapTypeError(f"read_only is for the path of a file, got {type(where).__name__}")
            return where
        if SCHEME in os.fspath(where):
            raise ChronoMapValueError(f"{where}: there is no such engine yet; open the path of a file")
        from chronomap.journal import ReadingJournal, SqliteJournal  # noqa: PLC0415 - needs an extra

        if self.read_only:
            return ReadingJournal.look(where, self.codec)
        take = partial(SqliteJournal.open, where, durability=self.durability, codec=self.codec, create=self.create)
        try:
            return take()
        except JournalInUseError as error:
            if error.pid != os.getpid() or not let_go():
                raise
        return take()

    def _fill(self, store: Store, journal: Journal) -> None:
        now = (self.clock or time.time)()
        share = self.isolation == "share"
        contents = journal.load(self.resident, now=now, share=share, progress=self.progress)
        store.gather(journal.check, journal.sure)
        store.resident = self.resident
        store.look_up = lambda revision: next(journal.replay(revision - 1), None) if revision > journal.complete_since else None
        store.instant = contents.instants[-1] if contents.instants else -NEVER
        newest = len(contents.instants)
        for key, timeline in contents.timelines.items():
            store.take(key, timeline, newest)
        store.erased.update(contents.erased)
        store.remember_requests(contents.requests)
        store.restored(contents.instants, contents.notes, contents.pruned_to)
        completion = Completion(store, None if self.resident is None else journal)
        recent = journal.replay(journal.recent(max(store.feed.retained, 1)))
        store.feed_on(completion.complete(commit) for commit in recent)
        if self.read_only and not contents.partial:
            journal.rest()  # type: ignore[attr-defined]  # a ReadingJournal, which nobody asks for anything any more
