"""What every journal does: one suite for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from logs import all_of, batch, commits, plain, prune, put, restored, told

from chronomap.core.ledger import Note
from chronomap.core.meta import Meta
from chronomap.core.records import CANCELLED, NEVER, Entry
from chronomap.core.retention import Retention
from chronomap.core.store import Store
from chronomap.core.timeline import Pruned
from chronomap.core.values import MISSING, Captured
from chronomap.errors import (
    ChronoMapTypeError,
    ChronoMapValueError,
    ClosedError,
    CompactedError,
    JournalError,
    JournalInUseError,
    LaggedError,
)
from chronomap.journal import Cut, Journal, MemoryJournal, Shelf, SqliteJournal

Open = Callable[[], Journal]


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same journal each time; what is still open is closed at the end."""
    shelf = Shelf()
    opened: list[Journal] = []

    def do() -> Journal:
        journal: Journal
        journal = (
            MemoryJournal(shelf)
            if request.param == "memory"
            else SqliteJournal.open(tmp_path / "map.chrono", durability="normal")
        )
        opened.append(journal)
        return journal

    yield do
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(reopen: Open) -> Journal:
    """A fresh one."""
    return reopen()


def both(journal: Journal, reopen: Open) -> Iterator[Journal]:
    """The journal as it is, and after it was closed and opened again."""
    yield journal
    journal.close()
    yield reopen()


def test_what_was_appended_is_there_after_reopening(journal: Journal, reopen: Open, seed: random.Random) -> None:
    """Groups of any size come back as the same whole commits, with their kinds, instants and notes, in order."""
    log = commits(seed, 200)
    rest = list(log)
    while rest:
        size = seed.randrange(1, 20)
        journal.append(rest[:size])
        rest = rest[size:]
    for now in both(journal, reopen):
        assert now.revision == 200
        assert plain(now.replay()) == plain(log)
        assert plain(now.replay(150)) == plain(log[150:])
        assert list(now.replay(200)) == []


@pytest.mark.parametrize("size", [1, 2, 3, 63, 255, 256, 257, 600])
@pytest.mark.parametrize("checked", [False, True])
def test_groups_of_any_size(journal: Journal, reopen: Open, seed: random.Random, size: int, checked: bool) -> None:
    """Plain puts, keys and values of all sorts, several records in a commit, none in one: it all comes back in order."""
    plain_puts = [put(n, f"k{n % 7}", {"n": n}) for n in range(1, size + 1)]
    noted = [put(n, n % 7, [n], meta=(("by", "me"),)) for n in range(size + 1, 2 * size + 1)]
    empty = batch(2 * size + 1)
    group = [*plain_puts, *noted, empty, *commits(seed, size, 2 * size + 2)]
    for part in (plain_puts, group[size:]):
        for commit in part if checked else ():
            journal.check(commit.records)
        journal.append(part)
    for now in both(journal, reopen):
        assert plain(now.replay()) == plain(group)
        assert len(now.load().timelines["k1"]) == sum(r.key == "k1" and r.kind != "activate" for c in group for r in c.records)


@pytest.mark.parametrize("pruned", ["not pruned", "pruned", "pruned, but in the log"])
def test_a_loaded_store_is_the_one_that_was_written(journal: Journal, reopen: Open, seed: random.Random, pruned: str) -> None:
    """A store's commits, journalled, fill a new store with the same timelines, instants, notes and reads."""
    store = Store()
    now = 1000.0
    for _ in range(300):
        now += seed.random()
        act(store, now, seed)
        if seed.random() < 0.05:
            store.fold()
            journal.append(store.feed.since(journal.revision))
            if pruned != "not pruned":
                prune(
                    store,
                    journal,
                    now,
                    seed.randrange(1, 8),
                    None if pruned == "pruned" else seed.randrange(store.revision + 1),
                )
    store.fold()
    journal.append(store.feed.since(journal.revision))
    for opened in both(journal, reopen):
        contents = opened.load()
        fresh = restored(contents)
        fresh.check(now)
        assert fresh.revision == store.revision
        assert list(fresh.ledger.instants) == list(store.ledger.instants)
        assert fresh.ledger.notes == _standing(store)
        assert fresh.ledger._left == store.ledger._left
        assert fresh.ledger._activated == store.ledger._activated
        assert fresh.pruned_to == store.pruned_to or store.erased
        for key, timeline in store.timelines.items():
            assert list(map(_bare, fresh.timelines[key].entries(store.revision))) == list(
                map(_bare, timeline.entries(store.revision))
            )
            assert fresh.timelines[key].changed == timeline.changed
            assert fresh.timelines[key].floor == timeline.floor
            if key in contents.erased or timeline.floor is None:  # the tombstone may have been pruned
                assert contents.erased.get(key) == store.erased.get(key)


