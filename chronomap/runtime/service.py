"""The owner task: what an async map does on its own event loop when nobody is calling it.

It wakes for the next deadline and has what is due committed, and it calls the async callbacks that no caller awaits: of
what fell due, of those who wrote from a thread, and of those who were cancelled. It is started on the loop that first needs
it and ends with that loop; a map that outlives its loop starts another on the next.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Sequence
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, Final

import anyio
import anyio.lowlevel

from chronomap.core.records import NEVER, Commit
from chronomap.errors import ChronoMapError, ClosedError, JournalError
from chronomap.runtime.hooks import Pending
from chronomap.runtime.owner import Owner
from chronomap.runtime.ports import Port, TaskBell, ThreadBell
from chronomap.runtime.reaper import EXITED, reap

log = logging.getLogger("chronomap")

GRACE: Final = 5.0
"""Seconds that closing a map gives its async callbacks to end by themselves."""

inside: ContextVar[Service | None] = ContextVar("chronomap_service", default=None)
"""Whose async callbacks are running here."""


class Job:
    """Async callbacks that the owner task is to call.

    Attributes:
        context: The context variables they see.
        ended: Rung when they have been called, or never will be.
    """

    def __init__(self, pending: Pending, context: Context) -> None:
        self.pending = pending
        self.context = context
        self.ended = ThreadBell()

    async def run(self, service: Service) -> None:
        """Call them."""
        inside.set(service)
        try:
            await self.pending.run()
        except* SystemExit:
            log.exception(EXITED)
        finally:
            self.ended.ring()

    def drop(self, reason: str) -> None:
        """Say that they will not be called."""
        log.error("async change callbacks were not called: %s", reason)
        self.ended.ring()


class Shift:
    """The owner task on one event loop; made on that loop."""

    def __init__(self) -> None:
        self.port = Port()
        self.bell = TaskBell(self.port)
        self.scope = anyio.CancelScope()  # around all that it does
        self.ended = anyio.Event()
        self.task: Any = None


class Service:
    """The owner task of one map, on the loop of whoever used the map last when none was running."""

    def __init__(self, owner: Owner) -> None:
        self._owner = weakref.ref(owner, lambda _: self._ring())  # an unused map may go, and takes its task along
        self._jobs: deque[Job] = deque()
        self._shift: Shift | None = None
        self.port: Port | None = None

    def ensure(self) -> None:
        """Start the owner task unless it runs; call it on an event loop."""
        if self._shift is not None and self._shift.port.alive():
            return
        shift = Shift()
        self._shift, self.port = shift, shift.port
        shift.task = shift.port.start(partial(self._run, shift), "chronomap-owner")

    def _ring(self) -> bool:
        """Wake the owner task, if it runs. Any thread."""
        if (shift := self._shift) is None or not shift.port.alive():
            return False
        shift.bell.ring()
        return True

    def alarm(self) -> bool:
        """Look at the deadlines anew; False if there is no event loop yet to do it on. Any thread."""
        if self._ring():
            return True
        if Port.here() is None:
            return False
        self.ensure()
        return True

    def spawn(self, job: Job) -> None:
        """Have the owner task call some callbacks; call it on the map's loop."""
        if (owner := self._owner()) is None or owner.closed:
            job.drop("the map has been closed")
            return
        try:
            self.ensure()
        except RuntimeError as error:  # the loop is ending and takes no more tasks
            job.drop(str(error))
        else:
            self._jobs.append(job)
            self._ring()

    def before_blocking(self) -> None:
        """Refuse a blocking call that would wait for async callbacks on the very loop it blocks."""
        owner = self._owner()
        if owner is not None and owner.hooks.asynchronous and self.port is not None and self.port.leads_here():
            raise ChronoMapError(
                "a blocking call on the event loop's own thread would wait for async callbacks that need this loop: "
                "await the AsyncChronoMap instead, or call the bridge in a worker thread (anyio.to_thread.run_sync)"
            )

    def finish_from_thread(self, commits: Sequence[Commit]) -> None:
        """Have the async callbacks for commits made without awaiting called on the loop; a thread waits for them."""
        owner, port = self._owner(), self.port
        if owner is None or not (pending := owner.hooks.pending(commits)):
            return
        if port is None:
            log.error("async change callbacks were not called: the map has not been used on an event loop yet")
            return
        job = Job(pending, copy_context())
        if port.leads_here():
            self.spawn(job)
            return
        if not port.post(partial(self.spawn, job)):
            log.error("async change callbacks were not called: their event loop has ended")
            return
        while not job.ended.wait(0.2):
            if not port.running() or self._shift is None:
                log.error("async change callbacks were cut short: their event loop has ended")
                return

    async def _run(self, shift: Shift) -> None:
        try:
            with shift.scope:
                async with anyio.create_task_group() as tasks:
                    while (owner := self._owner()) is not None and not owner.closed:
                        while self._jobs:
                            job = self._jobs.popleft()
                            job.context.run(tasks.start_soon, job.run, self)
                        nap = owner.nap() if owner.failure is None else None
                        if nap == 0:
                            await self._reap(owner)
                            continue
                        del owner
                        await shift.bell.wait(nap)
        finally:
            if self._shift is shift:
                self._shift = None
                owner = self._owner()
                reason = "their event loop is ending" if owner is not None and not owner.closed else "the map has been closed"
                while self._jobs:
                    self._jobs.popleft().drop(reason)
                if owner is not None:
                    owner.alarm_due = NEVER  # whoever needs a deadline next starts another owner task
            shift.ended.set()

    async def _reap(self, owner: Owner) -> None:
        if not owner.store.gathers:
            reap(owner)
            await anyio.lowlevel.checkpoint()
            return
        command = await owner.wait(owner.store.begin)  # the disk is not waited for on the loop itself
        if command.error is not None:
            if not isinstance(command.error, ClosedError | JournalError):
                log.error("the reaper could not commit what is due", exc_info=command.error)
                owner.store.deadlines.next_due = NEVER
            return
        try:
            if command.commits:
                owner.announce(command.commits)
        except SystemExit:
            log.exception(EXITED)
        if pending := owner.hooks.pending(command.commits):
            self._jobs.append(Job(pending, copy_context()))

    async def stop(self) -> None:
        """Wait for the owner task to end, after the owner has been closed; one of its own callbacks cannot wait for it.

        Callbacks that go on for longer than ``GRACE`` are cancelled.

        Cancellation: so they are then.
        """
        shift = self._shift
        if shift is None or inside.get() is self or not shift.port.leads_here():
            return
        shift.bell.ring()
        try:
            with anyio.move_on_after(GRACE):
                await shift.ended.wait()
                return
            log.warning("async change callbacks went on for %g seconds after the map was closed: they are cancelled", GRACE)
        except anyio.get_cancelled_exc_class():
            await self._cut_short(shift)
            raise
        await self._cut_short(shift)

    @staticmethod
    async def _cut_short(shift: Shift) -> None:
        shift.scope.cancel()
        with anyio.CancelScope(shield=True):
            await shift.ended.wait()
