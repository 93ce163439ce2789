"""Writes that are acknowledged when they are on the disk.

Why a user cares: it is what a service pays for never losing what it has said "done" to, and whether many requests at once
share that price. A disk can be told to sync some hundred times a second; what counts is how many writes go into each.

Everything is in one directory on the disk that the checkout is on, not in memory (see ``benchmarks.disk``). What each side
does for a write:

- ours: ``await cm.put(key, number)`` on a map opened with ``durability="full"``.
- fdatasync: appends a record of about the same size to a file and has the disk sync it, in a thread of its own; for 100
  writers, 100 records and one sync. What the disk can do.
- raw SQLite: a row with key, value, time and revision into a table without an index, with the journal mode WAL and
  ``synchronous = FULL`` as ours has them, through apsw in a thread of its own; for 100 writers ``executemany`` of 100 rows
  and one commit. What SQLite can do if somebody else has made the groups. Nobody waits for an answer.
- bare loop: the same, but for writers that wait: each leaves its row and a future, a thread takes whatever has been left,
  writes it as raw SQLite does and has the loop end the futures. What asyncio and a thread leave for a map, if the map itself
  cost nothing: no version to find again, no reader to show it to, no checksum, no cancellation.
- aiosqlite: one connection for all writers, set up alike; each inserts such a row and commits.
- Redis: ``SET`` through redis-py with hiredis over a Unix socket, a connection for each writer, ``appendfsync always``. It
  syncs once for whatever came together, but keeps no history. Where there is no ``redis-server`` it is left out.

That everything written can be read from the files afterwards is asserted.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

from benchmarks.disk import folder
from benchmarks.frame import Meter, NotHereError, Wanted, scenario
from benchmarks.stores import KEYS

WRITERS: Final = (1, 100)
OPERATIONS: Final = {1: 1_500, 10: 6_000, 100: 20_000, 1_000: 20_000}
"""How many writes to time, by how many write at once. With one, most come after SQLite has begun its own log anew, from
when on syncing takes it half as long."""

SLOW: Final = frozenset({"aiosqlite", "Redis"})
"""Sides of which a quarter as many have to do, when many write."""

SIDES: Final = ("ours", "ours on uvloop", "fdatasync", "raw SQLite", "bare loop", "aiosqlite", "Redis")

TABLE: Final = "CREATE TABLE versions (id INTEGER PRIMARY KEY, key TEXT, value BLOB, timestamp REAL, revision INTEGER)"
INSERT: Final = "INSERT INTO versions (key, value, timestamp, revision) VALUES (?, ?, ?, ?)"
RECORD: Final = 64
"""Bytes of a record that is appended to a file: a row of either table has about as many."""

Put = Callable[[str, int], Awaitable[Any]]
Work = Callable[[int], Awaitable[None]]


@asynccontextmanager
async def opened(side: str, path: Path, durability: Any) -> AsyncIterator[Put]:
    """How to write on a side where a write is awaited."""
    if side == "aiosqlite":
        import aiosqlite

        async with aiosqlite.connect(path / "file") as db:
            await db.execute("PRAGMA journal_mode = WAL")
            await db.execute("PRAGMA synchronous = FULL")
            await db.execute(TABLE)
            clock = time.time

            async def insert(key: str, value: int) -> None:
                await db.execute(INSERT, (key, json.dumps(value), clock(), value))
                await db.commit()

            yield insert
    elif side == "bare loop":
        with closing(BareLoop(path / "file")) as bare:
            yield bare.put
    elif side == "Redis":
        with redis_server(path) as socket:
            async with redis_client(socket) as put:
                yield put
    else:
        from chronomap import AsyncChronoMap

        async with AsyncChronoMap.open(path / "file", durability=durability) as cm:
            yield cm.put


@contextmanager
def redis_server(path: Path) -> Iterator[str]:
    """A server with its files in a directory, which ends with us however we end; the path of its socket."""
    if (program := shutil.which("redis-server")) is None:
        raise NotHereError("no redis-server here")
    with tempfile.TemporaryDirectory() as short:  # the path of a socket may not be long
        socket = f"{short}/socket"
        options = ["--port", "0", "--unixsocket", socket, "--dir", str(path), "--save", "", "--appendonly", "yes"]
        options += ["--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        # The shell ends the server when its own input ends, so also when this process is killed.
        with subprocess.Popen(  # noqa: S603 - our own program
            ["/bin/sh", "-c", '"$@" & read -r _; kill $!; wait', "sh", program, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as server:
            yield socket
            server.communicate()


@asynccontextmanager
async def redis_client(socket: str) -> AsyncIterator[Put]:
    """How to write to a server that is just starting."""
    import redis.asyncio
    from redis.exceptions import ConnectionError as NotUpError

    async with redis.asyncio.Redis(unix_socket_path=socket) as client:
        for _ in range(200):
            try:
                settings = await client.config_get("append*")
                break
            except (NotUpError, OSError):
                await asyncio.sleep(0.05)
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
        yield client.set


def written(side: str, path: Path) -> int:
    """How many writes the files of a side hold, once it has been closed."""
    file = path / "file"
    if side == "fdatasync":
        return file.stat().st_size // RECORD
    if side == "Redis":
        return sum(log.read_bytes().count(b"\r\nSET\r\n") for log in path.rglob("*.aof"))
    if side.startswith("ours"):
        from chronomap import ChronoMap

        with ChronoMap.open(file, create=False) as cm:
            return int(cm.revision)
    with closing(sqlite3.connect(file)) as db:
        found: int = db.execute("SELECT count(*) FROM versions").fetchone()[0]
        return found


@asynccontextmanager
async def work_of(meter: Meter, path: Path, writers: int, delays: list[int], durability: str) -> AsyncIterator[Work]:
    """What writes a number of times, so many writers at once; leaves how long each write took."""
    keys = KEYS[: meter.size(len(KEYS))]
    if meter.side in {"fdatasync", "raw SQLite"}:
        with closing(RawFile(path / "file") if meter.side == "fdatasync" else RawSqlite(path / "file")) as raw:

            def in_thread(count: int) -> None:
                numbers = enumerate(islice(cycle(keys), count))
                while group := list(islice(numbers, writers)):
                    start = perf_counter_ns()
                    raw.write(group)
                    delays.extend([perf_counter_ns() - start] * len(group))

            async def work(count: int) -> None:
                await asyncio.to_thread(in_thread, count)

            yield work
        return
    async with opened(meter.side, path, durability) as put:

        async def writer(own: list[str], count: int) -> None:
            for number, key in enumerate(islice(cycle(own), count)):
                start = perf_counter_ns()
                await put(key, number)
                delays.append(perf_counter_ns() - start)

        async def work(count: int) -> None:
            await asyncio.gather(*(writer(keys[number::writers] or keys, count // writers) for number in range(writers)))

        yield work


class RawFile:
    """What the disk can do."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.sync = getattr(os, "fdatasync", os.fsync)  # macOS has but the latter

    def write(self, group: Iterable[tuple[int, str]]) -> None:
        """Append records, and sync once."""
        os.write(self.file, b"".join(f"{key} {number} {time.time()}".encode().ljust(RECORD) for number, key in group))
        self.sync(self.file)

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)


