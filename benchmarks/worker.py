"""Measures one scenario with the ``chronomap`` of whatever environment runs it, and prints the result as JSON.

``python -I benchmarks/worker.py SCENARIO SIDE DIVISOR``; the side, ``ours`` or ``peer``, chooses the sizes, and the
divisor makes for fewer operations. Only what both packages offer is called, on maps made without any option.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import json
import random
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Final

import chronomap

KEYS: Final = [f"key-{number}" for number in range(1_000)]
THREADS: Final = 16


def filled(size: int) -> Any:
    """A map of ``size`` keys with one version each."""
    store: Any = chronomap.ChronoMap()
    store.put_many({f"key-{number}": number for number in range(size)})
    assert store.get(f"key-{size - 1}") == size - 1
    return store


def timed(call: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> float:
    """Nanoseconds for one call. The loop's own few count on both sides."""
    gc.collect()
    start = perf_counter_ns()
    for among in arguments:
        call(*among)
    return (perf_counter_ns() - start) / len(arguments)


async def timed_async(call: Callable[..., Awaitable[Any]], arguments: list[tuple[Any, ...]]) -> float:
    """The same for calls that are awaited one after the other."""
    gc.collect()
    start = perf_counter_ns()
    for among in arguments:
        await call(*among)
    return (perf_counter_ns() - start) / len(arguments)


def rounds_of_keys(operations: int) -> list[tuple[str]]:
    """Arguments for gets: the keys, over and over."""
    return [(KEYS[number % len(KEYS)],) for number in range(operations)]


def rounds_of_items(operations: int) -> list[tuple[str, int]]:
    """Arguments for puts: the keys, over and over, each time with a new value."""
    return [(KEYS[number % len(KEYS)], number) for number in range(operations)]


