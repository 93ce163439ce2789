"""A store that gathers: commands build on each other, readers see nothing of it until all is published, or never.

The head of ``core/chronicle.py`` tells the idea. Commands are called as the owner of a durable map calls them; readers are a
map's face on the same store.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from chronomap import ChronoMap, CompactedError, ConflictError, Retention
from chronomap.core.draft import Draft
from chronomap.core.records import Record
from chronomap.core.store import Store
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError, FutureRevisionError
from chronomap.testing import ManualClock

KEYS = ("a", "b", "c", "new")
NOW = 200.0
LATER = 1200.0  # when all has fallen due
STAMPS = (None, 50.0, 101.0, 150.0, NOW, 201.0, 500.0, 1000.0)


def admitted(_: Iterable[Record]) -> None:
    """A journal that could keep anything."""


def gathering(retention: Retention | None = None) -> Store:
    """A store with a few keys, changed, scheduled and about to expire, that gathers from now on."""
    store = Store(retention)
    store.gather(admitted, lambda key, _value: key != "c")
    store.put(100.0, "a", 1)
    store.put(101.0, "b", 1, ttl=1000.0)
    store.put(102.0, "a", 2)
    store.put(103.0, "c", 1, 500.0)
    store.put(104.0, "c", 0, request_id="first")
    store.publish()
    return store


def face(store: Store, now: float = NOW) -> ChronoMap[Any, Any]:
    """A map to read the store with; it never writes."""
    cm: ChronoMap[Any, Any] = ChronoMap(clock=ManualClock(now))
    cm._owner.alarm = None
    cm._store = cm._owner.store = store
    cm._owner.timelines = store.timelines
    return cm


def readable(cm: ChronoMap[Any, Any], revisions: int) -> dict[str, Any]:
    """Everything a reader can ask for, but the numbers of ``get_stats``."""
    stream = cm.watch(since=0, timeout=0)
    return {
        "revision": cm.revision,
        "pasts": {
            (key, timestamp, revision): cm.get(key, timestamp, "missing", revision=revision)
            for key in KEYS
            for timestamp in STAMPS
            for revision in (None, *range(revisions + 1))
        },
        "versions": {key: (cm.versions(key, scheduled=True), cm.history(key)) for key in KEYS},
        "present": (len(cm), cm.count(), list(cm), dict(cm.items()), cm.latest(), cm.get_latest_keys(9)),
        "snapshots": [(snap.revision, snap.latest(), len(snap)) for snap in (cm.snapshot(), cm.at(500.0))],
        "log": (list(cm.replay()), list(stream), stream.revision),
        "file": cm.to_dict(),
    }


def deep(store: Store) -> dict[str, Any]:
    """All that a store keeps, in a form that can be compared; of its promises those that could come true."""
    deadlines = store.deadlines
    store.fold()
    return {
        "revisions": (store.revision, store.head),
        "timelines": {key: (list(timeline), timeline.floor) for key, timeline in store.timelines.items()},
        "changed": {key: timeline.changed for key, timeline in store.timelines.items()},
        "ledger": (list(store.ledger.instants), store.ledger.notes, store.ledger._left, store.ledger._activated),
        "feed": store.feed.since(store.feed.floor),
        "promises": sorted(
            {(p.due, p.kind, repr(p.key), p.timestamp, p.revision) for p in deadlines._heap if store._stands(p)}
        ),
        "present": store.recency.top(99, store.view(NOW).identity),
        "known": (store.erased, store.pruned_to, dict(store._requests), store.expiries),
    }


# -- a group's commands see each other -----------------------------------------------------------------------------------


def test_conditions_see_the_group() -> None:
    """What an earlier command of the group wrote counts for the conditions of the next."""
    store = gathering()
    revision = store.put(NOW, "new", 1, if_absent=True)
    with pytest.raises(ConflictError) as absent:
        store.put(NOW, "new", 2, if_absent=True)
    assert absent.value.revision == revision
    with pytest.raises(ConflictError):
        store.put(NOW, "new", 2, if_revision=0)
    assert store.put(NOW, "new", 2, if_revision=revision) == revision + 1
    assert store.put(NOW, "new", 2, if_changed=True) == revision + 1
    assert store.delete(NOW, "new", if_revision=revision + 1)
    assert not store.delete(NOW, "new")
    assert store.put(NOW, "new", 3, if_absent=True) == revision + 3
    assert [commit[0] for commit in store.publish()] == [revision, revision + 1, revision + 2, revision + 3]


def test_a_request_comes_twice_in_a_group() -> None:
    """It is applied once, and both get the same answer."""
    store = gathering()
    assert store.put(NOW, "a", 3, request_id="again") == store.put(NOW, "a", 4, request_id="again") == 6
    with pytest.raises(ChronoMapValueError):
        store.put(NOW, "b", 3, request_id="again")
    assert len(store.publish()) == 1
    assert store.put(NOW, "a", 5, request_id="again") == 6


def test_back_in_time_in_a_group() -> None:
    """A rollback takes back what the group wrote before it; an undo of a commit that the group overtook is a conflict."""
    store = gathering()
    store.put(NOW, "a", 3)
    store.put(NOW, "new", 1)
    with pytest.raises(ConflictError):
        store.undo(NOW, 3)
    assert store.undo(NOW, 2) == 8
    assert store.rollback(NOW, 5) == 9
    store.put(NOW, "c", 7)
    assert store.rollback(NOW, 5) == 11
    store.publish()
    assert face(store).latest() == {"a": 2, "b": 1, "c": 0}
    assert store.undo(NOW, 11) == 12


def test_a_group_is_nobodys_past_yet() -> None:
    """Nobody can have been told of its revisions, so nobody can go back to one."""
    store = gathering()
    revision = store.put(NOW, "a", 3)
    for back in (store.undo, store.rollback):
        with pytest.raises(FutureRevisionError):
            back(NOW, revision)
    store.publish()
    assert store.undo(NOW, revision) == revision + 1


def test_transactions_in_a_group() -> None:
    """Two that read the same key: the second one conflicts, though the first is not published yet; others do not."""
    store = gathering()
    first, second, third = (Draft(store.pin(NOW)) for _ in range(3))
    for draft, key in ((first, "a"), (second, "a"), (third, "b")):
        draft.put(key, draft.get(key) + 10, None, None)

    def commit(draft: Draft) -> int:
        return store.apply(NOW, draft.base, draft.writes, draft.keys_read, draft.prefixes_read)

    assert commit(first) == 6
    with pytest.raises(ConflictError):
        commit(second)
    assert commit(third) == 7
    listing = Draft(store.pin(NOW))
    listing.keys("a")
    listing.put("new", 1, None, None)
    with pytest.raises(ConflictError):
        commit(listing)
    store.publish()
    assert face(store).latest() == {"a": 12, "b": 11, "c": 0}


def test_what_falls_due_within_a_group() -> None:
    """A ttl and a schedule of the group itself, before it is published: committed by the next command, and once."""
    store = gathering()
    store.put(NOW, "a", 3, ttl=1.0)
    store.put(NOW, "new", 1, NOW + 2)
    store.put(NOW + 5, "b", 2)
    assert not store.delete(NOW + 5, "a")
    group = store.publish()
    assert [(r.kind, r.key, r.timestamp) for r in group[2].records] == [("expire", "a", NOW + 1), ("activate", "new", NOW + 2)]
    assert [commit.revision for commit in group] == [6, 7, 8, 9]
    assert store.clean_expired_keys(NOW + 5) == 1
    assert store.publish() == []
    store.check(NOW + 5)


def test_back_dated_in_a_group() -> None:
    """Versions enter in any order; what each replaced is what the group before it says."""
    store = gathering()
    store.put(NOW, "a", "later", 150.0)
    store.put(NOW, "a", "earlier", 120.0)
    store.put(NOW, "a", "between", 140.0)
    store.put(NOW, "a", "again", 150.0)
    group = store.publish()
    assert [commit.records[0].previous for commit in group] == [2, 2, "earlier", "later"]
    assert [commit.present(0) for commit in group] == [True, False, False, True]
    cm = face(store)
    assert cm.history("a")[1:] == [(102.0, 2), (120.0, "earlier"), (140.0, "between"), (150.0, "later"), (150.0, "again")]
    assert [cm.get("a", revision=revision) for revision in (5, 6, 7, 8, 9)] == [2, "later", "later", "later", "again"]
    store.check(NOW)


def test_pruning_within_a_group() -> None:
    """It leaves what readers see, which is not the group's newest; they are not told that something was pruned."""
    store = gathering()
    cm = face(store)
    store.put(NOW, "a", 3)
    store.put(NOW, "a", 4)
    assert store.prune(NOW, ["a"], 1, None) == 1
    assert (cm["a"], cm.get("a", 150.0)) == (2, 2)
    with pytest.raises(CompactedError):
        cm.get("a", 101.0)
    assert store.cuts["a"].start == (102.0, 3)
    assert store.cuts_wanted
    store.publish()
    assert store.prune(NOW, ["a"], 1, None) == 2
    assert store.cuts["a"] == ("a", (NOW, 7), (100.0, 1))
    store.check(NOW)


