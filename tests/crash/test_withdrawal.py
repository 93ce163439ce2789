"""A group that the journal refuses leaves nothing: the map is as if its commands had never been given."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any

import pytest
from slow import SlowJournal
from waiting import LONG

from chronomap import ChronoMap, ChronoMapError, ChronoMapTypeError, Retention
from chronomap.core.change import PlainCommit
from chronomap.core.records import NEVER
from chronomap.journal import MemoryJournal
from chronomap.runtime.owner import Command
from chronomap.runtime.ports import ThreadBell

CYCLES = int(os.environ.get("CHRONOMAP_CRASH_CYCLES", "0"))
KEYS = ("a", "b", "c", 4)

Call = tuple[str, tuple[Any, ...]]


class Refusing(SlowJournal):
    """Refuses groups while it is told to, and is well all the same: so may a codec of the user's."""

    refuses = False

    def append(self, group: Sequence[PlainCommit]) -> None:
        """Append, unless."""
        if self.refuses:
            raise ChronoMapTypeError("refused")
        super().append(group)


class Side:
    """A map whose clock is set by hand, and whose commands are given in batches that become one group."""

    def __init__(self, retention: Retention | None) -> None:
        self.now = 1_000.0
        self.journal = Refusing()
        self.cm = ChronoMap[Any, Any].open(self.journal, clock=lambda: self.now, retention=retention)
        self.cm._owner.alarm = lambda: True  # no reaper: the test decides what is in a group

    def give(self, calls: list[Call], later: float, *, refused: bool) -> list[Any]:
        """Give commands while the disk is busy with another, and so much later; returns what became of each."""
        owner, store = self.cm._owner, self.cm._store
        self.journal.hold()
        commands = [owner.enter(Command(store.put, ("first", self.now), ThreadBell()))]
        assert self.journal.busy.wait(LONG)
        self.now += later
        for name, arguments in calls:
            commands.append(owner.enter(Command(getattr(store, name), arguments, ThreadBell())))
        self.journal.refuses = refused
        self.journal.release()
        for command in commands:
            while not command.answered:
                assert command.bell.wait(LONG)  # type: ignore[attr-defined]
        self.journal.refuses = False
        return [outcome(command) for command in commands[1:]]

    def give_and_look(self, calls: list[Call]) -> tuple[Any, Any]:
        """Give commands as one group; what there is to see before, and while the group is on its way."""
        before = self.seen()
        owner, store = self.cm._owner, self.cm._store
        self.journal.hold()
        with owner.baton:  # the writer waits until all are there
            commands = [owner.enter(Command(getattr(store, name), arguments, ThreadBell())) for name, arguments in calls]
            commands.append(owner.enter(Command(store.put, ("first", self.now), ThreadBell())))
        assert self.journal.busy.wait(LONG)
        during = self.seen()
        self.journal.release()
        for command in commands:
            while not command.answered:
                assert command.bell.wait(LONG)  # type: ignore[attr-defined]
        return before, during

    def seen(self) -> Any:
        """What readers see, in all the ways there are."""
        cm = self.cm
        snapshot = cm.snapshot()
        return (
            cm.revision,
            len(cm),
            cm.count(),
            cm.latest(),
            dict(cm.items()),
            dict(snapshot.items()),
            sorted(map(repr, cm.get_latest_keys(100))),
            [(key in cm, cm.get(key), cm.version(key), snapshot.get(key)) for key in KEYS],
            [cm.get(key, at) for key in KEYS for at in (self.now - 40, self.now - 1, self.now + 30)],
            [(cm.history(key), cm.versions(key, scheduled=True)) for key in (*KEYS, "first")],
            [(c.revision, c.kind, c.key, c.value, c.previous) for c in cm.watch(since=0, timeout=0)],
            [(c.key, c.value) for c in cm.watch(initial=True, timeout=0)],
            [(c.revision, c.kind, c.key, c.value) for c in cm.replay()],
            cm.to_dict()["store"],
        )

    def state(self) -> Any:
        """Everything there is to see."""
        cm = self.cm
        cm._check()
        aging = cm._store.retention is not None and cm._store.retention.max_age is not None
        return (
            cm.revision,
            cm.latest(),
            len(cm),
            sorted(map(repr, cm.get_latest_keys(100))),
            {key: cm.versions(key, scheduled=True) for key in (*KEYS, "first")},
            [
                # What has grown too old is pruned for good, also while a group is made: then "previous" is not known any more.
                (c.revision, c.kind, c.key, c.value, None if aging else c.previous, c.timestamp, c.present)
                for c in cm.watch(since=0, timeout=0)
            ],
            cm._store.next_due,
            cm._store.ledger.notes,
            cm._store.erased,
        )


