"""Timestamps and ttls as users write them, turned into seconds since the epoch (UTC, float)."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite

from chronomap.errors import ChronoMapTypeError, ChronoMapValueError

Timestamp = float | int | str | datetime
"""What is accepted wherever a timestamp is: seconds since the epoch, ISO 8601 text, or a datetime (naive: UTC)."""


def seconds(timestamp: Timestamp) -> float:
    """Seconds since the epoch, UTC.

    Raises:
        ChronoMapTypeError: If it is of another type; a bool is refused too, since it is nearly always a slip.
        ChronoMapValueError: If it is NaN, infinite, or text that is not ISO 8601.
    """
    if isinstance(timestamp, str):
        try:
            timestamp = datetime.fromisoformat(timestamp)
        except ValueError:
            raise ChronoMapValueError(
                f"Invalid datetime string: {timestamp!r}; write ISO 8601, for example 2025-10-21T12:00:00Z"
            ) from None
    if isinstance(timestamp, datetime):
        if timestamp.utcoffset() is None:
            timestamp = timestamp.replace(tzinfo=UTC)
        return timestamp.timestamp()
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        raise ChronoMapTypeError(
            f"Invalid timestamp type: {type(timestamp).__name__}; give seconds (int or float), ISO 8601 text or a datetime"
        )
    return _finite(timestamp, "Timestamp")


def duration(given: float, what: str = "TTL", hint: str = "; to delete a key, call delete()") -> float:
    """A ttl or an age in seconds, checked to be a positive finite number."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ChronoMapTypeError(f"{what} must be a number of seconds, got {type(given).__name__}")
    if not (value := _finite(given, what)) > 0:
        raise ChronoMapValueError(f"{what} must be positive, got {given}{hint}")
    return value


def _finite(number: float, what: str) -> float:
    try:
        value = float(number)
    except OverflowError:
        raise ChronoMapValueError(f"{what} must be finite, got an integer too large for a float") from None
    if not isfinite(value):
        raise ChronoMapValueError(f"{what} must be finite, got {number}")
    return value
