"""Commits to test journals with."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from chronomap.core.meta import NOTHING, Meta
from chronomap.core.records import CANCELLED, NEVER, Commit, Kind, Record
from chronomap.core.store import Store
from chronomap.core.values import MISSING, bare
from chronomap.journal import Contents, Cut, Journal


def put(revision: int, key: Any, value: Any, timestamp: float | None = None, **more: Any) -> Commit:
    """A commit of one put at instant 1000 + revision, dated then unless told otherwise."""
    instant = 1000.0 + revision
    record = Record("put", key, value, MISSING, instant if timestamp is None else timestamp, more.pop("expires_at", NEVER))
    return Commit(revision, instant, (record,), **more)


def batch(revision: int, *records: tuple[Kind, Any, Any, float], meta: Meta = NOTHING) -> Commit:
    """A commit of ``(kind, key, value, timestamp)``."""
    return Commit(revision, 1000.0 + revision, tuple(Record(k, key, v, MISSING, t, NEVER) for k, key, v, t in records), meta)


def a_commit(rng: random.Random, revision: int) -> Commit:
    """Something of everything that a map commits, apart from erasing."""
    if rng.random() < 0.6:
        return put(
            revision,
            f"k{rng.randrange(5)}",
            rng.randrange(1000),
            meta=(("request_id", f"r{revision}"),) if rng.random() < 0.1 else NOTHING,
        )
    kinds: tuple[tuple[Kind, Any], ...] = (
        ("put", [revision, "x"]), ("put", b"bytes"), ("delete", MISSING), ("unschedule", CANCELLED), ("activate", MISSING),
        ("merge", (1, 2)), ("expire", MISSING),
    )  # fmt: skip
    keys = rng.sample(["k0", "k1", "k2", "k3", "k4", 7, (1, "two")], rng.randrange(1, 4))
    return batch(
        revision, *((*rng.choice(kinds)[:1], key, rng.choice(kinds[:2])[1], 900.0 + rng.randrange(200)) for key in keys)
    )


def commits(rng: random.Random, count: int, first: int = 1) -> list[Commit]:
    """So many of them, one after the other."""
    return [a_commit(rng, revision) for revision in range(first, first + count)]


def plain(log: Iterable[Commit]) -> list[Commit]:
    """Commits with bare values and without what journals do not keep, to compare."""
    return [
        commit._replace(
            records=tuple(
                record._replace(value=MISSING if record.kind == "activate" else bare(record.value), previous=MISSING)
                for record in commit.records
            ),
            in_force=frozenset(),
        )
        for commit in log
    ]


def prune(store: Store, journal: Journal, now: float, keep_last: int, keep_after: int | None = None) -> None:
    """Prune a store, and the journal of what it has committed."""
    store.prune(now, None, keep_last, None)
    cuts = [
        Cut(key, timeline.entry(timeline.start)[:2], timeline.floor)
        for key, timeline in store.timelines.items()
        if timeline.floor is not None
    ]
    journal.prune(cuts, keep_after=keep_after)


def restored(contents: Contents) -> Store:
    """A new store, filled with what a journal holds."""
    store = Store()
    store.timelines = contents.timelines
    store.instant = contents.instants[-1]
    store.restored(contents.instants, contents.notes, contents.pruned_to)
    return store


def told(contents: Contents) -> dict[str, Any]:
    """What a load gave, in a form that can be compared."""
    timelines = {
        repr(key): (
            [(t, r, bare(v), e) for t, r, v, e in (timeline.entry(i) for i in range(timeline.start, len(timeline.timestamps)))],
            timeline.floor,
            timeline.changed,
            timeline.ordered,
        )
        for key, timeline in contents.timelines.items()
    }
    return {
        "timelines": timelines,
        "instants": list(contents.instants),
        "erased": contents.erased,
        "requests": contents.requests,
        "partial": contents.partial,
        "notes": contents.notes,
        "pruned_to": contents.pruned_to,
    }


def all_of(journal: Journal) -> dict[str, Any]:
    """Everything a journal tells."""
    return told(journal.load()) | {"log": plain(journal.replay(journal.complete_since)), "revision": journal.revision}
