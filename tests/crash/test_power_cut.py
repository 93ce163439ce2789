"""The power fails while many threads write to a map: what was acknowledged is there, and what is there is a prefix."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from faulty import FaultySystem, Step, outages
from killing import latest_of
from logs import plain

from chronomap import ChronoMap
from chronomap.core.records import Commit
from chronomap.journal import SqliteJournal, sqlite
from chronomap.journal.verifying import verify

CYCLES = int(os.environ.get("CHRONOMAP_CRASH_CYCLES", "0"))
THREADS = 5
ERASED = "erased"
"""The key that is erased now and then."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages leave SQLite's own log all the time, so that the power fails then too."""
    monkeypatch.setattr(sqlite, "LOG_PAGES", 12)


def write(cm: ChronoMap[str, Any], system: FaultySystem, name: str, rng: random.Random) -> None:
    """Some of everything; every acknowledged revision is noted among what was done to the disk."""
    for n in range(30):
        key, value = f"k{rng.randrange(6)}", [name, n]
        choice = rng.random()
        if choice < 0.6:
            revision = cm.put(key, value)
        elif choice < 0.7:
            revision = cm.put_many({f"k{k}": value for k in rng.sample(range(6), 3)})
        elif choice < 0.8:
            revision = cm.put(f"ttl{key}", value, ttl=rng.random() * 0.02)
        elif choice < 0.85:
            cm.delete(key)
            revision = cm.put(key, value, timestamp=1000.0 + n)
        elif choice < 0.9:
            revision = cm.rollback(max(0, cm.revision - 3))
        elif choice < 0.93:
            cm.prune_history(f"only {name}", keep_last=2)
            revision = cm.put(f"only {name}", value)
        elif choice < 0.96:
            revision = cm.put(ERASED, value)
            cm.erase(ERASED)
        else:
            rng.choice((cm.vacuum, lambda: cm.compact(max(0, cm.revision - 40))))()
            continue
        system.steps.append(Step("told", offset=revision))


def recorded(path: Path, durability: str, rng: random.Random) -> tuple[dict[str, bytes], list[Step], list[Commit]]:
    """A file as it was first, what was done to the disk, and the commits."""
    SqliteJournal.open(path).close()
    before = {path.name: path.read_bytes()}
    system = FaultySystem()
    with ChronoMap[str, Any].open(SqliteJournal.open(path, durability=durability, vfs=system.vfs_name)) as cm:
        threads = [
            threading.Thread(target=write, args=(cm, system, f"t{n}", random.Random(rng.random()))) for n in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        steps = list(system.steps)
        log = [
            commit._replace(records=tuple(record for record in commit.records if record.key != ERASED))
            for commit in cm._store.feed.since(0)
        ]
    system.unregister()
    return before, steps, log


def lose_power(place: Path, durability: str, rng: random.Random, cuts: int) -> None:
    """Cut the power at many points, and look at what is left."""
    place.mkdir()
    before, steps, log = recorded(place / "map.chrono", durability, rng)
    spot = place / "after" / "map.chrono"
    for cut, acknowledged in outages(steps, before, rng, cuts, spot.parent):
        verify(spot).insist()
        with SqliteJournal.open(spot) as journal:
            revision, since = journal.revision, journal.complete_since
            found = plain(journal.replay(since))
        assert durability != "full" or revision >= acknowledged, (cut, revision, acknowledged)
        assert [
            commit._replace(records=tuple(record for record in commit.records if record.key != ERASED)) for commit in found
        ] == plain(log[since:revision])
        now = log[revision - 1].instant if revision else 0.0
        with ChronoMap[str, Any].open(spot, clock=lambda: 0.0) as cm:
            assert cm.revision == revision
            latest = cm.at(now).latest()
            latest.pop(ERASED, None)
            assert latest == latest_of(log[:revision], now)
            cm._check()
            assert cm.put("after", cut) == revision + 1
        with ChronoMap[str, Any].open(spot, clock=lambda: 0.0) as cm:
            assert (cm.revision, cm["after"]) == (revision + 1, cut)


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_the_power_fails(tmp_path: Path, durability: str, seed: random.Random) -> None:
    """With "full" nothing that was acknowledged is lost, with "normal" nothing in the middle; and the map goes on."""
    for round_ in range(max(1, CYCLES // 20)):
        lose_power(tmp_path / str(round_), durability, seed, 100 if CYCLES else 40)