def test_retention_waits_for_the_group() -> None:
    """What is published is cut, not what may come to nothing."""
    store = gathering(Retention(max_versions=2))
    cm = face(store)
    before = cm.versions("a")
    for value in (3, 4, 5):
        store.put(NOW, "a", value)
    assert cm.versions("a") == before
    assert not store.cuts
    store.publish()
    assert [version.value for version in cm.versions("a")] == [4, 5]
    assert store.cuts["a"].start == (NOW, 7)
    store.check(NOW)


def test_an_erase_at_the_end_of_a_group() -> None:
    """It is seen with the rest of the group, of which nothing of the key is left then; the past is the readers' until then."""
    store = gathering()
    cm = face(store)
    snap = cm.snapshot()
    store.put(NOW, "a", 3)
    store.put(NOW, "b", 3)
    store.erase(NOW, "a")
    assert (cm["a"], snap["a"], cm.get("a", 100.0)) == (2, 2, 1)
    store.publish()
    assert [change.value for change in cm.watch("a", since=0, timeout=0)] == [None] * 4
    assert (cm.get("a"), snap.get("a"), cm.get("a", 100.0), cm["b"]) == (None, None, None, 3)
    assert [version.kind for version in cm.versions("a")] == ["tombstone"]
    store.check(NOW)


