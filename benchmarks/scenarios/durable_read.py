"""Reading a map that is on the disk.

Why a user cares: a file must not make reading slower than memory does; and with ``resident=`` a history may be larger than
the memory, at the price of going to the file for what is old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

from benchmarks.disk import folder
from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.scenarios.durable_open import make
from benchmarks.stores import KEYS

VERSIONS = 100
"""Of each key."""

READ = 200
"""Keys whose past is asked for."""


@scenario(
    "durable-read",
    sides=("ours", "ours, in memory", "apsw"),
    wanted=(
        # "As in memory", less what two medians of the same thing differ by on a shared machine.
        Wanted("newest", ("ours, in memory",), 0.75),
        Wanted("newest, awaited", ("ours, in memory",), 0.75),
    ),
)
async def durable_read(meter: Meter) -> None:
    """One get, of 1,000 keys with 100 versions each, of which the newest is resident; the others are in the file only.

    A get of one that is not resident reads that key's history, which is then kept for a while: so the first and the next
    are measured. Another key was read so before, since the first reader of all waits for the index by key. For apsw it is a
    look-up of one version in a table that is clustered by key and time.
    """
    keys = KEYS[: meter.size(len(KEYS))]
    if meter.side == "ours, in memory":
        from chronomap import AsyncChronoMap, ChronoMap

        plain: Any = ChronoMap()
        there: Any = AsyncChronoMap()
        for number in range(len(keys) * VERSIONS):
            plain.put(keys[number % len(keys)], number)
            await there.put(keys[number % len(keys)], number)
        await newest(meter, plain, there, len(keys))
        return
    with folder(meter) as place:
        path = place / "file"
        if meter.side == "apsw":
            look_up(meter, path, keys)
            return
        make(path, len(keys) * VERSIONS, keys)
        await ours(meter, path, keys)


async def newest(meter: Meter, plain: Any, there: Any, size: int) -> None:
    """Time gets of what is in memory."""
    get, awaited = plain.get, there.get
    last = size * (VERSIONS - 1)
    assert get(KEYS[0]) == await awaited(KEYS[0]) == last

    def work(count: int) -> None:
        for _ in repeat(None, count):
            get("key-0")

    async def work_async(count: int) -> None:
        for _ in repeat(None, count):
            await awaited("key-0")

    meter.time("newest", work)
    await meter.time_async("newest, awaited", work_async)


async def ours(meter: Meter, path: Path, keys: list[str]) -> None:
    """Time both kinds of gets on a map on the disk."""
    from chronomap import AsyncChronoMap, Retention

    asked = keys[: meter.size(READ)]
    first = {key: 1.7e9 + number * 0.001 for number, key in enumerate(keys)}
    async with AsyncChronoMap.open(path, resident=Retention(max_versions=1)) as cm:
        assert all(len(timeline) == 1 for timeline in cm._owner.timelines.values())
        bridge: Any = cm.bridge()
        await newest(meter, bridge, cm, len(keys))
        await cm.get(keys[-1], first[keys[-1]])
        get = bridge.get

        def past(_: int) -> None:
            for key in asked:
                get(key, first[key])

        for case in ("not resident, first time", "not resident, again"):
            await asyncio.to_thread(meter.time, case, past, operations=1, per=len(asked))
        assert await asyncio.to_thread(get, keys[1], first[keys[1]]) == 1

    # The awaited one finds the way to a thread and back, and must not find what the other left.
    async with AsyncChronoMap.open(path, resident=Retention(max_versions=1)) as cm:
        await cm.get(keys[-1], first[keys[-1]])

        async def past_async(_: int) -> None:
            for key in asked:
                await cm.get(key, first[key])

        await meter.time_async("not resident, awaited, first time", past_async, operations=1, per=len(asked))
        assert await cm.get(keys[1], first[keys[1]]) == 1


def look_up(meter: Meter, path: Path, keys: list[str]) -> None:
    """Time look-ups in a table that was made for them."""
    import apsw
    import msgspec

    connection = apsw.Connection(str(path))
    connection.execute(
        "CREATE TABLE v (key TEXT, timestamp REAL, value BLOB, PRIMARY KEY (key, timestamp)) WITHOUT ROWID; BEGIN"
    )
    connection.executemany(
        "INSERT INTO v VALUES (?, ?, ?)",
        ((keys[n % len(keys)], 1.7e9 + n * 0.001, b"%d" % n) for n in range(len(keys) * VERSIONS)),
    )
    connection.execute("COMMIT")
    decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode
    asked = keys[: meter.size(READ)]

    def get(key: str, timestamp: float) -> Any:
        query = "SELECT value FROM v WHERE key = ? AND timestamp <= ? ORDER BY timestamp DESC LIMIT 1"
        return decode(connection.execute(query, (key, timestamp)).fetchone()[0])

    def past(_: int) -> None:
        for number, key in enumerate(asked):
            get(key, 1.7e9 + number * 0.001)

    for case in ("not resident, first time", "not resident, again"):
        meter.time(case, past, operations=1, per=len(asked))
    assert get(keys[1], 1.7e9 + 0.001) == 1
    connection.close()
