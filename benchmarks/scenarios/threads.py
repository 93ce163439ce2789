"""One map shared by threads.

Why a user cares: threaded servers and worker pools. Python's threads take turns; the question is what a turn costs.
"""

from __future__ import annotations

import random
import threading
from time import perf_counter_ns

from benchmarks.frame import Meter, Wanted, scenario
from benchmarks.stores import KEYS, Store, opened

CHUNK = 100
"""Operations between two looks at the clock."""


def together(store: Store, threads: int, reads: float, span: int) -> tuple[float, int]:
    """Nanoseconds for one operation when so many threads work for a span, and how many puts there were."""
    barrier = threading.Barrier(threads)
    done: list[tuple[int, int, int, int]] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        plan = [(chance.choice(KEYS), chance.random() < reads) for _ in range(CHUNK * 10)]
        chunks = [plan[start : start + CHUNK] for start in range(0, len(plan), CHUNK)]
        get, put = store.get, store.put
        operations = puts = turn = 0
        barrier.wait()
        start = perf_counter_ns()
        while (now := perf_counter_ns()) - start < span or not operations:
            chunk = chunks[turn % len(chunks)]
            for key, read in chunk:
                if read:
                    get(key)
                else:
                    put(key, turn)
            puts += sum(not read for _, read in chunk)
            operations += CHUNK
            turn += 1
        done.append((start, now, operations, puts))

    team = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert len(done) == threads
    taken = max(end for _, end, _, _ in done) - min(start for start, _, _, _ in done)
    return taken / sum(operations for _, _, operations, _ in done), sum(puts for _, _, _, puts in done)


@scenario(
    "threads",
    sides=("ours", "peer", "dict with a Lock", "dict of lists", "pykka actor"),
    wanted=(
        Wanted("16 threads, 90 % gets", ("peer",), 8),
        Wanted("16 threads, puts", ("peer",), 3),
        Wanted("16 threads, puts", ("dict with a Lock",), 1),
    ),
    unit="per second",
    between_threads=True,
)
def threads(meter: Meter) -> None:
    """Operations per second by all threads together, over 1,000 keys chosen at random.

    The span is long enough that every thread runs for longer than the interpreter's switch interval (5 ms): otherwise they
    run one after the other.
    """
    for count in (1, 16):
        for case, reads in (("puts", 0.0), ("90 % gets", 0.9)):
            with opened(meter.side) as store:
                for key in KEYS:
                    store.put(key, -1)
                name = f"{count} thread{'s' * (count > 1)}, {case}"
                figure, puts = meter_span(meter, name, store, count, reads)
                meter.note(name, figure)
                if meter.side == "ours":
                    assert store.behind.revision == puts + len(KEYS)
                elif meter.side.startswith("dict"):
                    assert sum(map(len, store.behind.values())) == puts + len(KEYS)


def meter_span(meter: Meter, case: str, store: Store, count: int, reads: float) -> tuple[float, int]:
    """One measurement; through the meter, so that it can be profiled."""
    found: list[tuple[float, int]] = []
    span = max(meter.scale.span * 2, 1_000)
    meter.time(case, lambda _: found.append(together(store, count, reads, span)), operations=1)
    return found[-1]
