"""A disk that fails or fills up under a map: the write gets the error, reads go on, and nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from faulty import FaultySystem, NthFails, Step

from chronomap import ChronoMap, JournalError
from chronomap.errors import CompactedError, CorruptJournalError
from chronomap.journal import Journal, MemoryJournal, Shelf, SqliteJournal, sqlite
from chronomap.journal.verifying import verify
from chronomap.testing import ManualClock

CYCLES = int(os.environ.get("CHRONOMAP_CRASH_CYCLES", "0"))

Map = ChronoMap[str, Any]
Action = Callable[[Map, ManualClock], object]
START = 1_000_000.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages leave SQLite's own log all the time, so that it fails there too."""
    monkeypatch.setattr(sqlite, "LOG_PAGES", 12)


def in_transaction(cm: Map, _: ManualClock) -> None:
    """Read and write under one revision."""
    with cm.transaction() as tx:
        tx.put("c", tx.get("a"))
        tx.delete("b")


def after(seconds: float) -> Action:
    """Let time go by, and have committed what fell due."""

    def action(cm: Map, clock: ManualClock) -> None:
        clock.advance(seconds)
        cm.clean_expired_keys()

    return action


ACTIONS: list[Action] = [
    lambda cm, _: cm.put("a", 1),
    lambda cm, _: cm.put_many({"a": [2], "b": (1, "x"), "pad": "x" * 9_000}),
    lambda cm, _: cm.put("once", 1, request_id="once"),
    lambda cm, _: cm.put("ttl", 1, ttl=5),
    lambda cm, clock: cm.put("plan", 1, timestamp=clock() + 7),
    lambda cm, _: cm.delete("a"),
    after(6),
    lambda cm, _: cm.put("a", 3),
    in_transaction,
    lambda cm, _: cm.update("a", lambda n: n + 1),
    after(5),
    lambda cm, _: cm.rollback(cm.revision - 2),
    lambda cm, _: cm.erase("pad"),
    lambda cm, _: cm.prune_history("a", keep_last=1),
    lambda cm, _: cm.put_many({f"more{n}": "y" * 500 for n in range(20)}),
    lambda cm, _: cm.compact(5),
    lambda cm, _: cm.vacuum(),
    lambda cm, _: cm.undo(cm.revision),
    lambda cm, _: cm.clear(),
]
LATER = 6, 10
"""Where time goes by."""

ERASE, PRUNE = 12, 13
"""Where what fails may be gone from the map though the file still has it."""


def prepare(journal: Journal) -> None:
    """Something is overdue when the map is opened."""
    with Map.open(journal, clock=ManualClock(START)) as cm:
        cm.put("overdue", 1, ttl=5)
        cm.put("kept", 1)


def state(cm: Map) -> dict[str, Any]:
    """What a map tells."""
    return {
        "revision": cm.revision,
        "latest": cm.latest(),
        "length": len(cm),
        "items": dict(cm.items()),
        "newest": sorted(key for key, _, _ in cm.get_latest_keys(100)),
        "versions": {
            key: cm.versions(key, scheduled=True) for key in (*"abc", "once", "ttl", "plan", "pad", "overdue", "kept")
        },
        "snapshot": dict(cm.snapshot().items()),
    }


def states() -> list[dict[str, Any]]:
    """What is told before the first action and after each."""
    shelf, clock = Shelf(), ManualClock(START + 100)
    prepare(MemoryJournal(shelf))

    class Vacuumed(MemoryJournal):
        def vacuum(self) -> None:
            """Nothing."""

    with Map.open(Vacuumed(shelf), clock=clock) as cm:
        found = [state(cm)]
        for action in ACTIONS:
            action(cm, clock)
            found.append(state(cm))
    return found


WRITES: list[Callable[[Map], object]] = [
    lambda cm: cm.put("a", 9),
    lambda cm: cm.put("kept", 9, if_absent=True),
    lambda cm: cm.put("once", 1, request_id="once"),
    lambda cm: cm.put("b", 9, timestamp=5.0),
    lambda cm: cm.delete("kept"),
    lambda cm: cm.clear(),
    lambda cm: cm.erase("kept"),
    lambda cm: cm.rollback(0),
    lambda cm: cm.touch("kept", 5),
    lambda cm: cm.compact(0),
]


