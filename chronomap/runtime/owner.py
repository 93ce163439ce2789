"""The owner: whoever runs a turn. Commands reach the store only through here.

The right to run a turn is the **baton**, which is only ever tried, never waited for. A caller who finds the mailbox empty
and gets the baton runs its own command on the spot (an eager turn). One who does not leaves the command in the mailbox,
tries the baton once more, and waits for the answer: whoever holds the baton looks into the mailbox again after letting go
of it, so a command left there is always seen, either by that look or by the second try.

Example: thread A holds the baton while thread B puts. B's command enters the mailbox, B's second try fails, B waits. A
finishes, lets go, finds B's command, takes the baton again, runs it and rings B's bell.

Do not: hold the baton while calling user code (hooks run after the turn), await or block inside a turn, or leave between
taking a command and answering it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn

from chronomap.core.records import NEVER, Commit
from chronomap.core.store import Store
from chronomap.core.timeline import Timeline
from chronomap.errors import ChronoMapError, ClosedError, ForkedError
from chronomap.runtime.blocks import note
from chronomap.runtime.hooks import Hooks
from chronomap.runtime.ports import Bell, TaskBell, ThreadBell

log = logging.getLogger("chronomap")

ROUNDS: Final = 32
"""Turns a thread runs for others before it hands the baton on: its own caller is waiting too."""

PATIENCE: Final = 0.05
"""Seconds after which a waiting caller tries the baton again, in case the holder's thread was killed."""

Operation = Callable[..., Any]


class Command:
    """One call on its way through the mailbox; its answer belongs to it and to nobody else."""

    __slots__ = ("after", "arguments", "before", "bell", "done", "error", "operation", "reply")

    def __init__(self, operation: Operation, arguments: tuple[Any, ...], bell: Bell) -> None:
        self.operation = operation
        self.arguments = arguments
        self.bell = bell
        self.reply: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.before = self.after = 0

    def answer(self, reply: Any, error: BaseException | None) -> None:
        """Give the answer and wake the caller."""
        self.reply, self.error = reply, error
        self.done = True
        self.bell.ring()

    def result(self) -> Any:
        """The reply; raises if the command failed."""
        if self.error is not None:
            raise self.error
        return self.reply


class Unusable(dict[Any, Timeline]):
    """Stands in for the timelines of a map that must not be used any more: every look-up raises."""

    def __init__(self, error: type[ChronoMapError], message: str) -> None:
        super().__init__()
        self.raises = (error, message)

    def get(self, *_: object) -> NoReturn:
        """Refuse."""
        error, message = self.raises
        raise error(message)


