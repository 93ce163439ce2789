"""The whole map as plain data: what ``to_dict`` gives and every file of a whole map contains.

::

    {"format": "chronomap/3", "version": "3", "revision": 2, "instants": [100.0, 101.0],
     "store": {"a": [(100.0, 1, 1, None, "value"), (101.0, None, 2, None, "tombstone")]},
     "pruned": {}, "snapshot_time": None}

A row is (timestamp, value, revision, expires_at, kind). ChronoMap 2 wrote ``{"store": {key: [(timestamp, value), …]},
"ttl": {key: expires_at}}``, which is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import inf, isfinite
from typing import Any

from chronomap.core.records import CANCELLED, NEVER, Entry
from chronomap.core.store import Store
from chronomap.core.values import MISSING, capture, release
from chronomap.core.view import View
from chronomap.errors import ChronoMapValueError

FORMAT = "chronomap/3"
KINDS = {"value", "tombstone", "cancellation"}


def dump(view: View) -> dict[str, Any]:
    """The map with its history, and its schedule, as a view knows it."""
    store: dict[Any, list[tuple[Any, ...]]] = {}
    pruned = {}
    for key in list(view.store.timelines):
        timeline = view.timeline(key)
        rows = [] if timeline is None else [_row(entry) for entry in timeline.entries(view.revision)]
        if not rows or timeline is None:
            continue
        store[key] = rows
        if timeline.floor is not None:
            pruned[key] = timeline.floor
    return {
        "format": FORMAT,
        "version": "3",
        "revision": view.revision,
        "instants": list(view.store.instants[: view.revision]),
        "store": store,
        "pruned": pruned,
        "snapshot_time": None,
    }


def _row(entry: Entry) -> tuple[Any, ...]:
    expires_at = None if entry.expires_at == NEVER else entry.expires_at
    if entry.value is MISSING or entry.value is CANCELLED:
        kind = "tombstone" if entry.value is MISSING else "cancellation"
        return (entry.timestamp, None, entry.revision, expires_at, kind)
    return (entry.timestamp, release(entry.value), entry.revision, expires_at, "value")


def load(store: Store, data: Mapping[str, Any], now: float) -> None:
    """Fill a new store; everything is checked before anything is loaded.

    Raises:
        ChronoMapValueError: If the data is not what ``dump`` or ChronoMap 2 gives.
    """
    if not isinstance(data, Mapping):
        raise ChronoMapValueError(f"not a saved ChronoMap: expected a mapping, got {type(data).__name__}")
    if data.get("format") == FORMAT:
        instants, timelines, floors = _check_current(data)
    elif "format" in data:
        raise ChronoMapValueError(f"this version cannot read the format {data['format']!r}; a newer ChronoMap may")
    else:
        instants, timelines, floors = _convert(data, now)
    store.instant = instants[-1] if instants else -inf
    for key, entries in timelines.items():
        store.restore(key, entries, floors.get(key))
    store.restored(instants, len(instants))


Loaded = tuple[list[float], dict[Any, list[Entry]], dict[Any, tuple[float, int]]]


def _check_current(data: Mapping[str, Any]) -> Loaded:
    instants = _expect(data, "instants", list)
    revision = data.get("revision")
    if revision != len(instants) or isinstance(revision, bool):
        raise ChronoMapValueError(f"'revision' is {revision!r}, but there are {len(instants)} instants")
    for instant in instants:
        _number(instant, "an instant")
    if instants != sorted(instants):
        raise ChronoMapValueError("the instants decrease")
    timelines = {}
    for key, rows in _expect(data, "store", Mapping).items():
        if not isinstance(rows, list | tuple) or not rows:
            raise ChronoMapValueError(f"key {key!r} has no list of versions")
        entries = [_entry(key, row, len(instants)) for row in rows]
        stamps = [entry[:2] for entry in entries]
        if any(one >= two for one, two in pairwise(stamps)):
            raise ChronoMapValueError(f"the versions of key {key!r} are not in order of timestamp and revision")
        timelines[key] = entries
    floors = {}
    for key, floor in _expect(data, "pruned", Mapping).items():
        if key not in timelines or not isinstance(floor, list | tuple) or len(floor) != 2:  # noqa: PLR2004
            raise ChronoMapValueError(f"'pruned' of key {key!r} is not a timestamp and a revision")
        floors[key] = (_number(floor[0], "a pruned timestamp"), _revision(key, floor[1], len(instants)))
    return [float(instant) for instant in instants], timelines, floors


def _entry(key: Any, row: Any, revisions: int) -> Entry:
    if not isinstance(row, list | tuple) or len(row) != 5:  # noqa: PLR2004
        raise ChronoMapValueError(f"a version of key {key!r} is not (timestamp, value, revision, expires_at, kind): {row!r}")
    timestamp, value, revision, expires_at, kind = row
    if not isinstance(kind, str) or kind not in KINDS:
        raise ChronoMapValueError(f"a version of key {key!r} is of the unknown kind {kind!r}")
    kept = capture(value) if kind == "value" else MISSING if kind == "tombstone" else CANCELLED
    until = NEVER if expires_at is None else _number(expires_at, f"an expiry of key {key!r}")
    return Entry(_number(timestamp, f"a timestamp of key {key!r}"), _revision(key, revision, revisions), kept, until)


def _convert(data: Mapping[str, Any], now: float) -> Loaded:
    """What ChronoMap 2 wrote, with one commit per version, in the order of their timestamps."""
    ttl = data.get("ttl") or {}
    if not isinstance(ttl, Mapping):
        raise ChronoMapValueError("'ttl' is not a mapping of keys to expiry times")
    found: list[tuple[float, Any, Any, bool]] = []
    for key, rows in _expect(data, "store", Mapping).items():
        if not isinstance(rows, list | tuple):
            raise ChronoMapValueError(f"key {key!r} has no list of versions")
        for index, row in enumerate(rows):
            if not isinstance(row, list | tuple) or len(row) != 2:  # noqa: PLR2004
                raise ChronoMapValueError(f"a version of key {key!r} is not (timestamp, value): {row!r}")
            found.append((_number(row[0], f"a timestamp of key {key!r}"), key, row[1], index == len(rows) - 1))
    found.sort(key=lambda version: version[0])
    timelines: dict[Any, list[Entry]] = {}
    for revision, (timestamp, key, value, last) in enumerate(found, 1):
        expires_at = _number(ttl[key], f"the ttl of key {key!r}") if last and key in ttl else NEVER
        timelines.setdefault(key, []).append(Entry(timestamp, revision, capture(value), expires_at))
    return [min(timestamp, now) for timestamp, *_ in found], timelines, {}


def _expect(data: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    if not isinstance(value := data.get(name), kind):
        raise ChronoMapValueError(f"not a saved ChronoMap: {name!r} is missing or of the wrong type")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ChronoMapValueError(f"{what} is not a number: {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = inf
    if not isfinite(number):
        raise ChronoMapValueError(f"{what} is not finite: {value!r}")
    return number


def _revision(key: Any, value: Any, newest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= newest:
        raise ChronoMapValueError(f"a revision of key {key!r} is not between 1 and {newest}: {value!r}")
    return value
