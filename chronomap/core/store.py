"""The store: every key's timeline, and the commits that change them.

A command first plans: it reads, checks, and writes down its changes as a list of records, without touching anything, so an
error leaves everything as it was. Then ``_commit`` applies the records under one revision. Three things keep wait-free
readers on other threads right, and break if their order is changed:

1. every touched timeline is unsettled before its versions are added, so reads go by revision;
2. the versions are added under a revision that no reader asks for yet;
3. ``revision`` is set: that one assignment publishes the whole commit.

An interruption half-way (a KeyboardInterrupt, no memory) is undone before anything else happens.

Example: ``put("a", 1)`` at instant 100 on an empty store plans ``Record("put", "a", 1, previous=MISSING, 100, NEVER)`` and
commits it as revision 1.
"""

from __future__ import annotations

import weakref
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import nextafter
from typing import Any, Final

from chronomap.core import rewind
from chronomap.core.expiry import SWEEP_FROM, Deadlines, Promise
from chronomap.core.feed import TRIM_EVERY, Feed, PlainCommit, as_commit
from chronomap.core.recency import Recency
from chronomap.core.records import CANCELLED, NEVER, Entry, Kind, Record
from chronomap.core.retention import Retention
from chronomap.core.timeline import UNSETTLED, Pruned, Timeline
from chronomap.core.timestamps import Timestamp, duration, seconds
from chronomap.core.values import MISSING, release
from chronomap.core.view import View, compacted
from chronomap.errors import (
    ChronoMapTypeError,
    ChronoMapValueError,
    ConflictError,
    FutureRevisionError,
)

REMEMBERED_REQUESTS: Final = 10_000
"""How many request ids are remembered: a retry that comes after as many other requests is applied again."""

ANY: Final[Any] = object()
"""Stands for "whatever version is in force" where one is expected."""


