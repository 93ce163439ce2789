"""Plain values as JSON that brings back their exact types.

What JSON has is written as it is: None, bool, int, finite float, str, list, and dict whose keys are texts. Everything
else is an object with a ``"$type"``; so is a dict of the user's that has such a key, to keep the two apart. Examples::

    (1, b"x")       {"$type": "tuple", "value": [1, {"$type": "bytes", "value": "eA=="}]}
    {1: "one"}      {"$type": "dict", "value": [[1, "one"]]}
    {"$type": 5}    {"$type": "dict", "value": [["$type", 5]]}
    float("nan")    {"$type": "float", "value": "nan"}

Two things that JSON seems to have are tagged as well: integers with more digits than Python reads, and texts in which
two halves of a surrogate pair stand side by side as two characters, because JSON would join them.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import fractions
import json
import math
import re
import uuid
import zoneinfo
from collections.abc import Callable, Iterable
from typing import Any, Final

from chronomap.errors import ChronoMapValueError
from chronomap.formats.plain import DEPTH

TYPE: Final = "$type"
VALUE: Final = "value"

INT_BITS: Final = 10_000
"""Integers up to here are JSON numbers: 3011 digits, of the 4300 that Python converts."""

NON_FINITE: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

_SPLIT_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_AS_IT_IS: Final = frozenset({type(None), bool})


# -- encoding: what is given has been checked to be plain -------------------------------------------------------------


def encode(value: Any) -> Any:  # noqa: PLR0911 - a table in the form of ifs: the common types first
    """A plain value as something that ``json`` writes and ``decode`` turns back."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is str:
        return value if _is_json_text(value) else _tag("str", list(map(ord, value)))
    if kind is int:
        return value if value.bit_length() <= INT_BITS else _tag("int", hex(value))
    if kind is float:
        return value if math.isfinite(value) else _tag("float", repr(value))
    if kind is list:
        return _encode_all(value)
    if kind is dict:
        if all(type(key) is str and key != TYPE and _is_json_text(key) for key in value):
            return {key: encode(item) for key, item in value.items()}
        return _tag("dict", [[encode(key), encode(item)] for key, item in value.items()])
    return _ENCODERS[kind](value)


