"""Marks on commands that tell the runtime how they may be carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def only_reads(command: F) -> F:
    """Mark a command that commits nothing: where commits wait for a journal, this one need not."""
    command.only_reads = True  # type: ignore[attr-defined]
    return command
