"""Killing a process at a random moment, and holding what is left against what it had been told."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from victim import is_whole, value_of

from chronomap import ChronoMap, Retention
from chronomap.core.records import CANCELLED, NEVER, Commit, Record
from chronomap.core.values import MISSING, bare
from chronomap.journal import SqliteJournal
from chronomap.journal.verifying import verify
from chronomap.testing import ManualClock

PROGRAM = Path(__file__).with_name("victim.py")
CARES = ("write", "write", "compact", "vacuum", "backup", "close", "open")
"""What a victim is doing when it is killed."""


@dataclass
class Told:
    """What a victim said before it was killed."""

    asked: dict[tuple[str, int], tuple[str, str | None]] = field(default_factory=dict)
    got: list[tuple[str, int, Any]] = field(default_factory=list)
    saw: dict[str, list[tuple[int, list[Any]]]] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    copied: dict[int, int] = field(default_factory=dict)
    opened: int | None = None

    def hear(self, what: str, *words: Any) -> None:
        """One line."""
        if what == "asked":
            name, n, call, key = words
            self.asked[name, n] = call, key
        elif what == "got":
            name, n, result = words
            self.got.append((name, n, result))
        elif what == "saw":
            name, revision, reached, seen = words
            self.saw.setdefault(name, []).append((revision, seen))
            self.reached[name] = reached
        elif what == "copied":
            self.copied[words[0]] = words[1]
        elif what == "opened":
            self.opened = words[0]


def kill(path: Path, rng: random.Random, what: str) -> Told:
    """Start a victim and kill it: after so many lines, or a little after it began to do something."""
    durability, loop = rng.choice(("full", "normal", "off")), rng.choice(("asyncio", "trio"))
    seed = rng.getrandbits(32)
    signal_line = {"write": "opened", "open": "begin"}.get(what, "begin")
    lines = rng.randrange(2_500) if what == "write" else 0
    rounds = 1 if what in ("write", "open") else rng.randrange(1, 4) if what != "close" else 2
    delay = rng.random() * (0.05 if what == "open" else 0.02)
    arguments = [str(path), durability, loop, str(seed), "write" if what == "open" else what]
    print("victim:", *arguments, "lines", lines, "rounds", rounds, "delay", delay)
    told = Told()
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(PROGRAM), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        armed = False
        for line in process.stdout:
            try:
                words = json.loads(line)
            except ValueError:
                break  # cut off in the middle
            told.hear(*words)
            if armed:
                lines -= 1
            elif words[0] == signal_line and (what in ("write", "open") or words[1] in (what, "close")):
                rounds -= 1
                armed = rounds <= 0
            if armed and lines <= 0:
                lines = 1 << 60
                threading.Timer(delay, process.kill).start()
        errors = process.stderr.read().decode()
    assert process.returncode == -9 or what == "close", errors
    assert process.returncode in (-9, 0), errors
    return told


class Ledger:
    """All that is known of one file, over several lives of its map.

    Attributes:
        log: Every commit so far, as the file told it when it was new.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log: list[Commit] = []
        self.asked: dict[tuple[str, int], tuple[str, str | None]] = {}

    def check(self, lives: list[Told]) -> None:
        """Hold the file against what was told since the last time, and write to it."""
        for told in lives:
            self.asked |= told.asked
        if not self.path.exists():
            assert all(told.opened is None for told in lives)
            assert not self.log
            return
        self._look_for_erased(lives)
        verify(self.path).insist()
        before = len(self.log)
        with SqliteJournal.open(self.path) as journal:
            assert journal.complete_since <= before
            new = list(journal.replay(before))
        assert [commit.revision for commit in new] == list(range(before + 1, before + len(new) + 1))
        self.log += new
        self._check_submitted(new)
        for told in lives:
            self._check_acknowledged(told)
            self._check_copies(told)
        resident = None if len(self.log) % 2 else Retention(max_versions=1)
        with ChronoMap[str, Any].open(self.path, clock=ManualClock(time.time()), feed_retention=10**6, resident=resident) as cm:
            self._check_due(cm, len(self.log))
            for told in lives:
                self._check_watchers(told, cm)
            now = max(0.0, cm._store.instant)  # nothing may have been committed yet
            assert cm.at(now).latest() == latest_of(self.log, now)
            cm._check()
            n = cm.revision + 1
            self.asked["parent", n] = "put", "parent"
            assert cm.put("parent", value_of("parent", n)) == n

    # -- what is in the log ----------------------------------------------------------------------------------------------

    def _check_submitted(self, new: list[Commit]) -> None:
        """Everything in the log was asked for, is whole, and is all of its commit."""
        for commit in new:
            found = [bare(record.value) for record in commit.records if record.value not in (MISSING, CANCELLED)]
            assert all(is_whole(value) for value in found), commit
            assert all((value["by"], value["n"]) in self.asked for value in found), commit
            if {record.kind for record in commit.records} == {"put"}:
                [origin] = {(value["by"], value["n"]) for value in found}
                call, _ = self.asked[origin]
                assert len(commit.records) == {"put": 1, "put_many": 3, "transact": 2}[call], commit

    def _check_acknowledged(self, told: Told) -> None:
        """What was acknowledged is there, under its revision, in the order of each writer."""
        erased = {r.key: c.revision for c in self.log for r in c.records if r.kind == "erase"}
        kinds = {(record.kind, record.key) for commit in self.log for record in commit.records}
        last: dict[str, int] = {}
        for name, n, result in told.got:
            call, key = told.asked[name, n]
            if call in ("put", "put_many", "transact") and result is not None:
                assert result > last.get(name, 0)
                last[name] = result
                assert result <= len(self.log), (name, n, call, key, result, len(self.log))
                found = [
                    record.key
                    for record in self.log[result - 1].records
                    if record.value is not MISSING and bare(record.value) == value_of(name, n)
                ]
                if erased.get(key, 0) < result:
                    assert len(found) == {"put": 1, "put_many": 3, "transact": 2}[call]
                    assert key is None or key in found
            elif call == "delete" and result:
                assert {("delete", key), ("unschedule", key)} & kinds
            elif call == "erase" and result:
                assert ("erase", key) in kinds
            elif call == "rollback":
                assert result is None or result <= len(self.log)

    def _look_for_erased(self, lives: list[Told]) -> None:
        """When an erase has returned, nothing of the values is in any file."""
        if any(self.path.parent.glob("copy*")):
            return  # a backup reads the file, and may put it off
        content = b"".join(file.read_bytes() for file in self.path.parent.iterdir() if not file.name.endswith("-shm"))
        secrets: dict[str, list[int]] = {}
        for name, n, result in (one for told in lives for one in told.got):
            call, key = self.asked[name, n]
            if key == f"{name}:secret" and call == "put":
                secrets.setdefault(name, []).append(n)
            elif call == "erase" and result:
                for one in secrets.pop(name, []):
                    assert f'"{name}/{one}.'.encode() not in content

    def _check_copies(self, told: Told) -> None:
        """A backup that has its name is whole, and the map as of some revision."""
        for file in self.path.parent.glob("copy*"):
            if file.name.removeprefix("copy").isdigit():
                report = verify(file)
                report.insist()
                assert report.revision == told.copied.get(int(file.name.removeprefix("copy")), report.revision)
                with SqliteJournal.open(file) as copy:
                    assert [c.revision for c in copy.replay(copy.complete_since)][-1:] in ([copy.revision], [])
                    assert copy.revision <= len(self.log)
            file.unlink()

    # -- the map after opening -------------------------------------------------------------------------------------------

    def _check_due(self, cm: ChronoMap[str, Any], before: int) -> None:
        """What fell due meanwhile was committed on opening, in due order, and nothing is left."""
        late = [(change.kind, change.timestamp) for change in cm.watch(since=before, timeout=0)]
        assert {kind for kind, _ in late} <= {"expire", "activate"}
        assert late == sorted(late, key=lambda one: one[1])
        assert cm._store.deadlines.next_due > cm._store.instant
        for key, records in _by_key(self.log).items():
            if ":ttl" in key and {record.kind for _, record in records} <= {"put", "expire"}:
                puts = sorted((r.timestamp, revision, r.expires_at) for revision, r in records if r.kind == "put")
                expiries = {version.timestamp for version in cm.versions(key) if version.kind == "tombstone"}
                for (_, _, due), following in zip(puts, [*puts[1:], (NEVER, 0, 0.0)], strict=True):
                    if due <= cm._store.instant:
                        assert (due in expiries) == (due < following[0]), (key, puts)

    def _check_watchers(self, told: Told, cm: ChronoMap[str, Any]) -> None:
        """What each had seen, and what it sees when it goes on, is the log, each commit once."""
        if told.opened is None:
            return
        for name, prefix in (("all", None), ("some", "key1")):
            since = told.reached.get(name, told.opened)
            stream = cm.watch(since=since, prefix=prefix, timeout=0)
            later = [
                (changes[0].revision, [[change.key, change.value and change.value["n"]] for change in changes])
                for changes in stream.commits()
            ]
            seen = [
                (revision, [change for change in changes if ":secret" not in change[0]])
                for revision, changes in told.saw.get(name, []) + later
                if revision <= len(self.log)
            ]
            right = [
                (commit.revision, [_shown(r) for r in commit.records if r.key.startswith(prefix or "")])
                for commit in self.log[told.opened :]
            ]
            right = [(revision, [one for one in changes if ":secret" not in one[0]]) for revision, changes in right]
            for revision, changes in seen:  # the journal need not have the value of what was activated
                shown = dict(right).get(revision, [])
                for one, other in zip(changes, shown, strict=True):
                    if other[1] == "activated":
                        other[1] = one[1]
            assert [one for one in seen if one[1]] == [one for one in right if one[1]]