class Owner:
    """The store with its mailbox, baton and hooks.

    Attributes:
        timelines: The store's timelines for readers; something that raises once the map is closed or after a fork.
        observed: Whether anybody must be told after a commit.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None) -> None:
        self.store = store
        self.clock = clock or time.time
        self.timelines: dict[Any, Timeline] = store.timelines
        self.mailbox: deque[Command] = deque()
        self.baton = threading.RLock()  # C code, and tells a thread that holds it already
        self.in_turn = False
        self._bind()
        self.closed = False
        self.observed = False
        self.hooks = Hooks()
        self.blocks = 0  # how many snapshot contexts are open
        self.parked: dict[int, Bell] = {}
        self.streams: weakref.WeakSet[Any] = weakref.WeakSet()
        self.finish: Callable[[list[Commit]], None] | None = None  # awaits async callbacks for a thread
        self.alarm: Callable[[], bool] | None = None  # False: there is nobody to hear it yet
        self.alarm_due: float = NEVER
        self._refusal: tuple[type[ChronoMapError], str] | None = None
        if clock is not None and hasattr(clock, "subscribe"):
            clock.subscribe(self)
        owners.add(self)

    def _bind(self) -> None:
        """Look up once what every call needs."""
        self._acquire, self._release, self._put_now = self.baton.acquire, self.baton.release, self.store.put_now
        self._is_owned: Callable[[], bool] = self.baton._is_owned  # type: ignore[attr-defined]  # as threading.Condition does

    # -- calls from threads --------------------------------------------------------------------------------------------

    def call(self, operation: Operation, *arguments: Any) -> Any:
        """Run ``operation(now, *arguments)`` in a turn and return its reply; blocks while others hold the baton."""
        self.check_reentry()
        if self.mailbox or self.closed:
            return self._wait(operation, arguments)
        before = after = -1
        try:
            if not self.begin_turn():
                return self._wait(operation, arguments)
            before = after = self.store.revision
            try:
                reply = operation(self.clock(), *arguments)
            finally:
                after = self.store.revision
        finally:
            self.end_turn()
            if self.observed and after != before:
                self.tell(before, after)
        if self.store.deadlines.next_due < self.alarm_due:
            self.set_alarm()
        return reply

    def try_put(self, key: Any, value: Any) -> int:
        """A plain put on the spot; 0 if it cannot be done on the spot (revisions begin at 1).

        The eager turn of ``call`` for the most frequent command, without what it does not need.
        """
        observed = self.observed  # closing sets it too
        if observed or self.in_turn:
            return 0
        try:
            if not self._acquire(False):  # noqa: FBT003
                return 0
            self.in_turn = True
            revision: int = self._put_now(self.clock(), key, value)
            self.in_turn = False
            self._release()
        except BaseException:  # also an interrupt that came right after the baton was taken
            self.end_turn()
            raise
        if self.mailbox:
            self.help()
        if self.observed:  # somebody began to watch meanwhile
            self.tell(revision - 1, revision)
        return revision

    def _wait(self, operation: Operation, arguments: tuple[Any, ...]) -> Any:
        bell = ThreadBell()
        command = self.enter(operation, arguments, bell)
        try:
            while not self._answered(command):
                bell.wait(PATIENCE)
        except BaseException:
            self._abandon(command)
            raise
        finally:
            if self.observed and command.after != command.before:
                self.tell(command.before, command.after)
        self.set_alarm()
        return command.result()

    # -- calls from tasks ----------------------------------------------------------------------------------------------

    async def wait(self, operation: Operation, *arguments: Any) -> Command:
        """Run a command that could not be run on the spot, and wait for its answer without blocking the loop.

        Cancellation: before a turn took the command it is withdrawn and nothing happened; after that it is applied.
        """
        bell = TaskBell()
        command = self.enter(operation, arguments, bell)
        try:
            while not self._answered(command):
                await bell.wait(PATIENCE)
        except BaseException:
            self._abandon(command)
            if self.observed and command.after != command.before:
                self.tell(command.before, command.after)
            raise
        return command

    def _answered(self, command: Command) -> bool:
        self.help()
        return command.done

    def _abandon(self, command: Command) -> None:
        """Withdraw a command; if a thread is running it at this moment, let that turn end: it takes no longer."""
        while not command.done and not self.withdraw(command):
            time.sleep(0)

    # -- the mailbox and its turns -------------------------------------------------------------------------------------

    def enter(self, operation: Operation, arguments: tuple[Any, ...], bell: Bell) -> Command:
        """Put a command into the mailbox."""
        if self.closed:
            self.refuse()
        command = Command(operation, arguments, bell)
        self.mailbox.append(command)
        return command

    def withdraw(self, command: Command) -> bool:
        """Take a command back; False if a turn has taken it."""
        try:
            self.mailbox.remove(command)
        except (ValueError, IndexError):
            return False
        command.done = True
        return True

    def help(self) -> None:
        """Run turns while there are commands and the baton is free."""
        rounds = 0
        while self.mailbox:
            try:
                if not self.begin_turn():
                    return
                self._turn()
            finally:
                self._let_go()
            rounds += 1
            if rounds == ROUNDS:
                try:
                    self.mailbox[0].bell.ring()  # that caller goes on with it
                except IndexError:
                    continue
                return

    def check_reentry(self) -> None:
        """Refuse a call from inside a turn of this very thread; pick up a baton that an interrupt made it drop."""
        if not self.in_turn or not self._is_owned():
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_locals.get("self") is not self.store:
            frame = frame.f_back
        if frame is None:
            self._let_go()
        else:
            raise ChronoMapError(
                "the map was called from inside one of its own commands (by a key's __eq__ or __hash__, a finalizer or a "
                "signal handler that ran during it); do it after the command has returned"
            )

    def begin_turn(self) -> bool:
        """Try the baton. Whatever happens then, ``end_turn`` must be called: an interrupt may strike at any point."""
        if self.in_turn or not self._acquire(False):  # noqa: FBT003
            return False
        self.in_turn = True
        return True

    def _let_go(self) -> None:
        """Let go of the baton if this thread has it."""
        while self._is_owned():
            self.in_turn = False
            self._release()

    def end_turn(self) -> None:
        """Let go of the baton, then look once more for commands that came meanwhile."""
        self._let_go()
        if self.mailbox:
            self.help()

    def _turn(self) -> None:
        for _ in range(len(self.mailbox)):
            command: Command | None = None
            try:
                command = self.mailbox.popleft()
                self._run(command)
            except IndexError:  # withdrawn meanwhile
                return
            except BaseException:  # this thread is being interrupted, not the caller's
                if command is not None and not command.done:
                    self._hand_back(command)
                raise

    def _run(self, command: Command) -> None:
        command.before = command.after = self.store.revision
        reply, error = None, None
        try:
            if self.closed:
                self.refuse()
            reply = command.operation(self.clock(), *command.arguments)
        except Exception as raised:  # noqa: BLE001 - it is the caller's
            error = raised
        command.after = self.store.revision
        command.answer(reply, error)

    def _hand_back(self, command: Command) -> None:
        """Leave an interrupted command to its caller; if it may have been applied, say so instead."""
        if command.before in (0, self.store.revision):
            self.mailbox.appendleft(command)
            command.bell.ring()
        else:
            command.after = self.store.revision
            command.answer(None, ChronoMapError(f"interrupted; revision {command.after} may hold what was asked for"))

    # -- after a commit ------------------------------------------------------------------------------------------------

    def announce(self, before: int, after: int) -> list[Commit]:
        """Wake who watches and call the plain hooks for some commits. Outside the turn, in the writer's context."""
        self.wake()
        if self.blocks:
            note(self, after)
        if not self.hooks:
            return []
        commits = self.store.feed.since(before)[: after - before]
        self.hooks.run(commits)
        return commits

    def tell(self, before: int, after: int) -> None:
        """The same for a thread, which also waits until the async hooks have run on their loop."""
        commits = self.announce(before, after)
        if self.hooks.asynchronous and self.finish is not None:
            self.finish(commits)

    def look_again(self) -> None:
        """Find out whether anybody still observes: plain puts are faster when nobody does."""
        self.observed = self.closed or bool(self.hooks) or self.blocks > 0 or len(self.streams) > 0

    def wake(self) -> None:
        """Wake the parked watchers."""
        if self.parked:
            for bell in list(self.parked.values()):  # they leave by themselves
                bell.ring()

    def set_alarm(self) -> None:
        """Let the reaper know that something falls due earlier than it expects."""
        if self.store.deadlines.next_due < self.alarm_due and self.alarm is not None:
            due = self.store.deadlines.next_due
            if self.alarm():
                self.alarm_due = due

    def clock_moved(self) -> None:
        """The clock was set: the reaper's sleep is no longer right."""
        if self.alarm is not None and self.store.deadlines.next_due != NEVER:
            self.alarm_due = self.store.deadlines.next_due
            self.alarm()

    def now(self) -> float:
        """The clock, but never before the newest commit."""
        return max(self.clock(), self.store.instant)

    def nap(self, due: float) -> float | None:
        """How many seconds the reaper may sleep before it looks at the clock again; None: until it is woken."""
        if due == NEVER:
            return None
        if self.clock is time.time:
            return min(max(0.0, due - self.clock()), 10.0)  # a wall clock may be set while we sleep
        return None if hasattr(self.clock, "subscribe") else 0.05

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self, error: type[ChronoMapError] = ClosedError, message: str = "the map has been closed") -> None:
        """Refuse everything from now on; commands that still wait are answered with an error."""
        if self.closed:
            return
        self._refusal = (error, message)
        self.closed = self.observed = True
        self.timelines = Unusable(error, message)
        while self.mailbox:
            self.help()
            if self.mailbox:
                time.sleep(0)
        self.wake()
        if self.alarm is not None:
            self.alarm()

    def refuse(self) -> NoReturn:
        """Raise what a closed map raises."""
        error, message = self._refusal or (ClosedError, "the map has been closed")
        raise error(message)


owners: weakref.WeakSet[Owner] = weakref.WeakSet()


def _disown() -> None:
    """After a fork the child has copies of maps whose threads and loops stayed with the parent."""
    for owner in list(owners):
        owner.mailbox = deque()
        owner.baton = threading.RLock()
        owner._bind()
        owner.in_turn = False
        owner.alarm = None
        owner.parked = {}
        owner.closed = False
        owner.close(ForkedError, "this map was made before the fork; make or open one in each process")


os.register_at_fork(after_in_child=_disown)
