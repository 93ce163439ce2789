"""A journal whose disk can be held up, so that tests decide what happens while a group is on its way, and ways to wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from waiting import LONG

from chronomap import ChronoMap
from chronomap.core.change import PlainCommit
from chronomap.journal import MemoryJournal


class SlowJournal(MemoryJournal):
    """While it is held, a group waits on its way to the disk.

    Attributes:
        busy: A group is waiting.
        breaks: What is raised instead of appending, once.
        groups: How large the groups were.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.busy = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self.breaks: BaseException | None = None
        self.groups: list[int] = []

    def hold(self) -> None:
        """Let the next group wait."""
        self.busy.clear()
        self._go.clear()

    def release(self) -> None:
        """Let it go on."""
        self._go.set()

    def append(self, group: Sequence[PlainCommit]) -> None:
        """Wait, then append."""
        self.groups.append(len(group))
        if not self._go.is_set():
            self.busy.set()
            assert self._go.wait(LONG)
        if (error := self.breaks) is not None:
            self.breaks = None
            raise error
        super().append(group)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Start something that may have to wait."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ended(*threads: threading.Thread) -> None:
    """Join, and do not wait for ever."""
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive(), "it hangs"


def reopened(journal: MemoryJournal) -> ChronoMap[Any, Any]:
    """The map again, as another process would find it."""
    return ChronoMap.open(MemoryJournal(journal.shelf))
