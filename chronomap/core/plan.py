"""Planning: which records a command will commit. Nothing here changes anything, so an error leaves all as it was.

Example: ``put("a", 1)`` at instant 100 on an empty store plans ``Record("put", "a", 1, previous=MISSING, 100, NEVER)``.
What it takes to go back in time is in ``rewind``.
"""

from __future__ import annotations

from functools import partial
from math import nextafter
from typing import TYPE_CHECKING, Any, Final, NoReturn

from chronomap.core.records import CANCELLED, NEVER, Entry, Kind, Record, make
from chronomap.core.timeline import UNSETTLED, Pruned
from chronomap.core.timestamps import Timestamp, duration, seconds
from chronomap.core.values import MISSING, bare
from chronomap.core.view import View, compacted
from chronomap.errors import ChronoMapTypeError, CompactedError, ConflictError

if TYPE_CHECKING:
    from chronomap.core.chronicle import Chronicle

ANY: Final[Any] = object()
"""Stands for "whatever version is in force" where one is expected."""


def version(  # noqa: PLR0917 - one call per record, on the way of every write
    store: Chronicle, key: Any, value: Any, timestamp: float, expires_at: float, kind: Kind = "put"
) -> Record:
    """A version to add.

    Raises:
        CompactedError: If the timestamp lies before what has been pruned.
    """
    timeline = store.timelines.get(key)
    if timeline is None:
        previous = MISSING
    elif timestamp >= store.instant and timeline.settled is not UNSETTLED:
        previous = timeline.settled
    elif timeline.timestamps[-1] <= timestamp and (held := timeline.values[-1]) is not CANCELLED:
        previous = held if timeline.expiries is None or timestamp < timeline.expiries[-1] else MISSING
    else:
        if timeline.floor is not None and timestamp < timeline.oldest[0]:
            raise compacted(key, timeline)
        previous = store.held(key, timestamp)
    record: Record = make(Record, (kind, key, value, previous, timestamp, expires_at))
    return record


def decisive(store: Chronicle, key: Any, timestamp: float) -> Entry | None:
    """The entry that decides what a key holds at a timestamp, for a command.

    Raises:
        CompactedError: If it has been pruned.
    """
    if (timeline := store.timelines.get(key)) is None:
        return None
    try:
        return timeline.find(timestamp, store.head)
    except Pruned:
        raise compacted(key, timeline) from None


def expiry(now: float, timestamp: float, ttl: float | None) -> float:
    """When a version expires."""
    return NEVER if ttl is None else max(now, timestamp) + duration(ttl)


def delete(store: Chronicle, key: Any, now: float, timestamp: Timestamp | None, kind: Kind = "delete") -> list[Record]:
    """A tombstone, and cancellations of what is scheduled later.

    What is missing now needs no tombstone. A dated one is written even where nothing is known yet: what it deletes may be
    learned later.
    """
    when = now if timestamp is None else seconds(timestamp)
    records = unschedule(store, key, now, max(now, when), "unschedule" if kind == "delete" else kind)
    tombstone = version(store, key, MISSING, when, NEVER, kind)
    if tombstone.previous is not MISSING or (not _ends_at(store, key, when) and timestamp is not None):
        records.insert(0, tombstone)
    return records


def _ends_at(store: Chronicle, key: Any, timestamp: float) -> bool:
    entry = decisive(store, key, timestamp)
    return entry is not None and entry.value is MISSING and entry.timestamp == timestamp


def unschedule(  # noqa: PLR0917
    store: Chronicle, key: Any, now: float, after: float, kind: Kind = "unschedule", only: float | None = None
) -> list[Record]:
    """Cancellations of what is scheduled later than a timestamp, or at exactly one."""
    timeline = store.timelines.get(key)
    if timeline is None or timeline.settled is not UNSETTLED or timeline.timestamps[-1] <= now:
        return []
    ahead = dict.fromkeys(entry.timestamp for entry in timeline.standing(store.head, after=after))
    return [Record(kind, key, CANCELLED, store.held(key, when), when, NEVER) for when in ahead if only in (None, when)]


def take_over(store: Chronicle, key: Any, entry: Entry, now: float) -> Record | None:
    """Another map's present value over ours; None if ours is equal."""
    ours = decisive(store, key, now)
    if ours is not None and ours.holds(now) and ours.equals(entry):
        return None
    return version(store, key, entry.value, now, entry.expires_at, "merge")


def unite(store: Chronicle, key: Any, entry: Entry) -> Record | None:
    """Another map's version into our history; None if we have an equal one at its timestamp, or have pruned that."""
    timeline = store.timelines.get(key)
    if timeline is not None:
        if timeline.floor is not None and entry.timestamp <= timeline.oldest[0]:
            if timeline.partial:
                raise compacted(key, timeline)
            if entry.timestamp < timeline.oldest[0]:
                return None
        there = timeline.standing(store.head, entry.timestamp, nextafter(entry.timestamp, -NEVER))
        if any(ours.equals(entry) for ours in there):
            return None
    return version(store, key, entry.value, entry.timestamp, entry.expires_at, "merge")


