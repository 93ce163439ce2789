"""What the two faces share: the owner behind them, and everything that needs no waiting.

A face turns arguments into commands and entries into replies; meaning lives in ``core``.
"""

from __future__ import annotations

import heapq
import logging
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, Generic, Literal, NoReturn, Self, TypeVar

from chronomap import formats
from chronomap.core.feed import RETAINED_CHANGES
from chronomap.core.meta import Plain
from chronomap.core.records import CANCELLED, NEVER, Entry
from chronomap.core.retention import Retention, check_keep_last
from chronomap.core.store import Store
from chronomap.core.timeline import UNSETTLED, Pruned
from chronomap.core.timestamps import Timestamp, seconds
from chronomap.core.values import IMMUTABLE, MISSING, capture, hashable, release, same
from chronomap.core.view import View, differences
from chronomap.errors import (
    ChronoMapKeyError,
    ChronoMapTypeError,
    ChronoMapValueError,
)
from chronomap.runtime.annotate import said
from chronomap.runtime.hooks import Callback
from chronomap.runtime.owner import Owner

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
F = TypeVar("F")

log = logging.getLogger("chronomap")

Choose = Callable[[Any, Any, Any], Any]
"""``(key, ours, theirs) -> value``: decides a merge for a key on which two maps differ."""

IMPORTED: Final = 64
"""Commits that are imported by one command."""

ATTEMPTS = 10
"""How often ``transact`` tries before it gives up."""


class Difference(tuple[Any, Any, Any]):  # noqa: SLOT001 - a tuple's subclass cannot have slots beside
    """``(key, other's value, own value)`` of a key that differs; None where a side holds nothing.

    ``kind`` tells what None cannot: "added" (only the map itself holds the key), "removed" (only the other does), or
    "changed" (both do; either may hold None).
    """

    kind: Literal["added", "removed", "changed"]

    def __new__(cls, key: Any, other: Any, own: Any) -> Self:
        """Make one from kept values, MISSING for none."""
        self = super().__new__(cls, (key, *(None if side is MISSING else release(side) for side in (other, own))))
        self.kind = "added" if other is MISSING else "removed" if own is MISSING else "changed"
        return self

    def __getnewargs__(self) -> tuple[Any, Any, Any]:
        key, other, own = self
        return key, MISSING if self.kind == "added" else other, MISSING if self.kind == "removed" else own


class Readable(Generic[K, V]):
    """The reads that need no waiting; a live map and its snapshots have them on both faces."""

    _owner: Owner

    def _held(self, key: Any) -> Any:
        raise NotImplementedError

    def _pin(self, timestamp: Timestamp | None = None, revision: int | None = None) -> View:
        raise NotImplementedError

    def __getitem__(self, key: K) -> V:
        if (value := self._held(key)) is MISSING:
            raise ChronoMapKeyError(key)
        found: V = release(value)
        return found

    def __contains__(self, key: object) -> bool:
        return self._held(key) is not MISSING

    def __iter__(self) -> Iterator[K]:
        return (key for key, _ in self._pin().scan())

    def __len__(self) -> int:
        return sum(1 for _ in self._pin().scan())

    def __bool__(self) -> bool:
        return len(self) > 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Readable):
            return NotImplemented
        return next(differences(self._pin(), other._pin()), None) is None

    __hash__ = None  # type: ignore[assignment]  # equal content may change, as with a dict

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise ChronoMapTypeError(
            f"{type(self).__name__} objects cannot be copied or pickled, as they stand for a map that lives in this process: "
            "snapshot().fork() makes an independent map; another process can load what save_pickle() wrote, or open the map's "
            "file with read_only=True"
        )


class Frozen(Readable[K, V]):
    """What the snapshots of both faces are: a view of the map at one revision and one instant.

    Attributes:
        revision: The newest revision it knows.
    """

    def __init__(self, owner: Owner, view: View, make: Callable[..., Any]) -> None:
        self._owner = owner
        self._view = view
        self._make = make  # a map from plain data
        self.revision = view.revision

    @property
    def snapshot_time(self) -> float:
        """The timestamp it reads at, in seconds since the epoch."""
        return self._view.timestamp

    def __repr__(self) -> str:
        return f"<{type(self).__name__} revision={self.revision} timestamp={self.snapshot_time}>"

    def _held(self, key: Any) -> Any:
        return self._view.held(key)

    def _pin(self, timestamp: Timestamp | None = None, revision: int | None = None) -> View:
        return self._view.elsewhere(None if timestamp is None else seconds(timestamp), revision)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self


