"""What is asked of every part of a file that anybody could have written; each says where the part stands."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any, NamedTuple

from chronomap.core.ledger import Note
from chronomap.core.records import Entry
from chronomap.core.values import capture
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError
from chronomap.formats.plain import shown


class Contents(NamedTuple):
    """What a store is filled with, checked.

    Attributes:
        keys: ``(key, entries, what was pruned)``.
        instants: Those of all commits.
        notes: ``(revision, note)``, in order.
        pruned_to: The greatest revision of which something was pruned.
    """

    keys: list[tuple[Any, list[Entry], tuple[float, int] | None]]
    instants: list[float]
    notes: list[tuple[int, Note]]
    pruned_to: int


def of_type(expected: type | tuple[type, ...], given: Any, place: str) -> Any:
    """The part itself, if it is of an expected type."""
    if not isinstance(given, expected):
        wanted = " or ".join(one.__name__ for one in (expected if isinstance(expected, tuple) else (expected,)))
        raise ChronoMapValueError(f"{place}: a {wanted} is expected there, got a {type(given).__name__}")
    return given


def number(given: Any, place: str) -> float:
    """A finite number as a float."""
    if type(given) not in (int, float):
        raise ChronoMapValueError(f"{place}: not a number, but of type {type(given).__name__}")
    try:
        value = float(given)
    except OverflowError:
        value = inf
    if not isfinite(value):
        raise ChronoMapValueError(f"{place}: not a finite number")
    return value


def whole(given: Any, place: str, least: int, most: int | None = None) -> int:
    """An integer within bounds, both inclusive."""
    if type(given) is not int or given < least or (most is not None and given > most):
        bounds = f"{least} or more" if most is None else f"from {least} to {most}"
        raise ChronoMapValueError(f"{place}: not an integer {bounds}: {shown(given)}")
    return given


def captured(value: Any, place: str) -> Any:
    """The value as a store keeps it."""
    try:
        return capture(value)
    except ChronoMapTypeError as error:
        raise ChronoMapTypeError(f"{place}: {error}") from error
