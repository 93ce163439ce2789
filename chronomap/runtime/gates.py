"""Gates: where change streams sleep until there is more, one gate for each event loop and one for all plain threads.

A writer rings a gate once, however many streams sleep there; the gate opens on its own loop and wakes them all. So writing
costs the same for one watcher and for a thousand, and bursts are coalesced: what is written before the gate opens rings it
no second time. One or two sleepers, which is what most programs have, are woken by a writer on their own loop at once.

No wake is lost if both sides keep their order. A writer publishes, then looks whether anybody sleeps, then whether the gate
is ringing already. A stream enters its ticket, then looks whether something has been published, then sleeps. A gate that
opens stops ringing before it takes the tickets.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Protocol
from weakref import WeakSet

from chronomap.runtime.ports import Port, ThreadBell

FEW: Final = 2
"""So many sleepers a writer on their own loop has woken by the loop, which is quicker for them; more of them wake together when
the gate opens, which costs each less."""


class Gate(Protocol):
    """Where streams sleep. Who rings on an event loop takes the tickets out.

    Attributes:
        sleepers: The tickets of those whom every commit concerns.
        others: The tickets of those who are called by name.
        ringing: It is going to open soon: no need to ring.
        users: The streams that sleep here from time to time.
    """

    sleepers: dict[Any, None]
    others: dict[Any, None]
    ringing: bool
    users: WeakSet[Any]

    def ring(self) -> None:
        """Wake all sleepers soon. Any thread."""

    def call(self, ticket: Any) -> None:
        """Wake one soon. Any thread."""

    def alive(self) -> bool:
        """Whether anybody can still sleep here."""


class LoopGate:
    """The gate of one event loop. Tickets are entered and taken on that loop only."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.sleepers: dict[Any, None] = {}
        self.others: dict[Any, None] = {}
        self.called: deque[Any] = deque()
        self.ringing = False
        self.users: WeakSet[Any] = WeakSet()

    def ring(self) -> None:
        """Wake all sleepers: a few at once, many at the loop's next turn."""
        sleepers = self.sleepers
        if len(sleepers) <= FEW and self.port.awake():
            for ticket in list(sleepers):
                ticket.ring()
            sleepers.clear()  # after that: if an interrupt strikes, they are woken twice rather than never
            return
        try:
            self.ringing = True
            self.port.soon(self._open)
        except BaseException:  # interrupted, perhaps before it rang: nobody would any more
            self.port.soon(self._open)
            raise

    def call(self, ticket: Any) -> None:
        """Wake one, at the loop's next turn."""
        few = len(self.others) <= FEW
        self.sleepers.pop(ticket, None)
        self.others.pop(ticket, None)
        if few and self.port.awake():
            ticket.ring()
            return
        self.called.append(ticket)
        if not self.ringing:
            self.port.soon(self._open)

    def alive(self) -> bool:
        """Whether the loop has not ended."""
        return self.port.alive()

    def _open(self) -> None:
        self.ringing = False
        tickets = list(self.sleepers)
        self.sleepers.clear()
        while self.called:
            tickets.append(self.called.popleft())
        self.port.wake(tickets)


class ThreadGate:
    """The gate of all threads that are not in an event loop. They are woken by the writer itself."""

    def __init__(self) -> None:
        self.sleepers: dict[Any, None] = {}
        self.others: dict[Any, None] = {}
        self.ringing = False
        self.users: WeakSet[Any] = WeakSet()

    def ring(self) -> None:
        """Wake all sleepers; each leaves by itself."""
        for bell in list(self.sleepers):
            bell.ring()

    def call(self, ticket: ThreadBell) -> None:
        """Wake one."""
        ticket.ring()

    def alive(self) -> bool:
        """Always."""
        return True


def is_of(gate: Gate, port: Port | None) -> bool:
    """Whether it is the gate of a port's loop, or of the threads if there is none. Asked on any thread."""
    if port is None:
        return isinstance(gate, ThreadGate)
    return isinstance(gate, LoopGate) and gate.port.native is port.native
