"""How a process ends, or splits in two, while a map on disk is open and writes are in flight."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import pytest

from chronomap import ChronoMap
from chronomap.journal.verifying import verify

BEGIN = """
    import asyncio, atexit, os, sys, threading, anyio, gc, signal, warnings
    from chronomap import AsyncChronoMap, ChronoMap, ClosedError, ForkedError
    path = sys.argv[1]
    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())
    def write(cm, name):
        for n in range(10**9):
            say("done", name, n, cm.put(name, n))
    """


def run(path: Path, program: str) -> tuple[list[list[str]], str]:
    """What a program said in lines of words, and what Python complained about; it has to end by itself."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-c", textwrap.dedent(BEGIN) + textwrap.dedent(program), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()], done.stderr


def everything_is_there(path: Path, lines: list[list[str]]) -> None:
    """What was acknowledged, under its revision, and the file is sound."""
    acknowledged = [(int(revision), name, int(n)) for what, name, n, revision in (line for line in lines if len(line) == 4)]
    assert verify(path).ok
    with ChronoMap[str, int].open(path, feed_retention=10**6) as cm:
        found = {change.revision: (change.key, change.value) for change in cm.watch(since=0, timeout=0)}
        assert sorted(found) == list(range(1, cm.revision + 1))
    for revision, name, n in acknowledged:
        assert found[revision] == (name, n)


@pytest.mark.parametrize("how", ["falls off the end", "sys.exit", "exception in a thread", "os._exit"])
def test_the_process_ends_with_writes_in_flight(tmp_path: Path, how: str) -> None:
    """Daemon threads write; the main thread leaves. No hang, and nothing acknowledged is lost."""
    last = {"falls off the end": "", "sys.exit": "sys.exit(0)", "os._exit": "os._exit(0)"}.get(how, "")
    lines, errors = run(
        tmp_path / "map.chrono",
        f"""
        cm = ChronoMap.open(path, durability="off")
        for name in "abcd":
            threading.Thread(target=write, args=(cm, name), daemon=True).start()
        while cm.revision < 300:
            cm.put("main", cm.revision)
        {last}
        """,
    )
    assert len(lines) > 50
    assert "Fatal" not in errors
    everything_is_there(tmp_path / "map.chrono", lines)


def test_a_loop_that_ends_with_writes_in_flight(tmp_path: Path) -> None:
    """``asyncio.run`` cancels what is left: everything is answered, also without closing the map."""
    lines, errors = run(
        tmp_path / "map.chrono",
        """
        async def writes(cm, name):
            for n in range(10**9):
                say("done", name, n, await cm.put(name, n))

        async def main():
            cm = await AsyncChronoMap.open(path, durability="off")
            tasks = [asyncio.create_task(writes(cm, name)) for name in "abcd"]
            while cm.revision < 300:
                await asyncio.sleep(0)

        asyncio.run(main())
        """,
    )
    assert len(lines) > 50
    assert "rror" not in errors
    everything_is_there(tmp_path / "map.chrono", lines)


