"""Values as JSON text that brings back their exact types, or a refusal.

JSON rather than a binary form: with msgspec it is as fast, and a person can read the file with any SQLite tool. What JSON
has is written as it is. Everything else is an object with one member whose name begins with a dollar; a dict of the user's
with such a key is written as pairs, to keep the two apart::

    {"a": [1, None]}    {"a":[1,null]}
    (1, b"x")           {"$tuple":[1,{"$bytes":"eA=="}]}
    {1: "one"}          {"$dict":[[1,"one"]]}
    b"x"                a zero byte, then the bytes: nothing but a whole value of bytes begins so

The fast path is one call of msgspec, which would silently write a tuple as a list, NaN as null and the key 1 as "1"; so a
look at every type comes first (``measuring``). Coming back, a text without a dollar in it holds nothing to be turned.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import uuid
import zoneinfo
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final

from chronomap.errors import ChronoMapTypeError, ChronoMapValueError
from chronomap.journal.extras import msgspec
from chronomap.journal.measuring import DEPTH, FEW, LIMIT, SAFE, TEXT, is_json, too_deep, too_large

SHALLOW: Final = 2 * DEPTH
"""A text of so many bytes cannot be nested deeper than ``DEPTH``: each level takes two."""

RAW: Final = b"\0"
DOLLAR: Final = ord("$")  # as a number: looking for one is six times as fast as looking for bytes

_NO_OBJECT: Final = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, BaseException, type)
_BROKEN: Final = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)

_write: Final = msgspec.json.Encoder().encode
_write_lines: Final = msgspec.json.Encoder().encode_lines
_read: Final = msgspec.json.Decoder().decode


class Exact:
    """Turns values to bytes and back; knows the dataclasses and enums that its user registered.

    Reading runs no code of theirs: an instance is made without ``__init__``, a member is looked up by name.

    Args:
        types: Classes by the name they have in the file.
    """

    def __init__(self, types: dict[str, type]) -> None:
        for name, kind in types.items():
            _check_registrable(name, kind)
        self.types = dict(types)
        self.names = {kind: name for name, kind in types.items()}

    def encode(self, value: Any) -> bytes:
        """The bytes of a value.

        Raises:
            ChronoMapTypeError: If it would not come back equal and of the same type.
            ChronoMapValueError: If that would be more than ``LIMIT`` bytes.
        """
        text = self._encoded(value)
        if len(text) > LIMIT:
            raise too_large()
        return text

    def _encoded(self, value: Any) -> bytes:
        kind = type(value)
        if kind is bytes:
            return RAW + bytes(value)
        try:
            # The look at a flat dict is written out, since most values are one.
            if (
                len(value) <= FEW and TEXT.issuperset(map(type, value)) and SAFE.issuperset(map(type, value.values()))
                if kind is dict
                else kind in SAFE
            ) or is_json(value, self.names):
                try:
                    text: bytes = _write(value)
                except (OverflowError, ValueError):  # a long int, half a surrogate pair: what follows can
                    pass
                else:
                    if DOLLAR not in text:
                        return text
            return bytes(_write(self._tagged(value, DEPTH)))
        except RecursionError:  # the caller stands near the end of the stack already
            raise too_deep() from None

    def encode_all(self, values: Sequence[Any]) -> list[bytes]:
        """The bytes of several values: of flat dicts, and what JSON has, all at once, in half the time."""
        kinds = {*map(type, values)}
        if kinds <= SAFE or (
            kinds == {dict}
            and max(map(len, values)) <= FEW
            and TEXT.issuperset(map(type, chain.from_iterable(values)))
            and SAFE.issuperset(map(type, chain.from_iterable(map(dict.values, values))))
        ):
            with suppress(OverflowError, ValueError):
                text: bytes = _write_lines(values)  # JSON has no line's end within a value
                if DOLLAR not in text and len(text) <= LIMIT:
                    return text.splitlines()
        return [*map(self.encode, values)]

    def decode(self, text: bytes) -> Any:
        """The value again.

        Raises:
            ChronoMapValueError: If it is not what ``encode`` gives.
        """
        try:
            if DOLLAR not in text and len(text) <= SHALLOW and text[0]:
                return _read(text)
            if text[:1] == RAW:
                return text[1:]
            value = _read(text)
            if DOLLAR in text or (len(text) > SHALLOW and text.count(b"[") + text.count(b"{") > DEPTH):
                return self._untagged(value, DEPTH)
        except ChronoMapValueError:
            raise
        except RecursionError:
            raise ChronoMapValueError(f"nested deeper than {DEPTH} levels") from None
        except (*_BROKEN, msgspec.DecodeError) as error:
            raise ChronoMapValueError(f"not what a journal writes: {type(error).__name__}: {error}") from error
        return value

    def decode_all(self, texts: Sequence[bytes]) -> list[Any]:
        """The values of several texts: all at once where that is possible, in a third of the time."""
        joined = b"[" + b",".join(texts) + b"]"
        if DOLLAR not in joined and 0 not in joined and max(map(len, texts)) <= SHALLOW:
            try:
                found: list[Any] = _read(joined)
            except (*_BROKEN, msgspec.DecodeError):
                pass
            else:
                if len(found) == len(texts):
                    return found
        return [*map(self.decode, texts)]

    # -- there ---------------------------------------------------------------------------------------------------------

    def _tagged(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in _PARTS:
            tag, part = _PARTS[kind](value)
            return {tag: part} if tag else part
        if not depth:
            raise too_deep()
        if kind in _SEQUENCES:
            items = [self._tagged(item, depth - 1) for item in value]
            return items if kind is list else {_SEQUENCES[kind]: items}
        if kind is dict:
            return self._tagged_dict(value, depth - 1)
        if kind is datetime.datetime or kind is datetime.time:
            zone = None if value.tzinfo is None else self._tagged(value.tzinfo, depth - 1)
            return {f"${kind.__name__}": [value.replace(tzinfo=None, fold=0).isoformat(), zone, value.fold]}
        if kind in self.names:
            return self._tagged_object(value, kind, depth - 1)
        raise ChronoMapTypeError(
            f"a value of type {kind.__module__}.{kind.__qualname__} would not come back from the journal as it is; "
            "register it if it is a dataclass or an enum, or put plain values of exact built-in types"
        )

    def _tagged_dict(self, value: dict[Any, Any], depth: int) -> Any:
        if all(type(key) is str and key[:1] != "$" and _is_text(key) for key in value):
            return {key: self._tagged(item, depth) for key, item in value.items()}
        return {"$dict": [[self._tagged(key, depth), self._tagged(item, depth)] for key, item in value.items()]}

    def _tagged_object(self, value: Any, kind: Any, depth: int) -> dict[str, Any]:
        if isinstance(value, enum.Enum):
            if kind.__members__.get(value.name) is value:
                return {"$enum": [self.names[kind], value.name]}
            return {"$flag": [self.names[kind], self._tagged(value.value, depth)]}
        names = [field.name for field in dataclasses.fields(kind)]
        if more := sorted(set(getattr(value, "__dict__", ())) - set(names)):
            raise ChronoMapTypeError(f"a {kind.__qualname__} has more than its fields, which the journal would lose: {more}")
        try:
            parts = {name: self._tagged(getattr(value, name), depth) for name in names}
        except AttributeError as error:
            raise ChronoMapTypeError(f"a {kind.__qualname__} lacks one of its fields: {error}") from None
        return {"$object": [self.names[kind], parts]}

    # -- and back: what is given may be anything -----------------------------------------------------------------------

    def _untagged(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is not dict and kind is not list:
            return value
        if not depth:
            raise ChronoMapValueError(f"nested deeper than {DEPTH} levels")
        if kind is list:
            return [self._untagged(item, depth - 1) for item in value]
        tag = next((name for name in value if name[:1] == "$"), None)
        if tag is None:
            return {name: self._untagged(item, depth - 1) for name, item in value.items()}
        if len(value) != 1:
            raise ChronoMapValueError(f"{tag!r} stands beside something else")
        part = value[tag]
        if tag in _MAKERS:
            return _MAKERS[tag](part)
        return self._untagged_more(tag, part, depth - 1)

    def _untagged_more(self, tag: str, part: Any, depth: int) -> Any:
        if tag in _CONTAINERS:
            items = [self._untagged(item, depth) for item in part]
            return _as_many(_CONTAINERS[tag](items), items)
        if tag == "$dict":
            pairs = [(self._untagged(key, depth), self._untagged(item, depth)) for key, item in part]
            return _as_many(dict(pairs), pairs)
        if tag in _CLOCKS:
            text, zone, fold = part
            found: Any = _CLOCKS[tag](text)
            return found.replace(tzinfo=self._untagged(zone, depth), fold=fold)
        if tag not in ("$enum", "$flag", "$object"):
            raise ChronoMapValueError(f"{tag!r} is not known here")
        name, parts = part
        kind: Any = self.types.get(name)
        if kind is None:
            raise ChronoMapValueError(f"it holds a {name!r}: register that class with the codec before opening the file")
        if tag == "$enum":
            return kind.__members__[parts]
        if tag == "$flag":
            return kind(self._untagged(parts, depth))
        made = object.__new__(kind)
        for field in dataclasses.fields(kind):
            object.__setattr__(made, field.name, self._untagged(parts[field.name], depth))
        return made


def _check_registrable(name: str, kind: Any) -> None:
    if not isinstance(kind, type) or not (issubclass(kind, enum.Enum) or dataclasses.is_dataclass(kind)):
        raise ChronoMapTypeError(f"only dataclasses and enums can be registered, got {kind!r} for {name!r}")
    if dataclasses.is_dataclass(kind) and issubclass(kind, _NO_OBJECT):
        raise ChronoMapTypeError(f"{kind.__qualname__} is a dataclass and a built-in at once; it cannot be kept exactly")


def _is_text(text: str) -> bool:
    """Whether JSON can hold it: no half of a surrogate pair in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_many(container: Any, items: list[Any]) -> Any:
    if len(container) != len(items):
        raise ChronoMapValueError("two keys or elements in it are equal")
    return container


