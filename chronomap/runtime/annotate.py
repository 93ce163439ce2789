"""``meta(...)``: what the commits of a block of code are to be kept with, whoever makes them.

A context variable carries it, so it reaches the tasks that the block starts and what it calls in worker threads through
anyio or ``asyncio.to_thread``, and no other task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final

from chronomap.core.meta import NOTHING, Meta, Plain, checked, joined

current: Final[ContextVar[Meta]] = ContextVar("chronomap_meta", default=NOTHING)

used = False
"""Whether there has ever been a block: until then nobody need look for one."""


@contextmanager
def meta(**entries: Plain) -> Iterator[None]:
    """Keep every commit of a block with some entries, such as author and reason.

    For example ``with chronomap.meta(author="ann"): await cm.put("k", 1)``. They are found in ``Change.meta`` and
    ``Version.meta``. Blocks may be nested; the inner one's entries count, and those given with a call
    (``put(…, meta={…})``) count before both. Works in async functions too, with a plain ``with``.

    Raises:
        ChronoMapTypeError: If a value is not text, a number, a boolean or None.
        ChronoMapValueError: If they are larger than 4,096 characters together.
    """
    global used  # noqa: PLW0603
    used = True
    token = current.set(joined(current.get(), checked(entries)))
    try:
        yield
    finally:
        with suppress(ValueError):  # it is left in another context than it was entered in, which cannot be reset from there
            current.reset(token)


def said(given: Mapping[str, Plain] | None) -> Meta:
    """What a call is to be kept with, all in all."""
    return current.get() if given is None else joined(current.get(), checked(given))
