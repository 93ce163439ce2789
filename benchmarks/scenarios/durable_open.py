"""Opening a map that is on the disk.

Why a user cares: it is how long a service is away when it is started again. The limit is to read the rows and to decode
their values, which whoever keeps the same history in SQLite by hand has to do as well.
"""

from __future__ import annotations

import gc
import json
import sqlite3
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.disk import folder
from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import KEYS

GROUP = 10_000
QUERY = "SELECT * FROM records ORDER BY id"


def make(path: Path, versions: int, keys: list[str]) -> None:
    """A map on the disk with so many versions, each put by itself, over the keys in turn."""
    from chronomap.core.records import NEVER, Commit, Record
    from chronomap.core.values import MISSING
    from chronomap.journal import SqliteJournal

    def commits() -> Iterable[Commit]:
        for number in range(versions):
            when = 1.7e9 + number * 0.001
            yield Commit(number + 1, when, (Record("put", keys[number % len(keys)], number, MISSING, when, NEVER),))

    # By way of the journal, which is what a map would do in the end.
    with SqliteJournal.open(path, durability="off") as journal:
        every = iter(commits())
        while group := list(islice(every, GROUP)):
            journal.append(group)


def gathered(rows: Iterable[tuple[Any, ...]], decode: Callable[[bytes], Any]) -> dict[bytes, list[tuple[float, int, Any]]]:
    """What the rows hold, by key."""
    found: dict[bytes, list[tuple[float, int, Any]]] = {}
    for _, revision, _, key, _, value, timestamp, *_ in rows:
        found.setdefault(key, []).append((timestamp, revision, decode(value)))
    return found


def read_apsw(path: Path) -> dict[bytes, list[tuple[float, int, Any]]]:
    """The limit: as fast a reader and decoder as there is, and no garbage collector, which ours keeps off as well."""
    import apsw
    import msgspec

    gc.disable()
    connection = apsw.Connection(str(path))
    try:
        return gathered(connection.execute(QUERY), msgspec.json.Decoder().decode)
    finally:
        connection.close()
        gc.enable()


def read_sqlite3(path: Path) -> dict[bytes, list[tuple[float, int, Any]]]:
    """What one writes with the standard library."""
    connection = sqlite3.connect(path)
    try:
        return gathered(connection.execute(QUERY), json.loads)
    finally:
        connection.close()


@scenario(
    "durable-open",
    sides=("ours", "apsw, msgspec", "sqlite3, json"),
    wanted=(Wanted("everything", ("apsw, msgspec",), 0.5),),
)
def durable_open(meter: Meter) -> None:
    """One version, when a map with 1,000,000 on 1,000 keys is opened (a quick run: 100,000); all of it, or one of each key.

    The other sides read the rows of the same file in order, decode each value, and put them into a dict of lists; ours also
    checks every row against its checksum, and makes what it is read from. The file has just been written, so the system has
    it in memory.
    """
    versions, keys = meter.size(1_000_000) // (10 if meter.scale.divisor == 4 else 1), KEYS[: meter.size(len(KEYS))]
    with folder(meter) as place:
        path = place / "file"
        make(path, versions, keys)
        if meter.side != "ours":
            read = read_apsw if meter.side == "apsw, msgspec" else read_sqlite3
            meter.each("everything", lambda: None, lambda _: read(path), limit=3, per=versions)
            found = read(path)
            assert sum(map(len, found.values())) == versions
            return
        from chronomap import ChronoMap, Retention

        for case, resident in (("everything", None), ("1 version of each key", Retention(max_versions=1))):
            maps: list[Any] = []

            def close(maps: list[Any] = maps) -> None:
                while maps:
                    maps.pop().close()

            def open_it(_: None, maps: list[Any] = maps, resident: Any = resident) -> None:
                maps.append(ChronoMap.open(path, create=False, resident=resident))

            meter.each(case, close, open_it, limit=3, per=versions)
            (cm,) = maps
            assert cm.revision == versions
            assert cm.get(keys[(versions - 1) % len(keys)]) == versions - 1
            assert len(cm.history(keys[0])) == len(range(0, versions, len(keys)))
            close()
