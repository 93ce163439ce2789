"""The instants of all commits, in half the room.

Commits that follow each other within minutes have instants whose eight bytes begin with the same four. So a block of them is
kept as those four, once, and the other four of each; a block of which that is not true, as it is. Nothing is rounded.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import Final, Union

BLOCK: Final = 1024
"""Instants of a block."""

_LITTLE: Final = sys.byteorder == "little"
_halves: Final = struct.Struct("=II")
_float: Final = struct.Struct("=d")

Block = Union["array[float]", tuple[int, "array[int]"]]
"""The instants, or what the bits of all begin with and what those of each end with."""


class Instants:
    """A list that grows. Its owner extends it; anybody may read.

    Readers take the whole state in one step: the blocks (to which only is appended), how many there were, and the rest.
    """

    def __init__(self, instants: Iterable[float] = ()) -> None:
        self._state: tuple[list[Block], int, array[float]] = ([], 0, array("d"))
        self.extend(list(instants))

    def __len__(self) -> int:
        _, packed, rest = self._state
        return packed + len(rest)

    def __getitem__(self, index: int) -> float:
        blocks, packed, rest = self._state
        if index >= packed:
            return rest[index - packed]
        block, place = blocks[index // BLOCK], index % BLOCK
        if isinstance(block, array):
            return block[place]
        first, second = (block[1][place], block[0]) if _LITTLE else (block[0], block[1][place])
        found: float = _float.unpack(_halves.pack(first, second))[0]
        return found

    def __iter__(self) -> Iterator[float]:
        return map(self.__getitem__, range(len(self)))

    def append(self, instant: float) -> None:
        """Add one. Amortised O(1)."""
        rest = self._state[2]
        rest.append(instant)
        if len(rest) >= 2 * BLOCK:
            self.extend([])

    def extend(self, instants: list[float]) -> None:
        """Add some. Amortised O(1) each."""
        blocks, packed, rest = self._state
        rest.fromlist(instants)
        if len(rest) < 2 * BLOCK:  # what is read most often stays as it is
            return
        done = 0
        while len(rest) - done >= 2 * BLOCK:
            blocks.append(_pack(rest[done : done + BLOCK]))
            done += BLOCK
        self._state = (blocks, packed + done, rest[done:])


def _pack(instants: array[float]) -> Block:
    words = array("I", instants.tobytes())
    first, second = words[::2], words[1::2]
    high, low = (second, first) if _LITTLE else (first, second)
    return (high[0], low) if high.count(high[0]) == BLOCK else instants
