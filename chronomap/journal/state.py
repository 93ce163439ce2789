"""What a journal knows about itself: one row, written with every group.

It says how much there must be, so that a page that lost some of its rows cannot pass for a shorter file.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final, Self
from zlib import crc32

from chronomap.errors import CorruptJournalError
from chronomap.journal.extras import msgspec

_write: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class State:
    """How far the journal goes.

    Attributes:
        codec: The name of the codec that wrote its values.
        revision: The newest.
        id: That of the newest record.
        records: How many rows ``records`` has.
        commits: How many rows ``commits`` has.
        placed: The records up to this id are in ``places``.
        places: How many rows that has.
        pruned: How many rows ``pruned`` has.
        cuts: The sum of their checksums.
        complete_since: See ``Journal``.
        pruned_to: See ``Contents``; without the activations of pruned versions that are in the log still.
    """

    codec: str = ""
    revision: int = 0
    id: int = 0
    records: int = 0
    commits: int = 0
    placed: int = 0
    places: int = 0
    pruned: int = 0
    cuts: int = 0
    complete_since: int = 0
    pruned_to: int = 0

    def write(self, connection: Any) -> None:
        """Put it in place of the one before."""
        text = _write(self)
        connection.execute("REPLACE INTO state VALUES (1, ?, ?)", (text.decode(), crc32(text)))

    def copy(self) -> Self:
        """Another one, the same; ``copy.copy`` takes ten times as long."""
        return type(self)(*_parts(self))

    @classmethod
    def read(cls, connection: Any) -> State:
        """The one in the file.

        Raises:
            CorruptJournalError: If there is none, or it is not as it was written.
        """
        rows = connection.execute("SELECT text, checksum FROM state").fetchall()
        found = None
        with suppress(AttributeError, TypeError, ValueError):
            [(text, checksum)] = rows
            if crc32(text.encode()) == checksum:
                found = json.loads(text)
        if found is None or found.keys() != {field.name for field in fields(cls)}:
            raise CorruptJournalError("what the file knows about itself (its state) is damaged")
        return cls(**found)


_parts: Final = attrgetter(*(field.name for field in fields(State)))
