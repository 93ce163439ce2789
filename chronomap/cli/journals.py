"""Maps on disk as the commands use them: read beside whoever has them open, owned, followed, copied, and made from other maps.

It is imported only when a file turns out to be such a map, since it needs the extra ``chronomap[durable]``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from chronomap import Change, ChronoMap, FutureRevisionError, LaggedError, TolerantCodec, backup, describe
from chronomap import follow as follow_file
from chronomap.cli.words import BadInput, Map, progress_bar, reported


def read(path: str, *, bar: bool = False) -> Map:
    """The map in a file as it is now, not to be written to; whoever has it open goes on."""
    with progress_bar("reading", shown_if=bar) as progress:
        return ChronoMap.open(path, read_only=True, codec=TolerantCodec(), progress=progress)


def own(path: str, *, create: bool = False, at_once: bool = False) -> Map:
    """The map in a file, to be written to by this process alone; ``at_once``: all is safe when it is closed, not before."""
    with progress_bar("reading", shown_if=True) as progress:
        durability: Literal["full", "normal"] = "normal" if at_once else "full"
        return ChronoMap.open(path, codec=TolerantCodec(), create=create, durability=durability, progress=progress)


def numbers(path: str) -> dict[str, Any]:
    """What there is to say of a file beside what is in the map."""
    found = describe(path)
    return {"bytes": found.bytes, "format": found.format, "codec": found.codec, "records": found.records}


def back_up(path: str, target: str) -> int:
    """Copy a file, also while somebody writes to it; returns the copy's revision."""
    with progress_bar("copying", shown_if=True) as progress:
        return backup(path, target, progress=progress)


def follow(path: str, since: int | None, timeout: float | None) -> Generator[Change[Any, Any]]:
    """The changes after a revision (default: from now on), whoever commits them; see ``chronomap.follow``."""
    try:
        yield from follow_file(path, since, timeout, codec=TolerantCodec())
    except FutureRevisionError as error:
        raise BadInput(str(error)) from None
    except LaggedError as error:
        raise BadInput(f"some changes after r{error.since} have been compacted; --since {error.oldest} is whole") from None


def make(path: str, cm: Map, source: str) -> None:
    """Make a map on disk that is an exact copy of the map in another file."""
    with reported(source), progress_bar("writing", shown_if=True) as progress:
        cm.save_journal(path, codec=TolerantCodec(), progress=progress)