def act(store: Store, now: float, rng: random.Random) -> None:
    """Carry out some command."""
    key = f"k{rng.randrange(6)}"
    commands: list[Callable[[], Any]] = [
        lambda: store.put_now(now, key, rng.random()),
        lambda: store.put(now, key, {"n": now}, timestamp=now + rng.uniform(-5, 5)),
        lambda: store.put(now, key, now, timestamp=now + rng.uniform(0, 3)),
        lambda: store.put(now, key, now, ttl=rng.random()),
        lambda: store.put(now, key, now, request_id=now),
        lambda: store.put_many(now, {"a": 1, key: [1, 2], 3: None}),
        lambda: store.delete(now, key),
        lambda: store.annotated(now, (("by", "me"),), store.delete_many, [key, "a"]),
        lambda: store.unschedule(now, key),
        lambda: store.touch(now, key, rng.random() * 9),
    ]
    rare = [lambda: store.erase(now, key), lambda: store.clear(now)]
    with suppress(CompactedError):
        rng.choice(rare if rng.random() < 0.05 else commands)()


def _standing(store: Store) -> dict[int, Note]:
    """A store's notes, without the activations of what was erased or pruned since."""
    return {
        revision: note._replace(activated=tuple(one for one in note.activated if one in store.ledger._activated))
        for revision, note in store.ledger.notes.items()
    }


def _bare(entry: Entry) -> Entry:
    return entry._replace(value=entry.value.value if isinstance(entry.value, Captured) else entry.value)


def test_values_that_can_change_are_captured(journal: Journal) -> None:
    """A loaded value that could be changed is in a Captured, as the store keeps it; with share=True it is not."""
    journal.append([put(1, "a", [1]), put(2, "b", 1)])
    timelines = journal.load().timelines
    assert isinstance(timelines["a"].values[0], Captured)
    assert timelines["b"].values == [1]
    assert journal.load(share=True).timelines["a"].values == [[1]]


def test_a_refused_value_changes_nothing(journal: Journal) -> None:
    """A value or key that would not come back refuses the whole group, and the journal goes on."""
    journal.append([put(1, "a", 1)])
    for bad in (put(3, "b", object()), put(3, frozenset(), 1)):
        with pytest.raises(ChronoMapTypeError):
            journal.check(bad.records)
        with pytest.raises(ChronoMapTypeError):
            journal.append([put(2, "b", 1), bad])
    with pytest.raises(ChronoMapValueError):
        journal.append([put(2, float("nan"), 1)])
    assert journal.failure is None
    journal.append([put(2, "b", 2)])
    assert [commit.revision for commit in journal.replay()] == [1, 2]


def test_revisions_have_no_gaps(journal: Journal) -> None:
    """Only the next revision can be appended."""
    for wrong in (0, 2):
        with pytest.raises(JournalError, match="the next is 1"):
            journal.append([put(wrong, "a", 1)])
    journal.append([])
    assert journal.revision == 0


def test_request_ids_survive(journal: Journal, reopen: Open) -> None:
    """What a request id did is known after reopening."""
    journal.append([put(1, "a", 1), put(2, "b", 1, meta=(("request_id", "once"), ("by", "me"))), put(3, "c", 2)])
    for now in both(journal, reopen):
        assert now.load().requests == {"once": ("b", 2)}
        assert [commit.meta for commit in now.replay()] == [(), (("request_id", "once"), ("by", "me")), ()]


def test_what_is_noted_comes_back_as_it_is(journal: Journal, reopen: Open) -> None:
    """Whatever may be in a meta: with its type, to the last digit, and text that UTF-8 has no bytes for."""
    metas: list[Meta] = [
        (("n", 1), ("f", 1.0), ("t", True), ("z", -0.0), ("none", None), ("tenth", 0.1), ("", "")),
        (("by", 'é "quoted"\n\x00'), ("last", 2**63), ("least", -(2**63) - 1)),
        (("large", 10**300),),
        (("half", "\ud800"), ("\ud800", "half")),
    ]
    for revision, meta in enumerate(metas, 1):
        journal.append([put(revision, "a", revision, meta=meta)])
    for now in both(journal, reopen):
        assert [repr(commit.meta) for commit in now.replay()] == [*map(repr, metas)]


