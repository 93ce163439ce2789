"""The owner of a durable map: one thread carries out what writes, and writes it down before anybody sees it.

The **writer** takes what is in the mailbox, carries it out command by command, and gives the journal all that was committed
as one group, with one sync. Only then is the group published and are its commands answered. While a group is on its way to
the disk, the next one gathers in the mailbox, so the busier the map, the larger the groups.

Readers do not queue here either: they see what is published, and what only reads takes the baton on the spot. The writer
holds the baton while it carries out one command or publishes, never while it waits for the disk.

When the journal fails, nothing of its group is left, its commands get the error, and from then on everything that writes
does. What has been published goes on being read. Whether the group is on the disk is decided when the map is reopened.

Chores (compaction, a backup) are done in steps between groups.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from time import monotonic, sleep
from typing import Any, Final, Protocol

import anyio

from chronomap.core.change import PlainCommit, as_commit
from chronomap.core.records import Entry, Record, owned
from chronomap.core.retention import Cut
from chronomap.core.store import Store
from chronomap.core.timeline import Timeline
from chronomap.errors import (
    ChronoMapError,
    ChronoMapTypeError,
    ChronoMapValueError,
    ClosedError,
    JournalError,
    NotResidentError,
)
from chronomap.runtime.owner import PATIENCE, TURNS, Command, Operation, Owner
from chronomap.runtime.ports import CancelledError, Port, ThreadBell
from chronomap.runtime.tickets import FutureTicket, TrioTicket

log = logging.getLogger("chronomap")

MOST: Final = 4_096
"""Commands in one group."""

A_FEW: Final = 32
"""Commands that are carried out in one turn."""

CUTS: Final = 1_024
"""Keys with pruned history after which the journal hears of it though it is busy."""

SLICE: Final = 256
"""Keys whose pruned history the journal forgets in one step."""

IDLE: Final = 0.5
"""Seconds without a command after which the journal hears of pruned history in any case."""

Chore = Callable[..., Generator[None, None, Any]]
"""Work on the journal in steps; what it returns is the reply."""


class Journal(Protocol):
    """What the owner needs of a journal; see ``chronomap.journal.protocol``."""

    @property
    def revision(self) -> int:
        """The newest revision that is on the disk."""

    @property
    def failure(self) -> JournalError | None:
        """Why nothing more can be written."""

    def check(self, records: Iterable[Record]) -> None:
        """Refuse what could not be kept."""

    def sure(self, key: Any, value: Any) -> bool:
        """Whether a put could be kept, as far as that can be told at once."""

    def append(self, group: Sequence[PlainCommit]) -> None:
        """Put a group on the disk."""

    def versions(self, key: Any, before: tuple[float, int] | None = None) -> Iterator[Entry]:
        """The versions of a key, newest timestamp first."""

    def floor(self, key: Any) -> tuple[float, int] | None:
        """The smallest timestamp and revision ever pruned of a key."""

    def prune(self, cuts: Sequence[Cut], *, keep_after: int | None = None) -> int:
        """Forget versions."""

    def close(self) -> None:
        """Let go of everything."""


class TaskCommand(Command):
    """A command of a task, which sleeps on the command itself and is woken together with all others of a group and loop.

    A bell or a ticket of its own for each would cost as much as carrying it out.
    """

    def __init__(self, operation: Operation, arguments: tuple[Any, ...], port: Port) -> None:
        self.operation = operation
        self.arguments = arguments
        self.port = port
        self._loop = port.native  # as a ticket has it


class FutureCommand(TaskCommand, FutureTicket):
    """Such a command of a task of asyncio."""

    # In place of the ticket's slots, which would have to be filled in.
    sleeper = None
    rung = False
    _asyncio_future_blocking = False


class TrioCommand(TaskCommand, TrioTicket):
    """Such a command of a task of trio."""


class JournalOwner(Owner):
    """An owner whose commits wait for a journal, which is its own from now on; the store gathers for it already.

    Attributes:
        journal: Called by the writer's thread only.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None, journal: Journal, *, share: bool = False) -> None:
        super().__init__(store, clock)
        self.journal = journal
        self._gather = store.gather_put if store.retention is None else store.put_now
        self._share = share  # values are kept as they come from the journal
        if store.resident is not None:
            self.fetch = self._fetch
        self.failure = journal.failure
        self._port: Port | None = None
        self._bell = bell = ThreadBell()
        self._rung = False
        self._gone = False  # the writer looks into the mailbox no more
        self._chores: deque[tuple[Command, Generator[None, None, Any]]] = deque()
        self._group: list[Command] = []  # what is being carried out and has not been answered
        me = weakref.ref(self, lambda _: bell.ring())
        self._writer = threading.Thread(target=_write, args=(me, bell, journal), name="chronomap-journal", daemon=True)
        self._writer.start()
        _writers[self._writer] = me  # only now: nobody can wait for a thread that has not begun

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, operation: Operation, *arguments: Any) -> Any:
        """See ``Owner``; what only reads is done on the spot, everything else waits for the disk."""
        self.check_reentry()
        if not getattr(operation, "only_reads", False):
            return self._wait(operation, arguments)
        if self.closed:
            self.refuse()
        try:
            self._take_baton()
            return operation(self.clock(), *arguments)
        finally:
            self._let_go()

    def begin_on_the_spot(self, operation: Operation) -> bool:
        """See ``Owner``: for what only reads."""
        if not getattr(operation, "only_reads", False):
            return False
        if self.closed:
            self.refuse()
        try:
            self._take_baton()
        except BaseException:  # an interrupt that came right after the baton was taken
            self._let_go()
            raise
        return True

    def _take_baton(self) -> None:
        """Wait for the baton. Nobody holds it for longer than one command takes, and nobody while waiting for the disk."""
        while not self._acquire(True, PATIENCE):  # noqa: FBT003
            self._refuse_at_exit()
        self.in_turn = True

    @staticmethod
    def _refuse_at_exit() -> None:
        """At the very end of Python the writer's thread stands still, whatever it was doing."""
        if sys.is_finalizing():
            raise ClosedError("Python is shutting down, and the map on disk with it; what was acknowledged is safe")

    def try_put(self, key: Any, value: Any, timestamp: Any = None, ttl: float | None = None) -> int:  # noqa: ARG002
        """See ``Owner``: never."""
        return 0

    async def wait(self, operation: Operation, *arguments: Any, firm: bool = False) -> Command:
        """See ``Owner``. Cancellation: once the writer has the command, the disk is waited for all the same."""
        self.check_reentry()
        port = self._port
        if port is None or not port.leads_here():
            self._check_thread()
            port = self._port = Port()
        command = (FutureCommand if port.asyncio else TrioCommand)(operation, arguments, port)
        self._leave(command)
        try:
            await command
            while not command.answered:  # it was woken by a cancellation that has been taken back
                await command
        except GeneratorExit:  # the task is being taken down: it cannot wait for anything any more
            command.abandoned = firm or not self.withdraw(command)
            raise
        except BaseException:
            if firm or not self.withdraw(command):
                command.abandoned = not firm
                while not command.answered:
                    # On asyncio no scope keeps out `task.cancel()`, which may come again; the first is raised below.
                    with suppress(CancelledError), anyio.CancelScope(shield=True):
                        await command
                if command.commits:
                    self.tell(command.commits)
            raise
        return command

    def enter(self, command: Command) -> Command:
        """See ``Owner``."""
        self._check_thread()
        self._leave(command)
        return command

    def _check_thread(self) -> None:
        """Refuse a call that would have the writer wait for itself."""
        # A thread that began after the writer had ended may have got its number.
        if threading.get_ident() == self._writer.ident and threading.current_thread() is self._writer:
            raise ChronoMapError(
                "the map was called from inside one of its own commands (by a codec, or a key's __eq__ or __hash__); "
                "do it after the command has returned"
            )

    def _leave(self, command: Command) -> None:
        if self.closed:
            self.refuse()
        self.mailbox.append(command)
        if not self._rung:
            self._ring()
        if self._gone:
            self.refuse_the_rest()

    def _answered(self, command: Command) -> bool:
        if not command.answered:
            self.help()
            self._refuse_at_exit()
        return command.answered

    def _abandon(self, command: Command, *, firm: bool = False) -> None:
        if firm or not self.withdraw(command):
            command.abandoned = not firm
            while not self._answered(command):
                command.bell.wait(PATIENCE)  # type: ignore[attr-defined]  # a thread's

    def help(self) -> None:
        """Have the writer look into the mailbox.

        For sure: a signal handler may call this between the two steps of ``_ring``, or an interrupt may have ended them.
        """
        if self.mailbox:
            self._bell.ring()

    def end_turn(self) -> None:
        """Let go of the baton."""
        self._let_go()

    def _ring(self) -> None:
        try:
            self._rung = True
            self._bell.ring()
        except BaseException:  # interrupted before it rang: nobody would any more
            self._bell.ring()
            raise

    def _empty_mailbox(self) -> None:
        self._bell.ring()  # the writer does it, and ends

    def ended(self, timeout: float | None = None) -> bool:
        """See ``Owner``. Neither the writer nor who is in a turn, and was struck by a handler there, can wait for that."""
        if threading.current_thread() is not self._writer and not self._is_owned():
            _wait_for(self._writer, timeout)
        return self._writer not in _writers

    # -- the writer's thread -------------------------------------------------------------------------------------------

    def work(self) -> float | None:
        """Carry out what has been asked for; returns how many seconds to wait for more, at most."""
        self._rung = False
        while self.mailbox or self._chores:
            if self.mailbox:
                self._carry_out_group()
            if self._chores:
                self._step()
        if (self.store.cuts or self.store.overdue) and self.failure is None and not self.closed:
            return IDLE
        return None

    def _carry_out_group(self) -> None:
        commands = self._group = []
        mailbox, more = self.mailbox, True
        while more and mailbox and len(commands) < MOST:
            self._in_turn(partial(self._carry_out_some, commands))
            more = not commands or not (commands[-1].erased or self.store.cuts_wanted)
        self._write_group(commands)
        self._group = []

    def _carry_out_some(self, commands: list[Command]) -> None:
        """Carry out a few commands in one turn: each changes hands faster than the baton does."""
        popleft, clock, put, gather, feed = self.mailbox.popleft, self.clock, self.put_now, self._gather, self.store.feed
        plain = self.failure is None and not self.closed
        head = feed.head
        for _ in range(A_FEW):
            try:
                command = popleft()
            except IndexError:
                return
            if plain and command.operation == put:  # which most are: the same as below, without what they do not need
                commands.append(command)
                command.before = head
                try:
                    key, value = command.arguments
                    command.reply = command.after = head = gather(clock(), key, value)
                except BaseException:  # noqa: BLE001 - it is told by the long way, where it happens again
                    self._carry_out(command, head)  # what fell due and was committed on the way is told with it
                    head = command.after
                continue
            if getattr(command.operation, "is_chore", False) and not self.closed:
                self._chores.append((command, command.operation(*command.arguments)))
                continue
            commands.append(command)
            self._carry_out(command)
            head = command.after
            if command.erased or self.store.cuts_wanted:
                return  # what comes after it must not be written before the values are gone

    def _carry_out(self, command: Command, before: int | None = None) -> None:
        feed = self.store.feed
        command.before = before = feed.head if before is None else before
        try:
            if self.closed:
                self.refuse()
            if self.failure is not None:
                raise self._told_again(self.failure) from self.failure  # noqa: TRY301
            command.reply = self._apply(command)
        except BaseException as raised:  # noqa: BLE001 - it is the caller's; nobody interrupts this thread
            command.error = raised
        command.after = feed.head
        if command.after != before:
            commit = feed.tail[-1]
            command.erased = type(commit) is not tuple and commit[2][0].kind == "erase"

    def _apply(self, command: Command) -> Any:
        """Carry out a command; history that it needs and that is not in memory is brought back first."""
        while True:
            try:
                return command.operation(self.clock(), *command.arguments)
            except NotResidentError as needed:
                timeline = self.store.timelines.get(needed.key)
                if timeline is None or not timeline.partial:
                    raise
                self.store.bring_back(needed.key, self._older(needed.key), self.journal.floor(needed.key))

    def _older(self, key: Any) -> Iterator[Entry]:
        """The versions of a key that are not in memory, newest first."""
        for entry in self.journal.versions(key, self.store.timelines[key].oldest):
            yield entry if self._share else entry._replace(value=owned(entry.value))

    @staticmethod
    def _told_again(failure: JournalError) -> JournalError:
        """The same for one more caller: its traceback is its own."""
        return type(failure)(str(failure))

    def _write_group(self, commands: list[Command]) -> None:
        """Have the journal write what the commands committed, publish it, and answer."""
        store = self.store
        group = store.group()
        if group and self.failure is not None:  # left by a break-down
            self._in_turn(store.withdraw)
            group = []
        if group:
            try:
                self.journal.append(group)
            except BaseException as error:  # noqa: BLE001 - it goes to those whose commits these are
                self._fail(error, commands)
                group = []
            else:
                self._publish(group, commands)
        forgets = store.cuts_wanted or (bool(commands) and commands[-1].erased)
        if store.cuts_wanted:
            self.cut()
        elif len(store.cuts) >= CUTS:
            self._cut()
        if forgets and self.failure is not None and commands[-1].error is None:
            commands[-1].error = self._told_again(self.failure)  # what should be gone may be in the file still
        self._answer(commands)
        if group:
            self.wake_watchers()

    def _publish(self, group: list[PlainCommit], commands: list[Command]) -> None:
        self._in_turn(self.store.publish)
        if self.observed:
            first = group[0][0]
            for command in commands:
                if command.after != command.before:
                    command.commits = [*map(as_commit, group[command.before + 1 - first : command.after + 1 - first])]
        if self.journal.failure is not None:  # after the group was safe
            self._read_only(self.journal.failure)

    def _fail(self, error: BaseException, commands: list[Command]) -> None:
        """Leave nothing of the group."""
        before = self.store.revision
        self._in_turn(self.store.withdraw)
        if self.journal.failure is not None or not isinstance(error, ChronoMapTypeError | ChronoMapValueError):
            failure = self.journal.failure
            self._read_only(failure or JournalError(f"the journal failed ({type(error).__name__}: {error})"), error)
        for command in commands:
            if command.after != before:  # it committed something, or saw what others had
                command.error = self._told_again(self.failure) if self.failure is not None else error
                if command.error is not error:
                    command.error.__cause__ = error

    def _read_only(self, failure: JournalError, cause: BaseException | None = None) -> None:
        if self.failure is None:
            log.error("the map is read-only until it is reopened: %s", failure)
            self.failure = failure
            if cause is not None and failure.__cause__ is None and cause is not failure:
                failure.__cause__ = cause

    def break_down(self, error: BaseException) -> None:
        """The writer itself has failed (no memory, most likely): nobody may wait for it for ever, and reads go on."""
        log.error("the writer of a durable map broke down", exc_info=error)
        failure = JournalError(
            f"the map's writer broke down ({type(error).__name__}: {error}); reopening the map decides whether what was being "
            "written is there"
        )
        self._read_only(failure, error)
        with suppress(BaseException):
            self._in_turn(self.store.settle_group)
        commands, self._group = self._group, []
        for command in commands:
            if not command.answered and not 0 <= command.after <= self.store.revision:
                command.error = self._told_again(failure)
        self._answer(commands)  # all of them: those who have their answer may not have heard the bell
        self.help()

    def _in_turn(self, work: Callable[[], object]) -> None:
        try:
            self._take_baton()
            work()
        finally:
            self._let_go()

    def _answer(self, commands: Iterable[Command]) -> None:
        """Answer commands; those of one loop together, since waking a loop costs more than all the rest."""
        loops: dict[Port, list[TaskCommand]] = {}
        for command in commands:
            command.answered = True
            if isinstance(command, TaskCommand):
                loops.setdefault(command.port, []).append(command)
            else:
                command.bell.ring()
        for port, answered in loops.items():
            port.post(partial(port.wake, answered))

    # -- what is not in memory -----------------------------------------------------------------------------------------

    def _fetch(self, key: Any) -> Timeline:
        """Read a key's whole history, for a reader who can wait."""
        if threading.current_thread() is self._writer:
            raise NotResidentError(key)  # a command's: it is tried again
        found: Timeline = self.call(_fetching, self, key)
        return found

    def recall(self, key: Any) -> Timeline:
        """The same, on the writer's thread."""
        store = self.store
        recalled = store.recalled.get(key)
        if recalled is not None and recalled[1] == store.revision:
            return recalled[0]
        if not (timeline := store.timelines[key]).partial:
            return timeline
        return store.recall(key, self._older(key), self.journal.floor(key))

    # -- chores --------------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        """One step of the chore whose turn it is."""
        command, steps = self._chores.popleft()
        try:
            if command.abandoned or self.closed:
                steps.close()
                command.error = ClosedError("the map has been closed")
            else:
                next(steps)
                self._chores.append((command, steps))
                return
        except StopIteration as end:
            command.reply = end.value
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            command.error = error
            if self.journal.failure is not None:
                self._read_only(self.journal.failure)
        self._answer([command])

    def leave(self) -> None:
        """Look into the mailbox for the last time; who comes later answers itself."""
        self._gone = True
        self.refuse_the_rest()

    def refuse_the_rest(self) -> None:
        """Refuse the commands that came while the map was being closed."""
        while self.mailbox:
            with suppress(IndexError):
                command = self.mailbox.popleft()
                command.error = ClosedError("the map has been closed")
                self._answer([command])

    def tidy(self) -> None:
        """What can wait until nobody wants anything: retention of what is not in memory, and telling the journal of it."""
        while (keys := list(islice(self.store.overdue, SLICE))) and self.failure is None and not self.closed:
            command = Command(self.store.retain_overdue, (keys,), ThreadBell())
            self._in_turn(partial(self._carry_out, command))
            self._write_group([command])
            if command.error is not None:
                log.error("retention could not be applied to what is not in memory", exc_info=command.error)
                self.store.overdue.clear()
        self.cut()

    def cut(self) -> None:
        """Tell the journal of all history that was pruned."""
        while self.store.cuts and self.failure is None:
            self._cut()

    def _cut(self) -> None:
        store = self.store
        store.cuts_wanted = False
        cuts = [store.cuts.pop(key) for key in list(islice(store.cuts, SLICE))]
        try:
            self.journal.prune(cuts, keep_after=max(0, store.revision - store.feed.retained))
        except BaseException as error:  # noqa: BLE001 - the file keeps what the map has forgotten
            self._read_only(self.journal.failure or JournalError(f"pruning the journal failed: {error}"), error)


