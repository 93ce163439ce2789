"""How values and keys become the bytes in a journal.

A codec is for values, and can be replaced. Keys are always written the same way, since the journal must find them again:
keys that Python calls equal (1, 1.0 and True) are one key in the file as they are in a dict. So a key has a canonical text,
which identifies it, and if that would bring back another type (True as 1), its exact text beside it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from chronomap.errors import ChronoMapTypeError, ChronoMapValueError
from chronomap.journal.exact import Exact
from chronomap.journal.measuring import DEPTH


class Codec(Protocol):
    """What turns values to bytes and back.

    One that can also ``decode_all`` of a sequence, to a list, opens files faster; with ``encode_all`` it writes faster.

    Attributes:
        name: Stands in the file; a file is only read by the codec that wrote it.
    """

    name: str

    def encode(self, value: Any) -> bytes:
        """At least one byte, from which ``decode`` makes an equal value of the same type; or ``ChronoMapTypeError``."""

    def decode(self, text: bytes) -> Any:
        """The value again; ``ChronoMapValueError`` if the bytes are not such as ``encode`` gives."""


class ExactCodec:
    """JSON that a person can read, and exact types; refuses what would not come back as it is.

    Args:
        types: Dataclasses and enums that values may have in them: classes, known by module and name, or a mapping of
            names (which then stand in the file, and survive a renamed class) to classes.
    """

    name = "exact-json"

    def __init__(self, types: Iterable[type] | Mapping[str, type] = ()) -> None:
        if not isinstance(types, Mapping):
            types = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in types}
        exact = Exact(dict(types))
        self.encode = exact.encode
        self.encode_all = exact.encode_all
        self.decode = exact.decode
        self.decode_all = exact.decode_all


class UnsafePickleCodec:
    """Pickles. Whoever can write the file can run code in the process that opens it; use it for files of your own only."""

    name = "pickle"

    def encode(self, value: Any) -> bytes:
        """A pickle."""
        try:
            return pickle.dumps(value, protocol=5)
        except Exception as error:
            raise ChronoMapTypeError(f"it cannot be pickled ({type(error).__name__}: {error})") from error

    def decode(self, text: bytes) -> Any:
        """What the pickle makes."""
        try:
            return pickle.loads(text)  # noqa: S301 - see the name
        except Exception as error:
            raise ChronoMapValueError(f"it cannot be unpickled ({type(error).__name__}: {error})") from error


_exact: Final = Exact({})
_KEY_TYPES: Final = frozenset({str, bytes, int, float, bool, type(None), tuple})


def encode_key(key: Any) -> tuple[bytes, bytes | None]:
    """A key's canonical text, and its exact one if that differs.

    Raises:
        ChronoMapTypeError: If it is not a str, bytes, int, float, bool, None, or a tuple of these.
        ChronoMapValueError: If it is NaN or has one in it: it is not equal to itself, so it could not be found again.
    """
    if type(key) is str:
        return _exact.encode(key), None
    canonical = _exact.encode(_canonical(key, DEPTH))
    exact = _exact.encode(key)
    return canonical, None if exact == canonical else exact


def encode_keys(keys: Sequence[Any]) -> tuple[Sequence[bytes], Sequence[bytes | None] | None]:
    """The same of several, by columns; None instead of exact ones if there are none."""
    if {*map(type, keys)} == {str}:
        return _exact.encode_all(keys), None
    texts, exacts = zip(*map(encode_key, keys), strict=True)
    return texts, exacts if any(exacts) else None


def decode_key(canonical: bytes, exact: bytes | None) -> Any:
    """The key again."""
    return _exact.decode(canonical if exact is None else exact)


def _canonical(key: Any, depth: int) -> Any:
    kind = type(key)
    if kind not in _KEY_TYPES:
        raise ChronoMapTypeError(
            f"a key of type {kind.__module__}.{kind.__qualname__} would not come back from the journal as it is; "
            "a durable map takes str, bytes, int, float, bool, None and tuples of them"
        )
    if kind is bool:
        return int(key)
    if kind is float:
        if key != key:  # noqa: PLR0124 - which only NaN is
            raise ChronoMapValueError("a durable map takes no NaN in a key: it is not equal to itself")
        return int(key) if key.is_integer() else key
    if kind is tuple:
        if not depth:
            raise ChronoMapTypeError(f"a key nested deeper than {DEPTH} levels cannot be kept in a journal")
        return tuple(_canonical(part, depth - 1) for part in key)
    return key