def test_erase_removes_every_value(journal: Journal, reopen: Open) -> None:
    """After an erase the key has one tombstone; the commits that wrote it are there, without it."""
    journal.append([put(1, "a", "secret"), batch(2, ("put", "a", 1, 5.0), ("put", "b", 2, 5.0))])
    journal.append([batch(3, ("erase", "a", MISSING, 1003.0)), put(4, "b", 3)])
    for now in both(journal, reopen):
        assert list(now.versions("a")) == [Entry(1003.0, 3, MISSING, NEVER)]
        contents = now.load()
        assert contents.erased == {"a": 3}
        assert len(contents.timelines["a"]) == 1
        assert len(contents.timelines["b"]) == 2
        assert [[record.key for record in commit.records] for commit in now.replay()] == [[], ["b"], ["a"], ["b"]]
        assert now.complete_since == 0


def test_prune_reaches_the_log(journal: Journal, reopen: Open) -> None:
    """Pruned versions are gone for good, the floor stays, and the log can no longer be read from before them."""
    journal.append([put(n, "a", n) for n in range(1, 11)])
    assert journal.prune([Cut("a", (1008.0, 8), (1001.0, 1))]) == 7
    for now in both(journal, reopen):
        assert [entry.value for entry in now.versions("a")] == [10, 9, 8]
        timeline = now.load().timelines["a"]
        assert timeline.values == [8, 9, 10]
        assert timeline.floor == now.floor("a") == (1001.0, 1)
        assert now.floor("b") is None
        assert now.complete_since == 7
        assert [commit.revision for commit in now.replay(7)] == [8, 9, 10]
        with pytest.raises(LaggedError) as caught:
            list(now.replay(6))
        assert (caught.value.since, caught.value.oldest) == (6, 7)
        assert list(now.load().instants) == [1000.0 + n for n in range(1, 11)]


def test_pruned_versions_may_stay_in_the_log_for_a_while(journal: Journal, reopen: Open) -> None:
    """With keep_after, watchers can still resume there, though no read sees the versions; compact removes them."""
    journal.append([put(n, "a", n) for n in range(1, 11)])
    assert journal.prune([Cut("a", (1010.0, 10), (1001.0, 1))], keep_after=5) == 5
    assert journal.complete_since == 5
    assert [commit.records[0].value for commit in journal.replay(5)] == [6, 7, 8, 9, 10]
    assert journal.load().timelines["a"].values == [10]
    assert [entry.value for entry in journal.versions("a")] == [10]
    while journal.compact(9, limit=3):
        pass
    for now in both(journal, reopen):
        assert now.complete_since == 9
        assert now.load().timelines["a"].values == [10]
        assert [commit.revision for commit in now.replay(9)] == [10]


def test_the_newest_changes(journal: Journal, reopen: Open) -> None:
    """Whole commits, with as many changes at least as are asked for and no more than that takes."""
    many = [("put", f"k{n}", n, 1002.0) for n in range(100)]
    journal.append([put(1, "a", 1), batch(2, *many), put(3, "a", 3), put(4, "a", 4), batch(5, *many[:3])])
    for now in both(journal, reopen):
        found = {changes: now.recent(changes) for changes in (1, 3, 4, 5, 6, 105, 106, 1000)}
        assert found == {1: 4, 3: 4, 4: 3, 5: 2, 6: 1, 105: 1, 106: 0, 1000: 0}


def test_the_newest_changes_where_some_are_gone(journal: Journal, reopen: Open) -> None:
    """Never from before the log is complete, and never more commits than changes were asked for."""
    journal.append([put(n, "a", n) for n in range(1, 9)])
    journal.append([put(9, "b", 9), batch(10, ("erase", "a", MISSING, 1010.0)), put(11, "b", 11)])
    for now in both(journal, reopen):
        assert [now.recent(changes) for changes in (1, 2, 3, 4, 5)] == [10, 9, 8, 7, 6]
    journal = now
    while journal.compact(8):
        pass
    for now in both(journal, reopen):
        assert [now.recent(changes) for changes in (1, 2, 3, 4, 1000)] == [10, 9, 8, 8, 8]


