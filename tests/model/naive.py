"""A second ChronoMap, as simple and as slow as possible, to hold the real one against.

It is written from the documents alone (`docs/design.md`, "The model" and its numbered decisions) and shares no
code with the library. A key is a plain list of versions; every read filters that list and takes the greatest;
nothing is indexed, cached or remembered that could be computed. There is no clock: every call is told the
clock's reading.

Worked example (the tests repeat it)::

    m = NaiveMap()
    m.put("k", "old", now=100)                    # revision 1, timestamp 100
    m.put("k", "soon", timestamp=110, now=101)    # revision 2, scheduled
    m.put("k", "late", timestamp=90, now=102)     # revision 3, a correction of the past

    m.get("k", now=102)                    # 'old': 110 has not come yet, 90 is older than 100
    m.get("k", timestamp=95, now=102)      # 'late'
    m.get("k", timestamp=95, revision=2, now=102)   # missing: nobody knew yet
    m.get("k", timestamp=110, now=102)     # 'soon'

Numbers in comments ("decision 8") are those of `docs/design.md`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Key = Hashable

VALUE = "value"
TOMBSTONE = "tombstone"
CANCELLATION = "cancellation"


class NaiveError(Exception):
    """What the naive map refuses; `name` is the library's class for the same refusal."""

    name = "ChronoMapError"


class Conflict(NaiveError):
    """A condition, a transaction's reads or an undo's keys were overtaken."""

    name = "ConflictError"


class Compacted(NaiveError):
    """The answer was pruned or erased."""

    name = "CompactedError"


class FutureRevision(NaiveError):
    """A revision that has not been committed yet."""

    name = "FutureRevisionError"


@dataclass(frozen=True, eq=False)
class NaiveVersion:
    """One line of a key's history. Compared by identity: two versions are never the same one."""

    key: Key
    timestamp: float
    revision: int
    kind: str
    value: Any = None
    expires_at: float | None = None

    def as_tuple(self) -> tuple[Any, ...]:
        """Everything a user can see of it."""
        return (self.key, self.timestamp, self.revision, self.kind, self.value, self.expires_at)


@dataclass(frozen=True)
class Op:
    """One write of a transaction: a put, or a delete when `delete` is set."""

    key: Key
    value: Any = None
    timestamp: float | None = None
    ttl: float | None = None
    delete: bool = False


class Frozen:
    """What was known at one revision, seen from one timestamp. Built by copying everything."""

    def __init__(self, source: NaiveMap, timestamp: float, revision: int) -> None:
        self.map = source.copy()
        self.timestamp = timestamp
        self.revision = revision

    def version(self, key: Key) -> NaiveVersion | None:
        """The version that answers `get(key)` here."""
        return self.map.visible(key, self.timestamp, self.revision)

    def latest(self) -> dict[Key, Any]:
        """What is present here."""
        return self.map.present(self.timestamp, self.revision)

    def versions(self, key: Key) -> list[NaiveVersion]:
        """Every version up to here."""
        return self.map.list_versions(key, self.timestamp, self.revision)

    def history(self, key: Key) -> list[tuple[float, Any]]:
        """Every value up to here."""
        return self.map.list_history(key, self.timestamp, self.revision)


