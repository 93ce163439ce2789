"""The change feed: the newest commits, in revision order, for whoever wants to follow.

It is a log, not a queue per subscriber: a watcher is a position in it. What it retains is bounded; a watcher that fell
behind gets ``LaggedError``. Readers on other threads take the whole state in one step, so mind that ``_state`` is replaced
as one object and that its list is only ever appended to.
"""

from __future__ import annotations

from typing import Any, Final

from chronomap.core.change import Batch, Change, PlainCommit, as_commit, change_of
from chronomap.core.records import Commit
from chronomap.core.values import MISSING
from chronomap.errors import LaggedError

__all__ = ["RETAINED_CHANGES", "Feed", "PlainCommit", "as_commit", "size"]

RETAINED_CHANGES: Final = 4_096
"""How many changes are kept at least, unless the map was made with another number: a watcher may fall that far behind.
More costs every put: the garbage collector visits what is retained (0.2 µs a put at 10,000)."""

SLACK: Final = 1024
"""Changes beyond what is retained before the oldest are dropped: dropping copies the list."""

SHOWN: Final = 256
"""So many lone changes are remembered: who is up to date looks at the newest, and more would be visited by the garbage
collector again and again."""

RUN: Final = 20
"""So many changes are shown at once to a watcher who is behind, since it will want the next ones too."""

PER_TURN: Final = 2
"""Commits a turn may make, what fell due and its own; they stay, however large, for those who are told of them."""


class Feed:
    """The newest commits of a map whose newest revision was ``floor`` when the feed began.

    Attributes:
        retained: How many changes are kept at least.
        tail: The commits retained; the owner appends to it.
        shown: The changes of commits of several that somebody has looked at, for the others to share.
        lone: The only change of a commit that has no other, of some that somebody has looked at lately.
    """

    def __init__(self, floor: int = 0, retained: int = RETAINED_CHANGES) -> None:
        self.retained = retained
        self.tail: list[PlainCommit] = []
        self._state = (floor, self.tail)
        self._more = 0  # changes retained beyond one per commit
        self.shown: dict[int, list[Change[Any, Any]]] = {}
        self.lone: dict[int, Change[Any, Any]] = {}

    @property
    def floor(self) -> int:
        """The revision before the oldest commit retained."""
        return self._state[0]

    @property
    def head(self) -> int:
        """The revision of the newest commit retained, or of the floor."""
        floor, commits = self._state
        return floor + len(commits)

    def append(self, commit: PlainCommit) -> None:
        """Add the next commit."""
        self.tail.append(commit)
        self._more += size(commit) - 1

    def trim(self) -> None:
        """Drop what need not be retained any more. Amortised O(1) per change."""
        tail = self.tail
        spare = len(tail) + self._more - self.retained  # changes that need not be retained
        if spare <= SLACK:
            return
        most = len(tail) - PER_TURN
        drop = 0
        while self._more and drop < most and (first := size(tail[drop])) <= spare:
            spare -= first
            self._more -= first - 1
            drop += 1
        if not self._more:  # what is left are commits of one change each
            drop += min(spare, most - drop)
        if drop <= 0:
            return
        self.tail = tail[drop:]
        self._begin_anew(self.tail[0][0] - 1)

    def _begin_anew(self, floor: int) -> None:
        """Let readers see another list of commits, and nothing any more that is made of those in the old one."""
        self._state = (floor, self.tail)
        self.shown, self.lone = {}, {}

    def since(self, revision: int) -> list[Commit]:
        """The commits after a revision.

        Raises:
            LaggedError: If some of them are no longer retained.
        """
        floor, commits = self._state
        if revision < floor:
            raise LaggedError(revision, floor)
        return [as_commit(plain) for plain in commits[revision - floor :]]

    def newest(self, number: int) -> list[PlainCommit]:
        """The last so many commits, as they are kept."""
        return self.tail[-number:] if number else []

    def commit(self, revision: int) -> Commit | None:
        """One commit, or None if it is not retained."""
        floor, commits = self._state
        index = revision - floor - 1
        return as_commit(commits[index]) if 0 <= index < len(commits) else None

    def changes(self, revision: int) -> list[Change[Any, Any]]:
        """The changes of one published commit that has several; everybody who asks gets the same objects.

        Raises:
            LaggedError: If it is no longer retained.
        """
        shown = self.shown
        if (changes := shown.get(revision)) is not None:
            return changes
        if (commit := self.commit(revision)) is None:
            raise LaggedError(revision - 1, self.floor)
        changes = shown[revision] = [Change(commit, index) for index in range(len(commit.records))]
        return changes

    def show(self, revision: int, newest: int) -> Change[Any, Any] | None:
        """The only change of a commit; None if it has several or none, or is not retained.

        It can be found in ``lone`` for a while, and so can the next ones, up to the newest revision that is published.
        """
        lone = self.lone  # before the commits: what is made of old ones must not get among the new
        floor, commits = self._state
        if revision <= floor:
            return None
        begin = revision - floor - 1
        commit = commits[begin]
        if type(commit) is not tuple:
            if size(commit) != 1:  # none: of one of an erased key, from the journal
                return None
            change: Change[Any, Any] = Change(as_commit(commit), 0)
        elif revision == newest:
            change = change_of(commit)
        else:
            run = commits[begin : min(newest - floor, begin + RUN)]
            made: dict[int, Change[Any, Any]] = {plain[0]: change_of(plain) for plain in run if type(plain) is tuple}
            if len(lone) > SHOWN:
                lone.clear()
            lone.update(made)
            return made[revision]
        lone[revision] = change
        lone.pop(revision - SHOWN, None)
        return change

    def cut_after(self, revision: int) -> None:
        """Take back commits that were never published."""
        floor, commits = self._state
        del commits[revision - floor :]

    def erase(self, key: object) -> None:
        """Remove every value of a key. O(changes retained), and nearly nothing for those of other keys."""
        floor, commits = self._state
        erased = {key}  # compares as a dict does: by hash first
        self.tail = [_without(commit, erased) if _names(commit, erased) else commit for commit in commits]
        self._begin_anew(floor)


def _names(plain: PlainCommit, keys: set[object]) -> bool:
    """Whether a commit is about one of some keys."""
    if type(plain) is Commit:
        return not keys.isdisjoint([record[1] for record in plain.records])
    return not keys.isdisjoint(plain[2]) if type(plain) is Batch else plain[2] in keys


def _without(plain: PlainCommit, keys: set[object]) -> PlainCommit:
    """A commit without the values of some keys."""
    if type(plain) is Batch:  # many of its keys may be erased, one after the other
        values, previous = plain.values.copy(), plain.previous.copy()
        for place, key in enumerate(plain.keys):
            if key in keys:
                values[place] = previous[place] = MISSING
        return plain._replace(values=values, previous=previous)
    commit = as_commit(plain)
    records = tuple(
        record._replace(value=MISSING, previous=MISSING) if record.key in keys else record for record in commit.records
    )
    return commit._replace(records=records)


def size(commit: PlainCommit) -> int:
    """How many changes a commit has."""
    if type(commit) is tuple:
        return 1
    return len(commit.records) if type(commit) is Commit else len(commit[2])
