"""The store: the commands. Each plans its changes as a list of records, then has them committed under one revision.

A command is called in a turn with the present instant first. Planning reads and checks and touches nothing, so an error
leaves everything as it was; how the records enter the timelines, and how readers are kept right meanwhile, is the
chronicle's (``core/chronicle.py``).

Example: ``put(100.0, "a", 1)`` on an empty store commits ``Record("put", "a", 1, previous=MISSING, 100, NEVER)`` as
revision 1 and returns 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest
from itertools import chain
from typing import Any, Final

from chronomap.core import plan, rewind
from chronomap.core.chronicle import FOLD_EVERY, Chronicle
from chronomap.core.feed import RETAINED_CHANGES
from chronomap.core.meta import NOTHING, Meta, joined
from chronomap.core.plan import ANY
from chronomap.core.records import CANCELLED, NEVER, Commit, Entry, Record
from chronomap.core.retention import Retention
from chronomap.core.timeline import UNSETTLED
from chronomap.core.timestamps import Timestamp, seconds
from chronomap.core.turns import only_reads
from chronomap.core.values import MISSING
from chronomap.core.view import View
from chronomap.errors import ChronoMapValueError, ConflictError, NotResidentError

REMEMBERED_REQUESTS: Final = 10_000
"""How many request ids are remembered: a retry that comes after as many other requests is applied again."""


class Store(Chronicle):
    """A map's contents and its commands."""

    def __init__(self, retention: Retention | None = None, retained_changes: int = RETAINED_CHANGES) -> None:
        super().__init__(retention, retained_changes)
        self.reads = self.deletes = self.snapshots = self.conflicts = 0
        self._requests: dict[Any, tuple[Any, int]] = {}

    def annotated(self, now: float, meta: Meta, operation: Callable[..., Any], *arguments: Any) -> Any:
        """Carry out another command, whose commit is to be kept with a ``meta``."""
        self._meta = meta
        try:
            return operation(now, *arguments)
        finally:
            self._meta = NOTHING

    # -- puts ----------------------------------------------------------------------------------------------------------

    def put(  # noqa: PLR0917 - commands get their arguments by position
        self,
        now: float,
        key: Any,
        value: Any,
        timestamp: Timestamp | None = None,
        ttl: float | None = None,
        if_revision: int | None = None,
        if_absent: bool = False,
        if_changed: bool = False,
        request_id: Any = None,
    ) -> int:
        """Commit one version, if the conditions are met."""
        now = self.begin(now)
        if request_id is not None and (answered := self._requests.get(request_id)) is not None:
            if answered[0] != key and answered[0] is not MISSING:
                raise ChronoMapValueError(f"request_id {request_id!r} was used for another key; make a new one per write")
            return answered[1]
        if if_revision is not None or if_absent:
            self._check_conditions(now, key, if_revision, if_absent, ANY)
        when = now if timestamp is None else seconds(timestamp)
        record = plan.version(self, key, value, when, plan.expiry(now, when, ttl))
        records = () if if_changed and plan.unchanged(self, record) else (record,)
        revision = self._commit(now, records) if request_id is None else self._commit_once(now, key, records, request_id)
        self.writes += len(records)
        return revision

    def put_if(self, now: float, key: Any, value: Any, ttl: float | None, expected: Any) -> int:
        """Commit a version dated now, if the version in force is still the one of that identity (None: none)."""
        now = self.begin(now)
        self._check_conditions(now, key, None, if_absent=False, expected=expected)
        revision = self._commit(now, (plan.version(self, key, value, now, plan.expiry(now, now, ttl)),))
        self.writes += 1
        return revision

    def remember_requests(self, requests: Mapping[Any, tuple[Any, int]]) -> None:
        """Those of an earlier life of the map, oldest first: a retry is answered, not applied again.

        The key is MISSING where what was put has been erased or pruned since: then any key's retry is answered.
        """
        newest = list(requests.items())[-REMEMBERED_REQUESTS:]
        self._requests.update(newest)

    def _commit_once(self, now: float, key: Any, records: tuple[Record, ...], request_id: Any) -> int:
        """Commit and remember the request; before, so that an interruption cannot come between."""
        revision = self.head + len(records)
        self._requests[request_id] = (key, revision)
        self._meta = joined(self._meta, (("request_id", request_id),))
        try:
            self._commit(now, records)
        finally:
            self._meta = NOTHING
            if revision > self.head:
                del self._requests[request_id]
        if len(self._requests) > REMEMBERED_REQUESTS:
            del self._requests[next(iter(self._requests))]
        return revision

    def put_now(self, now: float, key: Any, value: Any) -> int:
        """``put`` with nothing but a key and a value, dated now: what most commands are.

        The same steps as ``_apply`` and ``_finish``, written out for one record that goes to the end of a settled
        timeline, and without the indexes that ``fold`` brings up to date; that makes it four times as fast. Whatever is
        out of the ordinary takes the long way.
        """
        if self._open is not None or now < self.instant or self.deadlines.next_due <= now:
            now = self.begin(now)
        timeline: Any = self.timelines.get(key)
        if timeline is None or (previous := timeline.settled) is UNSETTLED or self.elaborate:
            if self.gathers and self.retention is None:
                return self.gather_put(now, key, value)
            revision = self._commit(now, (plan.version(self, key, value, now, NEVER),))
            self.writes += 1
            return revision
        revision = self.revision + 1
        commit = self._open = (revision, now, key, value, previous)
        try:
            timeline.settled = UNSETTLED
            if timeline.expiries:
                timeline = self.timelines[key] = timeline.with_room()
            timeline.values.append(value)
            timeline.revisions.append(revision)
            timeline.timestamps.append(now)
            timeline.changed = timeline.since = revision
            self.instant = now
            self.feed.tail.append(commit)
            self.revision = revision
            timeline.settled = value
            if not revision % FOLD_EVERY:
                self.fold()
            if self.interest.waiting:
                self.interest.touch(revision, (key,))
        except BaseException:
            self._recover()
            raise
        self._open = None
        return revision

    def put_many(
        self,
        now: float,
        items: Mapping[Any, Any],
        timestamp: Timestamp | None = None,
        ttl: float | None = None,
        if_changed: bool = False,
    ) -> int:
        """Commit a version of each key under one revision."""
        now = self.begin(now)
        plain = timestamp is None and ttl is None and not if_changed and not self.elaborate and not self._meta
        if plain and items and (revision := self._put_all(now, items)):
            self.writes += len(items)
            return revision
        when = now if timestamp is None else seconds(timestamp)
        expires_at = plan.expiry(now, when, ttl)
        records = [plan.version(self, key, value, when, expires_at) for key, value in items.items()]
        if if_changed:
            records = [record for record in records if not plan.unchanged(self, record)]
        revision = self._commit(now, tuple(records))
        self.writes += len(records)
        return revision

    def touch(self, now: float, key: Any, ttl: float | None) -> bool:
        """Commit the present value again with a new expiry; False if the key is missing."""
        now = self.begin(now)
        expires_at = plan.expiry(now, now, ttl)
        if (value := self.held(key, now)) is MISSING:
            return False
        self._commit(now, (plan.version(self, key, value, now, expires_at, "touch"),))
        self.writes += 1
        return True

    # -- deletes -------------------------------------------------------------------------------------------------------

    def delete(self, now: float, key: Any, timestamp: Timestamp | None = None, if_revision: int | None = None) -> bool:
        """Commit a tombstone and call off what is scheduled later; False if there was nothing to delete."""
        now = self.begin(now)
        if if_revision is not None:
            self._check_conditions(now, key, if_revision, if_absent=False, expected=ANY)
        return self._delete(now, [plan.delete(self, key, now, timestamp)]) == 1

    def delete_many(self, now: float, keys: Iterable[Any], timestamp: Timestamp | None = None) -> int:
        """Delete several keys under one revision; returns how many there were to delete."""
        now = self.begin(now)
        return self._delete(now, [plan.delete(self, key, now, timestamp) for key in dict.fromkeys(keys)])

    def clear(self, now: float) -> None:
        """Delete everything under one revision."""
        now = self.begin(now)
        self._delete(now, [plan.delete(self, key, now, None, "clear") for key in self.timelines])

    def _delete(self, now: float, plans: list[list[Record]]) -> int:
        self._commit(now, tuple(plans[0] if len(plans) == 1 else chain.from_iterable(plans)))
        deleted = 0
        for records in plans:
            for record in records:
                if record.value is CANCELLED or record.previous is not MISSING:
                    deleted += 1
                    break
        self.deletes += deleted
        return deleted

    def unschedule(self, now: float, key: Any, timestamp: Timestamp | None = None) -> int:
        """Call off what is scheduled for a key (at one timestamp, or all); returns how many timestamps that were."""
        now = self.begin(now)
        only = None if timestamp is None else seconds(timestamp)
        records = plan.unschedule(self, key, now, now, only=only)
        self._commit(now, tuple(records))
        return len(records)

    def erase(self, now: float, key: Any) -> int:
        """Remove all values of a key for good; returns how many versions that were."""
        now = self.begin(now)
        timeline = self.timelines.get(key)
        if timeline is None or self.erased.get(key) == timeline.changed:
            return 0
        if timeline.partial:
            raise NotResidentError(key)  # all versions are counted
        removed = len(timeline)
        self._commit(now, (Record("erase", key, MISSING, MISSING, now, NEVER),))
        self.deletes += 1
        return removed

    # -- several keys, and back in time --------------------------------------------------------------------------------

    def apply(
        self, now: float, base: View, writes: list[tuple[Any, ...]], keys: Iterable[Any], prefixes: Iterable[str | None]
    ) -> int:
        """Commit a transaction's writes, if nothing it read has changed since its base view.

        Args:
            now: The instant.
            base: What the transaction read from.
            writes: See ``plan.transaction``.
            keys: The keys it read.
            prefixes: The prefixes it listed; None stands for all keys.
        """
        now = self.begin(now)
        conflicts = [key for key in keys if plan.moved(self, key, base, now)]
        listed = list(prefixes)
        if listed:
            conflicts += [
                key
                for key in self.changed_since(base.revision, activations=True)
                if any(prefix is None or (isinstance(key, str) and key.startswith(prefix)) for prefix in listed)
            ]
        if conflicts:
            self.conflicts += 1
            message = f"the transaction read {conflicts[0]!r}, which has changed meanwhile; retry it"
            plan.conflict(self, message, conflicts, now)
        revision = self._commit(now, tuple(plan.transaction(self, now, writes)))
        deletes = sum(write[0] == "delete" for write in writes)
        self.deletes += deletes
        self.writes += len(writes) - deletes
        return revision

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
        records = {
            (key, timestamp): plan.version(
                self,
                key,
                value,
                timestamp,
                expires_at,
                "delete" if value is MISSING else "unschedule" if value is CANCELLED else "put",
            )
            for key, value, timestamp, expires_at in changes
        }
        self.writes += len(records)
        return self._commit(now, tuple(records.values()))

    def import_commits(self, now: float, waiting: deque[tuple[list[tuple[Any, Any, float, float]], Meta]]) -> None:
        """The same for several commits, each with its meta, each under a revision of its own.

        What has been committed is taken out of ``waiting``, so the command can go on where it was interrupted.
        """
        meta = self._meta
        while waiting:
            changes, self._meta = waiting[0]
            try:
                self.import_commit(now, changes)
            finally:
                self._meta = meta
            waiting.popleft()

    def take_over(self, now: float, theirs: list[tuple[Any, list[Entry]]], overwrite: bool) -> int:
        """Merge another map's entries: as a union of histories, or its present values over ours (one entry a key)."""
        now = self.begin(now)
        found = (
            plan.take_over(self, key, entry, now) if overwrite else plan.unite(self, key, entry)
            for key, entries in theirs
            for entry in entries
        )
        records = tuple(record for record in found if record is not None)
        self.writes += len(records)
        return self._commit(now, records)

    def put_expected(self, now: float, chosen: list[tuple[Any, Any, float, Entry | None]]) -> int:
        """Commit ``(key, value, expires_at, entry that must still be in force)`` under one revision."""
        now = self.begin(now)
        for key, _, _, expected in chosen:
            self._check_conditions(now, key, None, if_absent=False, expected=expected)
        self.writes += len(chosen)
        return self._commit(
            now, tuple(plan.version(self, key, value, now, expires_at, "merge") for key, value, expires_at, _ in chosen)
        )

    def _check_conditions(self, now: float, key: Any, if_revision: int | None, if_absent: bool, expected: Any) -> None:
        try:
            plan.check_conditions(self, now, key, if_revision, if_absent, expected)
        except ConflictError:
            self.conflicts += 1
            raise

    # -- housekeeping --------------------------------------------------------------------------------------------------

    def clean_expired_keys(self, now: float) -> int:
        """Commit what fell due; returns how many keys expired since the last call."""
        self.begin(now)
        expired, self.expired = self.expired, 0
        return expired

    def withdraw(self) -> list[Commit]:
        """See ``Chronicle``; a retry of one of its requests is not answered as if it had been carried out."""
        group = super().withdraw()
        self._requests = {name: answer for name, answer in self._requests.items() if answer[1] <= self.revision}
        return group

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

    @only_reads
    def count(self, now: float) -> int:
        """How many keys are present. O(1) and what ``fold`` takes; O(keys) while something due is not committed."""
        now = self.look(now)
        self.fold()
        return len(self.recency) if now < self.next_due else sum(1 for _ in self.view(now).scan())

    @only_reads
    def latest_keys(self, now: float, n: int) -> list[tuple[Any, float, Any]]:
        """The n present keys with the newest timestamps, newest first: ``(key, timestamp, kept value)``.

        O(n log m), m back-dated keys; O(keys) while something due is not committed.
        """
        now = self.look(now)
        self.fold()
        view = self.view(now)
        keys = self.recency.top(n, view.identity) if now < self.next_due else [key for key, _ in view.scan()]
        entries = [(key, entry) for key in keys if (entry := view.entry(key)) is not None]
        newest = nlargest(n, entries, key=lambda found: found[1][:2])
        return [(key, entry.timestamp, entry.value) for key, entry in newest]

    def prune(self, now: float, keys: Iterable[Any] | None, keep_last: int | None, older_than: float | None) -> int:
        """Forget old versions of some keys (None: all); returns how many."""
        now = self.begin(now)
        if keys is None:
            keys = self.timelines
        keys = list(keys)
        for key in keys:
            if (timeline := self.timelines.get(key)) is not None and timeline.partial:
                raise NotResidentError(key)  # before anything is done: with it, the command is tried again
        pruned = sum(self._prune(key, now, keep_last, older_than) for key in keys)
        if self.resident is not None:
            for key in keys:
                self._evict(key, now)
        self.cuts_wanted = bool(self.cuts)
        return pruned
