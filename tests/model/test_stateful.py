"""The real map and the naive one, driven side by side by hypothesis and compared after every step.

`MapMachine` uses only what a user of the sync face can call. Another face (a bridge, a durable map, an async map
behind a portal) runs the same machine by overriding `make_map`::

    class BridgeMachine(MapMachine):
        def make_map(self, clock): ...

    class TestBridge(BridgeMachine.TestCase): ...

What keeps it deterministic: the clock moves only when a rule moves it, and what falls due is committed by the
first turn after that, with the same result whether the map's own thread or this one causes that turn. So after
each move of the clock both sides settle before anything that shows revisions is compared.

`CHRONOMAP_SOAK=1` runs many more and longer examples.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

import chronomap
from chronomap.core import timeline
from chronomap.core.records import FORGOTTEN
from chronomap.core.replay import rebuilt
from chronomap.core.values import release
from chronomap.testing import ManualClock

from .naive import VALUE, Frozen, NaiveError, NaiveMap, NaiveVersion, Op, has_prefix

KEYS: tuple[Hashable, ...] = ("a", "a/b", "a/c", "b", 1, (1, "x"))
START = 1_000_000.0  # seconds; all stamps are multiples of 0.5 near it, so that float, ISO and datetime agree exactly
READS_PER_STEP = 8  # (timestamp, revision) pairs; each is read for every key

REFUSALS = (chronomap.ConflictError, chronomap.CompactedError, chronomap.FutureRevisionError)

# One key is drawn far more often than the others: the interplay of many versions of one key is where mistakes hide.
keys = st.sampled_from(["a"] * 6 + list(KEYS))
values = st.sampled_from([None, 0, 1, 2, "x", "", [1], [1, [2]], {"n": 1}, {"n": [1]}]).map(copy.deepcopy)
ttls = st.sampled_from([None, None, 0.5, 1, 3, 10])
prefixes = st.sampled_from([None, "a", "a/", "b", "none"])
forms = st.sampled_from(["float", "float", "int", "iso", "datetime"])
# Most stamps are "now"; the others are near it on both sides and often equal, because collisions find the mistakes.
offsets = st.none() | st.sampled_from([-8, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 8])
someone = st.sampled_from([0, 0, 0, 1])  # which of the two pairs
puts = st.tuples(someone, keys, values, offsets, forms, ttls)


def given_as(timestamp: float | None, form: str) -> Any:
    """One of the ways to write the same timestamp."""
    if timestamp is None or form == "float":
        return timestamp
    if form == "int":
        return int(timestamp) if timestamp.is_integer() else timestamp
    moment = datetime.fromtimestamp(timestamp, UTC)
    return moment if form == "datetime" else moment.isoformat()


def told(commit: Any, erased: dict[Any, int], known: Any) -> list[Any]:
    """What the records of a commit say, whatever their order; of erased keys nothing is left.

    Nor of a previous value that has been pruned, as another commit's record of the same key and timestamp shows.
    """
    lost = {(record.key, record.timestamp) for record in known.records if record.previous is FORGOTTEN}
    rows = [
        (
            *(record.kind, record.key, release(record.value), record.timestamp, record.expires_at),
            None if (record.key, record.timestamp) in lost else release(record.previous),
            commit.present(place),
        )
        for place, record in enumerate(commit.records)
        if erased.get(record.key, 0) <= commit.revision
    ]
    return sorted(rows, key=repr)


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """What a call returned, or the name of the refusal; anything else it raises is a failure of the test."""
    try:
        return ("returned", call())
    except REFUSALS as error:
        return ("refused", type(error).__name__)
    except NaiveError as error:
        return ("refused", error.name)


def seen(version: Any) -> tuple[Any, ...] | None:
    """All that a user can see of a version, of either side."""
    if version is None:
        return None
    if isinstance(version, NaiveVersion):
        return version.as_tuple()
    value = version.value if version.kind == VALUE else None
    return (version.key, version.timestamp, version.revision, version.kind, value, version.expires_at)


class Pair:
    """A real map and the naive one that went through the same, and somebody who follows the real one's changes."""

    def __init__(self, real: Any, naive: NaiveMap) -> None:
        self.real, self.naive = real, naive
        self.stream = real.watch(since=0, timeout=0)
        self.followed: list[tuple[int, Any, float]] = []  # (revision, key, timestamp)
        self.known: dict[Any, Any] = {}  # what follows from the changes of the present

    def follow(self) -> None:
        """Read what was committed since; it tells the same as the naive map's log, and what is present follows from it."""
        for change in self.stream:
            self.followed.append((change.revision, change.key, change.timestamp))
            outlived = change.expires_at is not None and change.expires_at <= change.committed_at  # merged from the past
            if change.present and (change.removed or outlived):
                self.known.pop(change.key, None)
            elif change.present:
                self.known[change.key] = change.value
        assert self.stream.revision == self.real.revision
        assert [revision for revision, _, _ in self.followed] == sorted(revision for revision, _, _ in self.followed)

        def in_any_order(rows: list[tuple[int, Any, float]]) -> list[Any]:
            return sorted(rows, key=lambda row: (row[0], str(row[1]), row[2]))

        wanted = [(revision, key, timestamp) for revision, _, key, timestamp in self.naive.log]
        assert in_any_order(self.followed) == in_any_order(wanted)

    def replay(self) -> None:
        """What is rebuilt from the timelines is what was committed, but for what has been erased or pruned since."""
        store = self.real._store
        gone = max(store.pruned_to, store.feed.floor)
        whole = {commit.revision: commit for commit in rebuilt(self.real._pin(), gone, store.revision)}
        for commit in store.feed.since(gone):
            there = [record for record in commit.records if store.erased.get(record.key, 0) <= commit.revision]
            again = whole.get(commit.revision)
            if not there:
                assert again is None
                continue
            assert again is not None
            assert (again.instant, again.meta) == (commit.instant, commit.meta)
            assert told(again, store.erased, again) == told(commit, store.erased, again)


