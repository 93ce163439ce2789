"""Disks that fail, and files that are damaged: nothing acknowledged is lost, nothing wrong is told."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from faulty import FaultySystem, NthFails, Step, outages
from logs import all_of, batch, commits, plain, told

from chronomap import ChronoMap
from chronomap.core.meta import NOTHING
from chronomap.core.records import Commit
from chronomap.core.retention import Retention
from chronomap.core.values import MISSING, bare
from chronomap.errors import ChronoMapError, CorruptJournalError, JournalError
from chronomap.journal import Cut, Journal, MemoryJournal, SqliteJournal, sqlite
from chronomap.journal.salvaging import salvage
from chronomap.journal.verifying import verify

SOAK = bool(os.environ.get("CHRONOMAP_SOAK"))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages leave SQLite's own log all the time, so that the scenarios reach that too."""
    monkeypatch.setattr(sqlite, "LOG_PAGES", 12)


# -- the power fails ---------------------------------------------------------------------------------------------------


def recorded(path: Path, durability: str, rng: random.Random) -> tuple[dict[str, bytes], list[Step], list[Commit]]:
    """A file as it was first, the steps that wrote groups to it, and their commits."""
    SqliteJournal.open(path).close()
    before = {path.name: path.read_bytes()}
    system = FaultySystem()
    log: list[Commit] = []
    journal = SqliteJournal.open(path, durability=durability, vfs=system.vfs_name)
    for _ in range(40):
        group = commits(rng, rng.randrange(1, 6), len(log) + 1)
        journal.append(group)
        log += group
        system.steps.append(Step("told", offset=len(log)))
    system.unregister()
    steps = list(system.steps)
    journal.close()
    return before, steps, log


def lose_power(place: Path, durability: str, rng: random.Random, cuts: int) -> None:
    """Cut the power at many points and look at what is left."""
    place.mkdir()
    before, steps, log = recorded(place / "map.chrono", durability, rng)
    spot = place / "after" / "map.chrono"
    for _, acknowledged in outages(steps, before, rng, cuts, spot.parent):
        with SqliteJournal.open(spot) as journal:
            assert plain(journal.replay()) == plain(log[: journal.revision])
            assert told(journal.load())["instants"] == [commit.instant for commit in log[: journal.revision]]
            if durability == "full":
                assert journal.revision >= acknowledged
            next_group = commits(rng, 2, journal.revision + 1)
            journal.append(next_group)
            assert plain(journal.replay(journal.revision - 2)) == plain(next_group)


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_power_loss(tmp_path: Path, durability: str, seed: random.Random) -> None:
    """After the power fails, what is there is a prefix, and with "full" all that was acknowledged; writing goes on."""
    lose_power(tmp_path / "disk", durability, seed, 150)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.skipif(not SOAK, reason="a long campaign: make soak")
def test_power_loss_for_long(tmp_path: Path, seed: random.Random) -> None:
    """The same at thousands of points."""
    for round_ in range(20):
        for durability in ("full", "normal"):
            lose_power(tmp_path / f"{durability}{round_}", durability, seed, 500)
    assert len(list(tmp_path.iterdir())) == 40


# -- a write or sync fails ---------------------------------------------------------------------------------------------

Action = Callable[[Journal], Any]


def scenario() -> list[Action]:
    """What is done while something fails."""
    rng = random.Random(5)
    actions: list[Action] = []
    revision = 0
    for _ in range(4):
        group = commits(rng, 3, revision + 1)
        revision += 3
        actions.append(lambda journal, group=group: journal.append(group))
    erasure = batch(revision + 1, ("erase", "k1", MISSING, 1500.0), ("put", "k2", 5, 1500.0))
    later = commits(rng, 6, revision + 2)
    actions += [
        lambda journal: journal.append([erasure]),
        lambda journal: list(journal.versions("k2")),
        prune_oldest,
        lambda journal: journal.append(later),
        lambda journal: journal.compact(5),
    ]
    return actions


def prune_oldest(journal: Journal) -> None:
    """Forget the oldest version of a key that has many."""
    oldest, second, *_ = reversed(list(journal.versions("k2")))
    journal.prune([Cut("k2", second[:2], oldest[:2])])


def states(actions: list[Action]) -> list[dict[str, Any]]:
    """What a journal tells before the first action and after each."""
    journal = MemoryJournal()
    found = [all_of(journal)]
    for action in actions:
        action(journal)
        found.append(all_of(journal))
    return found


