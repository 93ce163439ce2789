"""What is known of each commit beside the versions it wrote: its instant, and whatever else was said about it.

Every commit has an instant; they stand together, by revision. Most commits have nothing else to tell: a value is a put,
a tombstone a delete. For the others there is a ``Note``, so that ``replay`` can say "merge" or "expire" and a version's
``meta`` is found long after the feed has let go of the commit. Example: a rollback with ``meta={"author": "ann"}`` as
revision 7 is ``notes[7] = Note("rollback", (("author", "ann"),), ())``.

A note goes with the last version of its commit, so pruning reaches it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from chronomap.core.instants import Instants
from chronomap.core.meta import Meta
from chronomap.core.records import CANCELLED, NEVER, Kind
from chronomap.core.values import MISSING

ORDINARY: Final = frozenset({"put", "delete", "unschedule"})
"""The kinds that a version tells by itself."""

TOLD: Final[frozenset[Kind]] = frozenset({"expire", "erase", "touch", "clear", "rollback", "undo", "merge"})
"""The kinds that a note tells. (An activation writes no version; the note of its commit lists it.)"""

Activation = tuple[Any, float, int]
"""``(key, timestamp, revision)`` of a scheduled version that took effect."""


class Note(NamedTuple):
    """What one commit has to tell; ``kind`` is None where its versions tell it."""

    kind: Kind | None
    meta: Meta
    activated: tuple[Activation, ...]


class Ledger:
    """The instants and notes of all commits. The owner writes; anybody may read."""

    def __init__(self) -> None:
        self.instants = Instants()  # by revision - 1
        self.notes: dict[int, Note] = {}
        self._left: Counter[int] = Counter()  # versions and activations there still are of a commit with a note
        self._activated: dict[Activation, int] = {}  # the revisions at which scheduled versions took effect

    def __len__(self) -> int:
        return len(self.instants)

    def instant_of(self, revision: int) -> float:
        """When a revision was committed; minus infinity for 0."""
        return self.instants[revision - 1] if revision else -NEVER

    def meta_of(self, revision: int) -> dict[str, Any]:
        """What was said about a commit, as a new dict."""
        note = self.notes.get(revision)
        return {} if note is None else dict(note.meta)

    def kind_of(self, revision: int, value: Any) -> Kind:
        """Of what kind the change was that a version of a commit, with that kept value, stands for."""
        note = self.notes.get(revision)
        if note is not None and note.kind is not None:
            return note.kind
        return "delete" if value is MISSING else "unschedule" if value is CANCELLED else "put"

    def write_down(self, revision: int, note: Note, versions: int) -> None:
        """Add a commit's note, if it has anything to tell."""
        if note.kind is not None or note.meta or note.activated:
            self.notes[revision] = note
            self._left[revision] = versions + len(note.activated)
            for activation in note.activated:
                self._activated[activation] = revision

    def forget(self, key: Any, stamps: Iterable[tuple[float, int]]) -> int:
        """Versions of a key, by timestamp and revision, are gone; what nothing is left of needs no note.

        Returns:
            The newest revision about which not everything is known any more.
        """
        newest = 0
        for timestamp, revision in stamps:
            for one in (revision, self._activated.pop((key, timestamp, revision), 0)):
                newest = max(newest, one)
                if one in self.notes:
                    self._left[one] -= 1
                    if self._left[one] <= 0:
                        self.strike(one)
        return newest

    def strike(self, revision: int) -> None:
        """Remove a note."""
        note = self.notes.pop(revision, None)
        self._left.pop(revision, None)
        for activation in () if note is None else note.activated:
            self._activated.pop(activation, None)
