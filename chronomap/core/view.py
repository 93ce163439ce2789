"""The map as it was: every read at one fixed (timestamp, revision).

A view is what snapshots, ``at(...)`` and all scans over the live map are made of. It costs O(1) to make and holds no copy
of anything: it reads the live timelines and ignores what its revision does not know. Pruning would cut the ground from
under it, so before the store prunes a key it hands every pinned view the timeline as it stands (``kept``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

from chronomap.core.records import CANCELLED, NEVER, Entry, Version
from chronomap.core.timeline import UNSETTLED, Pruned, Timeline
from chronomap.core.values import IMMUTABLE, MISSING, bare, hashable, plain_equal, release, same
from chronomap.errors import CompactedError, FutureRevisionError, NotResidentError

if TYPE_CHECKING:
    from chronomap.core.holdings import Holdings

Pair = tuple[Any, Any]


class View:
    """The reads of one store at one timestamp and revision. All of them may be called on any thread."""

    __slots__ = ("__weakref__", "fetch", "kept", "past", "revision", "store", "timestamp")

    def __init__(self, store: Holdings, timestamp: float, revision: int) -> None:
        self.store = store
        self.timestamp = timestamp
        self.revision = revision
        self.kept: dict[Any, Timeline] = {}
        self.fetch: Callable[[Any], Timeline] | None = None  # reads a key's whole history from the journal; blocks
        # In the past of its revision nothing settled can be relied on. For the newest, look at the instant first: if a
        # commit comes in between, the view is only more careful than it need be.
        self.past = timestamp < (store.instant if revision == store.revision else store.instant_of(revision))

    def elsewhere(self, timestamp: float | None, revision: int | None) -> View:
        """This view at another timestamp or an earlier revision; it keeps what this one keeps."""
        if timestamp is None and revision is None:
            return self
        if revision is None:
            revision = self.revision
        self.store.check_revision(revision)
        if revision > self.revision:
            raise FutureRevisionError(revision, self.revision)
        view = View(self.store, self.timestamp if timestamp is None else timestamp, revision)
        view.kept, view.fetch = self.kept, self.fetch
        return view

    def fetching(self, fetch: Callable[[Any], Timeline]) -> View:
        """The same view for who can wait for the journal."""
        view = self.elsewhere(self.timestamp, None)
        view.fetch = fetch
        return view

    def whole(self, key: Any) -> Timeline | None:
        """The timeline of a key with all its versions.

        Raises:
            NotResidentError: If some are in the journal only, and this view cannot fetch them.
        """
        timeline = self.timeline(key)
        return self._fetched(key) if timeline is not None and timeline.partial else timeline

    def _fetched(self, key: Any) -> Timeline:
        if (recalled := self.store.recalled.get(key)) is not None and recalled[1] >= self.revision:
            return recalled[0]
        if self.fetch is None:
            raise NotResidentError(key)
        return self.fetch(key)

    def timeline(self, key: Any) -> Timeline | None:
        """The timeline to read a key from.

        Raises:
            ChronoMapTypeError: If it cannot be a key.
        """
        try:
            if self.kept and (kept := self.kept.get(key)) is not None:
                return kept
            return self.store.timelines.get(key)
        except TypeError:
            hashable(key)
            raise

    def entry(self, key: Any) -> Entry | None:
        """The entry that decides what the key holds, or None."""
        if (timeline := self.timeline(key)) is None:
            return None
        try:
            return timeline.find(self.timestamp, self.revision)
        except Pruned:
            if not timeline.partial:
                raise compacted(key, timeline) from None
        timeline = self._fetched(key)
        try:
            return timeline.find(self.timestamp, self.revision)
        except Pruned:
            raise compacted(key, timeline) from None

    def held(self, key: Any) -> Any:
        """The kept value in force, or MISSING."""
        if (timeline := self.timeline(key)) is None:
            return MISSING
        # Settled since a revision this view knows: then it still was in force at the view's timestamp, because a
        # pinned view's timestamp is never before its revision's instant. `settled` must be read before `since`.
        if (value := timeline.settled) is not UNSETTLED and timeline.since <= self.revision and not self.past:
            return value
        entry = self.entry(key)
        return entry.value if entry is not None and entry.holds(self.timestamp) else MISSING

    def identity(self, key: Any) -> tuple[float, int] | None:
        """The timestamp and revision of the version that holds; None if the key is missing."""
        entry = self.entry(key)
        return entry[:2] if entry is not None and entry.holds(self.timestamp) else None

    def get(self, key: Any, default: Any = None) -> Any:
        """The value in force, or the default."""
        value = self.held(key)
        return default if value is MISSING else release(value)

    def version(self, key: Any) -> Version[Any, Any] | None:
        """The version in force, or None if the key is missing."""
        entry = self.entry(key)
        if entry is None or not entry.holds(self.timestamp):
            return None
        return self.version_of(key, entry)

    # -- one key's history ---------------------------------------------------------------------------------------------

    def columns(self, key: Any, start: float = -NEVER, end: float | None = None) -> tuple[Sequence[float], Sequence[Any]]:
        """The timestamps and the kept values of what was held with ``start <= timestamp <= end`` (default: the view's)."""
        if (timeline := self.whole(key)) is None:
            return (), ()
        until = self.timestamp if end is None else end
        columns = timeline.columns(self.revision, start, until)
        kinds = set() if columns is None else set(map(type, columns[1]))
        if columns is None or type(CANCELLED) in kinds:
            found = [entry for entry in timeline.standing(self.revision, until) if entry.timestamp >= start]
            columns = [entry.timestamp for entry in found], [entry.value for entry in found]
        elif type(MISSING) not in kinds:  # as in most histories
            return columns
        held = [value is not MISSING for value in columns[1]]
        return [*compress(columns[0], held)], [*compress(columns[1], held)]

    def history(self, key: Any, start: float = -NEVER, end: float | None = None) -> list[tuple[float, Any]]:
        """``[(timestamp, value), …]`` of the same.

        Raises:
            CompactedError: If it begins at a given timestamp, or ends at one, before which everything has been pruned.
        """
        timeline = self.whole(key)
        if timeline is not None and timeline.floor is not None:
            oldest, until = timeline.oldest[0], self.timestamp if end is None else end
            reaches = until >= timeline.floor[0] and self.revision >= timeline.floor[1]
            if reaches and (-NEVER < start < oldest or (end is not None and end < oldest)):
                raise compacted(key, timeline)
        timestamps, values = self.columns(key, start, end)
        return [*zip(timestamps, values if IMMUTABLE.issuperset(map(type, values)) else map(release, values), strict=True)]

    def versions(self, key: Any, *, scheduled: bool = False) -> list[Version[Any, Any]]:
        """Everything that was ever written of the key, as far as this view knows."""
        if (timeline := self.whole(key)) is None:
            return []
        until = NEVER if scheduled else self.timestamp
        return [self.version_of(key, entry) for entry in timeline.entries(self.revision, until)]

    def version_of(self, key: Any, entry: Entry) -> Version[Any, Any]:
        """An entry as users see it."""
        value = entry.value
        return Version(
            key=key,
            value=None if value is MISSING or value is CANCELLED else release(value),
            timestamp=entry.timestamp,
            revision=entry.revision,
            committed_at=self.store.instant_of(entry.revision),
            expires_at=None if entry.expires_at == NEVER else entry.expires_at,
            kind="tombstone" if value is MISSING else "cancellation" if value is CANCELLED else "value",
            meta=self.store.ledger.meta_of(entry.revision),
        )

    # -- scans: over all keys, or among some, so that a face can go through them in slices ----------------------------

    def scan(self, prefix: str | None = None, among: Iterable[Any] | None = None) -> Iterator[Pair]:
        """``(key, kept value)`` of every present key, in the order the keys first appeared; prefixes match text keys."""
        timelines, revision = self.store.timelines, self.revision
        straight = not self.past and not self.kept
        for key in list(timelines) if among is None else among:
            if prefix is not None and not (isinstance(key, str) and key.startswith(prefix)):
                continue
            # `held`, without the call where it would answer at once; it takes over for good once pruning has come near.
            if straight and not self.kept and (timeline := timelines.get(key)) is not None:
                value = timeline.settled
                if value is UNSETTLED or timeline.since > revision:
                    value = self.held(key)
            else:
                value = self.held(key)
            if value is not MISSING:
                yield key, value

    def pairs(self, prefix: str | None = None, among: Iterable[Any] | None = None) -> Iterator[Pair]:
        """``(key, value)`` of every present key."""
        return ((key, value if type(value) in IMMUTABLE else release(value)) for key, value in self.scan(prefix, among))

    def select(self, predicate: Callable[[Any, Any], object], among: Iterable[Any] | None = None) -> Iterator[Pair]:
        """The pairs for which a predicate of key and value is true."""
        for key, kept in self.scan(None, among):
            value = kept if type(kept) in IMMUTABLE else release(kept)
            if predicate(key, value):
                yield key, value

    def holders(self, value: Any, among: Iterable[Any] | None = None) -> Iterator[Any]:
        """The keys whose value equals a given one."""
        return (key for key, held in self.scan(None, among) if plain_equal(bare(held), value))

    def stamped(self, among: Iterable[Any] | None = None) -> Iterator[tuple[Any, float, int, Any]]:
        """``(key, timestamp, revision, value)`` of every present key."""
        for key, value in self.scan(None, among):
            entry = self.entry(key)
            if entry is not None:
                yield key, entry.timestamp, entry.revision, release(value)


def compacted(key: Any, timeline: Timeline) -> CompactedError | NotResidentError:
    """The error for a read, or a put, in a pruned stretch of a key, or where it has to be fetched first."""
    if timeline.partial:
        return NotResidentError(key)
    oldest = timeline.oldest[0]
    return CompactedError(
        f"the history of key {key!r} before timestamp {oldest} has been pruned; "
        f"what it held there, or as known at so old a revision, cannot be told any more",
        key=key,
        timestamp=oldest,
    )


def all_keys(ours: View, theirs: View) -> list[Any]:
    """Every key either store has ever had."""
    return list(dict.fromkeys([*list(ours.store.timelines), *list(theirs.store.timelines)]))


def differences(ours: View, theirs: View, among: Iterable[Any] | None = None) -> Iterator[tuple[Any, Any, Any]]:
    """``(key, their kept value, our kept value)`` for every key that differs; MISSING where a side holds nothing."""
    for key in all_keys(ours, theirs) if among is None else among:
        mine, other = ours.held(key), theirs.held(key)
        if (mine is MISSING) != (other is MISSING) or not same(mine, other):
            yield key, other, mine