def fail_at(path: Path, fault: NthFails, actions: list[Action], expected: list[dict[str, Any]]) -> None:
    """Run the scenario on a disk that fails, and look at what it says then and after reopening."""
    for file in path.parent.iterdir():
        file.unlink()
    SqliteJournal.open(path).close()
    system = FaultySystem(fault)
    done = 0
    journal = None
    try:
        journal = SqliteJournal.open(path, vfs=system.vfs_name)
        for action in actions:
            action(journal)
            done += 1
        journal.close()
    except JournalError as error:
        assert fault.failed
        if journal is not None and not journal._closed:
            assert journal.failure is not None
            with pytest.raises(type(error), match="read-only until it is reopened"):
                journal.append(commits(random.Random(1), 1, journal.revision + 1))
            if not fault.for_ever:
                assert all_of(journal) == expected[done]
    finally:
        fault.for_ever, fault.n = False, 0
        if journal is not None:
            journal.close()
        system.unregister()
    with SqliteJournal.open(path) as again:
        assert all_of(again) in expected[done : done + 2]
    assert verify(path).ok


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError], ids=["broken", "full"])
def test_every_write_and_sync_fails_in_turn(tmp_path: Path, error: type[Exception], for_ever: bool) -> None:
    """The n-th write, sync or truncation fails, for every n until all goes well.

    Each time the error is told, the journal refuses to go on, and after reopening it is as before the failed step or as
    after it.
    """
    actions = scenario()
    expected = states(actions)
    place = tmp_path / "disk"
    place.mkdir()
    n = 0
    while True:
        n += 1
        fault = NthFails(n, for_ever=for_ever, error=error)
        fail_at(place / "map.chrono", fault, actions, expected)
        if not fault.failed:
            break
    assert n > 50


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_map_after_a_failed_sync(tmp_path: Path, durability: str) -> None:
    """No second sync is tried: writes are refused until the map is reopened, reads go on, and what is on the disk decides."""
    path = tmp_path / "map.chrono"
    SqliteJournal.open(path).close()
    system = FaultySystem()
    failing = "sync" if durability == "full" else "write"
    tried: list[Step] = []

    def fail(step: Step) -> None:
        if step.what == failing:
            tried.append(step)
            raise apsw.IOError("made to fail")

    cm: ChronoMap[str, int] = ChronoMap.open(SqliteJournal.open(path, durability=durability, vfs=system.vfs_name))
    try:
        cm.put("a", 1)
        system.fails = fail
        with pytest.raises(JournalError):
            cm.put_many({"a": 2, "b": 2})
        system.fails = lambda _step: None
        after = len(tried)
        for write in (lambda: cm.put("a", 3), lambda: cm.erase("a"), lambda: cm.rollback(0), cm.compact):
            with pytest.raises(JournalError):
                write()
        assert len(tried) == after
        assert (cm.latest(), cm.revision, len(cm)) == ({"a": 1}, 1, 1)
        assert cm.read_only is not None
    finally:
        cm.close()
        system.unregister()
    with ChronoMap[str, int].open(path) as cm:
        assert cm.latest() in ({"a": 1}, {"a": 2, "b": 2})
        assert cm.read_only is None
        assert cm.put("a", 4) == cm.revision


def test_a_disk_fills_up_and_is_freed(tmp_path: Path, seed: random.Random) -> None:
    """When there is no room the group is refused, and nothing of it is there; with room again, a reopened journal goes on."""
    path = tmp_path / "map.chrono"
    room = 200_000
    ends: dict[str, int] = {}

    def limited(step: Step) -> None:
        if step.what == "write":
            end = max(ends.get(step.name, 0), step.offset + len(step.content))
            if sum(ends.values()) - ends.get(step.name, 0) + end > room:
                raise apsw.FullError("no room")
            ends[step.name] = end

    log: list[Commit] = []
    system = FaultySystem(limited)
    for _ in range(3):
        ends.clear()
        journal = SqliteJournal.open(path, vfs=system.vfs_name if path.exists() else None)
        assert plain(journal.replay()) == plain(log)
        with pytest.raises(JournalError, match="FullError") if path.stat().st_size > 10**9 or log else _nothing():
            for _ in range(2000 if log else 3):
                group = commits(seed, 3, journal.revision + 1)
                journal.append(group)
                log += group
        assert plain(journal.replay()) == plain(log)
        journal.close()
        room += 200_000
    system.unregister()
    assert len(log) > 300


class _nothing:  # noqa: N801 - stands where pytest.raises does
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


# -- bits flip ---------------------------------------------------------------------------------------------------------