def latest_of(log: Iterable[Commit], now: float) -> dict[str, Any]:
    """What every key holds after some commits, by the rule of visibility."""
    found = {}
    for key, records in _by_key(log).items():
        versions = [(r.timestamp, revision, r) for revision, r in records if r.kind not in ("activate", "erase")]
        cancelled = {(r.timestamp, revision) for revision, r in records if r.value is CANCELLED}
        standing = [
            version
            for version in versions
            if version[0] <= now
            and version[2].value is not CANCELLED
            and not any(at == version[0] and by > version[1] for at, by in cancelled)
        ]
        newest = max(standing, key=lambda version: version[:2], default=None)
        if newest is not None and newest[2].value is not MISSING and newest[2].expires_at > now:
            found[key] = bare(newest[2].value)
    return found


def _by_key(log: Iterable[Commit]) -> dict[str, list[tuple[int, Record]]]:
    found: dict[str, list[tuple[int, Record]]] = {}
    for commit in log:
        for record in commit.records:
            if record.kind == "erase":
                found[record.key] = []
            found.setdefault(record.key, []).append((commit.revision, record))
    return found


def _shown(record: Record) -> list[Any]:
    if record.kind == "activate":
        return [record.key, "activated"]
    return [record.key, None if record.value in (MISSING, CANCELLED) else bare(record.value)["n"]]
