"""A commit that is interrupted half-way is there as a whole or not at all, and the store goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from chronomap.core import store as store_module
from chronomap.core.records import NEVER
from chronomap.core.store import Store
from chronomap.core.timeline import Series, Single

KEYS = ("a", "b", "c", "new", "next")
NOW = 200.0

Write = Callable[[Store], Any]

WRITES: dict[str, Write] = {
    "put": lambda store: store.put(NOW, "a", "after"),
    "put-new-key": lambda store: store.put(NOW, "new", "after"),
    "put-backdated": lambda store: store.put(NOW, "a", "after", 50.0),
    "put-scheduled": lambda store: store.put(NOW, "a", "after", 900.0),
    "put-ttl": lambda store: store.put(NOW, "a", "after", ttl=700.0),
    "put_now": lambda store: store.put_now(NOW, "a", "after"),
    "put_many": lambda store: store.put_many(NOW, {"a": "after", "new": "after", "c": "after"}),
    "rollback": lambda store: store.rollback(NOW, 2),
    "erase": lambda store: store.erase(NOW, "a"),
    "delete": lambda store: store.delete(NOW, "a"),
    "delete-backdated": lambda store: store.delete(NOW, "a", 150.0),
    "put-latest-backdated": lambda store: store.put(NOW, "a", "after", 150.0),
    "put-new-key-ttl": lambda store: store.put(NOW, "new", "after", ttl=700.0),
    "touch": lambda store: store.touch(NOW, "a", 700.0),
    "update": lambda store: store.put_if(NOW, "a", "after", None, store.in_force("a", NOW)),
    "annotated": lambda store: store.annotated(NOW, (("author", "ann"),), store.put, "a", "after"),
    "request": lambda store: store.put(NOW, "a", "after", request_id="once"),
}

PLACES: dict[str, tuple[Callable[[Store], Any], str]] = {
    "recency.place": (lambda store: store.recency, "place"),
    "recency.arrive": (lambda store: store.recency, "arrive"),
    "recency.remove": (lambda store: store.recency, "remove"),
    "feed.append": (lambda store: store.feed, "append"),
    "deadlines.add": (lambda store: store.deadlines, "add"),
    "series.add": (lambda _: Series, "add"),
    "series.settle": (lambda _: Series, "settle"),
    "single.with_room": (lambda _: Single, "with_room"),
    "single.settle": (lambda _: Single, "settle"),
}


def filled() -> Store:
    """A store with three keys, changed again after revision 2."""
    store = Store()
    store.put(100.0, "a", "first")
    store.put(101.0, "b", "first")
    store.put(102.0, "a", "second")
    store.put(103.0, "c", "first")
    store.delete(104.0, "b")
    return store


def everything(store: Store) -> tuple[Any, ...]:
    """All that readers can see: the revision, every version, the feed, the present keys in order, what is read."""
    versions = {key: [tuple(entry) for entry in timeline.entries(store.revision)] for key, timeline in store.timelines.items()}
    values = {key: store.view(NOW).get(key) for key in KEYS}
    return (
        store.revision,
        [store.instant_of(revision) for revision in range(1, store.revision + 1)],
        {key: rows for key, rows in versions.items() if rows},
        {key: store.changed(key) for key in KEYS},
        store.feed.since(0),
        store.latest_keys(NOW, 9),
        store.count(NOW),
        values,
        {timestamp: {key: store.held(key, timestamp) for key in KEYS} for timestamp in (60.0, 102.5, 1000.0)},
    )


def test_a_promise_made_twice_comes_true_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that was interrupted between its promises is finished later, and makes them again."""
    store = filled()
    break_once(monkeypatch, store.deadlines, "add", KeyboardInterrupt(), call=2, late=True)
    with pytest.raises(KeyboardInterrupt):
        store.put(NOW, "a", "after", NOW + 1, ttl=5.0)
    assert store.clean_expired_keys(NOW + 10) == 1
    (commit,) = store.feed.since(store.revision - 1)
    assert [record.kind for record in commit.records] == ["activate", "expire"]
    store.check(NOW + 10)