def fail_at(path: Path, content: bytes, fault: NthFails, expected: list[dict[str, Any]]) -> None:
    """Go through the actions on a disk that fails, and look at what is told then and after reopening."""
    for file in path.parent.iterdir():
        file.unlink()
    path.write_bytes(content)
    clock = ManualClock(START + 100)
    system = FaultySystem(fault)
    done = 0
    try:
        with Map.open(SqliteJournal.open(path, vfs=system.vfs_name), clock=clock) as cm:
            first = cm.revision
            told: list[Any] = []
            cm.on_change(lambda key, old, new, when: told.append((key, new)))
            stream = cm.watch(timeout=0)
            try:
                for action in ACTIONS:
                    action(cm, clock)
                    done += 1
            except JournalError:
                assert fault.failed
                check_read_only(cm, expected, done)
            changes = list(stream)
            assert [change.revision for change in changes] == sorted(change.revision for change in changes)
            assert {change.revision for change in changes} == set(range(first + 1, cm.revision + 1))
            assert heard(told) == heard((change.key, change.value) for change in changes)
    except JournalError:  # already when it was opened
        assert fault.failed
        assert done == 0
    finally:
        fault.for_ever, fault.n = False, 0
        system.unregister()
    verify(path).insist()
    with Map.open(path, clock=clock, durability="off") as again:
        assert again.read_only is None
        assert state(again) in expected[done : done + 2]  # what was overdue at first is committed now
        again.put("once", 1, request_id="once")
        assert len([version for version in again.versions("once") if version.kind == "value"]) <= 2
        again._check()


def heard(changes: Iterable[tuple[str, Any]]) -> list[str]:
    """Changes to compare: not of keys that the reaper may speak of later, nor of what was erased."""
    return sorted(repr(change) for change in changes if change[0] not in ("ttl", "plan", "pad"))


def check_read_only(cm: Map, expected: list[dict[str, Any]], done: int) -> None:
    """It says so, it reads on, and every write gets the error, whatever else it would have got."""
    assert cm.read_only is not None
    before = state(cm)
    assert before in possible(expected, done)
    for write in WRITES:
        with pytest.raises(JournalError):
            write(cm)
    with pytest.raises(JournalError), cm.transaction() as tx:
        tx.put("a", tx.get("kept"))
    assert state(cm) == before
    with contextlib.suppress(CompactedError):
        assert all(change.revision <= cm.revision for change in cm.replay())
    cm._check()


