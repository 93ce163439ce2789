"""The chronicle: every key's timeline, and how a commit enters them.

``Store`` (one file on) decides what a command writes; here it is applied, published, indexed, and undone if it was
interrupted. Three things keep wait-free readers on other threads right, and break if their order is changed:

1. every touched timeline is unsettled before its versions are added, so reads go by revision;
2. the versions are added under a revision that no reader asks for yet;
3. ``revision`` is set: that one assignment publishes the whole commit.

Then the timelines are settled again and the indexes follow. A plain put leaves two of them behind, the ledger and the
recency of keys: they catch up in a batch (``fold``) when somebody looks or after ``FOLD_EVERY`` commits, which costs half.

An interruption half-way (a KeyboardInterrupt, no memory) is undone before anything else happens.

A durable map's chronicle **gathers**: commits are applied one on top of the other without being published, until the journal
has them all (a *group*). Commands plan at the ``head``, the newest applied revision; readers stay at ``revision``, the newest
published one. ``publish`` shows the group to everybody in one step, ``withdraw`` leaves nothing of it. The group is what the
feed holds beyond ``revision``. Elsewhere both revisions are one.
"""

from __future__ import annotations

import weakref
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from math import nextafter
from typing import Any, Final

from chronomap.core.change import NOBODY, Batch, PlainCommit, as_commit, make
from chronomap.core.expiry import SWEEP_FROM, Deadlines, Promise
from chronomap.core.feed import RETAINED_CHANGES, Feed
from chronomap.core.interest import Interest
from chronomap.core.ledger import ORDINARY, Ledger, Note
from chronomap.core.meta import NOTHING, Meta
from chronomap.core.recency import Recency
from chronomap.core.records import CANCELLED, NEVER, Commit, Entry, Record
from chronomap.core.retention import Cut, Retention
from chronomap.core.timeline import UNSETTLED, Pruned, Timeline
from chronomap.core.turns import only_reads
from chronomap.core.values import MISSING
from chronomap.core.view import View
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError, FutureRevisionError, NotResidentError

FOLD_EVERY: Final = 1024
"""Plain puts after which the indexes catch up, so that nobody who looks waits for more."""

EVICT_FROM: Final = 16
"""Versions of a key below which none is let go of."""

RECALLED: Final = 100_000
"""Versions read from the journal that are kept for readers to come."""


