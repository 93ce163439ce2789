"""Which commits a block of code made, whatever else goes on: the bookkeeping behind ``snapshot_context``.

A block is found through a context variable, so the tasks it starts belong to it, and other tasks and threads do not.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from chronomap.core.records import Commit

if TYPE_CHECKING:
    from chronomap.runtime.owner import Owner

log = logging.getLogger("chronomap")


class Block:
    """One running ``snapshot_context`` and the revisions it has committed. It begins when it is made."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.outer = current.get()
        self.revisions: set[int] = set()
        self.active = True
        self._token = current.set(self)
        owner.blocks += 1
        owner.observed = True
        owner.store.snapshots += 1

    def end(self) -> None:
        """Note nothing more."""
        self.active = False
        self.owner.blocks -= 1
        self.owner.look_again()
        with suppress(ValueError):  # it is left in another context than it was entered in, which cannot be reset from there
            current.reset(self._token)

    def not_undone(self, failure: Exception, error: BaseException) -> None:
        """Raise why the block could not be undone; but a cancellation or interrupt that ended it goes on, with a note."""
        if isinstance(error, Exception):
            raise failure from error
        error.add_note(f"what the block wrote has not been undone: {failure}")
        log.error("a snapshot_context ended by %s has not been undone: %s", type(error).__name__, failure)


current: ContextVar[Block | None] = ContextVar("chronomap_block", default=None)


def note(owner: Owner, commit: Commit) -> None:
    """Note a commit for every block of that map around the caller; what fell due meanwhile is nobody's."""
    if commit.records[0].kind in ("expire", "activate"):
        return
    block = current.get()
    while block is not None:
        if block.owner is owner and block.active:
            block.revisions.add(commit.revision)
        block = block.outer
