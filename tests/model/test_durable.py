"""The same machine with maps that are kept in a journal, and closed and opened again in between.

After that, everything must read as before on both axes, and go on as if nothing had happened: what is due, what has been
asked for once, what was pruned, where streams stood. One thing is different and meant to be: what belonged to an erased key
before its erase is left out of the log altogether, where a map in memory has changes without values.

Most runs are on a ``MemoryJournal``, some on a file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

import chronomap
from chronomap.core import replay
from chronomap.core.feed import RETAINED_CHANGES
from chronomap.journal import MemoryJournal, Shelf

from .naive import NaiveMap
from .test_stateful import COMMON, KEYS, MapMachine, Pair, outcome, someone, told

FEW = 6  # changes that the feed of a map is opened with now and then


class DurableMachine(MapMachine):
    """All rules, with maps on journals in memory."""

    retention: chronomap.Retention | None = None

    def __init__(self) -> None:
        self.places: list[Any] = []
        self.reopened = 0  # the revision at which the first map was last opened again
        super().__init__()

    def make_map(self, clock: Callable[[], float]) -> Any:
        """A new map in a new place."""
        self.places.append(self.new_place())
        return self.open(len(self.places) - 1, clock)

    def new_place(self) -> Any:
        """Where a map is kept."""
        return Shelf()

    def open(self, who: int, clock: Callable[[], float], feed_retention: int = RETAINED_CHANGES) -> Any:
        """The map that is kept in a place."""
        journal = MemoryJournal(self.places[who])
        return chronomap.ChronoMap.open(journal, clock=clock, feed_retention=feed_retention, retention=self.retention)

    def make_naive(self) -> NaiveMap:
        """The same limits."""
        kept = self.retention
        return NaiveMap() if kept is None else NaiveMap(kept.max_versions, kept.max_age)

    def before_a_snapshot(self) -> None:
        """Here it leaves what fell due to those who write; it reads the same nevertheless."""
        assert self.real.snapshot().latest() == self.naive.latest(now=self.now)
        self.settle()

    def lost(self, request_id: str) -> bool:
        """What was put has been erased or pruned, and with it the key went from the log."""
        key, revision = self.requests[request_id]
        return revision <= self.reopened and all(v.revision != revision for v in self.naive.timeline[key])

    def maimed(self, revision: int) -> bool:
        """Of a commit that lost some of its versions the rest can be undone; of one that lost all to erasing, nothing."""
        if revision > self.reopened:
            return False
        written = [(kind, key) for r, kind, key, _ in self.naive.log if r == revision and kind != "activate"]
        erased = {key: r for r, kind, key, _ in self.naive.log if kind == "erase"}
        if written and all(erased.get(key, 0) > revision for _, key in written):
            # Nothing is left to undo; what another key's activation left of the commit makes that no error.
            before, got = self.real.revision, outcome(lambda: self.real.undo(revision))
            assert got[0] == "refused" or got == ("returned", before)
            return True
        store = self.real._store
        if not written:  # it only said what took effect, and of that nothing may be left
            activated = {key for r, _, key, _ in self.naive.log if r == revision}
            return revision <= int(store.pruned_to) or any(erased.get(key, 0) > revision for key in activated)
        return any(all(v.revision != revision for v in self.naive.timeline[key]) for _, key in written)

    @rule(who=someone, back=st.integers(0, 12), retained=st.sampled_from([RETAINED_CHANGES, FEW]))
    def reopen(self, who: int, back: int, retained: int) -> None:
        """Nothing can be told apart afterwards."""
        pair = self.pairs[who]
        self.settle()
        pair.replay()
        before = Picture(pair.real)
        pair.real.close()
        self.begin_again(who, retained)
        before.same_again(Picture(pair.real))
        self.replay_again(pair)
        floor = max(pair.real._owner.journal.complete_since, pair.real.revision - retained)
        if len(pair.naive.log) >= retained:
            floor = max(floor, pair.naive.log[-retained][0] - 1)
        self.resume(pair, max(0, pair.real.revision - back), floor)

    @rule(who=someone, seconds=st.sampled_from([0.5, 2, 20]))
    def close_for_a_while(self, who: int, seconds: float) -> None:
        """What fell due meanwhile is committed when the map is opened, and streams that go on from before hear of it."""
        self.settle()
        self.pairs[who].real.close()
        self.clock.advance(seconds)
        self.begin_again(who, RETAINED_CHANGES)

    def begin_again(self, who: int, retained: int) -> None:
        """Open a map that was closed, and go on with what was made of it."""
        pair = self.pairs[who]
        pair.real = self.open(who, self.clock, retained)
        pair.stream = pair.real.watch(since=pair.stream.revision, timeout=0)
        self.settle()
        if who == 0:
            self.reopened = pair.real.revision
            pair.naive.frozen.clear()
            for kept in self.kept:
                at, revision = kept.naive.timestamp, kept.naive.revision
                kept.real = pair.real.at(at, revision=revision)
                kept.naive = pair.naive.at(at, revision=revision, now=self.now)

    def resume(self, pair: Pair, since: int, floor: int) -> None:
        """A stream that goes on from an earlier revision, perhaps from one that the feed does not reach back to."""
        stream = pair.real.watch(since=since, timeout=0)
        try:
            got = list(stream)
        except chronomap.LaggedError as lagged:
            assert since < lagged.oldest <= max(0, floor)
            return
        self.same_log(got, pair, since)

    def replay_again(self, pair: Pair) -> None:
        """Replay refuses where something has been pruned, and is whole after that."""
        since = pair.real._store.pruned_to
        if since:
            with pytest.raises(chronomap.CompactedError):
                list(pair.real.replay(since=since - 1))
        self.same_log(list(pair.real.replay(since=since)), pair, since)

    @staticmethod
    def same_log(got: list[Any], pair: Pair, since: int) -> None:
        """The changes are those of the model's log, but for what belonged to keys before they were erased."""
        erased = {key: revision for revision, kind, key, _ in pair.naive.log if kind == "erase"}
        wanted = [(r, k, t) for r, _, k, t in pair.naive.log if r > since and erased.get(k, 0) <= r]
        told = [(change.revision, change.key, change.timestamp) for change in got]
        assert sorted(told, key=repr) == sorted(wanted, key=repr), (
            f"{set(told) ^ set(wanted)}, pruned to {pair.real._store.pruned_to}"
        )

    @rule(who=someone, back=st.integers(0, 12))
    def compact(self, who: int, back: int) -> None:
        """No read sees that the journal has forgotten something."""
        real = self.pairs[who].real
        real.compact(max(0, real.revision - back))