@dataclass
class SnapshotPair:
    """A snapshot of each side."""

    real: Any
    naive: Frozen


class MapMachine(RuleBasedStateMachine):
    """All rules, with the sync in-memory map."""

    snapshots = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(START)
        self.pairs = [Pair(self.make_map(self.clock), self.make_naive()) for _ in range(2)]
        self.kept: list[SnapshotPair] = []
        self.requests: dict[str, tuple[Any, int]] = {}  # what was put under them, and the answer
        self.steps = 0
        self.block = timeline.BLOCK

    def make_map(self, clock: Callable[[], float]) -> Any:
        """The map under test: anything with the sync face."""
        return chronomap.ChronoMap(clock=clock)

    def make_naive(self) -> NaiveMap:
        """A naive map with the same options."""
        return NaiveMap()

    def teardown(self) -> None:
        """Every snapshot ever taken still answers; then both maps are closed."""
        try:
            for snapshot in self.kept:
                self.same_snapshot(snapshot)
            for pair in self.pairs:
                pair.replay()
        finally:
            timeline.BLOCK = self.block
            for pair in self.pairs:
                pair.real.close()

    # What the rules share ---------------------------------------------------------------------------------------

    @property
    def real(self) -> Any:
        """The real map that most rules drive."""
        return self.pairs[0].real

    @property
    def naive(self) -> NaiveMap:
        """Its naive counterpart."""
        return self.pairs[0].naive

    @property
    def now(self) -> float:
        """The clock's reading, which may lie before the newest commit."""
        return self.clock()

    def stamp(self, offset: float | None, pair: Pair | None = None) -> float | None:
        """A timestamp near the present."""
        return None if offset is None else (pair or self.pairs[0]).naive.time(self.now) + offset

    def same(self, real: Callable[[], Any], naive: Callable[[], Any], what: str = "") -> Any:
        """Both sides return the same or refuse for the same reason."""
        got, wanted = outcome(real), outcome(naive)
        assert got == wanted, f"{what}\n  the map:   {got}\n  the model: {wanted}"
        return got[1] if got[0] == "returned" else None

    def settle(self) -> None:
        """Commit on all sides what has fallen due."""
        for pair in self.pairs:
            self.same(pair.real.clean_expired_keys, lambda: pair.naive.clean_expired_keys(now=self.now), "expired")

    def keep(self, real: Any, naive: Frozen) -> SnapshotPair:
        """Remember a snapshot of both sides, and compare it once now."""
        snapshot = SnapshotPair(real, naive)
        self.kept.append(snapshot)
        assert (real.revision, real.snapshot_time) == (naive.revision, naive.timestamp)
        self.same_snapshot(snapshot)
        return snapshot

    def same_snapshot(self, snapshot: SnapshotPair) -> None:
        """A snapshot answers as its naive copy does, which nothing but an erase can change."""
        real, naive = snapshot.real, snapshot.naive
        where = f"snapshot at ({naive.timestamp}, {naive.revision})"
        self.same(real.latest, naive.latest, f"{where}: latest")
        self.same(lambda: set(real.keys()), lambda: set(naive.latest()), f"{where}: keys")
        for key in KEYS:
            self.same(
                lambda: real.get(key, default="missing"),
                lambda: found.value if (found := naive.version(key)) is not None else "missing",
                f"{where}: get({key!r})",
            )
            self.same(lambda: real.history(key), lambda: naive.history(key), f"{where}: history({key!r})")
            self.same(
                lambda: [seen(v) for v in real.versions(key)],
                lambda: [seen(v) for v in naive.versions(key)],
                f"{where}: versions({key!r})",
            )

    # Writes -----------------------------------------------------------------------------------------------------

    @initialize(block=st.sampled_from([timeline.BLOCK, 1, 2]))
    def cut(self, block: int) -> None:
        """Histories are cut into blocks when they are as short as this."""
        timeline.BLOCK = block

    @initialize(several=st.lists(puts, max_size=8))
    def begin(self, several: list[tuple[Any, ...]]) -> None:
        """Most examples start with something to work on."""
        self.put_several(several)

    @rule(several=st.lists(puts, min_size=1, max_size=4))
    def put_several(self, several: list[tuple[Any, ...]]) -> None:
        """A few commits one after the other, often at the same instant."""
        for arguments in several:
            self.put(*arguments)

    @rule(key=keys, value=values, offset=st.sampled_from([0.5, 1, 2, 5]), ttl=ttls, seconds=st.sampled_from([0.5, 2, 20]))
    def plan_and_wait(self, key: Any, value: Any, offset: float, ttl: float | None, seconds: float) -> None:
        """A schedule, and some time that passes: until it is due, or not yet, or until it has expired as well."""
        self.put(0, key, value, offset, "float", ttl)
        self.advance(seconds, "settle", key, value)

    def put(self, who: int, key: Any, value: Any, offset: float | None, form: str, ttl: float | None) -> None:
        """Now, in the past or in the future, with and without a deadline."""
        pair, handed_in = self.pairs[who], copy.deepcopy(value)
        at = self.stamp(offset, pair)
        self.same(
            lambda: pair.real.put(key, handed_in, given_as(at, form), ttl),
            lambda: pair.naive.put(key, value, at, ttl, now=self.now),
            "put",
        )
        spoil(handed_in)

    @rule(who=someone, mapping=st.dictionaries(keys, values, max_size=4), offset=offsets, ttl=ttls)
    def put_many(self, who: int, mapping: dict[Any, Any], offset: float | None, ttl: float | None) -> None:
        """All or nothing, one revision."""
        pair = self.pairs[who]
        at = self.stamp(offset, pair)
        self.same(
            lambda: pair.real.put_many(mapping, at, ttl),
            lambda: pair.naive.put_many(mapping, at, ttl, now=self.now),
            "put_many",
        )

    @rule(key=keys, value=values, known=st.sampled_from(["last", "stale", "absent"]), delete=st.booleans())
    def conditional(self, key: Any, value: Any, known: str, delete: bool) -> None:
        """A put or delete that holds only if nobody else wrote."""
        last = self.naive.written.get(key, 0)
        wanted: dict[str, Any] = {"last": {"if_revision": last}, "stale": {"if_revision": last + 1}}
        condition = wanted.get(known, {"if_absent": True})
        if delete and known != "absent":
            self.same(
                lambda: self.real.delete(key, **condition),
                lambda: self.naive.delete(key, **condition, now=self.now),
                f"delete({key!r}, {condition})",
            )
        else:
            self.same(
                lambda: self.real.put(key, value, **condition),
                lambda: self.naive.put(key, value, **condition, now=self.now),
                f"put({key!r}, {condition})",
            )

    @rule(key=keys, value=values, request_id=st.sampled_from(["first", "second", "third"]))
    def put_once(self, key: Any, value: Any, request_id: str) -> None:
        """A retry is answered as the first time, whatever came in between; an id of another key's request is refused."""

        def put() -> Any:
            return self.real.put(key, value, request_id=request_id, meta={"author": request_id[0]})

        if (known := self.requests.get(request_id)) is None:
            self.same(put, lambda: self.naive.put(key, value, now=self.now), "put with a request id")
            self.requests[request_id] = key, self.naive.revision
        elif key == known[0]:
            assert put() == known[1]
        else:
            with suppress(chronomap.ChronoMapValueError):
                put()
                assert self.lost(request_id)

    def lost(self, request_id: str) -> bool:
        """Whether the map may have forgotten which key a request was about; never that there was one."""
        return False

    @rule(who=someone, key=keys, offset=offsets)
    def delete(self, who: int, key: Any, offset: float | None) -> None:
        """Now, in the past or scheduled."""
        pair = self.pairs[who]
        at = self.stamp(offset, pair)
        self.same(lambda: pair.real.delete(key, at), lambda: pair.naive.delete(key, at, now=self.now), "delete")

    @rule(chosen=st.lists(keys, max_size=4), offset=offsets)
    def delete_many(self, chosen: list[Any], offset: float | None) -> None:
        """Several keys, perhaps the same one twice."""
        at = self.stamp(offset)
        self.same(
            lambda: self.real.delete_many(chosen, at),
            lambda: self.naive.delete_many(chosen, at, now=self.now),
            "delete_many",
        )

    @rule(key=keys, default=values)
    def update(self, key: Any, default: Any) -> None:
        """Read, compute and write in one step."""
        self.same(
            lambda: self.real.update(key, lambda value: [value], default=default),
            lambda: self.naive.update(key, lambda value: [value], default=default, now=self.now),
            "update",
        )

    @rule(key=keys, ttl=ttls)
    def touch(self, key: Any, ttl: float | None) -> None:
        """A new deadline, or none."""
        self.same(lambda: self.real.touch(key, ttl), lambda: self.naive.touch(key, ttl, now=self.now), "touch")

    @rule(key=keys, choice=st.none() | st.integers(0, 5))
    def unschedule(self, key: Any, choice: int | None) -> None:
        """All that is scheduled for a key, or one of them."""
        ahead = [v.timestamp for v in self.naive.timeline.get(key, []) if v.timestamp > self.naive.time(self.now)]
        at = None if choice is None or not ahead else ahead[choice % len(ahead)]
        self.same(
            lambda: self.real.unschedule(key, at),
            lambda: self.naive.unschedule(key, at, now=self.now),
            f"unschedule({key!r}, {at})",
        )

    @rule(key=keys, what=st.sampled_from(["erase", "erase", "clear"]))
    def wipe(self, key: Any, what: str) -> None:
        """One key for good, on both axes; or all of them, which can be rolled back."""
        if what == "erase":
            self.same(lambda: self.real.erase(key), lambda: self.naive.erase(key, now=self.now), f"erase({key!r})")
        else:
            self.real.clear()
            self.naive.clear(now=self.now)

    # Back, and together -----------------------------------------------------------------------------------------

    @rule(choice=st.integers(0, 40), from_newest=st.booleans())
    def rollback(self, choice: int, from_newest: bool) -> None:
        """To any revision; afterwards a plain get is what get(revision=) was before."""
        target = choice % (self.naive.revision + 1)
        target = self.naive.revision - target if from_newest else target
        before = {key: outcome(lambda: self.real.get(key, revision=target)) for key in KEYS}
        done = self.same(
            lambda: self.real.rollback(target),
            lambda: self.naive.rollback(target, now=self.now),
            f"rollback({target})",
        )
        if done is not None:
            assert before == {key: outcome(lambda: self.real.get(key)) for key in KEYS}

    @rule(snapshot=snapshots)
    def rollback_to_snapshot(self, snapshot: SnapshotPair) -> None:
        """The same, to a snapshot's revision; the snapshot still answers what it answered at first."""
        self.same_snapshot(snapshot)
        self.same(
            lambda: self.real.rollback(snapshot.real),
            lambda: self.naive.rollback(snapshot.naive, now=self.now),
            f"rollback to the snapshot of revision {snapshot.naive.revision}",
        )

    @rule(back=st.integers(0, 12))
    def undo(self, back: int) -> None:
        """Any commit, or the refusal because its keys were touched since."""
        target = self.naive.revision - back
        if target >= 1 and not self.maimed(target):
            got, wanted = outcome(lambda: self.real.undo(target)), outcome(lambda: self.naive.undo(target, now=self.now))
            # A later change of its keys may have been pruned: then that is told instead of a conflict.
            either = bool(self.naive.pruned) and got[0] == wanted[0] == "refused"
            assert got == wanted or either, f"undo({target}): {got} is not {wanted}"
            self.settle()  # what is brought back may have expired long since

    def maimed(self, revision: int) -> bool:
        """Whether the map may not know any more which keys a commit wrote."""
        return False

    @rule(several=st.lists(puts, max_size=3), key=keys, rival=st.none() | puts, last=st.none() | puts)
    def failing_block(self, several: list[Any], key: Any, rival: Any, last: Any) -> None:
        """A block that raises takes back its own commits, unless another thread touched the same keys meanwhile."""
        own: set[int] = set()

        def mine(write: Callable[..., None], *arguments: Any) -> None:
            before = self.naive.revision
            write(*arguments)
            own.update(range(before + 1, self.naive.revision + 1))

        def write_and_fail() -> None:
            with self.real.snapshot_context():
                for _, *arguments in several:
                    mine(self.put, 0, *arguments)
                if rival is not None:
                    in_another_thread(lambda: self.put(0, *rival[1:]))
                mine(self.delete, 0, key, None)
                if last is not None:
                    mine(self.put, 0, *last[1:])
                raise BlockFailedError

        def block() -> int:
            with suppress(BlockFailedError):
                write_and_fail()
            return int(self.real.revision)

        self.same(block, lambda: self.naive.undo_block(own, now=self.now), "a block that failed")
        self.settle()

    @rule(
        strategy=st.sampled_from(["timestamp", "timestamp", "overwrite", "function"]),
        reverse=st.booleans(),
        plan=st.none() | st.tuples(keys, st.sampled_from([1, 2, 5])),
    )
    def merge(self, strategy: str, reverse: bool, plan: tuple[Any, float] | None) -> None:
        """One pair into the other; a second time it adds only what was called off or pruned here in between."""
        into, source = self.pairs[::-1] if reverse else self.pairs
        if plan is not None:
            self.put(self.pairs.index(source), plan[0], "planned", plan[1], "float", None)

        def both(key: Any, ours: Any, theirs: Any) -> Any:
            return [key, ours, theirs]

        self.merge_into(into, source, both if strategy == "function" else strategy)
        if strategy == "timestamp":
            if plan is not None:
                into.real.unschedule(plan[0])
                into.naive.unschedule(plan[0], now=self.now)
            revision = into.real.revision
            self.merge_into(into, source, strategy)
            if plan is None and not into.naive.pruned:
                assert into.real.revision == revision, "merging twice added something"

    def merge_into(self, into: Pair, source: Pair, strategy: Any) -> None:
        """On both sides; the other map's deadlines may have passed here already."""
        into.real.merge(source.real, strategy)
        into.naive.merge(source.naive, strategy, now=self.now)
        self.settle()
        assert into.real.revision == into.naive.revision, "merge"

    @rule(
        ops=st.lists(
            st.one_of(
                st.tuples(st.just("get"), keys),
                st.tuples(st.just("keys"), prefixes),
                st.tuples(st.just("put"), keys, values, offsets, ttls),
                st.tuples(st.just("delete"), keys),
            ),
            max_size=5,
        ),
        rival=st.none() | st.tuples(st.integers(0, 5), keys, values),
    )
    def transaction(self, ops: list[tuple[Any, ...]], rival: tuple[int, Any, Any] | None) -> None:
        """Reads see one snapshot and the block's own writes; a rival's write in the middle may make it conflict."""
        base, own = self.naive.copy(), list[Op]()
        revision, read, walked = self.naive.revision, list[Any](), list[Any]()

        def as_the_block_sees_it() -> dict[Any, Any]:
            trial = base.copy()
            trial.apply(own, snapshot_revision=revision, now=self.now)
            return trial.latest(now=self.now)

        def block() -> None:
            with self.real.transaction() as tx:
                for i, (what, *arguments) in enumerate(ops):
                    if rival is not None and rival[0] == i:
                        self.put(0, rival[1], rival[2], None, "float", None)
                    if what == "get":
                        read.append(arguments[0])
                        assert tx.get(arguments[0], "missing") == as_the_block_sees_it().get(arguments[0], "missing")
                    elif what == "keys":
                        walked.append(arguments[0])
                        wanted = {k for k in as_the_block_sees_it() if has_prefix(k, arguments[0])}
                        assert set(tx.keys(arguments[0])) == wanted
                    elif what == "put":
                        key, value, offset, ttl = arguments
                        at = self.stamp(offset)
                        tx.put(key, value, at, ttl)
                        own.append(Op(key, value, at, ttl))
                    else:
                        read.append(arguments[0])  # it tells whether the key is there
                        assert tx.delete(arguments[0]) == (arguments[0] in as_the_block_sees_it())
                        own.append(Op(arguments[0], delete=True))

        got = outcome(lambda: (block(), self.real.revision)[1])
        wanted = outcome(
            lambda: self.naive.apply(own, snapshot_revision=revision, keys_read=read, prefixes_read=walked, now=self.now)
        )
        # A conflict and a write to a pruned stretch may come together: which one is told is free.
        assert got == wanted or got[0] == wanted[0] == "refused", f"transaction: {got} is not {wanted}"

    # Pruning and snapshots --------------------------------------------------------------------------------------

    @rule(
        key=st.none() | keys,
        keep_last=st.none() | st.integers(1, 4),
        older_than=st.none() | st.sampled_from([-8, -3, -0.5, 0, 3, 100]),
        corrected=st.booleans(),
    )
    def prune(self, key: Any, keep_last: int | None, older_than: float | None, corrected: bool) -> None:
        """One key or all of them; what remains of a key does not say which commit wrote it last."""
        if corrected and key is not None:
            self.put(0, key, "corrected", -2, "float", None)
        if keep_last is None and older_than is None:
            keep_last = 1
        before = self.stamp(older_than)
        if key is not None:
            self.same(
                lambda: self.real.prune_history(key, keep_last, before),
                lambda: self.naive.prune(key, keep_last, before, now=self.now),
                f"prune_history({key!r}, {keep_last}, {before})",
            )
            if corrected:
                self.conditional(key, "the last word", "last", False)
        else:
            self.same(
                lambda: self.real.prune_all_history(keep_last, before),
                lambda: sum(self.naive.prune(k, keep_last, before, now=self.now) for k in KEYS),
                f"prune_all_history({keep_last}, {before})",
            )

    @rule(target=snapshots, offset=offsets, choice=st.none() | st.integers(0, 40))
    def snapshot(self, offset: float | None, choice: int | None) -> SnapshotPair:
        """Of the present, or of any timestamp and revision."""
        if offset is None and choice is None:
            return self.keep(self.real.snapshot(), self.naive.snapshot(now=self.now))
        at, revision = self.stamp(offset), None if choice is None else choice % (self.naive.revision + 1)
        return self.keep(self.real.at(at, revision=revision), self.naive.at(at, revision=revision, now=self.now))

    # Time -------------------------------------------------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([0.5, 1, 2, 5, 20]),
        then=st.sampled_from(["settle", "settle", "put", "delete", "snapshot"]),
        key=keys,
        value=values,
    )
    def advance(self, seconds: float, then: str, key: Any, value: Any) -> None:
        """Whatever comes first after it commits what fell due; reads do not even wait for that."""
        self.clock.advance(seconds)
        for name in KEYS:
            self.same(
                lambda: self.real.get(name, default="missing"),
                lambda: self.naive.get(name, default="missing", now=self.now),
                f"get({name!r}) before anything was committed",
            )
        if then == "put":
            self.put(0, key, value, None, "float", None)
        elif then == "delete":
            self.delete(0, key, None)
        elif then == "snapshot":
            self.before_a_snapshot()
            self.keep(self.real.snapshot(), self.naive.snapshot(now=self.now))
        self.settle()

    def before_a_snapshot(self) -> None:
        """A snapshot commits what fell due, so its revision can be told."""

    @rule(seconds=st.sampled_from([0.5, 3, 50]))
    def step_back(self, seconds: float) -> None:
        """The clock is set back; instants do not follow."""
        self.clock.set(self.clock() - seconds)
        self.settle()

    # Reads ------------------------------------------------------------------------------------------------------

    def spoil_what_is_read(self, key: Any) -> None:
        """Changing what a read returned changes nothing in the map; the invariants would notice."""
        spoil(self.real.get(key))
        for _, value in self.real.history(key):
            spoil(value)
        for value in self.real.latest().values():
            spoil(value)

    @rule(key=keys, value=values, first=offsets, second=offsets)
    def read(self, key: Any, value: Any, first: float | None, second: float | None) -> None:
        """The reads over several versions or several keys, and over two maps."""
        self.spoil_what_is_read(key)
        self.compare_maps()
        real, naive, now = self.real, self.naive, self.now
        start, end = self.stamp(first), self.stamp(second)

        def wanted(key: Any, held: Any) -> bool:
            return isinstance(key, str) and held == value

        self.same(lambda: real.latest(end), lambda: naive.latest(end, now=now), f"latest({end})")
        self.same(lambda: real.query(wanted, end), lambda: naive.query(wanted, end, now=now), f"query({end})")
        self.same(lambda: real.count(wanted, end), lambda: len(naive.query(wanted, end, now=now)), f"count({end})")
        self.same(
            lambda: set(real.get_keys_by_value(value, end)),
            lambda: naive.get_keys_by_value(value, end, now=now),
            f"get_keys_by_value({value!r}, {end})",
        )
        self.same(
            lambda: real.get_range(key, start, end),
            lambda: naive.get_range(key, start, end, now=now),
            f"get_range({key!r}, {start}, {end})",
        )

    def compare_maps(self) -> None:
        """Both ways of telling two maps apart."""
        first, second = self.pairs
        wanted = first.naive.diff(second.naive, now=self.now)
        assert first.real.diff(second.real) == wanted
        ours, theirs = first.naive.latest(now=self.now), second.naive.latest(now=self.now)
        rows = first.real.diff_detailed(second.real)
        assert {key for key, _, _ in rows} == wanted and len(rows) == len(wanted)
        for key, other_value, own_value in rows:
            assert key not in theirs or theirs[key] == other_value
            assert key not in ours or ours[key] == own_value

    # After each step --------------------------------------------------------------------------------------------

    @invariant()
    def same_present(self) -> None:
        """What is held now, by each of the ways to ask."""
        for pair in self.pairs:
            real, naive, now = pair.real, pair.naive, self.now
            real._check()
            assert real.revision == naive.revision
            latest = naive.latest(now=now)
            pair.follow()
            assert pair.known == latest
            assert real.latest() == latest
            assert len(real) == real.count() == len(latest)
            assert set(real.keys()) == set(real) == set(latest)
            assert dict(real.items()) == latest
            assert set(real.keys("a/")) == {k for k in latest if has_prefix(k, "a/")}
            rows = naive.get_latest_keys(now=now)
            for n in (2, len(rows) + 1):
                self.same_order(real.get_latest_keys(n), rows, n)

    @staticmethod
    def same_order(got: list[tuple[Any, float, Any]], rows: list[tuple[Any, float, int, Any]], n: int) -> None:
        """The latest first; the order among equals (one revision, one timestamp) is free."""
        known = {key: (timestamp, revision, value) for key, timestamp, revision, value in rows}
        assert [known[key][:2] for key, _, _ in got] == [row[1:3] for row in rows[:n]]
        assert all((timestamp, value) == known[key][::2] for key, timestamp, value in got)
        assert len({key for key, _, _ in got}) == len(got)

    @invariant()
    def same_timelines(self) -> None:
        """Every version of every key, what is scheduled included."""
        for pair in self.pairs:
            for key in KEYS:
                for ahead in (False, True):
                    got = [seen(v) for v in pair.real.versions(key, scheduled=ahead)]
                    wanted = [seen(v) for v in pair.naive.versions(key, scheduled=ahead, now=self.now)]
                    assert got == wanted, f"versions({key!r}, scheduled={ahead}): {got} is not {wanted}"
                assert pair.real.history(key) == pair.naive.history(key, now=self.now)

    @invariant()
    def same_on_both_axes(self) -> None:
        """Both `get` and `version`, of every key, at a sample of all timestamps and revisions that matter."""
        self.steps += 1
        choose = random.Random(self.steps)  # the same sample whenever the same example is run
        versions = [v for line in self.naive.timeline.values() for v in line]
        moments = {self.naive.time(self.now), *(v.timestamp for v in versions)}
        moments |= {v.expires_at for v in versions if v.expires_at is not None}
        stamps = [None, *sorted(t + d for t in moments for d in (-0.5, 0, 0.5))]
        revisions = [None, *range(self.naive.revision + 2)]  # the last one is yet to come
        for _ in range(READS_PER_STEP):
            t, r = choose.choice(stamps), choose.choice(revisions)
            for key in KEYS:
                self.same(
                    lambda: self.real.get(key, t, "missing", revision=r),
                    lambda: self.naive.get(key, t, "missing", revision=r, now=self.now),
                    f"get({key!r}, {t}, revision={r})",
                )
                self.same(
                    lambda: seen(self.real.version(key, t, revision=r)),
                    lambda: seen(self.naive.version(key, t, revision=r, now=self.now)),
                    f"version({key!r}, {t}, revision={r})",
                )