def small_file(path: Path) -> dict[str, Any]:
    """A file with something in every table; returns what it tells."""
    rng = random.Random(3)
    with SqliteJournal.open(path) as journal:
        journal.append(commits(rng, 60))
        journal.append([batch(61, ("erase", "k1", MISSING, 1061.0), ("put", "k2", {"a": [1, "x" * 5000]}, 1061.0))])
        prune_oldest(journal)
        journal.append(commits(rng, 20, 62))
        list(journal.versions("k2"))
        return answers(journal)


def answers(journal: SqliteJournal) -> dict[str, Any]:
    """What a journal answers to each question; an error is an answer as well."""
    questions: dict[str, Callable[[], Any]] = {
        "load": lambda: told(journal.load()),
        "part": lambda: told(journal.load(Retention(max_versions=2), now=1080.0)),
        "replay": lambda: plain(journal.replay(journal.complete_since)),
        "versions": lambda: list(journal.versions("k2")),
        "floor": lambda: journal.floor("k2"),
        "revision": lambda: journal.revision,
    }
    found = {}
    for name, question in questions.items():
        try:
            found[name] = question()
        except JournalError as error:
            found[name] = error
    return found


def flip(path: Path, place: Path, bits: Iterator[int]) -> int:
    """Flip one bit at a time; returns how many flips were noticed."""
    right = small_file(path)
    whole = path.read_bytes()
    noticed = 0
    for bit in bits:
        position = bit % (len(whole) * 8)
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        for file in place.iterdir():
            file.unlink()
        spot = place / "map.chrono"
        spot.write_bytes(damaged)
        try:
            with SqliteJournal.open(spot, create=False) as journal:
                found = answers(journal)
        except JournalError:
            noticed += 1
            continue
        wrong = [name for name, answer in found.items() if not isinstance(answer, JournalError) and answer != right[name]]
        assert not wrong, f"bit {position} of {len(whole) * 8}: {wrong}"
        noticed += any(isinstance(answer, JournalError) for answer in found.values())
    return noticed


def test_a_flipped_bit_never_gives_a_wrong_value(tmp_path: Path, seed: random.Random) -> None:
    """Any one bit of the file is flipped: every answer is the right one or an error."""
    (tmp_path / "damaged").mkdir()
    noticed = flip(tmp_path / "map.chrono", tmp_path / "damaged", (seed.getrandbits(40) for _ in range(600)))
    assert noticed > 50


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.skipif(not SOAK, reason="a long campaign: make soak")
def test_every_bit(tmp_path: Path, seed: random.Random) -> None:
    """The same for one bit of every byte."""
    small_file(tmp_path / "size.chrono")
    size = (tmp_path / "size.chrono").stat().st_size
    (tmp_path / "damaged").mkdir()
    noticed = flip(tmp_path / "map.chrono", tmp_path / "damaged", (byte * 8 + seed.randrange(8) for byte in range(size)))
    assert noticed > size / 10


# -- looking, and taking what is left ----------------------------------------------------------------------------------


def test_verify_is_content_with_a_good_file(tmp_path: Path) -> None:
    """A file with something in every table has no problems, while it is open as well."""
    path = tmp_path / "map.chrono"
    small_file(path)
    for _ in range(2):
        report = verify(path)
        assert (report.problems, report.revision, report.safe) == ([], 81, 81)
        report.insist()
    with SqliteJournal.open(path) as journal:
        journal.append(commits(random.Random(1), 5, 82))
        assert verify(path).safe == 86


FIRST_OF = "DELETE FROM records WHERE id = (SELECT min(id) FROM records WHERE revision = 40)"
LAST_PLACE = "WHERE revision = (SELECT max(revision) FROM places)"


@pytest.mark.parametrize(
    ("damage", "problem", "safe"),
    [
        ("UPDATE records SET value = x'31' WHERE revision = 30", "revision 30, is damaged", 29),
        (FIRST_OF, "40", 39),
        ("DELETE FROM records WHERE revision >= 80", "newest revision is 81", 79),
        ("UPDATE commits SET instant = instant + 1 WHERE revision > 50", "header of revision", None),
        ("DELETE FROM pruned", "some of it is missing", 81),
        ("DELETE FROM places " + LAST_PLACE, "index by key", 81),  # noqa: S608
        ("UPDATE places SET timestamp = timestamp + 1 " + LAST_PLACE, "lead to their record", 81),  # noqa: S608
        ("UPDATE state SET text = replace(text, '\"revision\":81', '\"revision\":80')", "its state", 0),
    ],
)
def test_verify_tells_what_is_wrong(tmp_path: Path, damage: str, problem: str, safe: int | None) -> None:
    """Whatever is changed behind the journal's back is named, with the revisions that are safe."""
    path = tmp_path / "map.chrono"
    small_file(path)
    connection = apsw.Connection(str(path))
    connection.execute(damage)
    connection.close()
    report = verify(path)
    assert any(problem in text for text in report.problems), report.problems
    assert safe is None or report.safe == safe
    with pytest.raises(CorruptJournalError) as caught:
        report.insist()
    assert (caught.value.safe, caught.value.problems) == (report.safe, tuple(report.problems))


