"""The commands on maps on disk, also while another process has them open."""

from __future__ import annotations

import enum
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import chronomap
from chronomap import ChronoMap, ChronoMapError, ExactCodec, UnsafePickleCodec
from chronomap.cli import main
from chronomap.cli.shell import Shell
from chronomap.testing import ManualClock

GOLDEN = Path(__file__).parents[1] / "formats" / "golden"
MODULE = [sys.executable, "-m", "chronomap"]

OWNER = """
import sys
from chronomap import ChronoMap
with ChronoMap.open(sys.argv[1]) as cm:
    print(cm.revision, flush=True)
    for line in sys.stdin:
        key, value = line.split()
        print(cm.put(key, value), flush=True)
"""
"""A process that has a map open: puts what it is told, and says the revisions."""


@pytest.fixture
def disk(tmp_path: Path) -> str:
    """A small map: five commits about three keys, dated 100 to 400."""
    with ChronoMap.open(tmp_path / "map.chrono", clock=ManualClock(500)) as cm:
        cm.put("name", "ada", 100, meta={"author": "ann"})
        cm.put("age", 36, 200)
        cm.put("name", "eve", 300)
        cm.put((1, "x"), None, 300)
        cm.delete("age", 400)
    return str(tmp_path / "map.chrono")


class Owner:
    """Another process that has a map open."""

    def __init__(self, path: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answer()

    def answer(self) -> int:
        """The revision it says."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def put(self, key: str, value: str) -> int:
        """Have it put something."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{key} {value}\n")
        self.process.stdin.flush()
        return self.answer()


@contextmanager
def owned(path: str) -> Iterator[Owner]:
    """Let another process have a map open meanwhile."""
    owner = Owner(path)
    with owner.process:
        yield owner
        assert owner.process.stdin is not None
        owner.process.stdin.close()


def out(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run; what it printed."""
    assert main(arguments) == code
    return capsys.readouterr().out


def err(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """Run; what it complained about, in one line."""
    assert main(arguments) == code
    text = capsys.readouterr().err
    assert text.startswith("chronomap: ")
    assert text.count("\n") == 1
    return text


# -- looking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["get", "MAP", "name"], "eve\n"),
        (["get", "MAP", "name", "--at", "150"], "ada\n"),
        (["get", "MAP", "age", "--at", "r3"], "36\n"),
        (["get", "MAP", '[1, "x"]', "--json-key", "--at", "now"], "null\n"),
        (["history", "MAP", "age"], "1970-01-01T00:03:20Z\tr2\t36\n"),
        (["at", "MAP", "250"], 'name\t"ada"\nage\t36\n'),
        (["at", "MAP", "now", "--prefix", "n"], 'name\t"eve"\n'),
        (["diff", "MAP", "r2", "r3"], '~\tname\t"ada"\t"eve"\n'),
    ],
)
def test_the_same_commands(disk: str, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    """What works on saved maps works here, whatever the file is called, and leaves nothing beside it."""
    assert out(capsys, *(disk if argument == "MAP" else argument for argument in arguments)) == expected
    assert [path.name for path in Path(disk).parent.iterdir()] == ["map.chrono"]
    misleading = str(Path(disk).rename(Path(disk).with_name("map.json")))
    assert out(capsys, *(misleading if argument == "MAP" else argument for argument in arguments)) == expected


def test_history_as_json(disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With everything that is known of each version."""
    first, _ = json.loads(out(capsys, "history", disk, "name", "--json"))
    assert first == {
        "value": "ada",
        "timestamp": 100,
        "revision": 1,
        "committed_at": 500,
        "expires_at": None,
        "kind": "value",
        "meta": {"author": "ann"},
    }


def test_stats(disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the map and of its file."""
    stats = json.loads(out(capsys, "stats", disk, "--json"))
    assert (stats["revision"], stats["present"], stats["keys"], stats["versions"]) == (5, 2, 3, 5)
    assert (stats["format"], stats["codec"], stats["records"]) == (1, "exact-json", 5)
    assert stats["bytes"] == Path(disk).stat().st_size


def test_looking_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there stays so."""
    new = str(tmp_path / "new.chrono")
    for command in (
        ["get", new, "a"],
        ["delete", new, "a"],
        ["at", new, "now"],
        ["stats", new],
        ["watch", new],
        ["verify", new],
    ):
        assert "No such file" in err(capsys, *command)
    for command in (["compact", new], ["backup", new, new + "2"], ["salvage", new, new + "2"], ["shell", "--read-only", new]):
        assert "No such file" in err(capsys, *command)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory, an empty file, another program's, one without a head."""
    assert "is a directory" in err(capsys, "get", str(tmp_path), "a")
    (tmp_path / "map.chrono").touch()
    assert "is empty" in err(capsys, "get", str(tmp_path / "map.chrono"), "a")
    (tmp_path / "map.chrono").write_bytes(b"nothing that anybody knows")
    assert "cannot tell what" in err(capsys, "get", str(tmp_path / "map.chrono"), "a")
    assert "not a SQLite file" in out(capsys, "verify", str(tmp_path / "map.chrono"), code=1)
    with ChronoMap() as cm:
        cm.save_json(tmp_path / "map.json")
    for command in (
        ["put", "MAP", "a", "1"],
        ["delete", "MAP", "a"],
        ["watch", "MAP"],
        ["compact", "MAP"],
        ["backup", "MAP", "b"],
    ):
        arguments = [str(tmp_path / "map.json") if argument == "MAP" else argument for argument in command]
        assert "chronomap import NEW.chrono" in err(capsys, *arguments)


# -- changing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["42"], 42),
        (["red"], "red"),
        (['"42"'], "42"),
        (['{"a": [1, null]}'], {"a": [1, None]}),
        (["NaN"], "NaN"),
        (["42", "--text"], "42"),
        (["--", "-5"], -5),
    ],
)
def test_put(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], value: object) -> None:
    """JSON, or else text; the file is made."""
    path = str(tmp_path / "new.chrono")
    assert out(capsys, "put", path, "key", *arguments) == "r1\n"
    with ChronoMap.open(path) as cm:
        assert cm["key"] == value