_writers: Final[dict[threading.Thread, weakref.ref[JournalOwner]]] = {}
"""Those that have not closed their journals yet."""

os.register_at_fork(after_in_child=_writers.clear)


def let_go() -> bool:
    """Wait for the writers of maps that are closed, or that nobody has any more; False if there are none."""
    left = [writer for writer, me in list(_writers.items()) if (owner := me()) is None or owner.closed]
    for writer in left:
        _wait_for(writer)
    return bool(left)


def _wait_for(writer: threading.Thread, timeout: float | None = None) -> None:
    """Wait until a writer has closed its journal. At the very end of Python it stands still.

    Up to Python 3.12 an interrupt during ``join`` has the thread pass for ended, whatever it is doing.
    """
    end = float("inf") if timeout is None else monotonic() + timeout
    while writer in _writers and (left := end - monotonic()) > 0 and not sys.is_finalizing():
        writer.join(min(left, PATIENCE))
        if not writer.is_alive():
            sleep(0.001)


def _write(me: weakref.ref[JournalOwner], bell: ThreadBell, journal: Journal) -> None:
    """What the writer's thread does until its map is closed, or nobody has it any more."""
    nap: float | None = None
    while True:
        rung = bell.wait(nap)
        owner = me()
        if owner is None:
            break
        try:
            nap = owner.work()
            if owner.closed:
                owner.cut()
                owner.leave()
                break
            if not rung:
                owner.tidy()
        except BaseException as error:  # noqa: BLE001 - nobody interrupts this thread
            owner.break_down(error)
        del owner
    try:
        journal.close()
    except Exception:
        log.exception("closing the journal failed; what was acknowledged is safe")
    _writers.pop(threading.current_thread(), None)
    if owner is None:
        warnings.warn(
            "a durable map was not closed; use `with` or `async with`, or call close()", ResourceWarning, stacklevel=1
        )


def _fetching(owner: JournalOwner, key: Any) -> Generator[None, None, Timeline]:
    yield from ()
    return owner.recall(key)


_fetching.is_chore = True  # type: ignore[attr-defined]

TURNS.update((JournalOwner.call.__code__, JournalOwner._in_turn.__code__))
