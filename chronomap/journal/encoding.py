"""Records to what stands in the file, for a group of commits at once, and as little of it as possible twice.

``check`` has to encode every value to say whether it can be kept. What took long is kept until the group that it is in is
appended; the rest is encoded again, since doing so by the hundred takes less time than looking up each.

It is found again by the identity of the commit's tuple of records, which is kept along with it: so the tuple is alive, and
nothing else can be at its address. Equal records in another tuple are encoded anew (1 and True are equal as well).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

from chronomap.core.records import CANCELLED, Record
from chronomap.core.values import MISSING, Captured
from chronomap.errors import ChronoMapTypeError
from chronomap.journal.codec import Codec, ExactCodec, encode_key, encode_keys
from chronomap.journal.exact import DOLLAR
from chronomap.journal.measuring import LIMIT, too_large

Columns = tuple[Sequence[bytes], Sequence[bytes | None] | None, Sequence[bytes | None]]
"""The same of many records. None: not one of them has an exact key."""

Records = Sequence[tuple[Record, ...]]
"""The records of several commits."""

ROOM: Final = 32 << 20
"""Bytes that may be kept for the next group, roughly; what is checked beyond that is encoded again."""

WEIGHT: Final = 256
"""Bytes that keeping a record takes beside its text, roughly."""

CHEAP: Final = 200
"""A text of so many bytes, and without anything that JSON has no word for, is encoded as fast as it is kept."""

SMALL: Final = 1 << 53
"""Numbers below this, and above its negative, have no special way to be written."""

_MARKERS: Final = frozenset({type(MISSING), type(CANCELLED)})


class Encoder:
    """Encodes for one journal."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._exact = type(codec) is ExactCodec
        self._encode_all = getattr(codec, "encode_all", lambda values: [*map(codec.encode, values)])
        self._kept: dict[int, tuple[tuple[Record, ...], list[bytes | None]]] = {}  # values, by the id of the former
        self._size = 0

    def check(self, records: Iterable[Record]) -> None:
        """Encode records; if they are a commit's own tuple, keep what took long and has room. Any thread."""
        if type(records) is tuple and len(records) == 1:  # as most are
            kind, key, value, *_ = records[0]
            if kind == "put" and self.sure(key, value):
                return
        texts = []
        worth = False
        for record in records:
            encode_key(record.key)
            text = self._value(record.kind, record.value)
            worth = worth or (text is not None and (len(text) > CHEAP or DOLLAR in text))
            texts.append(text)
        if worth and type(records) is tuple and self._found(records) is None:
            size = sum(map(len, filter(None, texts))) + WEIGHT * len(records)
            if self._size + size <= ROOM:
                self._size += size
                self._kept[id(records)] = records, texts

    def sure(self, key: Any, value: Any) -> bool:
        """Whether a put of them can be kept, as far as that can be told without encoding them."""
        if not self._exact or type(key) is not str or len(key) > CHEAP or not key.isascii():
            return False
        kind = type(value)
        if kind is int or kind is float:
            return bool(-SMALL < value < SMALL)
        if kind is str:
            return len(value) <= CHEAP and value.isascii()
        return value is None or kind is bool

    def columns(self, parts: Records, kinds: list[Any], keys: list[Any], values: list[Any]) -> Columns:
        """What stands in the file of the records (one at least) of several commits; kinds, keys and values are all theirs."""
        return *encode_keys(keys), self._with_kept(parts, kinds, values) if self._kept else self._values(kinds, values)

    def plain_columns(self, keys: list[Any], values: list[Any]) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """The same of puts that the journal was sure of."""
        texts, _ = encode_keys(keys)
        return texts, self._encode_all(values)

    def _with_kept(self, parts: Records, kinds: list[Any], values: list[Any]) -> list[bytes | None]:
        texts: list[bytes | None] = []
        rest: list[int] = []
        for records in parts:
            found = self._found(records)
            if found is None:
                found = [None] * len(records)
                rest += range(len(texts), len(texts) + len(records))
            texts += found
        if rest:
            encoded = self._values([kinds[place] for place in rest], [values[place] for place in rest])
            for place, text in zip(rest, encoded, strict=True):
                texts[place] = text
        return texts

    def _values(self, kinds: list[Any], values: list[Any]) -> Sequence[bytes | None]:
        if "activate" in kinds or not _MARKERS.isdisjoint(map(type, values)):
            return [*map(self._value, kinds, values)]
        texts: list[bytes] = self._encode_all([value.value if type(value) is Captured else value for value in values])
        if not all(texts):
            raise self._no_bytes()
        if max(map(len, texts)) > LIMIT:
            raise too_large()
        return texts

    def forget(self) -> None:
        """Let go of everything that was kept."""
        self._kept.clear()
        self._size = 0

    def _found(self, records: tuple[Record, ...]) -> list[bytes | None] | None:
        kept = self._kept.get(id(records))
        return kept[1] if kept is not None and kept[0] is records else None

    def _value(self, kind: str, value: Any) -> bytes | None:
        if value is MISSING or kind == "activate":
            return None
        if type(value) is Captured:
            value = value.value
        elif value is CANCELLED:
            return b""
        text = self._codec.encode(value)
        if not text:
            raise self._no_bytes()
        if len(text) > LIMIT:
            raise too_large()
        return text

    def _no_bytes(self) -> ChronoMapTypeError:
        return ChronoMapTypeError(f"the codec {self._codec.name!r} gave no bytes at all for a value")


def turned(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows to columns. Unlike ``zip(*rows)`` it does not make an iterator of each, which is slow for many."""
    flat = [*chain.from_iterable(rows)]
    return [flat[place::width] for place in range(width)]
