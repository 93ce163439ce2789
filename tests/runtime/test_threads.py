"""The worker threads behind the async face: nobody else's, and nobody leaves one behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from waiting import LONG, until

from chronomap import AsyncChronoMap, formats
from chronomap.runtime import threads
from chronomap.runtime.threads import in_thread

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def all_threads_busy() -> AsyncIterator[None]:
    """All worker threads that the application may have at a time are in use."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 1
    release, taken = threading.Event(), threading.Event()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, lambda: (taken.set(), release.wait(LONG)))
            await until(taken.is_set)
            yield
            release.set()
    finally:
        release.set()
        limiter.total_tokens = before


async def test_files_do_not_wait_for_the_application(tmp_path: Path) -> None:
    """Opening, reading, saving and closing go on while every thread of the application waits for something."""
    with anyio.fail_after(LONG / 2):
        async with all_threads_busy():
            async with AsyncChronoMap.open(tmp_path / "m.chrono") as cm:
                await cm.put("k", 1)
                await cm.save_json(tmp_path / "m.json")
                assert [change.key async for change in cm.replay()] == ["k"]
            assert await (await AsyncChronoMap.load_json(tmp_path / "m.json")).get("k") == 1


async def test_a_bridge_in_every_thread_and_a_callback_that_dumps() -> None:
    """The application's threads wait for a callback, and the callback for a thread of the map's."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 2
    dumped: list[int] = []

    async def dump(*_: Any) -> None:
        assert await cm.to_dict()
        dumped.append(1)

    try:
        async with AsyncChronoMap[str, int]() as cm:
            cm.on_change(dump)
            with anyio.fail_after(LONG):
                async with anyio.create_task_group() as tasks:
                    for number in range(6):
                        tasks.start_soon(anyio.to_thread.run_sync, cm.bridge().put, f"k{number}", number)
    finally:
        limiter.total_tokens = before
    assert len(dumped) == 6


@contextmanager
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """The map has one thread, for work that says that it has begun and goes on until it is released."""
    monkeypatch.setattr(threads, "MOST", 1)
    begun, release = threading.Event(), threading.Event()
    try:
        yield begun, release
    finally:
        release.set()


async def test_cancelled_before_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a free thread and is cancelled waits no longer, and nothing is done."""
    done: list[str] = []
    with one_thread(monkeypatch) as (begun, release):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_thread, lambda: (begun.set(), release.wait(LONG), done.append("first")))
            await until(begun.is_set)
            with anyio.move_on_after(0.01) as scope:
                await in_thread(lambda: done.append("second"))
            assert scope.cancelled_caught
            assert not done
            release.set()
    assert done == ["first"]


async def test_cancelled_after_it_began() -> None:
    """A thread that has begun is waited for, and the cancellation is not lost."""
    done: list[str] = []
    begun, release = threading.Event(), threading.Event()
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def work() -> None:
            with scope:
                await in_thread(lambda: (begun.set(), release.wait(LONG), done.append("all")))
                await anyio.lowlevel.checkpoint()
                done.append("and more")

        tasks.start_soon(work)
        await until(begun.is_set)
        scope.cancel()
        await anyio.lowlevel.checkpoint()
        assert not done
        release.set()
    assert done == ["all"]


async def test_natively_cancelled(anyio_backend: Any) -> None:
    """``task.cancel()``, which no scope keeps out, as often as one likes: the task ends after its thread."""
    if anyio_backend[0] != "asyncio":
        pytest.skip("only asyncio cancels like this")
    done: list[str] = []
    begun, release = threading.Event(), threading.Event()
    task = asyncio.create_task(in_thread(lambda: (begun.set(), release.wait(LONG), done.append("all"))))
    await until(begun.is_set)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["all"]


async def test_natively_cancelled_in_time(anyio_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And at any moment before it began: it either has done nothing or all of it, before the task ends."""
    if anyio_backend[0] != "asyncio":
        pytest.skip("only asyncio cancels like this")
    outcomes: set[bool] = set()
    for turns in range(8):
        done: list[str] = []
        task = asyncio.create_task(in_thread(lambda done=done: done.append("all")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        before = len(done)
        if not task.cancelled():
            assert done == ["all"]
        await asyncio.to_thread(lambda: None)
        assert len(done) == before
        outcomes.add(bool(done))
    assert False in outcomes
    with one_thread(monkeypatch) as (begun, release):
        first = asyncio.create_task(in_thread(lambda: (begun.set(), release.wait(LONG))))
        await until(begun.is_set)
        second = asyncio.create_task(in_thread(lambda: pytest.fail("it was given up")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        assert second.cancelled()
        release.set()
        await first


async def test_a_file_that_is_being_written_by_a_cancelled_task(
    tmp_path: Path, anyio_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, or not, when the task ends; it does not replace what is written afterwards."""
    if anyio_backend[0] != "asyncio":
        pytest.skip("only asyncio cancels like this")
    begun, release, save = threading.Event(), threading.Event(), formats.save_json

    def slow(*arguments: Any) -> None:
        begun.set()
        release.wait(LONG)
        save(*arguments)

    path = tmp_path / "m.json"
    async with AsyncChronoMap[str, int]() as cm:
        await cm.put("k", 1)
        monkeypatch.setattr(formats, "save_json", slow)
        task = asyncio.create_task(cm.save_json(path))
        await until(begun.is_set)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        release.set()
        await asyncio.wait([task])
        assert task.cancelled()
        assert path.exists()