# -- readers ---------------------------------------------------------------------------------------------------------------


def writes(store: Store) -> dict[str, Callable[[], object]]:
    """Commands of every kind, by name."""

    def transaction() -> None:
        draft = Draft(store.pin(NOW))
        draft.put("a", draft.get("a") + 1, None, None)
        store.apply(NOW, draft.base, draft.writes, draft.keys_read, draft.prefixes_read)

    return {
        "put": lambda: store.put(NOW, "a", 3),
        "put of a new key": lambda: store.put_now(NOW, "new", 3),
        "put in the past": lambda: store.put(NOW, "a", 3, 50.0),
        "put ahead": lambda: store.put(NOW, "a", 3, 500.0),
        "put with a ttl": lambda: store.put(NOW, "a", 3, ttl=5.0),
        "put_many": lambda: store.put_many(NOW, {"a": 3, "b": 3, "new": 3}),
        "put once": lambda: store.put(NOW, "a", 3, request_id="second"),
        "annotated": lambda: store.annotated(NOW, (("author", "ann"),), store.put, "a", 3),
        "touch": lambda: store.touch(NOW, "b", None),
        "delete": lambda: store.delete(NOW, "a"),
        "delete in the past": lambda: store.delete(NOW, "a", 101.0),
        "clear": lambda: store.clear(NOW),
        "erase": lambda: store.erase(NOW, "a"),
        "unschedule": lambda: store.unschedule(NOW, "c"),
        "rollback": lambda: store.rollback(NOW, 2),
        "undo": lambda: store.undo(NOW, 3),
        "transaction": transaction,
        "what falls due": lambda: store.begin(LATER),
    }


