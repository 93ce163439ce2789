"""The change feed: the newest commits, in revision order, for whoever wants to follow.

It is a log, not a queue per subscriber: a watcher is a position in it. What it retains is bounded; a watcher that fell
behind gets ``LaggedError``. Readers on other threads take the whole state in one step, so mind that ``_state`` is replaced
as one object and that its list is only ever appended to.
"""

from __future__ import annotations

from typing import Any, Final

from chronomap.core.records import NEVER, Commit, Record
from chronomap.core.values import MISSING
from chronomap.errors import LaggedError

RETAINED_COMMITS: Final = 4_000
"""How many commits are kept at least: a watcher may fall that far behind. More costs every put: the garbage
collector visits what is retained (0.2 µs a put at 10,000)."""

TRIM_EVERY: Final = 1024
"""Commits between two looks at whether there is something to drop; so many more may be retained."""

PlainCommit = tuple[Any, ...]
"""A commit as the feed keeps it, since making named tuples would take longer than the rest of a put:
``(revision, instant, records)``, or for a plain put, dated now, ``(revision, instant, key, value, previous)``."""


class Feed:
    """The newest commits of a map whose newest revision was ``floor`` when the feed began."""

    def __init__(self, floor: int = 0, retained: int = RETAINED_COMMITS) -> None:
        self.retained = retained
        self.tail: list[PlainCommit] = []  # for the owner to append to
        self._state = (floor, self.tail)

    @property
    def floor(self) -> int:
        """The revision before the oldest commit retained."""
        return self._state[0]

    def append(self, commit: PlainCommit) -> None:
        """Add the next commit. Amortised O(1)."""
        self.tail.append(commit)
        if not commit[0] % TRIM_EVERY:
            self.trim()

    def trim(self) -> None:
        """Drop what need not be retained any more."""
        if len(self.tail) > self.retained + TRIM_EVERY:
            self.tail = self.tail[-self.retained :]
            self._state = (self.tail[0][0] - 1, self.tail)

    def since(self, revision: int) -> list[Commit]:
        """The commits after a revision.

        Raises:
            LaggedError: If some of them are no longer retained.
        """
        floor, commits = self._state
        if revision < floor:
            raise LaggedError(revision, floor)
        return [as_commit(plain) for plain in commits[revision - floor :]]

    def commit(self, revision: int) -> Commit | None:
        """One commit, or None if it is not retained."""
        floor, commits = self._state
        index = revision - floor - 1
        return as_commit(commits[index]) if 0 <= index < len(commits) else None

    def cut_after(self, revision: int) -> None:
        """Take back commits that were never published."""
        floor, commits = self._state
        del commits[revision - floor :]

    def erase(self, key: object) -> None:
        """Remove every value of a key. O(commits retained)."""
        floor, commits = self._state
        erased = {key}  # compares as a dict does: by hash first
        scrubbed: list[PlainCommit] = [
            (
                commit.revision,
                commit.instant,
                tuple(
                    record._replace(value=MISSING, previous=MISSING) if record.key in erased else record
                    for record in commit.records
                ),
            )
            for commit in map(as_commit, commits)
        ]
        self.tail = scrubbed
        self._state = (floor, scrubbed)


def as_commit(plain: PlainCommit) -> Commit:
    """The named form of a commit in the feed."""
    if len(plain) == 3:  # noqa: PLR2004 - see PlainCommit
        revision, instant, records = plain
        return Commit(revision, instant, tuple(Record._make(record) for record in records))
    revision, instant, key, value, previous = plain
    return Commit(revision, instant, (Record("put", key, value, previous, instant, NEVER),))
