"""What a user types and reads: keys, values, moments, complaints, and how far something is."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from chronomap import ChronoMap, ChronoMapError, Snapshot

Map = ChronoMap[Any, Any]


class BadInput(Exception):  # noqa: N818 - it is the user's input that is bad
    """What the user gave cannot be used; the message says what to do."""


class Nothing(Exception):  # noqa: N818 - an answer, not a failure
    """There is nothing to show."""


class Moment(NamedTuple):
    """An instant or a revision; the other is None. Both are for now."""

    timestamp: float | None
    revision: int | None


def moment(text: str) -> Moment:
    """``rN``, seconds since the epoch, ISO 8601 text, or ``now``."""
    if text == "now":
        return Moment(None, None)
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
            f"{text!r} is no moment: write ISO 8601 (2025-10-21T12:00:00Z), epoch seconds, rN for a revision, or now"
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
        text = json.dumps(value, ensure_ascii=False, default=_plain)
        return text if text.isprintable() else json.dumps(value, default=_plain)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(repr(value))


def _plain(value: Any) -> Any:
    """What stands for a value that JSON cannot say: what it is in its file, if its class is not known here."""
    plain = getattr(value, "plain", None)
    return repr(value) if plain is None else plain()


def shown(value: Any) -> str:
    """A key, or a value on its own line: text as it is unless it would garble the output, all else as JSON."""
    if not isinstance(value, str):
        return as_json(value)
    return value if value.isprintable() else json.dumps(value)


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
def progress_bar(what: str, *, shown_if: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """Something to call with (done, total) that draws on standard error, or None if that is no terminal."""
    if not shown_if or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