def test_cuts_of_one_key_add_up(journal: Journal, reopen: Open) -> None:
    """A later cut starts later, and the floor remembers the smallest of all."""
    journal.append([put(n, "a", n) for n in range(1, 7)])
    journal.prune([Cut("a", (1003.0, 3), (1001.0, 1))])
    journal.prune([Cut("a", (1005.0, 5), (1003.0, 3))])
    for now in both(journal, reopen):
        assert now.floor("a") == (1001.0, 1)
        assert [entry.value for entry in now.versions("a")] == [6, 5]


def test_erase_ends_what_was_pruned(journal: Journal) -> None:
    """An erased key has no floor: its history begins anew."""
    journal.append([put(n, "a", n) for n in range(1, 5)])
    journal.prune([Cut("a", (1003.0, 3), (1001.0, 1))])
    journal.append([batch(5, ("erase", "a", MISSING, 1005.0))])
    assert journal.floor("a") is None
    assert journal.load().timelines["a"].floor is None


def test_compact_removes_activations(journal: Journal, reopen: Open) -> None:
    """Activations are there for watchers to resume on, and no version depends on them."""
    journal.append([put(1, "a", 1, timestamp=1002.0), batch(2, ("activate", "a", 1, 1002.0)), put(3, "a", 2)])
    assert [commit.records[0].kind for commit in journal.replay()] == ["put", "activate", "put"]
    while journal.compact(2, limit=1):
        pass
    for now in both(journal, reopen):
        assert [commit.revision for commit in now.replay(2)] == [3]
        assert now.load().timelines["a"].values == [1, 2]
        assert now.complete_since == 2


def test_notes(journal: Journal, reopen: Open) -> None:
    """A load tells what each commit has to tell beside its versions, and of how many of them it still is to be told."""
    by_me = (("by", "me"),)
    journal.append(
        [
            put(1, "a", 1, timestamp=1003.5),
            batch(2, ("merge", "a", 1, 5.0), ("merge", "b", 2, 5.0), ("merge", "c", 2, 5.0)),
            batch(3, ("put", "a", 1, 1003.0), ("delete", "b", MISSING, 1003.0)),
            batch(4, ("expire", "c", MISSING, 1003.2), ("activate", "a", MISSING, 1003.5)),
            put(5, "b", 1, meta=by_me),
            batch(6, ("put", "a", 3, 1006.0), ("unschedule", "b", CANCELLED, 1010.0), meta=by_me),
            batch(7, ("activate", "b", MISSING, 1005.0)),
        ]
    )
    expected = [
        (2, Note("merge", (), ()), 3),
        (4, Note("expire", (), (("a", 1003.5, 1),)), 1),
        (5, Note(None, by_me, ()), 1),
        (6, Note(None, by_me, ()), 2),
        (7, Note("expire", (), (("b", 1005.0, 5),)), 0),
    ]
    for now in both(journal, reopen):
        assert now.load().notes == now.load(Retention(max_versions=1), now=2000.0).notes == expected
        assert now.load().pruned_to == 0


def test_notes_go_with_the_last_version(journal: Journal, reopen: Open) -> None:
    """What was erased or pruned is not counted; pruning is remembered, also the activation that went with a version."""
    journal.append(
        [
            put(1, "a", 1, timestamp=1002.5),
            batch(2, ("merge", "a", 1, 5.0), ("merge", "b", 2, 5.0)),
            batch(3, ("activate", "a", MISSING, 1002.5)),
            batch(4, ("undo", "b", 1, 6.0)),
            put(5, "b", 3, meta=(("request_id", "once"),)),
            put(6, "a", 4),
        ]
    )
    journal.append([batch(7, ("erase", "b", MISSING, 1007.0))])
    erased = [(2, Note("merge", (), ()), 1), (3, Note("expire", (), (("a", 1002.5, 1),)), 0), (7, Note("erase", (), ()), 1)]
    assert journal.load().notes == erased
    assert journal.load().pruned_to == 0
    journal.prune([Cut("a", (1002.5, 1), (5.0, 2))], keep_after=0)
    assert journal.load().notes == erased[1:]
    assert journal.load().pruned_to == 2
    journal.prune([Cut("a", (1006.0, 6), (5.0, 1))], keep_after=1)
    for now in both(journal, reopen):
        assert now.load().notes == erased[2:]
        assert now.load().pruned_to == 3
    while now.compact(4, limit=2):
        pass
    for last in both(now, reopen):
        assert last.load().notes == erased[2:]
        assert last.load().pruned_to == 3


