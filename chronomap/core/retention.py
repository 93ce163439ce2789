"""How much history a map keeps by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from chronomap.core.timestamps import duration
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError


@dataclass(frozen=True, slots=True)
class Retention:
    """Limits of each key's history, applied whenever the key is written and when a version of it grows too old.

    The version in force, and what is scheduled, is never removed.

    Attributes:
        max_versions: How many versions of a key are kept, tombstones included; None: any number.
        max_age: For how many seconds (by timestamp) versions are kept; None: for ever.
    """

    max_versions: int | None = None
    max_age: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits that make no sense."""
        if self.max_versions is not None:
            check_keep_last(self.max_versions, "max_versions")
        if self.max_age is not None:
            duration(self.max_age, "max_age", "")

    def oldest(self, now: float) -> float | None:
        """The timestamp before which versions are no longer kept."""
        return None if self.max_age is None else now - self.max_age


class Cut(NamedTuple):
    """Some versions of one key that are to be forgotten.

    Attributes:
        key: The key.
        start: The timestamp and revision of the oldest version that is kept; all below are forgotten.
        floor: The smallest timestamp and the smallest revision ever forgotten, as ``Timeline.floor`` has them.
    """

    key: Any
    start: tuple[float, int]
    floor: tuple[float, int]


def check_keep_last(number: int, name: str = "keep_last") -> None:
    """Refuse what cannot be a number of versions to keep."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise ChronoMapTypeError(f"{name} is a number of versions (int), got {type(number).__name__}")
    if number < 1:
        raise ChronoMapValueError(f"{name} must be at least 1, got {number}; to remove everything, call erase()")