NAMES = list(writes(Store()))


@pytest.mark.parametrize("name", NAMES)
def test_readers_see_nothing_until_all_is_published(name: str) -> None:
    """Not with any read, on either axis; and then they see all of it at once."""
    store = gathering()
    cm = face(store, LATER if name == "what falls due" else NOW)  # readers see that without a commit
    before = readable(cm, 5)
    snapshot = cm.snapshot()
    writes(store)[name]()
    assert store.head == 6
    assert readable(cm, 5) == before
    assert [commit[0] for commit in store.publish()] == [6]
    after = readable(cm, 5)
    assert after["revision"] == cm.revision == store.head == 6
    assert after["versions"] != before["versions"] or name == "what falls due"
    assert len(after["log"][0]) > len(before["log"][0]) - 3  # an erase takes some away
    assert (snapshot.latest() == before["present"][4]) is (name != "erase")
    assert readable(cm, 5) == after
    store.check(cm._owner.clock())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_of_a_group_that_is_withdrawn(name: str) -> None:
    """No version, note, promise or answer; what it said had fallen due falls due again."""
    store, twin = gathering(), gathering()
    cm = face(store, LATER if name == "what falls due" else NOW)
    before = deep(store), readable(cm, 5)
    writes(store)[name]()
    store.put(cm._owner.clock(), "b", "more", request_id="third")
    assert store.withdraw()
    assert (deep(store), readable(cm, 5)) == before
    for each in (store, twin):
        writes(each)[name]()
        each.put(1300.0, "new", "end", request_id="third")
        each.publish()
        each.check(1300.0)
    assert deep(store) == deep(twin)


def test_what_fell_due_in_a_withdrawn_group_falls_due_again() -> None:
    """Once, be it of versions from before or of the group's own, which are gone."""
    store = gathering()
    store.put(NOW, "a", 3, ttl=1.0)
    store.put(LATER, "new", 1)
    assert [record.kind for record in store.feed.since(6)[0].records] == ["expire", "activate", "expire"]
    assert store.next_due == NOW + 1
    store.withdraw()
    assert store.next_due == 500.0
    assert store.clean_expired_keys(LATER) == 1
    (group,) = store.publish()
    assert [(r.kind, r.key, r.timestamp) for r in group.records] == [("activate", "c", 500.0), ("expire", "b", 1101.0)]
    assert store.expiries == 1
    store.check(LATER)


def test_what_the_group_made_void_falls_due_after_all() -> None:
    """A deadline that passed while the group had another value in force: that value is gone, the deadline is not."""
    store = gathering()
    store.put(NOW, "b", 2)
    store.begin(LATER)
    store.withdraw()
    store.begin(LATER)
    assert [(r.kind, r.key) for r in store.publish()[0].records] == [("activate", "c"), ("expire", "b")]


@pytest.mark.parametrize("superseded", [False, True])
def test_until_it_is_published_it_is_known_what_fell_due(superseded: bool) -> None:
    """Whoever counts in the meantime must not rely on what is settled, nor on what the group has put in its place."""
    store = gathering()
    cm = face(store, LATER)
    if superseded:
        store.put_many(NOW, {"b": 2, "c": 2})
        store.unschedule(NOW, "c")
    store.begin(LATER)
    assert store.next_due == 500.0
    assert (len(cm), cm.latest()) == (2, {"a": 2, "c": 1})
    assert [key for key, _, _ in cm.get_latest_keys(9)] == ["c", "a"]
    store.publish()
    assert store.next_due == float("inf")
    assert (len(cm), len(cm.get_latest_keys(9))) == ((3, 3) if superseded else (2, 2))


