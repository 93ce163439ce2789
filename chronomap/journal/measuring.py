"""A look at a whole value before it is written: whether JSON has it all, and whether it is too large or too deep.

Too large must be known before any of it is written. What is one list in two places is written twice, so a value of sixty
lists, each of which has the one before it in it twice, would fill every disk. Its size is counted exactly, that of a part
with parts once, which takes as long as writing it. Most values are spared that: those of few parts take little more than
their longest one, and those of some parts no more than each of them being as long as all together, which ``marshal`` tells
at once.
"""

from __future__ import annotations

import dataclasses
import marshal
import math
from collections.abc import Collection, Container, Iterable
from typing import Any, Final

from chronomap.errors import ChronoMapTypeError, ChronoMapValueError

DEPTH: Final = 100
"""Levels of nesting, as in the other files of a map: reading them stays far from the end of Python's stack."""

LIMIT: Final = 64 << 20
"""Bytes that a value may take when it is written.

SQLite takes a thousand million in a row, but while one is written there are several copies of it in memory, twice as much
goes to the disk, everybody else who writes waits, and each opening reads it again. Other stores of documents draw the line
at 16 MiB or below; what is larger belongs into a file of its own, with its name in the map.
"""

FEW: Final = 16
"""Things in a value that may all be as long as its longest text: that is known when it has been written."""

SOME: Final = 4096
"""Things in a value that are counted one by one; if there are more of them its size is."""

SAFE: Final = frozenset({type(None), bool, int, str})
TEXT: Final = frozenset({str})


def too_deep() -> ChronoMapTypeError:
    """The error."""
    return ChronoMapTypeError(f"a value nested deeper than {DEPTH} levels, or in itself, cannot be kept in a journal")


def too_large() -> ChronoMapValueError:
    """The error."""
    return ChronoMapValueError(
        f"a value that takes more than {LIMIT >> 20} MiB when it is written cannot be kept in a journal (what is in several "
        "places within it is written several times); put large things into files, and their names into the map"
    )


def is_json(value: Any, classes: Container[type]) -> bool:
    """Whether JSON has the very type of everything in a value (numbers may still be too large).

    Args:
        value: The value.
        classes: Those that are registered.

    Raises:
        ChronoMapTypeError: If it is nested too deeply.
        ChronoMapValueError: If it is too large.
    """
    count = _count_json(value, DEPTH)
    if 0 < count <= FEW or (0 < count <= SOME and count * len(marshal.dumps(value)) <= LIMIT):
        return True
    if not count and _room_left(value, FEW, classes) >= 0:
        return False
    look = Look(classes)
    look.size(value)
    return look.json


def _count_json(value: Any, depth: int) -> int:
    """How many things there are in a value, at least (up to ``SOME``); 0 if JSON has not all their types."""
    kind = type(value)
    if kind in SAFE:
        return 1
    if kind is float:
        return int(math.isfinite(value))
    if kind is dict:
        if not TEXT.issuperset(map(type, value)):
            return 0
        value = value.values()
    elif kind is not list:
        return 0
    if not depth:
        raise too_deep()
    count = len(value) + 1
    if not SAFE.issuperset(map(type, value)):
        for part in value:
            found = _count_json(part, depth - 1)
            count += found
            if not found or count > SOME:
                return count if found else 0
    return count


def _room_left(value: Any, room: int, classes: Container[type]) -> int:
    """How much room is left when everything in a value has taken one place; less than 0 if there is not enough."""
    for part in _parts(value, classes) or ():
        if room < 0:
            break
        room = _room_left(part, room, classes)
    return room - 1


def _parts(value: Any, classes: Container[type]) -> Collection[Any] | None:
    """What is in a value; None if it has no parts of any type."""
    kind = type(value)
    if kind in (list, tuple, set, frozenset):
        return value  # type: ignore[no-any-return]
    if kind is dict:
        return [*value, *value.values()]
    if kind in classes and dataclasses.is_dataclass(value):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return None


class Look:
    """Counts the size of one value.

    Args:
        classes: Those that are registered.

    Attributes:
        json: Whether JSON has the very type of everything seen so far.
    """

    def __init__(self, classes: Container[type]) -> None:
        self.json = True
        self._classes = classes
        self._known: dict[int, tuple[Any, int, int]] = {}  # by id: the part, at what depth it was well, its size

    def size(self, value: Any, depth: int = DEPTH) -> int:
        """How many bytes of text there will be, or a few less."""
        kind = type(value)
        if kind in SAFE:
            return _flat((value,), {kind})
        if kind is dict:
            self.json = self.json and TEXT.issuperset(map(type, value))
        elif kind is not list:
            self.json = self.json and kind is float and math.isfinite(value)
        parts = _parts(value, self._classes)
        if parts is None:
            return len(value) if kind in (bytes, bytearray) else 1
        return self._sum(value, parts, depth)

    def _sum(self, whole: Any, parts: Collection[Any], depth: int) -> int:
        if not depth:
            raise too_deep()
        kinds = {*map(type, parts)}
        if kinds <= SAFE:
            size = len(parts) + _flat(parts, kinds)
        else:
            part, lowest, size = self._known.get(id(whole), (None, 0, 0))
            if part is not whole or depth < lowest:
                size = len(parts) + sum([self.size(part, depth - 1) for part in parts])
                self._known[id(whole)] = whole, depth, size
        if size > LIMIT:
            raise too_large()
        return size


def _flat(parts: Iterable[Any], kinds: set[type]) -> int:
    """The size of things that have no parts."""
    size = 0
    if str in kinds:
        size += sum(map(len, parts if kinds == {str} else [part for part in parts if type(part) is str]))
    if int in kinds:
        numbers = parts if kinds == {int} else [part for part in parts if type(part) is int]
        size += sum(map(int.bit_length, numbers)) // 4
    return size