def test_compacted_activations_have_no_note(journal: Journal, reopen: Open) -> None:
    """An activation that was removed from the log is not known any more, as if it had been pruned."""
    journal.append([put(1, "a", 1, timestamp=1002.0), batch(2, ("activate", "a", 1, 1002.0)), put(3, "a", 2)])
    while journal.compact(3):
        pass
    for now in both(journal, reopen):
        assert now.load().notes == []
        assert now.load().pruned_to == 2


def test_what_is_not_loaded_counts_as_pruned(journal: Journal, reopen: Open) -> None:
    """To a timeline that is loaded in part, whatever lies below is pruned; the journal knows better."""
    journal.append([put(n, key, n) for n, key in enumerate(["a", "b", "a", "c", "a", "c"], 1)])
    journal.prune([Cut("a", (1003.0, 3), (1001.0, 1)), Cut("c", (1006.0, 6), (1004.0, 4))])
    for now in both(journal, reopen):
        contents = now.load(Retention(max_versions=1), now=2000.0)
        assert contents.partial == {"a"}
        floors = {key: timeline.floor for key, timeline in contents.timelines.items()}
        assert floors == {"a": (-NEVER, 0), "b": None, "c": (1004.0, 4)}
        with pytest.raises(Pruned):
            contents.timelines["a"].find(0.0, 0)
        assert now.floor("a") == (1001.0, 1)
        assert contents.timelines["a"].changed == 5


def test_equal_keys_are_one_key(journal: Journal, reopen: Open) -> None:
    """1, 1.0 and True are one key, as in a dict, and it comes back as it first was; "1" is another."""
    journal.append([put(1, True, "a"), put(2, 1, "b"), put(3, 1.0, "c"), put(4, "1", "d"), put(5, -0.0, "e"), put(6, 0, "f")])
    for now in both(journal, reopen):
        timelines = now.load().timelines
        assert [repr(key) for key in timelines] == ["True", "'1'", "-0.0"]
        assert [entry.value for entry in now.versions(1)] == ["c", "b", "a"]
        assert [entry.value for entry in now.versions(False)] == ["f", "e"]
    last = next(iter(reversed(list(both(now, reopen)))))
    last.append([batch(7, ("erase", 1, MISSING, 1007.0))])
    assert len(list(last.versions(True))) == 1


def test_versions_come_newest_first_and_from_anywhere(journal: Journal) -> None:
    """Back-dated versions stand where their timestamp says; reading can begin below any of them."""
    journal.append([put(n, "a", n, timestamp=float(t)) for n, t in enumerate((5, 3, 9, 3, 7), 1)] + [put(6, "b", 0)])
    found = [(entry.timestamp, entry.revision) for entry in journal.versions("a")]
    assert found == [(9.0, 3), (7.0, 5), (5.0, 1), (3.0, 4), (3.0, 2)]
    assert [entry[:2] for entry in journal.versions("a", before=(5.0, 1))] == [(3.0, 4), (3.0, 2)]
    assert list(journal.versions("c")) == []


@pytest.mark.parametrize("limits", [(1, None), (3, None), (None, 20.0), (3, 20.0), (None, None)])
def test_resident_is_what_pruning_would_leave(journal: Journal, limits: tuple[Any, Any], seed: random.Random) -> None:
    """A partial load holds of each key what a store would keep if it pruned with the same limits; the rest can be read."""
    store = Store()
    now = 1000.0
    for _ in range(200):
        now += 1
        key = f"k{seed.randrange(4)}"
        if seed.random() < 0.2:
            store.unschedule(now, key)
        store.put(now, key, now, timestamp=None if seed.random() < 0.6 else now + seed.randrange(-9, 20))
    journal.append(store.feed.since(0))
    whole = journal.load()
    part = journal.load(Retention(*limits), now=now)
    if limits != (None, None):
        store.prune(now, None, limits[0], None if limits[1] is None else now - limits[1])
    store.fold()
    assert list(part.instants) == list(store.ledger.instants)
    assert part.notes == whole.notes
    for key, timeline in store.timelines.items():
        loaded = part.timelines[key]
        assert list(loaded.entries(store.revision)) == list(timeline.entries(store.revision))
        assert loaded.changed == timeline.changed
        oldest = loaded.entry(0)
        older = list(journal.versions(key, before=oldest[:2]))
        assert older[::-1] + list(loaded.entries(store.revision)) == list(whole.timelines[key].entries(store.revision))
        assert (key in part.partial) == bool(older)
        assert loaded.floor == ((-NEVER, 0) if older else None)


