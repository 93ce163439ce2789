"""Care of a journal, in steps between groups: what the writer's thread does beside writing.

Each is a generator that the writer advances by one step after each group; its return value is the reply.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from chronomap.errors import ChronoMapError
from chronomap.runtime.journaling import JournalOwner

Steps = Generator[None, None, Any]
F = TypeVar("F", bound=Callable[..., Steps])


def chore(work: F) -> F:
    """Mark a command that is done in steps."""
    work.is_chore = True  # type: ignore[attr-defined]
    return work


def _able(owner: JournalOwner, what: str) -> Any:
    journal: Any = owner.journal
    if not hasattr(journal, what):
        raise ChronoMapError(f"{type(journal).__name__} has no {what}(): it keeps no file")
    return getattr(journal, what)


@chore
def compact(owner: JournalOwner, revision: int) -> Steps:
    """Forget the log up to a revision, but for what versions need."""
    owner.cut()
    while _able(owner, "compact")(revision):
        yield


@chore
def vacuum(owner: JournalOwner) -> Steps:
    """Write the file anew."""
    yield  # a step of its own
    _able(owner, "vacuum")()


@chore
def backup(owner: JournalOwner, path: str | os.PathLike[str], progress: Callable[[int, int], None] | None) -> Steps:
    """Copy the file; the reply is the revision of the copy."""
    copying = _able(owner, "backup")(path)
    revision = owner.journal.revision
    try:
        for done, total in copying:
            revision = owner.journal.revision  # now, since groups that come after the last step are not in the copy
            if progress is not None:
                progress(done, total)
            yield
    finally:
        copying.close()
    return revision