class Chronicle:
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
        self.plain_puts = 0  # those that have been folded
        self.pruned_to = 0  # the newest revision that pruning took a version of
        self.erased: dict[Any, int] = {}  # the revision that erased a key
        self.look_up: Callable[[int], Commit | None] | None = None  # finds a commit in the journal, for commands
        self.resident: Retention | None = None  # how much of each key's history is kept in memory
        self.recalled: dict[Any, tuple[Timeline, int]] = {}  # whole timelines from the journal, as of a revision
        self._recalled_size = 0
        self.overdue: set[Any] = set()  # keys to which retention must be applied, but whose history is not in memory
        self._meta: Meta = NOTHING  # what the command that is being carried out has to say
        self._pins: weakref.WeakSet[View] = weakref.WeakSet()
        self._aging: dict[Any, float] = {}  # when a key will next be pruned by age
        self._open: PlainCommit | None = None  # while it is being applied
        self._publishing: list[Commit] = []  # while the indexes are brought up to date with it
        self.gathers = False  # commits wait for a journal before they are published
        self.elaborate = retention is not None  # a plain put needs more than its place
        self._admit: Callable[[Iterable[Record]], None] | None = None  # refuses what the journal could not keep
        self.cuts: dict[Any, Cut] = {}  # what was pruned of each key and the journal has not heard of
        self.cuts_wanted = False  # it should do so before the command is answered
        self._falling = NEVER  # when the first thing fell due that the group commits
        self._taken: list[Promise] = []  # the promises that have been looked at for the group

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
        entry = self.entry(key, now)
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

    # -- a turn begins -------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> float:
        """Start a turn: now, never before the newest commit, with everything that fell due by then committed."""
        if self._open is not None:
            self._recover()
        now = max(now, self.instant)
        if self.deadlines.next_due <= now:
            self._settle(now)
        return now

    def look(self, now: float) -> float:
        """Start a turn that only reads: now. Where commits wait for a journal, what fell due is left to those that write."""
        return max(now, self.instant) if self.gathers else self.begin(now)

    @only_reads
    def pin(self, now: float, timestamp: float | None = None, revision: int | None = None) -> View:
        """A view that no pruning reaches while somebody holds it. O(1)."""
        view = self.view(self.look(now), timestamp, revision)
        self._pins.add(view)
        return view

    def fold(self) -> None:
        """Let the ledger and the recency of keys catch up with the plain puts. O(commits behind). May be repeated."""
        behind = self.feed.newest(self.revision - len(self.ledger))
        if not behind:
            return
        instants = [commit[1] for commit in behind]
        while behind and type(behind[-1]) is not tuple:  # at the end: whatever is not a plain put has this done at once
            behind.pop()
        if behind:
            last = behind[-1]
            self.recency.arrive([commit[2] for commit in behind], last[1], last[0])
        self.ledger.instants.fromlist(instants)
        self.plain_puts += len(behind)
        self.feed.trim()

    # -- applying ------------------------------------------------------------------------------------------------------

    def _commit(self, now: float, records: tuple[Record, ...]) -> int:
        """Apply a command's records under one new revision and return it; without records there is nothing to commit."""
        return self._apply(now, records, self._meta) if records else self.head

    def _apply(self, now: float, records: tuple[Record, ...], meta: Meta) -> int:
        if self._admit is not None:
            self._admit(records)
        revision = self.head + 1
        timelines = self.timelines
        self._open = Commit(revision, now, records, meta)
        try:
            late = False
            for kind, key, value, _, timestamp, expires_at in records:
                timeline = timelines.get(key)
                if timeline is None:
                    timeline = timelines[key] = Timeline()
                timeline.settled = UNSETTLED
                late = late or timestamp < now
                if kind != "activate":
                    grown = timeline.add(timestamp, revision, value, expires_at)
                    grown.changed = revision
                    if grown is not timeline:
                        timelines[key] = grown
                    if value is CANCELLED and grown.partial:
                        self._entry_as_of(key, now, revision)  # what shows through must be there when the commit is published
            in_force = self._late_in_force(now, revision, records) if late else frozenset()
            commit = self._open = Commit(revision, now, records, meta, in_force)
            self._write_down(commit)
            self.instant = now
            self.feed.append(commit)
            if self.gathers:
                self._promise_all(commit)  # what falls due before the group is published is part of it
            else:
                self.revision = revision
                self._finish([commit])
        except BaseException:
            self._recover()
            raise
        self._open = None
        return revision

    def gather(self, admit: Callable[[Iterable[Record]], None]) -> None:
        """From now on only apply commits, if they are admitted, and leave it to somebody else to publish them."""
        self._admit = admit
        self.gathers = self.elaborate = True

    def _put_all(self, now: float, items: Mapping[Any, Any]) -> int:
        """``_apply`` and ``_finish`` of puts dated now to keys that are settled, or new; 0 and nothing done if some are not.

        Written out as ``put_now`` is, and without a record for each: most batches are read by nobody.
        """
        timelines, revision = self.timelines, self.revision + 1
        keys, values = list(items), list(items.values())
        found: list[Any] = [timelines.get(key) for key in keys]
        previous = [MISSING if timeline is None else timeline.settled for timeline in found]
        if any(held is UNSETTLED for held in previous):
            return 0
        commit = self._open = Batch(revision, now, keys, values, previous)
        try:
            if None in found:
                for place, key in enumerate(keys):
                    if found[place] is None:
                        found[place] = timelines[key] = Timeline()
            for timeline, value in zip(found, values, strict=True):
                timeline.settled = UNSETTLED
                if timeline.expiries:
                    timeline.expiries.append(NEVER)
                timeline.values.append(value)
                timeline.revisions.append(revision)
                timeline.timestamps.append(now)
                timeline.changed = timeline.since = revision
            self.instant = now
            self.feed.append(commit)
            self.revision = revision
            self._finish_batch(commit, found)
        except BaseException:
            self._recover()
            raise
        self._open = None
        return revision

    def _finish_batch(self, commit: Batch, written: list[Any]) -> None:
        for timeline, value in zip(written, commit.values, strict=True):
            timeline.settled = value
        self.fold()
        self.recency.arrive(commit.keys, commit.instant, commit.revision)
        if self.interest.waiting:
            self.interest.touch(commit.revision, commit.keys)

    def _gather_put(self, now: float, key: Any, value: Any) -> int:
        """``_apply`` of a put dated now, for when commits are gathered; written out, since most of them are such."""
        timeline = self.timelines.get(key)
        if timeline is None:
            previous, timeline = MISSING, Timeline()
        elif timeline.timestamps[-1] > now or timeline.expiries is not None:
            record = Record("put", key, value, self.held(key, now), now, NEVER)
            return self._apply(now, (record,), self._meta)
        elif (previous := timeline.settled) is UNSETTLED:
            previous = self.held(key, now)
        records = (make(Record, ("put", key, value, previous, now, NEVER)),)
        self._admit(records)  # type: ignore[misc]  # there is one
        feed = self.feed
        revision = feed.head + 1
        commit = self._open = make(Commit, (revision, now, records, self._meta, NOBODY))
        try:
            timeline.settled = UNSETTLED
            timeline.values.append(value)
            timeline.revisions.append(revision)
            timeline.timestamps.append(now)
            timeline.changed = revision
            self.timelines[key] = timeline
            self.instant = now
            feed.tail.append(commit)
        except BaseException:
            self._recover()
            raise
        self._open = None
        return revision

    def publish(self) -> list[Commit]:
        """Show everybody the group, which the journal has now."""
        self._publishing = self.feed.since(self.revision)
        if self._publishing:
            self._falling = NEVER
            self._taken = []
            self.revision = self._publishing[-1].revision
        return self._end_publishing()

    def _end_publishing(self) -> list[Commit]:
        if group := self._publishing:
            self._finish(group)
        self._publishing = []
        return group

    def settle_group(self) -> None:
        """After a break-down in one of these two: end a publication that has begun, else withdraw."""
        if self._publishing and self.revision == self._publishing[-1].revision:
            self._end_publishing()
        else:
            self.withdraw()

    def withdraw(self) -> list[Commit]:
        """Leave nothing of the group, which the journal could not take; only its instant stays."""
        group = self.feed.since(self.revision)
        self._falling = NEVER
        self._undo(group)
        self.deadlines.give_back(self._taken)
        self.deadlines.cut_after(self.revision)
        self._taken = []
        expired = sum(record.kind == "expire" for commit in group for record in commit.records)
        self.expired = max(0, self.expired - expired)
        self.expiries -= expired
        return group

    def _late_in_force(self, now: float, revision: int, records: tuple[Record, ...]) -> frozenset[int]:
        """The places of the records that are dated before now and decide all the same what is held now."""
        places = set()
        for place, record in enumerate(records):
            if record.timestamp < now and record.value is not CANCELLED:
                entry = self._entry_as_of(record.key, now, revision)
                if entry is not None and entry.timestamp == record.timestamp:
                    places.add(place)
        return frozenset(places)

    def _write_down(self, commit: Commit) -> None:
        kind = commit.records[0].kind
        activated: list[tuple[Any, float, int]] = []
        if kind in ("expire", "activate"):
            kind = "expire"
            for record in commit.records:
                if record.kind == "activate":
                    entry = self.timelines[record.key].find(record.timestamp, commit.revision)
                    activated.append((record.key, record.timestamp, 0 if entry is None else entry.revision))
        note = Note(None if kind in ORDINARY else kind, commit.meta, tuple(activated))
        self.ledger.write_down(commit.revision, note, len(commit.records) - len(activated))

    def _finish(self, commits: list[Commit]) -> None:
        """Bring the indexes up to date with commits that were published together. May be repeated."""
        self.fold()
        last = commits[-1]
        arrived: list[Any] = []  # the keys of plain puts, which most are: they are newer than all others
        for commit in commits:
            records = commit.records
            if len(records) == 1 and self._is_plain(records[0], commit.instant):
                key = records[0].key
                self.timelines[key].settle(last.instant, last.revision)
                arrived.append(key)
                if self.interest.waiting:
                    self.interest.touch(commit.revision, (key,))
                continue
            if arrived:
                self.recency.arrive(arrived, commit.instant, commit.revision - 1)
                arrived = []
            self._finish_one(commit, last.instant)
        if arrived:
            self.recency.arrive(arrived, last.instant, last.revision)
        if len(self.deadlines) >= SWEEP_FROM:
            self.deadlines.sweep(self._stands)

    def _is_plain(self, record: Record, instant: float) -> bool:
        """Whether a record, alone in its commit, is a put dated now and has nothing to do with anything else."""
        kind, _, _, _, timestamp, expires_at = record
        return (
            kind == "put" and timestamp == instant and expires_at == NEVER and self.retention is None and self.resident is None
        )

    def _finish_one(self, commit: Commit, now: float) -> None:
        revision, instant, records, _, _ = commit
        for kind, key, _, _, _, _ in records:
            if kind == "erase":
                self._scrub(key, instant, revision)
            self._index(key, now)
            if self.retention is not None:
                self._retain(key, now)
            if self.resident is not None:
                self._evict(key, now)
        if not self.gathers:
            self._promise_all(commit)
        if self.interest.waiting:
            self.interest.touch(revision, [record.key for record in records])

    def _index(self, key: Any, now: float) -> None:
        """Settle a key that was written, and give it its place among those that are present."""
        timeline = self.timelines[key]
        timeline.settle(now, self.revision)
        if timeline.settled is not UNSETTLED and timeline.settled is timeline.values[-1]:
            if timeline.settled is MISSING:
                self.recency.remove(key)
            else:
                self.recency.place(key, timeline.timestamps[-1], timeline.revisions[-1])
        else:
            self._place(key, timeline, now)

    def _scrub(self, key: Any, now: float, revision: int) -> None:
        """Leave nothing of an erased key but a tombstone, here, in the feed and in every snapshot."""
        empty = Timeline().add(now, revision, MISSING, NEVER)
        empty.changed = revision
        timeline = self.timelines[key]
        stamps = zip(timeline.timestamps[timeline.start :], timeline.revisions[timeline.start :], strict=True)
        self.ledger.forget(key, [stamp for stamp in stamps if stamp[1] != revision])
        self.timelines[key] = empty
        for view in self._pins:
            view.kept[key] = empty
        self.feed.erase(key)
        self.cuts.pop(key, None)
        self._forget_recalled(key)
        self.erased[key] = revision

    def _promise_all(self, commit: Commit) -> None:
        for kind, key, value, _, timestamp, expires_at in commit.records:
            if kind != "activate" and value is not CANCELLED:
                self._promise(key, timestamp, commit.revision, expires_at, commit.instant)

    def _promise(self, key: Any, timestamp: float, revision: int, expires_at: float, now: float) -> None:
        """Note when a version will expire and, if it is dated later than now, fall due (a tombstone may as well)."""
        if expires_at != NEVER:
            self.deadlines.add(expires_at, "expire", key, timestamp, revision)
        if timestamp > now:
            self.deadlines.add(timestamp, "activate", key, timestamp, revision)

    def _place(self, key: Any, timeline: Timeline, now: float) -> None:
        try:
            entry = timeline.find(now, self.revision)
        except Pruned:
            entry = None
        if entry is not None and entry.holds(now):
            self.recency.place(key, entry.timestamp, entry.revision)
        else:
            self.recency.remove(key)

    def _recover(self) -> None:
        """After an interruption: finish what was published, and leave nothing of a commit that was not."""
        if self._open is None:
            return
        commit = as_commit(self._open)
        if commit.revision == self.revision:
            self._finish([commit])
        else:
            self._undo([commit])
        self._open = None

    def _undo(self, commits: list[Commit]) -> None:
        """Leave nothing of the newest commits, which were not published."""
        if not commits:
            return
        before = commits[0].revision - 1
        self.feed.cut_after(before)
        for commit in commits:
            self.ledger.strike(commit.revision)
            for key in [record.key for record in commit.records]:
                if (timeline := self.timelines.get(key)) is None:
                    continue
                rest = timeline.upto(before)
                if not len(rest) and rest.floor is None:
                    del self.timelines[key]
                    continue
                self.timelines[key] = rest
                if before == self.revision:
                    rest.settle(self.instant, before)

    # -- what falls due ------------------------------------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        """Commit what fell due by now, in due order, and forget what has grown too old."""
        promises = self.deadlines.take(now)
        try:
            records = tuple(self._due_records(promises))
            if records:
                self._apply(now, records, NOTHING)
            if self.head != self.revision:  # what came to nothing may have done so because of the group
                self._taken += [promise for promise in promises if promise.kind != "age"]
                self._falling = min([self._falling, *(promise.due for promise in self._taken)])
        except BaseException:
            if self.deadlines.next_due > now:
                self.deadlines.give_back(promises)
            raise
        expired = sum(record.kind == "expire" for record in records)
        self.expired += expired
        self.expiries += expired
        for promise in promises:
            if promise.kind == "age":
                self._aging.pop(promise.key, None)
                self._retain(promise.key, now)

    def _due_records(self, promises: list[Promise]) -> Iterator[Record]:
        for promise in promises:
            if promise.kind == "age" or (entry := self._standing(promise)) is None:
                continue
            if promise.kind == "expire":
                yield Record("expire", promise.key, MISSING, entry.value, promise.due, NEVER)
            else:
                before = self.held(promise.key, nextafter(promise.due, -NEVER))
                yield Record("activate", promise.key, entry.value, before, promise.due, entry.expires_at)

    def _standing(self, promise: Promise) -> Entry | None:
        """The entry a promise is about, if it is still the one that decides at the due time."""
        entry = self.entry(promise.key, promise.due)
        if entry is not None and entry.timestamp == promise.timestamp and entry.revision == promise.revision:
            return entry
        return None

    def _stands(self, promise: Promise) -> bool:
        return promise.kind == "age" or self._standing(promise) is not None

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
            outlived = timeline.locate(now, self.revision) > timeline.start
        except Pruned:
            return
        if outlived:
            due = max(nextafter(timeline.timestamps[timeline.start] + retention.max_age, NEVER), nextafter(now, NEVER))
            if due < self._aging.get(key, NEVER):  # a version that came late is older than those promised before
                self.deadlines.add(due, "age", key, 0.0, 0)
                self._aging[key] = due

    def retain_overdue(self, now: float, keys: Iterable[Any]) -> None:
        """Apply the map's retention to keys whose older versions are not in memory."""
        now = self.begin(now)
        for key in keys:
            if (timeline := self.timelines.get(key)) is not None and timeline.partial:
                raise NotResidentError(key)
        for key in keys:
            self._retain(key, now)
            self._evict(key, now)
            self.overdue.discard(key)

    def _prune(self, key: Any, now: float, keep_last: int | None, older_than: float | None) -> int:
        timeline = self.timelines.get(key)
        if timeline is None:
            return 0
        if timeline.partial:
            raise NotResidentError(key)
        timestamps, before = timeline.timestamps, timeline.start
        start = before
        if keep_last is not None:
            start = max(start, len(timestamps) - keep_last)
        if older_than is not None:
            start = max(start, bisect_left(timestamps, older_than))
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
        gone = zip(timestamps[before:start], timeline.revisions[before:start], strict=True)
        self.pruned_to = max(self.pruned_to, self.ledger.forget(key, gone))
        self._forget_recalled(key)
        kept = self.timelines[key] = timeline.prune(start)
        if self.gathers and kept.floor is not None:
            self.cuts[key] = Cut(key, (kept.timestamps[kept.start], kept.revisions[kept.start]), kept.floor)
        return start - before

    # -- what is not in memory -----------------------------------------------------------------------------------------

    def _evict(self, key: Any, now: float) -> None:
        """Let go of older versions, which the journal has, when enough of them have gathered. Amortised O(1) a version."""
        timeline, resident = self.timelines.get(key), self.resident
        if timeline is None or resident is None or len(timeline) < EVICT_FROM:
            return
        start, size = timeline.start, len(timeline.timestamps)
        if resident.max_versions is not None:
            start = max(start, size - resident.max_versions)
        if (oldest := resident.oldest(now)) is not None:
            start = max(start, bisect_left(timeline.timestamps, oldest))
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
        timeline = Timeline()
        for timestamp, revision, value, expires_at in entries:
            timeline = timeline.add(timestamp, revision, value, expires_at)
            if value is not CANCELLED:
                ahead = newest is None or expires_at > self.instant or revision == newest
                self._promise(key, timestamp, revision, expires_at if ahead else NEVER, self.instant)
        revisions = timeline.revisions
        timeline.changed = max(revisions)
        timeline.ordered = all(one <= two for one, two in pairwise(revisions))
        timeline.floor = floor
        self.timelines[key] = timeline

    def take(self, key: Any, timeline: Timeline, newest: int) -> None:
        """The same from a journal, which has the timeline made already and ends with a revision.

        What fell due by its last commit is in it, whatever became of that since; but not what that commit brought along.
        """
        self.timelines[key] = timeline
        if timeline.expiries is None and timeline.timestamps[-1] <= self.instant:
            return
        for timestamp, revision, value, expires_at in map(timeline.entry, range(len(timeline))):
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
        self.ledger.instants = array("d", instants)
        for revision, note, versions in notes:
            self.ledger.write_down(revision, note, versions)
        self.revision = len(self.ledger)
        self.pruned_to = pruned_to
        self.feed = Feed(self.revision, self.feed.retained)
        for key in list(self.timelines):
            self._retain(key, self.instant)
            timeline = self.timelines[key]
            timeline.settle(self.instant, self.revision)
            self._place(key, timeline, self.instant)

    def feed_on(self, commits: Iterable[Commit]) -> None:
        """The newest commits, from a journal, for those who follow to resume from."""
        newest = list(commits)
        self.feed = Feed(self.revision - len(newest), self.feed.retained)
        for commit in newest:
            self.feed.append(commit)

    @only_reads
    def check(self, now: float) -> None:
        """Verify every invariant (slow; for tests)."""
        assert self._open is None
        assert not self._publishing
        assert self.head == self.revision
        self.fold()
        assert len(self.ledger) == self.revision
        assert list(self.ledger.instants) == sorted(self.ledger.instants)
        assert self._meta == NOTHING
        now = max(now, self.instant)
        present = {}
        for key, timeline in self.timelines.items():
            timeline._check()
            assert timeline.changed <= self.revision
            entry = timeline.find(now, self.revision)
            holds = entry is not None and entry.holds(now)
            if holds and entry is not None:
                present[key] = (entry.timestamp, entry.revision)
            if timeline.settled is not UNSETTLED:
                assert timeline.settled is (entry.value if holds and entry is not None else MISSING)
        if self.deadlines.next_due > now:
            self.recency._check(present)
