"""Rows 4, 5, 6, 7, 18 and 19 of the table in ``__init__``: what threads, event loops and processes do to each other."""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from waiting import LONG, until

import chronomap
from chronomap import AsyncChronoMap, ChronoMap, ClosedError
from chronomap.aio_snapshots import SLICE

from .stage import Held

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("maps")]

PACKAGE = Path(chronomap.__file__).parent


@pytest.mark.memory_only
async def test_closing_answers_everyone_who_waits() -> None:
    """Row 4: ten tasks and ten threads wait for their turn while the map is closed; each is told, nothing is applied."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()
    outcomes: list[str] = []

    def in_thread(name: int) -> None:
        try:
            bridge.put(f"thread {name}", 1)
        except ClosedError:
            outcomes.append("closed")

    async def in_task(name: int) -> None:
        try:
            await cm.put(f"task {name}", 1)
        except ClosedError:
            outcomes.append("closed")

    threads = [threading.Thread(target=in_thread, args=(name,), daemon=True) for name in range(10)]
    threads.append(threading.Thread(target=bridge.close, daemon=True))
    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as tasks:
            with Held(cm) as held:
                for name in range(10):
                    tasks.start_soon(in_task, name)
                    threads[name].start()
                await until(lambda: len(cm._owner.mailbox) == 20)
                threads[10].start()
                await until(lambda: cm._owner.closed)
                held.release()
        await until(lambda: not any(thread.is_alive() for thread in threads))
    assert outcomes == ["closed"] * 20
    assert cm.revision == 0


class Never:
    """An async callback that never ends, and tells when it has begun."""

    def __init__(self) -> None:
        self.begun = False

    async def __call__(self, *_: Any) -> None:
        """Begin."""
        self.begun = True
        await anyio.Event().wait()


def test_a_thread_outlives_the_loop_it_waits_for(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """Row 4: a thread waits for an async callback whose event loop ends: its put, long since applied, returns."""
    cm = AsyncChronoMap[str, int]()
    cm.on_change(never := Never())
    replies: list[int] = []

    async def main() -> threading.Thread:
        bridge = cm.bridge()
        writer = threading.Thread(target=lambda: replies.append(bridge.put("k", 1)), daemon=True)
        writer.start()
        await until(lambda: never.begun)
        return writer

    backend, options = anyio_backend
    writer = anyio.run(main, backend=backend, backend_options=options)
    writer.join(LONG)
    assert not writer.is_alive()
    assert replies == [1]


@pytest.mark.parametrize("make_loop", ["asyncio", "uvloop"])
def test_a_thread_outlives_a_loop_that_is_just_closed(make_loop: str, caplog: pytest.LogCaptureFixture) -> None:
    """Row 4: the same where the loop cancels nothing at its end, so that nobody is left who could wake the thread."""
    pytest.importorskip(make_loop)
    cm = AsyncChronoMap[str, int]()
    cm.on_change(never := Never())
    replies: list[int] = []
    loop = importlib.import_module(make_loop).new_event_loop()

    async def main() -> threading.Thread:
        bridge = cm.bridge()
        writer = threading.Thread(target=lambda: replies.append(bridge.put("k", 1)), daemon=True)
        writer.start()
        await until(lambda: never.begun)
        return writer

    writer = loop.run_until_complete(main())
    task = next(task for task in asyncio.all_tasks(loop) if task.get_name() == "chronomap-owner")
    task._log_destroy_pending = False  # it is destroyed while it is pending: that is what happens here
    with caplog.at_level(logging.ERROR, "chronomap"):
        loop.close()
        writer.join(LONG)
    assert not writer.is_alive()
    assert replies == [1]
    assert "event loop has ended" in caplog.text
    del task
    gc.collect()


def test_a_thread_that_may_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 5: when the interpreter shuts down it refuses new threads; a put with a ttl is answered all the same."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    cm = ChronoMap[str, int]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert cm.put("bye", 1, ttl=3600) == 1
        assert cm.put("bye", 2, ttl=3600) == 2
    assert cm["bye"] == 2


def run(program: str) -> str:
    """What a program prints in a fresh interpreter; one that hangs or fails is shown."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


