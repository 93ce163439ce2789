"""Durable logs of commits: one protocol, an implementation in memory and one in a SQLite file.

``protocol`` says what every journal does. ``sqlite`` is the one in a file: ``opening`` and ``ownership`` get at the file,
``schema`` and ``state`` are what is in it, ``log`` and ``loading`` read it, ``removing`` forgets. ``verifying`` and
``salvaging`` look at a file that may be damaged. ``codec`` and ``exact`` turn keys and values to bytes and back,
``encoding`` and ``writing`` do so with groups of commits.
"""

from chronomap.core.retention import Cut
from chronomap.journal.codec import Codec, ExactCodec, UnsafePickleCodec
from chronomap.journal.memory import MemoryJournal, Shelf
from chronomap.journal.protocol import Contents, Journal, Position
from chronomap.journal.sqlite import SqliteJournal

__all__ = [
    "Codec",
    "Contents",
    "Cut",
    "ExactCodec",
    "Journal",
    "MemoryJournal",
    "Position",
    "Shelf",
    "SqliteJournal",
    "UnsafePickleCodec",
]
