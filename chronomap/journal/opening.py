"""From a path to a connection, or to an error that says what is wrong with it.

A new file is made aside, whole, and then given its name: so an empty file is never a map that was being made, and is
refused like anything else that is not one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from chronomap.errors import CorruptJournalError, JournalError, JournalOpenError
from chronomap.journal import schema
from chronomap.journal.extras import apsw
from chronomap.journal.ownership import SUFFIX
from chronomap.journal.state import State

NEW: Final = "-new"
SYNCHRONOUS: Final = {"full": "FULL", "normal": "NORMAL", "off": "OFF"}

PATIENCE: Final = 5_000
"""Milliseconds to wait for another program that reads or writes the file with SQLite."""

CACHE: Final = -16_000
"""KiB of pages that SQLite keeps (the minus sign is SQLite's)."""

FULL_LOG: Final = 64 << 20
"""Bytes to which SQLite's own log is cut back after something large went through it."""


@contextmanager
def translated(path: str, doing: str) -> Iterator[None]:
    """Turn SQLite's errors into this library's."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError) as error:
        raise CorruptJournalError(f"{path} is damaged, found while {doing}: {error}") from error
    except apsw.Error as error:
        raise JournalError(f"{path}: {doing} failed: {type(error).__name__}: {error}") from error


def let_go(connection: apsw.Connection) -> None:
    """Close a connection that has failed; that this fails too makes no difference."""
    with suppress(apsw.Error):
        connection.close(True)  # noqa: FBT003 - apsw's own signature: "force"


def pragma(connection: apsw.Connection, text: str) -> list[Any]:
    """Run a pragma to its end (SQLite may stop at its first row)."""
    return connection.execute(f"PRAGMA {text}").fetchall()


def connect(path: Path, durability: str, vfs: str | None = None) -> apsw.Connection:
    """A connection to a journal that is there; what it finds has been looked at."""
    check_path(path)
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    except apsw.Error as error:
        raise JournalOpenError(f"{path} cannot be opened: {error}", path=str(path)) from error
    try:
        check_writable(connection, path)
        # Closing must not move anything about by itself: it also happens in forked children, and after failures.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.set_busy_timeout(PATIENCE)
        with translated(str(path), "looking at its head"):
            check_head(connection, path)
            set_up(connection, durability)
    except BaseException:
        leave_as_found(connection, path)
        let_go(connection)
        raise
    return connection


def set_up(connection: apsw.Connection, durability: str) -> None:
    """Settings of a connection; none of them is in the file."""
    pragma(connection, f"synchronous = {SYNCHRONOUS[durability]}")
    pragma(connection, "wal_autocheckpoint = 0")  # SQLite would swallow its errors; the journal does it
    pragma(connection, "secure_delete = ON")  # what was erased is overwritten
    pragma(connection, f"cache_size = {CACHE}")
    pragma(connection, "cell_size_check = ON")
    pragma(connection, "temp_store = MEMORY")
    pragma(connection, f"journal_size_limit = {FULL_LOG}")


def leave_as_found(connection: apsw.Connection, path: Path) -> None:
    """Before a connection that only read is closed: let it take away the empty log that it made beside a closed file."""
    if not path.with_name(path.name + SUFFIX).exists() and not left_log(path):
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)


def left_log(path: Path) -> bool:
    """Whether a crash has left SQLite's own log beside a file."""
    with suppress(OSError):
        return path.with_name(path.name + "-wal").stat().st_size > 0
    return False


def check_place(path: Path) -> None:
    """Refuse a name that is in no directory."""
    if not path.parent.is_dir():
        raise JournalOpenError(f"{path.parent} is not a directory; make it first", path=str(path))


def check_new(path: Path, advice: str) -> None:
    """Refuse a name for a new file that is taken, or in no directory."""
    if path.exists():
        raise JournalOpenError(f"{path} is there already; {advice}", path=str(path))
    check_place(path)


def check_path(path: Path) -> None:
    """Say what is wrong with a path before SQLite does so in fewer words."""
    if path.is_dir():
        raise JournalOpenError(f"{path} is a directory; give the name of a file in it", path=str(path))
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise JournalOpenError(f"{path} is not there", path=str(path)) from None
    except OSError as error:
        raise JournalOpenError(f"{path} cannot be opened: {error.strerror}", path=str(path)) from error
    if not size:
        raise JournalOpenError(
            f"{path} is empty, so it is not a map (a new one is never empty); restore it from a backup, or delete it if "
            "nothing was in it",
            path=str(path),
        )


def check_writable(connection: apsw.Connection, path: Path) -> None:
    """Refuse a file that SQLite could open for reading only."""
    if connection.readonly("main"):
        raise JournalOpenError(f"{path} is read-only; make it writable, or copy it to where you may write", path=str(path))


def check_head(connection: apsw.Connection, path: Path) -> None:
    """Refuse what is not a journal, or one of a newer format."""
    try:
        [(application,)] = pragma(connection, "application_id")
        [(found,)] = pragma(connection, "user_version")
    except apsw.NotADBError as error:
        raise CorruptJournalError(f"{path} is not a SQLite file: it is damaged, or something else") from error
    if application != schema.APPLICATION:
        raise JournalOpenError(f"{path} is a SQLite file, but not a map of ChronoMap's", path=str(path))
    if found > schema.FORMAT:
        raise JournalOpenError(
            f"{path} has format {found}, and this version reads up to {schema.FORMAT}; open it with a newer ChronoMap",
            path=str(path),
        )
    if found < 1:
        raise CorruptJournalError(f"{path} has format {found}, which there never was")
    tables = [text for (text,) in connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'table' ORDER BY rowid")]
    if tables != list(schema.TABLES):
        raise CorruptJournalError(f"{path} does not have the tables of format {found}: it is damaged, or was changed")
    if connection.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'").get:
        raise CorruptJournalError(f"{path} has triggers, which would change what is written to it; drop them")


def create(path: Path, codec: str, vfs: str | None = None, *, readable: bool = True) -> None:
    """Make an empty journal."""
    new = path.with_name(path.name + NEW)
    remove(new)
    try:
        connection = apsw.Connection(str(new), vfs=vfs)
    except apsw.Error as error:
        raise JournalOpenError(f"{path} cannot be made: {error}", path=str(path)) from error
    try:
        with translated(str(path), "making it"):
            pragma(connection, "synchronous = FULL")
            with connection:
                pragma(connection, f"application_id = {schema.APPLICATION}")
                pragma(connection, f"user_version = {schema.FORMAT}")
                for text in (*schema.TABLES, *schema.views(schema.READABLE_VALUE if readable else "r.value")):
                    connection.execute(text)
                State(codec=codec).write(connection)
            pragma(connection, "journal_mode = WAL")
            connection.close()
    except BaseException:
        let_go(connection)
        remove(new)
        raise
    settle(new, path)


def settle(new: Path, path: Path) -> None:
    """Give a finished file its name, for good."""
    try:
        new.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise JournalOpenError(f"{path} cannot be made: {error.strerror}", path=str(path)) from error


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on the disk; Windows has no such thing."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Take away a file that was not finished, and what SQLite left beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


def sync_file(path: Path) -> None:
    """Have a finished file on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
