"""Fifty watchers of all kinds while tasks and threads write and the log is cut; and what parked watchers cost."""

from __future__ import annotations

import gc
import os
import random
import tracemalloc
from contextlib import ExitStack, suppress
from itertools import pairwise, takewhile
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from chronomap import AsyncChronoMap, Change, ChronoMap, ChronoMapError, LaggedError
from chronomap.core import cursor
from chronomap.core.feed import as_commit
from chronomap.testing import ManualClock

KEYS = ["a1", "a2", "a3", "b1", "b2"]
CHOICES: list[dict[str, Any]] = [
    {},
    {"key": "a1"},
    {"prefix": "a"},
    {"where": lambda change: change.revision % 3 == 0},
    {"present_only": True},
    {"latest_only": True},
    {"prefix": "b", "latest_only": True},
    {"prefix": "a", "present_only": True, "where": lambda change: change.kind != "delete"},
]
STARTS: list[dict[str, Any]] = [{}, {"initial": True}, {"on_lag": "resync"}, {"initial": True, "on_lag": "resync"}]
MODES = ["eager", "slow", "cut", "commits", "parked", "thread"]


def wants(choice: dict[str, Any], change: Any) -> bool:
    """The filter, said again in plain words."""
    if "key" in choice and change.key != choice["key"]:
        return False
    if "prefix" in choice and not change.key.startswith(choice["prefix"]):
        return False
    if ("present_only" in choice or "latest_only" in choice) and not change.present:
        return False
    return "where" not in choice or bool(choice["where"](change))


class Log:
    """Every commit, written down before the feed lets go of it."""

    def __init__(self, cm: Any) -> None:
        self.feed = cm._store.feed
        self.changes: list[Change[str, int]] = []
        self.newest = 0
        self._trim = self.feed.trim
        self.feed.trim = self.trim

    def trim(self) -> None:
        """Write down, then cut."""
        self.write_down()
        self._trim()

    def write_down(self) -> None:
        """What is not here yet."""
        for commit in map(as_commit, self.feed.tail):
            if commit.revision > self.newest:
                self.newest = commit.revision
                self.changes += [Change(commit, index) for index in range(len(commit.records))]


def facts(change: Any) -> tuple[Any, ...]:
    """What is told of a key that is present."""
    return change.value, change.timestamp, change.expires_at, change.committed_at


def pasts(log: list[Any]) -> list[dict[str, Any]]:
    """For each revision what was present, by key: what somebody would hold who had applied every change."""
    held: list[dict[str, Any]] = [{}]
    for change in log:
        if change.revision == len(held):
            held.append(dict(held[-1]))
        if change.present:
            held[-1].pop(change.key, None)
            if not change.removed:
                held[-1][change.key] = change
    return held


