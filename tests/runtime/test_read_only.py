"""Maps that are only read, beside whoever owns their file, and what follows or copies such a file."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import apsw
import pytest

import chronomap
from chronomap import (
    AsyncChronoMap,
    ChronoMap,
    ChronoMapTypeError,
    ChronoMapValueError,
    CorruptJournalError,
    ExactCodec,
    FutureRevisionError,
    JournalError,
    JournalInUseError,
    JournalOpenError,
    LaggedError,
    Retention,
    TolerantCodec,
    UnsafePickleCodec,
)
from chronomap.journal import Foreign, MemoryJournal, ReadingJournal
from chronomap.testing import ManualClock

HOLD = """
import sys
from chronomap import ChronoMap
cm = ChronoMap.open(sys.argv[1])
for number in range(20):
    cm.put("a", number)
print("ready", flush=True)
sys.stdin.read()
"""

NEWEST = Retention(max_versions=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a map may be made."""
    return tmp_path / "map.chrono"


@pytest.fixture
def owner(path: Path) -> Iterator[ChronoMap[str, Any]]:
    """A map that is open, in this process, with five commits dated 100 to 500."""
    with ChronoMap[str, Any].open(path, clock=ManualClock(1000)) as cm:
        for number in range(1, 5):
            cm.put("a", number, 100 * number)
        cm.put("b", [1], 500, meta={"author": "ann"})
        yield cm


# -- beside an owner ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resident", [None, NEWEST])
def test_as_of_one_moment(path: Path, owner: ChronoMap[str, Any], resident: Retention | None) -> None:
    """Everything that was there then can be read, and nothing else, whatever the owner does meanwhile."""
    before = owner.to_dict()
    with ChronoMap[str, Any].open(path, read_only=True, resident=resident, clock=ManualClock(1000)) as cm:
        owner.put("a", 6)
        owner.erase("b")
        owner.prune_history("a", keep_last=1)
        owner.compact(owner.revision)
        assert cm.to_dict() == before
        assert (cm["a"], cm["b"], cm.revision, len(cm)) == (4, [1], 5, 2)
        assert cm.history("a") == [(100, 1), (200, 2), (300, 3), (400, 4)]
        assert [cm.get("a", timestamp=250), cm.get("a", revision=1), cm.at(150).get("a")] == [2, 1, 1]
        assert [version.meta for version in cm.versions("b")] == [{"author": "ann"}]
        assert [change.value for change in cm.replay(3)] == [4, [1]]
        assert [change.value for change in cm.watch("a", since=2, timeout=0)] == [3, 4]
        assert cm.latest() == {"a": 4, "b": [1]}
        with pytest.raises(ChronoMapTypeError, match="read_only is for the path"):
            ChronoMap.open(MemoryJournal(), read_only=True)
    with ChronoMap[str, Any].open(path, read_only=True, resident=resident) as cm:
        assert (cm.get("a"), cm.get("b"), cm.revision) == (6, None, 7)
    assert owner.put("a", 7) == 8


def test_writes_are_refused(path: Path, owner: ChronoMap[str, Any]) -> None:
    """All of them, and they say what to do; the owner's map is none the wiser."""
    with ChronoMap[str, Any].open(path, read_only=True) as cm:
        assert cm.durable
        assert "open it without read_only" in str(cm.read_only)
        for write in (
            lambda: cm.put("a", 1),
            lambda: cm.put_many({"a": 1}),
            lambda: cm.delete("a"),
            lambda: cm.erase("a"),
            lambda: cm.undo(1),
            lambda: cm.rollback(1),
            lambda: cm.prune_history("a", keep_last=1),
            cm.clear,
            cm.compact,
            cm.vacuum,
        ):
            with pytest.raises(JournalError, match="without read_only"):
                write()
        with pytest.raises(JournalError, match="without read_only"), cm.transaction() as tx:
            assert tx["a"] == 4
            tx.put("a", 5)
        assert cm["a"] == 4
    assert owner.read_only is None
    assert owner.revision == 5


def test_nobody_is_held_up(path: Path, owner: ChronoMap[str, Any]) -> None:
    """With everything in memory nothing is held that keeps SQLite from emptying its log: an erase does so at once."""
    with ChronoMap.open(path, read_only=True) as cm:
        owner.put("secret", "the combination")
        owner.erase("secret")
        assert b"the combination" not in b"".join(file.read_bytes() for file in path.parent.glob("map.chrono-wal"))
        assert cm.get("secret") is None
        with ChronoMap.open(path, read_only=True, resident=NEWEST):
            owner.put("secret", "the combination")
            owner.erase("secret")


