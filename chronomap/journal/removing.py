"""Taking records out of the log, within a transaction of somebody else's, so that what is left can still be checked."""

from __future__ import annotations

from typing import Any, Final

from chronomap.core.retention import Cut
from chronomap.errors import CorruptJournalError
from chronomap.journal.loading import cut_of
from chronomap.journal.protocol import Pruned
from chronomap.journal.schema import cut_checksum, header_checksum
from chronomap.journal.state import State

_NEEDLESS: Final = (
    "SELECT id FROM records r WHERE id BETWEEN ? AND ? AND revision <= ? AND (kind = 'activate' OR EXISTS "
    "(SELECT 1 FROM pruned p WHERE p.key = r.key AND (r.timestamp, r.revision) < (p.timestamp, p.revision)))"
)


class Remover:
    """Keeps the index by key, and removes what it finds there."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._compacting: tuple[int, int] = (0, 0)  # up to which revision, and the next id to look at

    def place(self, state: State) -> None:
        """Bring ``places`` up to date. In the order of keys: that touches each page once."""
        connection = self._connection
        connection.execute(
            "INSERT INTO places SELECT key, timestamp, revision, id FROM records "
            "WHERE id > ? AND id <= ? AND kind <> 'activate' ORDER BY key, timestamp, revision",
            (state.placed, state.id),
        )
        state.places += connection.changes()
        state.placed = state.id

    def erase(self, state: State, text: bytes, number: int) -> None:
        """Remove all versions of a key that were written before the record of that number."""
        self.place(state)
        self.remove(state, self._ids("SELECT id FROM places WHERE key = ? AND id < ?", (text, number)))
        self._forget_cut(state, text)

    def prune(self, state: State, text: bytes, cut: Cut, keep_after: int) -> int:
        """Note a cut, and remove what is below it unless its commit is newer than ``keep_after``."""
        self.place(state)
        below = "FROM places WHERE key = ? AND (timestamp, revision) < (?, ?)"
        [(changed,)] = self._connection.execute(f"SELECT max(revision) {below}", (text, *cut.start)).fetchall()
        joined = Pruned(cut.start, cut.floor, changed or 0).joined(self._forget_cut(state, text))
        self.note(state, text, joined)
        ids = self._ids(f"SELECT id {below} AND revision <= ?", (text, *joined.start, keep_after))
        state.complete_since = max(state.complete_since, self.remove(state, ids))
        return len(ids)

    def note(self, state: State, text: bytes, pruned: Pruned) -> None:
        """Write down what was pruned of a key, of which nothing is noted yet."""
        numbers = (*pruned.start, *pruned.floor, pruned.changed)
        checksum = cut_checksum(text, numbers)
        self._connection.execute("INSERT INTO pruned VALUES (?, ?, ?, ?, ?, ?, ?)", (text, *numbers, checksum))
        state.pruned += 1
        state.cuts += checksum
        state.pruned_to = max(state.pruned_to, pruned.changed)

    def compact(self, state: State, revision: int, limit: int) -> bool:
        """Look at so many records for what no version needs; whether there are more."""
        target, first = self._compacting
        if target != revision:
            first = 1
        last = first + limit - 1
        if ids := self._ids(_NEEDLESS, (first, last, revision)):
            self.place(state)
            state.pruned_to = max(state.pruned_to, self.remove(state, ids))
        state.complete_since = max(state.complete_since, min(revision, state.revision))
        self._compacting = revision, last + 1
        further = self._connection.execute("SELECT revision FROM records WHERE id > ? ORDER BY id LIMIT 1", (last,)).fetchone()
        return further is not None and further[0] <= revision

    def _ids(self, query: str, bindings: tuple[Any, ...]) -> list[int]:
        return [number for (number,) in self._connection.execute(query, bindings)]

    def _forget_cut(self, state: State, text: bytes) -> Pruned | None:
        """Remove what is noted as pruned of a key; returns what that was."""
        known = self._connection.execute("SELECT * FROM pruned WHERE key = ?", (text,)).fetchone()
        if known is None:
            return None
        cut = cut_of(known)
        self._connection.execute("DELETE FROM pruned WHERE key = ?", (text,))
        state.pruned -= 1
        state.cuts -= known[-1]
        return cut

    def remove(self, state: State, ids: list[int]) -> int:
        """Remove records; returns the newest revision that lost some.

        The headers of their commits are brought up to date; a commit that was nothing but its record gets one now.
        """
        connection = self._connection
        newest = 0
        for number in ids:
            found = connection.execute(
                "SELECT revision, key, timestamp, coalesce(instant, timestamp), checksum, kind FROM records WHERE id = ?",
                (number,),
            ).fetchone()
            if found is None:
                raise CorruptJournalError(f"record {number} is in the index, but not in the log")
            revision, text, timestamp, instant, checksum, kind = found
            connection.execute("DELETE FROM records WHERE id = ?", (number,))
            if kind != "activate":
                connection.execute(
                    "DELETE FROM places WHERE key = ? AND timestamp = ? AND revision = ? AND id = ?",
                    (text, timestamp, revision, number),
                )
                state.places -= connection.changes()
            self._shrink(state, revision, instant, checksum)
            state.records -= 1
            newest = max(newest, revision)
        return newest

    def _shrink(self, state: State, revision: int, instant: float, checksum: int) -> None:
        header = self._connection.execute("SELECT * FROM commits WHERE revision = ?", (revision,)).fetchone()
        if header is None:
            size = total = 0
            meta = None
            state.commits += 1
        else:
            _, instant, size, total, meta, known = header
            if header_checksum(revision, instant, size, total, meta) != known:
                raise CorruptJournalError(f"the header of revision {revision} is damaged", safe=revision - 1)
            size, total = size - 1, total - checksum
        row = (revision, instant, size, total, meta, header_checksum(revision, instant, size, total, meta))
        self._connection.execute("REPLACE INTO commits VALUES (?, ?, ?, ?, ?, ?)", row)