def test_writes_at_the_very_end(tmp_path: Path) -> None:
    """An ``atexit`` function may still write; a finalizer that comes later gets ``ClosedError`` and does not hang."""
    lines, _ = run(
        tmp_path / "map.chrono",
        """
        cm = ChronoMap.open(path)
        say("done", "main", 1, cm.put("main", 1))
        atexit.register(lambda: say("done", "atexit", 2, cm.put("atexit", 2)))

        class Late:
            # What it needs is bound here: the names of modules may be gone by then.
            def __init__(self):
                self.cm, self.say, self.error = cm, say, ClosedError

            def __del__(self):
                for call in (lambda: self.cm.put("late", 3), lambda: self.cm.delete("main")):
                    try:
                        call()
                    except self.error as error:
                        self.say("refused", type(error).__name__)

        late = Late()
        """,
    )
    assert ["done", "atexit", "2", "2"] in lines
    assert lines.count(["refused", "ClosedError"]) == 2
    everything_is_there(tmp_path / "map.chrono", lines)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_with_writes_in_flight(tmp_path: Path) -> None:
    """The child is refused everything and ends at once; the parent goes on, and the file is the parent's."""
    lines, errors = run(
        tmp_path / "map.chrono",
        """
        cm = ChronoMap.open(path)
        stream = cm.watch(timeout=0)
        for name in "ab":
            threading.Thread(target=write, args=(cm, name), daemon=True).start()
        for n in range(8):
            cm.put("main", n)
            child = os.fork()
            if not child:
                refused = 0
                for call in (lambda: cm.put("child", 1), lambda: cm.get("main"), cm.snapshot, lambda: cm.compact(0),
                             lambda: list(cm.items()), lambda: next(stream), lambda: len(cm)):
                    try:
                        call()
                    except ForkedError:
                        refused += 1
                cm.close()
                try:
                    ChronoMap.open(path)
                except Exception as error:
                    say(type(error).__name__)
                say("refused", refused)
                sys.exit(0) if n % 2 else os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        say("still", cm.get("main"), "child" in cm)
        cm.close()
        """,
    )
    assert lines.count(["refused", "7"]) == 8, lines
    assert lines.count(["JournalInUseError"]) == 8
    assert ["still", "7", "False"] in lines
    assert "Fatal" not in errors
    everything_is_there(tmp_path / "map.chrono", lines)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_outlives_its_killed_parent(tmp_path: Path) -> None:
    """The parent is killed in the middle of a group; the child neither owns the file nor spoils it by ending."""
    lines, _ = run(
        tmp_path / "map.chrono",
        """
        reader, writer = os.pipe()
        parent = os.fork()
        if not parent:
            cm = ChronoMap.open(path)
            for name in "ab":
                threading.Thread(target=write, args=(cm, name), daemon=True).start()
            while cm.revision < 50:
                pass
            if not os.fork():  # the grandchild: inherits everything
                os.read(reader, 1)
                sys.exit(0)
            while cm.revision < 100:
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(parent, 0)
        with ChronoMap.open(path) as cm:
            say("done", "here", 1, cm.put("here", 1))
            os.write(writer, b"x")
            say("done", "here", 2, cm.put("here", 2))
        """,
    )
    everything_is_there(tmp_path / "map.chrono", lines)


def test_erased_values_that_a_crash_left_behind(tmp_path: Path) -> None:
    """Somebody was reading when a key was erased, and then the process died: the next life of the map makes up for it."""
    path, spot = tmp_path / "map.chrono", tmp_path / "later" / "map.chrono"
    spot.parent.mkdir()
    with ChronoMap[str, str].open(path) as cm:
        cm.put("a", "to be erased")
        reader = apsw.Connection(str(path))
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM records").fetchall()
        cm.erase("a")
        for suffix in ("", "-wal"):  # the crash
            shutil.copyfile(f"{path}{suffix}", f"{spot}{suffix}")
        reader.close()

    def found() -> bool:
        return any(b"to be erased" in file.read_bytes() for file in spot.parent.iterdir())

    assert found()
    with ChronoMap[str, str].open(spot) as cm:
        cm.put("b", "1")
        assert not found()
        assert cm.versions("a")[-1].kind == "tombstone"


def test_an_async_map_that_nobody_closed(tmp_path: Path) -> None:
    """It is let go of while its event loop runs on, and can be opened again."""
    lines, errors = run(
        tmp_path / "map.chrono",
        """
        async def main():
            warnings.simplefilter("always")
            cm = await AsyncChronoMap.open(path)
            say("done", "a", 1, await cm.put("a", 1))
            writer = cm._owner._writer
            del cm
            gc.collect()
            await anyio.to_thread.run_sync(writer.join, 10)
            async with AsyncChronoMap.open(path) as cm:
                say("done", "a", 2, await cm.put("a", 2))

        asyncio.run(main())
        """,
    )
    assert "ResourceWarning: a durable map was not closed" in errors
    everything_is_there(tmp_path / "map.chrono", lines)
