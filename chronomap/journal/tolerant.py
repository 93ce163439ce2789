"""A codec for who does not have the classes that values in a file are made of: a viewer, a copier."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chronomap.errors import ChronoMapValueError
from chronomap.journal.codec import ExactCodec


@dataclass(frozen=True, slots=True)
class Foreign:
    """A value with a class in it that only the program which wrote it knows: its text in the file."""

    text: bytes

    def plain(self) -> Any:
        """As JSON has it, with tags."""
        return json.loads(self.text)


class TolerantCodec(ExactCodec):
    """Reads what ``ExactCodec`` wrote for any program: what it cannot make, it leaves as it is, also when writing it again.

    A value with a class in it that was registered elsewhere comes as a ``Foreign``, which has ``text`` and ``plain()``.
    """

    def __init__(self) -> None:
        exact = ExactCodec()

        def encode(value: Any) -> bytes:
            return value.text if type(value) is Foreign else exact.encode(value)

        def decode(text: bytes) -> Any:
            try:
                return exact.decode(text)
            except ChronoMapValueError:
                if not _is_json(text):
                    raise
                return Foreign(text)

        def decode_all(texts: Sequence[bytes]) -> list[Any]:
            try:
                return exact.decode_all(texts)
            except ChronoMapValueError:
                return [decode(text) for text in texts]

        self.encode, self.decode, self.decode_all = encode, decode, decode_all


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