class RawSqlite:
    """What SQLite can do."""

    def __init__(self, path: Path) -> None:
        import apsw
        import msgspec

        self.connection = apsw.Connection(str(path))
        self.encode = msgspec.json.Encoder().encode
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self.connection.execute(f"PRAGMA {pragma}").fetchall()
        self.connection.execute(TABLE)

    def write(self, group: list[tuple[int, str]]) -> None:
        """Insert rows, and commit once."""
        encode, now = self.encode, time.time()
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(INSERT, [(key, encode(number), now, number) for number, key in group])
        self.connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


class BareLoop:
    """What asyncio and a thread can do with SQLite."""

    def __init__(self, path: Path) -> None:
        self.raw = RawSqlite(path)
        self.loop = asyncio.get_running_loop()
        self.left: list[tuple[int, str, asyncio.Future[None]]] = []
        self.bell = threading.Semaphore(0)
        self.rung = self.closed = False
        self.thread = threading.Thread(target=self.write)
        self.thread.start()

    async def put(self, key: str, value: int) -> None:
        """Leave a row, and wait until it is written."""
        ticket = self.loop.create_future()
        self.left.append((value, key, ticket))
        if not self.rung:
            self.rung = True
            self.bell.release()
        await ticket

    def write(self) -> None:
        """Write what has been left."""
        while True:
            self.bell.acquire()
            if self.closed:
                return
            self.rung = False
            left, self.left = self.left, []
            if left:
                self.raw.write([(value, key) for value, key, _ in left])
                self.loop.call_soon_threadsafe(self.wake, left)

    @staticmethod
    def wake(left: list[tuple[int, str, asyncio.Future[None]]]) -> None:
        """Tell those who wait."""
        for _, _, ticket in left:
            ticket.set_result(None)

    def close(self) -> None:
        """Close the file."""
        self.closed = True
        self.bell.release()
        self.thread.join()
        self.raw.close()


