"""Histories as change lines: one JSON object per version, in the order of revisions, for other programs to read along.

Example, a put that expires, a put of None, a delete, and a scheduled version that is called off::

    {"commit":1,"timestamp":100,"key":"a","value":{"size":5},"expires_at":160}
    {"commit":2,"timestamp":101,"key":"b","value":{"$type":"none"}}
    {"commit":3,"timestamp":102,"key":"b","value":null}
    {"commit":4,"timestamp":900,"key":"c","value":null,"cancel":true}

A ``value`` of null says "deleted". Keys and values are written as ``tagged`` writes them. A commit's ``meta``, if it has one,
stands on each of its lines: ``"meta":{"author":"ann"}``.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from chronomap.core.meta import NOTHING, Meta, checked
from chronomap.core.records import CANCELLED, NEVER, Entry
from chronomap.core.values import MISSING, bare
from chronomap.core.view import View
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError
from chronomap.formats.checks import number, whole
from chronomap.formats.dumping import known
from chronomap.formats.pickle_file import LIMIT
from chronomap.formats.plain import check, shown
from chronomap.formats.replacing import replacing
from chronomap.formats.tagged import TYPE, decode, encode, line, parse

Progress = Callable[[int, int | None], None]
"""Called with how many lines are done, and of how many (None: not known yet)."""

STEP: Final = 1000
"""Lines between two calls of a ``Progress``."""

EXACT: Final = 2.0**53
"""Below, a float without a fraction and the integer of the same value are equal in every language."""

MEMBERS: Final = frozenset({"commit", "timestamp", "key", "value", "expires_at", "cancel", "meta"})
REQUIRED: Final = frozenset({"commit", "timestamp", "key", "value"})
NONE: Final = {TYPE: "none"}


class Line(NamedTuple):
    """One line as it was read; ``value`` is MISSING for a tombstone, CANCELLED for a cancellation."""

    key: Any
    value: Any
    timestamp: float
    expires_at: float
    meta: Meta


def export_changes(view: View, path: Path, progress: Progress | None = None) -> int:
    """Write every version that the view's revision knows; returns how many lines that were.

    Args:
        view: What to write.
        path: Compressed with gzip if it ends in ``.gz``.
        progress: Called now and then.

    Raises:
        ChronoMapTypeError: If a key or value would not come back as it is; the old file is untouched.
        ChronoMapValueError: If a compressed file would be too large to be read again.
    """
    changes = [(entry, key) for key, entries, _ in known(view) for entry in entries]
    changes.sort(key=lambda change: change[0].revision)  # stable: keys as they first appeared
    written = 0
    with replacing(path) as file, _packing(file, path) as out:
        for index, (entry, key) in enumerate(changes):
            if progress is not None and index % STEP == 0 and index:
                progress(index, len(changes))
            text = _line(entry, key, view.store.ledger.meta_of(entry.revision)).encode("ascii")
            written += len(text)
            if out is not file and written > LIMIT:
                raise ChronoMapValueError(f"more than {LIMIT} bytes; write to a name that does not end in .gz")
            out.write(text)
    if progress is not None:
        progress(len(changes), len(changes))
    return len(changes)


def _line(entry: Entry, key: Any, meta: dict[str, Any]) -> str:
    value = bare(entry.value)  # encoding it copies it
    check(key, lambda: f"the key {shown(key)}")
    members = {"commit": entry.revision, "timestamp": _shortest(entry.timestamp), "key": encode(key)}
    if value is MISSING or value is CANCELLED:
        members["value"] = None
        if value is CANCELLED:
            members["cancel"] = True
    else:
        check(value, lambda: f"the value of key {shown(key)} at timestamp {entry.timestamp}")
        members["value"] = NONE if value is None else encode(value)
        if entry.expires_at != NEVER:
            members["expires_at"] = _shortest(entry.expires_at)
    if meta:
        members["meta"] = meta
    return line(members) + "\n"


def _shortest(seconds: float) -> float:
    return int(seconds) if seconds.is_integer() and abs(seconds) < EXACT else seconds


@contextmanager
def _packing(file: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    if path.suffix != ".gz":
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:  # same content, same bytes
        yield packed  # type: ignore[misc]


def read_changes(path: Path, progress: Progress | None = None) -> Iterator[list[Line]]:
    """The changes of a file, one list per commit, in order.

    The whole file is read and checked when the first is asked for: if anything in it is wrong, nothing comes.

    Raises:
        ChronoMapValueError: Naming the line.
    """
    commits = _read(path, progress)
    yield from commits


def _read(path: Path, progress: Progress | None) -> list[list[Line]]:
    commits: list[list[Line]] = []
    newest, index = -1, 0
    written: set[tuple[Any, float]] = set()
    for index, text in enumerate(_texts(path), 1):
        try:
            commit, change = _change(text)
            if commit != newest:
                written.clear()
            repeated = (change.key, change.timestamp) in written
        except (ChronoMapValueError, TypeError) as error:  # TypeError: the key cannot be hashed
            raise ChronoMapValueError(f"{path}, line {index}: {error}") from error
        if commit < newest:
            raise ChronoMapValueError(f"{path}, line {index}: commit {commit} after commit {newest}")
        if repeated:
            raise ChronoMapValueError(
                f"{path}, line {index}: key {shown(change.key)} is there twice in one commit at one timestamp"
            )
        if commit == newest and change.meta != commits[-1][0].meta:
            raise ChronoMapValueError(f"{path}, line {index}: another meta than the commit's first line has")
        if commit > newest:
            newest = commit
            commits.append([])
        written.add((change.key, change.timestamp))
        commits[-1].append(change)
        if progress is not None and index % STEP == 0:
            progress(index, None)
    if progress is not None:
        progress(index, index)
    return commits


def _texts(path: Path) -> Iterator[bytes]:
    """The lines of the file, unpacked."""
    with path.open("rb") as file:
        if path.suffix != ".gz":
            yield from file
            return
        try:
            with gzip.GzipFile(fileobj=file, mode="rb") as packed:
                left = LIMIT
                while text := packed.readline(left + 1):
                    left -= len(text)
                    if left < 0:
                        raise ChronoMapValueError(f"{path}: it unpacks to more than {LIMIT} bytes")
                    yield text
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ChronoMapValueError(f"{path}: not a whole gzip file: {error}") from error


def _change(text: bytes) -> tuple[int, Line]:
    members = parse(text)
    if type(members) is not dict or not members.keys() >= REQUIRED or not members.keys() <= MEMBERS:
        raise ChronoMapValueError(f"not an object with {sorted(REQUIRED)} and at most {sorted(MEMBERS - REQUIRED)} besides")
    commit = whole(members["commit"], "commit", 0)
    timestamp = number(members["timestamp"], "timestamp")
    encoded, cancel, until = members["value"], members.get("cancel", False), members.get("expires_at")
    if type(cancel) is not bool or ("expires_at" in members and until is None):
        raise ChronoMapValueError("cancel is true or false, expires_at a number")
    expires_at = NEVER if until is None else number(until, "expires_at")
    if encoded is None:
        if expires_at != NEVER:
            raise ChronoMapValueError("what is deleted does not expire")
        value = CANCELLED if cancel else MISSING
    elif cancel:
        raise ChronoMapValueError("what is called off has no value")
    else:
        value = None if encoded == NONE else decode(encoded)
    try:
        meta = checked(members["meta"]) if "meta" in members else NOTHING
    except ChronoMapTypeError as error:
        raise ChronoMapValueError(str(error)) from error
    return commit, Line(decode(members["key"]), value, timestamp, expires_at, meta)
