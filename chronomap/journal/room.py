"""Room in SQLite's own log, made ahead of need: syncing a file that has not grown takes half as long.

A file that has grown since its last sync has a new length to be put on the disk as well, for which most file systems keep a
log of their own. So the log is filled up with zeros, a few times its length, and SQLite writes over them. It never takes them
for anything of its own (nor what an earlier round through the log has left): each of its frames has a checksum that begins
with the number of the round.

This is nothing but speed. Where there is no room for it, there is none.
"""

from __future__ import annotations

from typing import Any, Final

from chronomap.journal.extras import apsw

HEAD: Final = 32
"""Bytes before the first frame of the log."""

FRAME_HEAD: Final = 24
"""Bytes before the page in each frame."""

PIECE: Final = 1 << 16
"""Bytes to write at once; SQLite itself never writes more than a page, and cannot take more than twice this."""

FIRST: Final = 64
"""Pages for which room is made at first."""


class Room:
    """The length of SQLite's log, beyond what it is used for.

    Args:
        connection: The only one that writes the log.
        most: Pages for which room is made at most.
    """

    def __init__(self, connection: Any, most: int) -> None:
        self._connection = connection
        [(page,)] = connection.execute("PRAGMA page_size").fetchall()
        self._frame = FRAME_HEAD + page
        self._most = most
        self._pages = 0

    def make(self, used: int) -> None:
        """Make room, if more than half is used; call it between transactions."""
        if 2 * used < self._pages or self._pages == self._most:
            return
        self._pages = min(max(FIRST, 4 * used), self._most)
        try:
            self._fill(HEAD + self._pages * self._frame)
        except apsw.Error:
            self._pages = self._most

    def forget(self) -> None:
        """The log has been cut back to nothing."""
        self._pages = 0

    def _fill(self, length: int) -> None:
        connection = self._connection
        flags = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE
        file = apsw.VFSFile(connection.open_vfs, connection.filename_wal, [flags, 0])
        try:
            found = file.xFileSize()
            try:
                for place in range(found, length, PIECE):
                    file.xWrite(bytes(min(PIECE, length - place)), place)
            except apsw.Error:
                file.xTruncate(found)  # what is scarce is not for zeros
                raise
        finally:
            file.xClose()
