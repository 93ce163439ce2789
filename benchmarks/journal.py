"""Measures the journal alone against raw SQLite doing the same: python -m benchmarks.journal [number of versions].

Prints medians and ratios: acknowledged writes per second by the size of groups, each synced (durability "full"); how long a
group takes while another thread of the process is busy, as the loop of an application may be, when every statement waits
for its turn to run Python; and the seconds that opening takes against fetching and decoding the same rows into a dict of lists.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import apsw
import msgspec

from chronomap.core.records import NEVER, Commit, Record
from chronomap.core.retention import Retention
from chronomap.core.values import MISSING, Captured
from chronomap.journal import SqliteJournal

ROUNDS = 3
KEYS = 10_000
BUSY_GROUPS = 10

Row = tuple[str, dict[str, Any], float]


def rows(count: int) -> list[Row]:
    """Keys, values and timestamps to write."""
    rng = random.Random(1)
    return [(f"user:{rng.randrange(KEYS)}", {"user": "ann", "n": n, "ok": True}, 1.7e9 + n * 0.001) for n in range(count)]


def write_raw(path: Path, given: list[Row], group: int) -> float:
    """One transaction a group, msgpack values: what plain SQLite can do. Writes per second."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL").fetchall()
    connection.execute("CREATE TABLE v (id INTEGER PRIMARY KEY, key TEXT, value BLOB, timestamp REAL, revision INTEGER)")
    encode = msgspec.msgpack.encode
    start = perf_counter()
    for first in range(0, len(given), group):
        part = given[first : first + group]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO v (key, value, timestamp, revision) VALUES (?, ?, ?, ?)",
            [(key, encode(value), timestamp, first + n) for n, (key, value, timestamp) in enumerate(part)],
        )
        connection.execute("COMMIT")
    taken = perf_counter() - start
    connection.close()
    return len(given) / taken


def write_ours(path: Path, given: list[Row], group: int) -> float:
    """The same through the journal."""
    commits = [
        Commit(n, timestamp, (Record("put", key, Captured(value), MISSING, timestamp, NEVER),))
        for n, (key, value, timestamp) in enumerate(given, 1)
    ]
    with SqliteJournal.open(path) as journal:
        start = perf_counter()
        for first in range(0, len(commits), group):
            journal.append(commits[first : first + group])
        return len(commits) / (perf_counter() - start)


@contextmanager
def busy() -> Iterator[None]:
    """Another thread runs Python without a pause."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def write_busy(path: Path, given: list[Row], group: int) -> float:
    """How long a group of the journal's takes beside a busy thread. Milliseconds."""
    with busy():
        return 1000 * group / write_ours(path, given, group)


def open_raw(path: Path, query: str, decode: Callable[[bytes], Any]) -> float:
    """Fetch and decode, without the garbage collector. Seconds."""
    gc.collect()
    gc.disable()
    start = perf_counter()
    connection = apsw.Connection(str(path))
    found: dict[Any, list[Any]] = {}
    for key, value, timestamp, revision, *_ in connection.execute(query):
        found.setdefault(key, []).append((timestamp, revision, decode(value)))
    taken = perf_counter() - start
    gc.enable()
    connection.close()
    return taken


def open_ours(path: Path, resident: Retention | None = None) -> float:
    """Open and load."""
    gc.collect()
    start = perf_counter()
    with SqliteJournal.open(path) as journal:
        contents = journal.load(resident, now=1.8e9)
        taken = perf_counter() - start
        assert contents.instants
    return taken


def medians(*measures: Callable[[], float]) -> list[float]:
    """The median of each, measured in turns."""
    rounds = [[measure() for measure in measures] for _ in range(ROUNDS)]
    return [statistics.median(taken) for taken in zip(*rounds, strict=True)]


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    given = rows(count)
    with tempfile.TemporaryDirectory() as place:
        number = iter(range(1_000_000))

        def fresh() -> Path:
            return Path(place, str(next(number)))

        def write(how: Callable[[Path, list[Row], int], float], size: int, group: int) -> float:
            return how(fresh(), given[:size], group)

        for group, size in ((1, 2_000), (10, 20_000), (100, count), (1_000, count)):
            raw, ours, beside = medians(
                partial(write, write_raw, size, group),
                partial(write, write_ours, size, group),
                partial(write, write_busy, BUSY_GROUPS * group, group),
            )
            print(
                f"groups of {group:5}: raw {raw:9,.0f}/s, journal {ours:9,.0f}/s, ratio {ours / raw:.2f}; "
                f"beside a busy thread {beside:7,.1f} ms a group"
            )
        raw_path, our_path = fresh(), fresh()
        write_raw(raw_path, given, 10_000)
        write_ours(our_path, given, 10_000)
        columns = "key, value, timestamp, revision"
        every = f"{columns}, id, kind, exact, expires_at, instant, checksum"
        least, same, ours, part = medians(
            lambda: open_raw(raw_path, f"SELECT {columns} FROM v ORDER BY id", msgspec.msgpack.decode),  # noqa: S608
            lambda: open_raw(our_path, f"SELECT {every} FROM records ORDER BY id", msgspec.json.decode),  # noqa: S608
            lambda: open_ours(our_path),
            lambda: open_ours(our_path, Retention(max_versions=2)),
        )
        print(f"opening {count:,}: journal {ours:.2f} s")
        print(f"  against four columns of a plain table, {least:.2f} s: {ours / least:.2f} times")
        print(f"  against the same rows of the same file, {same:.2f} s: {ours / same:.2f} times")
        print(f"  two versions of each key resident: {part:.2f} s")


if __name__ == "__main__":
    main()
