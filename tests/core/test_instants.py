"""What is kept of every commit in little room: instants by blocks, and revisions in four bytes until that is not enough."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import pytest

from chronomap import ChronoMap, CompactedError
from chronomap.core import chronicle, store
from chronomap.core.instants import BLOCK, Instants
from chronomap.core.timeline import NARROW, WIDE, Series
from chronomap.testing import ManualClock


@pytest.mark.parametrize("start", [0.0, -1e6, 1.7e9, 1e300], ids=["1970", "before", "now", "far"])
@pytest.mark.parametrize("step", [0.0, 1e-6, 1.0, 3600.0], ids=["at once", "microseconds", "seconds", "hours"])
def test_instants_are_exact(start: float, step: float, seed: random.Random) -> None:
    """However far apart they are, and however they come in."""
    expected: list[float] = []
    instants = Instants()
    while len(expected) < 10 * BLOCK:
        some = [start + step * (len(expected) + number + seed.random()) for number in range(seed.randrange(3 * BLOCK))]
        instants.extend(some)
        expected += some
        assert len(instants) == len(expected)
    assert list(instants) == expected
    assert list(Instants(expected)) == expected
    with pytest.raises(IndexError):
        instants[len(expected)]


def test_instants_close_together_take_half_the_room() -> None:
    """Four bytes each."""
    moments = [1.7e9 + number * 1e-5 for number in range(100 * BLOCK)]
    tracemalloc.start()
    instants = Instants(moments)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 5 * len(moments)
    assert instants[0] == moments[0]


KEYS = [f"k{number}" for number in range(8)]


def change(cm: ChronoMap[str, int], rng: random.Random) -> None:
    """Something."""
    key, value = rng.choice(KEYS), rng.randrange(1000)
    call: list[Any] = rng.choice(
        [
            *([cm.put, key, value],) * 5,
            [cm.put, key, value, cm._owner.clock() - rng.random() * 20],
            [cm.put, key, value, None, rng.random() * 3],
            [cm.put_many, dict.fromkeys(rng.sample(KEYS, 3), value)],
            [cm.delete, key],
            [cm.rollback, rng.randint(max(0, cm.revision - 5), cm.revision)],
            [cm.prune_history, key, 20],
        ]
    )
    call[0](*call[1:])


def lived(rng: random.Random) -> list[Any]:
    """The life of a map, and what can be read of it: from snapshots taken all along, and in the end."""
    clock = ManualClock()
    cm = ChronoMap[str, int](clock=clock)
    snapshots = []
    while cm.revision < 400:
        clock.advance(rng.random())
        change(cm, rng)
        if rng.random() < 0.1:
            snapshots.append(cm.snapshot())
    told: list[Any] = [snapshot.latest() for snapshot in snapshots]
    told += [cm.history(key) for key in KEYS]
    for revision in range(250, 260):
        for key in KEYS:
            try:
                told.append(cm.get(key, revision=revision))
            except CompactedError as error:
                told.append(str(error))
    told += [change.as_dict() for change in cm.watch(since=cm.revision - 50, timeout=0)]
    cm._check()
    return told


def test_revisions_outgrow_their_room(seed: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody notices, whether they hold a snapshot of before or read what came after."""
    number = seed.random()
    assert Series().revisions.typecode == NARROW
    expected = lived(random.Random(number))
    monkeypatch.setattr(Series, "code", "B")  # one byte, up to 255
    monkeypatch.setattr(chronicle, "WIDE_FROM", 200)
    monkeypatch.setattr(store, "FOLD_EVERY", 16)
    assert lived(random.Random(number)) == expected
    assert Series().revisions.typecode == WIDE
