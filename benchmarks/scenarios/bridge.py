"""A thread that uses a map living on an event loop.

Why a user cares: a worker thread or a synchronous library in an async program. Everything else that gets an answer from
a loop wakes the loop and is woken by it; ours reads and writes on the spot and only tries to take the owner's turn.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter_ns
from typing import Any, Final

from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import KEYS, around

SLICE: Final = 2_000_000
"""Nanoseconds for which the busy loop works without a pause."""

Calls = tuple[Callable[[str, int], Any], Callable[[str], Any]]


@asynccontextmanager
async def calls(side: str) -> AsyncIterator[Calls]:
    """How a thread puts and gets on a side. Other than ours, they reach a plain dict that belongs to the loop."""
    loop = asyncio.get_running_loop()
    table: dict[str, int] = {}
    if side == "ours":
        from chronomap import AsyncChronoMap

        async with AsyncChronoMap() as cm:
            bridge: Any = cm.bridge()
            yield bridge.put, bridge.get
    elif side == "anyio portal":
        from anyio.from_thread import BlockingPortal

        async with BlockingPortal() as portal:
            yield (lambda key, value: portal.call(table.__setitem__, key, value)), (lambda key: portal.call(table.get, key))
    elif side == "run_coroutine_threadsafe":

        async def put(key: str, value: int) -> None:
            table[key] = value

        async def get(key: str) -> int | None:
            return table.get(key)

        def send(coroutine: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

        yield (lambda key, value: send(put(key, value))), (lambda key: send(get(key)))
    else:
        async with janus_calls(table) as found:
            yield found


@asynccontextmanager
async def janus_calls(table: dict[str, int]) -> AsyncIterator[Calls]:
    """Requests in a janus queue, answered by a task that owns the table."""
    import janus

    queue: janus.Queue[tuple[concurrent.futures.Future[Any], Callable[..., Any], tuple[Any, ...]]] = janus.Queue()

    async def owner() -> None:
        while True:
            future, function, arguments = await queue.async_q.get()
            future.set_result(function(*arguments))

    def ask(function: Callable[..., Any], *arguments: Any) -> Any:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        queue.sync_q.put((future, function, arguments))
        return future.result()

    task = asyncio.create_task(owner())
    yield (lambda key, value: ask(table.__setitem__, key, value)), (lambda key: ask(table.get, key))
    task.cancel()
    await queue.aclose()


async def toil() -> None:
    """Keep the loop busy two thirds of the time, as a server under load is.

    A loop that never sleeps was tried first: there every call that has to wake the loop took about a second, because the
    loop takes the interpreter back before the woken thread gets it. True, but not what one plans for.
    """
    while True:
        end = perf_counter_ns() + SLICE
        while perf_counter_ns() < end:
            pass
        await asyncio.sleep(0.0005)  # selectors round it up to a millisecond


@scenario(
    "bridge",
    sides=("ours", "anyio portal", "run_coroutine_threadsafe", "janus"),
    wanted=(
        Wanted("get, busy loop", ("anyio portal",), 50),
        Wanted("put, idle loop", ("anyio portal",), 10),
    ),
    between_threads=True,
)
async def bridge(meter: Meter) -> None:
    """One call by a thread into a loop that has nothing else to do, and into one that is busy most of the time."""
    keys = KEYS[: meter.size(len(KEYS))]
    for state in ("idle", "busy"):
        async with calls(meter.side) as (put, get):

            def puts(count: int, put: Callable[[str, int], Any] = put) -> None:
                for number, key in enumerate(around(keys, count)):
                    put(key, number)

            def gets(count: int, get: Callable[[str], Any] = get) -> None:
                for key in around(keys, count):
                    get(key)

            others = asyncio.create_task(toil()) if state == "busy" else None
            await asyncio.to_thread(meter.time, f"put, {state} loop", puts)
            await asyncio.to_thread(meter.time, f"get, {state} loop", gets)
            await asyncio.to_thread(put, keys[0], -1)
            assert await asyncio.to_thread(get, keys[0]) == -1
            if others is not None:
                others.cancel()
