"""What falls due, and the log of commits."""

from __future__ import annotations

import pytest

from chronomap.core.expiry import SWEEP_FROM, Deadlines
from chronomap.core.feed import SLACK, Feed
from chronomap.core.records import NEVER, Commit, Record
from chronomap.core.store import Store
from chronomap.core.values import MISSING
from chronomap.errors import LaggedError


def test_due_order() -> None:
    """Promises come out by due time; those of one moment in the order they were made, whatever their keys are."""
    deadlines = Deadlines()
    assert deadlines.next_due == NEVER
    for due, key in ((30, "c"), (10, object()), (10, 1), (20, "b")):
        deadlines.add(due, "expire", key, 0, 1)
    assert deadlines.next_due == 10
    taken = deadlines.take(20)
    assert [promise.due for promise in taken] == [10, 10, 20]
    assert taken[1].key == 1
    assert deadlines.next_due == 30
    assert len(deadlines) == 1


def test_give_back() -> None:
    """What was taken for a commit that did not happen is due again, in the same order."""
    deadlines = Deadlines()
    for key in "abc":
        deadlines.add(10, "activate", key, 10, 1)
    deadlines.give_back(deadlines.take(10))
    assert deadlines.next_due == 10
    assert [promise.key for promise in deadlines.take(10)] == ["a", "b", "c"]
    assert deadlines.next_due == NEVER


def test_sweep_waits() -> None:
    """A few promises are not worth a sweep: nobody is even asked about them."""
    deadlines = Deadlines()
    for number in range(SWEEP_FROM - 1):
        deadlines.add(number, "expire", number, 0, 1)
    deadlines.sweep(lambda _: pytest.fail("asked"))
    assert len(deadlines) == SWEEP_FROM - 1


def test_sweep_drops_what_cannot_come_true() -> None:
    """A sweep keeps what stands, in due order, and sets the next due time; the next sweep waits until it doubled."""
    deadlines = Deadlines()
    for number in range(3000):
        deadlines.add(3000 - number, "expire", number, 0, 1)
    deadlines.sweep(lambda promise: promise.key % 2 == 0)
    assert len(deadlines) == 1500
    assert deadlines.next_due == 2
    deadlines.sweep(lambda _: pytest.fail("asked"))
    due = [promise.due for promise in deadlines.take(3000)]
    assert due == sorted(due)
    assert len(due) == 1500


def test_superseded_leases_do_not_pile_up() -> None:
    """A key whose lease is renewed again and again does not make the heap grow without end, and still expires."""
    store = Store()
    for number in range(10_000):
        store.put(float(number), "k", number, ttl=50_000.0)
    assert len(store.deadlines) <= 2 * SWEEP_FROM
    assert store.count(9_999.0) == 1
    assert store.count(9_999.0 + 50_000.0) == 0
    store.check(60_000.0)


def commit(revision: int, size: int = 1) -> Commit:
    """A commit of so many puts."""
    record = Record("put", "k", revision, MISSING, float(revision), NEVER)
    return Commit(revision, float(revision), (record,) * size)


def test_since() -> None:
    """A position in the feed gives everything after it; the newest gives nothing."""
    feed = Feed()
    for revision in range(1, 6):
        feed.append(commit(revision))
    assert [one.revision for one in feed.since(0)] == [1, 2, 3, 4, 5]
    assert [one.revision for one in feed.since(3)] == [4, 5]
    assert feed.since(5) == []
    found = feed.commit(2)
    assert found is not None
    assert found.records[0].value == 2
    assert feed.commit(0) is None
    assert feed.commit(6) is None


def test_starts_at_a_floor() -> None:
    """The feed of a loaded map begins after the revision it was loaded at."""
    feed = Feed(7)
    feed.append(commit(8))
    assert [one.revision for one in feed.since(7)] == [8]
    with pytest.raises(LaggedError) as caught:
        feed.since(6)
    assert (caught.value.since, caught.value.oldest) == (6, 7)


def test_trimming() -> None:
    """At least ``retained`` changes are kept and not many more; who is further behind gets LaggedError."""
    feed = Feed(retained=100)
    for revision in range(1, 5001):
        feed.append(commit(revision))
        feed.trim()
        assert len(feed.tail) >= min(revision, 100)
        assert len(feed.tail) <= 100 + SLACK
    floor = feed.floor
    assert 0 < floor <= 4900
    assert [one.revision for one in feed.since(floor)] == list(range(floor + 1, 5001))
    assert feed.commit(floor) is None
    with pytest.raises(LaggedError) as caught:
        feed.since(floor - 1)
    assert (caught.value.since, caught.value.oldest) == (floor - 1, floor)
    assert feed.since(caught.value.oldest)[0].revision == floor + 1, "the way out that the error names works"


