"""JSON that brings back exactly what was put: the same value, of the same type, or a refusal.

What JSON has is written as it is. Everything else is ``{"$type": name, "value": …}``; a dict that itself has a key "$type",
or keys that are not text, is written as a list of pairs under the type "dict".
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

from chronomap.errors import ChronoMapTypeError, ChronoMapValueError

TAG = "$type"


def encode(value: Any, where: str) -> Any:
    """What ``json`` can write for a value.

    Args:
        value: The value.
        where: What it is, for the message of a refusal.

    Raises:
        ChronoMapTypeError: If it would not come back equal and of the same type.
    """
    try:
        return _encode(value, where)
    except RecursionError:
        raise ChronoMapTypeError(f"{where} is nested too deeply, or contains itself, and cannot be written") from None


def _encode(value: Any, where: str) -> Any:  # noqa: PLR0911 - one per kind of value
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if isfinite(value) else _tag("float", repr(value))
    if kind is list:
        return [_encode(item, where) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value) and TAG not in value:
            return {key: _encode(item, where) for key, item in value.items()}
        return _tag("dict", [[_encode(key, where), _encode(item, where)] for key, item in value.items()])
    if kind in (tuple, set, frozenset):
        return _tag(kind.__name__, [_encode(item, where) for item in value])
    if kind in (bytes, bytearray):
        return _tag(kind.__name__, base64.b64encode(value).decode())
    if (writer := WRITERS.get(kind)) is not None and (text := writer(value)) is not None:
        return _tag(kind.__name__, text)
    raise ChronoMapTypeError(
        f"{where} holds a {kind.__module__}.{kind.__qualname__}, which would not come back from the file as it is; "
        f"put plain data (text, numbers, bytes, lists, dicts, tuples, sets, dates, Decimal, UUID)"
    )


def _tag(name: str, value: Any) -> dict[str, Any]:
    return {TAG: name, "value": value}


def _zone(zone: dt.tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is dt.timezone and zone == dt.timezone(offset := zone.utcoffset(None)):
        name = zone.tzname(None)
        if dt.timezone(offset).tzname(None) == name:
            return [offset.days, offset.seconds, offset.microseconds]
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    return False


def _write_datetime(value: dt.datetime | dt.time) -> Any:
    if (zone := _zone(value.tzinfo)) is False:
        return None
    return [value.replace(tzinfo=None, fold=0).isoformat(), zone, value.fold]


WRITERS: dict[type[Any], Callable[[Any], Any]] = {
    dt.datetime: _write_datetime,
    dt.time: _write_datetime,
    dt.date: lambda value: value.isoformat(),
    dt.timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    Decimal: str,
    Fraction: lambda value: [value.numerator, value.denominator],
    UUID: lambda value: value.hex if value.is_safe.name == "unknown" else None,
    complex: lambda value: [repr(value.real), repr(value.imag)],
}


def _read_zone(zone: Any) -> dt.tzinfo | None:
    if zone is None:
        return None
    return ZoneInfo(zone) if isinstance(zone, str) else dt.timezone(dt.timedelta(*zone))


READERS: dict[str, Callable[[Any], Any]] = {
    "float": float,
    "bytes": lambda value: base64.b64decode(value, validate=True),
    "bytearray": lambda value: bytearray(base64.b64decode(value, validate=True)),
    "datetime": lambda value: dt.datetime.fromisoformat(value[0]).replace(tzinfo=_read_zone(value[1]), fold=value[2]),
    "time": lambda value: dt.time.fromisoformat(value[0]).replace(tzinfo=_read_zone(value[1]), fold=value[2]),
    "date": dt.date.fromisoformat,
    "timedelta": lambda value: dt.timedelta(*value),
    "Decimal": Decimal,
    "Fraction": lambda value: Fraction(*value),
    "UUID": UUID,
    "complex": lambda value: complex(float(value[0]), float(value[1])),
    "tuple": lambda value: tuple(decode(item) for item in value),
    "set": lambda value: {decode(item) for item in value},
    "frozenset": lambda value: frozenset(decode(item) for item in value),
    "dict": lambda value: {decode(key): decode(item) for key, item in value},
}


def decode(value: Any) -> Any:
    """The value that ``encode`` was given.

    Raises:
        ChronoMapValueError: If it is not something that ``encode`` gives.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if TAG not in value:
        return {key: decode(item) for key, item in value.items()}
    name = value[TAG]
    if not isinstance(name, str) or name not in READERS or value.keys() != {TAG, "value"}:
        _refuse(value)
    try:
        return READERS[name](value["value"])
    except ChronoMapValueError:
        raise
    except Exception:  # noqa: BLE001 - whatever a damaged value makes a constructor raise
        _refuse(value)


def _refuse(value: Any) -> NoReturn:
    raise ChronoMapValueError(f"the file is damaged or of a newer version: cannot read {str(value)[:100]}")