class NaiveMap:
    """See the module's head. Methods that the library has too carry its names, and `now` on top."""

    def __init__(self, max_versions: int | None = None, max_age: float | None = None) -> None:
        self.max_versions, self.max_age = max_versions, max_age
        self.timeline: dict[Key, list[NaiveVersion]] = {}
        self.instants: list[float] = []
        self.log: list[tuple[int, str, Key, float]] = []  # (revision, kind, key, timestamp)
        self.written: dict[Key, int] = {}  # the last revision that wrote a version of the key
        self.pruned: dict[Key, tuple[float, int]] = {}  # least timestamp and least revision pruning took
        self.fallen_due: set[tuple[str, NaiveVersion]] = set()
        self.found_expired: list[Key] = []  # since the last clean_expired_keys()
        self.frozen: list[Frozen] = []

    def copy(self) -> NaiveMap:
        """The same map again; versions are immutable and are shared."""
        other = NaiveMap(self.max_versions, self.max_age)
        other.timeline = {key: list(versions) for key, versions in self.timeline.items()}
        other.instants = list(self.instants)
        other.log = list(self.log)
        other.written = dict(self.written)
        other.pruned = dict(self.pruned)
        other.fallen_due = set(self.fallen_due)
        return other

    def unlimited(self) -> NaiveMap:
        """A copy to try something out on, which retention does not cut."""
        other = self.copy()
        other.max_versions = other.max_age = None
        return other

    # The rule ---------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The newest commit."""
        return len(self.instants)

    def time(self, now: float) -> float:
        """The present: never before the newest commit, whatever the clock says (decision 2)."""
        return max([now, *self.instants])

    def standing(self, key: Key, timestamp: float, revision: int) -> NaiveVersion | None:
        """What stands at exactly this timestamp as known at this revision; a cancellation stands for nothing."""
        there = [v for v in self.timeline.get(key, []) if v.timestamp == timestamp and v.revision <= revision]
        last = max(there, key=lambda v: v.revision, default=None)
        return None if last is None or last.kind == CANCELLATION else last

    def in_force(self, key: Key, timestamp: float, revision: int) -> NaiveVersion | None:
        """The version that decides what `key` held, be it a tombstone or expired; None if there is none."""
        known = [v for v in self.timeline.get(key, []) if v.revision <= revision and v.timestamp <= timestamp]
        for stamp in sorted({v.timestamp for v in known}, reverse=True):
            found = self.standing(key, stamp, revision)
            if found is not None:
                return found
        if key in self.pruned:
            first_timestamp, first_revision = self.pruned[key]
            if first_timestamp <= timestamp and first_revision <= revision:
                raise Compacted(key)
        return None

    def visible(self, key: Key, timestamp: float, revision: int) -> NaiveVersion | None:
        """The version whose value `key` held at `timestamp`, as known at `revision`; None if it was missing."""
        if revision > self.revision:
            raise FutureRevision(revision)
        found = self.in_force(key, timestamp, revision)
        if found is None or found.kind == TOMBSTONE:
            return None
        if found.expires_at is not None and found.expires_at <= timestamp:
            return None
        return found

    def present(self, timestamp: float, revision: int) -> dict[Key, Any]:
        """Everything that is not missing at (timestamp, revision)."""
        found = {key: self.visible(key, timestamp, revision) for key in self.timeline}
        return {key: version.value for key, version in found.items() if version is not None}

    def list_versions(self, key: Key, timestamp: float, revision: int) -> list[NaiveVersion]:
        """All that was recorded up to (timestamp, revision), in order."""
        known = [v for v in self.timeline.get(key, []) if v.revision <= revision and v.timestamp <= timestamp]
        return sorted(known, key=lambda v: (v.timestamp, v.revision))

    def list_history(self, key: Key, timestamp: float, revision: int) -> list[tuple[float, Any]]:
        """The values among them; nothing that was cancelled (decision 5)."""
        known = self.list_versions(key, timestamp, revision)

        def cancelled(version: NaiveVersion) -> bool:
            return any(
                v.kind == CANCELLATION and v.timestamp == version.timestamp and v.revision > version.revision for v in known
            )

        return [(v.timestamp, v.value) for v in known if v.kind == VALUE and not cancelled(v)]

    # Reads ------------------------------------------------------------------------------------------------------

    def version(
        self, key: Key, timestamp: float | None = None, *, revision: int | None = None, now: float
    ) -> NaiveVersion | None:
        """The two defaults are independent (decision 1)."""
        t = self.time(now) if timestamp is None else timestamp
        r = self.revision if revision is None else revision
        return self.visible(key, t, r)

    def get(
        self,
        key: Key,
        timestamp: float | None = None,
        default: Any = None,
        *,
        revision: int | None = None,
        now: float,
    ) -> Any:
        """The value of `version`."""
        found = self.version(key, timestamp, revision=revision, now=now)
        return default if found is None else found.value

    def history(self, key: Key, *, now: float) -> list[tuple[float, Any]]:
        """Up to now."""
        return self.list_history(key, self.time(now), self.revision)

    def versions(self, key: Key, *, scheduled: bool = False, now: float) -> list[NaiveVersion]:
        """Up to now, or also what lies ahead."""
        return self.list_versions(key, float("inf") if scheduled else self.time(now), self.revision)

    def get_range(
        self, key: Key, start: float | None = None, end: float | None = None, *, now: float
    ) -> list[tuple[float, Any]]:
        """Both bounds included (decision 4); a bound in what was pruned is refused, since something may have been there."""
        low = float("-inf") if start is None else start
        high = self.time(now) if end is None else end
        if key in self.pruned and high >= self.pruned[key][0]:
            oldest = min(v.timestamp for v in self.timeline[key])
            if (start is not None and start < oldest) or (end is not None and end < oldest):
                raise Compacted(key)
        return [(t, value) for t, value in self.list_history(key, high, self.revision) if t >= low]

    def latest(self, timestamp: float | None = None, *, now: float) -> dict[Key, Any]:
        """What is present."""
        return self.present(self.time(now) if timestamp is None else timestamp, self.revision)

    def get_latest_keys(self, *, now: float) -> list[tuple[Key, float, int, Any]]:
        """All present keys, the latest first, as (key, timestamp, revision, value)."""
        found = [self.version(key, now=now) for key in self.timeline]
        rows = [(v.key, v.timestamp, v.revision, v.value) for v in found if v is not None]
        return sorted(rows, key=lambda row: (-row[1], -row[2]))

    def query(self, predicate: Callable[[Key, Any], bool], timestamp: float | None = None, *, now: float) -> dict[Key, Any]:
        """What is present and satisfies the predicate."""
        return {k: v for k, v in self.latest(timestamp, now=now).items() if predicate(k, v)}

    def get_keys_by_value(self, value: Any, timestamp: float | None = None, *, now: float) -> set[Key]:
        """The keys that hold an equal value."""
        return {k for k, v in self.latest(timestamp, now=now).items() if equal(v, value)}

    def count(self, *, now: float) -> int:
        """How many keys are present."""
        return len(self.latest(now=now))

    def diff(self, other: NaiveMap, *, now: float) -> set[Key]:
        """The keys that are not the same on both sides, told by presence and by value (decision 13)."""
        ours, theirs = self.latest(now=now), other.latest(now=now)
        both = ours.keys() & theirs.keys()
        return (ours.keys() ^ theirs.keys()) | {k for k in both if not equal(ours[k], theirs[k])}

    def at(self, timestamp: float | None = None, *, revision: int | None = None, now: float) -> Frozen:
        """A snapshot of another time or revision."""
        r = self.revision if revision is None else revision
        if r > self.revision:
            raise FutureRevision(r)
        frozen = Frozen(self, self.time(now) if timestamp is None else timestamp, r)
        self.frozen.append(frozen)
        return frozen

    def snapshot(self, *, now: float) -> Frozen:
        """A snapshot of the present."""
        self.settle(now)
        return self.at(now=now)

    # Commits ----------------------------------------------------------------------------------------------------

    def commit(self, changes: Iterable[NaiveVersion], now: float, kind: str = "") -> int:
        """Write all changes at the next revision. A commit that changes nothing is not made (decision 7)."""
        changes = list(changes)
        if changes:
            self.instants.append(self.time(now))
            for change in [replace(change, revision=self.revision) for change in changes]:
                self.timeline.setdefault(change.key, []).append(change)
                self.written[change.key] = self.revision
                self.log.append((self.revision, kind or change.kind, change.key, change.timestamp))
            self.retain({change.key for change in changes}, self.time(now))
        return self.revision

    def deadlines(self, version: NaiveVersion) -> list[tuple[float, str]]:
        """When this version expires and when it is activated, as far as it will be in force by then."""
        if version.kind == CANCELLATION or self.standing(version.key, version.timestamp, self.revision) is not version:
            return []
        found: list[tuple[float, str]] = []
        if version.timestamp > self.instants[version.revision - 1]:
            found.append((version.timestamp, "activate"))
        ends = version.expires_at
        # A version merged from a map with an earlier clock may begin after its own deadline: it never holds.
        if ends is not None and version.timestamp <= ends and self.in_force(version.key, ends, self.revision) is version:
            found.append((ends, "expire"))
        return found

    def settle(self, now: float) -> None:
        """Commit what fell due since (decision 11)."""
        now = self.time(now)
        due: list[tuple[float, str, NaiveVersion]] = []
        for version in [v for versions in self.timeline.values() for v in versions]:
            for when, kind in self.deadlines(version):
                if when <= now and (kind, version) not in self.fallen_due:
                    due.append((when, kind, version))
        if due:
            self.fall_due(sorted(due, key=lambda item: item[0]), now)
        if self.max_age is not None:  # decision 18: also where nothing is written
            for key in self.timeline:
                self.forget(key, None, now - self.max_age, now)

    def fall_due(self, due: list[tuple[float, str, NaiveVersion]], now: float) -> None:
        """One commit of what fell due, in due order."""
        self.instants.append(now)
        for when, kind, version in due:
            self.fallen_due.add((kind, version))
            self.log.append((self.revision, kind, version.key, when))
            if kind == "expire":
                tombstone = NaiveVersion(version.key, when, self.revision, TOMBSTONE)
                self.timeline[version.key].append(tombstone)
                self.written[version.key] = self.revision
                self.found_expired.append(version.key)
        self.retain({version.key for _, _, version in due}, now)

    def clean_expired_keys(self, *, now: float) -> int:
        """How many keys expired since the last call; one that expired twice counts twice."""
        self.settle(now)
        found = len(self.found_expired)
        self.found_expired.clear()
        return found

    def refuse_pruned(self, key: Key, timestamp: float) -> None:
        """Nothing is written below what pruning kept (decision 15)."""
        if key in self.pruned and timestamp < min(v.timestamp for v in self.timeline[key]):
            raise Compacted(key)

    def scheduled(self, key: Key, after: float) -> list[float]:
        """The timestamps later than `after` at which something stands."""
        stamps = {v.timestamp for v in self.timeline.get(key, []) if v.timestamp > after}
        return sorted(t for t in stamps if self.standing(key, t, self.revision) is not None)

    # Writes -----------------------------------------------------------------------------------------------------

    def put(
        self,
        key: Key,
        value: Any,
        timestamp: float | None = None,
        ttl: float | None = None,
        *,
        if_revision: int | None = None,
        if_absent: bool = False,
        now: float,
    ) -> int:
        """One key."""
        self.settle(now)
        if if_revision is not None and self.written.get(key, 0) != if_revision:
            raise Conflict(key)
        if if_absent and self.version(key, now=now) is not None:
            raise Conflict(key)
        return self.put_many({key: value}, timestamp, ttl, now=now)

    def put_many(
        self, mapping: Mapping[Key, Any], timestamp: float | None = None, ttl: float | None = None, *, now: float
    ) -> int:
        """All or nothing, at one revision."""
        self.settle(now)
        now = self.time(now)
        stamp = now if timestamp is None else timestamp
        expires_at = None if ttl is None else max(now, stamp) + ttl
        for key in mapping:
            self.refuse_pruned(key, stamp)
        return self.commit(
            [NaiveVersion(k, stamp, 0, VALUE, copy.deepcopy(v), expires_at) for k, v in mapping.items()], now, "put"
        )

    def deletion(self, key: Key, timestamp: float | None, now: float) -> list[NaiveVersion]:
        """What a delete writes: a tombstone, and cancellations of what is scheduled later.

        Decisions 6 and 7: what is missing now needs no tombstone, and a dated one is not written twice.
        """
        stamp = now if timestamp is None else timestamp
        self.refuse_pruned(key, stamp)
        needed = self.visible(key, stamp, self.revision) is not None
        if timestamp is not None and not needed:
            last = self.in_force(key, stamp, self.revision)
            needed = last is None or last.kind != TOMBSTONE or last.timestamp != stamp
        ended = [NaiveVersion(key, stamp, 0, TOMBSTONE)] if needed else []
        return ended + [NaiveVersion(key, t, 0, CANCELLATION) for t in self.scheduled(key, max(now, stamp))]

    def delete(self, key: Key, timestamp: float | None = None, *, if_revision: int | None = None, now: float) -> bool:
        """True if the key held something there, or something scheduled was called off."""
        self.settle(now)
        if if_revision is not None and self.written.get(key, 0) != if_revision:
            raise Conflict(key)
        return self.delete_many([key], timestamp, now=now) == 1

    def delete_many(self, keys: Iterable[Key], timestamp: float | None = None, *, now: float) -> int:
        """How many of the keys held something there or had something called off; one revision."""
        self.settle(now)
        now = self.time(now)
        stamp = now if timestamp is None else timestamp
        written = {key: self.deletion(key, timestamp, now) for key in dict.fromkeys(keys)}
        deleted = sum(
            self.visible(key, stamp, self.revision) is not None or any(c.kind == CANCELLATION for c in changes)
            for key, changes in written.items()
        )
        self.commit([change for changes in written.values() for change in changes], now, "delete")
        return deleted

    def clear(self, *, now: float) -> int:
        """Delete every key."""
        return self.delete_many(list(self.timeline), now=now)

    def update(self, key: Key, fn: Callable[[Any], Any], *, default: Any = None, now: float) -> Any:
        """Put what `fn` makes of the present value."""
        self.settle(now)
        value = fn(copy.deepcopy(self.get(key, default=default, now=now)))
        self.put(key, value, now=now)
        return value

    def touch(self, key: Key, ttl: float | None, *, now: float) -> bool:
        """The present value again, with a new deadline (decision 12)."""
        self.settle(now)
        found = self.version(key, now=now)
        if found is None:
            return False
        self.put(key, found.value, ttl=ttl, now=now)
        return True

    def unschedule(self, key: Key, timestamp: float | None = None, *, now: float) -> int:
        """Call off what lies ahead, or what lies ahead at one timestamp; how many timestamps that were."""
        self.settle(now)
        now = self.time(now)
        stamps = [t for t in self.scheduled(key, now) if timestamp is None or t == timestamp]
        self.commit([NaiveVersion(key, t, 0, CANCELLATION) for t in stamps], now, "unschedule")
        return len(stamps)

    def erase(self, key: Key, *, now: float) -> int:
        """One empty tombstone is all that stays, in snapshots nothing (decision 16)."""
        self.settle(now)
        gone = len(self.timeline.get(key, []))
        already = any(kind == "erase" and (r, k) == (self.written.get(key), key) for r, kind, k, _ in self.log)
        if gone and not already:  # decision 7: nothing has been written since it was erased
            for frozen in self.frozen:
                frozen.map.timeline.pop(key, None)
                frozen.map.pruned.pop(key, None)
            self.timeline[key] = []
            self.pruned.pop(key, None)
            self.commit([NaiveVersion(key, self.time(now), 0, TOMBSTONE)], now, "erase")
            return gone
        return 0

    def prune(self, key: Key, keep_last: int | None = None, older_than: float | None = None, *, now: float) -> int:
        """Drop the oldest versions, never the one in force nor anything after it (decision 15)."""
        self.settle(now)
        return self.forget(key, keep_last, older_than, now)

    def retain(self, keys: Iterable[Key], now: float) -> None:
        """Apply the map's own retention to what has just been written (decision 18)."""
        if self.max_versions is not None or self.max_age is not None:
            for key in keys:
                self.forget(key, self.max_versions, None if self.max_age is None else now - self.max_age, now)

    def forget(self, key: Key, keep_last: int | None, older_than: float | None, now: float) -> int:
        """The rule of `prune`."""
        ordered = self.versions(key, scheduled=True, now=now)
        wanted = {
            i
            for i, v in enumerate(ordered)
            if (keep_last is not None and i < len(ordered) - keep_last) or (older_than is not None and v.timestamp < older_than)
        }
        force = self.in_force(key, self.time(now), self.revision) if ordered else None
        limit = 0 if force is None else next(i for i, v in enumerate(ordered) if v is force)
        gone = [v for i, v in enumerate(ordered) if i in wanted and i < limit]
        if gone:
            stamp, revision = self.pruned.get(key, (float("inf"), self.revision))
            self.pruned[key] = (
                min(stamp, *(v.timestamp for v in gone)),
                min(revision, *(v.revision for v in gone)),
            )
            self.timeline[key] = [v for v in ordered if v not in gone]
        return len(gone)

    # Back, and together -----------------------------------------------------------------------------------------

    def restoration(self, key: Key, revision: int, now: float, known: NaiveMap) -> list[NaiveVersion]:
        """What makes `key` from now on what it was going to be as `known` at `revision` (decision 8)."""
        changes: list[NaiveVersion] = []
        before, present = known.visible(key, now, revision), self.visible(key, now, self.revision)
        if before is not present:
            changes.append(as_of(before, NaiveVersion(key, now, 0, TOMBSTONE)))
        learned = {v.timestamp for v in self.timeline.get(key, []) if v.revision > revision and v.timestamp > now}
        return changes + [c for t in sorted(learned) for c in self.exactly(key, t, revision, known)]

    def exactly(self, key: Key, timestamp: float, revision: int, known: NaiveMap) -> list[NaiveVersion]:
        """What makes this one timestamp what it was at `revision`: a copy, a cancellation, or nothing to do."""
        before, present = known.standing(key, timestamp, revision), self.standing(key, timestamp, self.revision)
        if before is present:
            return []
        return [as_of(before, NaiveVersion(key, timestamp, 0, CANCELLATION))]

    def rollback(self, to: int | Frozen, *, now: float) -> int:
        """One new revision after which everything goes on as if nothing had been committed since.

        A snapshot still knows what has been pruned since.
        """
        self.settle(now)
        now = self.time(now)
        revision, known = (to.revision, to.map) if isinstance(to, Frozen) else (to, self)
        if revision > self.revision:
            raise FutureRevision(revision)
        changed = [key for key, last in self.written.items() if last > revision]
        return self.commit([c for key in changed for c in self.restoration(key, revision, now, known)], now, "rollback")

    def undo(self, revision: int, *, now: float) -> int:
        """The inverse of one commit, unless a later one touched its keys (decision 9)."""
        if revision > self.revision:
            raise FutureRevision(revision)
        return self.undo_block({revision}, now=now)

    def undo_block(self, revisions: set[int], *, now: float) -> int:
        """The inverse of one block's commits, unless another one touched a key after the block did (decision 10)."""
        self.settle(now)
        now = self.time(now)
        lines = [line for line in self.log if line[0] in revisions and line[1] != "activate"]
        first = {key: min(r for r, _, k, _ in lines if k == key) for _, _, key, _ in lines}
        if any(kind == "erase" for _, kind, _, _ in lines):
            raise Compacted(revisions)
        for revision, kind, key, _ in self.log:
            # What fell due since is nobody's change: it follows from the versions that were there.
            others = revision not in revisions and kind not in ("activate", "expire")
            if others and key in first and revision > first[key]:
                raise Conflict(key)
        changes: list[NaiveVersion] = []
        for key, revision in first.items():
            changes += self.restoration(key, revision - 1, now, self)
            written = [v for v in self.timeline[key] if v.revision in revisions]
            back_dated = {v.timestamp for v in written if v.timestamp < self.instants[v.revision - 1]}
            changes += [c for t in sorted(back_dated) for c in self.exactly(key, t, revision - 1, self)]
        return self.commit(changes, now, "undo")

    def merge(
        self,
        other: NaiveMap,
        strategy: str | Callable[[Key, Any, Any], Any] = "timestamp",
        *,
        now: float,
    ) -> int:
        """Take over the other map's history, or its present (decision 14)."""
        self.settle(now)
        theirs = {key: other.version(key, now=now) for key in other.latest(now=now)}
        now = self.time(now)
        changes: list[NaiveVersion] = []
        if strategy == "timestamp":
            return self.commit(self.union(other), now, "merge")
        for key, found in theirs.items():
            ours = self.visible(key, now, self.revision)
            assert found is not None
            value = found.value
            if ours is None or (strategy == "overwrite" and not same_content(ours, found)):
                changes.append(NaiveVersion(key, now, 0, VALUE, value, found.expires_at))
            elif callable(strategy) and not equal(ours.value, value):
                changes.append(NaiveVersion(key, now, 0, VALUE, strategy(key, ours.value, value)))
        return self.commit(changes, now, "merge")

    def union(self, other: NaiveMap) -> list[NaiveVersion]:
        """What the other map's history has and this one's has not."""
        changes: list[NaiveVersion] = []
        for key, versions in other.timeline.items():
            for stamp in sorted({v.timestamp for v in versions}):
                theirs = other.standing(key, stamp, other.revision)
                here = [v for v in self.timeline.get(key, []) if v.timestamp == stamp]
                called_off = max((v.revision for v in here if v.kind == CANCELLATION), default=0)
                here = [v for v in here if v.revision > called_off]
                if theirs is None or any(same_content(v, theirs) for v in here):
                    continue
                if key in self.pruned and stamp < min(v.timestamp for v in self.timeline[key]):
                    continue
                changes.append(theirs)
        return changes

    def apply(
        self,
        ops: Iterable[Op],
        *,
        snapshot_revision: int,
        keys_read: Iterable[Key] = (),
        prefixes_read: Iterable[str | None] = (),
        now: float,
    ) -> int:
        """A transaction: validate what it read, then write everything at one revision. The prefix None is the map."""
        self.settle(now)
        ops, prefixes = list(ops), list(prefixes_read)
        changed = {key for key, last in self.written.items() if last > snapshot_revision}
        if ops and changed & set(keys_read):
            raise Conflict(changed)
        if ops and any(has_prefix(key, prefix) for key in changed for prefix in prefixes):
            raise Conflict(changed)
        # Each write sees the ones before it; at one timestamp of one revision the last one stays.
        trial, final = self.unlimited(), {}
        for op in ops:
            before = len(trial.log)
            if op.delete:
                trial.delete(op.key, op.timestamp, now=now)
            else:
                trial.put(op.key, op.value, op.timestamp, op.ttl, now=now)
            for revision, _, key, stamp in trial.log[before:]:
                final[key, stamp] = next(v for v in trial.timeline[key] if v.revision == revision and v.timestamp == stamp)
        # What the block itself wrote and took back again leaves nothing.
        changes = list(final.values())
        for change in list(changes):
            without = self.unlimited()
            without.commit([c for c in changes if c is not change], now)
            there = (change.key, change.timestamp, without.revision)
            if (change.kind == TOMBSTONE and without.visible(*there) is None) or (
                change.kind == CANCELLATION and without.standing(change.key, change.timestamp, self.revision) is None
            ):
                changes.remove(change)
        return self.commit(changes, now, "transaction")


def as_of(version: NaiveVersion | None, otherwise: NaiveVersion) -> NaiveVersion:
    """`version`'s content at `otherwise`'s place, or `otherwise` itself if there is none."""
    return otherwise if version is None else replace(version, timestamp=otherwise.timestamp)


def has_prefix(key: Key, prefix: str | None) -> bool:
    """Only text has prefixes; None is the prefix of everything."""
    return prefix is None or (isinstance(key, str) and key.startswith(prefix))


def equal(a: Any, b: Any) -> bool:
    """A comparison that raises counts as different (decision 13)."""
    try:
        return a is b or bool(a == b)
    except Exception:  # noqa: BLE001 - whatever a value's own comparison raises
        return False


def same_content(a: NaiveVersion, b: NaiveVersion) -> bool:
    """Equal in value and expiry, or both tombstones (decision 14)."""
    if a.kind != b.kind or a.kind == CANCELLATION:
        return False
    return a.kind == TOMBSTONE or (a.expires_at == b.expires_at and equal(a.value, b.value))