def test_large_commits_count_by_their_changes() -> None:
    """A few large commits push older ones out; the last two stay, however large: a turn makes no more."""
    feed = Feed(retained=100)
    for revision in range(1, 101):
        feed.append(commit(revision))
    feed.append(commit(101, 10 * SLACK))
    feed.trim()
    assert feed.floor == 99
    feed.append(commit(102, 10 * SLACK))
    feed.append(commit(103, 10 * SLACK))
    feed.trim()
    assert [one.revision for one in feed.since(feed.floor)] == [102, 103]
    for revision in range(104, 104 + 2 * SLACK):
        feed.append(commit(revision))
        feed.trim()
    assert 100 <= sum(len(one.records) for one in feed.since(feed.floor)) <= 100 + SLACK


def test_one_look_drops_all_that_may_go() -> None:
    """A large commit before many small ones does not keep those."""
    feed = Feed(retained=10)
    feed.append(commit(1, 2))
    for revision in range(2, 2050):
        feed.append(commit(revision))
    feed.trim()
    assert len(feed.since(feed.floor)) == 10


def test_everybody_is_shown_the_same_changes() -> None:
    """The changes of a commit are made once, for all who look; an erasure makes them anew, without the values."""
    feed = Feed()
    feed.append((1, 1.0, "secret", "s3", MISSING))
    shown = feed.changes(1)
    assert feed.changes(1) is shown
    assert shown[0].value == "s3"
    feed.erase("secret")
    assert feed.changes(1)[0].value is None
    with pytest.raises(LaggedError):
        Feed(7).changes(7)


def test_reader_keeps_its_list() -> None:
    """Trimming replaces the list: who took the commits before goes on with what it has."""
    feed = Feed(retained=10)
    for revision in range(1, SLACK):
        feed.append(commit(revision))
    _, before = feed._state
    size = len(before)
    for revision in range(SLACK, 3 * SLACK):
        feed.append(commit(revision))
        feed.trim()
    assert feed.floor > 0
    assert before[0][0] == 1
    assert len(before) >= size


def test_erase_and_cut() -> None:
    """Erasing scrubs one key's values from retained commits; cutting takes back what was never published."""
    feed = Feed()
    feed.append((1, 1.0, "secret", "s3", MISSING))
    feed.append(commit(2))
    feed.erase("secret")
    assert [one.records[0].value for one in feed.since(0)] == [MISSING, 2]
    feed.append(unpublished := commit(3))
    assert feed.tail[-1] is unpublished
    feed.cut_after(2)
    assert feed.tail[-1] is not unpublished
    assert [one.revision for one in feed.since(0)] == [1, 2]


def test_what_is_promised_twice_is_kept_once() -> None:
    """A schedule that is called off again and again renews the promise that the value before it will expire."""
    store = Store()
    store.put(10, "a", 1, ttl=1_000_000)
    for number in range(2 * SWEEP_FROM):
        store.put(10, "a", 2, timestamp=20)
        assert store.unschedule(10, "a") == 1
        assert len(store.deadlines) <= 2 * SWEEP_FROM, number
    store.begin(2_000_000)
    assert [record.kind for record in store.feed.commit(store.revision).records] == ["expire"]  # type: ignore[union-attr]


def test_what_is_brought_back_expires() -> None:
    """A back-dated deletion hid a value when it would have expired; once that is undone, the expiry is committed."""
    store = Store()
    store.put(10, "a", 1, ttl=10)
    store.delete(16, "a", timestamp=15)
    for number in range(2 * SWEEP_FROM):  # meanwhile promises that cannot come true are swept away
        store.put(17, "b", number, ttl=5)
    store.begin(30)
    before = store.revision
    assert store.undo(30, 2) == before + 1
    store.begin(30)
    store.begin(40)
    commit = store.feed.commit(before + 2)
    assert commit is not None
    assert commit.records == (Record("expire", "a", MISSING, 1, 20, NEVER),)
    assert store.revision == before + 2


def test_what_has_expired_does_not_expire_again() -> None:
    """A deletion after the expiry is taken back: nothing is promised anew."""
    store = Store()
    store.put(10, "a", 1, ttl=10)
    store.begin(30)
    store.delete(30, "a", timestamp=15)
    assert store.undo(30, 3) == 4
    store.begin(40)
    assert store.revision == 4
