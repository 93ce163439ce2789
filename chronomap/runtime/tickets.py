"""Tickets: what a task sleeps on until somebody wakes it, on its own event loop.

On asyncio a ticket is a future, but not one of asyncio's. Those ask the loop for a callback each, which then has its task take
the next step; where a hundred are woken together, that is most of what waking costs. ``wake_all`` is one callback, in which
all of the tasks take their steps one after the other, just as the loop would have them do it.

A ticket may be used again once its task is awake. If it is rung before it is awaited, that wait ends at once.

Do not: ring a ticket, or await it, anywhere but on its own loop.
"""

from __future__ import annotations

from asyncio import current_task
from collections.abc import Callable, Generator, Iterable
from contextvars import Context
from typing import Any


class FutureTicket:
    """A ticket of asyncio: of what a future can do, as much as a task needs of one that it awaits.

    Asyncio takes what has ``_asyncio_future_blocking`` for a future (see ``asyncio.isfuture``): a task to which that is
    handed, and true, leaves a callback there; called back, it asks for the ``result``.

    Attributes:
        sleeper: The callback of the task that sleeps; None: nobody does.
        rung: Whether it has been rung while nobody slept.
    """

    __slots__ = ("_asyncio_future_blocking", "_context", "_loop", "rung", "sleeper")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self.sleeper: Callable[[Any], object] | None = None
        self.rung = False

    def __await__(self) -> Generator[Any, None, None]:
        if self.rung:
            self.rung = False
            return iter(())  # type: ignore[return-value]  # nobody asks more of it than to be iterated
        self._asyncio_future_blocking = True
        return iter((self,))  # type: ignore[return-value]

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> None:
        """A task begins to sleep."""
        self.sleeper = callback
        self._context = context

    def cancel(self, msg: Any = None) -> bool:  # noqa: ARG002 - the task remembers it
        """The task that sleeps is being cancelled: have it wake, and see to the rest itself."""
        if self.sleeper is not None:
            self.ring()
        return False

    result = [].clear
    """What the sleep brought: None, by the shortest way there is to that."""

    def done(self) -> bool:
        """Whether nobody sleeps; anyio's ``wait_all_tasks_blocked`` asks."""
        return self.sleeper is None

    def ring(self) -> None:
        """End the wait at the loop's next turn."""
        if (sleeper := self.sleeper) is None:
            self.rung = True
        else:
            self.sleeper = None
            self._loop.call_soon(sleeper, self, context=self._context)


def wake_all(tickets: Iterable[FutureTicket], loop: Any) -> None:
    """End the waits of some tickets: here and now in a callback of their loop, at its next turn if called by a task."""
    tickets = iter(tickets)
    try:
        if current_task(loop) is None:
            for ticket in tickets:
                if (sleeper := ticket.sleeper) is None:
                    ticket.rung = True
                else:
                    ticket.sleeper = None
                    ticket._context.run(sleeper, ticket)
    finally:  # a task that exits ends the loop from here; what the others do is none of its business
        for ticket in tickets:
            ticket.ring()


class TrioTicket:
    """A ticket of trio.

    Attributes:
        sleeper: The task that sleeps; None: nobody does.
        rung: Whether it has been rung while nobody slept.
    """

    sleeper: Any = None
    rung = False

    def ring(self) -> None:
        """End the wait."""
        if (sleeper := self.sleeper) is None:
            self.rung = True
        else:
            import trio  # noqa: PLC0415 - only where trio is what runs

            self.sleeper = None
            trio.lowlevel.reschedule(sleeper)

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        import trio  # noqa: PLC0415

        if self.rung:
            self.rung = False
            return

        def abort(_: object) -> Any:
            self.sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self.sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
