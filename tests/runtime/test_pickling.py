"""What crosses the border of a process: errors, changes, versions and differences do; maps and streams say why not."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import chronomap
from chronomap import AsyncChronoMap, ChronoMap, ChronoMapError, ChronoMapTypeError, errors
from chronomap.testing import ManualClock

WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda given: pickle.loads(pickle.dumps(given)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}

MADE: dict[type[ChronoMapError], ChronoMapError] = {
    errors.ChronoMapKeyError: errors.ChronoMapKeyError(("a", 1)),
    errors.NotResidentError: errors.NotResidentError("a"),
    errors.FutureRevisionError: errors.FutureRevisionError(7, 3),
    errors.LaggedError: errors.LaggedError(1, 5),
    errors.ConflictError: errors.ConflictError("no", keys=("a",), revision=3),
    errors.CompactedError: errors.CompactedError("no", key="a", timestamp=2.0),
    errors.JournalOpenError: errors.JournalOpenError("no", path="here"),
    errors.JournalInUseError: errors.JournalInUseError("no", path="here", pid=4, host="there"),
    errors.CorruptJournalError: errors.CorruptJournalError("no", problems=("one", "two"), safe=9),
}
"""Those that carry something, or take something else than a message."""

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ChronoMapError)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_errors_cross(kind: type[ChronoMapError], way: str) -> None:
    """An error is the same on the other side: its class, message and attributes, notes included."""
    error = MADE.get(kind) or kind("no")
    error.add_note("noted")
    found = WAYS[way](error)
    assert type(found) is kind
    assert str(found) == str(error)
    assert (found.args, vars(found)) == (error.args, vars(error))


@pytest.mark.parametrize("way", WAYS)
def test_a_conflict_brings_the_version_along(way: str) -> None:
    """What a map raised has the version in force with it, and each look at that is a copy."""
    with ChronoMap[str, list[int]]() as m:
        m["a"] = [1]
        with pytest.raises(chronomap.ConflictError) as raised:
            m.put("a", [2], if_absent=True)
        found = WAYS[way](raised.value)
        m["a"] = [3]
    assert (found.keys, found.revision, found.version.value) == (("a",), 1, [1])
    found.version.value.append(9)
    assert found.version.value == [1]


def lag() -> None:
    """Raise what a stream does that has fallen behind."""
    raise errors.LaggedError(1, 5)


def test_an_error_comes_back_from_a_pool() -> None:
    """A pool of processes hands on the error, where it would break down over one that cannot be made again."""
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
        pytest.raises(errors.LaggedError) as got,
    ):
        pool.submit(lag).result()
    assert got.value.oldest == 5


@pytest.mark.parametrize("way", WAYS)
def test_facts_cross(way: str) -> None:
    """Changes, versions, differences and limits are equal on the other side."""
    with ChronoMap[str, Any](clock=ManualClock(1)) as m, ChronoMap[str, Any](clock=ManualClock(1)) as other:
        m.put_many({"a": [1], "b": 1})
        m.put("c", 1, ttl=5, meta={"author": "ann"})
        other.put_many({"b": None, "d": None})
        facts: list[Any] = [*m.watch(since=0, timeout=0), *m.versions("a"), *m.diff_detailed(other)]
        assert [difference.kind for difference in m.diff_detailed(other)] == ["added", "changed", "added", "removed"]
    for fact in (*facts, chronomap.Retention(max_age=3)):
        found = WAYS[way](fact)
        assert type(found) is type(fact) or isinstance(fact, chronomap.Change)
        assert found == fact
        assert getattr(found, "kind", None) == getattr(fact, "kind", None)


@pytest.mark.parametrize("way", WAYS)
def test_maps_do_not_cross(way: str) -> None:
    """Maps, transactions and streams are refused, and told what to do instead; the map is none the worse."""
    with ChronoMap[str, int]() as m, m.transaction() as tx:
        lone = AsyncChronoMap[str, int]()
        for refused in (m, lone, tx, m.watch(), lone.watch()):
            with pytest.raises(ChronoMapTypeError, match=r"cannot be copied or pickled.*(fork\(\)|since=)"):
                WAYS[way](refused)
        m["a"] = 1
        m._check()


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["copy", "deepcopy"])
async def test_a_copy_of_a_snapshot_is_itself(way: str) -> None:
    """It never changes; but it cannot be pickled."""
    async with AsyncChronoMap[str, int]() as cm:
        await cm.put("a", 1)
        for snapshot in (await cm.snapshot(), cm.bridge().snapshot(), cm.bridge().at(revision=1)):
            assert WAYS[way](snapshot) is snapshot
            with pytest.raises(ChronoMapTypeError, match="save_pickle"):
                pickle.dumps(snapshot)
