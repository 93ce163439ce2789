"""Signal handlers, finalizers and callbacks that call the map, or close it, at the worst moment."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from typing import Any

import anyio
import pytest

from chronomap import AsyncChronoMap, ChronoMap, ChronoMapError, ClosedError

pytestmark = pytest.mark.anyio


def still_works(cm: ChronoMap[Any, Any]) -> None:
    """Another thread can write, and the store is sound."""
    writer = threading.Thread(target=lambda: cm.put("other", 1), daemon=True)
    writer.start()
    writer.join(10)
    assert not writer.is_alive(), "the baton was not given back"
    assert not cm._owner.in_turn
    cm._check()


@pytest.mark.parametrize("write", ["put", "delete"])
def test_a_handler_right_after_the_baton_was_taken(monkeypatch: pytest.MonkeyPatch, write: str) -> None:
    """It is refused, and the baton is given back; before, its own turn took the baton along and the map was dead."""
    cm = ChronoMap[str, int]()
    cm.put("a", 1)
    owner, struck = cm._owner, [False]
    acquire = owner._acquire

    def handler_strikes(blocking: bool) -> bool:
        taken: bool = acquire(blocking)
        if not struck[0]:
            struck[0] = True
            cm.delete("a")  # as a signal handler would, on this very thread
        return taken

    monkeypatch.setattr(owner, "_acquire", handler_strikes)
    with pytest.raises(ChronoMapError, match="from inside one of its own commands"):
        cm.put("a", 2) if write == "put" else cm.delete("a")
    assert struck == [True]
    still_works(cm)
    assert cm["a"] == 1


def test_a_handler_before_the_store_is_entered() -> None:
    """While the clock is read the baton is held already: the handler is refused and lets nobody else in."""
    armed: list[bool] = []

    def clock() -> float:
        if armed:
            armed.clear()
            cm.delete("nothing")
        return 100.0

    cm = ChronoMap[str, int](clock=clock)
    cm.put("a", 1)
    armed.append(True)
    with pytest.raises(ChronoMapError, match="from inside one of its own commands"):
        cm.put_many({"a": 2, "b": 2})
    assert cm.latest() == {"a": 1}
    still_works(cm)


def test_closing_inside_a_turn_while_somebody_waits() -> None:
    """A key's ``__eq__`` that closes the map: the turn ends, and whoever waits is told."""
    cm = ChronoMap[Any, int]()
    cm.put(1, 1)
    told: list[str] = []

    class Closer:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if not cm._owner.closed:
                waiting.start()
                while not cm._owner.mailbox:
                    threading.Event().wait(0.001)
                cm.close()
            return False

    def wait_for_the_turn() -> None:
        try:
            cm.put("x", 1)
        except ClosedError:
            told.append("closed")

    waiting = threading.Thread(target=wait_for_the_turn, daemon=True)
    assert cm.put(Closer(), 2) == 2
    waiting.join(10)
    assert told == ["closed"]
    with pytest.raises(ClosedError):
        cm.put("y", 1)


async def test_a_failing_block_is_undone_without_waiting_for_callbacks() -> None:
    """The undo is shielded from cancellation, the async callbacks that hear of it are not: one that waits can be cancelled."""
    cm = AsyncChronoMap[str, int]()
    stuck = False

    async def callback(*_: Any) -> None:
        if stuck:
            await anyio.sleep_forever()

    cm.on_change(callback)
    with anyio.fail_after(10), anyio.CancelScope() as scope:
        async with cm.snapshot_context():
            await cm.put("a", 1)
            stuck = True
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert "a" not in cm


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )


def test_a_finalizer_at_exit() -> None:
    """One that needs the reaper, which cannot be started any more, does not hang (Python 3.11 would wait for ever)."""
    done = run("""
        from chronomap import ChronoMap
        class Last:
            def __init__(self): self.cm = ChronoMap()
            def __del__(self): self.cm.put("bye", 1, ttl=5); print("done", flush=True)
        last = Last()
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_stream_in_a_forked_child_is_told() -> None:
    """It raises instead of ending as if nothing more were to come."""
    done = run("""
        import os
        from chronomap import ChronoMap, ForkedError
        cm = ChronoMap(); stream = cm.watch(timeout=0)
        if (child := os.fork()) == 0:
            try:
                next(stream)
            except ForkedError:
                os._exit(0)
            os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert (done.stdout, done.stderr) == ("0\n", "")
