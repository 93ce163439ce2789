"""The reaper: sleeps until the next expiry or scheduled value, then has the owner commit what is due.

Reads never wait for it: they are exact by themselves. It exists so that watchers and callbacks hear in time. A map in plain
threads has a daemon thread for it, started with the first deadline; an async map has a task on its own loop.
"""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from contextlib import suppress
from typing import Final

from chronomap.core.records import NEVER
from chronomap.errors import ClosedError, JournalError
from chronomap.runtime.owner import Owner
from chronomap.runtime.ports import ThreadBell

log = logging.getLogger("chronomap")

EXITED: Final = "a change callback called sys.exit() in the background, where that ends nothing"


class ThreadReaper:
    """A reaper for maps without an event loop. The thread ends with its map, and does not keep the map alive."""

    def __init__(self, owner: Owner) -> None:
        self._bell = ThreadBell()
        self._started = False
        self._starting = threading.Lock()
        self._owner = weakref.ref(owner, lambda _: self._bell.ring())

    def alarm(self) -> bool:
        """Look at the deadlines anew, starting the thread if need be."""
        self._bell.ring()
        # At interpreter shutdown no thread starts any more, and none is needed; on Python 3.11 trying would wait for ever.
        if not sys.is_finalizing() and not self._started and self._starting.acquire(False):  # noqa: FBT003
            self._started = True
            with suppress(RuntimeError):
                threading.Thread(target=self._run, name="chronomap-reaper", daemon=True).start()
        return True

    def _run(self) -> None:
        while (owner := self._owner()) is not None and not owner.closed:
            if (nap := owner.nap()) == 0:
                if not reap(owner):
                    return
                continue
            del owner
            self._bell.wait(nap)


def reap(owner: Owner) -> bool:
    """Commit what is due; False if that will never be possible again."""
    try:
        owner.call(owner.store.begin)
    except (ClosedError, JournalError):
        return False
    except SystemExit:
        log.exception(EXITED)
    except Exception:
        log.exception("the reaper could not commit what is due; it will try again with the next write")
        owner.store.deadlines.next_due = NEVER
    return True