def test_answers_of_a_withdrawn_group_are_forgotten() -> None:
    """Those of what it wrote, and those of what it left out because the group had written it already."""
    store = gathering()
    store.put(NOW, "a", 3, request_id="wrote")
    store.put(NOW, "a", 3, if_changed=True, request_id="left out")
    store.withdraw()
    assert store.put(NOW, "a", 4, request_id="left out") == 6
    assert store.put(NOW, "a", 5, request_id="wrote") == 7
    assert store.put(NOW, "c", 9, request_id="first") == 5


def test_what_is_not_admitted_changes_nothing() -> None:
    """The journal is asked before anything is applied; the rest of the group stands."""
    store = gathering()

    def admit(records: Iterable[Record]) -> None:
        if any(record.value == "unheard of" for record in records):
            raise ChronoMapTypeError("no word for that")

    store.gather(admit)
    store.put(NOW, "a", 3)
    before = deep(store)
    with pytest.raises(ChronoMapTypeError):
        store.put_many(NOW, {"b": 3, "new": "unheard of"})
    with pytest.raises(ChronoMapTypeError):
        store.put(NOW, "b", "unheard of", request_id="refused")
    assert deep(store) == before
    assert store.put(NOW, "b", 4, request_id="refused") == 7
    assert [commit[0] for commit in store.publish()] == [6, 7]


# -- at random -------------------------------------------------------------------------------------------------------------


def random_command(rng: random.Random, published: int) -> tuple[str, tuple[Any, ...]]:
    """Something that can be asked of a store, with the same outcome however the commits before it were grouped."""
    key, value = rng.choice(KEYS), rng.randrange(9)
    at = rng.choice([None, None, -3.0, 0.0, 2.0, 5.0])
    return rng.choice(
        [
            ("put", (key, value, at, rng.choice([None, None, 1.0, 4.0]))),
            ("put", (key, value, at, None, None, True)),
            ("put", (key, value, None, None, None, False, False, rng.randrange(20))),
            ("put_now", (key, value)),
            ("put_many", (dict.fromkeys(rng.sample(KEYS, 2), value), at)),
            ("touch", (key, rng.choice([None, 2.0]))),
            ("delete", (key, at)),
            ("clear", ()) if rng.random() < 0.2 else ("delete_many", (rng.sample(KEYS, 2),)),
            ("unschedule", (key,)),
            ("rollback", (rng.randint(max(0, published - 8), published),)),
            ("undo", (rng.randint(max(0, published - 8), published),)),
            ("begin", ()),
        ]
    )


def carried_out(store: Store, now: float, name: str, arguments: tuple[Any, ...]) -> Any:
    """What a command answers; dates are relative to now."""
    if name in ("put", "put_many", "delete") and len(arguments) > 1:
        place = {"put": 2, "put_many": 1, "delete": 1}[name]
        if arguments[place] is not None:
            arguments = (*arguments[:place], now + arguments[place], *arguments[place + 1 :])
    try:
        return getattr(store, name)(now, *arguments)
    except (ConflictError, CompactedError, ChronoMapValueError) as refused:
        return type(refused)


def test_groups_make_no_difference(seed: random.Random) -> None:
    """Groups at random, some of them withdrawn: the same answers and the same store as one commit after the other."""
    for _ in range(20):
        grouped, single = Store(), Store()
        grouped.gather(admitted, seed.choice([None, lambda _key, value: value != 2]))
        now = 100.0
        for _ in range(12):
            commands = [
                (now := now + seed.choice([0.0, 0.0, 1.0, 3.0]), *random_command(seed, grouped.revision))
                for _ in range(seed.randrange(1, 7))
            ]
            if seed.random() < 0.3:
                before = deep(grouped)
                for command in commands:
                    carried_out(grouped, *command)
                grouped.withdraw()
                after = deep(grouped)
                assert after == before
                continue
            answers = [carried_out(grouped, *command) for command in commands]
            grouped.publish()
            assert answers == [carried_out(single, *command) for command in commands]
            grouped.check(now)
            assert {**deep(grouped), "present": 0} == {**deep(single), "present": 0}
            rows = [sorted(store.latest_keys(now, 9), key=repr) for store in (grouped, single)]
            assert rows[0] == rows[1]