def test_many_versions_that_nobody_has_indexed(path: Path) -> None:
    """History is found where the owner never needed the index by key, and where it is behind; the file stays as it is."""
    with ChronoMap[str, Any].open(path, clock=ManualClock(10_000)) as cm:
        for number in range(300):
            cm.put(f"k{number % 3}", number, number if number % 2 else 1000 - number)
        history = [cm.history(f"k{number}") for number in range(3)]
    content = path.read_bytes()
    for _ in range(2):
        with ChronoMap[str, Any].open(path, read_only=True, resident=NEWEST) as cm:
            assert [cm.history(f"k{number}") for number in range(3)] == history
        assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]
    with ChronoMap[str, Any].open(path, resident=NEWEST) as cm:
        assert cm.history("k0") == history[0]  # which brings the index up to date
        cm.put("k0", "new")
        history = [cm.history(f"k{number}") for number in range(3)]
        with ChronoMap[str, Any].open(path, read_only=True, resident=NEWEST) as beside:
            assert [beside.history(f"k{number}") for number in range(3)] == history


def test_what_is_due_is_seen_and_not_committed(path: Path) -> None:
    """The file is left as it was found, and so is what was pruned by the retention that is asked for."""
    clock = ManualClock(100)
    with ChronoMap[str, Any].open(path, clock=clock) as cm:
        cm.put("a", 1, ttl=10)
        cm.put("b", 1)
        cm.put("b", 2, timestamp=120)
    content = path.read_bytes()
    clock.set(200)
    with ChronoMap[str, Any].open(path, read_only=True, clock=clock, retention=NEWEST) as cm:
        assert cm.latest() == {"b": 2}
        assert (len(cm), cm.revision, len(cm.history("b"))) == (1, 3, 2)
        assert [path.name for path in path.parent.iterdir() if path.name.endswith("-owner")] == []
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_after_the_owner_was_killed(path: Path) -> None:
    """What it had acknowledged is there, and left for the next owner to find."""
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with ChronoMap[str, Any].open(path, read_only=True) as beside:
            assert beside["a"] == 19
            with pytest.raises(JournalInUseError):
                ChronoMap.open(path)
            process.kill()
            process.wait()
            assert len(beside.history("a")) == 20
    log = path.with_name("map.chrono-wal").read_bytes()
    for resident in (None, NEWEST):
        with ChronoMap[str, Any].open(path, read_only=True, resident=resident) as cm:
            assert (cm["a"], len(cm.history("a"))) == (19, 20)
        assert path.with_name("map.chrono-wal").read_bytes() == log
    with ChronoMap[str, Any].open(path) as cm:
        assert cm.put("a", 20) == 21


def test_what_cannot_be_opened(path: Path) -> None:
    """A file that is not there is not made; nor is another codec's read, nor a damaged one."""
    with pytest.raises(JournalOpenError, match="is not there"):
        ChronoMap.open(path, read_only=True)
    with pytest.raises(JournalOpenError, match="is not there"):
        ChronoMap.open(path.parent / "none" / "map.chrono", read_only=True)
    assert list(path.parent.iterdir()) == []
    with ChronoMap[str, Any].open(path, codec=UnsafePickleCodec()) as cm:
        cm.put("a", 1j)
        with pytest.raises(JournalOpenError, match="codec 'pickle'"):
            ChronoMap.open(path, read_only=True)
        with ChronoMap.open(path, read_only=True, codec=UnsafePickleCodec()) as beside:
            assert beside["a"] == 1j
    for opened in (lambda: ChronoMap.open(path, read_only=True), lambda: next(chronomap.follow(path))):
        with pytest.raises(JournalOpenError, match="codec 'pickle'"):
            opened()
        assert list(path.parent.iterdir()) == [path]
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalOpenError, match="newer"):
        ChronoMap.open(path, read_only=True)
    assert list(path.parent.iterdir()) == [path]
    path.write_bytes(b"nothing that anybody knows")
    with pytest.raises(CorruptJournalError):
        ChronoMap.open(path, read_only=True)


@dataclass
class Point:
    """A class that only its program knows."""

    x: int


def test_classes_that_are_not_known_here(path: Path) -> None:
    """They come as the JSON in the file, and are passed on unchanged."""
    codec = ExactCodec({"point": Point})
    with ChronoMap[str, Any].open(path, codec=codec) as cm:
        cm.put("a", [Point(1)])
    with ChronoMap[str, Any].open(path, read_only=True, codec=TolerantCodec()) as cm:
        assert isinstance(cm["a"], Foreign)
        assert "point" in str(cm["a"].plain())
        cm.save_journal(path.with_name("copy"), codec=TolerantCodec())
    with ChronoMap[str, Any].open(path.with_name("copy"), codec=codec) as cm:
        assert cm["a"] == [Point(1)]


# -- the async face ----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("resident", [None, NEWEST])
async def test_on_the_async_face(path: Path, resident: Retention | None) -> None:
    """The same: one moment, no writes, no ownership."""
    async with AsyncChronoMap[str, Any].open(path) as owner:
        for number in range(1, 5):
            await owner.put("a", number, 100 * number)
        async with AsyncChronoMap[str, Any].open(path, read_only=True, resident=resident) as cm:
            await owner.put("a", 5)
            await owner.erase("a")
            assert (cm["a"], cm.revision) == (4, 4)
            assert await cm.history("a") == [(100, 1), (200, 2), (300, 3), (400, 4)]
            assert await cm.get("a", timestamp=150) == 1
            assert "without read_only" in str(cm.read_only)
            with pytest.raises(JournalError, match="without read_only"):
                await cm.put("a", 1)
            await cm.save_journal(path.with_name("copy"))
    async with AsyncChronoMap[str, Any].open(path.with_name("copy"), read_only=True) as copy:
        assert await copy.history("a") == [(100, 1), (200, 2), (300, 3), (400, 4)]
    with pytest.raises(JournalOpenError, match="is not there"):
        await AsyncChronoMap[str, Any].open(path.with_name("none"), read_only=True)


