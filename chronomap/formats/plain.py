"""Which values a file can hold: those of plain types, exactly, so that they come back as what they were.

A subclass (an IntEnum, a namedtuple, an OrderedDict) is refused, because a file would bring back its base. So is what
contains itself or is nested very deep. The same rule holds for JSON, pickles and change lines.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import reprlib
import uuid
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from chronomap.errors import ChronoMapTypeError

DEPTH: Final = 100
"""Levels of nesting: reading so many tuples takes 500 of the 1000 stack frames that Python has by default."""

SCALARS: Final = frozenset(
    {
        type(None), bool, int, float, complex, str, bytes, bytearray, range,
        datetime.date, datetime.timedelta, decimal.Decimal,
    }
)  # fmt: skip
"""Types about whose instances nothing more needs to be asked."""

WRAPPING: Final = 4
"""Levels of containers around a value in what ``dump`` gives."""

UUID_END: Final = 1 << 128
ROWS: Final = "store"

Place = tuple["Place | None", str, Any]
"""Where a value stands: what holds it, in which way, and under which index or key."""


def check(value: Any, name: Callable[[], str], depth: int = DEPTH) -> None:
    """Refuse what would not come back from a file as it is.

    Args:
        value: Any object.
        name: Tells what to call it in the message.
        depth: How many levels of containers it may have.

    Raises:
        ChronoMapTypeError: Naming the place in the value and the type that stands there.
    """
    if type(value) not in SCALARS:
        _Walk(name, depth).height(value, None, 0)


def check_dump(mapping: Mapping[str, Any]) -> None:
    """The same for all that ``dump`` gave; the message names the key."""
    for name, part in mapping.items():
        if name != ROWS:
            check(part, lambda name=name: repr(name))  # type: ignore[misc]
            continue
        for key, rows in part.items():
            check(key, lambda key=key: f"the key {shown(key)}")  # type: ignore[misc]
            for row in rows:
                if type(row[1]) not in SCALARS:
                    check(row[1], lambda key=key, row=row: f"the value of key {shown(key)} at timestamp {row[0]}")  # type: ignore[misc]


def shown(value: Any) -> str:
    """A short text for a message; anything may be shown, also what has no text of its own."""
    try:
        return reprlib.repr(value)
    except Exception:  # noqa: BLE001 - a foreign __repr__ may raise anything, and an int too long for text does
        return f"<{type(value).__name__}>"


class _Walk:
    """One look through a value. What is reached twice is looked at once: its size need not follow its memory."""

    def __init__(self, name: Callable[[], str], limit: int) -> None:
        self.limit = limit
        self.name = name
        self.heights: dict[int, int | None] = {}  # by id; None while it is being looked at

    def height(self, value: Any, place: Place | None, depth: int) -> int:
        """How many levels of containers a value has."""
        kind = type(value)
        if kind in SCALARS:
            return 0
        if kind not in CONTAINERS:
            if not _is_plain(value):
                self.refuse(value, place)
            return 0
        known = self.heights.get(id(value), -1)
        if known is None:
            raise ChronoMapTypeError(f"{self._where(place)} contains itself; such a value cannot be written to a file")
        if known < 0:
            self.heights[id(value)] = None
            known = self._height_of_container(value, place, depth)
            self.heights[id(value)] = known
        if depth + known > self.limit:
            raise ChronoMapTypeError(f"{self._where(None)} is nested deeper than {self.limit} levels")
        return known

    def _height_of_container(self, value: Any, place: Place | None, depth: int) -> int:
        if depth >= self.limit:
            raise ChronoMapTypeError(f"{self._where(None)} is nested deeper than {self.limit} levels")
        if type(value) is dict:
            keys = (((place, "key", key), key) for key in value)
            items = (((place, "item", key), item) for key, item in value.items())
            return 1 + max(self._highest(keys, depth + 1), self._highest(items, depth + 1))
        if SCALARS.issuperset(map(type, value)):
            return 1
        return 1 + self._highest((((place, "item", index), item) for index, item in enumerate(value)), depth + 1)

    def _highest(self, items: Iterable[tuple[Place, Any]], depth: int) -> int:
        return max((self.height(item, place, depth) for place, item in items), default=0)

    def refuse(self, value: Any, place: Place | None) -> None:
        """Raise, saying what stands where."""
        kind = type(value)
        raise ChronoMapTypeError(
            f"{self._where(place)} is of type {kind.__module__}.{kind.__qualname__} and would not come back from a "
            f"file as it is; plain data can be written: {PLAIN_TYPES}"
        )

    def _where(self, place: Place | None) -> str:
        steps = []
        while place is not None:
            place, how, at = place
            steps.append(f"[{shown(at)}]" if how == "item" else f" (its key {shown(at)})")
        return self.name() + "".join(reversed(steps))


def _is_plain(value: Any) -> bool:
    """Whether an object that is neither a scalar nor a container is plain, by its exact type and what it is made of."""
    kind = type(value)
    if kind is datetime.datetime or kind is datetime.time:
        return value.tzinfo is None or _is_plain(value.tzinfo)
    if kind is datetime.timezone:
        return all(type(part) in (datetime.timedelta, str) for part in value.__getinitargs__())
    if kind is zoneinfo.ZoneInfo:
        return type(value.key) is str  # one read from a file object has no key to find it by
    if kind is uuid.UUID:
        number = getattr(value, "int", None)  # a forged pickle may have left it out
        return type(number) is int and 0 <= number < UUID_END
    if kind is fractions.Fraction:
        over, under = getattr(value, "_numerator", None), getattr(value, "_denominator", None)
        return type(over) is int and type(under) is int and under > 0 and math.gcd(over, under) == 1
    return False


CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})
PLAIN_TYPES: Final = (
    "None, bool, int, float, complex, str, bytes, bytearray, range, date, time, datetime, timedelta, timezone, "
    "ZoneInfo, Decimal, Fraction, UUID, and list, tuple, dict, set, frozenset of these, but no subclasses of them"
)