class Reader:
    """One watcher: stretches of ``[since, until, changes]``, a new one after each LaggedError and each resync."""

    def __init__(self, cm: Any, choice: dict[str, Any], start: dict[str, Any], mode: str, seed: random.Random) -> None:
        self.cm, self.choice, self.start, self.mode, self.seed = cm, choice, start, mode, seed
        self.erased: dict[str, int] = cm._store.erased
        self.stretches: list[tuple[int, int, list[Any]]] = []
        self.begin(0 if start.get("initial") else cm.revision)

    def begin(self, since: int) -> None:
        """A new stretch."""
        self.since, self.seen = since, list[Any]()
        self.connect(since)

    def connect(self, since: int) -> None:
        """Go on; what was seen of a commit, or of what was present, that was not complete comes again."""
        self.seen = [change for change in self.seen if change.revision <= since]
        options: dict[str, Any] = {"timeout": 0.005} if self.mode == "thread" else {}
        anew = "initial" in self.start and not since
        options |= self.choice | self.start | ({"initial": True} if anew else {"initial": False, "since": since})
        self.stream = self.cm.watch(**options)
        if anew:
            cursor = self.stream._cursor
            self.since = cursor.position if cursor._view is None else cursor._view.revision

    def lag(self, error: LaggedError) -> None:
        """The end of a stretch."""
        assert "on_lag" not in self.start
        assert error.since == self.stream.revision < error.oldest
        self.stretches.append((self.since, error.since, self.seen))
        self.begin(error.oldest)

    def take(self, changes: list[Any], erased: dict[str, int]) -> None:
        """Changes that were asked for when those keys had been erased."""
        for change in changes:
            if erased.get(change.key, 0) > change.revision:
                assert change.value is None and change.previous is None and change.removed
        self.seen += changes

    async def read(self, half: anyio.Event) -> None:
        """Read for ever."""
        if self.mode == "parked":
            await half.wait()
        commits = self.stream.commits()
        while True:
            if self.mode == "slow" and self.seed.random() < 0.05:
                await anyio.sleep(0.002)
            erased = dict(self.erased)
            try:
                if self.mode == "commits":
                    found = await anext(commits)
                    assert len({change.revision for change in found}) == 1
                    self.take(found, erased)
                elif self.mode == "cut":
                    with anyio.move_on_after(self.seed.random() * 0.002):
                        self.take([await anext(self.stream)], erased)
                    if self.seed.random() < 0.1:
                        self.stream.close()
                        self.connect(self.stream.revision)
                else:
                    self.take([await anext(self.stream)], erased)
            except LaggedError as error:
                self.lag(error)
                commits = self.stream.commits()

    def read_in_thread(self, end: list[int]) -> None:
        """Read until the end is known and reached."""
        while not end or self.stream.revision < end[0]:
            erased = dict(self.erased)
            try:
                self.take([next(self.stream)], erased)
            except StopIteration:
                continue
            except LaggedError as error:
                self.lag(error)

    def check(self, log: list[Any], pasts: list[dict[str, Any]]) -> int:
        """Every stretch is what was present, if it began with that, and the filtered log; returns how many changes it got."""
        self.stretches.append((self.since, self.stream.revision, self.seen))
        for number, (since, until, seen) in enumerate(self.stretches):
            bounds = [0, *(place for place, change in enumerate(seen) if change.kind == "resync"), len(seen)]
            for begin, end in pairwise(bounds):
                part, base, last = seen[begin:end], since, end == len(seen)
                if part and part[0].kind == "resync":
                    base = part.pop(0).revision
                    part = self.check_present(part, base, pasts[base])
                elif "initial" in self.start and number == begin == 0:
                    part = self.check_present(part, base, pasts[base])
                known = until if last else max([base, *(change.revision for change in part)])
                self.check_log(part, log, base, known, cut=not last or seen is not self.seen)
        return sum(len(stretch[2]) for stretch in self.stretches)

    def check_present(self, part: list[Any], base: int, past: dict[str, Any]) -> list[Any]:
        """First comes what was present as of a revision, each key once; returns what follows."""
        told = list(takewhile(lambda change: change.kind == "initial", part))
        assert {change.revision for change in told} <= {base}
        found = {change.key: facts(change) for change in told}
        assert len(found) == len(told)
        wanted = {
            key: facts(change)
            for key, change in past.items()
            if wants(self.choice, SimpleNamespace(revision=base, kind="initial", key=key, present=True))
        }
        assert found.keys() <= wanted.keys()
        lasting = [key for key in wanted if self.erased.get(key, 0) <= base]
        assert [found.get(key) for key in lasting] == [wanted[key] for key in lasting]
        return part[len(told) :]

    def check_log(self, part: list[Any], log: list[Any], since: int, until: int, cut: bool) -> None:
        """The log between two revisions, without gap or repeat; or with ``latest_only`` the newest of each key."""
        matching = [change for change in log if since < change.revision <= until and wants(self.choice, change)]
        whole = [change for change in part if change.revision <= until]
        places = [(change.revision, change.index) for change in whole]
        logged = {(change.revision, change.index): change for change in matching}
        if "latest_only" not in self.choice:
            assert places == list(logged)
        assert places == sorted(set(places)) and set(places) <= logged.keys()
        if not cut:
            assert {change.key: change.revision for change in whole} == {change.key: change.revision for change in matching}
        for change in whole:
            if self.erased.get(change.key, 0) <= change.revision:
                assert change == logged[change.revision, change.index]


