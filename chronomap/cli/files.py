"""Files of all kinds: what is in them is told by looking, and what shall be in them by their ending."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chronomap import ChronoMap
from chronomap.cli.words import BadInput, Map, progress_bar, reported

ENDINGS = ".json, .pkl, .pickle (saved maps), .jsonl, .jsonl.gz (change lines)"
SQLITE = b"SQLite format 3\0"


def kind_of(path: str) -> str:
    """What a file is: "disk" (a map on disk), whatever its name; "json", "pickle" or "lines", by the ending, or else by sight.

    Standard input and output (``-``) carry change lines. What is not there is what its ending says.

    Never ask of a map that this process has open: on POSIX, closing any descriptor of a file gives up the locks on it.
    """
    head = _head(path)
    if head.startswith(SQLITE):
        return "disk"
    kind = by_ending(path)
    if kind is None and head:
        kind = _at_sight(head)
    if kind is not None:
        return kind
    insist_on(path)
    if not head and Path(path).is_file():
        return "disk"  # which says what is wrong with an empty file
    raise BadInput(
        f"cannot tell what {path} holds: it is no map on disk (if it was one, see chronomap verify); name others {ENDINGS}"
    )


def insist_on(path: str) -> None:
    """Refuse a file that is not there."""
    if path != "-" and not Path(path).exists():
        raise BadInput(f"{path}: No such file or directory")
    if Path(path).is_dir():
        raise BadInput(f"{path or repr(path)} is a directory; give the name of a file in it")


def by_ending(path: str) -> str | None:
    """json, pickle or lines; None if the name does not say."""
    name = path.lower()
    if path == "-" or name.endswith((".jsonl", ".jsonl.gz")):
        return "lines"
    if name.endswith(".json"):
        return "json"
    if name.endswith((".pkl", ".pickle")):
        return "pickle"
    return None


def _head(path: str) -> bytes:
    try:
        if path == "-" or not Path(path).is_file():
            return b""
        with Path(path).open("rb") as file:
            return file.read(len(SQLITE))
    except (OSError, ValueError):  # told when the file is opened
        return b""


def _at_sight(head: bytes) -> str | None:
    if head.startswith((b"\x80", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")):  # of pickle, and of zlib
        return "pickle"
    text = head.lstrip()
    return "lines" if text.startswith(b'{"commit"') else "json" if text.startswith(b"{") else None


def on_disk(path: str) -> None:
    """Refuse what is not a map on disk.

    Raises:
        BadInput: Also says how to make one of it.
    """
    insist_on(path)
    if (kind := kind_of(path)) != "disk":
        what = "change lines" if kind == "lines" else "a saved map"
        raise BadInput(f"{path} is {what}; make a map on disk of it with: chronomap import NEW.chrono {path}")


def load(path: str, *, bar: bool = False) -> Map:
    """The map that a file holds, to be read, and to be closed."""
    kind = kind_of(path)
    with reported(path):
        if kind == "disk":
            from chronomap.cli import journals  # noqa: PLC0415 - needs the extras of maps on disk

            return journals.read(path, bar=bar)
        if kind == "json":
            return ChronoMap.load_json(path)
        if kind == "pickle":
            return ChronoMap.load_pickle(path)
        cm: Map = ChronoMap()
        add_lines(cm, path, bar=bar)
        return cm


def add_lines(cm: Map, path: str, *, bar: bool) -> int:
    """Commit the changes of a file of change lines (``-``: standard input)."""
    with reported(path), _spooled(path) as source, progress_bar("reading", shown_if=bar) as progress:
        return cm.import_changes(source, progress=progress)


def saved_kind(path: str) -> str:
    """What a file that is to be written shall be.

    Raises:
        BadInput: If it is, or would be, a map on disk: those are not saved to.
    """
    if _head(path).startswith(SQLITE):
        raise BadInput(f"{path} is a map on disk, which nothing is saved over; give another name")
    if (kind := by_ending(path)) is None:
        raise BadInput(f"what is written is named {ENDINGS}, not {path}; to make a map on disk: chronomap import {path} FILE")
    return kind


def save(cm: Map, path: str, *, bar: bool = False) -> None:
    """Write a map to a file of the kind its name says (``-``: change lines to standard output)."""
    kind = saved_kind(path)
    with reported(path):
        if kind == "json":
            cm.save_json(path)
        elif kind == "pickle":
            cm.save_pickle(path)
        elif path == "-":
            with tempfile.TemporaryDirectory() as scratch:
                lines = Path(scratch, "out.jsonl")
                cm.export_changes(lines)
                with lines.open(encoding="utf-8") as source:
                    shutil.copyfileobj(source, sys.stdout)
        else:
            with progress_bar("writing", shown_if=bar) as progress:
                cm.export_changes(path, progress=progress)


@contextmanager
def _spooled(path: str) -> Iterator[str]:
    if path != "-":
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        lines = Path(scratch, "in.jsonl")
        with lines.open("wb") as target:
            shutil.copyfileobj(sys.stdin.buffer, target)
        yield str(lines)


@contextmanager
def contents(path: str) -> Iterator[Map]:
    """All that a file holds, as it stands: nothing that is due is committed."""
    kind = kind_of(path)
    if kind in ("json", "pickle"):
        with reported(path):
            cm: Map = (ChronoMap.load_json if kind == "json" else ChronoMap.load_pickle)(path, clock=_stopped())
    else:
        cm = load(path, bar=True)
    with cm:
        yield cm


def _stopped() -> Callable[[], float]:
    """A clock that tells the time once, for the loading; then the map stays at the instant of its newest commit."""
    present = iter([time.time()])
    return lambda: next(present, float("-inf"))