def test_a_partial_load_tells_what_a_full_one_does(journal: Journal, seed: random.Random) -> None:
    """Limits that nothing exceeds load everything, erasures, requests and floors included."""
    log = commits(seed, 120)
    log.append(batch(121, ("erase", "k1", MISSING, 1121.0)))
    journal.append(log)
    first = next(iter(list(journal.versions("k2"))[::-1]))
    second = list(journal.versions("k2"))[::-1][1]
    journal.prune([Cut("k2", second[:2], first[:2])])
    assert told(journal.load(Retention(max_versions=1000), now=5000.0)) == told(journal.load())


def test_one_owner(journal: Journal, reopen: Open) -> None:
    """A second opener is refused at once; after closing there is room for it."""
    with pytest.raises(JournalInUseError):
        reopen()
    journal.close()
    assert reopen().revision == 0


def test_a_closed_journal_says_so(journal: Journal) -> None:
    """Nothing works after closing, but closing again does."""
    journal.append([put(1, "a", 1)])
    journal.close()
    journal.close()
    for use in (
        lambda: journal.append([put(2, "a", 1)]),
        journal.load,
        lambda: list(journal.replay()),
        lambda: journal.prune([]),
    ):
        with pytest.raises(ClosedError):
            use()


def test_markers_and_expiries_come_back(journal: Journal, reopen: Open) -> None:
    """Tombstones, cancellations and deadlines are what they were."""
    journal.append([put(1, "a", MISSING), put(2, "a", CANCELLED), put(3, "a", None, expires_at=2000.5), put(4, "a", "")])
    for now in both(journal, reopen):
        assert list(now.versions("a"))[::-1] == [
            Entry(1001.0, 1, MISSING, NEVER), Entry(1002.0, 2, CANCELLED, NEVER), Entry(1003.0, 3, None, 2000.5),
            Entry(1004.0, 4, "", NEVER),
        ]  # fmt: skip
        timeline = now.load().timelines["a"]
        assert timeline.values == [MISSING, CANCELLED, None, ""]
        assert list(timeline.expiries or ()) == [NEVER, NEVER, 2000.5, NEVER]


def test_random_use_is_the_same_everywhere(tmp_path: Path, seed: random.Random) -> None:
    """Appending, erasing, pruning, compacting and reopening at random: the file tells what the reference in memory does."""
    shelf = Shelf()
    memory: Journal = MemoryJournal(shelf)
    file: Journal = SqliteJournal.open(tmp_path / "map.chrono", durability="off")
    for _ in range(60):
        action = seed.randrange(6)
        if action < 3:
            group = commits(seed, seed.randrange(1, 9), memory.revision + 1)
            if seed.random() < 0.3:
                revision = group[-1].revision + 1
                group.append(batch(revision, ("erase", f"k{seed.randrange(5)}", MISSING, 1000.0 + revision)))
            memory.append(group)
            file.append(group)
        elif action == 3:
            key = f"k{seed.randrange(5)}"
            entries = list(memory.versions(key))[::-1]
            if len(entries) > 1:
                at = seed.randrange(1, len(entries))
                floor = memory.floor(key) or entries[0][:2]
                keep = seed.choice([None, seed.randrange(memory.revision + 1)])
                cut = Cut(key, entries[at][:2], (min(floor[0], entries[0][0]), min(floor[1], *(e[1] for e in entries[:at]))))
                assert memory.prune([cut], keep_after=keep) == file.prune([cut], keep_after=keep)
        elif action == 4 and memory.revision:
            below = seed.randrange(memory.revision + 1)
            for journal in (memory, file):
                while journal.compact(below, 7):
                    pass
        else:
            memory.close()
            file.close()
            memory, file = MemoryJournal(shelf), SqliteJournal.open(tmp_path / "map.chrono", durability="off")
        assert all_of(file) == all_of(memory)
    file.close()
