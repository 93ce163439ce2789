"""What is said about a commit by whoever makes it: author, reason, request id. A small mapping of plain values.

Kept as a tuple of pairs, so that nobody can change it afterwards; users get a new dict whenever they look.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from chronomap.errors import ChronoMapTypeError, ChronoMapValueError

Plain = str | int | float | bool | None
"""What a value in a ``meta`` may be."""

Meta = tuple[tuple[str, Any], ...]
"""A ``meta`` as it is kept: pairs of name and plain value."""

NOTHING: Final[Meta] = ()

PLAIN: Final = frozenset({str, int, float, bool, type(None)})

LIMIT: Final = 4096
"""Characters that names and values may have together, written out: who has more to say puts it under a key."""


def checked(meta: Mapping[str, Plain]) -> Meta:
    """The mapping as it is kept.

    Raises:
        ChronoMapTypeError: If it is not a mapping of text to text, numbers, booleans or None.
        ChronoMapValueError: If it is too large.
    """
    if not isinstance(meta, Mapping):
        raise ChronoMapTypeError(f"meta is a mapping such as {{'author': 'ann'}}, got {type(meta).__name__}")
    size = 0
    for name, value in meta.items():
        if type(name) is not str:
            raise ChronoMapTypeError(f"the names in meta are text, got {type(name).__name__}")
        if type(value) not in PLAIN:
            raise ChronoMapTypeError(
                f"meta[{name!r}] is of type {type(value).__name__}; text, numbers, booleans and None can be kept"
            )
        if type(value) is float and not isfinite(value):
            raise ChronoMapValueError(f"meta[{name!r}] is {value}; numbers must be finite")
        size += len(name) + (len(value) if type(value) is str else value.bit_length() // 3 if type(value) is int else 8)
    if size > LIMIT:
        raise ChronoMapValueError(f"meta has {size} characters, and {LIMIT} are allowed; put a value instead")
    return tuple(meta.items())


def joined(outer: Meta, inner: Meta) -> Meta:
    """Both together; where both have a name, the inner one counts."""
    return tuple({**dict(outer), **dict(inner)}.items()) if outer and inner else outer or inner