@pytest.mark.parametrize("face", ["ChronoMap", "AsyncChronoMap().bridge"])
def test_leaving_in_the_middle_of_everything(face: str) -> None:
    """Row 5: at exit, a thread waits in a put, another in a stream, a reaper for a deadline, and the last word is a put."""
    printed = run(f"""
        import atexit, threading
        from chronomap import AsyncChronoMap, ChronoMap
        cm = {face}()
        cm.put("lease", 1, ttl=3600)
        inside = threading.Event()
        def hold(now):
            inside.set()
            threading.Event().wait()
        other = ChronoMap()
        for target, arguments in (
            (lambda: list(cm.watch()), ()), (other._owner.call, (hold,)), (lambda: (inside.wait(), other.put("k", 1)), ())
        ):
            threading.Thread(target=target, args=arguments, daemon=True).start()
        inside.wait()
        while not other._owner.mailbox:
            pass
        atexit.register(lambda: print(cm.put("bye", 2, ttl=3600), cm.latest()))
    """)
    assert printed == "2 {'lease': 1, 'bye': 2}\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_middle_of_a_turn() -> None:
    """Row 6: the child inherits a baton that nobody in it holds and commands that nobody answers, and hangs in neither."""
    printed = run("""
        import os, threading
        from chronomap import AsyncChronoMap, ChronoMap, ForkedError
        async_map = AsyncChronoMap()
        cm = async_map.bridge()
        cm["a"] = 1
        inside, leave = threading.Event(), threading.Event()
        def hold(now):
            inside.set()
            leave.wait(10)
        threads = [threading.Thread(target=cm._owner.call, args=(hold,)), threading.Thread(target=cm.put, args=("b", 2))]
        threads[0].start()
        inside.wait(10)
        threads[1].start()
        while not cm._owner.mailbox:
            pass
        if (child := os.fork()) == 0:
            refused = 0
            async def put():
                await async_map.put("c", 3)
            for call in (
                lambda: cm["a"], lambda: "a" in cm, lambda: cm.put("c", 3), lambda: cm.delete("a"), lambda: len(cm),
                lambda: list(cm), cm.snapshot, cm.watch, cm.clear, lambda: cm.on_change(print),
                lambda: cm.update("a", lambda n: n), lambda: __import__("asyncio").run(put()),
                lambda: ChronoMap().merge(cm), lambda: cm.__enter__(),
            ):
                try:
                    call()
                except ForkedError:
                    refused += 1
            cm.close()
            fresh = ChronoMap()
            fresh.put("x", 1, ttl=1000)
            os._exit(0 if (refused, fresh["x"]) == (14, 1) else 1)
        print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        leave.set()
        for thread in threads:
            thread.join()
        print(cm.latest())
    """)
    assert printed == "child 0\n{'a': 1, 'b': 2}\n"


async def test_a_callback_may_wait_for_a_thread_that_writes() -> None:
    """Row 7: a callback has a thread write to the same map and waits for it: it is called outside the turn."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()
    finished: list[bool] = []

    def callback(key: str, old: int | None, new: int | None, timestamp: float) -> None:
        if key.startswith("outer"):
            thread = threading.Thread(target=bridge.put, args=(f"inner of {key}", cm[key]), daemon=True)
            thread.start()
            thread.join(LONG / 5)
            finished.append(not thread.is_alive())
            bridge.put_many({f"own of {key}": 1})

    cm.on_change(callback)
    await cm.put("outer 1", 1)
    await cm.put("outer 2", 1, ttl=1000)
    await anyio.to_thread.run_sync(bridge.put, "outer 3", 1)
    await anyio.to_thread.run_sync(bridge.put_many, {"outer 4": 1})
    with Held(cm) as held:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cm.put, "outer 5", 1)
            await until(lambda: cm._owner.mailbox)
            held.release()
    assert finished == [True] * 5
    assert len(cm) == 15
    await cm.aclose()


async def test_an_async_callback_may_wait_for_a_thread_that_waits_for_it() -> None:
    """Row 7: async callbacks write, and wait for threads that write and so wait for callbacks on the same event loop."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()

    async def callback(key: str, old: int | None, new: int | None, timestamp: float) -> None:
        if new is not None and new > 0:
            await cm.put(f"{key}t", 0)
            await anyio.to_thread.run_sync(bridge.put, f"{key}b", new - 1, abandon_on_cancel=True)

    cm.on_change(callback)
    with anyio.fail_after(LONG):
        await cm.put("k", 3)
        assert set(await cm.keys()) == {"k", "kt", "kb", "kbt", "kbb", "kbbt", "kbbb"}
        await anyio.to_thread.run_sync(bridge.put, "m", 1, abandon_on_cancel=True)
    assert cm["mb"] == 0
    await cm.aclose()


before_any_loop = AsyncChronoMap[str, int]()


