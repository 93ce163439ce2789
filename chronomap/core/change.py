"""``Change``: one change of one key, as watchers see it.

A thousand watchers share one object per change, so it holds kept values and never hands out what it holds: who asks for
a value that can change gets a copy of its own. It is made from a commit and a place in it, and works out the rest when
asked, since most watchers look at two or three of its attributes. What most commits are, a plain put, is shown without
making a commit of it: ``PlainPut``.

Example: the second record of commit 5 is ``Change(commit, 1)``, with ``revision`` 5, ``index`` 1.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final, Generic, NamedTuple, cast

from chronomap.core.meta import NOTHING, Plain
from chronomap.core.records import CANCELLED, NEVER, Commit, K, Kind, Record, V, make, plain
from chronomap.core.values import IMMUTABLE, MISSING

ATTRIBUTES: Final = (
    "revision", "index", "size", "committed_at", "key", "kind", "value", "previous", "timestamp", "expires_at",
    "removed", "created", "present", "meta",
)  # fmt: skip


PlainCommit = tuple[Any, ...]
"""A commit as the feed keeps it: a ``Commit``, or for a plain put, dated now, just ``(revision, instant, key, value,
previous)``, since making named tuples would take longer than the rest of the put; a ``Batch`` for many of them at once."""


class Batch(NamedTuple):
    """A commit of plain puts, dated now, of which no records have been made."""

    revision: int
    instant: float
    keys: list[Any]
    values: list[Any]
    previous: list[Any]


NOBODY: Final[frozenset[int]] = frozenset()


def as_commit(plain: PlainCommit) -> Commit:
    """The named form of a commit in the feed."""
    if type(plain) is Commit:
        return plain
    revision, instant, key, value, previous = plain
    if type(plain) is Batch:
        made = (make(Record, ("put", *put, instant, NEVER)) for put in zip(key, value, previous, strict=True))
        records = tuple(made)
    else:
        records = (make(Record, ("put", key, value, previous, instant, NEVER)),)
    commit: Commit = make(Commit, (revision, instant, records, NOTHING, NOBODY))
    return commit


class Change(Generic[K, V]):
    """One change of one key. It never changes itself, and compares by all its attributes."""

    __slots__ = ("_commit", "_index", "_record")

    def __init__(self, commit: Commit, index: int) -> None:
        self._commit = commit
        self._index = index
        self._record = commit.records[index]

    @property
    def _whole(self) -> Commit:
        """The commit it belongs to, as the store knows it."""
        return self._commit

    @property
    def revision(self) -> int:
        """The commit it belongs to."""
        return self._commit.revision

    @property
    def index(self) -> int:
        """Its place within the commit, from 0."""
        return self._index

    @property
    def size(self) -> int:
        """How many changes the commit has."""
        return len(self._commit.records)

    @property
    def committed_at(self) -> float:
        """The commit's wall-clock instant, in seconds since the epoch."""
        return self._commit.instant

    @property
    def key(self) -> K:
        """The key."""
        return cast("K", self._record.key)

    @property
    def kind(self) -> Kind:
        """What happened.

        "put", "delete", "expire", "activate" (a scheduled value takes effect), "erase", "touch", "unschedule", "clear",
        "rollback", "undo" or "merge". A stream adds two of its own: "initial", for what was present when it began (or
        after a resync), and "resync": the stream fell behind, everything seen so far is void, the present follows.
        """
        return self._record.kind

    @property
    def value(self) -> V | None:
        """The value from ``timestamp`` on, a copy of your own; None if there is none (``removed`` tells)."""
        value = self._record.value
        return cast("V | None", value if type(value) in IMMUTABLE else plain(value))

    @property
    def previous(self) -> V | None:
        """What the key held at ``timestamp`` until then, a copy; None if nothing (``created`` tells) or if it was pruned."""
        return cast("V | None", plain(self._record.previous))

    @property
    def timestamp(self) -> float:
        """Since when it holds in the world, in seconds since the epoch."""
        return self._record.timestamp

    @property
    def expires_at(self) -> float | None:
        """When it expires, or None."""
        expires_at = self._record.expires_at
        return None if expires_at == NEVER else expires_at

    @property
    def removed(self) -> bool:
        """Whether the key holds nothing of its own from ``timestamp`` on."""
        value = self._record.value
        return value is MISSING or value is CANCELLED

    @property
    def created(self) -> bool:
        """Whether the key held nothing at ``timestamp`` before."""
        return self._record.previous is MISSING

    @property
    def present(self) -> bool:
        """Whether it decides what the key holds at the instant of the commit: not dated ahead, nor behind a newer one."""
        return self._commit.present(self._index)

    @property
    def meta(self) -> dict[str, Plain]:
        """What was passed with the write (author, reason, request id), as a dict of your own."""
        return dict(self._commit.meta)

    def as_dict(self) -> dict[str, Any]:
        """All attributes, by name."""
        return {name: getattr(self, name) for name in ATTRIBUTES}

    def __eq__(self, other: object) -> bool:
        return self.as_dict() == other.as_dict() if isinstance(other, Change) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.revision, self.index, self.kind, self.key))

    def __repr__(self) -> str:
        """What tells one change from another; ``as_dict`` has the rest."""
        names = ("revision", "index", "kind", "key", "value", "previous", "timestamp", "expires_at", "meta")
        return f"<Change {' '.join(f'{name}={getattr(self, name)!r}' for name in names)}>"


def change_of(put: PlainCommit) -> Change[Any, Any]:
    """The change of a plain put, as the feed keeps it."""
    return (PlainPut if type(put[3]) in IMMUTABLE else CopiedPut)(put)


class PlainPut(Change[K, V]):
    """The change of a plain put of a value that cannot change. To its users it is a ``Change`` like any other.

    Nearly all of them look at its key and value: those are read without a call of Python.
    """

    __slots__ = ("_key", "_value")

    def __init__(self, put: PlainCommit) -> None:
        self._commit: Any = put
        self._key = put[2]
        self._value = put[3]

    key = property(attrgetter("_key"), doc=Change.key.__doc__)
    value = property(attrgetter("_value"), doc=Change.value.__doc__)

    @property
    def _whole(self) -> Commit:
        """The commit that it belongs to."""
        return as_commit(self._commit)

    @property
    def revision(self) -> int:  # noqa: D102 - as in Change, here and below
        return cast("int", self._commit[0])

    @property
    def index(self) -> int:  # noqa: D102
        return 0

    @property
    def size(self) -> int:  # noqa: D102
        return 1

    @property
    def committed_at(self) -> float:  # noqa: D102
        return cast("float", self._commit[1])

    @property
    def kind(self) -> Kind:  # noqa: D102
        return "put"

    @property
    def previous(self) -> V | None:  # noqa: D102
        return cast("V | None", plain(self._commit[4]))

    @property
    def timestamp(self) -> float:  # noqa: D102
        return cast("float", self._commit[1])

    @property
    def expires_at(self) -> float | None:  # noqa: D102
        return None

    @property
    def removed(self) -> bool:  # noqa: D102
        return False

    @property
    def created(self) -> bool:  # noqa: D102
        return self._commit[4] is MISSING

    @property
    def present(self) -> bool:  # noqa: D102
        return True

    @property
    def meta(self) -> dict[str, Plain]:  # noqa: D102
        return {}


class CopiedPut(PlainPut[K, V]):
    """The same for a value that can change."""

    __slots__ = ()

    @property
    def value(self) -> V | None:  # noqa: D102
        return cast("V | None", plain(self._value))
