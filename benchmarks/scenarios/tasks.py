"""Awaited puts, by one task and by a hundred at once.

Why a user cares: what a consumer of events pays to record one, and whether many of them get in each other's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import KEYS, around, dict_of_lists

OPERATIONS: Final = 100_000


@scenario(
    "put-async",
    sides=("ours", "peer", "dict of lists", "aiocache"),
    wanted=(Wanted("1 task", ("peer",), 1.5), Wanted("100 tasks", ("peer",), 1.5)),
)
async def put_async(meter: Meter) -> None:
    """One awaited put, over 1,000 keys in turn; the dict of lists is appended to in a coroutine."""
    keys = KEYS[: meter.size(len(KEYS))]
    for tasks in (1, 100):
        at_once = meter.size(tasks)
        put, get = made(meter.side)

        async def writer(count: int, put: Callable[[str, int], Awaitable[Any]] = put) -> None:
            for number, key in enumerate(around(keys, count)):
                await put(key, number)

        async def work(count: int, at_once: int = at_once, writer: Callable[[int], Awaitable[None]] = writer) -> None:
            await asyncio.gather(*(writer(count // at_once) for _ in range(at_once)))

        await writer(len(keys))
        operations = OPERATIONS // 10 if meter.side == "aiocache" else OPERATIONS
        await meter.time_async(f"{tasks} task{'s' * (tasks > 1)}", work, operations=operations)
        last = meter.operations(operations) // at_once - 1
        assert await get(keys[last % len(keys)]) == last


def made(side: str) -> tuple[Callable[[str, int], Awaitable[Any]], Callable[[str], Awaitable[Any]]]:
    """How to put and get on a side."""
    if side == "aiocache":
        from aiocache import SimpleMemoryCache

        cache = SimpleMemoryCache()
        return cache.set, cache.get
    if side == "dict of lists":
        store = dict_of_lists()

        async def put(key: str, value: int) -> None:
            store.put(key, value)

        async def get(key: str) -> Any:
            return store.get(key)

        return put, get
    from chronomap import AsyncChronoMap

    cm: Any = AsyncChronoMap()
    return cm.put, cm.get
