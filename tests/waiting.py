"""Waiting for what another task or thread does, without sleeping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio
import anyio.lowlevel

LONG: Final = 10.0
"""Seconds after which something that should have happened at once has not happened."""


async def until(condition: Callable[[], object]) -> None:
    """Let others run until something is so."""
    with anyio.fail_after(LONG):
        while not condition():
            await anyio.lowlevel.checkpoint()