def transaction(store: Chronicle, now: float, writes: list[tuple[Any, ...]]) -> list[Record]:
    """The writes of a transaction, in their order; of several at one timestamp the last one counts.

    Args:
        store: The store.
        now: The instant.
        writes: ``("put", key, value, timestamp, ttl)`` and ``("delete", key, timestamp)``.
    """
    plan: dict[Any, dict[float, Record]] = {}
    for verb, key, *arguments in writes:
        own = plan.setdefault(key, {})
        if verb == "put":
            value, timestamp, ttl = arguments
            when = now if timestamp is None else seconds(timestamp)
            own[when] = version(store, key, value, when, expiry(now, when, ttl))
        else:
            _delete_own(store, own, key, now, arguments[0])
    for key, own in plan.items():
        ended = own.get(now)
        if ended is not None and ended.kind == "delete" and ended.previous is MISSING:
            rest = {at: record for at, record in own.items() if at != now}
            if not _planned(store, rest, key, now):
                del own[now]  # what the block itself wrote and took back leaves nothing
    return [record for own in plan.values() for record in own.values()]


def _delete_own(store: Chronicle, own: dict[float, Record], key: Any, now: float, timestamp: Timestamp | None) -> None:
    """Add a delete to what a transaction has planned for a key, after whose writes it comes."""
    when = now if timestamp is None else seconds(timestamp)
    ended = own.get(now)
    ends = timestamp is None and (_planned(store, own, key, now) or (ended is not None and ended.kind == "delete"))
    for at in [at for at in own if at == when or at > max(now, when)]:
        del own[at]
    records = delete(store, key, now, timestamp)
    if ends and not any(record.timestamp == now for record in records):  # also of what the block dates back after this
        records.append(Record("delete", key, MISSING, MISSING, now, NEVER))
    own |= {record.timestamp: record for record in records}


def _planned(store: Chronicle, own: dict[float, Record], key: Any, now: float) -> bool:
    """Whether what a transaction wrote so far would make a key hold a value now."""
    newest = max((at for at in own if at <= now), default=None)
    entry = decisive(store, key, now)
    return (
        newest is not None
        and own[newest].value is not MISSING
        and own[newest].value is not CANCELLED
        and (entry is None or newest >= entry.timestamp)
    )


# -- conditions ----------------------------------------------------------------------------------------------------------


def check_conditions(  # noqa: PLR0917
    store: Chronicle, now: float, key: Any, if_revision: int | None, if_absent: bool, expected: Any
) -> None:
    """Refuse a write whose conditions are not met; ``expected`` is the identity of the version in force (None: none)."""
    if if_revision is not None:
        if isinstance(if_revision, bool) or not isinstance(if_revision, int):
            raise ChronoMapTypeError(f"if_revision is an int, got {type(if_revision).__name__}")
        if (changed := store.changed(key)) != if_revision:
            conflict(store, f"key {key!r} was last changed by revision {changed}, not {if_revision}", [key], now)
    if if_absent and store.held(key, now) is not MISSING:
        conflict(store, f"key {key!r} already holds a value", [key], now)
    if expected is not ANY and store.in_force(key, now) != expected:
        conflict(store, f"key {key!r} has changed meanwhile", [key], now)


def moved(store: Chronicle, key: Any, base: View, now: float) -> bool:
    """Whether a key reads otherwise than it did in a transaction's base view."""
    if store.changed(key) > base.revision:
        return True
    return store.in_force(key, now) != base.identity(key)


def conflict(store: Chronicle, message: str, keys: list[Any], now: float) -> NoReturn:
    """Raise; the error makes its copy of the version in force when somebody asks, outside the turn."""
    view = View(store, now, store.head)
    try:
        entry = view.entry(keys[0])
    except CompactedError:  # it has been called off, and what went before is gone
        entry = None
    raise ConflictError(
        message,
        keys=tuple(keys),
        version=partial(view.version_of, keys[0], entry) if entry is not None and entry.holds(view.timestamp) else None,
        revision=store.changed(keys[0]),
    )


def unchanged(store: Chronicle, record: Record) -> bool:
    """Whether a record would say what the key holds already: a value of the same type, equal, for as long."""
    entry = decisive(store, record.key, record.timestamp)
    return (
        entry is not None
        and entry.holds(record.timestamp)
        and entry.equals(Entry(record.timestamp, 0, record.value, record.expires_at))
        and type(bare(entry.value)) is type(bare(record.value))
    )
