"""Maps that are kept in a journal in memory, made like any other: to run tests of ordinary maps with."""

from __future__ import annotations

from typing import Any

from chronomap import AsyncChronoMap, ChronoMap
from chronomap.face import K, V
from chronomap.journal import MemoryJournal
from chronomap.runtime.opening import Opening

made: list[Any] = []
"""The owners of those maps, for whoever closes them in the end."""


def adopt(cm: Any, debug: bool, options: dict[str, Any]) -> None:
    """What ``open`` does."""
    owner = Opening(MemoryJournal(), **options).open()
    made.append(owner)
    cm._adopt(owner, options.get("isolation", "copy"), debug=debug)


class JournalMap(ChronoMap[K, V]):
    """``ChronoMap(...)``, on a journal."""

    def __init__(self, debug: bool = False, use_rwlock: bool | None = None, **options: Any) -> None:
        adopt(self, debug, options)
        self._begin()


class AsyncJournalMap(AsyncChronoMap[K, V]):
    """``AsyncChronoMap(...)``, on a journal, without waiting for anything."""

    def __init__(self, debug: bool = False, **options: Any) -> None:
        adopt(self, debug, options)
        self._serve()


def close_all() -> None:
    """Close what has been made."""
    while made:
        owner = made.pop()
        owner.close()
        owner.ended()
