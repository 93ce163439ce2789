"""Records to what stands in the file, once: what ``check`` has encoded is kept until the group that it is in is appended.

It is found again by the identity of the commit's tuple of records, which is kept along with it: so the tuple is alive, and
nothing else can be at its address. Equal records in another tuple are encoded anew (1 and True are equal as well).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from chronomap.core.records import CANCELLED, Record
from chronomap.core.values import MISSING, Captured
from chronomap.errors import ChronoMapTypeError
from chronomap.journal.codec import Codec, encode_key

Encoded = tuple[bytes, bytes | None, bytes | None]
"""The columns ``key``, ``exact`` and ``value`` of a record."""

REMEMBERED: Final = 1 << 16
"""Keys whose text is remembered, since most are written more than once."""

ROOM: Final = 32 << 20
"""Bytes that may be kept for the next group, roughly; what is checked beyond that is encoded again."""

WEIGHT: Final = 256
"""Bytes that keeping a record takes beside its texts, roughly."""


class Encoder:
    """Encodes for one journal."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._texts: dict[str, bytes] = {}  # of keys
        self._kept: dict[int, tuple[tuple[Record, ...], list[Encoded]]] = {}  # by the id of the former
        self._size = 0

    def check(self, records: Iterable[Record]) -> None:
        """Encode records, and keep that if they are a commit's own tuple and there is room. Any thread."""
        if type(records) is not tuple:
            records = tuple(records)
            self.encode(records)
        elif self._found(records) is None:
            encoded = self.encode(records)
            size = sum(len(key) + len(value or b"") + WEIGHT for key, _, value in encoded)
            if self._size + size <= ROOM:
                self._size += size
                self._kept[id(records)] = records, encoded

    def encode(self, records: tuple[Record, ...]) -> list[Encoded]:
        """What stands in the file of a commit's records."""
        found = self._found(records)
        if found is None:
            found = [(*self._key(key), self._value(kind, value)) for kind, key, value, *_ in records]
        return found

    def forget(self) -> None:
        """Let go of everything that was kept."""
        self._kept.clear()
        self._size = 0

    def _found(self, records: tuple[Record, ...]) -> list[Encoded] | None:
        kept = self._kept.get(id(records))
        return kept[1] if kept is not None and kept[0] is records else None

    def _key(self, key: Any) -> tuple[bytes, bytes | None]:
        """A key's texts; those of the strings met last are remembered."""
        if type(key) is not str:
            return encode_key(key)
        text = self._texts.get(key)
        if text is None:
            text = encode_key(key)[0]
            if len(self._texts) >= REMEMBERED:
                self._texts.clear()
            self._texts[key] = text
        return text, None

    def _value(self, kind: str, value: Any) -> bytes | None:
        if value is MISSING or kind == "activate":
            return None
        if type(value) is Captured:
            value = value.value
        elif value is CANCELLED:
            return b""
        text = self._codec.encode(value)
        if not text:
            raise ChronoMapTypeError(f"the codec {self._codec.name!r} gave no bytes at all for a value")
        return text
