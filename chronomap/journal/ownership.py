"""One process owns a file: who that is stands in a small file beside it.

The operating system's own record locks decide, so a crashed owner leaves nothing that blocks. They belong to a process (on
POSIX; a child that was forked neither inherits nor releases them), and a process loses all of those it has on a file when
it closes any descriptor of it. Hence the small file, which nobody else opens, and ``_owned``, which is asked first.
(``flock`` was considered: a forked child that outlives its crashed parent would go on holding it. SQLite's own exclusive
mode as well: then no other program could even read a live file.)

The name is taken away on a clean close, while it is still owned; so whoever gets the ownership of a file must look whether
the name still leads to it. On Windows an open file keeps its name; the file stays there, empty.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import Final

from chronomap.errors import JournalInUseError, JournalOpenError

if sys.platform == "win32":
    import msvcrt

    FAR: Final = 1 << 30
    """The byte that is owned: far from the text, which others want to read."""

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


SUFFIX: Final = "-owner"
LONGEST: Final = 1000
"""Bytes of the note that are read."""

_owned: dict[str, int] = {}  # the process id that owns a path, as far as this process knows


def refuse_if_owned_here(path: Path) -> None:
    """Before a file is opened other than by SQLite: that would cost this process SQLite's locks on it, if it has any.

    Raises:
        JournalInUseError: If a map of this process has it open.
    """
    if _owned.get(str(path)) == os.getpid():
        raise JournalInUseError(
            f"{path} is open in this process (process {os.getpid()}); close that map first",
            path=str(path),
            pid=os.getpid(),
            host=socket.gethostname(),
        )


class Ownership:
    """The right to write to one file, until it is released.

    Raises:
        JournalInUseError: At once, if somebody has it; names the owner.
        JournalOpenError: If the note beside the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._note = path.with_name(path.name + SUFFIX)
        self._pid = os.getpid()
        self._descriptor = -1  # until it is ours
        if _owned.get(self.path) == self._pid:
            raise JournalInUseError(
                f"{self.path} is already open in this process (process {self._pid}); use that map, or close it first",
                path=self.path,
                pid=self._pid,
                host=socket.gethostname(),
            )
        try:
            self._descriptor = self._open()
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, f"{self._pid} {socket.gethostname()}\n".encode())
        except OSError as error:
            raise JournalOpenError(
                f"{self._note} cannot be written ({error.strerror}); the owner of a map needs it, so the directory must be "
                "writable",
                path=self.path,
            ) from error
        _owned[self.path] = self._pid

    def _open(self) -> int:
        while True:
            descriptor = os.open(self._note, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
            try:
                _take(descriptor)
            except OSError:
                raise self._in_use(descriptor) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), self._note.stat()):
                    return descriptor
            os.close(descriptor)  # its owner has just closed, and taken the name away

    def _in_use(self, descriptor: int) -> JournalInUseError:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            words = os.read(descriptor, LONGEST).decode(errors="replace").split()
        finally:
            os.close(descriptor)
        pid = int(words[0]) if words and words[0].isdigit() else None
        host = words[1] if len(words) > 1 else ""
        owner = "another process" if pid is None else f"process {pid} on {host}"
        return JournalInUseError(
            f"{self.path} is open in {owner}; a map on disk has one owner, so close it there, or ask that process",
            path=self.path,
            pid=pid,
            host=host,
        )

    def release(self) -> None:
        """Let the next one have it. In a forked child: only forget it, since it is the parent's."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0 or _owned.get(self.path, self._pid) != self._pid:
            return
        _owned.pop(self.path, None)
        if os.getpid() == self._pid:
            with contextlib.suppress(OSError):
                if sys.platform == "win32":
                    os.ftruncate(descriptor, 0)
                else:
                    self._note.unlink()
        os.close(descriptor)

    def __del__(self) -> None:
        if os.getpid() == self._pid:  # an interrupt may have struck before anybody had it who would release it
            self.release()
