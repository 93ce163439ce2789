"""What is killed: a process that does everything to a map on disk at once, and tells what it asks for and what it got.

Every line it writes to its standard output is a list in JSON. ``["asked", name, n, ...]`` comes before a call and
``["got", name, n, revision]`` after it has returned; so what was acknowledged is known to whoever reads the lines, however
the process ends.

Started with: path, durability, backend, seed, what else to do ("write", "compact", "vacuum", "backup", "close").
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio

from chronomap import AsyncChronoMap, ChronoMap, ClosedError, CompactedError, ConflictError, Retention

THREADS = 4
TASKS = 20
KEYS = 12
"""Keys that several writers share."""


def say(*words: Any) -> None:
    """One line, in one piece."""
    os.write(1, json.dumps(words).encode() + b"\n")


def value_of(name: str, n: int) -> dict[str, Any]:
    """What a writer puts the n-th time: whoever finds it can tell whether it is whole."""
    return {"by": name, "n": n, "text": f"{name}/{n}." * (1 + n * 7 % 23)}


def is_whole(value: Any) -> bool:
    """Whether it is just what ``value_of`` made."""
    return isinstance(value, dict) and value == value_of(value["by"], value["n"])


class Writer:
    """Chooses what is written next, and knows what to say about it."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.rng = random.Random(f"{name} {seed}")
        self.n = 0

    def choose(self) -> tuple[str, dict[str, Any]]:
        """The name of a call and its arguments; told before it is made."""
        self.n += 1
        n, rng, name = self.n, self.rng, self.name
        value, key = value_of(name, n), f"key{rng.randrange(KEYS)}"
        call, arguments = rng.choices(
            (
                ("put", {"key": key, "value": value}),
                ("put", {"key": f"{name}:own", "value": value, "request_id": f"{name} {n} {self.rng.random()}"}),
                ("put_many", {"items": {f"key{k}": value for k in rng.sample(range(KEYS), 3)}}),
                ("put", {"key": f"{name}:ttl{n % 5}", "value": value, "ttl": rng.random() * 0.1}),
                ("put", {"key": f"{name}:plan{n % 5}", "value": value, "timestamp": time.time() + rng.random() * 0.2}),
                ("put", {"key": key, "value": value, "timestamp": time.time() - rng.random() * 5}),
                ("delete", {"key": key}),
                ("transact", {"key": key, "value": value}),
                ("erase", {"key": f"{name}:secret"}),
                ("put", {"key": f"{name}:secret", "value": value}),
                ("rollback", {"back": rng.randrange(1, 6)}),
                ("prune_history", {"key": key, "keep_last": 3}),
            ),
            (40, 10, 10, 6, 6, 4, 6, 8, 0.5, 2, 1, 0.5),
        )[0]
        say("asked", name, n, call, arguments.get("key"))
        return call, arguments

    def got(self, result: object) -> None:
        """The call returned."""
        say("got", self.name, self.n, result)


def write_in_thread(cm: ChronoMap[Any, Any], writer: Writer) -> None:
    """Until the map is closed, or the end."""
    with contextlib.suppress(ClosedError):
        while True:
            call, arguments = writer.choose()
            try:
                if call == "transact":
                    with cm.transaction() as tx:
                        tx.get(arguments["key"])
                        tx.put(arguments["key"], arguments["value"])
                        tx.put(f"{writer.name}:beside", arguments["value"])
                    result: Any = tx.revision
                elif call == "rollback":
                    result = cm.rollback(max(0, cm.revision - arguments["back"]))
                else:
                    result = getattr(cm, call)(**arguments)
            except (ConflictError, CompactedError):
                result = None
            writer.got(result)


async def write_in_task(cm: AsyncChronoMap[Any, Any], writer: Writer) -> None:
    """Until the map is closed, or the end."""
    with contextlib.suppress(ClosedError):
        while True:
            call, arguments = writer.choose()
            try:
                if call == "transact":
                    async with cm.transaction() as tx:
                        await tx.get(arguments["key"])
                        await tx.put(arguments["key"], arguments["value"])
                        await tx.put(f"{writer.name}:beside", arguments["value"])
                    result: Any = tx.revision
                elif call == "rollback":
                    result = await cm.rollback(max(0, cm.revision - arguments["back"]))
                else:
                    result = await getattr(cm, call)(**arguments)
            except (ConflictError, CompactedError):
                result = None
            writer.got(result)


async def watch(cm: AsyncChronoMap[Any, Any], name: str, since: int, prefix: str | None) -> None:
    """Tell every change, and up to where all has been seen."""
    stream = cm.watch(since=since, prefix=prefix)
    async for changes in stream.commits():
        seen = [[change.key, None if change.value is None else change.value["n"]] for change in changes]
        say("saw", name, changes[0].revision, stream.revision, seen)


async def care(cm: AsyncChronoMap[Any, Any], what: str, path: Path, since: int) -> None:
    """What is done to the file meanwhile, again and again."""
    for n in range(10**6):
        say("begin", what)
        await anyio.sleep(0.01)  # let some be written
        if what == "compact":
            await cm.compact(max(0, since - 50))  # opening may have made commits of its own
        elif what == "vacuum":
            await cm.vacuum()
        elif what == "backup":
            say("copied", n, await cm.backup(path.with_name(f"copy{n}")))
        else:
            return


async def main(path: Path, durability: str, seed: int, what: str) -> None:
    """Open, write, and perhaps close."""
    rng = random.Random(f"{seed} main")
    say("begin", "open")
    resident = rng.choice((None, None, Retention(max_versions=2)))
    async with AsyncChronoMap.open(path, durability=durability, resident=resident) as cm:  # type: ignore[arg-type]
        since = cm.revision
        say("opened", since)
        bridge = cm.bridge()
        threads = [
            threading.Thread(target=write_in_thread, args=(bridge, Writer(f"thread{n}.{seed}", seed)), daemon=True)
            for n in range(THREADS)
        ]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, cm, "all", since, None)
            tasks.start_soon(watch, cm, "some", since, "key1")
            for thread in threads:
                thread.start()
            for n in range(TASKS):
                tasks.start_soon(write_in_task, cm, Writer(f"task{n}.{seed}", seed))
            tasks.start_soon(care, cm, what, path, since)
            if what == "close":
                await anyio.sleep(rng.random() * 0.1)
                say("begin", "close")
                await cm.aclose()
    say("closed")


if __name__ == "__main__":
    where, safety, loop, number, care_for = sys.argv[1:]
    anyio.run(main, Path(where), safety, int(number), care_for, backend=loop)
