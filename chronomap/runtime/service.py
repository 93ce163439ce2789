"""The owner task: what an async map does on its own event loop when nobody is calling it.

It wakes for the next deadline and has what is due committed, and it finishes async callbacks whose caller was cancelled or
who wrote from a thread. It is started on the loop that first needs it and ends with that loop; a map that outlives its loop
starts another on the next.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from chronomap.core.records import NEVER, Commit
from chronomap.errors import ChronoMapError, ClosedError, JournalError
from chronomap.runtime.owner import Owner
from chronomap.runtime.ports import Port, TaskBell
from chronomap.runtime.reaper import reap

log = logging.getLogger("chronomap")

Job = Callable[[], Awaitable[object]]


inside: ContextVar[Service | None] = ContextVar("chronomap_service", default=None)
"""Whose async callbacks are running here."""


class Service:
    """The owner task of one map, on the loop of whoever used the map last when none was running."""

    def __init__(self, owner: Owner) -> None:
        self._owner = weakref.ref(owner, lambda _: self._ring())  # an unused map may go, and takes its task along
        self._jobs: deque[tuple[Job, threading.Event | None]] = deque()  # with what tells a thread that waits for it
        self._task: Any = None
        self._bell: TaskBell | None = None
        self._ended: anyio.Event | None = None
        self.port: Port | None = None

    def ensure(self) -> None:
        """Start the owner task unless it runs; call it on an event loop."""
        if self._bell is not None and self.port is not None and self.port.alive():
            return
        self.port = Port()
        self._bell, self._ended = TaskBell(self.port), anyio.Event()
        self._task = self.port.start(partial(self._run, self._bell, self._ended), "chronomap-owner")

    def _ring(self) -> bool:
        """Wake the owner task, if it runs. Any thread."""
        if (bell := self._bell) is None or self.port is None or not self.port.alive():
            return False
        bell.ring()
        return True

    def alarm(self) -> bool:
        """Look at the deadlines anew; False if there is no event loop yet to do it on. Any thread."""
        if self._ring():
            return True
        if Port.here() is None:
            return False
        self.ensure()
        return True

    def spawn(self, job: Job, done: threading.Event | None = None) -> None:
        """Have the owner task await something; call it on the map's loop. If that cannot be, ``done`` is set at once."""
        if (owner := self._owner()) is None or owner.closed:
            self._drop(done, "the map has been closed")
            return
        try:
            self.ensure()
        except RuntimeError as error:  # the loop is ending and takes no more tasks
            self._drop(done, str(error))
        else:
            self._jobs.append((job, done))
            self._ring()

    @staticmethod
    def _drop(done: threading.Event | None, reason: str) -> None:
        log.error("async change callbacks were not called: %s", reason)
        if done is not None:
            done.set()

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
        hooks, done = owner.hooks, threading.Event()

        async def job() -> None:
            try:
                await hooks.run_async(pending)
            finally:
                done.set()

        if port.leads_here():
            self.spawn(job)
            return
        if not port.post(lambda: self.spawn(job, done)):
            log.error("async change callbacks were not called: their event loop has ended")
            return
        while not done.wait(0.2):
            if not port.running() or self._bell is None:
                log.error("async change callbacks were cut short: their event loop has ended")
                return

    async def _run(self, bell: TaskBell, ended: anyio.Event) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                while (owner := self._owner()) is not None and not owner.closed:
                    while self._jobs:
                        tasks.start_soon(self._guard, self._jobs.popleft()[0])
                    due = owner.store.deadlines.next_due
                    if due <= owner.now() and owner.failure is None:
                        await self._reap(owner)
                        continue
                    owner.alarm_due = due
                    nap = owner.nap(due) if owner.failure is None else None
                    del owner
                    await bell.wait(nap)
        finally:
            if self._bell is bell:
                self._bell = None
                while self._jobs:
                    self._drop(self._jobs.popleft()[1], "their event loop is ending")
                if (owner := self._owner()) is not None:
                    owner.alarm_due = NEVER  # whoever needs a deadline next starts another owner task
            ended.set()

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
        elif command.commits:
            owner.announce(command.commits)
            await owner.hooks.run_async(owner.hooks.pending(command.commits))

    async def _guard(self, job: Job) -> None:
        inside.set(self)
        try:
            await job()
        except Exception:
            log.exception("Error in change callback")

    async def stop(self) -> None:
        """Wait for the owner task to end, after the owner has been closed; one of its own callbacks cannot wait for it."""
        if inside.get() is self:
            return
        if self._bell is not None and self._ended is not None and self.port is not None and self.port.leads_here():
            self._bell.ring()
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self._ended.wait()
