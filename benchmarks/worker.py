"""Measures one scenario on one side, in the environment that runs it, and prints the figures as JSON.

If the machine cannot run that side, it prints why: a text instead of the figures.

``python -I benchmarks/worker.py SCENARIO SIDE SCALE [pinned]``
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    # Last: the peer's environment has a `chronomap` of its own, which must be found first.
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.environments import PEER_VERSION, ROOT, environment
from benchmarks.frame import SCALES, SCENARIOS, Meter, NotHereError, Scenario


def measure(scenario: Scenario, meter: Meter) -> dict[str, float]:
    """The figures that a meter takes of a scenario."""
    if inspect.iscoroutinefunction(scenario.measure):
        with asyncio.Runner(loop_factory=loop_of(meter.side)) as runner:
            runner.run(scenario.measure(meter))
    else:
        scenario.measure(meter)
    check_what_was_measured(environment(meter.side))
    return meter.figures


def loop_of(side: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop of a side."""
    if not side.endswith("uvloop"):
        return None
    import uvloop  # noqa: PLC0415 - only the side that is named after it needs it

    return uvloop.new_event_loop


def check_what_was_measured(where: str) -> None:
    """Make sure that the ``chronomap`` that was imported, if any, is the one that was meant."""
    if (chronomap := sys.modules.get("chronomap")) is None:
        return
    found = Path(chronomap.__file__ or "").resolve()
    assert (found.parent == ROOT / "chronomap") == (where == "ours"), f"{where} measured {found}"
    if where == "peer":
        from importlib.metadata import version  # noqa: PLC0415 - no other side has a version to ask for

        assert version("chronomap") == PEER_VERSION


def main() -> None:
    """Measure what the command line names."""
    import benchmarks.scenarios  # noqa: F401, PLC0415 - fills SCENARIOS; needs the path set above

    name, side, scale, *pinned = sys.argv[1:]
    if pinned:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        found: dict[str, float] | str = measure(SCENARIOS[name], Meter(side, SCALES[scale]))
    except NotHereError as error:
        found = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
