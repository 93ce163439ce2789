"""What every journal does.

A journal is a log of whole commits, in the order of their revisions and without gaps, that outlives the process. Its owner
appends **groups**: all commits of a group are on the disk when ``append`` returns. Besides the log it can tell each key's
versions, which is what a store is filled with, and forget some of them (pruned and erased ones).

Everything blocks, and a journal is called by one thread at a time; what else a program does meanwhile is the runtime's
business. ``Journal`` is a protocol and not a base class, since its implementations share rules, which the contract tests
check, and no code. Following what is appended needs no call of its own: ``revision`` says how far the log goes, and
``replay(after)`` gives what came since.

After a failed write a journal is **failed**: it refuses to write until it is opened again, because what is on the disk is
not known. The failed group, or a part of it that is a prefix, may be there then or may not; reopening decides.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from chronomap.core.change import PlainCommit
from chronomap.core.ledger import Note
from chronomap.core.records import Commit, Entry, Record
from chronomap.core.retention import Cut, Retention
from chronomap.core.timeline import Series
from chronomap.errors import JournalError

Position = tuple[float, int]
"""A version's place in its key's timeline: (timestamp, revision)."""

Progress = Callable[[int, int], None]
"""Called now and then with how much is done, and of how much."""


class Pruned(NamedTuple):
    """What is known of a key's forgotten versions.

    Attributes:
        start: The position of the oldest version that is kept.
        floor: The smallest timestamp and the smallest revision ever forgotten, as ``Timeline.floor`` has them.
        changed: The newest revision that wrote one of them.
    """

    start: Position
    floor: Position
    changed: int

    def joined(self, other: Pruned | None) -> Pruned:
        """Both together."""
        if other is None:
            return self
        (timestamp, revision), (timestamp2, revision2) = self.floor, other.floor
        floor = min(timestamp, timestamp2), min(revision, revision2)
        return Pruned(max(self.start, other.start), floor, max(self.changed, other.changed))


@dataclass(slots=True)
class Contents:
    """What a store is filled with.

    Attributes:
        timelines: Of every key, not yet settled, with values as the store keeps them.
        instants: Of every commit, by revision - 1.
        erased: The revision that last erased a key.
        requests: The commit that a request id made: ``request_id: (key, revision)``, oldest first. The key is MISSING if
            the version has been pruned or erased since.
        partial: The keys with older versions than those loaded; ``Journal.versions`` reads them. To whoever asks for what
            is older, their timelines say that it has been pruned; ``Journal.floor`` says what really has.
        notes: Of the commits with something to tell beside their versions, in order: ``(revision, note, versions)``, the
            last being how many versions there still are of it, loaded or not. One of which nothing is left is not there.
        pruned_to: The newest revision that pruning took a version of, or compacting an activation.
    """

    timelines: dict[Any, Series] = field(default_factory=dict)
    instants: array[float] = field(default_factory=lambda: array("d"))
    erased: dict[Any, int] = field(default_factory=dict)
    requests: dict[Any, tuple[Any, int]] = field(default_factory=dict)
    partial: set[Any] = field(default_factory=set)
    notes: list[tuple[int, Note, int]] = field(default_factory=list)
    pruned_to: int = 0


class Journal(Protocol):
    """A durable log of commits."""

    @property
    def revision(self) -> int:
        """The newest revision that has been appended."""

    @property
    def complete_since(self) -> int:
        """``replay`` can begin after this revision or any later one; of earlier commits something has been pruned."""

    @property
    def failure(self) -> JournalError | None:
        """Why nothing more can be written until it is reopened; None while all is well."""

    def check(self, records: Iterable[Record]) -> None:
        """Refuse keys and values that would not come back as they are, before anything changes. Any thread.

        ``append`` need not encode again what has been checked since the one before, if it gets the same tuple of records.

        Raises:
            ChronoMapTypeError: If a type cannot be kept exactly, or something is nested too deeply.
            ChronoMapValueError: If a key has a NaN in it, or a value is too large (more than 64 MiB when it is written).
        """

    def sure(self, key: Any, value: Any) -> bool:
        """Whether a put of them could be kept, as far as that can be told at once; if not, ``check`` is asked. Any thread."""

    def append(self, group: Sequence[PlainCommit]) -> None:
        """Put the next commits on the disk, all or none; when it returns they are as safe as ``durability`` promises.

        A record of kind "erase" removes everything that was written of its key before.

        Raises:
            ChronoMapTypeError, ChronoMapValueError: As ``check``; nothing has been written, and the journal is well.
            JournalError: If it could not be written. The journal is failed.
        """

    def load(
        self,
        resident: Retention | None = None,
        *,
        now: float = 0.0,
        share: bool = False,
        progress: Progress | None = None,
    ) -> Contents:
        """What a store is filled with.

        Args:
            resident: Load only what pruning with these limits would leave of each key: the version in force and
                everything after it, and as much before it as the limits allow. None: everything.
            now: When "in force" is asked for; only with ``resident``.
            share: Whether the map hands out values without copying (``isolation="share"``).
            progress: Called now and then.

        Raises:
            CorruptJournalError: If anything read is not as it was written.
        """

    def replay(self, after: int = 0) -> Iterator[Commit]:
        """The commits after a revision, in order, each with all its records.

        What can be told from the timelines is not in the log. ``previous`` is MISSING in all of them: it is what the key
        held at the record's timestamp as known at the revision before (``find(timestamp, revision - 1)``). ``value`` is
        MISSING in an activation: it is what stands at its timestamp (``at_exactly(timestamp, revision)``). ``in_force`` is
        empty: it is where a record is what its key holds at the instant (``find(instant, revision)``). What belonged to a
        key that was erased since is left out.

        Finish or drop the iterator before pruning, compacting or erasing; groups may be appended meanwhile.

        Raises:
            LaggedError: If ``after`` is less than ``complete_since``.
        """

    def recent(self, changes: int) -> int:
        """The revision after which ``replay`` gives the newest so many changes (one at least), in whole commits.

        It may give fewer, if the log is not complete so far back or has lost records, and never more commits than that.
        """

    def versions(self, key: Any, before: Position | None = None) -> Iterator[Entry]:
        """The versions of a key, newest timestamp first, read as they are asked for; values are fresh copies.

        Args:
            key: The key.
            before: Only those below this position (exclusive).
        """

    def floor(self, key: Any) -> Position | None:
        """The smallest timestamp and revision ever pruned of a key, as ``Timeline.floor`` has them."""

    def prune(self, cuts: Sequence[Cut], *, keep_after: int | None = None) -> int:
        """Forget versions, in one step that is never left half done; the caller makes the slices.

        Args:
            cuts: What to forget.
            keep_after: Versions of commits after this revision are no longer loaded, but stay in the log, so that
                watchers can resume there; ``compact`` removes them later. None: nothing stays.

        Returns:
            How many records were removed.
        """

    def compact(self, revision: int, limit: int = 10_000) -> bool:
        """Forget the log up to a revision: what no version needs (what was pruned but kept for watchers, activations).

        Args:
            revision: ``replay`` can begin there or later from now on.
            limit: How many records this slice looks at.

        Returns:
            Whether there is more to do: call it again.
        """

    def close(self) -> None:
        """Let go of everything. May be repeated."""
