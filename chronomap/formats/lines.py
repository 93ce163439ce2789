"""Change lines: history as JSON Lines, one line a change, plain or gzip.

::

    {"commit": 7, "timestamp": 1536414764, "key": "README.rst", "value": {"size": 100}}
    {"commit": 8, "timestamp": 1536414770, "key": "README.rst", "value": null}

Lines with the same commit number belong together. A null value is a delete; None as a value is ``{"$type": "None"}``.
A version that expires has "expires_at"; a scheduled one that was called off is followed by a line with "cancel": true.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from chronomap.core.records import CANCELLED, NEVER, Entry
from chronomap.core.timestamps import seconds
from chronomap.core.values import MISSING, release
from chronomap.core.view import View
from chronomap.errors import ChronoMapTypeError, ChronoMapValueError
from chronomap.formats.atomic import replacing
from chronomap.formats.tagged import decode, encode

Progress = Callable[[int, int | None], None]
"""``progress(done, total)`` in lines; the total is None while it is not known."""

EVERY: Final = 1000
"""Lines between two calls of a progress callback."""

NONE: Final = {"$type": "None"}


class Line(NamedTuple):
    """One change read from a file; ``value`` is MISSING for a delete and CANCELLED for a cancellation."""

    key: Any
    value: Any
    timestamp: float
    expires_at: float


def export_changes(view: View, path: Path, progress: Progress | None = None) -> int:
    """Write the history of a view, in revision order; returns the number of lines."""
    found = [
        (entry.revision, entry, key)
        for key in list(view.store.timelines)
        if (timeline := view.timeline(key)) is not None
        for entry in timeline.entries(view.revision)
    ]
    found.sort(key=lambda change: change[0])
    lines = []
    for done, (_, entry, key) in enumerate(found, 1):
        lines.append(json.dumps(_fields(key, entry), allow_nan=False, separators=(",", ":")) + "\n")
        if progress is not None and (done % EVERY == 0 or done == len(found)):
            progress(done, len(found))
    with replacing(path) as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                packed.write("".join(lines).encode("ascii"))
        else:
            file.write("".join(lines).encode("ascii"))
    return len(lines)


def _fields(key: Any, entry: Entry) -> dict[str, Any]:
    whole = entry.timestamp.is_integer() and abs(entry.timestamp) < 2**53
    fields: dict[str, Any] = {
        "commit": entry.revision,
        "timestamp": int(entry.timestamp) if whole else entry.timestamp,
        "key": encode(key, f"the key {key!r}"),
        "value": None,
    }
    if entry.value is CANCELLED:
        fields["cancel"] = True
    elif entry.value is not MISSING:
        value = release(entry.value)
        fields["value"] = NONE if value is None else encode(value, f"the value of key {key!r}")
    if entry.expires_at != NEVER:
        fields["expires_at"] = entry.expires_at
    return fields


def read_changes(path: Path, progress: Progress | None = None) -> Iterator[list[Line]]:
    """The commits of such a file, each a list of lines. The whole file is read and checked before the first is given.

    Raises:
        ChronoMapValueError: If anything in it is wrong; the message has the line number.
    """
    commits: list[list[Line]] = []
    newest: int | None = None
    done = 0
    with path.open("rb") as file:
        packed: BinaryIO = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file  # type: ignore[assignment]
        try:
            for done, text in enumerate(packed, 1):
                commit, line = _parse(text, path, done)
                if newest is not None and commit < newest:
                    raise ChronoMapValueError(f"{path}, line {done}: commit {commit} comes after commit {newest}")
                if commit != newest:
                    commits.append([])
                newest = commit
                commits[-1].append(line)
                if progress is not None and done % EVERY == 0:
                    progress(done, None)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ChronoMapValueError(f"{path}, after line {done}: the compressed data is damaged: {error}") from None
    if progress is not None:
        progress(done, done)
    return iter(commits)


def _value(written: Any) -> Any:
    if written is None:
        return MISSING
    return None if written == NONE else decode(written)


def _parse(text: bytes, path: Path, number: int) -> tuple[int, Line]:
    where = f"{path}, line {number}"
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ChronoMapValueError(f"{where}: not JSON: {error}") from None
    if not isinstance(fields, dict) or not fields.keys() >= {"commit", "timestamp", "key", "value"}:
        raise ChronoMapValueError(f'{where}: a change has "commit", "timestamp", "key" and "value"')
    if unknown := fields.keys() - {"commit", "timestamp", "key", "value", "expires_at", "cancel"}:
        raise ChronoMapValueError(f"{where}: unknown fields: {', '.join(sorted(unknown))}")
    commit = fields["commit"]
    if isinstance(commit, bool) or not isinstance(commit, int) or commit < 1:
        raise ChronoMapValueError(f"{where}: a commit is a number from 1 on, not {commit!r}")
    try:
        timestamp = seconds(fields["timestamp"])
        expires_at = seconds(fields["expires_at"]) if "expires_at" in fields else NEVER
        key = decode(fields["key"])
        hash(key)
        value = CANCELLED if fields.get("cancel") else _value(fields["value"])
    except (ChronoMapValueError, ChronoMapTypeError, TypeError) as error:
        raise ChronoMapValueError(f"{where}: {error}") from None
    return commit, Line(key, value, timestamp, expires_at)
