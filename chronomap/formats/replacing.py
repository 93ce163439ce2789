"""The one way in which files are written: aside, to the disk, and then in the place of the old one.

Whatever fails on the way, the old file is whole and nothing is left over. Once the block has ended without an
exception, the new file survives a power failure.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block ends without an exception.

    The old file's permissions are kept. Where ``path`` is a link, what it points to is replaced; where it is a device
    or a pipe, there is nothing to protect, and it is written to directly.
    """
    target = Path(os.path.realpath(path))
    try:
        old = target.stat()
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        with target.open("wb") as file:
            yield file
        return
    aside = target.with_name(f".chronomap-{secrets.token_hex(8)}.tmp")
    mode = 0o666 if old is None else stat.S_IMODE(old.st_mode)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(aside, flags, mode)  # never readable for more people than the old file
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of an open descriptor
            if old is not None:
                aside.chmod(mode)  # what the umask took away
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)  # noqa: PTH105 - tests let it fail by this name
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":
        return  # directories cannot be opened there
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot sync directories say so
            raise
    finally:
        os.close(descriptor)