def line(encoded: Any) -> str:
    """The JSON text of something encoded, in ASCII, on one line."""
    return json.dumps(encoded, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _is_json_text(text: str) -> bool:
    return text.isascii() or _SPLIT_PAIR.search(text) is None


def _tag(name: str, value: Any, **more: Any) -> dict[str, Any]:
    return {TYPE: name, VALUE: value, **more}


def _encode_all(values: Iterable[Any]) -> list[Any]:
    return [encode(value) for value in values]


def _encode_bytes(value: bytes | bytearray) -> dict[str, Any]:
    return _tag(type(value).__name__, base64.b64encode(value).decode("ascii"))


def _encode_clock(value: datetime.datetime | datetime.time) -> dict[str, Any]:
    """A datetime or time: its naive reading, its zone, and which of two equal readings it is."""
    more: dict[str, Any] = {} if value.tzinfo is None else {"zone": encode(value.tzinfo)}
    if value.fold:
        more["fold"] = 1
    return _tag(type(value).__name__, value.replace(tzinfo=None, fold=0).isoformat(), **more)


def _encode_timezone(value: datetime.timezone) -> dict[str, Any]:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]
    return _tag("timezone", [offset // datetime.timedelta(microseconds=1), *_encode_all(name)])


def _encode_uuid(value: uuid.UUID) -> dict[str, Any]:
    safe = value.is_safe.value
    return _tag("uuid", value.hex) if safe is None else _tag("uuid", value.hex, safe=safe)


_ENCODERS: Final[dict[type, Callable[[Any], dict[str, Any]]]] = {
    tuple: lambda value: _tag("tuple", _encode_all(value)),
    set: lambda value: _tag("set", _encode_all(value)),
    frozenset: lambda value: _tag("frozenset", _encode_all(value)),
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    complex: lambda value: _tag("complex", [encode(value.real), encode(value.imag)]),
    range: lambda value: _tag("range", _encode_all((value.start, value.stop, value.step))),
    datetime.datetime: _encode_clock,
    datetime.time: _encode_clock,
    datetime.date: lambda value: _tag("date", value.isoformat()),
    datetime.timedelta: lambda value: _tag("timedelta", [value.days, value.seconds, value.microseconds]),
    datetime.timezone: _encode_timezone,
    zoneinfo.ZoneInfo: lambda value: _tag("zoneinfo", value.key),
    decimal.Decimal: lambda value: _tag("decimal", str(value)),
    fractions.Fraction: lambda value: _tag("fraction", _encode_all((value.numerator, value.denominator))),
    uuid.UUID: _encode_uuid,
}


# -- decoding: what is given may be anything ---------------------------------------------------------------------------


def parse(text: str | bytes) -> Any:
    """What a JSON text holds; an object that names a member twice is refused, since one of the two would be lost.

    Raises:
        ChronoMapValueError: If it is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except ChronoMapValueError:
        raise
    except (ValueError, RecursionError) as error:
        raise ChronoMapValueError(f"not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise ChronoMapValueError(f"the member {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return members


def decode(encoded: Any) -> Any:
    """The value that was encoded.

    Raises:
        ChronoMapValueError: If it is not what ``encode`` gives.
    """
    try:
        return _decode(encoded, 0)
    except RecursionError:
        raise ChronoMapValueError("nested too deeply") from None


def _decode(encoded: Any, depth: int) -> Any:
    if type(encoded) is list:
        return _decode_all(encoded, depth)
    if type(encoded) is dict:
        if TYPE in encoded:
            return _decode_tagged(encoded, depth)
        return {key: _decode(item, _deeper(depth)) for key, item in encoded.items()}
    if type(encoded) is float and not math.isfinite(encoded):
        raise ChronoMapValueError("a number that is not finite is written as a float with a $type")
    return encoded


def _deeper(depth: int) -> int:
    if depth >= DEPTH:
        raise ChronoMapValueError(f"nested deeper than {DEPTH} levels")
    return depth + 1


def _decode_all(encoded: Any, depth: int) -> list[Any]:
    inside = _deeper(depth)
    return [_decode(item, inside) for item in _a(list, encoded)]


def _decode_tagged(encoded: dict[str, Any], depth: int) -> Any:
    name, value = encoded[TYPE], encoded.get(VALUE)
    more = {member: item for member, item in encoded.items() if member not in (TYPE, VALUE)}
    if VALUE not in encoded:
        raise ChronoMapValueError(f"a {name!r} has no value")
    try:
        if name in _CONTAINERS:
            return _CONTAINERS[name](value, depth, **more)
        return _DECODERS[name](value, **more)
    except ChronoMapValueError as error:
        raise ChronoMapValueError(f"in a {name!r}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise ChronoMapValueError(f"not a {name!r}: {type(error).__name__}: {error}") from error


def _a(kind: type, given: Any) -> Any:
    """The part itself, if it is of exactly that type."""
    if type(given) is not kind:
        raise ChronoMapValueError(f"a {type(given).__name__} where a {kind.__name__} belongs")
    return given


def _decode_dict(value: Any, depth: int) -> dict[Any, Any]:
    inside = _deeper(depth)
    pairs = [(_decode(key, inside), _decode(item, inside)) for key, item in _a(list, value)]
    found: dict[Any, Any] = _as_many(dict(pairs), pairs)
    return found


def _as_many(container: Any, items: list[Any]) -> Any:
    if len(container) != len(items):
        raise ChronoMapValueError("two keys or elements in it are equal")
    return container


def _decode_set(kind: type) -> Callable[[Any, int], Any]:
    def decode_set(value: Any, depth: int) -> Any:
        items = _decode_all(value, depth)
        return _as_many(kind(items), items)

    return decode_set


_CONTAINERS: Final[dict[Any, Callable[..., Any]]] = {
    "tuple": lambda value, depth: tuple(_decode_all(value, depth)),
    "dict": _decode_dict,
    "set": _decode_set(set),
    "frozenset": _decode_set(frozenset),
}


def _decode_bytes(value: Any) -> bytes:
    return base64.b64decode(_a(str, value), validate=True)


def _integers(value: Any) -> list[int]:
    return [_a(int, decode(item)) for item in _a(list, value)]


def _decode_datetime(value: Any, zone: Any = None, fold: int = 0) -> datetime.datetime:
    found: datetime.datetime = _in_zone(datetime.datetime.fromisoformat(_a(str, value)), zone, fold)
    return found


def _decode_time(value: Any, zone: Any = None, fold: int = 0) -> datetime.time:
    found: datetime.time = _in_zone(datetime.time.fromisoformat(_a(str, value)), zone, fold)
    return found


def _in_zone(reading: Any, zone: Any, fold: Any) -> Any:
    if reading.tzinfo is not None:
        raise ChronoMapValueError("its zone stands apart")
    return reading.replace(tzinfo=None if zone is None else decode(zone), fold=_a(int, fold))


def _decode_timezone(value: Any) -> datetime.timezone:
    offset, *name = _a(list, value)
    return datetime.timezone(datetime.timedelta(microseconds=_a(int, offset)), *(decode(part) for part in name))


def _decode_fraction(value: Any) -> fractions.Fraction:
    numerator, denominator = _integers(value)
    return fractions.Fraction(numerator, denominator)


def _decode_complex(value: Any) -> complex:
    real, imaginary = (_a(float, decode(part)) for part in _a(list, value))
    return complex(real, imaginary)


def _decode_uuid(value: Any, safe: int | None = None) -> uuid.UUID:
    return uuid.UUID(hex=_a(str, value), is_safe=uuid.SafeUUID(safe))


_DECODERS: Final[dict[Any, Callable[..., Any]]] = {
    "str": lambda value: "".join(map(chr, _integers(value))),
    "int": lambda value: int(_a(str, value), 16),
    "float": lambda value: NON_FINITE[value],
    "bytes": _decode_bytes,
    "bytearray": lambda value: bytearray(_decode_bytes(value)),
    "complex": _decode_complex,
    "range": lambda value: range(*_integers(value)),
    "datetime": _decode_datetime,
    "time": _decode_time,
    "date": lambda value: datetime.date.fromisoformat(_a(str, value)),
    "timedelta": lambda value: datetime.timedelta(*_integers(value)),
    "timezone": _decode_timezone,
    "zoneinfo": lambda value: zoneinfo.ZoneInfo(_a(str, value)),
    "decimal": lambda value: decimal.Decimal(_a(str, value)),
    "fraction": _decode_fraction,
    "uuid": _decode_uuid,
}
