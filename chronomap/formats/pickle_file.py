"""Whole maps as pickle files: plain data only, both ways. Loading runs no code, whoever wrote the file."""

from __future__ import annotations

import datetime as dt
import io
import pickle
import zlib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from uuid import UUID, SafeUUID

from chronomap.core.view import View
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError
from chronomap.formats.atomic import replacing
from chronomap.formats.plain import dump

LARGEST: Final = 1 << 30
"""Bytes a compressed file may unfold to; a small file can otherwise fill any memory."""

SCALARS: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone,
     Decimal, Fraction, UUID}
)  # fmt: skip
CONTAINERS: Final = (list, tuple, set, frozenset)

ALLOWED: Final[dict[tuple[str, str], Any]] = {
    (kind.__module__, kind.__name__): kind
    for kind in (
        complex, bytearray, set, frozenset, dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone,
        Decimal, Fraction, UUID, SafeUUID,
    )
}  # fmt: skip
"""The only names a file may mention: types whose construction does nothing but make a value."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise ChronoMapValueError(
                f"the file asks for {module}.{name}; only plain data is loaded, and nothing is executed"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise ChronoMapValueError(f"the file refers to an object outside itself ({pid!r})")


def pack(plain: dict[str, Any], *, compress: bool) -> bytes:
    """Plain data as bytes.

    Raises:
        ChronoMapTypeError: If it holds anything that would not be loaded again.
    """
    for key, rows in plain["store"].items():
        try:
            _check(key, key)
            for row in rows:
                _check(row[1], key)
        except RecursionError:
            raise ChronoMapTypeError(f"the value of key {key!r} is nested too deeply or contains itself") from None
    packed = pickle.dumps(plain, protocol=4)
    return zlib.compress(packed) if compress else packed


def _check(value: Any, key: Any) -> None:
    kind = type(value)
    if kind in SCALARS:
        zone = getattr(value, "tzinfo", None)
        if zone is None or type(zone) is dt.timezone:
            return
    elif kind is dict:
        for inner, item in value.items():
            _check(inner, key)
            _check(item, key)
        return
    elif kind in CONTAINERS:
        for item in value:
            _check(item, key)
        return
    raise ChronoMapTypeError(
        f"key {key!r} holds a {kind.__module__}.{kind.__qualname__}, which is not plain data and would not be loaded again"
    )


def unpack(packed: bytes, largest: int = LARGEST) -> dict[str, Any]:
    """Plain data from bytes, compressed or not.

    Raises:
        ChronoMapValueError: If they are damaged, ask for code, or unfold to more than ``largest`` bytes.
    """
    if packed[:1] == b"\x78":  # zlib; a pickle of protocol 2 or later begins with 0x80
        unfolding = zlib.decompressobj()
        try:
            packed = unfolding.decompress(packed, largest)
        except zlib.error as error:
            raise ChronoMapValueError(f"the compressed data is damaged: {error}") from None
        if unfolding.unconsumed_tail:
            raise ChronoMapValueError(f"the compressed data unfolds to more than {largest} bytes; refused")
        if not unfolding.eof:
            raise ChronoMapValueError("the compressed data is cut short")
    try:
        plain = _PlainUnpickler(io.BytesIO(packed)).load()
    except ChronoMapValueError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged pickles raise nearly anything
        raise ChronoMapValueError(f"not a saved ChronoMap: {type(error).__name__}: {error}") from None
    if not isinstance(plain, dict):
        raise ChronoMapValueError("not a saved ChronoMap: it holds no mapping")
    return plain


def save_pickle(view: View, path: Path, *, compress: bool = False) -> None:
    """Write the map."""
    packed = pack(dump(view), compress=compress)
    with replacing(path) as file:
        file.write(packed)


def load_pickle(path: Path) -> dict[str, Any]:
    """Read such a file, or one of ChronoMap 2; compression is found out."""
    try:
        return unpack(path.read_bytes())
    except ChronoMapValueError as error:
        raise ChronoMapValueError(f"{path}: {error}") from None