def async_get(size: int, operations: int) -> float:
    """One awaited get of a key with ``size`` versions: what a request handler pays to look something up.

    With many versions it shows whether a key that changes often gets slow to read as its history grows.
    """

    async def run() -> float:
        store: Any = chronomap.AsyncChronoMap()
        for number in range(size):
            await store.put("key", number)
        assert await store.get("key") == size - 1
        await timed_async(store.get, [("key",)] * max(1, operations // 10))
        return await timed_async(store.get, [("key",)] * operations)

    return asyncio.run(run())


def async_put(size: int, operations: int) -> float:
    """One awaited put, over ``size`` keys in turn: what a consumer of events pays to record one."""

    async def run() -> float:
        assert size == len(KEYS)
        store: Any = chronomap.AsyncChronoMap()
        await timed_async(store.put, rounds_of_items(size))
        taken = await timed_async(store.put, rounds_of_items(operations))
        assert await store.get(KEYS[(operations - 1) % size]) == operations - 1
        return taken

    return asyncio.run(run())


def sync_get(size: int, operations: int) -> float:
    """One get, over ``size`` keys in turn: what a script pays where a dict would do but for the history."""
    assert size == len(KEYS)
    store = filled(size)
    timed(store.get, rounds_of_keys(size))
    return timed(store.get, rounds_of_keys(operations))


def sync_put(size: int, operations: int) -> float:
    """One put, over ``size`` keys in turn: what a script pays for each change that it records."""
    assert size == len(KEYS)
    store = filled(size)
    taken = timed(store.put, rounds_of_items(operations))
    assert store.get(KEYS[(operations - 1) % size]) == operations - 1
    return taken


def put_many(size: int, operations: int) -> float:
    """One put_many of ``size`` items: what loading a batch costs, for those who import data."""
    store: Any = chronomap.ChronoMap()
    batches = [({f"key-{number}": turn + number for number in range(size)},) for turn in range(operations)]
    timed(store.put_many, batches[:1])
    taken = timed(store.put_many, batches)
    assert store.get(f"key-{size - 1}") == operations + size - 2
    return taken


def latest_keys(size: int, operations: int) -> float:
    """One get_latest_keys(10) of ``size`` keys put one by one: what a page of recent changes costs at each refresh."""
    store: Any = chronomap.ChronoMap()
    for number in range(size):
        store.put(f"key-{number}", number)
    assert len(store.get_latest_keys(10)) == 10
    return timed(store.get_latest_keys, [(10,)] * operations)


def latest_keys_of_batch(size: int, operations: int) -> float:
    """The same when all came in one put_many, and so may share a timestamp: the page right after an import."""
    store = filled(size)
    assert len(store.get_latest_keys(10)) == 10
    return timed(store.get_latest_keys, [(10,)] * operations)


def snapshot(size: int, operations: int) -> float:
    """One snapshot of a map of ``size`` keys: what holding still costs, and whether it grows with the map.

    Each is dropped at once, so what puts cost while a snapshot is held is not in it.
    """
    store = filled(size)
    assert store.snapshot().get(f"key-{size - 1}") == size - 1
    return timed(store.snapshot, [()] * operations)


def threads(size: int, operations: int) -> float:
    """One operation, 90 % gets and 10 % puts over ``size`` keys, when 16 threads share a map: a threaded server.

    The time from the first start to the last end, divided by all operations. There must be enough of them that every
    thread runs for longer than the interpreter's switch interval (5 ms): otherwise they run one after the other.
    """
    assert size == len(KEYS)
    store = filled(size)
    barrier = threading.Barrier(THREADS)
    passes = max(1, operations // (THREADS * len(KEYS)))
    spans: list[tuple[int, int]] = []

    def work(seed: int) -> None:
        choose = random.Random(seed)
        plan = [(choose.choice(KEYS), choose.random() < 0.9) for _ in KEYS]
        get, put = store.get, store.put
        barrier.wait()
        start = perf_counter_ns()
        for turn in range(passes):
            for key, reads in plan:
                if reads:
                    get(key)
                else:
                    put(key, turn)
        spans.append((start, perf_counter_ns()))

    team = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    gc.collect()
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert len(spans) == THREADS
    taken = max(end for _, end in spans) - min(start for start, _ in spans)
    return taken / (passes * len(KEYS) * THREADS)


@dataclass(frozen=True)
class Load:
    """How big the map is, and how many operations are timed."""

    size: int
    operations: int


@dataclass(frozen=True)
class Scenario:
    """What is measured, with which load on which side, and how many times faster than the peer we want to be."""

    measure: Callable[[int, int], float]
    ours: Load
    peer: Load
    wanted: float | None = None


def same(
    measure: Callable[[int, int], float], size: int, operations: int, peer: int | None = None, wanted: float | None = None
) -> Scenario:
    """A scenario of one size; ``peer`` is its number of operations where the common one would take too long."""
    return Scenario(measure, Load(size, operations), Load(size, peer or operations), wanted)


SCENARIOS: Final = {
    "async get, 1 version": same(async_get, 1, 300_000, wanted=3),
    "async get, many versions": Scenario(async_get, Load(100_000, 300_000), Load(10_000, 2_000), wanted=3),
    "async put": same(async_put, 1_000, 100_000, wanted=1),
    "sync get": same(sync_get, 1_000, 500_000, wanted=5),
    "sync put": same(sync_put, 1_000, 100_000, wanted=2),
    "put_many of 1,000": same(put_many, 1_000, 50),
    "get_latest_keys(10) of 20,000": same(latest_keys, 20_000, 500, peer=50),
    "get_latest_keys(10) of 20,000, one batch": same(latest_keys_of_batch, 20_000, 50),
    "snapshot, small map": same(snapshot, 10, 5_000),
    "snapshot, big map": Scenario(snapshot, Load(100_000, 5_000), Load(10_000, 10)),
    "16 threads, 90 % gets": same(threads, 1_000, 1_600_000, peer=800_000),
}


def main() -> None:
    """Measure what the command line names."""
    name, side, divisor = sys.argv[1:]
    scenario = SCENARIOS[name]
    load = scenario.ours if side == "ours" else scenario.peer
    taken = scenario.measure(load.size, max(5, load.operations // int(divisor)))
    found = {"ns": taken, "version": importlib.metadata.version("chronomap"), "file": chronomap.__file__}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
