"""The public surface as a user writes it: checked by the type checker, never run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_type

from chronomap import (
    AsyncChronoMap,
    Change,
    ChronoMap,
    Retention,
    Snapshot,
    TolerantCodec,
    Version,
    backup,
    follow,
    meta,
)


def plain() -> None:
    """Keys and values keep their types through the sync face."""
    cm: ChronoMap[str, int] = ChronoMap(retention=Retention(max_versions=10))
    assert_type(cm.put("a", 1, datetime.now(UTC), ttl=5), int)
    assert_type(cm["a"], int)
    assert_type(cm.latest(), dict[str, int])
    assert_type(cm.history("a"), list[tuple[float, int]])
    assert_type(cm.versions("a"), list[Version[str, int]])
    assert_type(cm.snapshot(), Snapshot[str, int])
    assert_type(cm.snapshot()["a"], int)
    assert_type(cm.get_latest_keys(3), list[tuple[str, float, int]])
    assert_type(cm.update("a", lambda number: number + 1), int)
    for change in cm.watch(prefix="a", timeout=0):
        assert_type(change, Change[str, int])
    for changes in cm.watch("a", latest_only=True, on_lag="resync", timeout=0).commits():
        assert_type(changes, list[Change[str, int]])
    for past in cm.replay(since=1, until=2, key="a"):
        assert_type(past.previous, int | None)
    with meta(author="ann", attempt=2):
        cm.put("a", 1, if_changed=True, meta={"reason": "because"})
    with cm.transaction() as tx:
        tx.put("a", 2)
    with cm.snapshot_context() as same:
        assert_type(same, ChronoMap[str, int])
    cm.save_journal("copy.chrono")
    with ChronoMap[str, int].open("copy.chrono", read_only=True, codec=TolerantCodec()) as copy:
        assert_type(copy, ChronoMap[str, int])
    for followed in follow("copy.chrono", since=1, timeout=0):
        assert_type(followed.revision, int)
    assert_type(backup("copy.chrono", "another.chrono"), int)


async def awaited() -> None:
    """And through the async one."""
    async with AsyncChronoMap[str, bytes]() as cm:
        assert_type(await cm.put("a", b"1"), int)
        assert_type(await cm.latest(), dict[str, bytes])
        assert_type(cm["a"], bytes)
        assert_type(cm.bridge(), ChronoMap[str, bytes])
        async for change in cm.watch("a", initial=True):
            assert_type(change.value, bytes | None)
        stream = cm.watch(prefix="a", present_only=True)
        assert_type(await stream.caught_up(), int)
        async for changes in stream.commits():
            assert_type(changes, list[Change[str, bytes]])
        async for past in cm.replay():
            assert_type(past, Change[str, bytes])
        async with cm.transaction() as tx:
            await tx.put("a", b"2")


def on_disk() -> None:
    """Opened with its types said, or told by where it goes; both faces."""
    with ChronoMap[str, int].open("config.chrono", durability="normal", retention=Retention(max_age=60)) as cm:
        assert_type(cm, ChronoMap[str, int])
        assert_type(cm["a"], int)
        assert_type(cm.durable, bool)
        assert_type(cm.read_only, str | None)
        assert_type(cm.backup(Path("copy.chrono"), progress=print), int)
        cm.compact()
        cm.vacuum()
    told: ChronoMap[str, float] = ChronoMap.open(Path("config.chrono"), create=False)
    told.close()


async def on_disk_awaited() -> None:
    """The same with ``async with``, and awaited."""
    async with AsyncChronoMap[str, bytes].open("config.chrono", progress=lambda done, total: None) as cm:
        assert_type(cm, AsyncChronoMap[str, bytes])
        assert_type(await cm.get("a", default=b""), bytes | Any)
        assert_type(await cm.backup("copy.chrono"), int)
        await cm.compact(5)
    awaited = await AsyncChronoMap[str, int].open("config.chrono")
    assert_type(awaited, AsyncChronoMap[str, int])
    await awaited.aclose()
