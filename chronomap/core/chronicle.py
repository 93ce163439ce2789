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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import nextafter
from typing import Any, Final

from chronomap.core.change import NOBODY, Batch, PlainCommit, as_commit
from chronomap.core.expiry import SWEEP_FROM, Promise
from chronomap.core.feed import RETAINED_CHANGES
from chronomap.core.holdings import Holdings
from chronomap.core.ledger import ORDINARY, Note
from chronomap.core.meta import NOTHING, Meta
from chronomap.core.records import CANCELLED, NEVER, Commit, Entry, Record, make
from chronomap.core.retention import Retention
from chronomap.core.timeline import UNSETTLED, WIDE, WIDE_FROM, Series, Single, Timeline, begun
from chronomap.core.turns import only_reads
from chronomap.core.values import MISSING
from chronomap.core.view import View

FIRST: Final = frozenset((0,))
"""The places of a commit's only record."""

FOLD_EVERY: Final = 1024
"""Plain puts after which the indexes catch up, so that nobody who looks waits for more."""


def _never(_key: Any, _value: Any) -> bool:
    return False


class Chronicle(Holdings):
    """The holdings of one map, and how commits enter them. What takes ``now`` belongs to the owner."""

    def __init__(self, retention: Retention | None = None, retained_changes: int = RETAINED_CHANGES) -> None:
        super().__init__(retention, retained_changes)
        self._meta: Meta = NOTHING  # what the command that is being carried out has to say
        self._open: PlainCommit | None = None  # while it is being applied
        self._publishing: list[PlainCommit] = []  # while the indexes are brought up to date with it
        self._admit: Callable[[Iterable[Record]], None] | None = None  # refuses what the journal could not keep
        self._sure: Callable[[Any, Any], bool] = _never  # whether a key and a value need not be asked about
        self._narrow = True  # revisions still fit into half the room
        self._taken: list[Promise] = []  # the promises that have been looked at for the group

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
        instants = self.ledger.instants
        if not (number := self.revision - len(instants)):
            return
        if number == 1 and type(last := self.feed.tail[-1]) is not tuple:  # as after each commit that is no plain put
            instants.append(last[1])
        else:
            self._fold(self.feed.newest(number))
        if self._narrow and self.revision >= WIDE_FROM:
            self._widen()
        self.feed.trim()

    def _fold(self, behind: list[PlainCommit]) -> None:
        instants = [commit[1] for commit in behind]
        if not self.gathers:  # there `_finish` does the rest
            while behind and type(behind[-1]) is not tuple:  # at the end: whatever is not a plain put has this done at once
                behind.pop()
            if behind:
                last = behind[-1]
                self.recency.arrive([commit[2] for commit in behind], last[1], last[0])
            self.plain_puts += len(behind)
        self.ledger.instants.extend(instants)

    def _widen(self) -> None:
        """Make room in all timelines for longer revisions. O(versions), once in the life of a map. May be repeated."""
        Series.code = WIDE
        for key, timeline in list(self.timelines.items()):
            if not isinstance(timeline, Single):
                self.timelines[key] = timeline.widened()
        self._narrow = False

    # -- applying ------------------------------------------------------------------------------------------------------

    def _commit(self, now: float, records: tuple[Record, ...]) -> int:
        """Apply a command's records under one new revision and return it; without records there is nothing to commit."""
        if not records:
            return self.head
        short = len(records) == 1 and self.retention is None
        return (short and self._append(now, records, self._meta)) or self._apply(now, records, self._meta)

    def _apply(self, now: float, records: tuple[Record, ...], meta: Meta) -> int:
        if self._admit is not None:
            self._admit(records)
        revision = self.head + 1
        timelines = self.timelines
        commit = self._open = make(Commit, (revision, now, records, meta, NOBODY))
        try:
            late = False
            for kind, key, value, _, timestamp, expires_at in records:
                timeline = timelines.get(key)
                late = late or timestamp < now
                if timeline is None:
                    timelines[key] = begun(now, timestamp, revision, value, expires_at)
                    continue
                timeline.settled = UNSETTLED
                if kind != "activate":
                    grown = timeline.add(timestamp, revision, value, expires_at)
                    grown.changed = revision
                    if grown is not timeline:
                        timelines[key] = grown
                    if value is CANCELLED and grown.partial:
                        self._entry_as_of(key, now, revision)  # what shows through must be there when the commit is published
            if late and (in_force := self._late_in_force(now, revision, records)):
                commit = self._open = commit._replace(in_force=in_force)
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

    def _append(self, now: float, records: tuple[Record, ...], meta: Meta) -> int:
        """``_apply`` of a record that comes last in its timeline and is not dated ahead; 0, and nothing done, if it is no such.

        Written out as ``put_now`` is, since most commands come to that: ttls, deletes, updates, measurements in their order.
        """
        kind, key, value, _, timestamp, expires_at = records[0]
        timeline: Any = self.timelines.get(key)
        last = timestamp <= now and (timeline is None or timeline.timestamps[-1] <= timestamp)
        if not last or value is CANCELLED or kind in {"activate", "erase"}:
            return 0
        if self._admit is not None:
            self._admit(records)
        revision = self.head + 1
        commit = self._open = make(Commit, (revision, now, records, meta, NOBODY if timestamp == now else FIRST))
        try:
            if timeline is None:
                timeline = self.timelines[key] = begun(now, timestamp, revision, value, expires_at)
            else:
                timeline.settled = UNSETTLED
                timeline = self.timelines[key] = timeline.add(timestamp, revision, value, expires_at)
                timeline.changed = revision
            if meta or kind not in ORDINARY:
                self._write_down(commit)
            self.instant = now
            self.feed.tail.append(commit)
            if not self.gathers:
                self._show(revision, records[0])
            else:
                self._promise(key, timestamp, revision, expires_at, now)
        except BaseException:
            self._recover()
            raise
        self._open = None
        return revision

    def _show(self, revision: int, record: Record) -> None:
        """Publish a commit of one record, which decides what its key holds now, and bring the indexes up to date with it."""
        _, key, value, _, timestamp, expires_at = record
        self.revision = revision
        self.fold()
        timeline = self.timelines[key]  # only now: it may have been made anew, with longer revisions
        timeline.since = revision
        now = self.instant
        if expires_at == NEVER:
            timeline.settled = value
        else:
            self._promise(key, timestamp, revision, expires_at, now)
            self.deadlines.sweep(self._stands)
        if value is MISSING or expires_at <= now:
            self.recency.remove(key)
        elif timestamp == now:
            self.recency.arrive([key], now, revision)
        else:
            self.recency.place(key, timestamp, revision)
        if self.interest.waiting:
            self.interest.touch(revision, (key,))

    def gather(self, admit: Callable[[Iterable[Record]], None], sure: Callable[[Any, Any], bool] | None = None) -> None:
        """From now on only apply commits, if they are admitted, and leave it to somebody else to publish them.

        Args:
            admit: Raises for records that the journal could not keep.
            sure: Tells of a key and a value, at once, that it could keep a put of them; if not, ``admit`` is asked.
        """
        self._admit = admit
        self._sure = sure or _never
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
            for place, (key, known, value) in enumerate(zip(keys, found, values, strict=True)):
                if known is None:
                    found[place] = timelines[key] = Single(now, revision, value)
                    continue
                timeline = known
                timeline.settled = UNSETTLED
                if timeline.expiries:
                    timeline = found[place] = timelines[key] = known.with_room()
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

    def gather_put(self, now: float, key: Any, value: Any) -> int:
        """``Store.put_now`` for when commits are gathered, and nothing is retained by rule; written out, as most are such."""
        if self._open is not None or now < self.instant or self.deadlines.next_due <= now:
            now = self.begin(now)
        timeline: Any = self.timelines.get(key)
        if timeline is None:
            previous = MISSING
        elif timeline.timestamps[-1] > now or (timeline.expiries is not None and type(timeline) is not Single):
            record = Record("put", key, value, self.held(key, now), now, NEVER)
            revision = self._apply(now, (record,), self._meta)
            self.writes += 1
            return revision
        elif (previous := timeline.values[-1]) is CANCELLED:
            previous = self.held(key, now)
        tail = self.feed.tail
        revision = (tail[-1][0] if tail else self.feed.head) + 1
        if self._sure(key, value) and not self._meta:
            commit = self._open = (revision, now, key, value, previous)
        else:
            records = (make(Record, ("put", key, value, previous, now, NEVER)),)
            self._admit(records)  # type: ignore[misc]  # there is one
            commit = self._open = make(Commit, (revision, now, records, self._meta, NOBODY))
        try:
            if timeline is None:
                self.timelines[key] = Single(now, revision, value)
            else:
                timeline.settled = UNSETTLED
                if timeline.expiries is not None:  # a single version: now there are two
                    timeline = self.timelines[key] = timeline.with_room()
                timeline.values.append(value)
                timeline.revisions.append(revision)
                timeline.timestamps.append(now)
                timeline.changed = revision
            self.instant = now
            tail.append(commit)
        except BaseException:
            self._recover()
            raise
        self._open = None
        self.writes += 1
        return revision

    def group(self) -> list[PlainCommit]:
        """The commits that have been applied and not published."""
        return self.feed.newest(self.head - self.revision)

    def publish(self) -> list[PlainCommit]:
        """Show everybody the group, which the journal has now."""
        self._publishing = self.group()
        if self._publishing:
            self._falling = NEVER
            self._taken = []
            self.revision = self._publishing[-1][0]
        return self._end_publishing()

    def _end_publishing(self) -> list[PlainCommit]:
        if group := self._publishing:
            self._finish(group)
        self._publishing = []
        return group

    def settle_group(self) -> None:
        """After a break-down in one of these two: end a publication that has begun, else withdraw."""
        if self._publishing and self.revision == self._publishing[-1][0]:
            self._end_publishing()
        else:
            self.withdraw()

    def withdraw(self) -> list[Commit]:
        """Leave nothing of the group, which the journal could not take; only its instant stays."""
        group = [*map(as_commit, self.group())]
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
        if kind in ORDINARY and not commit.meta:  # as most are
            return
        activated: list[tuple[Any, float, int]] = []
        if kind in ("expire", "activate"):
            kind = "expire"
            for record in commit.records:
                if record.kind == "activate":
                    entry = self.timelines[record.key].find(record.timestamp, commit.revision)
                    activated.append((record.key, record.timestamp, 0 if entry is None else entry.revision))
        note = Note(None if kind in ORDINARY else kind, commit.meta, tuple(activated))
        self.ledger.write_down(commit.revision, note, len(commit.records) - len(activated))

    def _finish(self, commits: Sequence[PlainCommit]) -> None:
        """Bring the indexes up to date with commits that were published together. May be repeated."""
        self.fold()
        simple = self.retention is None and self.resident is None
        if simple and {*map(type, commits)} == {tuple}:
            self._finish_puts(commits)
        else:
            self._finish_all([*map(as_commit, commits)], simple=simple)
        if len(self.deadlines) >= SWEEP_FROM:
            self.deadlines.sweep(self._stands)

    def _finish_puts(self, commits: Sequence[PlainCommit]) -> None:
        newest, now = commits[-1][:2]
        keys = [commit[2] for commit in commits]
        for timeline in map(self.timelines.__getitem__, keys):
            if isinstance(timeline, Single):
                timeline.settled = timeline.value
            else:
                timeline.since = newest
                timeline.settled = timeline.values[-1]
        self.recency.arrive(keys, now, newest)
        if self.interest.waiting:
            for commit in commits:
                self.interest.touch(commit[0], (commit[2],))

    def _finish_all(self, commits: list[Commit], *, simple: bool) -> None:
        last = commits[-1]
        arrived: list[Any] = []  # the keys of plain puts, which most are: they are newer than all others
        for commit in commits:
            revision, instant, records, _, _ = commit
            if simple and len(records) == 1:
                kind, key, _, _, timestamp, expires_at = records[0]
                promised = expires_at == NEVER or (self.gathers and expires_at > last.instant)
                if kind == "put" and timestamp == instant and promised:
                    self.timelines[key].settle(last.instant, last.revision)
                    arrived.append(key)
                    if self.interest.waiting:
                        self.interest.touch(revision, (key,))
                    continue
            if arrived:
                self.recency.arrive(arrived, instant, revision - 1)
                arrived = []
            self._finish_one(commit, last.instant)
        if arrived:
            self.recency.arrive(arrived, last.instant, last.revision)

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
        empty = begun(now, now, revision, MISSING, NEVER)
        timeline = self.timelines[key]
        stamps = timeline.stamps(timeline.start, timeline.size)
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
            if value is CANCELLED:
                self._promise_again(key, timestamp)
            elif kind != "activate":
                self._promise(key, timestamp, commit.revision, expires_at, commit.instant)

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
        written: dict[Any, int] = {}
        if any(timeline.floor is not None for commit in commits for timeline in self._written_by(commit)):
            written = self._newest_writes()
        for commit in commits:
            self.ledger.strike(commit.revision)
            for key in [record.key for record in commit.records]:
                if (timeline := self.timelines.get(key)) is None:
                    continue
                rest = timeline.upto(before)
                rest.changed = max(rest.changed, written.get(key, 0))  # by a version that has been pruned since
                if not len(rest) and rest.floor is None:
                    del self.timelines[key]
                    continue
                self.timelines[key] = rest
                if before == self.revision:
                    rest.settle(self.instant, before)

    def _written_by(self, commit: Commit) -> Iterator[Timeline]:
        return (self.timelines[record.key] for record in commit.records if record.key in self.timelines)

    def _newest_writes(self) -> dict[Any, int]:
        """The newest revision that wrote a version of each key, as far as the feed reaches back."""
        commits = self.feed.since(self.feed.floor)
        return {record.key: commit.revision for commit in commits for record in commit.records if record.kind != "activate"}

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
        told: set[tuple[Any, ...]] = set()  # an interrupted commit may have made its promises twice
        for promise in promises:
            if promise.kind == "age" or promise[2:] in told or (entry := self._standing(promise)) is None:
                continue
            told.add(promise[2:])
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
        if promise.kind == "age":
            return True
        if (timeline := self.timelines.get(promise.key)) is not None and timeline.timestamps[-1] <= promise.due:
            stamp = timeline.timestamps[-1], timeline.revisions[-1]
            if stamp == promise[-2:]:
                return True
            if timeline.values[-1] is not CANCELLED:
                return False  # what is last decides; most promises that are swept away are told by that
        return self._standing(promise) is not None

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
