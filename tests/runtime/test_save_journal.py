"""``save_journal``: a new file that is an exact copy of a map."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chronomap import (
    AsyncChronoMap,
    ChronoMap,
    ChronoMapError,
    ChronoMapTypeError,
    CompactedError,
    JournalInUseError,
    JournalOpenError,
    Retention,
    UnsafePickleCodec,
    verify,
)
from chronomap.testing import ManualClock

PATTERN = re.compile("x")
"""A value that only pickles keep."""


def told(cm: ChronoMap[Any, Any]) -> dict[str, str]:
    """All of a map as text, but for activations of which nothing is left."""
    plain: Any = cm.to_dict()
    there = {(key, row[0], row[2]) for key, rows in plain["store"].items() for row in rows}
    plain["notes"] = [
        (revision, kind, meta, sorted((one for one in activated if one in there), key=repr))
        for revision, kind, meta, activated in plain["notes"]
    ]
    return {name: repr(sorted(part.items(), key=repr) if isinstance(part, dict) else part) for name, part in plain.items()}


def live(seed: random.Random, cm: ChronoMap[Any, Any], clock: ManualClock) -> None:
    """Something of every kind happens."""
    keys = ["a", "b", ("c", 1), 2, b"d", None]
    for _ in range(seed.randrange(1, 80)):
        clock.advance(seed.choice([0, 0.5, 3]))
        key, when = seed.choice(keys), clock() + seed.choice([-20, -1, 0, 1, 20])
        with suppress(ChronoMapError):
            seed.choice(
                [
                    lambda: cm.put(key, seed.choice([None, 1, "x", [1, {"y": 2}]]), when, meta={"by": "ann"}),
                    lambda: cm.put(key, seed.random(), request_id=f"{clock()}"),
                    lambda: cm.put_many(dict.fromkeys(seed.sample(keys, 3), 1), seed.choice([None, when]), ttl=5),
                    lambda: cm.delete(key, seed.choice([None, when])),
                    lambda: cm.unschedule(key),
                    lambda: cm.erase(key),
                    lambda: cm.rollback(seed.randrange(cm.revision + 1)),
                    lambda: cm.undo(cm.revision),
                    lambda: cm.prune_history(key, keep_last=seed.randrange(1, 4)),
                ]
            )()


@pytest.mark.parametrize("durable", [False, True])
def test_everything_is_kept(tmp_path: Path, seed: random.Random, durable: bool) -> None:
    """Revisions, instants, timestamps, kinds, meta, expiries, what was pruned: of maps in memory, on disk, partly on disk."""
    for number in range(15):
        clock = ManualClock(1000)
        options: dict[str, Any] = {"resident": seed.choice([None, Retention(max_versions=1)])}
        made = ChronoMap[Any, Any].open(tmp_path / f"{number}", clock=clock, **options) if durable else ChronoMap(clock=clock)
        with made as cm:
            live(seed, cm, clock)
            cm.save_journal(tmp_path / f"{number}.copy")
            known = told(cm)
        if durable:  # a map that is partly in memory goes on telling notes of commits of which all has been erased
            with ChronoMap[Any, Any].open(tmp_path / f"{number}", clock=clock) as cm:
                known = told(cm)
        assert verify(tmp_path / f"{number}.copy").problems == []
        with ChronoMap[Any, Any].open(tmp_path / f"{number}.copy", clock=clock) as copy:
            kept = told(copy)
            assert int(kept.pop("pruned_to")) >= int(known.pop("pruned_to"))  # a live map may know of more
            assert kept == known
            copy._check()


@pytest.mark.anyio
async def test_snapshots_on_the_async_face(tmp_path: Path) -> None:
    """A snapshot is written as of its own revision, whatever has been pruned since."""
    path = tmp_path / "copy"
    async with AsyncChronoMap[str, int](clock=ManualClock(1000)) as cm:
        for number in range(1, 6):
            await cm.put("a", number, number)
        await cm.prune_history("a", keep_last=4)
        snapshot = await cm.snapshot()
        await cm.put("a", 6, 6)
        await cm.put("b", 6, 6)
        await cm.prune_history("a", keep_last=1)
        await snapshot.save_journal(path)
        with pytest.raises(JournalOpenError, match="there already"):
            await cm.save_journal(path)
    async with AsyncChronoMap[str, int].open(path, clock=ManualClock(1000)) as copy:
        assert copy.revision == 5
        assert await copy.history("a") == [(2, 2), (3, 3), (4, 4), (5, 5)]
        with pytest.raises(CompactedError):
            await copy.get("a", timestamp=1)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    """Says which key and revision it is; nothing is left, and what is there is not touched."""
    path = tmp_path / "copy"
    with ChronoMap[Any, Any]() as cm:
        cm.put("good", 1)
        cm.put("bad", PATTERN)
        with pytest.raises(ChronoMapTypeError, match="key 'bad', revision 2: "):
            cm.save_journal(path)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(JournalOpenError, match="not a directory"):
            cm.save_journal(tmp_path / "none" / "copy")
        seen: list[tuple[int, int]] = []
        cm.save_journal(path, codec=UnsafePickleCodec(), progress=lambda done, total: seen.append((done, total)))
        assert seen == [(2, 2)]
        content = path.read_bytes()
        with pytest.raises(JournalOpenError, match="there already"):
            cm.save_journal(path)
        with ChronoMap[Any, Any].open(path, codec=UnsafePickleCodec()) as copy:
            assert copy["bad"] == PATTERN
            with pytest.raises(JournalInUseError):
                cm.save_journal(path)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_map(tmp_path: Path) -> None:
    """Becomes an empty file of a map."""
    ChronoMap[str, int]().save_journal(tmp_path / "copy")
    with ChronoMap[str, int].open(tmp_path / "copy") as copy:
        assert copy.put("a", 1) == 1