def outcome(command: Command) -> Any:
    """A reply, or the type of an error."""
    return command.reply if command.error is None else type(command.error)


def some_calls(rng: random.Random, now: float, revision: int) -> list[Call]:
    """A batch of anything that writes."""
    calls: list[Call] = []
    for _ in range(rng.randrange(1, 6)):
        key, value, when = rng.choice(KEYS), rng.randrange(1_000), now + rng.choice((-50, -5, 3, 20, 60))
        calls.append(
            rng.choice(
                (
                    ("put", (key, value)),
                    ("put_now", (key, value)),
                    ("put", (key, value, None, float(rng.randrange(1, 30)))),
                    ("put", (key, value, when)),
                    ("put", (key, value, when, 10.0)),
                    ("put", (key, value, None, None, None, True)),
                    ("put", (key, value, None, None, None, False, False, f"request{rng.randrange(6)}{key}")),
                    ("put_many", (dict.fromkeys(rng.sample(KEYS, 2), value),)),
                    ("delete", (key,)),
                    ("delete", (key, when)),
                    ("unschedule", (key,)),
                    ("touch", (key, 15.0)),
                    ("clear", ()),
                    ("rollback", (rng.randrange(revision + 1),)),
                    ("undo", (rng.randrange(1, revision + 1),)),
                    ("erase", (key,)),
                )
            )
        )
    return calls


@pytest.mark.parametrize("retention", [None, Retention(max_versions=3), Retention(max_age=40.0)], ids=repr)
def test_a_refused_group_leaves_nothing(retention: Retention | None, seed: random.Random) -> None:
    """Two maps get the same commands, but one of them also such as are refused: nobody can tell which."""
    for _ in range(max(4, CYCLES // 3)):
        one, other = Side(retention), Side(retention)
        for _ in range(40):
            one.now = other.now = one.now + seed.choice((0.0, 0.0, 1.0, 7.0, 30.0))
            calls, later = some_calls(seed, one.now, one.cm.revision + 1), seed.choice((0.0, 10.0))
            if seed.random() < 0.4:
                erases = any(name == "erase" for name, _ in calls)
                outcomes = one.give(calls, later, refused=True)
                other.give([], later, refused=False)
                assert erases or not any(isinstance(found, int) and found > one.cm.revision for found in outcomes)
            else:
                assert one.give(calls, later, refused=False) == other.give(calls, later, refused=False)
            assert one.cm.clean_expired_keys() == other.cm.clean_expired_keys()
            assert one.state() == other.state()
        state = one.state()[:5]
        for side in (one, other):
            side.cm.close()
        with ChronoMap[Any, Any].open(MemoryJournal(one.journal.shelf), clock=lambda at=one.now: at) as again:
            assert (again.latest(), len(again)) == state[1:3]
            more = list(again.watch(since=state[0], timeout=0))  # an expiry that was undone is committed again
            assert all(change.kind == "expire" for change in more)
            assert again._store.deadlines.next_due > one.now or again._store.deadlines.next_due == NEVER
    with pytest.raises(ChronoMapError):
        one.cm.put("a", 1)


def test_a_group_on_its_way_shows_nothing(seed: random.Random) -> None:
    """Whatever is in it: while it waits for the disk, every read is as before."""
    for _ in range(max(4, CYCLES // 3)):
        side = Side(None)
        for _ in range(30):
            side.now += seed.choice((0.0, 0.0, 1.0, 7.0, 30.0))
            before, during = side.give_and_look(some_calls(seed, side.now, side.cm.revision + 1))
            assert during == before
        side.cm._check()
        side.cm.close()