class Face(Readable[K, V]):
    """A live map: the owner, and the plain parts of its surface."""

    _patient = True  # its reads may wait for the disk, if what they ask for is not in memory

    def __init__(
        self,
        *,
        retention: Retention | None = None,
        isolation: Literal["copy", "share"] = "copy",
        clock: Callable[[], float] | None = None,
        feed_retention: int = RETAINED_CHANGES,
        debug: bool = False,
    ) -> None:
        check_options(isolation, retention, feed_retention, debug)
        self._adopt(Owner(Store(retention, feed_retention), clock), isolation, debug=debug)

    def _adopt(self, owner: Owner, isolation: Literal["copy", "share"], *, debug: bool) -> None:
        self._owner = owner
        self._store = owner.store
        self._isolation: Literal["copy", "share"] = isolation
        self._debug = debug
        if debug:
            if not log.handlers and not logging.getLogger().handlers:
                log.addHandler(logging.StreamHandler())
            log.setLevel(logging.DEBUG)

    @property
    def revision(self) -> int:
        """The newest revision: how many commits there have been."""
        return self._store.revision

    @property
    def snapshot_time(self) -> None:
        """None: only snapshots have one."""
        return

    def __repr__(self) -> str:
        state = "closed" if self._owner.closed else f"revision={self.revision}"
        return f"<{type(self).__name__} {state}>"

    def __len__(self) -> int:
        """How many keys are present. O(1)."""
        self._check_open()
        store = self._store
        if store.next_due <= self._owner.now() or store.revision != len(store.ledger):
            present: int = self._owner.call(store.count)
            return present
        return len(store.recency)

    def _annotated(
        self, meta: Mapping[str, Plain] | None, operation: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """The command that has another one's commit kept with what is said about it."""
        if getattr(operation, "only_reads", False):
            return operation, arguments
        return self._store.annotated, (said(meta), operation, *arguments)

    def _check_open(self) -> None:
        if self._owner.closed:
            self._owner.refuse()

    def _check(self) -> None:
        """Verify the store's invariants (slow; for tests)."""
        self._owner.call(self._store.check)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _held(self, key: Any) -> Any:
        owner = self._owner
        try:
            timeline = owner.timelines.get(key)
        except TypeError:
            hashable(key)
            raise
        self._store.reads += 1
        if timeline is None:
            return MISSING
        if (value := timeline.settled) is not UNSETTLED:
            return value
        revision = self._store.revision  # before the clock: what this revision knows is in force by then
        now = owner.now()
        try:
            entry = timeline.find(now, revision)
        except Pruned:  # the timeline was pruned while we looked
            entry = self._for_reading(View(self._store, now, self._store.revision)).entry(key)
        return entry.value if entry is not None and entry.holds(now) else MISSING

    def _view(self, timestamp: Timestamp | None, revision: int | None) -> View:
        self._check_open()
        return self._for_reading(
            self._store.view(self._owner.now(), None if timestamp is None else seconds(timestamp), revision)
        )

    def _for_reading(self, view: View) -> View:
        if self._patient:
            view.fetch = self._owner.fetch
        return view

    def _held_at(self, key: Any, timestamp: Timestamp | None, revision: int | None) -> Any:
        if timestamp is None and revision is None:
            return self._held(key)
        self._store.reads += 1
        return self._view(timestamp, revision).held(key)

    # -- writing -------------------------------------------------------------------------------------------------------

    def _capture(self, value: Any) -> Any:
        return value if type(value) in IMMUTABLE or self._isolation == "share" else capture(value)

    def _captured(self, items: Mapping[K, V]) -> dict[Any, Any]:
        if not isinstance(items, Mapping):
            raise ChronoMapTypeError(f"put_many takes a mapping of keys to values, got {type(items).__name__}")
        capture = self._capture
        return {key: value if type(value) in IMMUTABLE else capture(value) for key, value in items.items()}

    def _prune_arguments(self, keep_last: int | None, older_than: Timestamp | None) -> tuple[int | None, float | None]:
        if keep_last is None and older_than is None:
            raise ChronoMapValueError("say what to prune: keep_last=, older_than=, or both")
        if keep_last is not None:
            check_keep_last(keep_last)
        return keep_last, None if older_than is None else seconds(older_than)

    def _retained(self, keep_last: int | None, older_than: Timestamp | None) -> tuple[int | None, float | None]:
        retention = self._store.retention
        if keep_last is None and older_than is None and retention is not None:
            return retention.max_versions, retention.oldest(self._owner.now())
        return self._prune_arguments(keep_last, older_than)

    def _rollback_arguments(self, to: object) -> tuple[int, View | None]:
        if isinstance(to, Readable) and not isinstance(to, Face):
            if to._owner is not self._owner:
                raise ChronoMapValueError("that snapshot is of another map; roll back to one of this map, or merge() it")
            view = to._pin()
            return view.revision, view
        if isinstance(to, int) and not isinstance(to, bool):
            return to, None
        raise ChronoMapTypeError(f"roll back to a snapshot or a revision (int), got {type(to).__name__}")

    def _import_commands(self, commits: Iterable[list[formats.Line]]) -> Iterator[tuple[Callable[..., None], Any, int]]:
        """The commands that import commits, some each, which share a sync: what to run, its argument, how many lines."""
        commits = iter(commits)
        while some := list(islice(commits, IMPORTED)):
            waiting = deque((self._imported(lines), said(dict(lines[0].meta) or None)) for lines in some)
            yield self._store.import_commits, waiting, sum(map(len, some))

    def _imported(self, lines: list[formats.Line]) -> list[tuple[Any, Any, float, float]]:
        return [
            (
                line.key,
                line.value if line.value is MISSING or line.value is CANCELLED else self._capture(line.value),
                line.timestamp,
                line.expires_at,
            )
            for line in lines
        ]

    def _log(self, message: str, *arguments: object) -> None:
        log.debug(message, *arguments)

    # -- merging: read the other first, then one command -----------------------------------------------------------------

    def _other(self, other: object, what: str, *, patient: bool) -> View:
        if not isinstance(other, Readable):
            raise ChronoMapTypeError(f"Expected a ChronoMap or a snapshot for {what}, got {type(other).__name__}")
        view, fetch = other._pin(), other._owner.fetch
        return view if fetch is None or not patient else view.fetching(fetch)

    def _merge_plan(
        self, other: object, strategy: str | Choose, *, patient: bool
    ) -> tuple[Callable[..., int], tuple[Any, ...]]:
        """The command of a merge; ``patient``: the other's history may be read from its file."""
        if strategy not in ("timestamp", "overwrite") and not callable(strategy):
            raise ChronoMapValueError(
                f"Invalid merge strategy: {strategy!r}; use 'timestamp', 'overwrite' or a function (key, ours, theirs)"
            )
        theirs = self._other(other, "merge", patient=patient)
        if theirs.store is self._store:
            raise ChronoMapValueError("a map cannot be merged with itself; to go back to a snapshot, call rollback()")
        if callable(strategy):
            return self._store.put_expected, (self._chosen(theirs, strategy),)
        if strategy == "overwrite":
            present = [(key, entry) for key, _ in theirs.scan() if (entry := theirs.entry(key)) is not None]
            return self._store.take_over, ([(key, [entry]) for key, entry in present], True)
        entries: list[tuple[Any, list[Entry]]] = []
        for key, timeline in list(theirs.store.timelines.items()):
            known = theirs.whole(key) or timeline
            newest = {entry.timestamp: entry for entry in known.standing(theirs.revision)}
            entries.append((key, list(newest.values())))
        return self._store.take_over, (entries, False)

    def _chosen(self, theirs: View, choose: Choose) -> list[tuple[Any, Any, float, Any]]:
        ours = self._view(None, None)
        chosen: list[tuple[Any, Any, float, Any]] = []
        for key, value in theirs.scan():
            entry, mine = theirs.entry(key), ours.entry(key)
            if entry is None:
                continue
            if mine is None or not mine.holds(ours.timestamp):
                chosen.append((key, value, entry.expires_at, None))
            elif not same(mine.value, value):
                kept = self._capture(choose(key, release(mine.value), release(value)))
                chosen.append((key, kept, NEVER, mine[:2]))
        return chosen

    # -- callbacks and numbers -----------------------------------------------------------------------------------------

    def _add_callback(self, callback: Callback, *, allow_async: bool) -> None:
        self._check_open()
        self._owner.hooks.add(callback, allow_async=allow_async)
        self._owner.observed = True

    def remove_change_callback(self, callback: Callback) -> bool:
        """Stop calling a callback; False if it was not registered."""
        removed = self._owner.hooks.remove(callback)
        self._owner.look_again()
        return removed

    def get_stats(self) -> dict[str, int]:
        """Counters since the map was made or ``reset_stats`` was called, and its present size.

        Returns:
            reads, writes, deletes, snapshots, expired, conflicts; then revision, keys (ever used) and versions (kept).
        """
        store = self._store
        return {
            "reads": store.reads,
            "writes": store.writes + store.plain_puts + store.revision - len(store.ledger),
            "deletes": store.deletes,
            "snapshots": store.snapshots,
            "expired": store.expiries,
            "conflicts": store.conflicts,
            "revision": store.revision,
            "keys": len(store.timelines),
            "versions": sum(map(len, list(store.timelines.values()))),
        }

    def reset_stats(self) -> None:
        """Set the counters to zero."""
        store = self._store
        self._owner.call(store.count)
        store.plain_puts = 0
        store.reads = store.writes = store.deletes = store.snapshots = store.expiries = store.conflicts = 0


def check_options(isolation: str, retention: Retention | None, feed_retention: int, debug: object = False) -> None:
    """Refuse options of a map that make no sense; such as the path of a file, which is easily taken for the first of them."""
    if isinstance(debug, str | os.PathLike):
        raise ChronoMapTypeError(f"debug is True or False, got {debug!r}; a map is kept in a file with open(path)")
    if isolation not in ("copy", "share"):
        raise ChronoMapValueError(f"isolation is 'copy' or 'share', got {isolation!r}")
    if retention is not None and not isinstance(retention, Retention):
        raise ChronoMapTypeError(f"retention is a Retention(max_versions=..., max_age=...), got {type(retention).__name__}")
    check_number(feed_retention, "feed_retention")


def check_number(n: int, what: str) -> int:
    """Refuse what is not a whole number of 0 or more."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise ChronoMapTypeError(f"{what} is a whole number, got {type(n).__name__}")
    if n < 0:
        raise ChronoMapValueError(f"{what} must be 0 or more, got {n}")
    return n


def function(given: F, what: str) -> F:
    """Refuse what cannot be called."""
    if not callable(given):
        raise ChronoMapTypeError(f"{what} is a function, got {type(given).__name__}")
    return given


def several(keys: Iterable[K]) -> list[K]:
    """Some keys as a list; one text is refused, for it would be taken apart, and so is what is no iterable."""
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise ChronoMapTypeError(
            f"several keys are a list or another iterable of them, got {type(keys).__name__}; of one: [key]"
        )
    return list(keys)


def prefix_text(prefix: str | None) -> str | None:
    """Refuse a prefix that is not text."""
    if prefix is not None and not isinstance(prefix, str):
        raise ChronoMapTypeError(f"a prefix is text, got {type(prefix).__name__}")
    return prefix


def newest(stamped: Iterable[tuple[Any, float, int, Any]], n: int) -> list[tuple[Any, float, Any]]:
    """The n newest of a view's keys: ``(key, timestamp, value)``."""
    best = heapq.nlargest(n, stamped, key=lambda found: (found[1], found[2]))
    return [(key, timestamp, value) for key, timestamp, _, value in best]
