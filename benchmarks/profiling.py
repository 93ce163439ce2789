"""Shows where the time of a scenario goes: ``python -m benchmarks --profile put --case "1 task"``.

For each case, in this order:

- by line: whose turn it is when a timer rings, every millisecond of processor time. It slows nothing down, so it is the
  one to believe where an operation takes a microsecond. Python hears the timer only between calls and at the ends of
  loops, so what a line calls in C counts for that line, and plain lines count for the next that calls.
- by function: ``cProfile``. Counts of calls are exact; times are too long for whatever makes many small calls.

At the end: what the steps that such code is made of cost on this machine, for comparison.
"""

from __future__ import annotations

import cProfile
import linecache
import pstats
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.environments import ROOT
from benchmarks.frame import SCALES, Meter, Scenario
from benchmarks.worker import measure

EVERY: Final = 0.001
"""Seconds of processor time between two looks. The kernel may round it up to its tick of 4 ms."""

LINES: Final = 14
CALLS: Final = 10

Place = tuple[str, int, str]


class Sampler:
    """Counts which line of which function each thread is in whenever the timer rings."""

    def __init__(self) -> None:
        self.places: Counter[Place] = Counter()
        self.on = False

    def look(self, _: int, interrupted: FrameType | None) -> None:
        """The timer rang."""
        if not self.on:
            return
        current = sys._current_frames()
        if interrupted is not None:
            current[threading.get_ident()] = interrupted  # not this function
        for frame in current.values():
            if frame.f_code.co_filename != threading.__file__:  # waiting is not working
                name, line = frame.f_code.co_filename, frame.f_lineno or 0
                if name.startswith("<"):
                    line = 0  # made at run time, as dataclasses are: its lines are nowhere to be read
                self.places[name, line, frame.f_code.co_qualname] += 1


class ProfilingMeter(Meter):
    """Runs each case that is asked for under the sampler, then under ``cProfile``, and prints both."""

    def __init__(self, side: str, wanted_case: str) -> None:
        super().__init__(side, SCALES["profile"])
        self.wanted_case = wanted_case
        self.sampler = Sampler()
        self.profile: cProfile.Profile | None = None
        signal.signal(signal.SIGPROF, self.sampler.look)
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)

    def operations(self, full: int) -> int:
        """More than usual: a look every millisecond wants seconds to look at."""
        return full if full == 1 or self.profile is not None else 5 * full

    def _taken(self, case: str, work: Callable[[int], object], count: int) -> int:
        self._begin(case)
        try:
            return super()._taken(case, work, count)
        finally:
            self._end()

    async def _taken_async(self, case: str, work: Callable[[int], Awaitable[object]], count: int) -> int:
        self._begin(case)
        try:
            return await super()._taken_async(case, work, count)
        finally:
            self._end()

    def _begin(self, case: str) -> None:
        self.sampler.on = self.wanted_case in case and self.profile is None
        if self.profile is not None and self.wanted_case in case:
            self.profile.enable()

    def _end(self) -> None:
        self.sampler.on = False
        if self.profile is not None:
            self.profile.disable()

    def note(self, case: str, figure: float) -> None:
        """Print what the case's profile shows, and begin the next one's."""
        super().note(case, figure)
        if self.wanted_case not in case:
            return
        if self.profile is None and self.sampler.places:
            print(f"\n## {case}: {figure / 1_000:,.3f} µs for one\n")
            print_lines(self.sampler.places)
        elif self.profile is not None:
            print(f"\n## {case}, by function\n")
            print_functions(self.profile)
            self.profile = cProfile.Profile()
        self.sampler.places.clear()


def short(name: str) -> str:
    """A file's name without where it is installed."""
    path = Path(name)
    if path.is_relative_to(ROOT) and ".venv" not in path.parts:
        return str(path.relative_to(ROOT))
    return "/".join(path.parts[-2:])


def print_lines(places: Counter[Place]) -> None:
    """The lines that were met most often."""
    total = places.total()
    for (name, line, function), count in places.most_common(LINES):
        where = f"{short(name)}:{line}" if line else short(name)
        print(f"{count / total:6.1%}  {where:<34} {function[-28:]:<28} {linecache.getline(name, line).strip()[:70]}")


def print_functions(profile: cProfile.Profile) -> None:
    """The functions with the most time of their own."""
    found = pstats.Stats(profile).get_stats_profile().func_profiles
    print("  calls       own s   with callees s")
    for function, its in sorted(found.items(), key=lambda item: -item[1].tottime)[:CALLS]:
        where = f"{short(its.file_name)}:{its.line_number}" if its.line_number else ""
        print(f"{its.ncalls:>9}  {its.tottime:9.3f}  {its.cumtime:9.3f}   {function}  {where}")


def print_steps() -> None:
    """What the steps cost that a hot path is made of."""
    print("\n## Steps, for comparison (ns)\n")
    table, ring, mutex, queue = {"key": 1}, threading.RLock(), threading.Lock(), deque[int](maxlen=10)

    def call(_: object) -> None:
        pass

    def take_turns() -> None:
        ring.acquire()
        ring.release()

    def hold() -> None:
        with mutex:
            pass

    steps: dict[str, Callable[[], object]] = {
        "nothing (is in each of the others)": lambda: None,
        "call of a Python function": lambda: call(None),
        "dict.get": lambda: table.get("key"),
        "time.time": time.time,
        "RLock, acquire and release": take_turns,
        "Lock, by with": hold,
        "tuple of five": lambda: (1, table, 2, ring, 3),
        "append to a bounded deque": lambda: queue.append(1),
    }
    for name, step in steps.items():
        turns = range(200_000)
        start = time.perf_counter_ns()
        for _ in turns:
            step()
        print(f"{(time.perf_counter_ns() - start) / len(turns):8.0f}  {name}")


def show(scenario: Scenario, side: str, case: str) -> None:
    """Print the profiles of a scenario's cases whose names contain some text."""
    print(f"# {scenario.name} on {side}\n\n{scenario.about}")
    meter = ProfilingMeter(side, case)
    try:
        measure(scenario, meter)
        meter.profile = cProfile.Profile()
        meter.scale = SCALES["full"]
        measure(scenario, meter)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)  # Python's end takes the handler away; the signal would then kill
    print_steps()
