"""The index of present keys, against sorted()."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from chronomap.core.recency import Recency, Stamp


def expected_top(stamps: dict[str, Stamp], n: int) -> list[str]:
    """What ``top`` has to give."""
    return sorted(stamps, key=lambda key: stamps[key], reverse=True)[:n]


def test_worked_example() -> None:
    """The example in the module's head: a at 10, b at 20, c back-dated to 5."""
    recency = Recency()
    stamps: dict[str, Stamp] = {"a": (10, 1), "b": (20, 2), "c": (5, 3)}
    for key, (timestamp, revision) in stamps.items():
        recency.place(key, timestamp, revision)
    recency._check(stamps)
    assert len(recency) == 3
    assert recency.top(3, stamps.get) == ["b", "a", "c"]
    assert recency.top(2, stamps.get) == ["b", "a"]
    assert recency.top(0, stamps.get) == []


def test_equal_timestamps() -> None:
    """Of keys at one timestamp the one written last comes first, wherever the index keeps it."""
    recency = Recency()
    stamps: dict[str, Stamp] = {"a": (10, 1), "b": (10, 2), "z": (20, 3), "c": (10, 4)}
    for key, (timestamp, revision) in stamps.items():
        recency.place(key, timestamp, revision)
    assert recency.top(9, stamps.get) == ["z", "c", "b", "a"]
    assert recency.top(2, stamps.get) == ["z", "c"]


def test_remove_and_return() -> None:
    """A removed key is not listed; placed again it is, once."""
    recency = Recency()
    recency.place("a", 20, 1)
    recency.place("b", 10, 2)
    recency.remove("b")
    recency.remove("never there")
    assert len(recency) == 1
    recency.place("b", 10, 4)
    stamps: dict[str, Stamp] = {"a": (20, 1), "b": (10, 4)}
    recency._check(stamps)
    assert recency.top(5, stamps.get) == ["a", "b"]
    assert recency.top(5, stamps.get) == ["a", "b"], "asking changes nothing"


steps = st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 8)), max_size=40)


@given(steps)
def test_against_sorted(changes: list[tuple[str, int | None]]) -> None:
    """After every change, back-dated or not, every top(n) is what sorting all keys gives."""
    recency = Recency()
    stamps: dict[str, Stamp] = {}
    for revision, (key, timestamp) in enumerate(changes, 1):
        if timestamp is None:
            recency.remove(key)
            stamps.pop(key, None)
        else:
            recency.place(key, timestamp, revision)
            stamps[key] = (timestamp, revision)
        recency._check(stamps)
        for n in range(len(stamps) + 2):
            assert recency.top(n, stamps.get) == expected_top(stamps, n)


def test_many_backdated(seed: random.Random) -> None:
    """The heap of older keys is rebuilt when it is mostly stale, and the answers stay right."""
    recency = Recency()
    stamps: dict[str, Stamp] = {}
    for revision in range(1, 3001):
        key = f"k{seed.randrange(50)}"
        timestamp = seed.choice([revision, seed.randrange(revision)])
        recency.place(key, timestamp, revision)
        stamps[key] = (timestamp, revision)
        if revision % 50 == 0:
            recency._check(stamps)
            assert recency.top(10, stamps.get) == expected_top(stamps, 10)
    assert len(recency._heap) <= 64 + 2 * 50 + 1
