"""Reading one key: of the newest value, at a timestamp, and as known at a revision, with short and long histories.

Why a user cares: a key that changes often must not get slow to read as its history grows.
"""

from __future__ import annotations

import asyncio
import bisect
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import cycle, islice, repeat
from typing import Any, Final

from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import opened

LENGTHS: Final = (1, 100, 10_000, 100_000)
MARKS: Final = 10
"""Moments of the past that are asked for in turn, spread over the history."""

Mark = tuple[float, Any, int]
"""A moment: its timestamp, its revision if the side has any, and what the key held."""


def cases(moment: str) -> list[str]:
    """The names of the cases for one kind of read."""
    return [f"{moment}, {length:,} version{'s' * (length > 1)}" for length in LENGTHS]


def marked(length: int) -> Iterable[int]:
    """After which puts to remember the moment."""
    return sorted({math.ceil(length * number / MARKS) - 1 for number in range(1, MARKS + 1)})


def filled(put: Callable[[str, int], Any], length: int) -> list[Mark]:
    """Give the key a history; returns the moments to ask for."""
    marks: list[Mark] = []
    ends = iter(marked(length))
    end = next(ends)
    for number in range(length):
        revision = put("key", number)
        if number == end:
            time.sleep(0.001)  # so that no version shares the moment
            marks.append((time.time(), revision, number))
            time.sleep(0.001)
            end = next(ends, -1)
    return marks


def ask(meter: Meter, case: str, call: Callable[[Mark], Any], marks: list[Mark]) -> None:
    """Time a read of the past at each of the moments in turn."""
    assert [call(mark) for mark in marks] == [mark[2] for mark in marks]

    def work(count: int) -> None:
        for mark in islice(cycle(marks), count):
            call(mark)

    meter.time(case, work)


@scenario(
    "get",
    sides=("ours", "peer", "dict of lists", "dict with a Lock", "cachetools.TTLCache", "diskcache"),
    wanted=(
        Wanted("newest, 1 version", ("peer",), 7),
        Wanted("newest, 100,000 versions", ("peer",), 7, at_case="newest, 1 version"),
    ),
)
def get(meter: Meter) -> None:
    """One plain get: what a script pays where a dict would do but for the history."""
    side = meter.side
    keeps_history = side in {"ours", "peer", "dict of lists"}
    every = zip(LENGTHS, cases("newest"), cases("at a timestamp"), cases("at a revision"), strict=True)
    for length, newest, at_timestamp, at_revision in every:
        if length > 1 and not keeps_history:
            break  # what keeps only the newest value has no longer history to slow it
        with opened(side) as store:
            marks = filled(store.put, meter.size(length))
            get = store.get
            assert get("key") == meter.size(length) - 1

            def work(count: int, get: Callable[[str], Any] = get) -> None:
                for _ in repeat(None, count):
                    get("key")

            meter.time(newest, work)
            if side in {"ours", "peer"}:
                past: Callable[..., Any] = store.behind.get
                ask(meter, at_timestamp, lambda mark, past=past: past("key", mark[0]), marks)
            if side == "ours":
                ask(meter, at_revision, lambda mark, past=past: past("key", revision=mark[1]), marks)
            if side == "dict of lists":
                versions = store.behind["key"]
                ask(
                    meter,
                    at_timestamp,
                    lambda mark, versions=versions: versions[bisect.bisect_right(versions, (mark[0], math.inf)) - 1][1],
                    marks,
                )


@scenario("history", sides=("ours", "peer", "dict of lists"))
def history(meter: Meter) -> None:
    """The history of one key as a list, and a range of half of it: what an audit page or a chart shows."""
    for length in (1, 1_000):
        versions = meter.size(length)
        with opened(meter.side) as store:
            stamps = [mark[0] for mark in filled(store.put, versions)]
            start, end = stamps[len(stamps) // 4], stamps[-1 - len(stamps) // 4]
            if meter.side == "dict of lists":
                kept = store.behind["key"]
                calls = kept.copy, partial(between, kept, start, end)
            else:
                calls = partial(store.behind.history, "key"), partial(store.behind.get_range, "key", start, end)
            everything = calls[0]()
            assert [value for _, value in everything] == [*range(versions)]
            assert calls[1]() == [row for row in everything if start <= row[0] <= end]
            named = f"{length:,} version{'s' * (length > 1)}"
            for case, call in zip((named, f"{named}, a range"), calls, strict=True):

                def work(count: int, call: Callable[[], Any] = call) -> None:
                    for _ in repeat(None, count):
                        call()

                meter.time(case, work, operations=2_000)


def between(kept: list[tuple[float, Any]], start: float, end: float) -> list[tuple[float, Any]]:
    """The part of a sorted list with timestamps from start to end."""
    return kept[bisect.bisect_left(kept, (start,)) : bisect.bisect_right(kept, (end, math.inf))]


@scenario(
    "get-async",
    sides=("ours", "peer", "aiocache"),
    wanted=(
        Wanted("newest, 1 version", ("peer",), 3.5),
        Wanted("newest, 100,000 versions", ("peer",), 3.5, at_case="newest, 1 version"),
        Wanted("newest, 100,000 versions", ("peer",), 2_000),
    ),
)
async def get_async(meter: Meter) -> None:
    """One awaited get: what a request that looks something up pays on an event loop."""
    if meter.side == "aiocache":
        from aiocache import SimpleMemoryCache

        cache = SimpleMemoryCache()
        await cache.set("key", 0)
        await ask_async(meter, "newest, 1 version", lambda: cache.get("key"), 0)
        return
    from chronomap import AsyncChronoMap

    for length, newest, at_timestamp in zip(LENGTHS, cases("newest"), cases("at a timestamp"), strict=True):
        cm: Any = AsyncChronoMap()
        middle = meter.size(length) // 2
        for number in range(meter.size(length)):
            await cm.put("key", number)
            if number == middle:
                await asyncio.sleep(0.001)  # as in `filled`
                moment = time.time()
                await asyncio.sleep(0.001)
        await ask_async(meter, newest, partial(cm.get, "key"), meter.size(length) - 1)
        await ask_async(meter, at_timestamp, partial(cm.get, "key", moment), middle)


async def ask_async(meter: Meter, case: str, call: Callable[[], Awaitable[Any]], expected: Any) -> None:
    """Time an awaited read."""
    assert await call() == expected

    async def work(count: int) -> None:
        for _ in repeat(None, count):
            await call()

    await meter.time_async(case, work)
