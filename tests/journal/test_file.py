"""The journal in a file: who owns it, what cannot be opened, what other programs see, copies."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest
from logs import all_of, batch, commits, plain, put

from chronomap.core.values import MISSING
from chronomap.errors import (
    ChronoMapTypeError,
    ChronoMapValueError,
    CorruptJournalError,
    ForkedError,
    JournalError,
    JournalInUseError,
    JournalOpenError,
)
from chronomap.journal import ExactCodec, SqliteJournal, UnsafePickleCodec, schema, sqlite
from chronomap.journal.ownership import SUFFIX, Ownership

HOLD = """
import sys
from chronomap.journal import SqliteJournal
from chronomap.core.records import Commit, Record, NEVER
from chronomap.core.values import MISSING
journal = SqliteJournal.open(sys.argv[1])
journal.append([Commit(1, 1.0, (Record("put", "a", 1, MISSING, 1.0, NEVER),))])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file may be made."""
    return tmp_path / "map.chrono"


def make(path: Path, *texts: str) -> None:
    """A SQLite file by other means."""
    connection = apsw.Connection(str(path))
    for text in texts:
        connection.execute(text).fetchall()
    connection.close()


# -- opening -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_opened(tmp_path: Path, path: Path) -> None:
    """A directory, a missing parent, an empty file, a missing one: each has its message and the path in it."""
    (tmp_path / "empty").touch()
    cases = {
        tmp_path: "is a directory",
        tmp_path / "no" / "map": "is not a directory",
        tmp_path / "empty": "is empty",
    }
    for where, message in cases.items():
        with pytest.raises(JournalOpenError, match=message) as caught:
            SqliteJournal.open(where)
        assert caught.value.path == str(where)
    with pytest.raises(JournalOpenError, match="is not there"):
        SqliteJournal.open(path, create=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty"]


def test_files_of_others(path: Path, tmp_path: Path) -> None:
    """Something that is not SQLite, and another program's SQLite file, are refused and left as they are."""
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(CorruptJournalError, match="not a SQLite file"):
        SqliteJournal.open(path)
    other = tmp_path / "other.db"
    make(other, "CREATE TABLE mine (x)")
    before = other.read_bytes()
    with pytest.raises(JournalOpenError, match="not a map of ChronoMap's"):
        SqliteJournal.open(other)
    assert other.read_bytes() == before


def test_a_newer_format_is_refused(path: Path) -> None:
    """A file that a later version wrote is not touched; the message says what to do."""
    SqliteJournal.open(path).close()
    make(path, f"PRAGMA user_version = {schema.FORMAT + 1}")
    with pytest.raises(JournalOpenError, match="open it with a newer ChronoMap"):
        SqliteJournal.open(path)


