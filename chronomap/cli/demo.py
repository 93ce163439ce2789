"""``chronomap demo``: eight years of a real project in one file, which survives a crash and is checked against git."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import tempfile
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from rich.console import Console
from rich.text import Text

import chronomap
from chronomap import AsyncChronoMap, AsyncSnapshot, Change, ChronoMap
from chronomap.cli import storm
from chronomap.cli.words import BadInput, iso

Map = AsyncChronoMap[str, Any]
Line = dict[str, Any]
State = tuple[int, str]
"""How many files there are, and a digest of them all."""

LINES, TRUTH = "anyio-history.jsonl.gz", "anyio-truth.jsonl"
README = "README.rst"
ENOUGH = 3_000
"""Writes after which the storm is ended."""

WORKERS, STEPS = ("ada", "bob", "eve"), 2


def show(directory: Path | None, seed: int | None) -> int:
    """Run the demo; 1 if any state differs from git's."""
    data = Path(__file__).parents[2] / "examples" / "data" if directory is None else directory
    for name in (LINES, TRUTH):
        if not (data / name).is_file():
            raise BadInput(
                f"the demo's data is not here: {data / name}. It comes with the repository, not with the package: "
                "clone it and run `make demo`, or say where the data is with --data DIR"
            )
    return anyio.run(Demo(data, random.SystemRandom().getrandbits(32) if seed is None else seed).run)