def _part_of_int(value: int) -> tuple[str, Any]:
    return ("", value) if -(1 << 63) <= value < 1 << 63 else ("$int", hex(value))


def _part_of_float(value: float) -> tuple[str, Any]:
    return ("", value) if math.isfinite(value) else ("$float", repr(value))


def _part_of_str(value: str) -> tuple[str, Any]:
    return ("", value) if _is_text(value) else ("$str", value.encode("utf-8", "surrogatepass").hex())


def _part_of_bytes(value: bytes | bytearray) -> tuple[str, Any]:
    return f"${type(value).__name__}", base64.b64encode(value).decode("ascii")


def _part_of_complex(value: complex) -> tuple[str, Any]:
    return "$complex", [repr(value.real), repr(value.imag)]


def _part_of_timezone(value: datetime.timezone) -> tuple[str, Any]:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]
    if not all(type(part) is str and _is_text(part) for part in name):
        raise ChronoMapTypeError("a timezone with such a name cannot be kept in a journal")
    return "$timezone", [offset // datetime.timedelta(microseconds=1), *name]


def _part_of_zoneinfo(value: zoneinfo.ZoneInfo) -> tuple[str, Any]:
    if type(value.key) is not str:
        raise ChronoMapTypeError("a ZoneInfo without a key could not be found again")
    return "$zoneinfo", value.key


def _part_of_uuid(value: uuid.UUID) -> tuple[str, Any]:
    return "$uuid", value.hex if value.is_safe.value is None else [value.hex, value.is_safe.value]


_PARTS: Final[dict[type, Callable[[Any], tuple[str, Any]]]] = {
    type(None): lambda value: ("", value),
    bool: lambda value: ("", value),
    int: _part_of_int,
    float: _part_of_float,
    str: _part_of_str,
    bytes: _part_of_bytes,
    bytearray: _part_of_bytes,
    complex: _part_of_complex,
    range: lambda value: ("$range", [hex(value.start), hex(value.stop), hex(value.step)]),
    datetime.date: lambda value: ("$date", value.isoformat()),
    datetime.timedelta: lambda value: ("$timedelta", [value.days, value.seconds, value.microseconds]),
    datetime.timezone: _part_of_timezone,
    zoneinfo.ZoneInfo: _part_of_zoneinfo,
    decimal.Decimal: lambda value: ("$decimal", str(value)),
    fractions.Fraction: lambda value: ("$fraction", [hex(value.numerator), hex(value.denominator)]),
    uuid.UUID: _part_of_uuid,
}
"""For each type without parts of any type: its tag, or "" for what is written as it is, and what it is written as."""

_SEQUENCES: Final[dict[type, str]] = {list: "", tuple: "$tuple", set: "$set", frozenset: "$frozenset"}
_CONTAINERS: Final[dict[str, Callable[[list[Any]], Any]]] = {"$tuple": tuple, "$set": set, "$frozenset": frozenset}
_CLOCKS: Final[dict[str, Callable[[str], Any]]] = {
    "$datetime": datetime.datetime.fromisoformat,
    "$time": datetime.time.fromisoformat,
}


def _make_uuid(part: Any) -> uuid.UUID:
    text, safe = part if type(part) is list else (part, None)
    return uuid.UUID(hex=text, is_safe=uuid.SafeUUID(safe))


def _make_bytes(part: Any) -> bytes:
    return base64.b64decode(part, validate=True)


def _integer(text: str) -> int:
    return int(text, 16)


_MAKERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$int": _integer,
    "$float": float,
    "$str": lambda part: bytes.fromhex(part).decode("utf-8", "surrogatepass"),
    "$bytes": _make_bytes,
    "$bytearray": lambda part: bytearray(_make_bytes(part)),
    "$complex": lambda part: complex(float(part[0]), float(part[1])),
    "$range": lambda part: range(*map(_integer, part)),
    "$date": datetime.date.fromisoformat,
    "$timedelta": lambda part: datetime.timedelta(*part),
    "$timezone": lambda part: datetime.timezone(datetime.timedelta(microseconds=part[0]), *part[1:]),
    "$zoneinfo": zoneinfo.ZoneInfo,
    "$decimal": decimal.Decimal,
    "$fraction": lambda part: fractions.Fraction(_integer(part[0]), _integer(part[1])),
    "$uuid": _make_uuid,
}
