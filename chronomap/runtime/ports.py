"""A way into an event loop from anywhere: asyncio's (uvloop's) and trio's call for "run this over there", made one."""

from __future__ import annotations

import sys
import threading
from asyncio import CancelledError, current_task, get_running_loop
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from contextvars import Context
from functools import partial
from sys import modules
from threading import get_ident
from typing import Any, Final

import anyio

from chronomap.runtime.tickets import FutureTicket, TrioTicket, wake_all

__all__ = ["Bell", "CancelledError", "Port", "TaskBell", "ThreadBell", "being_cancelled"]

OLD: Final = sys.version_info < (3, 12)
"""Up to Python 3.11 ``get_running_loop`` asks the system for the number of the process, and half of what it costs to wake a
watcher is that. Asyncio's own loops say where they run; the attribute is private, but there it will not change any more."""


class Port:
    """The event loop that made it, as seen from other threads.

    Attributes:
        native: Asyncio's loop, or trio's token.
        asyncio: Whether it is asyncio's.
        ticket: Makes a ticket, which a task of this loop sleeps on.
    """

    ticket: Callable[[], FutureTicket | TrioTicket]

    def __init__(self) -> None:
        self.native, self.asyncio = running_loop()
        self.ticket = partial(FutureTicket, self.native) if self.asyncio else TrioTicket
        self._says_where = OLD and hasattr(self.native, "_thread_id")
        self._context = Context()  # what runs here for others sees nobody's context variables

    @classmethod
    def here(cls) -> Port | None:
        """A port of the event loop running on this thread, if one is."""
        try:
            return cls()
        except RuntimeError:
            return None

    def leads_here(self) -> bool:
        """Whether this very loop is the one running on this thread."""
        try:
            # The first is for most who ask, and they ask at every durable write; a guest of this loop is no task of its.
            if self.asyncio and ("trio" not in modules or current_task() is not None):
                return self._runs_here()
            return running_loop()[0] is self.native
        except RuntimeError:
            return False

    def running(self) -> bool:
        """Whether that loop is carrying out callbacks, as far as can be told from here."""
        return self.alive() and (not self.asyncio or bool(self.native.is_running()))

    def alive(self) -> bool:
        """Whether that loop still takes callbacks."""
        if self.asyncio:
            return not self.native.is_closed()
        return self.post(lambda: None)

    def post(self, callback: Callable[[], object]) -> bool:
        """Run a callback on the loop soon; False if that loop has ended. Never blocks, never raises."""
        try:
            if self.asyncio:
                self.native.call_soon_threadsafe(callback)
            else:
                self.native.run_sync_soon(callback)
        except RuntimeError:  # asyncio: "Event loop is closed"; trio.RunFinishedError is a RuntimeError too
            return False
        return True

    def soon(self, callback: Callable[[], object]) -> bool:
        """The same, without waking the loop by a system call when it is awake."""
        if not self.awake():
            return self.post(callback)
        try:
            self.native.call_soon(callback, context=self._context)
        except RuntimeError:
            return False
        return True

    def awake(self) -> bool:
        """Whether a task of an asyncio loop is running here and now: then ``wake`` may be called, and will be heard soon.

        Not so in a signal handler: it may have struck while the loop sleeps, which only ``post`` ends. And trio's tasks may
        not be woken by a handler at all.
        """
        return self.asyncio and self._runs_here() and current_task(self.native) is not None

    def _runs_here(self) -> bool:
        """Whether this loop of asyncio is the one running on this thread."""
        if self._says_where:
            return self.native._thread_id == get_ident()  # type: ignore[no-any-return]  # a cast is a call
        try:
            return get_running_loop() is self.native
        except RuntimeError:
            return False

    def wake(self, tickets: Iterable[Any]) -> None:
        """End the waits of some tickets; call it when ``awake``, or in what ``post`` runs.

        If the loop has ended, nobody is left to be woken.
        """
        if self.asyncio:
            with suppress(RuntimeError):  # "Event loop is closed"
                wake_all(tickets, self.native)
            return
        for ticket in tickets:
            ticket.ring()

    def start(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> Any:
        """Start a background task outside any task group; call it on the loop itself. The task ends with its loop."""
        if self.asyncio:
            return self.native.create_task(function(), name=name, context=Context())
        import trio  # noqa: PLC0415 - only where trio is what runs

        return trio.lowlevel.spawn_system_task(function, name=name)


def being_cancelled() -> bool:
    """Whether it is this task that is being cancelled, and not something that it waited for.

    Asked after a ``CancelledError`` of asyncio, which does not tell.
    """
    try:
        task = current_task()
    except RuntimeError:  # trio: there an asyncio error is nobody's cancellation
        return False
    return task is not None and task.cancelling() > 0


def running_loop() -> tuple[Any, bool]:
    """The asyncio loop or trio token of whoever is running here, and whether it is asyncio's.

    Trio is asked first: as a guest it runs inside an asyncio loop, which is running too.

    Raises:
        RuntimeError: If no event loop is running here.
    """
    trio: Any = modules.get("trio.lowlevel")
    if not hasattr(trio, "in_trio_task"):  # it is not there, or another thread is importing it at this moment
        return get_running_loop(), True
    if trio.in_trio_task():
        return trio.current_trio_token(), False
    try:
        return get_running_loop(), True
    except RuntimeError:
        return trio.current_trio_token(), False


class Bell:
    """Rung on any thread, heard by one waiting task or thread. A ring before the wait is not lost."""

    def ring(self) -> None:
        """Wake who waits; if nobody does, the next wait returns at once."""
        raise NotImplementedError


class TaskBell(Bell):
    """A bell for a task on the loop that makes it."""

    def __init__(self, port: Port | None = None) -> None:
        self._port = port or Port()
        self._event = anyio.Event()

    def ring(self) -> None:
        """Wake the task."""
        if self._port.awake():
            self._event.set()
        else:
            self._port.post(self._set)

    def _set(self) -> None:
        self._event.set()

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - a nap that is over is no error
        """Wait for a ring; False after so many seconds without one."""
        if timeout is None:
            await self._event.wait()
        else:
            with anyio.move_on_after(timeout):
                await self._event.wait()
        rung = self._event.is_set()
        if rung:
            self._event = anyio.Event()
        return rung


class ThreadBell(Bell):
    """A bell for a thread.

    A bare lock: an Event has one of its own inside, which a waiter holds now and then, and if a signal handler strikes
    then and calls the map, whoever rings would wait for the handler and the handler for the turn of whoever rings.
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wake the thread."""
        with suppress(RuntimeError):  # it has been rung already
            self._silence.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a ring; False after so many seconds without one."""
        return self._silence.acquire(timeout=-1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX)))
