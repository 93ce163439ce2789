"""What a scenario is made of: sides that do the same job, cases, and the figures that a meter takes of them.

A scenario is a function that takes a ``Meter``, does its job with the side that the meter names, checks that the result is
right, and leaves one figure per case. Every figure is a cost (nanoseconds, bytes), so less is better everywhere, and a
ratio is the other side's figure divided by ours: how many times as good ours is.

Example: a scenario whose only case is called "append", for two sides::

    @scenario("append", sides=("ours", "peer"), wanted=(Wanted("append", ("peer",), 2),))
    def append(meter: Meter) -> None:
        \"\"\"One append: why a user cares.\"\"\"
        made = make(meter.side)
        meter.time("append", lambda count: [made.append(number) for number in range(count)])
        assert made

Only the standard library may be imported here and at the top of a scenario's file: every environment reads them all.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Final, Literal

Unit = Literal["µs", "bytes", "per second"]
"""How a figure is shown. Those "per second" are taken in nanoseconds for one, like those in µs."""

Measure = Callable[["Meter"], Awaitable[None] | None]


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        span: Nanoseconds that the timed part of a case should take at least.
        divisor: By how much a fixed number of operations is divided.
        largest: No map is made bigger than this.
    """

    name: str
    span: int
    divisor: int = 1
    largest: int = 1_000_000_000


SCALES: Final = {
    scale.name: scale
    for scale in (
        Scale("full", 200_000_000),
        Scale("quick", 50_000_000, 4),
        Scale("profile", 2_000_000_000),
        Scale("tiny", 0, 10_000, 20),  # for tests: everything runs, nothing is measured
    )
}


class NotHereError(Exception):
    """This machine cannot run a side: a scenario raises it, and its text stands in the table where the figures would."""


class Meter:
    """Takes the figures of one scenario on one side.

    Attributes:
        side: Which side does the job.
        figures: What was found, by case.
    """

    def __init__(self, side: str, scale: Scale) -> None:
        self.side = side
        self.scale = scale
        self.figures: dict[str, float] = {}

    def size(self, full: int) -> int:
        """How many keys, versions, items or tasks to use where a full run uses so many."""
        return min(full, self.scale.largest)

    def operations(self, full: int) -> int:
        """How many operations to time where a full run times so many."""
        return min(full, max(20, full // self.scale.divisor))

    def note(self, case: str, figure: float) -> None:
        """Record a figure that was found in some other way."""
        self.figures[case] = figure

    def time(self, case: str, work: Callable[[int], object], *, operations: int | None = None, per: int = 1) -> None:
        """Time ``work(count)``, which does the job ``count`` times.

        Args:
            case: The name of the case.
            work: The job.
            operations: How many times in a full run; default: as many as it takes to fill the scale's span. Say it where
                the job costs more the more often it has been done.
            per: Into how many the figure is to be divided: items in a batch.
        """
        count = 1 if operations is None else self.operations(operations)
        gc.collect()
        taken = self._taken(case, work, count)
        while operations is None and taken < self.scale.span:
            count = self._more(count, taken)
            taken = self._taken(case, work, count)
        self.note(case, taken / count / per)

    async def time_async(
        self, case: str, work: Callable[[int], Awaitable[object]], *, operations: int | None = None, per: int = 1
    ) -> None:
        """The same for a job that is awaited."""
        count = 1 if operations is None else self.operations(operations)
        gc.collect()
        taken = await self._taken_async(case, work, count)
        while operations is None and taken < self.scale.span:
            count = self._more(count, taken)
            taken = await self._taken_async(case, work, count)
        self.note(case, taken / count / per)

    def each(
        self, case: str, prepare: Callable[[], Any], act: Callable[[Any], object], *, limit: int = 1_000, per: int = 1
    ) -> None:
        """Time ``act(prepare())`` without the preparation, until the span is filled, at most so often.

        Reading the clock twice for each adds some 0.1 µs, so this is for jobs of several µs.
        """
        taken = count = 0
        gc.collect()
        begun = perf_counter_ns()
        # Preparing may take far longer than acting; then fewer have to do.
        while not count or (taken < self.scale.span and count < limit and perf_counter_ns() - begun < 5 * self.scale.span):
            prepared = prepare()
            taken += self._taken(case, lambda _, prepared=prepared: act(prepared), 1)
            count += 1
        self.note(case, taken / count / per)

    def _more(self, count: int, taken: int) -> int:
        """A number of operations that should fill the span; with too few the first guesses say little."""
        return count * min(16, max(2, round(1.1 * self.scale.span / max(taken, 1))))

    def _taken(self, case: str, work: Callable[[int], object], count: int) -> int:
        """Nanoseconds; the one place where a clock is read around plain work, so that a profile can be taken there."""
        del case
        start = perf_counter_ns()
        work(count)
        return perf_counter_ns() - start

    async def _taken_async(self, case: str, work: Callable[[int], Awaitable[object]], count: int) -> int:
        del case
        start = perf_counter_ns()
        await work(count)
        return perf_counter_ns() - start


@dataclass(frozen=True)
class Wanted:
    """How many times as good as others a case has to be.

    Attributes:
        case: The case, on our side.
        against: The other sides; the best of them counts.
        ratio: At least so many times as good.
        at_case: Their case, if it is another one.
    """

    case: str
    against: tuple[str, ...]
    ratio: float
    at_case: str | None = None


@dataclass(frozen=True)
class Ceiling:
    """What a case may cost at most, whatever others cost."""

    case: str
    figure: float


@dataclass(frozen=True)
class Scenario:
    """What is measured, on which sides (ours first), and what is wanted.

    Attributes:
        unit: How the figures are shown.
        between_threads: Whether to measure with everything pinned to one CPU as well; most of the cost of waking a thread
            is waking another CPU. The wanted ratios are about the run that is not pinned.
        once: Whether one round will do, because the figures do not scatter.
    """

    name: str
    measure: Measure
    sides: tuple[str, ...]
    wanted: tuple[Wanted | Ceiling, ...] = ()
    unit: Unit = "µs"
    between_threads: bool = False
    once: bool = False

    @property
    def about(self) -> str:
        """What it measures, and why a user cares."""
        return (self.measure.__doc__ or "").strip()


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(
    name: str,
    *,
    sides: tuple[str, ...],
    wanted: tuple[Wanted | Ceiling, ...] = (),
    unit: Unit = "µs",
    between_threads: bool = False,
    once: bool = False,
) -> Callable[[Measure], Measure]:
    """Enter a function into ``SCENARIOS``; see ``Scenario``."""

    def enter(measure: Measure) -> Measure:
        assert name not in SCENARIOS, f"two scenarios are called {name}"
        SCENARIOS[name] = Scenario(name, measure, sides, wanted, unit, between_threads, once)
        return measure

    return enter
