"""What ChronoMap 2.0 and 2.1 wrote: ``{"store": {key: [(timestamp, value), …]}, "ttl": {key: expires_at}, …}``.

It knew neither revisions nor tombstones (a delete forgot the key), so each of its versions becomes a commit of its own,
dated by its timestamp. There, a ttl belonged to the key; here it belongs to the key's last version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chronomap.core.records import NEVER, Entry
from chronomap.core.timeline import sorted_up
from chronomap.core.values import same
from chronomap.errors import ChronoMapValueError
from chronomap.formats.checks import Contents, captured, number, of_type
from chronomap.formats.plain import shown


def read(mapping: Mapping[str, Any], now: float) -> Contents:
    """The contents of such a dict, one revision per version in the order of their timestamps.

    Raises:
        ChronoMapValueError: If anything in it is wrong.
    """
    if "store" not in mapping:
        raise ChronoMapValueError("neither 'format' nor 'store' in it: not what ChronoMap writes")
    version = mapping.get("version", "2")
    if not isinstance(version, str) or version.split(".")[0] != "2":
        raise ChronoMapValueError(f"'version' is {shown(version)}: without a 'format' only 2 is read")
    if mapping.get("snapshot_time") is not None:
        number(mapping["snapshot_time"], "'snapshot_time'")
    ttl = of_type(Mapping, mapping.get("ttl", {}), "'ttl'")
    histories = [
        (key, history)
        for key, rows in of_type(Mapping, mapping["store"], "'store'").items()
        if (history := _history(key, rows))
    ]
    expiries = {key: number(until, f"'ttl' of key {shown(key)}") for key, until in ttl.items()}
    changes = sorted(
        (
            (timestamp, place, index)
            for place, (_, history) in enumerate(histories)
            for index, (timestamp, _) in enumerate(history)
        ),
    )
    entries: list[list[Entry]] = [[] for _ in histories]
    for revision, (timestamp, place, index) in enumerate(changes, 1):
        key, history = histories[place]
        until = expiries.get(key, NEVER) if index == len(history) - 1 else NEVER
        entries[place].append(Entry(timestamp, revision, history[index][1], until))
    keys = [(key, entries[place], None) for place, (key, _) in enumerate(histories)]
    return Contents(list(keys), [min(timestamp, now) for timestamp, _, _ in changes], [], 0)


def _history(key: Any, rows: Any) -> list[tuple[float, Any]]:
    """``(timestamp, kept value)`` of one key; a row that repeats the one before it says nothing new."""
    place = f"key {shown(key)}"
    history: list[tuple[float, Any]] = []
    for index, row in enumerate(of_type((list, tuple), rows, place)):
        if len(of_type((list, tuple), row, f"{place}, version {index}")) != len(("timestamp", "value")):
            raise ChronoMapValueError(f"{place}, version {index}: not (timestamp, value)")
        timestamp = number(row[0], f"{place}, version {index}, timestamp")
        value = captured(row[1], f"{place}, version {index}")
        if not (history and history[-1][0] == timestamp and same(history[-1][1], value)):
            history.append((timestamp, value))
    if not sorted_up([timestamp for timestamp, _ in history]):
        raise ChronoMapValueError(f"{place}: versions out of order")
    return history