def write(cm: Any, seed: random.Random, clock: ManualClock) -> list[Any]:
    """One random command, as a method and its arguments."""
    key, value = seed.choice(KEYS), seed.randrange(100)
    return seed.choice(
        [
            [cm.put, key, value],
            [cm.put, key, value, clock() + seed.choice([-5, 3])],
            [cm.put, key, value, None, 4],
            [cm.put_many, dict.fromkeys(KEYS, value)],
            [cm.put_many, dict.fromkeys(KEYS, value)],
            [cm.delete, key],
            [cm.rollback, max(0, cm.revision - 3)],
            [cm.prune_history, key, 5],
            [cm.erase, key],
            [clock.advance, 1],
        ]
    )


@pytest.mark.anyio
@pytest.mark.usefixtures("maps")
async def test_fifty_watchers_while_everything_happens(  # noqa: C901 - writers, readers, and the end
    seed: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stream is the filtered log, after the present if asked, or ended in LaggedError and resumed where that said."""
    monkeypatch.setattr(cursor, "SLICE", seed.choice([2, 256]))
    clock = ManualClock()
    cm = AsyncChronoMap[str, int](clock=clock, feed_retention=50)
    bridge, log, half, end = cm.bridge(), Log(cm), anyio.Event(), list[int]()
    readers = []
    for number in range(50):
        mode = "thread" if number % 10 == 0 else MODES[number % 5]
        face: Any = bridge if mode == "thread" else cm
        start = STARTS[number // len(CHOICES) % len(STARTS)]
        readers.append(Reader(face, CHOICES[number % len(CHOICES)], start, mode, seed))

    def write_in_thread(number: int) -> None:
        own = random.Random(number)
        for _ in range(250):
            with suppress(ChronoMapError):
                method, *arguments = write(bridge, own, clock)
                method(*arguments)

    async def write_in_task(number: int) -> None:
        own = random.Random(number)
        for _ in range(250):
            with suppress(ChronoMapError):
                method, *arguments = write(cm, own, clock)
                result = method(*arguments)
                if method != clock.advance:
                    await result
            if own.random() < 0.3:
                await anyio.lowlevel.checkpoint()

    limiter = anyio.CapacityLimiter(10)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            with ExitStack() as failure:
                failure.callback(end.append, 0)  # threads must not wait for ever for an end that does not come
                for reader in readers:
                    if reader.mode == "thread":
                        group.start_soon(lambda one=reader: anyio.to_thread.run_sync(one.read_in_thread, end, limiter=limiter))
                    else:
                        group.start_soon(reader.read, half)
                async with anyio.create_task_group() as writers:
                    for _ in range(2):
                        number = seed.getrandbits(30)
                        writers.start_soon(lambda one=number: anyio.to_thread.run_sync(write_in_thread, one, limiter=limiter))
                        writers.start_soon(write_in_task, seed.getrandbits(30))
                for number in range(300):
                    await cm.put_many(dict.fromkeys(KEYS, number))
                half.set()
                await cm.put_many(dict.fromkeys(KEYS, -1))
                end.append(cm.revision)
                while any(reader.stream.revision < cm.revision for reader in readers):  # noqa: ASYNC110 - also threads'
                    await anyio.sleep(0.002)
            group.cancel_scope.cancel()
    log.write_down()
    past = pasts(log.changes)
    assert all(reader.check(log.changes, past) for reader in readers)
    assert any(len(reader.stretches) > 1 for reader in readers)
    assert any(change.kind == "resync" for reader in readers for change in reader.seen)


def growth(watchers: int, writes: int) -> int:
    """The peak of memory while so many changes are written."""
    cm = ChronoMap[str, int](feed_retention=1000)
    streams = [cm.watch(since=0) if number % 2 else cm.watch(f"k{number}") for number in range(watchers)]
    for number in range(3000):
        cm.put("warm", number)
    gc.collect()
    tracemalloc.start()
    for number in range(writes):
        cm.put("k", number % 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(streams) == watchers
    return peak


def test_parked_watchers_cost_no_memory() -> None:
    """A hundred streams that are never read hold nothing of what is written."""
    assert abs(growth(100, 50_000) - growth(0, 50_000)) < 300_000


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.skipif(os.environ.get("CHRONOMAP_SOAK") != "1", reason="CHRONOMAP_SOAK=1 runs it")
def test_parked_watchers_cost_no_memory_soak() -> None:
    """The same with a million changes."""
    assert abs(growth(100, 1_000_000) - growth(0, 1_000_000)) < 300_000
