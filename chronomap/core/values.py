"""How values are kept apart from the objects their owners go on using.

A value that can change after it was put is captured: the map keeps a private copy, and every read gets a fresh copy of
that. A value that cannot change is kept as it is and costs one set lookup. ``Captured`` marks the former inside the store;
it never leaves the library.
"""

from __future__ import annotations

import copy
import datetime
import decimal
import fractions
import uuid
from collections.abc import Awaitable
from typing import Any, Final

from chronomap.errors import ChronoMapTypeError

IMMUTABLE: Final = frozenset(
    {
        type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis), type(NotImplemented),
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone,
        decimal.Decimal, fractions.Fraction, uuid.UUID,
    }
)  # fmt: skip
"""Exact types whose instances never change and hold nothing that could."""


class _Missing:
    """The type of ``MISSING``: one falsy object that no user can put."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False

    def __copy__(self) -> _Missing:
        return self

    def __deepcopy__(self, memo: object) -> _Missing:
        return self

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()
"""Stands for "holds nothing" wherever None could be a value."""


class Captured:
    """A private copy of a value that could change."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def hashable(key: object) -> None:
    """Refuse a key that cannot be one."""
    try:
        hash(key)
    except TypeError:
        raise ChronoMapTypeError(
            f"Key must be hashable, got {type(key).__name__}; use text, a number, or a tuple of them"
        ) from None


def capture(value: Any) -> Any:
    """The value as the store keeps it: itself if it cannot change, else a private copy in a ``Captured``.

    Raises:
        ChronoMapTypeError: If the value can change and cannot be copied.
    """
    if type(value) in IMMUTABLE:
        return value
    try:
        private = duplicate(value)
    except Exception as error:
        if isinstance(value, Awaitable):
            raise ChronoMapTypeError(
                f"a value of type {type(value).__name__} is to be awaited: put what it gives (an async function needs the "
                "AsyncChronoMap)"
            ) from error
        raise ChronoMapTypeError(
            f"a value of type {type(value).__name__} cannot be copied, so later changes of it could alter history "
            f"({type(error).__name__}: {error}); put something copyable, or make the map with isolation='share'"
        ) from error
    return value if private is value else Captured(private)


def release(kept: Any) -> Any:
    """What a reader gets for a kept value: never an object that the store still holds and that could change."""
    return duplicate(kept.value) if type(kept) is Captured else kept


def bare(kept: Any) -> Any:
    """The kept value itself, to compare with; it must not be handed out."""
    return kept.value if type(kept) is Captured else kept


def duplicate(value: Any) -> Any:
    """A deep copy; flat lists and dicts of immutable items, the common case, are copied at C speed."""
    kind = type(value)
    if kind is dict:
        if IMMUTABLE.issuperset(map(type, value.values())) and IMMUTABLE.issuperset(map(type, value)):
            return value.copy()
    elif kind is list and IMMUTABLE.issuperset(map(type, value)):
        return value.copy()
    return copy.deepcopy(value)


def same(one: Any, other: Any) -> bool:
    """Whether two kept values are equal."""
    return plain_equal(bare(one), bare(other))


def plain_equal(one: Any, other: Any) -> bool:
    """Whether two values are equal; a comparison that raises, or has no truth value, counts as "no"."""
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - a foreign __eq__ may raise anything
        return False
