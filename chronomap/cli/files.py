"""What the commands read and write: files by their ending, keys, values and moments as a user types them."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from chronomap import ChronoMap, ChronoMapError, Snapshot

Map = ChronoMap[Any, Any]

ENDINGS = ".json, .pkl, .pickle (saved maps), .jsonl, .jsonl.gz (change lines)"


class BadInput(Exception):  # noqa: N818 - it is the user's input that is bad
    """What the user gave cannot be used; the message says what to do."""


class Nothing(Exception):  # noqa: N818 - an answer, not a failure
    """There is nothing to show."""


class Moment(NamedTuple):
    """An instant or a revision; the other is None."""

    timestamp: float | None
    revision: int | None


def moment(text: str) -> Moment:
    """``rN``, seconds since the epoch, or ISO 8601 text."""
    if re.fullmatch(r"r\d+", text, re.ASCII):
        return Moment(None, int(text[1:]))
    return Moment(instant(text), None)


def instant(text: str) -> float:
    """Seconds since the epoch, or ISO 8601 text (UTC if it names no offset)."""
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not re.fullmatch(r"\d{8}", text):  # 20251021 is a date: basic ISO 8601
            return number
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{text!r} is no moment: write ISO 8601 (2025-10-21T12:00:00Z), epoch seconds, or rN for a revision"
        ) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def iso(timestamp: float) -> str:
    """A timestamp for people; the number itself if no calendar has it."""
    try:
        return datetime.fromtimestamp(timestamp, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return repr(timestamp)


def pin(cm: Map, when: str) -> Snapshot[Any, Any]:
    """The map at a moment."""
    timestamp, revision = moment(when)
    return cm.at(timestamp, revision=revision)


def value_of(text: str) -> Any:
    """JSON, or else the text itself; nothing is evaluated."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def key_of(text: str, *, as_json: bool = False) -> Any:
    """The text, or what it means as JSON (a list stands for a tuple)."""
    if not as_json:
        return text
    try:
        return _tuples(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError):
        raise BadInput(f'the key {text!r} is not JSON; write text as "text" with --json-key') from None


def _tuples(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_tuples(part) for part in plain)
    if isinstance(plain, dict):
        raise BadInput("an object cannot be a key; use text, a number, or a list of them")
    return plain


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def as_json(value: Any) -> str:
    """One line of JSON; what JSON cannot say appears as its repr."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
        return text if text.isprintable() else json.dumps(value, default=repr)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(repr(value))


def shown(value: Any) -> str:
    """A key, or a value on its own line: text as it is unless it would garble the output, all else as JSON."""
    if not isinstance(value, str):
        return as_json(value)
    return value if value.isprintable() else json.dumps(value)


# -- files -------------------------------------------------------------------------------------------------------------


def kind_of(path: str) -> str:
    """json, pickle or lines, by the ending; standard input and output carry change lines."""
    name = path.lower()
    if path == "-" or name.endswith((".jsonl", ".jsonl.gz")):
        return "lines"
    if name.endswith(".json"):
        return "json"
    if name.endswith((".pkl", ".pickle")):
        return "pickle"
    raise BadInput(f"cannot tell what {path} holds; name it {ENDINGS}")


def load(path: str, *, bar: bool = False) -> Map:
    """The map that a file holds."""
    kind = kind_of(path)
    with reported(path):
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


def save(cm: Map, path: str, *, bar: bool = False) -> None:
    """Write a map to a file of the kind its name says (``-``: change lines to standard output)."""
    kind = kind_of(path)
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
def reported(path: str) -> Iterator[None]:
    """Say which file it was that could not be used."""
    try:
        yield
    except (BrokenPipeError, BadInput):
        raise
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    except (ChronoMapError, ValueError, EOFError) as error:
        message = str(error)
        raise BadInput(message if path in message else f"{path}: {message}") from error


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
def progress_bar(what: str, *, shown_if: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """Something to call with (done, total) that draws on standard error, or None if that is no terminal."""
    if not shown_if or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