# -- files that others own ---------------------------------------------------------------------------------------------


def test_backup_and_description(path: Path, owner: ChronoMap[str, Any]) -> None:
    """A copy of the newest state, or of the map's own moment if it still has that."""
    assert chronomap.backup(path, path.with_name("one")) == 5
    with (
        ChronoMap[str, Any].open(path, read_only=True) as loaded,
        ChronoMap[str, Any].open(path, read_only=True, resident=NEWEST) as held,
    ):
        owner.put("a", 6)
        assert loaded.backup(path.with_name("two")) == 6
        assert held.backup(path.with_name("three")) == 5
    for name, revision in (("one", 5), ("two", 6), ("three", 5)):
        assert chronomap.verify(path.with_name(name)).revision == revision
    with pytest.raises(JournalOpenError, match="there already"):
        chronomap.backup(path, path.with_name("one"))
    found = chronomap.describe(path)
    assert (found.format, found.codec, found.revision, found.records) == (1, "exact-json", 6, 6)
    assert found.bytes > path.stat().st_size


def test_salvage_keeps_off_what_is_open_here(path: Path, owner: ChronoMap[str, Any]) -> None:
    """It may open the file other than by SQLite, which would cost the owner its locks."""
    with pytest.raises(JournalInUseError, match="close that map first"):
        chronomap.salvage(path, path.with_name("new"))
    assert owner.put("a", 6) == 6


def test_follow(path: Path, owner: ChronoMap[str, Any]) -> None:
    """What is there, then what comes; what the log does not say is not made up."""
    changes = list(chronomap.follow(path, 3, 0))
    assert [(change.revision, change.key, change.value, change.meta) for change in changes] == [
        (4, "a", 4, {}),
        (5, "b", [1], {"author": "ann"}),
    ]
    assert {(change.previous, change.created, change.present) for change in changes} == {(None, False, False)}
    assert list(chronomap.follow(path, timeout=0)) == []

    def write() -> None:
        for number in range(3):
            time.sleep(0.05)
            owner.put_many({"a": number, "c": number})

    writer = threading.Thread(target=write)
    with closing(chronomap.follow(path, 5)) as stream:
        writer.start()
        found = [next(stream) for _ in range(6)]
        assert [(change.revision, change.key, change.value) for change in found] == [
            (revision, key, revision - 6) for revision in (6, 7, 8) for key in ("a", "c")
        ]
        assert all(change.present for change in found)
        writer.join()
    owner.prune_history("a", keep_last=1)
    owner.compact(owner.revision)
    with pytest.raises(LaggedError) as lagged:
        next(chronomap.follow(path, 2))
    assert [change.revision for change in chronomap.follow(path, lagged.value.oldest, 0)] == [
        revision for revision in range(lagged.value.oldest + 1, 9) for _ in "ac"
    ]


def test_follow_refuses(path: Path, owner: ChronoMap[str, Any]) -> None:
    """What makes no sense, and files that cannot be read."""
    for since, timeout, error in ((9, 0, FutureRevisionError), (-1, 0, ChronoMapValueError), (0, -1, ChronoMapValueError)):
        with pytest.raises(error):
            next(chronomap.follow(path, since, timeout))
    with pytest.raises(ChronoMapTypeError):
        next(chronomap.follow(path, True))
    with pytest.raises(JournalOpenError):
        next(chronomap.follow(path.with_name("none")))
    with pytest.raises(JournalOpenError, match="codec"):
        next(chronomap.follow(path, codec=UnsafePickleCodec()))
    assert owner.read_only is None


@pytest.mark.anyio
async def test_follow_in_a_worker_thread(path: Path) -> None:
    """As an async program does it."""
    async with AsyncChronoMap[str, Any].open(path) as cm:
        await cm.put("a", 1)
        stream = chronomap.follow(path, 1)

        async def put() -> None:
            await anyio.sleep(0.05)
            await cm.put("a", 2)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put)
            assert (await anyio.to_thread.run_sync(next, stream)).value == 2
        stream.close()


def test_an_index_that_cannot_be_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an index is never searched: the next read begins anew."""
    with ChronoMap[str, Any].open(path) as cm:
        for number in range(5):
            cm.put("a", number)
    with ReadingJournal.look(path) as journal:

        def fail(_: object) -> None:
            raise apsw.FullError("no room")

        with monkeypatch.context() as patch:
            patch.setattr(journal._remover, "place", fail)
            with pytest.raises(JournalError, match="no room"):
                list(journal.versions("a"))
        assert [entry.value for entry in journal.versions("a")] == [4, 3, 2, 1, 0]