def test_put_with_options(disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """When, how long, only if, and why."""
    assert json.loads(out(capsys, "put", disk, "a", "1", "--at", "600", "--meta", "author=ann", "--json")) == {"revision": 6}
    assert out(capsys, "put", disk, '["k", 1]', "2", "--json-key", "--ttl", "1000", "--if-absent") == "r7\n"
    assert "already holds" in err(capsys, "put", disk, "name", "x", "--if-absent", code=1)
    assert "name" in err(capsys, "put", disk, "name", "x", "--if-revision", "1", code=1)
    assert out(capsys, "put", disk, "name", "x", "--if-revision", "3") == "r8\n"
    with ChronoMap.open(disk) as cm:
        assert cm.versions("a")[0].meta == {"author": "ann"}
        version = cm.version(("k", 1))
        assert version is not None and version.expires_at is not None


def test_mistakes(disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written, and it is said what to do."""
    before = Path(disk).read_bytes()
    assert "before what begins with a minus" in err(capsys, "put", disk, "a", "-5")
    assert "NAME=VALUE" in err(capsys, "put", disk, "a", "1", "--meta", "ann")
    assert "TTL must be positive" in err(capsys, "put", disk, "a", "1", "--ttl", "0")
    assert "no moment" in err(capsys, "put", disk, "a", "1", "--at", "soon")
    assert "name a map on disk otherwise" in err(capsys, "put", disk + ".json", "a", "1")
    assert "not a directory" in err(capsys, "put", disk + "/x", "a", "1")
    assert Path(disk).read_bytes() == before


def test_put_of_standard_input(tmp_path: Path) -> None:
    """Without its last line break."""
    path = tmp_path / "new.chrono"
    for text in (b"two\nlines\n", b"[1]\r\n"):
        subprocess.run([*MODULE, "put", path, "key"], input=text, capture_output=True, check=True)
    done = subprocess.run([*MODULE, "put", path, "key"], input=b"\xff", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, b"chronomap: what is on standard input is not UTF-8 text\n")
    with ChronoMap.open(path) as cm:
        assert [value for _, value in cm.history("key")] == ["two\nlines", [1]]


def test_delete(disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The history stays; what is not there cannot be deleted."""
    assert out(capsys, "delete", disk, "name") == "r6\n"
    assert out(capsys, "get", disk, "name", "--at", "r5") == "eve\n"
    assert "no value for key name" in err(capsys, "delete", disk, "name", code=1)


# -- beside another process --------------------------------------------------------------------------------------------


def test_while_another_process_has_it_open(disk: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Looking sees what is acknowledged; writing is refused, naming who has it."""
    with owned(disk) as owner:
        assert owner.put("name", "zoe") == 6
        assert out(capsys, "get", disk, "name") == "zoe\n"
        assert json.loads(out(capsys, "stats", disk, "--json"))["revision"] == 6
        assert out(capsys, "verify", disk) == ""
        assert out(capsys, "backup", disk, str(tmp_path / "copy.chrono")) == ""
        for command in (["put", disk, "a", "1"], ["delete", disk, "a"], ["compact", disk], ["shell", disk]):
            assert f"open in process {owner.process.pid}" in err(capsys, *command)
        assert owner.put("name", "kim") == 7
        assert out(capsys, "get", disk, "name") == "kim\n"
        assert out(capsys, "get", str(tmp_path / "copy.chrono"), "name") == "zoe\n"
    assert out(capsys, "put", disk, "a", "1") == "r8\n"


def test_after_its_owner_was_killed(disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it acknowledged is there, and looking leaves what SQLite needs for it."""
    with owned(disk) as owner:
        owner.put("name", "zoe")
        owner.process.kill()
    assert out(capsys, "get", disk, "name") == "zoe\n"
    assert out(capsys, "get", disk, "name") == "zoe\n"
    assert out(capsys, "put", disk, "name", "kim") == "r7\n"
    assert out(capsys, "verify", disk) == ""


def test_watch(disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All that there has been, and what another process commits meanwhile."""
    assert out(capsys, "watch", disk, "--since", "3", "--timeout", "0").splitlines() == [
        'r4\tput\t[1, "x"]\tnull\t1970-01-01T00:05:00Z',
        "r5\tdelete\tage\t\t1970-01-01T00:06:40Z",
    ]
    assert out(capsys, "watch", disk, "age", "--since", "0", "--count", "1").startswith("r2\tput\tage\t36")
    first = json.loads(out(capsys, "watch", disk, "--prefix", "n", "--since", "0", "--json", "--count", "1"))
    assert (first["revision"], first["kind"], first["value"], first["meta"]) == (1, "put", "ada", {"author": "ann"})
    assert "in the future" in err(capsys, "watch", disk, "--since", "9")
    with owned(disk) as owner:
        command = [*MODULE, "watch", disk, "name", "--since", "5", "--count", "2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            owner.put("name", "zoe")
            assert process.stdout.readline().startswith('r6\tput\tname\t"zoe"')
            owner.put("other", "x")
            owner.put("name", "kim")
            assert process.stdout.readline().startswith('r8\tput\tname\t"kim"')
        assert process.returncode == 0


def test_watch_tells_what_took_effect_and_what_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An activation with its value; after compaction, from where on everything is there."""
    clock, path = ManualClock(100), str(tmp_path / "map.chrono")
    with ChronoMap.open(path, clock=clock) as cm:
        cm.put("a", 1)
        cm.put("a", 2, timestamp=200, ttl=50)
        clock.set(210)
        cm.put("b", 1)
        clock.set(300)
        cm.put("b", 2)
    lines = out(capsys, "watch", path, "--since", "0", "--timeout", "0", "--json").splitlines()
    changes = [json.loads(line) for line in lines]
    assert [(one["kind"], one["key"], one.get("value"), one["expires_at"]) for one in changes[2:]] == [
        ("activate", "a", 2, 250),
        ("put", "b", 1, None),
        ("expire", "a", None, None),
        ("put", "b", 2, None),
    ]
    with ChronoMap.open(path, clock=clock) as cm:
        cm.prune_history("b", keep_last=1)
        cm.compact(cm.revision)
    assert "--since 6" in err(capsys, "watch", path, "--since", "0", "--timeout", "0")


# -- import ------------------------------------------------------------------------------------------------------------


def same(path: Path | str, cm: ChronoMap[Any, Any]) -> None:
    """The map on disk is that map, and is whole."""
    from chronomap.cli import journals  # noqa: PLC0415 - needs extras

    assert chronomap.verify(path).problems == []
    with journals.read(str(path)) as found:
        assert told(found) == told(cm)
    with ChronoMap.open(path, clock=cm._owner.clock) as reopened:
        reopened._check()


def told(cm: ChronoMap[Any, Any]) -> dict[str, str]:
    """All of a map as text: with the types of keys, and NaN equal to itself.

    Of what took effect in one commit the order does not count, nor what has been erased or pruned since.
    """
    plain = cm.to_dict()
    there = {(key, row[0], row[2]) for key, rows in plain["store"].items() for row in rows}
    plain["notes"] = [
        (revision, kind, meta, sorted((one for one in activated if one in there), key=repr))
        for revision, kind, meta, activated in plain["notes"]
    ]
    return {name: repr(sorted(part.items(), key=repr) if isinstance(part, dict) else part) for name, part in plain.items()}


@pytest.mark.parametrize("name", ["20.json", "21.json", "20.pickle", "21.pickle", "21.zpickle"])
def test_import_of_what_chronomap_2_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """One command; also if the name of the file does not say what it is."""
    source = tmp_path / name.partition(".")[0]
    source.write_bytes((GOLDEN / name).read_bytes())
    target = str(tmp_path / "new.chrono")
    out(capsys, "import", target, str(source))
    load = ChronoMap.load_json if name.endswith("json") else ChronoMap.load_pickle
    same(target, load(GOLDEN / name, clock=ManualClock(500)))
    assert out(capsys, "get", target, "a") == "3\n"


def eventful(seed: random.Random, clock: ManualClock) -> ChronoMap[Any, Any]:
    """A map of which something of every kind is known."""
    cm: ChronoMap[Any, Any] = ChronoMap(clock=clock)
    keys = ["a", "b", ("c", 1), 2, b"d", None, True]
    for _ in range(seed.randrange(1, 120)):
        clock.advance(seed.choice([0, 0.5, 3]))
        key, when = seed.choice(keys), clock() + seed.choice([-20, -1, 0, 1, 20])
        action = seed.randrange(16)
        try:
            if action < 4:
                cm.put(key, seed.choice([None, 1, "x", [1, {"y": 2}]]), seed.choice([None, when]), meta={"by": action})
            elif action < 6:
                cm.put_many(dict.fromkeys(seed.sample(keys, 3), action), seed.choice([None, when]), ttl=seed.choice([None, 5]))
            elif action < 8:
                cm.delete(key, seed.choice([None, when]))
            else:
                [
                    lambda: cm.put(key, 1, request_id=f"{clock()}"),
                    lambda: cm.touch(key, 3),
                    lambda: cm.unschedule(key),
                    lambda: cm.erase(key),
                    cm.clear,
                    lambda: cm.rollback(seed.randrange(cm.revision + 1)),
                    lambda: cm.undo(cm.revision),
                    lambda: cm.prune_history(key, keep_last=seed.randrange(1, 4)),
                ][action - 8]()
        except ChronoMapError:
            pass
    return cm


@pytest.mark.parametrize("name", ["map.json", "map.pkl"])
def test_import_keeps_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: random.Random, name: str) -> None:
    """Revisions, instants, timestamps, kinds, meta, expiries, what was pruned: the same dump."""
    for number in range(20):
        clock = ManualClock(1000)
        with eventful(seed, clock) as cm:
            (cm.save_json if name.endswith("json") else cm.save_pickle)(tmp_path / name)
            target = tmp_path / f"{number}.chrono"
            out(capsys, "import", str(target), str(tmp_path / name))
            same(target, cm)


def test_import_adds(disk: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a map, what is not there yet; change lines as they come. From one map on disk to the next as well."""
    new = str(tmp_path / "new.chrono")
    assert json.loads(out(capsys, "import", new, disk, "--json")) == {"revision": 5, "added": 5}
    assert Path(new).exists()
    assert json.loads(out(capsys, "import", new, disk, "--json")) == {"revision": 5, "added": 0}
    out(capsys, "put", new, "b", "1")
    out(capsys, "export", new, str(tmp_path / "lines.jsonl"))
    assert json.loads(out(capsys, "import", disk, str(tmp_path / "lines.jsonl"), "--json")) == {"revision": 11, "added": 6}
    assert "into itself" in err(capsys, "import", disk, disk)
    assert "is a map on disk" in err(capsys, "export", new, str(Path(disk).rename(tmp_path / "x.json")))


def test_import_of_what_cannot_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Says which key it is, and leaves nothing."""
    with ChronoMap() as cm:
        cm.put("good", 1)
        cm.put(frozenset({1}), 2)
        cm.save_pickle(tmp_path / "map.pkl")
    message = err(capsys, "import", str(tmp_path / "new.chrono"), str(tmp_path / "map.pkl"))
    assert "revision 2" in message
    assert [path.name for path in tmp_path.iterdir()] == ["map.pkl"]


# -- care --------------------------------------------------------------------------------------------------------------


def test_verify_and_salvage(disk: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged value is found, and everything else is saved."""
    report = json.loads(out(capsys, "verify", disk, "--json"))
    assert report == {"ok": True, "revision": 5, "safe": 5, "records": 5, "problems": []}
    Path(disk).write_bytes(Path(disk).read_bytes().replace(b'"eve"', b'"eva"'))
    assert main(["verify", disk]) == 1
    captured = capsys.readouterr()
    assert "revision 3" in captured.out
    assert "up to revision 2, of 5" in captured.err and "salvage" in captured.err
    assert "damaged" in err(capsys, "get", disk, "name")
    new = str(tmp_path / "new.chrono")
    assert out(capsys, "salvage", disk, new, code=1).splitlines() == [
        "saved\t4 records, up to revision 5",
        "lost\tall or part of 1 commits: r3",
    ]
    assert "there already" in err(capsys, "salvage", disk, new)
    assert out(capsys, "verify", new) == ""
    assert out(capsys, "get", new, "name") == "ada\n"


def test_backup_and_compact(disk: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy is whole; an old one is not written over; compaction makes the file smaller."""
    new = str(tmp_path / "new.chrono")
    assert json.loads(out(capsys, "backup", disk, new, "--json")) == {"revision": 5}
    assert "there already" in err(capsys, "backup", disk, new)
    assert out(capsys, "at", new, "now") == out(capsys, "at", disk, "now")
    with ChronoMap.open(disk) as cm:
        for number in range(200):
            cm.put("big", "x" * 1000 + str(number))
        cm.prune_history("big", keep_last=1)
    sizes = json.loads(out(capsys, "compact", disk, "--revision", "200", "--json"))
    assert sizes["after"] < sizes["before"] / 2
    assert "in the future" in err(capsys, "compact", disk, "--revision", "999")


@dataclass
class Point:
    """A class that only its program knows."""

    x: int


class Colour(enum.Enum):
    """The same."""

    RED = 1


def test_classes_that_only_a_program_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands pass them on as they are."""
    path, new, salvaged = (str(tmp_path / name) for name in ("map.chrono", "new.chrono", "salvaged.chrono"))
    codec = ExactCodec({"point": Point, "colour": Colour})
    with ChronoMap.open(path, codec=codec) as cm:
        cm.put("a", [Point(1), Colour.RED])
    assert "point" in out(capsys, "get", path, "a")
    assert out(capsys, "put", path, "b", "1") == "r2\n"
    assert out(capsys, "verify", path) == ""
    out(capsys, "import", new, path)
    out(capsys, "salvage", new, salvaged)
    with ChronoMap.open(salvaged, codec=codec) as cm:
        assert cm.latest() == {"a": [Point(1), Colour.RED], "b": 1}


def test_another_codec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pickles are not for the command line; nobody calls such a file damaged."""
    path = str(tmp_path / "map.chrono")
    with ChronoMap.open(path, codec=UnsafePickleCodec()) as cm:
        cm.put("a", 1j)
    for command in (["get", path, "a"], ["put", path, "a", "1"], ["verify", path], ["salvage", path, path + "2"]):
        assert "codec 'pickle'" in err(capsys, *command)
    assert chronomap.verify(path, UnsafePickleCodec()).ok


# -- the shell ---------------------------------------------------------------------------------------------------------


def test_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every write is on the disk at once; a second map can be loaded; nothing is saved over a map that is open."""
    path = tmp_path / "map.chrono"
    shell = Shell(str(path))
    shell.execute("put a 1")
    for line in (f"save {path}", "save", f"load {path}"):
        shell.execute(line)
    captured = capsys.readouterr()
    assert captured.out == "r1\n"
    assert captured.err.count("every write is there already") == 2
    assert "is open already" in captured.err
    shell.execute(f"save {tmp_path / 'copy.json'}")
    shell.execute(f"load {tmp_path / 'copy.json'}")
    shell.execute(f"load {path}")
    shell.execute("get a")
    assert capsys.readouterr().out == "1\n" and shell.cm.durable
    shell.cm_close()
    reading = Shell(str(path), read_only=True)
    reading.execute("put a 2")
    assert "reading only" in capsys.readouterr().err
    reading.execute(f"load {path}")
    reading.execute("get a")
    assert capsys.readouterr().out == "1\n"
    reading.cm_close()


# -- without the extras ------------------------------------------------------------------------------------------------


def test_without_the_extra(disk: str) -> None:
    """The library works; what needs it says what to install."""
    program = f"""
import sys
sys.modules["apsw"] = None
import chronomap
from chronomap import *
ChronoMap().put("a", 1)
try:
    chronomap.verify
except chronomap.MissingExtraError:
    pass
from chronomap.cli import main
sys.exit(main(["get", {disk!r}, "name"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'chronomap[durable]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_there_is_and_what_is_not() -> None:
    """Names that need an extra are found when they are asked for."""
    assert chronomap.salvage.__module__ == "chronomap.journal.salvaging"
    with pytest.raises(AttributeError, match="nonsense"):
        chronomap.nonsense  # noqa: B018
