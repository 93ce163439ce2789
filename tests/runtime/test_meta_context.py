"""``chronomap.meta`` reaches the tasks and worker threads that its block starts, and nobody else."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

import chronomap
from chronomap import AsyncChronoMap

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("maps")]

ANN = {"author": "ann"}


async def metas(cm: AsyncChronoMap[str, int]) -> dict[str, Any]:
    """What each key's only change was committed with."""
    return {change.key: change.meta async for change in cm.replay()}


async def test_tasks_inherit_it_when_they_are_started() -> None:
    """The block's tasks have it, for as long as they run; those of others do not, and what a task says stays its own."""
    cm = AsyncChronoMap[str, int]()
    left = anyio.Event()

    async def put(key: str, *, later: bool = False) -> None:
        if later:
            await left.wait()
        await cm.put(key, 1)

    async def say_more() -> None:
        with chronomap.meta(reason="x"):
            await anyio.lowlevel.checkpoint()
            await cm.put("more", 1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put, "before")
        with chronomap.meta(author="ann"):
            tasks.start_soon(lambda: put("later", later=True))
            async with anyio.create_task_group() as inner:
                inner.start_soon(say_more)
                inner.start_soon(put, "inside")
            await put("itself")
        tasks.start_soon(put, "after")
        left.set()
    assert await metas(cm) == {
        "before": {},
        "later": ANN,
        "more": {**ANN, "reason": "x"},
        "inside": ANN,
        "itself": ANN,
        "after": {},
    }


async def test_worker_threads_inherit_it() -> None:
    """Through anyio, also for a map called through its bridge, and back on the loop from the thread; a bare thread does not."""
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()

    def work() -> None:
        bridge.put("thread", 1)
        with chronomap.meta(author="bob"):
            bridge.put("said in it", 1)
            anyio.from_thread.run(cm.put, "back", 1)

    with chronomap.meta(author="ann"):
        await anyio.to_thread.run_sync(work)
        await cm.put("itself", 1)
        bare = threading.Thread(target=bridge.put, args=("bare", 1))
        bare.start()
        await anyio.to_thread.run_sync(bare.join)
    await anyio.to_thread.run_sync(bridge.put, "after", 1)
    assert await metas(cm) == {
        "thread": ANN,
        "said in it": {"author": "bob"},
        "back": {"author": "bob"},
        "itself": ANN,
        "bare": {},
        "after": {},
    }


async def test_threads_and_tasks_of_asyncio_inherit_it(anyio_backend: Any) -> None:
    """``asyncio.to_thread`` and ``create_task`` do; ``run_in_executor``, which copies no context, does not."""
    if anyio_backend[0] != "asyncio":
        pytest.skip("they are asyncio's")
    cm = AsyncChronoMap[str, int]()
    bridge = cm.bridge()
    with chronomap.meta(author="ann"):
        task = asyncio.create_task(cm.put("task", 1))
        await asyncio.to_thread(bridge.put, "thread", 1)
        await asyncio.get_running_loop().run_in_executor(None, bridge.put, "executor", 1)
    await task
    assert await metas(cm) == {"task": ANN, "thread": ANN, "executor": {}}
