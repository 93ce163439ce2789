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
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from types import CodeType
from typing import Any, Final, NoReturn

from anyio.lowlevel import checkpoint

from chronomap.core.interest import Watcher
from chronomap.core.records import NEVER, Commit
from chronomap.core.store import Store
from chronomap.core.timeline import Timeline
from chronomap.core.timestamps import Timestamp
from chronomap.core.turns import only_reads
from chronomap.errors import ChronoMapError, ClosedError, ForkedError, JournalError
from chronomap.runtime.blocks import note
from chronomap.runtime.gates import Gate, LoopGate, ThreadGate, is_of
from chronomap.runtime.hooks import Hooks
from chronomap.runtime.ports import Bell, Port, TaskBell, ThreadBell

log = logging.getLogger("chronomap")

ROUNDS: Final = 32
"""Turns a thread runs for others before it hands the baton on: its own caller is waiting too."""

PATIENCE: Final = 0.05
"""Seconds after which a waiting caller tries the baton again, in case the holder's thread was killed."""

BUDGET: Final = 256
"""Awaited calls that are answered on the spot, between two yields to the event loop: about a quarter of a millisecond of puts,
or as many changes given out by streams."""

Operation = Callable[..., Any]


class Command:
    """One call on its way through the mailbox; its answer belongs to it and to nobody else."""

    # What most commands never set stands here: one is made for every write that cannot be done on the spot.
    reply: Any = None
    error: BaseException | None = None
    answered = False
    before = -1  # the newest revision before it was carried out
    after = -1  # and after
    erased = False  # it erased a key
    abandoned = False  # nobody waits for it any more
    commits: Sequence[Commit] = ()  # what it committed, if anybody must be told

    def __init__(self, operation: Operation, arguments: tuple[Any, ...], bell: Bell) -> None:
        self.operation = operation
        self.arguments = arguments
        self.bell = bell

    def answer(self, reply: Any, error: BaseException | None) -> None:
        """Give the answer and wake the caller."""
        self.reply, self.error = reply, error
        self.answered = True
        self.bell.ring()

    def outcome(self) -> Any:
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
        observed: Whether a commit has consequences outside the store: somebody is told (hooks, blocks), or the reaper
            must know when history will have grown too old.
        gates: Where change streams sleep.
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
        self.failure: JournalError | None = None  # why nothing can be written any more
        self.hooks = Hooks()
        self.blocks = 0  # how many snapshot contexts are open
        self.budget = BUDGET  # who awaits something that needs no waiting takes one off, and breathes when it is spent
        self.look_again()
        self.taken: deque[Command] = deque()  # the command that is being carried out for somebody else
        self.gates: tuple[Gate, ...] = ()
        self.touched = store.interest.touched
        self.fetch: Callable[[Any], Timeline] | None = None  # reads what is not in memory, and blocks meanwhile
        self.finish: Callable[[Sequence[Commit]], None] | None = None  # awaits async callbacks for a thread
        self.alarm: Callable[[], bool] | None = None  # False: there is nobody to hear it yet
        self.alarm_due: float = NEVER
        self._refusal: tuple[type[ChronoMapError], str] | None = None
        if clock is not None and hasattr(clock, "subscribe"):
            clock.subscribe(self)
        owners.add(self)

    def _bind(self) -> None:
        """Look up once what every call needs."""
        self._acquire, self._release = self.baton.acquire, self.baton.release
        self.put, self.put_now = self.store.put, self.store.put_now
        self._is_owned: Callable[[], bool] = self.baton._is_owned  # type: ignore[attr-defined]  # as threading.Condition does

    # -- calls from threads --------------------------------------------------------------------------------------------

    def call(self, operation: Operation, *arguments: Any) -> Any:
        """Run ``operation(now, *arguments)`` in a turn and return its reply; blocks while others hold the baton."""
        self.check_reentry()
        if self.mailbox or self.closed:
            return self._wait(operation, arguments)
        commits: list[Commit] = []
        before = after = -1
        try:
            if not self.begin_turn():
                return self._wait(operation, arguments)
            before = after = self.store.revision
            try:
                reply = operation(self.clock(), *arguments)
            finally:
                after = self.store.revision
                if self.observed:
                    commits = self.store.feed.since(before)
        finally:
            self.end_turn()
            if after != before:
                self.wake_watchers()
            if commits:
                self.tell(commits)
        if self.store.deadlines.next_due < self.alarm_due:
            self.set_alarm()
        return reply

    def try_put(self, key: Any, value: Any, timestamp: Timestamp | None = None, ttl: float | None = None) -> int:
        """A put without conditions on the spot; 0 if it cannot be done on the spot (revisions begin at 1).

        The eager turn of ``call`` for the most frequent command, without what it does not need.
        """
        if self.observed or self.in_turn:  # closing sets ``observed`` too
            return 0
        try:
            if not self._acquire(False):  # noqa: FBT003
                return 0
            self.in_turn = True
            plain = timestamp is None and ttl is None
            now = self.clock()
            revision: int = self.put_now(now, key, value) if plain else self.put(now, key, value, timestamp, ttl)
            self.in_turn = False
            self._release()
        except BaseException:  # also an interrupt that came right after the baton was taken
            self.end_turn()
            raise
        if self.mailbox:
            self.help()
        if self.gates:
            self.wake_watchers()
        if not plain and self.store.deadlines.next_due < self.alarm_due:
            self.set_alarm()
        return revision

    def putting(self, key: Any, value: Any, timestamp: Timestamp | None, ttl: float | None) -> tuple[Any, ...]:
        """The same put as a command and its arguments."""
        plain = timestamp is None and ttl is None
        return (self.put_now, key, value) if plain else (self.put, key, value, timestamp, ttl)

    def _wait(self, operation: Operation, arguments: tuple[Any, ...]) -> Any:
        bell = ThreadBell()
        command = self.enter(Command(operation, arguments, bell))
        try:
            while not self._answered(command):
                bell.wait(PATIENCE)
        except BaseException:
            self._abandon(command)
            raise
        finally:
            self.wake_watchers()
            if command.commits:
                self.tell(command.commits)
        self.set_alarm()
        return command.outcome()

    # -- calls from tasks ----------------------------------------------------------------------------------------------

    async def breathe(self) -> None:
        """Let others on the event loop run, and notice a cancellation."""
        self.budget = BUDGET
        await checkpoint()

    async def wait(self, operation: Operation, *arguments: Any, firm: bool = False) -> Command:
        """Run a command that could not be run on the spot, and wait for its answer without blocking the loop.

        Cancellation: before a turn took the command it is withdrawn and nothing happened; after that it is applied.
        With ``firm`` it is applied in any case.
        """
        bell = TaskBell()
        command = self.enter(Command(operation, arguments, bell))
        try:
            while not self._answered(command):
                await bell.wait(PATIENCE)
        except BaseException:
            self._abandon(command, firm=firm)
            if command.commits:
                self.tell(command.commits)
            raise
        finally:
            self.wake_watchers()
        return command

    def _answered(self, command: Command) -> bool:
        self.help()
        return command.answered

    def _abandon(self, command: Command, *, firm: bool = False) -> None:
        """Withdraw a command; if a turn has taken it, see to it that the turn ends: it takes no longer."""
        while not command.answered and (firm or not self.withdraw(command)):
            self.help()
            time.sleep(0)

    def begin_on_the_spot(self, _: Operation) -> bool:
        """Whether the caller may run a command's turn itself, and has the baton now: ``end_turn`` must follow."""
        return not self.mailbox and not self.closed and self.begin_turn()

    # -- the mailbox and its turns -------------------------------------------------------------------------------------

    def enter(self, command: Command) -> Command:
        """Put a command into the mailbox."""
        if self.closed:
            self.refuse()
        self.mailbox.append(command)
        return command

    def withdraw(self, command: Command) -> bool:
        """Take a command back; False if a turn has taken it."""
        try:
            self.mailbox.remove(command)
        except (ValueError, IndexError):
            return False
        command.answered = True
        return True

    def help(self) -> None:
        """Run turns while there are commands and the baton is free."""
        rounds = 0
        while self.mailbox or self.taken:
            if self._in_own_turn():
                return  # called from inside a turn, whose end looks again
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
        if not self._is_owned():
            return
        if self._in_own_turn():
            raise ChronoMapError(
                "the map was called from inside one of its own commands (by a key's __eq__ or __hash__, a finalizer or a "
                "signal handler that ran during it); do it after the command has returned"
            )
        while self._is_owned():
            self._let_go()

    def _in_own_turn(self) -> bool:
        """Whether this thread has the baton and is in the middle of a turn further up its stack.

        Told by the frames of those who run turns: the baton may be taken before the store is entered, and a handler or
        finalizer may strike in between.
        """
        if not self._is_owned():
            return False
        frame = sys._getframe(2).f_back  # neither who asks nor its caller
        while frame is not None:
            if frame.f_code in TURNS and self in (frame.f_locals.get("self"), frame.f_locals.get("owner")):
                return True
            frame = frame.f_back
        return False

    def begin_turn(self) -> bool:
        """Try the baton. Whatever happens then, ``end_turn`` must be called: an interrupt may strike at any point."""
        if self.in_turn or not self._acquire(False):  # noqa: FBT003
            return False
        self.in_turn = True
        return True

    def _let_go(self) -> None:
        """Let go of the baton if this thread has it; once, since a handler may run a turn inside another's beginning."""
        if self._is_owned():
            self.in_turn = False
            self._release()

    def end_turn(self) -> None:
        """Let go of the baton, then look once more for commands that came meanwhile."""
        self._let_go()
        if self.mailbox:
            self.help()

    def _turn(self) -> None:
        """Run what is in the mailbox now.

        Taking a command from the mailbox and noting that it is taken is one step in C: an interrupt between two would
        lose somebody else's command.
        """
        self._run_taken()  # what an interrupted turn left
        for _ in range(len(self.mailbox)):
            try:
                self.taken.extend(islice(iter(self.mailbox.popleft, None), 1))
            except IndexError:  # withdrawn meanwhile
                return
            self._run_taken()

    def _run_taken(self) -> None:
        while self.taken:
            command = self.taken[0]
            try:
                if not command.answered:
                    self._run(command)
            except BaseException:  # this thread is being interrupted, not the caller's
                if not command.answered:
                    self._hand_back(command)
                raise
            self.taken.clear()

    def _run(self, command: Command) -> None:
        before = command.before = self.store.revision
        reply, error = None, None
        try:
            if self.closed:
                self.refuse()
            reply = command.operation(self.clock(), *command.arguments)
        except Exception as raised:  # noqa: BLE001 - it is the caller's
            error = raised
        if self.observed and self.store.revision != before:
            command.commits = self.store.feed.since(before)
        command.answer(reply, error)

    def _hand_back(self, command: Command) -> None:
        """Leave an interrupted command to its caller; if it may have been applied, say so instead."""
        self.taken.clear()
        if command.before in (-1, self.store.revision):
            self.mailbox.appendleft(command)
            command.bell.ring()
        else:
            revision = self.store.revision
            command.answer(None, ChronoMapError(f"interrupted; revision {revision} may hold what was asked for"))

    # -- after a commit ------------------------------------------------------------------------------------------------

    def wake_watchers(self) -> None:
        """Wake the change streams that sleep and that what was committed concerns. O(event loops with watchers)."""
        for gate in self.gates:
            if gate.sleepers and not gate.ringing:
                gate.ring()
        touched = self.touched
        while touched:
            for one in list(touched):  # left there until it has been called: an interrupt has it called twice, not never
                gate, ticket = one[0].who
                gate.call(ticket)
                with suppress(ValueError):  # somebody else was quicker
                    touched.remove(one)

    def announce(self, commits: Sequence[Commit]) -> None:
        """Note commits for the blocks around the caller and call the plain hooks; outside the turn, in its context."""
        if self.blocks:
            note(self, commits[-1])
        self.hooks.run(commits)

    def tell(self, commits: Sequence[Commit]) -> None:
        """The same for a thread, which also waits until the async hooks have run on their loop."""
        self.announce(commits)
        if self.hooks.asynchronous and self.finish is not None:
            self.finish(commits)

    def look_again(self) -> None:
        """Find out whether commits still have such consequences: plain puts are faster when they have none."""
        retention = self.store.retention
        ages = retention is not None and retention.max_age is not None
        self.observed = self.closed or ages or bool(self.hooks) or self.blocks > 0

    @only_reads
    def join(self, _: float, watcher: Watcher | None) -> None:
        """Give a new stream its place in the index of interest. In a turn."""
        if watcher is not None:
            self.store.interest.register(watcher)

    def gate(self, stream: object, port: Port | None) -> Gate:
        """Where a stream sleeps that is read on an event loop, or (None) in a plain thread."""
        try:
            found: Gate = self.call(self._gate, stream, port)
        except ClosedError:
            if not self.closed:  # but Python is ending
                raise
            return ThreadGate() if port is None else LoopGate(port)  # where nobody will sleep: the stream finds that it ends
        return found

    @only_reads
    def _gate(self, _: float, stream: object, port: Port | None) -> Gate:
        for gate in self.gates:
            if is_of(gate, port):
                gate.users.add(stream)
                return gate
        new: Gate = ThreadGate() if port is None else LoopGate(port)
        new.users.add(stream)
        self.gates = (*(gate for gate in self.gates if gate.users and gate.alive()), new)
        return new

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

    def nap(self) -> float | None:
        """How many seconds the reaper may sleep before it looks again: 0 if something is due, None: until it is woken."""
        try:
            if (due := self.store.deadlines.next_due) <= self.now():
                return 0.0
            self.alarm_due = due
            if self.store.deadlines.next_due < due:  # it came before anybody could know that it has to wake the reaper
                return 0.0
            if due == NEVER:
                return None
            if self.clock is time.time:
                return min(max(0.0, due - self.clock()), 10.0)  # a wall clock may be set while we sleep
        except Exception:
            log.exception("the reaper cannot tell the time, since the map's clock failed; it tries again in a second")
            return 1.0
        return None if hasattr(self.clock, "subscribe") else 0.05

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self, error: type[ChronoMapError] = ClosedError, message: str = "the map has been closed") -> None:
        """Refuse everything from now on; commands that still wait are answered with an error."""
        if self.closed:
            return
        self._refusal = (error, message)
        self.closed = self.observed = True
        self.timelines = Unusable(error, message)
        self.store.feed.lone = {}  # where streams look first
        self._empty_mailbox()
        for gate in self.gates:
            for ticket in [*gate.sleepers, *gate.others]:
                gate.call(ticket)
        if self.alarm is not None:
            self.alarm()

    def _empty_mailbox(self) -> None:
        while self.mailbox and not self._is_owned():  # else the turn that this is called from answers them, at its end
            self.help()
            if self.mailbox:
                time.sleep(0)

    def ended(self, _timeout: float | None = None) -> bool:
        """After ``close``: wait until everything has been let go of; False after so many seconds."""
        return True

    def refuse_if_forked(self) -> None:
        """Raise in a forked child."""
        if self._refusal is not None and self._refusal[0] is ForkedError:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raise what a closed map raises."""
        error, message = self._refusal or (ClosedError, "the map has been closed")
        raise error(message)


TURNS: Final[set[CodeType]] = {Owner.call.__code__, Owner.try_put.__code__, Owner.help.__code__}
"""The code that runs turns; ``aio`` adds its own."""

owners: weakref.WeakSet[Owner] = weakref.WeakSet()


def _disown() -> None:
    """After a fork the child has copies of maps whose threads and loops stayed with the parent."""
    for owner in list(owners):
        owner.mailbox = deque()
        owner.baton = threading.RLock()
        owner._bind()
        owner.in_turn = False
        owner.alarm = None
        owner.taken = deque()
        owner.gates = ()
        owner.closed = False
        owner.close(ForkedError, "this map was made before the fork; make or open one in each process")


os.register_at_fork(after_in_child=_disown)