def test_changed_tables_are_refused(path: Path) -> None:
    """Other tables, or triggers that would change what is written, are refused."""
    SqliteJournal.open(path).close()
    make(path, "CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM records; END")
    with pytest.raises(CorruptJournalError, match="triggers"):
        SqliteJournal.open(path)
    make(path, "DROP TRIGGER t", "ALTER TABLE records ADD COLUMN mine")
    with pytest.raises(CorruptJournalError, match="tables of format"):
        SqliteJournal.open(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is writable for root")
def test_a_read_only_file(path: Path) -> None:
    """A file that may not be written is refused when it is opened, not at the first write."""
    SqliteJournal.open(path).close()
    path.chmod(0o444)
    with pytest.raises(JournalOpenError, match="read-only"):
        SqliteJournal.open(path)


def test_arguments(path: Path) -> None:
    """A durability that there is not is refused, and so is another codec than the file's."""
    with pytest.raises(ChronoMapValueError, match="durability is one of"):
        SqliteJournal.open(path, durability="most")
    SqliteJournal.open(path, codec=UnsafePickleCodec()).close()
    with pytest.raises(JournalOpenError, match="written by the codec 'pickle'"):
        SqliteJournal.open(path)


def test_another_codec(path: Path) -> None:
    """A codec of one's own is used for values, and its failures are the library's errors."""

    class Loud:
        name = "loud"

        def encode(self, value: Any) -> bytes:
            return str(value).upper().encode()

        def decode(self, text: bytes) -> Any:
            if text == b"BAD":
                raise ChronoMapValueError("bad")
            return text.decode()

    with SqliteJournal.open(path, codec=Loud()) as journal:
        journal.append([put(1, "a", "x"), put(2, "b", "bad")])
        with pytest.raises(ChronoMapTypeError, match="no bytes"):
            journal.append([put(3, "c", "")])
        assert [entry.value for entry in journal.versions("a")] == ["X"]
        with pytest.raises(CorruptJournalError, match="revision 2"):
            journal.load()


# -- one owner ---------------------------------------------------------------------------------------------------------


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that has the file open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_second_process_is_told_who_has_it(path: Path) -> None:
    """The error names the process id and machine; a killed owner leaves nothing in the way, and its commits are there."""
    process = holder(path)
    with process:
        with pytest.raises(JournalInUseError, match=f"process {process.pid}") as caught:
            SqliteJournal.open(path)
        assert (caught.value.pid, caught.value.host) == (process.pid, socket.gethostname())
        process.send_signal(signal.SIGKILL)
        process.wait()
    with SqliteJournal.open(path) as journal:
        assert journal.revision == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_symbolic_links_lead_to_the_same_file(path: Path, tmp_path: Path) -> None:
    """By whatever name it is opened, it has one owner."""
    (tmp_path / "link").symlink_to(path)
    with SqliteJournal.open(tmp_path / "link") as journal:
        assert journal.path == path
        with pytest.raises(JournalInUseError, match="in this process"):
            SqliteJournal.open(path)


def test_a_stale_note_is_in_nobodys_way(path: Path) -> None:
    """The note of an owner that is gone says nothing, whatever stands in it."""
    path.with_name(path.name + SUFFIX).write_text("1 elsewhere\n")
    with SqliteJournal.open(path) as journal:
        assert journal.revision == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_cannot_touch_it(path: Path) -> None:
    """In a child the journal refuses, cannot be opened, and does the parent no harm by ending, not even in a transaction."""
    journal = SqliteJournal.open(path)
    journal.append([put(1, "a", 1)])
    journal._connection.execute("BEGIN IMMEDIATE")
    child = os.fork()
    if not child:
        found = []
        for use in (lambda: journal.append([put(2, "a", 2)]), journal.load, lambda: SqliteJournal.open(path)):
            try:
                use()
            except (ForkedError, JournalInUseError) as error:
                found.append(type(error).__name__)
        journal.close()
        del journal
        gc.collect()
        os._exit(0 if found == ["ForkedError", "ForkedError", "JournalInUseError"] else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    journal._connection.execute("ROLLBACK")
    other = subprocess.run(
        [sys.executable, "-c", HOLD, str(path)], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert "JournalInUseError" in other.stderr, "the parent owns it still"
    journal.append([put(2, "a", 2)])
    journal.close()
    with SqliteJournal.open(path) as again:
        assert again.revision == 2


def test_a_forgotten_journal_warns(path: Path) -> None:
    """One that is dropped without being closed warns, and gives the file free."""
    journals = [SqliteJournal.open(path)]
    journals[0].append([put(1, "a", 1)])
    with pytest.warns(ResourceWarning, match="was not closed"):
        journals.clear()
    with SqliteJournal.open(path) as again:
        assert again.revision == 1


def test_ownership_that_nobody_got_is_given_back(path: Path) -> None:
    """An interrupt may strike between the two: then no journal is there to release it. One that is held is not touched."""
    Ownership(path)
    held = Ownership(path)
    with pytest.raises(JournalInUseError):
        Ownership(path)
    assert len(list(path.parent.iterdir())) == 1
    held.release()
    assert not list(path.parent.iterdir())


# -- what is in the file -----------------------------------------------------------------------------------------------


def test_only_the_file_is_left_after_closing(path: Path) -> None:
    """While it is open there are files beside it; a clean close leaves one."""
    with SqliteJournal.open(path) as journal:
        journal.append([put(1, "a", 1)])
        assert len(list(path.parent.iterdir())) == 4
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("placed", [False, True])
def test_erased_bytes_are_nowhere(path: Path, placed: bool) -> None:
    """When append has returned, nothing of an erased value is in the file or in SQLite's own log, small or large."""
    with SqliteJournal.open(path) as journal:
        secret = "SECRETSECRET"  # noqa: S105 - only a word to look for
        journal.append([put(1, "a", secret), batch(2, ("put", "a", [secret], 5.0), ("put", "b", 1, 5.0))])
        journal.append([put(3, "a", secret * 5000)])
        if placed:
            list(journal.versions("a"))
        journal.append([batch(4, ("erase", "a", MISSING, 1004.0))])
        for file in path.parent.iterdir():
            assert secret.encode() not in file.read_bytes()
        journal.append([put(5, "b", 2)])
        journal.vacuum()
    assert secret.encode() not in path.read_bytes()


def test_any_sqlite_tool_reads_it(path: Path) -> None:
    """The two views show keys and values as SQLite has them, while the map is open as well."""
    with SqliteJournal.open(path, durability="off") as journal:
        journal.append(
            [
                put(1, "number", 1),
                put(2, "number", 2.5),
                put(3, 7, "text"),
                put(4, "list", [1, {"a": None}]),
                put(5, "bytes", b"\xff"),
                put(6, "gone", 1),
                put(7, "gone", MISSING),
                put(8, "later", 1, timestamp=9e9),
                put(9, "expired", 1, expires_at=5.0),
                put(10, ("a", 1), (1, 2)),
                batch(11, ("activate", "number", 1, 3.0)),
                put(12, b"raw", None),
                put(13, True, "yes"),
            ]
        )
        connection = sqlite3.connect(path)
        current = dict(connection.execute("SELECT key, value FROM current"))
        assert current == {
            "number": 2.5,
            7: "text",
            "list": '[1,{"a":null}]',
            "bytes": b"\xff",
            '{"$tuple":["a",1]}': '{"$tuple":[1,2]}',
            b"raw": None,
            1: "yes",
        }
        found = connection.execute(
            "SELECT value, timestamp, revision, committed_at, status, kind FROM history WHERE key = 'gone'"
        )
        assert found.fetchall() == [(1, 1006.0, 6, 1006.0, "value", "put"), (None, 1007.0, 7, 1007.0, "tombstone", "put")]
        assert connection.execute("SELECT count(*) FROM history").fetchone() == (12,)
        connection.close()
        journal.append([put(14, "after", 1)])


def test_a_reader_elsewhere_delays_only_the_scrubbing(path: Path) -> None:
    """While another program reads, erasing works; the old pages go when it has stopped, at the latest on close."""
    with SqliteJournal.open(path) as journal:
        journal.append([put(1, "a", "SECRETSECRET")])
        reader = apsw.Connection(str(path))
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM records").fetchall() == [(1,)]
        journal.append([batch(2, ("erase", "a", MISSING, 1002.0))])
        assert journal.failure is None
        reader.execute("COMMIT")
        journal.append([put(3, "b", 1)])
        for file in path.parent.iterdir():
            assert b"SECRETSECRET" not in file.read_bytes()
        reader.close()


# -- copies ------------------------------------------------------------------------------------------------------------


def test_backup_of_a_journal_in_use(path: Path, tmp_path: Path, seed: Any) -> None:
    """A copy made in steps, with groups between them, is a whole journal: that of when it ended."""
    copy = tmp_path / "copy.chrono"
    with SqliteJournal.open(path, durability="off") as journal:
        journal.append(commits(seed, 500))
        for done, total in journal.backup(copy, pages=3):
            assert done <= total
            assert not copy.exists()
            if done < total and journal.revision < 600:
                journal.append(commits(seed, 5, journal.revision + 1))
        expected = all_of(journal)
        with pytest.raises(JournalOpenError, match="there already"):
            next(journal.backup(copy))
    with SqliteJournal.open(copy) as copied:
        assert all_of(copied) == expected


def test_an_interrupted_backup_leaves_nothing(path: Path, tmp_path: Path, seed: Any) -> None:
    """Closing the iterator early takes the half-made copy away."""
    with SqliteJournal.open(path) as journal:
        journal.append(commits(seed, 300))
        steps = journal.backup(tmp_path / "copy.chrono", pages=1)
        next(steps)
        steps.close()  # type: ignore[attr-defined]
        assert not [file for file in tmp_path.iterdir() if "copy" in file.name]
        journal.append(commits(seed, 1, 301))
        assert journal.revision == 301


def test_vacuum_gives_room_back(path: Path) -> None:
    """After erasing and vacuuming the file is small, and tells the same."""
    with SqliteJournal.open(path) as journal:
        journal.append([put(n, "a", "x" * 1000) for n in range(1, 500)])
        journal.append([batch(500, ("erase", "a", MISSING, 1500.0))])
        before, large = all_of(journal), path.stat().st_size
        journal.vacuum()
        assert all_of(journal) == before
        assert path.stat().st_size < large / 5


def test_replay_goes_on_while_groups_are_appended(path: Path, seed: Any) -> None:
    """A replay that is under way gives what was there when it began."""
    log = commits(seed, 50)
    with SqliteJournal.open(path) as journal:
        journal.append(log)
        replay = journal.replay()
        found = [next(replay)]
        journal.append(commits(seed, 10, 51))
        found += replay
        assert plain(found) == plain(log)


def test_an_iterator_that_has_not_ended_is_in_nobodys_way(path: Path, seed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a replay is held open, groups, erasures and closing work; vacuuming says why it cannot, and nothing fails."""
    monkeypatch.setattr(sqlite, "LOG_PAGES", 1)
    journal = SqliteJournal.open(path)
    journal.append([*commits(seed, 50), put(51, "a", "SECRETSECRET")])
    replay = journal.replay()
    next(replay)
    journal.append([batch(52, ("erase", "a", MISSING, 1052.0))])
    with pytest.raises(JournalError, match="iterator"):
        journal.vacuum()
    journal.append([put(53, "b", 1)])
    assert journal.failure is None
    replay.close()  # type: ignore[attr-defined]
    journal.append([put(54, "b", 2)])
    for file in path.parent.iterdir():
        assert b"SECRETSECRET" not in file.read_bytes()
    held = journal.replay()
    next(held)
    journal.close()
    with pytest.raises(JournalError):
        list(held)
    with SqliteJournal.open(path) as again:
        assert again.revision == 54


# -- this version's format ---------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "golden"


def test_the_golden_file(path: Path) -> None:
    """A file that the first version of the format wrote is read as it was meant, and can be written to."""
    sys.path.insert(0, str(GOLDEN))
    try:
        from write import LOG, codec  # noqa: PLC0415
    finally:
        sys.path.pop(0)
    path.write_bytes((GOLDEN / "1.chrono").read_bytes())
    with SqliteJournal.open(path, codec=codec()) as journal:
        assert plain(journal.replay()) == plain(LOG)
        assert journal.floor("pruned") is None
        journal.append([put(journal.revision + 1, "new", 1)])
        assert journal.load().requests == {"once": ("noted", 3)}


def test_a_group_that_fails_by_accident_fails_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stops a group half-way, an interruption too, nothing of it is there and the journal refuses to go on."""
    with SqliteJournal.open(path, codec=ExactCodec()) as journal:
        journal.append([put(1, "a", 1)])

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("chronomap.journal.state.State.write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            journal.append([put(2, "a", 2)])
        monkeypatch.undo()
        with pytest.raises(JournalError, match="read-only until it is reopened"):
            journal.append([put(2, "a", 2)])
        assert [commit.revision for commit in journal.replay()] == [1]
    with SqliteJournal.open(path) as again:
        again.append([put(2, "a", 2)])
        assert again.revision == 2
