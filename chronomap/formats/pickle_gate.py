"""Reading pickles that anybody could have written.

A pickle is a program. Three gates make it data: ``scan`` lets through only the instructions that plain data needs, and
no length that the file does not back; ``Reader`` finds nothing but makers of plain values; what came out is checked to
be plain like what goes in. The makers are objects of this module, not the classes themselves, because a pickle can set
attributes of whatever it gets hold of (BUILD), and Fraction and UUID are classes that everybody shares.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import io
import pickle
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, Final, NoReturn

PLAIN_OPCODES: Final[dict[bytes, int]] = {
    # nothing follows
    pickle.NONE: 0, pickle.NEWTRUE: 0, pickle.NEWFALSE: 0, pickle.MARK: 0, pickle.MEMOIZE: 0,
    pickle.EMPTY_LIST: 0, pickle.APPEND: 0, pickle.APPENDS: 0,
    pickle.EMPTY_DICT: 0, pickle.SETITEM: 0, pickle.SETITEMS: 0,
    pickle.EMPTY_TUPLE: 0, pickle.TUPLE: 0, pickle.TUPLE1: 0, pickle.TUPLE2: 0, pickle.TUPLE3: 0,
    pickle.EMPTY_SET: 0, pickle.ADDITEMS: 0, pickle.FROZENSET: 0,
    pickle.STACK_GLOBAL: 0, pickle.REDUCE: 0, pickle.NEWOBJ: 0, pickle.BUILD: 0,
    # so many bytes follow
    pickle.PROTO: 1, pickle.FRAME: 8, pickle.BININT: 4, pickle.BININT1: 1, pickle.BININT2: 2, pickle.BINFLOAT: 8,
    pickle.BINGET: 1, pickle.LONG_BINGET: 4,
    # so many bytes of a length follow (negative here), and then as many bytes
    pickle.LONG1: -1, pickle.LONG4: -4, pickle.SHORT_BINUNICODE: -1, pickle.BINUNICODE: -4, pickle.BINUNICODE8: -8,
    pickle.SHORT_BINBYTES: -1, pickle.BINBYTES: -4, pickle.BINBYTES8: -8, pickle.BYTEARRAY8: -8,
}  # fmt: skip
"""What protocols 4 and 5 write for plain data. Without EXT (it reaches what others have registered), PERSID, GLOBAL,
INST, DUP, and PUT, whose index makes the reader reserve memory."""

REFUSED: Final = 1 << 10
_WIDTHS: Final = [PLAIN_OPCODES.get(bytes([opcode]), REFUSED) for opcode in range(256)]
_STOP: Final = pickle.STOP[0]


def scan(pickled: bytes) -> None:
    """Refuse a pickle with other instructions than plain data needs, or one that is cut short. O(instructions).

    Raises:
        UnpicklingError: Saying what stands where.
    """
    position, end, widths = 0, len(pickled), _WIDTHS
    while position < end:
        opcode = pickled[position]
        position += 1
        width = widths[opcode]
        if 0 <= width < REFUSED:
            position += width
        elif width < 0:
            position -= width
            position += int.from_bytes(pickled[position + width : position], "little")
        elif opcode != _STOP:
            raise pickle.UnpicklingError(f"instruction {bytes([opcode])!r} at byte {position - 1} is not for plain data")
        elif position != end:
            raise pickle.UnpicklingError(f"{end - position} bytes too many at its end")
        else:
            return
    raise pickle.UnpicklingError("it is cut short")


class _Maker:
    """Makes values of one plain type. It cannot be changed, and holds nothing that leads elsewhere."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self.__setstate__(value)

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("a pickle may not change what makes its values")


class _UUIDMaker:
    """Makes an empty UUID that BUILD then fills: pickles of UUIDs ask for a class."""

    def __new__(cls, *arguments: Any) -> Any:
        return uuid.UUID.__new__(uuid.UUID, *arguments)

    @staticmethod
    def __setstate__(state: object) -> NoReturn:
        raise pickle.UnpicklingError("a pickle may not change what makes its values")


def _bytearray(source: bytes = b"") -> bytearray:
    if type(source) is not bytes:  # a number would be a size, of any size
        raise pickle.UnpicklingError("a bytearray is made of bytes")
    return bytearray(source)


def _fraction(numerator: int, denominator: int) -> fractions.Fraction:
    if type(numerator) is not int or type(denominator) is not int:  # text like 1e999999999 would be worked out
        raise pickle.UnpicklingError("a Fraction is made of two integers")
    return fractions.Fraction(numerator, denominator)


def _zone(key: str) -> zoneinfo.ZoneInfo:
    if type(key) is not str:
        raise pickle.UnpicklingError("a time zone has a text as its key")
    return zoneinfo.ZoneInfo(key)


MAKERS: Final[dict[tuple[str, str], Any]] = {
    ("builtins", "bytearray"): _Maker(_bytearray),
    ("builtins", "complex"): _Maker(complex),
    ("builtins", "range"): _Maker(range),
    ("datetime", "date"): _Maker(datetime.date),
    ("datetime", "datetime"): _Maker(datetime.datetime),
    ("datetime", "time"): _Maker(datetime.time),
    ("datetime", "timedelta"): _Maker(datetime.timedelta),
    ("datetime", "timezone"): _Maker(datetime.timezone),
    ("decimal", "Decimal"): _Maker(decimal.Decimal),
    ("fractions", "Fraction"): _Maker(_fraction),
    ("uuid", "UUID"): _UUIDMaker,
    ("zoneinfo", "ZoneInfo"): _Maker(_zone),
}
"""All that a pickle can name. Everything else that is plain has instructions of its own."""


class Reader(pickle.Unpickler):
    """An unpickler that knows no classes."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the makers, and never anything else."""
        if (maker := MAKERS.get((module, name))) is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not plain data")
        return maker

    def persistent_load(self, pid: Any) -> NoReturn:  # noqa: ARG002
        """Refused: nothing outside the file belongs to it."""
        raise pickle.UnpicklingError("it refers to something outside the file")


def read(pickled: bytes) -> Any:
    """The object that a pickle describes; anything may be raised if it is wrong, but nothing is run."""
    scan(pickled)
    return Reader(io.BytesIO(pickled)).load()
