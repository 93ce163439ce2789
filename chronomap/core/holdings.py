"""What a map holds: every key's timeline and the indexes over them; how they are read, kept within limits, and loaded.

How a commit enters is the chronicle's (one file on). Two kinds of readers come here: those of the map, who see what has been
published, and commands, who build on the ``head`` (see ``core/chronicle.py`` for when these differ).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from math import nextafter
from typing import Any, Final

from chronomap.core.expiry import Deadlines
from chronomap.core.feed import RETAINED_CHANGES, Feed
from chronomap.core.instants import Instants
from chronomap.core.interest import Interest
from chronomap.core.ledger import Ledger, Note
from chronomap.core.recency import Recency
from chronomap.core.records import CANCELLED, NEVER, Commit, Entry
from chronomap.core.retention import Cut, Retention
from chronomap.core.timeline import Pruned, Series, Single, Timeline, begun, sorted_up
from chronomap.core.values import MISSING
from chronomap.core.view import View, compacted
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError, FutureRevisionError, NotResidentError

EVICT_FROM: Final = 16
"""Versions of a key below which none is let go of."""

RECALLED: Final = 100_000
"""Versions read from the journal that are kept for readers to come."""


class Holdings:
    """All timelines of one map. What takes ``now`` belongs to the owner; the rest may be called on any thread."""

    def __init__(self, retention: Retention | None = None, retained_changes: int = RETAINED_CHANGES) -> None:
        self.timelines: dict[Any, Timeline] = {}
        self.revision = 0
        self.instant = -NEVER
        self.ledger = Ledger()
        self.retention = retention
        self.feed = Feed(retained=retained_changes)
        self.interest = Interest()
        self.deadlines = Deadlines()
        self.recency = Recency()
        self.expired = 0  # expiries committed since the last clean_expired_keys()
        self.expiries = 0
        self.writes = 0  # without the plain puts of a map that is not durable
        self.plain_puts = 0  # those of them that have been folded
        self.pruned_to = 0  # the newest revision that pruning took a version of
        self.erased: dict[Any, int] = {}  # the revision that erased a key
        self.look_up: Callable[[int], Commit | None] | None = None  # finds a commit in the journal, for commands
        self.resident: Retention | None = None  # how much of each key's history is kept in memory
        self.recalled: dict[Any, tuple[Timeline, int]] = {}  # whole timelines from the journal, as of a revision
        self._recalled_size = 0
        self.overdue: set[Any] = set()  # keys to which retention must be applied, but whose history is not in memory
        self._pins: weakref.WeakSet[View] = weakref.WeakSet()
        self._aging: dict[Any, float] = {}  # when a key will next be pruned by age
        self.gathers = False  # commits wait for a journal before they are published
        self.elaborate = retention is not None  # a plain put needs more than its place
        self.cuts: dict[Any, Cut] = {}  # what was pruned of each key and the journal has not heard of
        self.cuts_wanted = False  # it should do so before the command is answered
        self._falling = NEVER  # when the first thing fell due that the group commits

    # -- reads: any thread ---------------------------------------------------------------------------------------------

    @property
    def head(self) -> int:
        """The newest revision that has been applied, published or not: what commands build on."""
        return self.feed.head

    @property
    def next_due(self) -> float:
        """When something falls due, or fell due that nobody sees committed yet."""
        return min(self.deadlines.next_due, self._falling)

    def view(self, now: float, timestamp: float | None = None, revision: int | None = None) -> View:
        """The map at (timestamp, revision), by default (now, newest). Not pinned: pruning may reach it."""
        if revision is None:
            revision = self.revision
        else:
            self.check_revision(revision)
        return View(self, max(now, self.instant) if timestamp is None else timestamp, revision)

    def check_revision(self, revision: int) -> None:
        """Refuse what is not a revision of this store."""
        if isinstance(revision, bool) or not isinstance(revision, int):
            raise ChronoMapTypeError(f"a revision is an int, got {type(revision).__name__}")
        if revision < 0:
            raise ChronoMapValueError(f"a revision is 0 or more, got {revision}")
        if revision > self.revision:
            raise FutureRevisionError(revision, self.revision)

    def instant_of(self, revision: int) -> float:
        """When a revision was committed; minus infinity for 0."""
        if revision > len(self.ledger) and (commit := self.feed.commit(revision)) is not None:
            return commit.instant
        return self.ledger.instant_of(revision)

    def changed(self, key: Any) -> int:
        """The revision that last wrote a version of a key; 0: never."""
        timeline = self.timelines.get(key)
        return 0 if timeline is None else timeline.changed

    def held(self, key: Any, timestamp: float) -> Any:
        """The kept value in force at a timestamp, for a command, or MISSING (also where pruned)."""
        entry = self.entry(key, timestamp)
        return entry.value if entry is not None and entry.holds(timestamp) else MISSING

    def entry(self, key: Any, timestamp: float) -> Entry | None:
        """What decides at a timestamp, for a command; None if nothing does, or it has been pruned.

        Raises:
            NotResidentError: If that is to be found in the journal only; the command is then tried again with it.
        """
        return self._entry_as_of(key, timestamp, self.head)

    def _entry_as_of(self, key: Any, timestamp: float, revision: int) -> Entry | None:
        if (timeline := self.timelines.get(key)) is None:
            return None
        try:
            return timeline.find(timestamp, revision)
        except Pruned:
            if timeline.partial:
                raise NotResidentError(key) from None
            return None

    def in_force(self, key: Any, now: float) -> tuple[float, int] | None:
        """The identity of the version that holds now, for a command: its timestamp and revision. None if the key is missing."""
        if (timeline := self.timelines.get(key)) is None:
            return None
        try:
            entry = timeline.find(now, self.head)
        except Pruned:
            raise compacted(key, timeline) from None
        return entry[:2] if entry is not None and entry.holds(now) else None

    def changed_since(self, revision: int, *, activations: bool = False) -> list[Any]:
        """The keys changed after a revision. O(changes since) while the feed retains them, else O(keys)."""
        if revision < self.feed.floor:
            return [
                key
                for key, timeline in self.timelines.items()
                if timeline.changed > revision or (activations and timeline.since > revision)
            ]
        return list(
            dict.fromkeys(
                record.key
                for commit in self.feed.since(revision)
                for record in commit.records
                if activations or record.kind != "activate"
            )
        )

    # -- indexes -------------------------------------------------------------------------------------------------------

    def _promise(self, key: Any, timestamp: float, revision: int, expires_at: float, now: float) -> None:
        """Note when a version will expire and, if it is dated later than now, fall due (a tombstone may as well)."""
        if expires_at != NEVER:
            self.deadlines.add(expires_at, "expire", key, timestamp, revision)
        if timestamp > now:
            self.deadlines.add(timestamp, "activate", key, timestamp, revision)

    def _promise_again(self, key: Any, timestamp: float) -> None:
        """Something was called off: note when the version that shows through at its timestamp will expire.

        While it was hidden, the first promise may have come to nothing.
        """
        entry = self.entry(key, timestamp)
        if entry is None or entry.expires_at == NEVER:
            return
        due = entry.expires_at
        for one in self.timelines[key].entries(self.head, due, nextafter(due, -NEVER)):
            if one.revision > entry.revision and self.ledger.kind_of(one.revision, one.value) == "expire":
                return  # it has expired
        self.deadlines.add(entry.expires_at, "expire", key, entry.timestamp, entry.revision)

    def _place(self, key: Any, timeline: Timeline, now: float) -> None:
        try:
            entry = timeline.find(now, self.revision)
        except Pruned:
            entry = None
        if entry is not None and entry.holds(now):
            self.recency.place(key, entry.timestamp, entry.revision)
        else:
            self.recency.remove(key)

    # -- forgetting ----------------------------------------------------------------------------------------------------

    def _retain(self, key: Any, now: float) -> None:
        """Apply the map's retention to one key, and promise to come back when more of it will have grown too old.

        Where older versions are not in memory, ``retain_overdue`` comes back to it.
        """
        if (retention := self.retention) is None or ((known := self.timelines.get(key)) is not None and known.partial):
            return
        self._prune(key, now, retention.max_versions, retention.oldest(now))
        timeline = self.timelines.get(key)
        if retention.max_age is None or timeline is None:
            return
        try:
            entry = timeline.find(now, self.revision)
        except Pruned:
            return
        if entry is not None and entry[:2] != timeline.oldest:
            due = max(nextafter(timeline.oldest[0] + retention.max_age, NEVER), nextafter(now, NEVER))
            if due < self._aging.get(key, NEVER):  # a version that came late is older than those promised before
                self.deadlines.add(due, "age", key, 0.0, 0)
                self._aging[key] = due

    def _prune(self, key: Any, now: float, keep_last: int | None, older_than: float | None) -> int:
        timeline = self.timelines.get(key)
        if timeline is None or isinstance(timeline, Single):
            return 0
        if timeline.partial:
            raise NotResidentError(key)
        start = before = timeline.start
        if keep_last is not None:
            start = max(start, timeline.size - keep_last)
        if older_than is not None:
            start = max(start, timeline.index(older_than))
        if start == before:
            return 0
        try:
            in_force = timeline.locate(now, self.revision)
        except Pruned:
            return 0  # nothing is in force: what is left has been called off or lies ahead
        start = min(start, in_force)
        if start <= before:
            return 0
        for view in self._pins:
            view.kept.setdefault(key, timeline.frozen())
        self.pruned_to = max(self.pruned_to, self.ledger.forget(key, timeline.stamps(before, start)))
        self._forget_recalled(key)
        kept = self.timelines[key] = timeline.prune(start)
        if self.gathers and kept.floor is not None:
            self.cuts[key] = Cut(key, kept.oldest, kept.floor)
        return start - before

    # -- what is not in memory -----------------------------------------------------------------------------------------

    def _evict(self, key: Any, now: float) -> None:
        """Let go of older versions, which the journal has, when enough of them have gathered. Amortised O(1) a version."""
        timeline, resident = self.timelines.get(key), self.resident
        if timeline is None or isinstance(timeline, Single) or resident is None or len(timeline) < EVICT_FROM:
            return
        start = timeline.start
        if resident.max_versions is not None:
            start = max(start, timeline.size - resident.max_versions)
        if (oldest := resident.oldest(now)) is not None:
            start = max(start, timeline.index(oldest))
        try:
            start = min(start, timeline.locate(now, self.revision))
        except Pruned:
            return
        if 2 * (start - timeline.start) < len(timeline):
            return
        for view in self._pins:
            view.kept.setdefault(key, timeline.frozen())
        self.timelines[key] = timeline.evict(start)
        if self.retention is not None:
            self.overdue.add(key)

    def recall(self, key: Any, older: Iterable[Entry], floor: tuple[float, int] | None) -> Timeline:
        """A key's whole timeline, for readers: its versions from the journal, newest first, before those in memory."""
        whole = self.timelines[key].extended(list(older)[::-1], floor)
        self._forget_recalled(key)
        self.recalled[key] = whole, self.revision
        self._recalled_size += len(whole)
        while self._recalled_size > RECALLED and len(self.recalled) > 1:
            self._forget_recalled(next(iter(self.recalled)))
        return whole

    def bring_back(self, key: Any, older: Iterable[Entry], floor: tuple[float, int] | None) -> None:
        """The same for commands: all of a key is in memory until enough is written to let go of it again."""
        self.timelines[key] = self.timelines[key].extended(list(older)[::-1], floor)

    def _forget_recalled(self, key: Any) -> None:
        if (recalled := self.recalled.pop(key, None)) is not None:
            self._recalled_size -= len(recalled[0])

    # -- loading -------------------------------------------------------------------------------------------------------

    def restore(self, key: Any, entries: Iterable[Entry], floor: tuple[float, int] | None, newest: int | None = None) -> None:
        """Load one key's entries, sorted, from a file into a store that nobody uses yet.

        With the newest revision: what fell due is in it, see ``take``. Without: that has not been committed yet.
        """
        timeline = Series()
        for timestamp, revision, value, expires_at in entries:
            timeline.append(timestamp, revision, value, expires_at)
            if value is not CANCELLED:
                ahead = newest is None or expires_at > self.instant or revision == newest
                self._promise(key, timestamp, revision, expires_at if ahead else NEVER, self.instant)
        revisions = timeline.revisions
        timeline.changed = max(revisions)
        timeline.ordered = sorted_up(revisions)
        timeline.floor = floor
        self.timelines[key] = timeline

    def take(self, key: Any, timeline: Series, newest: int) -> None:
        """The same from a journal, which has the timeline made already and ends with a revision.

        What fell due by its last commit is in it, whatever became of that since; but not what that commit brought along.
        """
        self.timelines[key] = timeline
        if timeline.expiries is None and timeline.timestamps[-1] <= self.instant:
            return
        for timestamp, revision, value, expires_at in timeline:
            if value is not CANCELLED:
                ahead = expires_at > self.instant or revision == newest
                self._promise(key, timestamp, revision, expires_at if ahead else NEVER, self.instant)

    def restored(self, instants: Iterable[float], notes: Iterable[tuple[int, Note, int]], pruned_to: int) -> None:
        """End a load: set the revision and bring the indexes up to date.

        Args:
            instants: Those of all commits, in order.
            notes: ``(revision, note, number of versions there are of it)``.
            pruned_to: The newest revision that a version was ever pruned of.
        """
        self.ledger.instants = Instants(instants)
        for revision, note, versions in notes:
            self.ledger.write_down(revision, note, versions)
        self.revision = len(self.ledger)
        self.pruned_to = pruned_to
        self.feed = Feed(self.revision, self.feed.retained)
        for key in list(self.timelines):
            self._retain(key, self.instant)
            timeline = self.timelines[key] = self._fitting(self.timelines[key])
            timeline.settle(self.instant, self.revision)
            self._place(key, timeline, self.instant)

    def _fitting(self, timeline: Timeline) -> Timeline:
        """The same in the shape that suits it."""
        if isinstance(timeline, Series):
            if timeline.size == 1 and timeline.expiries is None and timeline.floor is None:
                entry = timeline.entry(0)
                return begun(self.ledger.instant_of(entry.revision), *entry)
            if not timeline.ordered:
                return timeline.in_blocks()
        return timeline

    def feed_on(self, commits: Iterable[Commit]) -> None:
        """The newest commits, from a journal, for those who follow to resume from.

        What the last of them brought back may have expired meanwhile.
        """
        newest = list(commits)
        self.feed = Feed(self.revision - len(newest), self.feed.retained)
        for commit in newest:
            self.feed.append(commit)
        for record in newest[-1].records if newest else ():
            if record.value is CANCELLED and not self.timelines[record.key].partial:
                self._promise_again(record.key, record.timestamp)