def named(writers: int) -> str:
    """A number of writers, in words."""
    return f"{writers:,} writer{'s' * (writers > 1)}"


@asynccontextmanager
async def prepared(meter: Meter, writers: int, durability: str = "full") -> AsyncIterator[tuple[Work, int, list[int]]]:
    """The work, how often to do it, and where it leaves the delays; in the end it is asserted that all is on the disk."""
    at_once = meter.size(writers)
    full = OPERATIONS[writers] // (4 if meter.side in SLOW and writers > 1 else 1)
    if durability != "full":
        full = max(full, OPERATIONS[10])
    delays: list[int] = []
    with folder(meter) as path:
        async with work_of(meter, path, at_once, delays, durability) as work:
            await work(at_once * 3)  # by now every connection is there
            delays.clear()
            yield work, full, delays
        expected = meter.operations(full) // at_once * at_once
        assert len(delays) == expected
        assert written(meter.side, path) == expected + at_once * 3


@scenario(
    "durable-put",
    sides=SIDES,
    wanted=(
        Wanted("1 writer", ("aiosqlite",), 1),
        Wanted("100 writers", ("raw SQLite",), 0.4),
        Wanted("100 writers", ("aiosqlite",), 1),
        Wanted("100 writers", ("Redis",), 5),
    ),
    unit="per second",
)
async def durable_put(meter: Meter) -> None:
    """Writes per second that are on the disk when they are acknowledged, by 1 and 100 writers, over 1,000 keys.

    Each writer awaits its write before it begins the next.
    """
    for writers in WRITERS:
        async with prepared(meter, writers) as (work, full, _):
            await meter.time_async(named(writers), work, operations=full)


@scenario("durable-put-delay", sides=SIDES)
async def durable_put_delay(meter: Meter) -> None:
    """How long a writer waits for such a write: the median, and what 1 of 100 exceeds.

    For the raw sides it is how long a group takes.
    """
    for writers in WRITERS:
        async with prepared(meter, writers) as (work, full, delays):
            await work(meter.operations(full))
            delays.sort()
            meter.note(f"{named(writers)}, median", delays[len(delays) // 2])
            meter.note(f"{named(writers)}, p99", delays[len(delays) * 99 // 100])


@scenario("durable-put-levers", sides=SIDES[:2], unit="per second")
async def durable_put_levers(meter: Meter) -> None:
    """Acknowledged writes per second by ``durability`` and by how many write at once."""
    for durability in ("full", "normal", "off"):
        for writers in OPERATIONS:
            async with prepared(meter, writers, durability) as (work, full, _):
                await meter.time_async(f"{durability}, {named(writers)}", work, operations=full)