def break_once(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException, *, call: int, late: bool
) -> list[int]:
    """Make one call of a method raise, before its work or after it; tells in a list how often it was called."""
    original = getattr(owner, name)
    calls: list[int] = []

    def broken(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) != call:
            return original(*arguments)
        if late:
            original(*arguments)
        raise error

    monkeypatch.setattr(owner, name, broken)
    return calls


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("write", WRITES)
def test_all_or_nothing(
    monkeypatch: pytest.MonkeyPatch, write: str, place: str, error: type[BaseException], late: bool
) -> None:
    """Whichever step is interrupted: all of the commit is visible or none, and the next put works."""
    before, complete = everything(filled()), filled()
    WRITES[write](complete)
    after = everything(complete)
    assert before != after
    reached = 0
    for call in (1, 2, 3):
        store = filled()
        owner, name = PLACES[place][0](store), PLACES[place][1]
        with monkeypatch.context() as patch:
            calls = break_once(patch, owner, name, error(), call=call, late=late)
            try:
                WRITES[write](store)
                store.fold()  # what a plain put leaves for later may be interrupted as well
            except error:
                reached += 1
            else:
                assert len(calls) < call
                assert everything(store) == after
                break
        assert everything(store) in (before, after)
        goes_on(store)
    print(f"{write} interrupted {reached} times in {place}")


def goes_on(store: Store) -> None:
    """The store is whole, and takes the next put."""
    store.check(NOW)
    revision = store.revision
    assert store.put(NOW + 1, "next", "works") == revision + 1
    assert store.view(NOW + 1).get("next") == "works"
    assert [commit.revision for commit in store.feed.since(0)] == list(range(1, revision + 2))
    store.check(NOW + 1)


CORE = str(Path(store_module.__file__).parent)


@contextmanager
def interrupted_at(number: int) -> Iterator[list[str]]:
    """A KeyboardInterrupt before the n-th line of the core that is run; which one that was, in a list."""
    place: list[str] = []
    left = number

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(CORE):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                place.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield place
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("write", [write for write in WRITES if write not in {"annotated", "request"}])
def test_interrupted_at_every_line(write: str) -> None:
    """The same, wherever it strikes.

    Python itself notices interrupts less often, and not within the `finally` that sets back what those two have set.
    """
    before, complete = everything(filled()), filled()
    WRITES[write](complete)
    after = everything(complete)
    outcomes = []
    for number in count(1):
        store = filled()
        with interrupted_at(number) as place:
            WRITES[write](store)
            store.fold()
        store.begin(NOW)
        found = everything(store)
        assert found in (before, after), place
        outcomes.append(found == after)
        goes_on(store)
        if not place:
            break
    assert sum(outcomes) < len(outcomes)
    assert outcomes == sorted(outcomes), "it was there, and then it was not"
    print(f"{write} interrupted at {len(outcomes) - 1} lines, and there from line {outcomes.index(True)} on")


def test_the_places_are_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step that the test above interrupts is one that some of its writes take."""
    for place, (owner_of, name) in PLACES.items():
        total = 0
        for write in WRITES.values():
            store = filled()
            with monkeypatch.context() as patch:
                calls = break_once(patch, owner_of(store), name, KeyboardInterrupt(), call=0, late=False)
                write(store)
                store.fold()
            total += len(calls)
        assert total, place


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_retry_after_nothing(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """A put that left nothing can be repeated and ends where it would have without the interruption."""
    expected = filled()
    WRITES["put_many"](expected)
    store = filled()
    with monkeypatch.context() as patch:
        break_once(patch, store.feed, "append", error(), call=1, late=False)
        with pytest.raises(error):
            WRITES["put_many"](store)
    assert store.revision == 5
    assert "new" not in store.timelines
    WRITES["put_many"](store)
    assert everything(store) == everything(expected)
    store.check(NOW)


def test_interrupted_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    """An expiry whose commit is interrupted is still due afterwards, and committed once."""
    store = filled()
    store.put(110.0, "a", "lease", ttl=10.0)
    revision = store.revision
    with monkeypatch.context() as patch:
        break_once(patch, Series, "add", KeyboardInterrupt(), call=1, late=False)
        with pytest.raises(KeyboardInterrupt):
            store.begin(130.0)
    assert store.revision == revision
    assert store.deadlines.next_due == 120.0
    assert store.count(130.0) == 1
    assert [record.kind for record in store.feed.since(revision)[0].records] == ["expire"]
    assert store.revision == revision + 1
    assert store.deadlines.next_due == NEVER
    store.check(130.0)