def test_salvage_of_a_good_file_loses_nothing(tmp_path: Path) -> None:
    """Salvaging what is not damaged gives the same map."""
    right = small_file(tmp_path / "map.chrono")
    report = salvage(tmp_path / "map.chrono", tmp_path / "new.chrono")
    assert (report.revision, report.complete) == (81, True)
    with SqliteJournal.open(tmp_path / "new.chrono") as journal:
        found = answers(journal)
    assert found == right
    with pytest.raises(ChronoMapError, match="new file"):
        salvage(tmp_path / "map.chrono", tmp_path / "new.chrono")


@pytest.mark.parametrize("lost", [slice(0, 4096), slice(0, 16), slice(96, 112), slice(100, 4096), slice(3000, 3400)], ids=str)
@pytest.mark.parametrize("how", ["zeros", "junk"])
@pytest.mark.parametrize("vacuumed", [False, True])
def test_salvage_without_the_first_page(tmp_path: Path, lost: slice, how: str, vacuumed: bool, seed: random.Random) -> None:
    """The page that says where the tables are is the same in every file, so nothing is lost with it."""
    path = tmp_path / "map.chrono"
    right = small_file(path)
    if vacuumed:
        with SqliteJournal.open(path) as journal:
            journal.vacuum()
    content = bytearray(path.read_bytes())
    content[lost] = bytes(lost.stop - lost.start) if how == "zeros" else seed.randbytes(lost.stop - lost.start)
    path.write_bytes(content)
    report = salvage(path, tmp_path / "new.chrono")
    assert (report.revision, report.complete) == (81, True)
    with SqliteJournal.open(tmp_path / "new.chrono") as journal:
        assert answers(journal) == right
    assert path.read_bytes() == content
    assert not [file for file in tmp_path.iterdir() if "salvage" in file.name]


def test_salvage_of_something_else(tmp_path: Path, seed: random.Random) -> None:
    """A file in which there is nothing of a journal is refused, and nothing is made."""
    path = tmp_path / "map.chrono"
    for content in (b"x", seed.randbytes(50_000), bytes(50_000)):
        path.write_bytes(content)
        with pytest.raises(CorruptJournalError, match="too damaged"):
            salvage(path, tmp_path / "new.chrono")
        assert [file.name for file in tmp_path.iterdir()] == ["map.chrono"]


def test_salvage_takes_what_is_readable(tmp_path: Path, seed: random.Random) -> None:
    """Whole pages are overwritten with junk: the rest is in the new file, and the report tells what is not."""
    path = tmp_path / "map.chrono"
    with SqliteJournal.open(path) as journal:
        log = commits(seed, 600)
        journal.append(log)
    content = bytearray(path.read_bytes())
    pages = len(content) // 4096
    for page in seed.sample(range(8, pages), 3):
        content[page * 4096 : page * 4096 + 4096] = seed.randbytes(4096)
    path.write_bytes(content)
    report = salvage(path, tmp_path / "new.chrono")
    written = [record for commit in log for record in commit.records]
    with SqliteJournal.open(tmp_path / "new.chrono") as journal:
        found = plain(journal.replay(journal.complete_since))
        assert (journal.complete_since, journal.revision) == (max(report.incomplete), report.revision)
        whole = told(journal.load())
    assert verify(tmp_path / "new.chrono").ok
    expected = plain(log)[max(report.incomplete) :]
    if report.headers_lost:
        found, expected = ([commit._replace(meta=NOTHING) for commit in log] for log in (found, expected))
    assert found == expected
    assert len(written) / 4 < report.records < len(written)
    kept = {(r, repr(v), t) for entries, *_ in whole["timelines"].values() for t, r, v, _ in entries}
    assert kept <= {(c.revision, repr(bare(r.value)), r.timestamp) for c in log for r in c.records}
    lost = {
        c.revision
        for c in log
        for r in c.records
        if r.kind != "activate" and (c.revision, repr(bare(r.value)), r.timestamp) not in kept
    }
    assert lost <= set(report.incomplete)