async def test_contention_on_every_loop() -> None:
    """Row 18: a map made before any loop ran, used on one loop after another, where tasks have to wait for threads."""
    before = before_any_loop.revision
    bridge = before_any_loop.bridge()
    stream = before_any_loop.watch()
    for ttl in (None, 3600.0):
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                with Held(before_any_loop) as held:
                    for number in range(10):
                        tasks.start_soon(before_any_loop.put, f"task {number}", number, None, ttl)
                        tasks.start_soon(anyio.to_thread.run_sync, bridge.put, f"thread {number}", number, None, ttl)
                    await until(lambda: len(before_any_loop._owner.mailbox) == 20)
                    held.release()
                for _ in range(20):
                    await anext(stream)
    assert before_any_loop.revision == before + 40
    before_any_loop._check()


def test_only_ports_and_tickets_know_the_loops() -> None:
    """Row 18: asyncio and trio are imported by ``ports`` and its tickets alone; nothing else can speak to one of them only."""
    for path in PACKAGE.rglob("*.py"):
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        }
        allowed = {"asyncio", "trio"} if path.name in {"ports.py", "tickets.py"} else set()
        assert imported & {"asyncio", "trio", "uvloop", "sniffio"} <= allowed, path


SCANS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "keys": lambda reads: reads.keys(),
    "keys with a prefix": lambda reads: reads.keys(prefix="k1"),
    "values": lambda reads: reads.values(),
    "items": lambda reads: reads.items(),
    "latest": lambda reads: reads.latest(),
    "query": lambda reads: reads.query(lambda _, value: value % 2 == 0),
    "count": lambda reads: reads.count(lambda _, value: value % 2 == 0),
    "aggregate": lambda reads: reads.aggregate(sum),
    "get_keys_by_value": lambda reads: reads.get_keys_by_value(7),
    "diff": lambda reads: reads.diff(ChronoMap[str, int]()),
    "diff_detailed": lambda reads: reads.diff_detailed(ChronoMap[str, int]()),
}
KEYS = 8 * SLICE


async def scanned(scan: Callable[[Any], Awaitable[Any]], reads: Any, write: Callable[[int], Awaitable[Any]]) -> tuple[Any, int]:
    """What a scan gives, and how often another task got its turn to write meanwhile."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await write(turns)
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        await until(lambda: turns)
        turns = 0
        found = await scan(reads)
        so_many = turns
        tasks.cancel_scope.cancel()
    return found, so_many


@pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)
async def test_a_scan_lets_others_run(scan: Callable[[Any], Awaitable[Any]]) -> None:
    """Row 19: others get their turns while 2,048 keys are looked at, of a map and of a snapshot."""
    cm = AsyncChronoMap[str, int]()
    await cm.put_many({f"k{number}": number for number in range(KEYS)})
    expected = await scan(cm)
    for reads in (cm, await cm.snapshot()):
        found, turns = await scanned(scan, reads, lambda _: anyio.lowlevel.checkpoint())
        assert found == expected
        assert turns >= KEYS // SLICE // 3


async def test_other_slow_calls_let_others_run() -> None:
    """Row 19: pruning everything, and a snapshot's newest keys."""
    cm = AsyncChronoMap[str, int]()
    for _ in range(2):
        await cm.put_many({f"k{number}": number for number in range(KEYS)})
    for call in (lambda snapshot: snapshot.get_latest_keys(3), lambda _: cm.prune_all_history(keep_last=1)):
        _, turns = await scanned(call, await cm.snapshot(), lambda _: anyio.lowlevel.checkpoint())
        assert turns >= KEYS // SLICE // 3


@pytest.mark.memory_only
async def test_a_scan_sees_one_revision() -> None:
    """Row 19: what is written between its slices is not seen, however it is written."""
    cm = AsyncChronoMap[str, int]()
    state = {f"k{number}": number for number in range(KEYS)}
    await cm.put_many(state)

    async def write(turn: int) -> None:
        await cm.put_many({f"k{number}": -1 for number in range(KEYS - 20, KEYS)})
        await cm.delete(f"k{KEYS - 30 - turn}")
        await cm.put(f"k{KEYS - 200}", -1, timestamp=1.0)
        await cm.prune_history(f"k{KEYS - 1}", keep_last=1)

    before = cm.revision
    snapshot = await cm.snapshot()
    found, turns = await scanned(lambda reads: reads.latest(), snapshot, write)
    assert found == state
    assert turns >= KEYS // SLICE // 3
    assert cm.revision > before
    pinned = await cm.latest()
    found, _ = await scanned(lambda reads: reads.latest(), cm, lambda _: cm.put_many(dict.fromkeys(pinned, -7)))
    assert set(found.values()) == {-7}, "the first write came before the scan, all others after its revision"
    steps = iter(range(10**6))
    found, _ = await scanned(lambda reads: reads.latest(), cm, lambda _: cm.put_many(dict.fromkeys(pinned, next(steps))))
    assert len(set(found.values())) == 1, "parts of different revisions in one answer"
    cm._check()