class Picture:
    """All that can be read of a map, but for reads at single points, which the machine compares with the model."""

    def __init__(self, real: Any) -> None:
        store = real._store
        self.versions = {key: real.versions(key, scheduled=True) for key in KEYS}
        self.latest = list(real.items())
        self.order = [key for key, timeline in store.timelines.items() if timeline.floor is None and key not in store.erased]
        self.stats = {name: real.get_stats()[name] for name in ("revision", "keys", "versions")}
        self.changed = {key: store.changed(key) for key in KEYS}
        self.pasts = {
            (key, revision): outcome(lambda: real.get(key, revision=revision))
            for key in KEYS
            for revision in range(store.revision + 1)
        }
        self.erased = dict(store.erased)
        self.pruned_to = store.pruned_to
        self.commits = {commit.revision: commit for commit in replay.commits(real._pin(), store.pruned_to)}

    def same_again(self, other: Picture) -> None:
        """It is the same after the map has been opened again."""
        assert other.versions == self.versions
        assert other.stats == self.stats
        pruned = {key: revision for key, revision in self.erased.items() if revision <= other.pruned_to}
        assert {**pruned, **other.erased} == self.erased, "what erased a key, if that has not been pruned"
        assert other.changed == self.changed
        assert dict(other.latest) == dict(self.latest)
        assert other.order == self.order, "the order of keys that were neither erased nor pruned"
        assert other.pasts == self.pasts
        for revision, commit in self.commits.items():
            if revision > max(self.pruned_to, other.pruned_to):
                again = other.commits.get(revision, commit._replace(records=()))
                assert (again.instant, again.meta) == (commit.instant, commit.meta)
                assert told(again, self.erased, again) == told(commit, self.erased, again)


class RetentionMachine(DurableMachine):
    """Maps on journals that forget old versions by themselves."""

    retention = chronomap.Retention(max_versions=3, max_age=10)


class FileMachine(DurableMachine):
    """Maps on files."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chronomap-"))
        super().__init__()

    def new_place(self) -> Any:
        """A file of its own."""
        return self.directory / f"{len(self.places)}.chrono"

    def open(self, who: int, clock: Callable[[], float], feed_retention: int = RETAINED_CHANGES) -> Any:
        """The map in a file."""
        return chronomap.ChronoMap.open(
            self.places[who], clock=clock, feed_retention=feed_retention, retention=self.retention, durability="off"
        )

    def teardown(self) -> None:
        """Nothing is left of the files."""
        try:
            super().teardown()
        finally:
            shutil.rmtree(self.directory)


@pytest.mark.timeout(900)
class TestDurableMachine(DurableMachine.TestCase):  # type: ignore[misc,name-defined]
    """On journals in memory."""

    settings = settings(COMMON, max_examples=60, stateful_step_count=30)


@pytest.mark.timeout(900)
class TestRetentionMachine(RetentionMachine.TestCase):  # type: ignore[misc,name-defined]
    """With retention, in fewer steps: most rules are the same code."""

    settings = settings(COMMON, max_examples=25, stateful_step_count=30)


@pytest.mark.timeout(900)
class TestFileMachine(FileMachine.TestCase):  # type: ignore[misc,name-defined]
    """On files, in few runs: they take longer."""

    settings = settings(COMMON, max_examples=10, stateful_step_count=30)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.skipif(os.environ.get("CHRONOMAP_SOAK") != "1", reason="CHRONOMAP_SOAK=1 runs it")
@pytest.mark.parametrize("machine", [DurableMachine, RetentionMachine, FileMachine])
def test_soak(machine: type[DurableMachine]) -> None:
    """The same, for as long as it takes."""
    case = machine.TestCase
    case.settings = settings(COMMON, max_examples=1_000, stateful_step_count=60)
    case().runTest()