class BlockFailedError(Exception):
    """What goes wrong in a block."""


def in_another_thread(write: Callable[[], None]) -> None:
    """Somebody else's write, done when this returns."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(write).result()


def spoil(value: Any) -> None:
    """Change a value in place wherever it can be changed."""
    if isinstance(value, list):
        for part in value:
            spoil(part)
        value.append("spoiled")
    elif isinstance(value, dict):
        for part in value.values():
            spoil(part)
        value["spoiled"] = True


class RetentionMachine(MapMachine):
    """The same for a map that forgets old versions by itself."""

    def make_map(self, clock: Callable[[], float]) -> Any:
        """Three versions of a key, none older than ten seconds."""
        return chronomap.ChronoMap(clock=clock, retention=chronomap.Retention(max_versions=3, max_age=10))

    def make_naive(self) -> NaiveMap:
        """The same limits."""
        return NaiveMap(max_versions=3, max_age=10)


COMMON = settings(
    deadline=None,
    print_blob=True,  # a failure prints @reproduce_failure(...), which replays exactly it
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

# Finding a mistake takes seconds, shrinking it to a few steps takes minutes: without the longer timeout pytest would
# stop before hypothesis can say what it found.


@pytest.mark.timeout(900)
class TestMapMachine(MapMachine.TestCase):  # type: ignore[misc,name-defined]
    """The sync map in memory: thousands of steps in well under a minute."""

    settings = settings(COMMON, max_examples=250, stateful_step_count=30)


@pytest.mark.timeout(900)
class TestRetentionMachine(RetentionMachine.TestCase):  # type: ignore[misc,name-defined]
    """With retention, in fewer steps: most rules are the same code."""

    settings = settings(COMMON, max_examples=60, stateful_step_count=30)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.skipif(os.environ.get("CHRONOMAP_SOAK") != "1", reason="CHRONOMAP_SOAK=1 runs it")
class TestMapMachineSoak(MapMachine.TestCase):  # type: ignore[misc,name-defined]
    """The same, for as long as it takes."""

    settings = settings(COMMON, max_examples=3_000, stateful_step_count=100)