def possible(expected: list[dict[str, Any]], done: int) -> list[dict[str, Any]]:
    """What a map may tell after an action has failed."""
    if not done:  # it may have been read-only from the beginning: then what was overdue is missing, but not committed
        versions = expected[0]["versions"]
        unsettled = {"revision": expected[0]["revision"] - 1, "versions": versions | {"overdue": versions["overdue"][:-1]}}
        return [expected[0], expected[0] | unsettled]
    if done in LATER:  # reads are exact, committed or not
        return [expected[done + 1] | {name: expected[done][name] for name in ("revision", "versions")}]
    return expected[done : done + (2 if done in (ERASE, PRUNE) else 1)]


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError, apsw.NoMemError], ids=["broken", "full", "no memory"])
def test_writes_and_syncs_fail_in_turn(tmp_path: Path, error: type[Exception], for_ever: bool, seed: random.Random) -> None:
    """The n-th write, sync or truncation fails; the campaign does it for every n, until all goes well."""
    expected = states()
    path = tmp_path / "disk" / "map.chrono"
    path.parent.mkdir()
    prepare(SqliteJournal.open(path, durability="off"))
    content = path.read_bytes()
    step = 1 if CYCLES else 12
    n = seed.randrange(step) + 1
    while True:
        fault = NthFails(n, for_ever=for_ever, error=error)
        fail_at(path, content, fault, expected)
        if not fault.failed:
            break
        n += step
    assert n > 100


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError], ids=["broken", "full"])
def test_many_threads_on_a_disk_that_fails(tmp_path: Path, error: type[Exception], seed: random.Random) -> None:
    """What is served, heard and streamed is what was acknowledged, before the failure, after it and when reopened."""
    for round_ in range(max(4, CYCLES // 2)):
        path = tmp_path / f"map{round_}.chrono"
        SqliteJournal.open(path).close()
        fault = NthFails(seed.randrange(1, 150), for_ever=seed.random() < 0.5, error=error)
        system = FaultySystem(fault)
        acknowledged: dict[int, tuple[str, int]] = {}
        refused: set[tuple[str, int]] = set()
        heard_of: list[tuple[str, int]] = []
        try:
            cm = ChronoMap[str, int].open(SqliteJournal.open(path, vfs=system.vfs_name))
        except JournalError:
            cm = None
        if cm is not None:
            cm.on_change(lambda key, old, new, when, told=heard_of: told.append((key, new)))
            stream = cm.watch(timeout=0)

            def write(name: str, cm: Any = cm, done: Any = acknowledged, not_done: Any = refused) -> None:
                for n in range(60):
                    try:
                        done[cm.put(name, n, request_id=f"{name} {n}")] = name, n
                    except JournalError:
                        not_done.add((name, n))

            threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert cm.revision == len(acknowledged)
            assert {change.revision: (change.key, change.value) for change in stream} == acknowledged
            assert sorted(heard_of) == sorted(acknowledged.values())
            assert cm.latest() == {name: max(n for other, n in acknowledged.values() if other == name) for name in cm}
            assert bool(refused) == (cm.read_only is not None and cm.revision < 360)
            cm._check()
            cm.close()
        fault.for_ever, fault.n = False, 0
        system.unregister()
        with ChronoMap[str, int].open(path) as again:
            found = {change.revision: (change.key, change.value) for change in again.watch(since=0, timeout=0)}
            assert list(found) == list(range(1, len(found) + 1))
            assert found.items() >= acknowledged.items()
            assert set(found.values()) - set(acknowledged.values()) <= refused
            for name, n in sorted(refused)[:20]:  # a retry is applied once, whether or not it had been
                again.put(name, n, request_id=f"{name} {n}")
            values = [(c.key, c.value) for c in again.watch(since=0, timeout=0)]
            assert len(values) == len(set(values))


# -- no room -----------------------------------------------------------------------------------------------------------


def fill_and_free(path: Path, filled: Callable[[], object], freed: Callable[[], object], open_map: Callable[[], Map]) -> None:
    """Write until there is no room, twice, with room made in between; nothing acknowledged is lost."""
    acknowledged: dict[str, int] = {}
    for round_ in range(3):
        cm = open_map()
        assert cm.latest().keys() >= acknowledged.keys()
        with pytest.raises(JournalError):
            for n in range(10_000):
                cm.put_many({f"{round_} {n}": n, "pad": os.urandom(900)})
                acknowledged[f"{round_} {n}"] = n
        assert cm.read_only is not None
        assert {key: value for key, value in cm.items() if key != "pad"}.items() == acknowledged.items()
        if not round_:
            filled()
        freed()
        with pytest.raises(JournalError):  # room or not, it is for reopening to decide
            cm.put("late", 1)
        cm.close()
    with Map.open(path) as cm:
        assert {key: cm[key] for key in acknowledged} == acknowledged
        cm.put("late", 1)
    verify(path).insist()
    assert len(acknowledged) > 300


def test_no_room_and_room_again(tmp_path: Path) -> None:
    """With a quota under the map."""
    path = tmp_path / "map.chrono"
    sizes: dict[str, int] = {}
    room = [300_000]

    def limited(step: Step) -> None:
        if step.what == "write":
            end = max(sizes.get(step.name, 0), step.offset + len(step.content))
            if sum(sizes.values()) - sizes.get(step.name, 0) + end > room[0]:
                raise apsw.FullError("no room")
            sizes[step.name] = end
        elif step.what == "truncate":
            sizes[step.name] = step.offset

    SqliteJournal.open(path).close()
    system = FaultySystem(limited)

    def open_map() -> Map:
        sizes.clear()
        sizes.update({file.name: file.stat().st_size for file in tmp_path.iterdir()})
        return Map.open(SqliteJournal.open(path, durability="off", vfs=system.vfs_name))

    def more() -> None:
        room[0] += 400_000

    fill_and_free(path, lambda: None, more, open_map)
    system.unregister()


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of 3 MB; skips where it cannot be had."""
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(not CYCLES or sys.platform != "linux", reason="make crash: mounts a file system")
def test_a_real_disk_fills_up(tmp_path: Path) -> None:
    """The same with a real file system that is full, and then has room again."""
    place = tmp_path / "small"
    with small_disk(place):
        ballast = [place / f"ballast{n}" for n in range(2)]
        for file in ballast:
            file.write_bytes(bytes(800_000))
        path = place / "map.chrono"

        def free() -> None:
            if ballast:
                ballast.pop().unlink()

        fill_and_free(path, lambda: None, free, lambda: Map.open(path))


# -- no memory ---------------------------------------------------------------------------------------------------------


def test_sqlite_gets_no_memory(tmp_path: Path) -> None:
    """SQLite's heap is limited while a map writes, and while it is opened: an error, and never a damaged or wrong map."""
    failed = 0
    for room in (0, 2_000, 10_000, 30_000, 60_000, 120_000, 250_000):
        path = tmp_path / f"map{room}.chrono"
        acknowledged: dict[str, int] = {}
        with Map.open(path, durability="off") as cm:
            cm.put("first", 1)
            try:
                apsw.hard_heap_limit(apsw.memory_used() + room)
                for n in range(100):
                    cm.put_many({f"k{n}": n, "pad": os.urandom(3_000)})
                    acknowledged[f"k{n}"] = n
            except JournalError as error:
                assert not isinstance(error, CorruptJournalError)
                assert cm.read_only is not None
                failed += 1
            finally:
                apsw.hard_heap_limit(0)
            assert {key: value for key, value in cm.items() if key[0] == "k"} == acknowledged
            cm._check()
        for limit in range(0, 100_000, 5_000):
            opened = None
            try:
                apsw.hard_heap_limit(apsw.memory_used() + limit)
                opened = Map.open(path)
                found = opened.latest()
            except JournalError as error:
                assert not isinstance(error, CorruptJournalError)
            else:
                assert {key: found[key] for key in acknowledged} == acknowledged
            finally:
                apsw.hard_heap_limit(0)
                if opened is not None:
                    opened.close()
        verify(path).insist()
        with Map.open(path) as cm:
            assert {key: cm[key] for key in acknowledged} == acknowledged
    assert failed > 2