class Demo:
    """One run."""

    def __init__(self, data: Path, seed: int) -> None:
        self.source = data / LINES
        self.truth = [json.loads(line) for line in (data / TRUTH).read_text("utf-8").splitlines()]
        with gzip.open(self.source, "rt", encoding="utf-8") as file:
            self.lines: list[Line] = [json.loads(line) for line in file]
        commits = [list(lines) for _, lines in groupby(self.lines, lambda line: line["commit"])]
        self.instants = [[line for commit in group for line in commit] for _, group in groupby(commits, _second)]
        self.last = {line["commit"]: instant[-1]["commit"] for instant in self.instants for line in instant}
        self.seed = seed
        self.right = True
        self.console = Console(highlight=False, soft_wrap=True)

    def title(self, number: int, title: str, code: str) -> None:
        """Begin a section: what it shows, and the code that does it."""
        self.console.print()
        self.console.print(Text.assemble((f"{number}. {title}", "bold"), "   ", (code, "cyan")))

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print one line."""
        self.console.print(Text.assemble("   ", *parts))

    async def run(self) -> int:
        """Show everything; returns the exit code."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "anyio.chrono")
            async with AsyncChronoMap[str, Any].open(path, durability="normal") as cm:
                await self.load(cm, path)
                await self.travel(cm)
                await self.compare(cm)
                await self.one_file(cm)
                await self.rollback(cm)
                await self.later(cm)
                await self.live(cm)
                before = cm.revision
            acknowledged = await self.crash(path)
            start = time.perf_counter()
            async with AsyncChronoMap[str, Any].open(path) as cm:
                took = time.perf_counter() - start
                self.say(f"reopened in {took:.2f} s, at revision {cm.revision:,}")
                self.survived(await storm.look(cm, before, acknowledged), len(acknowledged))
                expected = await self.prove(cm)
            await self.shuffle(Path(scratch, "shuffled.jsonl"), expected)
        return 0 if self.right else 1

    async def load(self, cm: Map, path: Path) -> None:
        """Import the history."""
        self.title(
            1,
            "Eight years of the repository of anyio, every commit, in a file",
            'AsyncChronoMap.open("anyio.chrono")   await cm.import_changes(lines)',
        )
        start = time.perf_counter()
        count = await cm.import_changes(self.source)
        took = time.perf_counter() - start
        self.say(f"{count:,} changes in {cm.revision:,} commits, written to {path} in {took:.2f} s")
        self.say(f"{len(cm)} files are there today")

    async def travel(self, cm: Map) -> None:
        """Look at the tree at a few instants."""
        self.title(2, "Any moment, as if it were now", 'snap = await cm.at("2021-01-01")')
        for day in ("2018-09-30", "2021-01-01", "2024-01-01"):
            snap = await cm.at(day)
            total = sum(file["size"] for file in await snap.values())
            code = [key for key in await snap.keys() if key.endswith(".py") and "test" not in key]
            some = ", ".join(sorted(code)[-2:])
            self.say((day, "bold"), f"  {len(snap):3} files, {total:8,} bytes, among them {some}")

    async def compare(self, cm: Map) -> None:
        """What changed between two of them."""
        self.title(3, "What changed in 2023?", "await new.diff_detailed(old)")
        old, new = await cm.at("2023-01-01"), await cm.at("2024-01-01")
        found = sorted(await new.diff_detailed(old), key=lambda difference: difference[0])
        for kind, sign, colour in (("added", "+", "green"), ("removed", "-", "red"), ("changed", "~", "yellow")):
            keys = [difference[0] for difference in found if difference.kind == kind]
            shown = ", ".join(keys[:2]) + (" …" if len(keys) > 2 else "")  # noqa: PLR2004
            self.say((f"{sign} {len(keys):3} {kind:8}", colour), f" {shown}")

    async def one_file(self, cm: Map) -> None:
        """The history of one file."""
        versions = await cm.history(README)
        self.title(4, f"{README}: {len(versions)} versions", f'await cm.history("{README}")')
        for timestamp, file in (versions[0], *versions[-2:]):
            self.say((iso(timestamp), "bold"), f"  {file['size']:5,} bytes  {file['sha'][:10]}")

    async def rollback(self, cm: Map) -> None:
        """A mistake, taken back without losing it from the record."""
        self.title(5, "A mistake, and the way back", "await cm.rollback(before)")
        before = await cm.snapshot()
        gone = await cm.delete_many([key for key in await cm.keys() if key.startswith("src/")])
        mistake = cm.revision
        self.say(f"r{mistake}: all {gone} files under src/ deleted in one commit; {len(cm)} files left")
        back = await cm.rollback(before)
        equal = (await cm.diff(before)) == set()
        self.say(f"r{back}: rolled back in one commit; {len(cm)} files, equal to before: {equal}")
        kept = await cm.at(revision=mistake)
        self.say(f"and r{mistake} is still on record: {len(kept)} files, as it was")

    async def later(self, cm: Map) -> None:
        """A schedule and a ttl, in real time."""
        self.title(6, "The future, and things that end", "put(key, value, timestamp=soon)   put(key, value, ttl=0.6)")
        start = time.time()
        with anyio.fail_after(5):
            async with cm.watch(prefix="live/") as stream:
                await cm.put("live/release", "5.0", timestamp=start + 0.3)
                await cm.put("live/session", "ada", ttl=0.6)
                self.say(f"  0.0 s  release = {await cm.get('live/release')}, session = {await cm.get('live/session')}")
                async for change in stream:
                    if change.kind in ("activate", "expire"):
                        self.say(
                            f"{time.time() - start:5.1f} s  ",
                            (f"{change.kind:8}", "magenta"),
                            f"  release = {await cm.get('live/release')}, session = {await cm.get('live/session')}",
                        )
                    if change.kind == "expire":
                        break

    async def live(self, cm: Map) -> None:
        """Threads write, a task watches."""
        self.title(7, "Three threads write, one task watches", 'async for change in cm.watch(prefix="job/")')
        seen: list[Change[str, Any]] = []
        with anyio.fail_after(5):
            async with cm.watch(prefix="job/") as stream, anyio.create_task_group() as tasks:
                for name in WORKERS:
                    tasks.start_soon(anyio.to_thread.run_sync, _work, cm.bridge(), name)
                async for change in stream:
                    seen.append(change)
                    self.say((f"r{change.revision}", "bold"), f"  {change.key} = {change.value}")
                    if len(seen) == STEPS * len(WORKERS):
                        break
        revisions = [change.revision for change in seen]
        self.say(f"nothing missed, nothing twice, in order: {revisions == sorted(set(revisions))}")

    # -- the proof -----------------------------------------------------------------------------------------------------

    async def crash(self, path: Path) -> list[storm.Write]:
        """Kill a process that writes to the file; returns the writes that it had acknowledged."""
        self.title(8, "kill -9, in the middle of a write storm", 'chronomap.verify("anyio.chrono")')
        self.say(f"another process opens the file; {storm.TASKS} tasks and {storm.THREADS} threads write as fast as they can …")
        acknowledged = await anyio.to_thread.run_sync(storm.rage, path, ENOUGH)
        self.say((f"killed after {len(acknowledged):,} acknowledged writes", "bold red"))
        report = await anyio.to_thread.run_sync(chronomap.verify, path)
        self.verdict(
            f"verify() looked at {report.records:,} records and found {len(report.problems)} problems", right=report.ok
        )
        return acknowledged

    def survived(self, left: storm.Left, acknowledged: int) -> None:
        """Tell what is left after the crash."""
        self.verdict(
            f"{acknowledged - left.lost:,} of {acknowledged:,} acknowledged writes are there",
            right=not left.lost and acknowledged >= ENOUGH,
        )
        self.verdict(
            f"in order, {'with' if left.holes else 'without'} holes; besides, {left.more} that nobody had been told of yet",
            right=not left.holes,
        )

    async def prove(self, cm: Map) -> dict[int, State]:
        """Compare the reopened map with git; returns what each commit's timestamp should show."""
        self.title(9, "Is it true? Every 50th commit against git's own tree", "await cm.at(revision=n)")
        good = 0
        for true in self.truth:
            good += await _digest(await cm.at(revision=true["commit"])) == (true["files"], true["digest"])
        self.verdict(f"{good} of {len(self.truth)} states match git", right=good == len(self.truth))
        # By timestamp, commits of the same second are one instant: what holds is what the last of them left.
        return {
            commit: (true["files"], true["digest"])
            if commit == self.last[commit]
            else await _digest(await cm.at(revision=self.last[commit]))
            for true in self.truth
            for commit in (true["commit"],)
        }

    async def shuffle(self, path: Path, expected: dict[int, State]) -> None:
        """The same from history in the wrong order, in memory."""
        random.Random(self.seed).shuffle(self.instants)  # noqa: S311 - no secret
        self.title(10, "And when history arrives in the wrong order?", "await cm.at(timestamp=t)")
        order = {number: place for place, number in enumerate(dict.fromkeys(_numbers(self.instants)), 1)}
        lines = [json.dumps(line | {"commit": order[line["commit"]]}) + "\n" for instant in self.instants for line in instant]
        await anyio.Path(path).write_text("".join(lines), "utf-8")
        async with AsyncChronoMap[str, Any]() as cm:
            await cm.import_changes(path)
            when = {line["commit"]: line["timestamp"] for line in self.lines}
            again = 0
            for commit, state in expected.items():
                again += await _digest(await cm.at(timestamp=when[commit])) == state
        self.say(f"the same commits, shuffled (--seed {self.seed}), then read by timestamp")
        self.verdict(f"{again} of {len(expected)} states match git", right=again == len(expected))
        shared = sum(commit != self.last[commit] for commit in expected)
        if shared:
            self.say((f"({shared} shares its second with a later commit: there, the later one is what holds)", "dim"))

    def verdict(self, text: str, *, right: bool) -> None:
        """Print a result."""
        self.right = self.right and right
        self.say(("✓ " if right else "✗ ", "bold green" if right else "bold red"), (text, "bold"))


def _work(bridge: ChronoMap[str, Any], name: str) -> None:
    for step in range(1, STEPS + 1):
        bridge.put(f"job/{name}", f"step {step}")
        time.sleep(0.02)


def _numbers(instants: list[list[Line]]) -> list[int]:
    return [line["commit"] for instant in instants for line in instant]


def _second(commit: list[Line]) -> Any:
    return commit[0]["timestamp"]


async def _digest(snap: AsyncSnapshot[str, Any]) -> State:
    lines = sorted(f"{path}\t{file['sha']}\n" for path, file in await snap.items())
    return len(lines), hashlib.sha256("".join(lines).encode()).hexdigest()
