"""The change feed: the newest commits, in revision order, for whoever wants to follow.

It is a log, not a queue per subscriber: a watcher is a position in it. What it retains is bounded; a watcher that fell
behind gets ``LaggedError``. Readers on other threads take the whole state in one step, so mind that ``_state`` is replaced
as one object and that its list is only ever appended to.
"""

from __future__ import annotations

from typing import Final

from chronomap.core.records import Commit
from chronomap.core.values import MISSING
from chronomap.errors import LaggedError

RETAINED_COMMITS: Final = 10_000
"""How many commits are kept at least: a watcher may fall that far behind. Some 3 MB for small values."""


class Feed:
    """The newest commits of a map whose newest revision was ``floor`` when the feed began."""

    def __init__(self, floor: int = 0, retained: int = RETAINED_COMMITS) -> None:
        self.retained = retained
        self._limit = 2 * retained  # cut only then, so that cutting costs O(1) a commit
        self._state: tuple[int, list[Commit]] = (floor, [])

    @property
    def floor(self) -> int:
        """The revision before the oldest commit retained."""
        return self._state[0]

    def append(self, commit: Commit) -> None:
        """Add the next commit. Amortised O(1)."""
        commits = self._state[1]
        commits.append(commit)
        if len(commits) > self._limit:
            kept = commits[-self.retained :]
            self._state = (kept[0].revision - 1, kept)

    def since(self, revision: int) -> list[Commit]:
        """The commits after a revision.

        Raises:
            LaggedError: If some of them are no longer retained.
        """
        floor, commits = self._state
        if revision < floor:
            raise LaggedError(revision, floor)
        return commits[revision - floor :]

    def commit(self, revision: int) -> Commit | None:
        """One commit, or None if it is not retained."""
        floor, commits = self._state
        index = revision - floor - 1
        return commits[index] if 0 <= index < len(commits) else None

    def cut_after(self, revision: int) -> None:
        """Take back commits that were never published."""
        floor, commits = self._state
        del commits[revision - floor :]

    def erase(self, key: object) -> None:
        """Remove every value of a key. O(commits retained)."""
        floor, commits = self._state
        scrubbed = [
            Commit(
                commit.revision,
                commit.instant,
                tuple(
                    record._replace(value=MISSING, previous=MISSING) if record.key == key else record
                    for record in commit.records
                ),
            )
            for commit in commits
        ]
        self._state = (floor, scrubbed)
