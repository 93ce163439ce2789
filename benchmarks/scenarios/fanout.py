"""One writer, and watchers that each get every change.

Why a user cares: live pages, caches and projections all follow the same map. By hand one gives each of them a queue and
puts every change into all of the queues; a change stream is a position in the log of changes instead. On all sides the
writer puts into the same map, so what differs is how the change gets to the watchers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from time import perf_counter_ns
from typing import Any, Final

from benchmarks.frame import Meter, Wanted, scenario

WATCHERS: Final = (1, 100, 1_000)
BURST: Final = 100
BURSTS: Final = 12
"""At least so many bursts: now and then the writer lets others run in the middle of one, and then it is two."""

RATE: Final = 30_000
"""Deliveries per second at which the time from put to receipt is taken: what all sides can keep up with."""

SIDES: Final = ("ours", "asyncio.Queue", "anyio memory stream", "ours on uvloop")
OTHERS: Final = SIDES[1:3]


@dataclass(frozen=True)
class Wire:
    """How changes get from the writer to the watchers.

    Attributes:
        send: Writes a value into the map, and into the queues if there are any.
        receive: For each watcher, what to await for the next change.
        value: Takes the value out of a change.
    """

    send: Callable[[int], Awaitable[None]]
    receive: list[Callable[[], Awaitable[Any]]]
    value: Callable[[Any], int]


@asynccontextmanager
async def wire(side: str, watchers: int) -> AsyncIterator[Wire]:
    """A map, its writer and its watchers."""
    from chronomap import AsyncChronoMap

    async with AsyncChronoMap() as cm:
        put = cm.put
        if side.startswith("ours"):
            streams = [cm.watch() for _ in range(watchers)]

            async def send(value: int) -> None:
                await put("key", value)

            yield Wire(send, [stream.__anext__ for stream in streams], attrgetter("value"))
            for stream in streams:
                await stream.aclose()
            return
        if side == "asyncio.Queue":
            queues: list[asyncio.Queue[Any]] = [asyncio.Queue() for _ in range(watchers)]
            receive: list[Callable[[], Awaitable[Any]]] = [queue.get for queue in queues]
            feeds: list[Callable[[Any], None]] = [queue.put_nowait for queue in queues]
            ends: list[Any] = []
        else:
            from anyio import create_memory_object_stream

            pairs = [create_memory_object_stream[Any](float("inf")) for _ in range(watchers)]
            receive = [receiver.receive for _, receiver in pairs]
            feeds = [sender.send_nowait for sender, _ in pairs]
            ends = [end for pair in pairs for end in pair]

        async def send_to_all(value: int) -> None:
            change = ("key", value, await put("key", value))
            for feed in feeds:
                feed(change)

        yield Wire(send_to_all, receive, itemgetter(1))
        for end in ends:
            end.close()


async def count_all(receive: Callable[[], Awaitable[Any]], value: Callable[[Any], int], expected: int) -> None:
    """A watcher that only checks that it got the last one, as the number of those before says."""
    for _ in range(expected):
        change = await receive()
    assert value(change) == expected - 1


async def time_all(
    receive: Callable[[], Awaitable[Any]], value: Callable[[Any], int], expected: int, delays: list[int]
) -> None:
    """A watcher that notes how long each took to arrive: the value is the time at which it was put."""
    for _ in range(expected):
        change = await receive()
        delays.append(perf_counter_ns() - value(change))


@scenario(
    "fanout",
    sides=SIDES,
    wanted=tuple(
        Wanted(f"{mode}, {watchers:,}", OTHERS, 1.5 if watchers > 1 else 1)
        for mode in ("steady", "bursts")
        for watchers in WATCHERS
    ),
    unit="per second",
)
async def fanout(meter: Meter) -> None:
    """Deliveries per second to 1, 100 and 1,000 watchers, with a writer that yields after each put or after 100."""
    for watchers in WATCHERS:
        for mode, burst in (("steady", 1), ("bursts", BURST)):
            readers = meter.size(watchers)
            puts = max(burst, meter.operations(100_000) // readers // burst * burst)
            async with wire(meter.side, readers) as wires:

                async def work(_: int, wires: Wire = wires, puts: int = puts, burst: int = burst) -> None:
                    tasks = [asyncio.create_task(count_all(receive, wires.value, puts)) for receive in wires.receive]
                    await asyncio.sleep(0)  # all of them wait by now
                    for number in range(puts):
                        await wires.send(number)
                        if number % burst == burst - 1:
                            await asyncio.sleep(0)
                    await asyncio.gather(*tasks)

                await meter.time_async(f"{mode}, {watchers:,}", work, operations=1, per=puts * readers)


@scenario(
    "fanout-delay",
    sides=SIDES,
    wanted=tuple(
        Wanted(f"{mode}, {watchers:,}, {part}", OTHERS, 1.5 if watchers > 1 else 1)
        for mode in ("steady", "bursts")
        for watchers in WATCHERS
        for part in ("median", "p99")
    ),
)
async def fanout_delay(meter: Meter) -> None:
    """From put to receipt, at 30,000 deliveries per second, and in bursts of 100 puts each followed by calm."""
    for watchers in WATCHERS:
        readers = meter.size(watchers)
        for mode, burst in (("steady", 1), ("bursts", BURST)):
            bursts = max(BURSTS, meter.operations(15_000) // readers // burst)
            delays: list[int] = []
            async with wire(meter.side, readers) as wires:
                tasks = [
                    asyncio.create_task(time_all(receive, wires.value, bursts * burst, delays)) for receive in wires.receive
                ]
                await asyncio.sleep(0)
                begun = perf_counter_ns()
                for number in range(bursts):
                    for _ in range(burst):
                        await wires.send(perf_counter_ns())
                    due = begun + (number + 1) * readers * 1_000_000_000 // RATE
                    received = (number + 1) * burst * readers
                    # Sleeping for real is not exact enough; and a loop that is awake is what is being measured.
                    while len(delays) < received or (burst == 1 and perf_counter_ns() < due):  # noqa: ASYNC110
                        await asyncio.sleep(0)
                await asyncio.gather(*tasks)
            delays.sort()
            assert len(delays) == bursts * burst * readers
            meter.note(f"{mode}, {watchers:,}, median", delays[len(delays) // 2])
            meter.note(f"{mode}, {watchers:,}, p99", delays[len(delays) * 99 // 100])
