"""Which commits a block of code made, whatever else goes on: the bookkeeping behind ``snapshot_context``.

A block is found through a context variable, so the tasks it starts belong to it, and other tasks and threads do not.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from chronomap.core.records import Commit

if TYPE_CHECKING:
    from chronomap.runtime.owner import Owner


class Block:
    """One running ``snapshot_context`` and the revisions it has committed."""

    def __init__(self, owner: Owner, outer: Block | None) -> None:
        self.owner = owner
        self.outer = outer
        self.revisions: set[int] = set()
        self.active = True


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