class Store:
    """All timelines of one map. Methods that take ``now`` belong to the owner; the others may be called on any thread."""

    def __init__(self, retention: Retention | None = None) -> None:
        self.timelines: dict[Any, Timeline] = {}
        self.revision = 0
        self.instant = -NEVER
        self.instants = array("d")  # of every commit, by revision - 1
        self.retention = retention
        self.feed = Feed()
        self.deadlines = Deadlines()
        self.recency = Recency()
        self.expired = 0  # expiries committed since the last clean_expired_keys()
        self.reads = self.writes = self.deletes = self.snapshots = self.expiries = self.conflicts = 0
        self._pins: weakref.WeakSet[View] = weakref.WeakSet()
        self._erased: dict[Any, int] = {}  # the revision that erased a key
        self._requests: dict[Any, tuple[Any, int]] = {}
        self._open: PlainCommit | None = None  # while it is being applied

    # -- reads: any thread ---------------------------------------------------------------------------------------------

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
        return self.instants[revision - 1] if revision else -NEVER

    def changed(self, key: Any) -> int:
        """The revision that last wrote a version of a key; 0: never."""
        timeline = self.timelines.get(key)
        return 0 if timeline is None else timeline.changed

    # -- commands: puts ------------------------------------------------------------------------------------------------

    def put(  # noqa: PLR0917 - commands get their arguments by position
        self,
        now: float,
        key: Any,
        value: Any,
        timestamp: Timestamp | None = None,
        ttl: float | None = None,
        if_revision: int | None = None,
        if_absent: bool = False,
        request_id: Any = None,
        expected: Any = ANY,
    ) -> int:
        """Commit one version; ``expected`` is the entry that must still be in force (None: nothing)."""
        now = self.begin(now)
        if request_id is not None and (answered := self._requests.get(request_id)) is not None:
            if answered[0] != key:
                raise ChronoMapValueError(f"request_id {request_id!r} was used for another key; make a new one per write")
            return answered[1]
        if if_revision is not None or if_absent or expected is not ANY:
            self._check_conditions(now, key, if_revision, if_absent, expected)
        when = now if timestamp is None else seconds(timestamp)
        expires_at = NEVER if ttl is None else max(now, when) + duration(ttl)
        record = self._plan(key, value, when, expires_at)
        revision = self._commit(now, (record,)) if request_id is None else self._commit_once(now, record, request_id)
        self.writes += 1
        return revision

    def _commit_once(self, now: float, record: Record, request_id: Any) -> int:
        """Commit and remember the request; before, so that an interruption cannot come between."""
        self._requests[request_id] = (record.key, self.revision + 1)
        try:
            revision = self._commit(now, (record,))
        finally:
            if self._requests[request_id][1] > self.revision:
                del self._requests[request_id]
        if len(self._requests) > REMEMBERED_REQUESTS:
            del self._requests[next(iter(self._requests))]
        return revision

    def put_now(self, now: float, key: Any, value: Any) -> int:
        """``put`` with nothing but a key and a value, dated now: what most commands are.

        The same steps as ``_commit`` and ``_finish``, written out for one record that goes to the end of a settled
        timeline; that makes it three times as fast. Whatever is out of the ordinary takes the long way.
        """
        if self._open is not None or now < self.instant or self.deadlines.next_due <= now:
            now = self.begin(now)
        timeline = self.timelines.get(key)
        if timeline is None or (previous := timeline.settled) is UNSETTLED or self.retention is not None:
            revision = self._commit(now, (self._plan(key, value, now, NEVER),))
            self.writes += 1
            return revision
        revision = self.revision + 1
        commit = self._open = (revision, now, key, value, previous)
        try:
            timeline.settled = UNSETTLED
            if timeline.expiries:
                timeline.expiries.append(NEVER)
            timeline.values.append(value)
            timeline.revisions.append(revision)
            timeline.timestamps.append(now)
            timeline.changed = timeline.since = revision
            self.instants.append(now)
            self.instant = now
            self.feed.tail.append(commit)
            self.revision = revision
            timeline.settled = value
            self.recency.arrive(key, now, revision)
            if not revision % TRIM_EVERY:
                self.feed.trim()
        except BaseException:
            self._recover()
            raise
        self._open = None
        self.writes += 1
        return revision

    def put_many(
        self, now: float, items: Mapping[Any, Any], timestamp: Timestamp | None = None, ttl: float | None = None
    ) -> int:
        """Commit a version of each key under one revision."""
        now = self.begin(now)
        when = now if timestamp is None else seconds(timestamp)
        expires_at = NEVER if ttl is None else max(now, when) + duration(ttl)
        revision = self._commit(now, tuple(self._plan(key, value, when, expires_at) for key, value in items.items()))
        self.writes += len(items)
        return revision

    def touch(self, now: float, key: Any, ttl: float | None) -> bool:
        """Commit the present value again with a new expiry; False if the key is missing."""
        now = self.begin(now)
        expires_at = NEVER if ttl is None else now + duration(ttl)
        if (value := self.held(key, now)) is MISSING:
            return False
        self._commit(now, (self._plan(key, value, now, expires_at, "touch"),))
        self.writes += 1
        return True

    # -- commands: deletes ---------------------------------------------------------------------------------------------

    def delete(self, now: float, key: Any, timestamp: Timestamp | None = None, if_revision: int | None = None) -> bool:
        """Commit a tombstone and call off what is scheduled later; False if there was nothing to delete."""
        now = self.begin(now)
        if if_revision is not None:
            self._check_conditions(now, key, if_revision, if_absent=False, expected=ANY)
        return self._delete(now, [self._plan_delete(key, now, timestamp)]) == 1

    def delete_many(self, now: float, keys: Iterable[Any], timestamp: Timestamp | None = None) -> int:
        """Delete several keys under one revision; returns how many there were to delete."""
        now = self.begin(now)
        return self._delete(now, [self._plan_delete(key, now, timestamp) for key in dict.fromkeys(keys)])

    def clear(self, now: float) -> None:
        """Delete everything under one revision."""
        now = self.begin(now)
        self._delete(now, [self._plan_delete(key, now, None, "clear") for key in self.timelines])

    def _delete(self, now: float, plans: list[list[Record]]) -> int:
        self._commit(now, tuple(record for plan in plans for record in plan))
        deleted = sum(any(record.value is CANCELLED or record.previous is not MISSING for record in plan) for plan in plans)
        self.deletes += deleted
        return deleted

    def unschedule(self, now: float, key: Any, timestamp: Timestamp | None = None) -> int:
        """Call off what is scheduled for a key (at one timestamp, or all); returns how many timestamps that were."""
        now = self.begin(now)
        only = None if timestamp is None else seconds(timestamp)
        records = [record for record in self._plan_unschedule(key, now, now, "unschedule") if only in (None, record[4])]
        self._commit(now, tuple(records))
        return len(records)

    def erase(self, now: float, key: Any) -> int:
        """Remove all values of a key for good; returns how many versions that were."""
        now = self.begin(now)
        timeline = self.timelines.get(key)
        if timeline is None or self._erased.get(key) == timeline.changed:
            return 0
        removed = len(timeline)
        self._commit(now, (Record("erase", key, MISSING, MISSING, now, NEVER),))
        self.deletes += 1
        return removed

    # -- commands: several keys, and back in time ----------------------------------------------------------------------

    def apply(
        self, now: float, base: View, writes: list[tuple[Any, ...]], keys: Iterable[Any], prefixes: Iterable[str | None]
    ) -> int:
        """Commit a transaction's writes, if nothing it read has changed since its base view.

        Args:
            now: The instant.
            base: What the transaction read from.
            writes: ``("put", key, value, timestamp, ttl)`` and ``("delete", key, timestamp)``, in order.
            keys: The keys it read.
            prefixes: The prefixes it listed; None stands for all keys.
        """
        now = self.begin(now)
        conflicts = [key for key in keys if self._moved(key, base, now)]
        listed = list(prefixes)
        if listed:
            conflicts += [
                key
                for key in self.changed_since(base.revision, activations=True)
                if any(prefix is None or (isinstance(key, str) and key.startswith(prefix)) for prefix in listed)
            ]
        if conflicts:
            self._conflict(f"the transaction read {conflicts[0]!r}, which has changed meanwhile; retry it", conflicts, now)
        plan: dict[Any, dict[float, Record]] = {}  # the last write at one timestamp counts
        for verb, key, *arguments in writes:
            own = plan.setdefault(key, {})
            if verb == "put":
                value, timestamp, ttl = arguments
                when = now if timestamp is None else seconds(timestamp)
                expires_at = NEVER if ttl is None else max(now, when) + duration(ttl)
                own[when] = self._plan(key, value, when, expires_at)
                self.writes += 1
            else:
                self._plan_own_delete(own, key, now, arguments[0])
                self.deletes += 1
        return self._commit(now, tuple(record for own in plan.values() for record in own.values()))

    def _plan_own_delete(self, own: dict[float, Record], key: Any, now: float, timestamp: Timestamp | None) -> None:
        """Add a delete to what a transaction has planned for a key, after whose writes it comes."""
        when = now if timestamp is None else seconds(timestamp)
        for at in [at for at in own if at == when or at > max(now, when)]:
            del own[at]
        records = self._plan_delete(key, now, timestamp)
        if self._planned(own, key, when) and not any(record.timestamp == when for record in records):
            records.append(Record("delete", key, MISSING, MISSING, when, NEVER))
        own |= {record.timestamp: record for record in records}

    def _planned(self, own: dict[float, Record], key: Any, when: float) -> bool:
        """Whether what a transaction wrote so far would make a key hold a value at a timestamp."""
        newest = max((at for at in own if at <= when), default=None)
        timeline = self.timelines.get(key)
        entry = None if timeline is None else timeline.find(when, self.revision)
        return (
            newest is not None
            and own[newest].value is not MISSING
            and own[newest].value is not CANCELLED
            and (entry is None or newest >= entry.timestamp)
        )

    def rollback(self, now: float, revision: int, view: View | None = None) -> int:
        """Commit whatever makes the map behave as if nothing had been committed since a revision."""
        now = self.begin(now)
        self.check_revision(revision)
        return self._commit(now, tuple(rewind.rollback(self, now, revision, view)))

    def undo(self, now: float, revision: int) -> int:
        """Commit the inverse of one commit."""
        now = self.begin(now)
        self.check_revision(revision)
        return self._commit(now, tuple(rewind.undo(self, now, {revision})))

    def undo_block(self, now: float, revisions: set[int]) -> int:
        """Commit the inverse of the commits of one block, all or nothing."""
        now = self.begin(now)
        return self._commit(now, tuple(rewind.undo(self, now, revisions)))

    def import_commit(self, now: float, changes: list[tuple[Any, Any, float, float]]) -> int:
        """Commit ``(key, value, timestamp, expires_at)`` as they are, under one revision; of equal ones the last counts."""
        now = self.begin(now)
        plan = {
            (key, timestamp): self._plan(
                key,
                value,
                timestamp,
                expires_at,
                "delete" if value is MISSING else "unschedule" if value is CANCELLED else "put",
            )
            for key, value, timestamp, expires_at in changes
        }
        self.writes += len(plan)
        return self._commit(now, tuple(plan.values()))

    def take_over(self, now: float, theirs: list[tuple[Any, list[Entry]]], overwrite: bool) -> int:
        """Merge another map's entries: as a union of histories, or its present values over ours (one entry a key)."""
        now = self.begin(now)
        records = [
            record
            for key, entries in theirs
            for entry in entries
            if (record := self._plan_take_over(key, entry, now, overwrite=overwrite)) is not None
        ]
        self.writes += len(records)
        return self._commit(now, tuple(records))

    def put_expected(self, now: float, chosen: list[tuple[Any, Any, float, Entry | None]]) -> int:
        """Commit ``(key, value, expires_at, entry that must still be in force)`` under one revision."""
        now = self.begin(now)
        for key, _, _, expected in chosen:
            self._check_conditions(now, key, None, if_absent=False, expected=expected)
        self.writes += len(chosen)
        return self._commit(
            now, tuple(self._plan(key, value, now, expires_at, "merge") for key, value, expires_at, _ in chosen)
        )

    # -- commands: time and housekeeping -------------------------------------------------------------------------------

    def begin(self, now: float) -> float:
        """Start a turn: now, never before the newest commit, with everything that fell due by then committed."""
        if self._open is not None:
            self._recover()
        now = max(now, self.instant)
        if self.deadlines.next_due <= now:
            self._settle(now)
        return now

    def clean_expired_keys(self, now: float) -> int:
        """Commit what fell due; returns how many keys expired since the last call."""
        self.begin(now)
        expired, self.expired = self.expired, 0
        return expired

    def pin(self, now: float, timestamp: float | None = None, revision: int | None = None) -> View:
        """A view that no pruning reaches while somebody holds it. O(1)."""
        view = self.view(self.begin(now), timestamp, revision)
        self._pins.add(view)
        return view

    def count(self, now: float) -> int:
        """How many keys are present. O(1)."""
        self.begin(now)
        return len(self.recency)

    def latest_keys(self, now: float, n: int) -> list[tuple[Any, float, Any]]:
        """The n present keys with the newest timestamps, newest first: ``(key, timestamp, value)``."""
        now = self.begin(now)
        found = []
        for key in self.recency.top(n, lambda key: self.in_force(key, now)):
            entry = self.timelines[key].find(now, self.revision)
            if entry is not None:
                found.append((key, entry.timestamp, release(entry.value)))
        return found

    def prune(self, now: float, keys: Iterable[Any] | None, keep_last: int | None, older_than: float | None) -> int:
        """Forget old versions of some keys (None: all); returns how many."""
        now = self.begin(now)
        if keys is None:
            keys = list(self.timelines)
        return sum(self._prune(key, now, keep_last, older_than) for key in keys)

    # -- planning ------------------------------------------------------------------------------------------------------

    def held(self, key: Any, timestamp: float) -> Any:
        """The kept value in force at a timestamp as far as is known now, or MISSING (also where pruned)."""
        if (timeline := self.timelines.get(key)) is None:
            return MISSING
        try:
            entry = timeline.find(timestamp, self.revision)
        except Pruned:
            return MISSING
        return entry.value if entry is not None and entry.holds(timestamp) else MISSING

    def _plan(self, key: Any, value: Any, timestamp: float, expires_at: float, kind: Kind = "put") -> Record:
        timeline = self.timelines.get(key)
        if timeline is None:
            previous = MISSING
        elif timestamp >= self.instant and timeline.settled is not UNSETTLED:
            previous = timeline.settled
        else:
            if timeline.floor is not None and timestamp < timeline.timestamps[timeline.start]:
                raise compacted(key, timeline)
            previous = self.held(key, timestamp)
        return Record(kind, key, value, previous, timestamp, expires_at)

    def _plan_delete(self, key: Any, now: float, timestamp: Timestamp | None, kind: Kind = "delete") -> list[Record]:
        """A tombstone, and cancellations of what is scheduled later.

        What is missing now needs no tombstone. A dated one is written even where nothing is known yet: what it deletes
        may be learned later.
        """
        when = now if timestamp is None else seconds(timestamp)
        records = self._plan_unschedule(key, now, max(now, when), kind)
        tombstone = self._plan(key, MISSING, when, NEVER, kind)
        if tombstone.previous is not MISSING or (timestamp is not None and not self._ends_at(key, when)):
            records.insert(0, tombstone)
        return records

    def _ends_at(self, key: Any, timestamp: float) -> bool:
        timeline = self.timelines.get(key)
        entry = None if timeline is None else timeline.find(timestamp, self.revision)
        return entry is not None and entry.value is MISSING and entry.timestamp == timestamp

    def _plan_unschedule(self, key: Any, now: float, after: float, kind: Kind) -> list[Record]:
        timeline = self.timelines.get(key)
        if timeline is None or timeline.timestamps[-1] <= now:
            return []
        ahead = dict.fromkeys(entry.timestamp for entry in timeline.standing(self.revision, after=after))
        return [Record(kind, key, CANCELLED, self.held(key, when), when, NEVER) for when in ahead]

    def _plan_take_over(self, key: Any, entry: Entry, now: float, *, overwrite: bool) -> Record | None:
        timeline = self.timelines.get(key)
        if overwrite:
            ours = None if timeline is None else timeline.find(now, self.revision)
            if ours is not None and ours.holds(now) and ours.equals(entry):
                return None
            return self._plan(key, entry.value, now, entry.expires_at, "merge")
        if timeline is not None:
            if timeline.floor is not None and entry.timestamp < timeline.timestamps[timeline.start]:
                return None
            if any(
                ours.equals(entry)
                for ours in timeline.standing(self.revision, entry.timestamp, nextafter(entry.timestamp, -NEVER))
            ):
                return None
        return self._plan(key, entry.value, entry.timestamp, entry.expires_at, "merge")

    def _check_conditions(self, now: float, key: Any, if_revision: int | None, if_absent: bool, expected: Any) -> None:
        if if_revision is not None:
            if isinstance(if_revision, bool) or not isinstance(if_revision, int):
                raise ChronoMapTypeError(f"if_revision is an int, got {type(if_revision).__name__}")
            if (changed := self.changed(key)) != if_revision:
                self._conflict(f"key {key!r} was last changed by revision {changed}, not {if_revision}", [key], now)
        if if_absent and self.held(key, now) is not MISSING:
            self._conflict(f"key {key!r} already holds a value", [key], now)
        if expected is not ANY and self.in_force(key, now) != expected:
            self._conflict(f"key {key!r} has changed meanwhile", [key], now)

    def in_force(self, key: Any, now: float) -> tuple[float, int] | None:
        """The timestamp and revision of the version that holds now: its identity. None if the key is missing."""
        timeline = self.timelines.get(key)
        entry = None if timeline is None else timeline.find(now, self.revision)
        return entry[:2] if entry is not None and entry.holds(now) else None

    def _moved(self, key: Any, base: View, now: float) -> bool:
        if self.changed(key) > base.revision:
            return True
        before = base.entry(key)
        identity = before[:2] if before is not None and before.holds(base.timestamp) else None
        return self.in_force(key, now) != identity

    def _conflict(self, message: str, keys: list[Any], now: float) -> None:
        self.conflicts += 1
        first = keys[0]
        raise ConflictError(message, keys=tuple(keys), version=self.view(now).version(first), revision=self.changed(first))

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

    # -- applying ------------------------------------------------------------------------------------------------------

    def _commit(self, now: float, records: tuple[tuple[Any, ...], ...]) -> int:
        """Apply the records under one new revision and return it; without records there is nothing to commit."""
        if not records:
            return self.revision
        revision = self.revision + 1
        timelines = self.timelines
        commit = self._open = (revision, now, records)
        try:
            for kind, key, value, _, timestamp, expires_at in records:
                timeline = timelines.get(key)
                if timeline is None:
                    timeline = timelines[key] = Timeline()
                timeline.settled = UNSETTLED
                if kind != "activate":
                    grown = timeline.add(timestamp, revision, value, expires_at)
                    grown.changed = revision
                    if grown is not timeline:
                        timelines[key] = grown
            self.instants.append(now)
            self.instant = now
            self.feed.append(commit)
            self.revision = revision
            self._finish(now, revision, records)
        except BaseException:
            self._recover()
            raise
        self._open = None
        return revision

    def _finish(self, now: float, revision: int, records: tuple[tuple[Any, ...], ...]) -> None:
        """Bring the indexes up to date with a published commit. May be repeated."""
        for kind, key, value, _, timestamp, expires_at in records:
            if kind == "erase":
                self._scrub(key, now, revision)
            timeline = self.timelines[key]
            timeline.settle(now, revision)
            if timeline.settled is not UNSETTLED and timeline.settled is timeline.values[-1]:
                if timeline.settled is MISSING:
                    self.recency.remove(key)
                else:
                    self.recency.place(key, timeline.timestamps[-1], timeline.revisions[-1])
            else:
                self._place(key, timeline, now)
            if kind != "activate" and value is not CANCELLED:
                self._promise(key, timestamp, revision, expires_at, now)
            if self.retention is not None:
                self._prune(key, now, self.retention.max_versions, self.retention.oldest(now))
        if len(self.deadlines) >= SWEEP_FROM:
            self.deadlines.sweep(self._stands)

    def _scrub(self, key: Any, now: float, revision: int) -> None:
        """Leave nothing of an erased key but a tombstone, here, in the feed and in every snapshot."""
        empty = Timeline().add(now, revision, MISSING, NEVER)
        empty.changed = revision
        self.timelines[key] = empty
        for view in self._pins:
            view.kept[key] = empty
        self.feed.erase(key)
        self._erased[key] = revision

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
        """After an interruption: finish the open commit if it was published, else leave nothing of it."""
        commit = self._open
        if commit is None:
            return
        records = as_commit(commit).records
        if commit[0] == self.revision:
            self._finish(self.instant, self.revision, records)
            self._open = None
            return
        self.feed.cut_after(self.revision)
        del self.instants[self.revision :]
        for key in [record.key for record in records]:
            if (timeline := self.timelines.get(key)) is None:
                continue
            rest = timeline.without(self.revision + 1)
            if not len(rest) and rest.floor is None:
                del self.timelines[key]
                continue
            self.timelines[key] = rest
            rest.settle(self.instant, self.revision)
        self._open = None

    def _settle(self, now: float) -> None:
        """Commit what fell due by now, in due order."""
        promises = self.deadlines.take(now)
        try:
            records = []
            for promise in promises:
                if (entry := self._standing(promise)) is not None:
                    kind, due = promise.kind, promise.due
                    if kind == "expire":
                        records.append(Record("expire", promise.key, MISSING, entry.value, due, NEVER))
                    else:
                        before = self.held(promise.key, nextafter(due, -NEVER))
                        records.append(Record("activate", promise.key, entry.value, before, due, entry.expires_at))
            self._commit(now, tuple(records))
        except BaseException:
            if self.deadlines.next_due > now:
                self.deadlines.give_back(promises)
            raise
        expired = sum(record.kind == "expire" for record in records)
        self.expired += expired
        self.expiries += expired

    def _standing(self, promise: Promise) -> Entry | None:
        """The entry a promise is about, if it is still the one that decides at the due time."""
        if (timeline := self.timelines.get(promise.key)) is None:
            return None
        try:
            entry = timeline.find(promise.due, self.revision)
        except Pruned:
            return None
        if entry is not None and entry.timestamp == promise.timestamp and entry.revision == promise.revision:
            return entry
        return None

    def _stands(self, promise: Promise) -> bool:
        return self._standing(promise) is not None

    def _prune(self, key: Any, now: float, keep_last: int | None, older_than: float | None) -> int:
        timeline = self.timelines.get(key)
        if timeline is None:
            return 0
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
        self.timelines[key] = timeline.prune(start)
        return start - before

    def restore(self, key: Any, entries: Iterable[Entry], floor: tuple[float, int] | None) -> None:
        """Load one key's entries, sorted, from a file into a store that nobody uses yet."""
        timeline = Timeline()
        for timestamp, revision, value, expires_at in entries:
            timeline = timeline.add(timestamp, revision, value, expires_at)
            if value is not CANCELLED:
                self._promise(key, timestamp, revision, expires_at, self.instant)
        revisions = timeline.revisions
        timeline.changed = max(revisions)
        timeline.ordered = all(one <= two for one, two in pairwise(revisions))
        timeline.floor = floor
        self.timelines[key] = timeline

    def restored(self, instants: Iterable[float], revision: int) -> None:
        """End a load: set the revision and bring the indexes up to date."""
        self.instants = array("d", instants)
        self.revision = revision
        self.feed = Feed(revision)
        for key, timeline in self.timelines.items():
            timeline.settle(self.instant, revision)
            self._place(key, timeline, self.instant)

    def check(self, now: float) -> None:
        """Verify every invariant (slow; for tests)."""
        assert self._open is None
        assert len(self.instants) == self.revision
        assert list(self.instants) == sorted(self.instants)
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
