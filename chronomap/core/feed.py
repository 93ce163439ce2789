"""The change feed: the newest commits, in revision order, for whoever wants to follow.

It is a log, not a queue per subscriber: a watcher is a position in it. What it retains is bounded; a watcher that fell
behind gets ``LaggedError``. Readers on other threads take the whole state in one step, so mind that ``_state`` is replaced
as one object and that its list is only ever appended to.
"""

from __future__ import annotations

from typing import Any, Final

from chronomap.core.records import Commit, Record
from chronomap.core.values import MISSING
from chronomap.errors import LaggedError

RETAINED_COMMITS: Final = 10_000
"""How many commits are kept at least: a watcher may fall that far behind. Some 3 MB for small values."""

PlainCommit = tuple[int, float, tuple[tuple[Any, ...], ...]]
"""A ``Commit`` as the feed keeps it: making named tuples would take longer than the rest of a put."""


class Feed:
    """The newest commits of a map whose newest revision was ``floor`` when the feed began."""

    def __init__(self, floor: int = 0, retained: int = RETAINED_COMMITS) -> None:
        self.retained = retained
        self._limit = 2 * retained  # cut only then, so that cutting costs O(1) a commit
        self._state: tuple[int, list[PlainCommit]] = (floor, [])

    @property
    def floor(self) -> int:
        """The revision before the oldest commit retained."""
        return self._state[0]

    def append(self, commit: PlainCommit) -> None:
        """Add the next commit. Amortised O(1)."""
        commits = self._state[1]
        commits.append(commit)
        if len(commits) > self._limit:
            kept = commits[-self.retained :]
            self._state = (kept[0][0] - 1, kept)

    def since(self, revision: int) -> list[Commit]:
        """The commits after a revision.

        Raises:
            LaggedError: If some of them are no longer retained.
        """
        floor, commits = self._state
        if revision < floor:
            raise LaggedError(revision, floor)
        return [_commit(plain) for plain in commits[revision - floor :]]

    def commit(self, revision: int) -> Commit | None:
        """One commit, or None if it is not retained."""
        floor, commits = self._state
        index = revision - floor - 1
        return _commit(commits[index]) if 0 <= index < len(commits) else None

    def holds(self, revision: int, records: object) -> bool:
        """Whether the newest commit is that revision and consists of these very records."""
        commits = self._state[1]
        return bool(commits) and commits[-1][0] == revision and commits[-1][2] is records

    def cut_after(self, revision: int) -> None:
        """Take back commits that were never published."""
        floor, commits = self._state
        del commits[revision - floor :]

    def erase(self, key: object) -> None:
        """Remove every value of a key. O(commits retained)."""
        floor, commits = self._state
        scrubbed: list[PlainCommit] = [
            (
                revision,
                instant,
                tuple(
                    tuple(Record(*record)._replace(value=MISSING, previous=MISSING)) if record[1] == key else record
                    for record in records
                ),
            )
            for revision, instant, records in commits
        ]
        self._state = (floor, scrubbed)


def _commit(plain: PlainCommit) -> Commit:
    revision, instant, records = plain
    return Commit(revision, instant, tuple(Record._make(record) for record in records))
