"""A whole map as a pickle, plain or compressed: smaller and faster than JSON, for the same plain data."""

from __future__ import annotations

import io
import pickle
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from chronomap.core.view import View
from chronomap.errors import ChronoMapError, ChronoMapValueError
from chronomap.formats import pickle_gate
from chronomap.formats.dumping import dump
from chronomap.formats.plain import DEPTH, WRAPPING, check, check_dump
from chronomap.formats.replacing import replacing

PROTOCOL: Final = 4
"""The first with framing; every Python since 3.4 reads it."""

LIMIT: Final = 1 << 30
"""Bytes that a compressed file may unpack to: 1 GiB. A few kilobytes can claim to be a terabyte."""

SLICE: Final = 1 << 16
"""Compressed bytes handed over at once: zlib copies what it has not read yet."""

_REDUCERS: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {
    complex: lambda number: (complex, (number.real, number.imag)),
    ZoneInfo: lambda zone: (ZoneInfo, (zone.key,)),  # its own way asks for getattr
}


def pack(plain: Mapping[str, Any], compress: bool) -> bytes:
    """What ``dump`` gave as bytes that ``unpack`` reads.

    Raises:
        ChronoMapTypeError: If a key or value would not come back as it is.
        ChronoMapValueError: If it is too large to be unpacked again (only when compressed).
    """
    check_dump(plain)
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, PROTOCOL)
    pickler.dispatch_table = _REDUCERS  # instead of the common one, which anybody may have changed
    pickler.dump(dict(plain))
    pickled = buffer.getvalue()
    if not compress:
        return pickled
    if len(pickled) > LIMIT:
        raise ChronoMapValueError(f"{len(pickled)} bytes are more than a compressed file may hold ({LIMIT}); do not compress")
    return zlib.compress(pickled)


def unpack(packed: bytes | bytearray, limit: int = LIMIT) -> dict[str, Any]:
    """What was packed, compressed or not. Runs no code, whoever made the bytes.

    Args:
        packed: Bytes from anywhere.
        limit: How many bytes compressed ones may become.

    Raises:
        ChronoMapValueError: If they are not what ``pack`` gives.
    """
    try:
        pickled = bytes(packed)
        if not pickled.startswith(pickle.PROTO):
            pickled = _decompress(pickled, limit)
        plain = pickle_gate.read(pickled)
        check(plain, lambda: "its contents", DEPTH + WRAPPING)
    except Exception as error:
        raise ChronoMapValueError(f"not a pickle that ChronoMap wrote: {_reason(error)}") from error
    if type(plain) is not dict:
        raise ChronoMapValueError(f"not a pickle that ChronoMap wrote: it holds a {type(plain).__name__}, not a dict")
    return plain


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ChronoMapError | pickle.UnpicklingError) else f"{type(error).__name__}: {error}"


def _decompress(compressed: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    parts = bytearray()
    for start in range(0, len(compressed), SLICE):
        rest = compressed[start : start + SLICE]
        while rest and not inflater.eof:
            parts += inflater.decompress(rest, limit + 1 - len(parts))
            if len(parts) > limit:
                raise ChronoMapValueError(f"it unpacks to more than {limit} bytes")
            rest = inflater.unconsumed_tail
        if inflater.eof:
            if inflater.unused_data or start + SLICE < len(compressed):
                raise ChronoMapValueError("bytes too many at its end")
            return bytes(parts)
    raise ChronoMapValueError("it is cut short")


def save_pickle(view: View, path: Path, compress: bool = False) -> None:
    """Write everything the view's revision knows; the file is replaced as a whole or not at all.

    Raises:
        ChronoMapTypeError: If a key or value would not come back as it is; the old file is untouched.
    """
    packed = pack(dump(view), compress)
    with replacing(path) as file:
        file.write(packed)


def load_pickle(path: Path) -> dict[str, Any]:
    """What ``save_pickle`` or ChronoMap 2 wrote, for ``load``.

    Raises:
        ChronoMapValueError: If the file holds anything else.
    """
    packed = path.read_bytes()
    try:
        return unpack(packed)
    except ChronoMapValueError as error:
        raise ChronoMapValueError(f"{path}: {error}") from error
