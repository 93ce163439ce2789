"""Durable logs of commits: one protocol, an implementation in memory and one in a SQLite file.

``protocol`` says what every journal does. ``sqlite`` is the one in a file: ``opening`` and ``ownership`` get at the file,
``schema`` and ``state`` are what is in it, ``log`` and ``loading`` read it, ``removing`` forgets. ``verifying`` and
``salvaging`` look at a file that may be damaged. ``codec`` and ``exact`` turn keys and values to bytes and back,
``encoding`` and ``writing`` do so with groups of commits; ``tolerant`` is for who does not know all classes. ``looking`` reads
a file that others own, ``following`` tells what they commit, and ``making`` writes a whole map into a new file.
"""

from chronomap.core.retention import Cut
from chronomap.journal.codec import Codec, ExactCodec, UnsafePickleCodec
from chronomap.journal.following import follow
from chronomap.journal.looking import Description, ReadingJournal, backup, describe
from chronomap.journal.memory import MemoryJournal, Shelf
from chronomap.journal.protocol import Contents, Journal, Position
from chronomap.journal.sqlite import SqliteJournal
from chronomap.journal.tolerant import Foreign, TolerantCodec

__all__ = [
    "Codec",
    "Contents",
    "Cut",
    "Description",
    "ExactCodec",
    "Foreign",
    "Journal",
    "MemoryJournal",
    "Position",
    "ReadingJournal",
    "Shelf",
    "SqliteJournal",
    "TolerantCodec",
    "UnsafePickleCodec",
    "backup",
    "describe",
    "follow",
]
