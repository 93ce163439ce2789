"""What only asyncio has: cancelling a task from outside, and bare event loops."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest

from chronomap import AsyncChronoMap


@pytest.mark.asyncio
async def test_native_cancellation_at_any_moment(seed: random.Random) -> None:
    """Tasks cancelled with task.cancel() at random moments: every acknowledged put stands, and the map stays sound."""
    cm = AsyncChronoMap[int, int]()
    hooked: list[int] = []

    async def hook(key: int, old: int | None, new: int | None, timestamp: float) -> None:
        await asyncio.sleep(0)
        hooked.append(key)

    acknowledged: dict[int, tuple[int, int]] = {}

    async def write(name: int) -> None:
        number = 0
        while True:
            acknowledged[await cm.put(name, number)] = (name, number)
            number += 1

    for with_hook in (False, True):
        if with_hook:
            cm.on_change(hook)
        tasks = [asyncio.create_task(write(name)) for name in range(20)]
        for task in seed.sample(tasks, len(tasks)):
            for _ in range(seed.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in done)
    for revision, (key, value) in acknowledged.items():
        assert await cm.get(key, revision=revision) == value
    assert hooked
    cm._check()
    await cm.aclose()


def test_a_bare_loop_closed_without_a_word() -> None:
    """run_until_complete and close, never aclose: a deadline does not keep anything from ending."""
    cm = AsyncChronoMap[str, int]()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(cm.put("a", 1, ttl=1000))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert asyncio.run(cm.get("a")) == 1
    del cm
    gc.collect()
