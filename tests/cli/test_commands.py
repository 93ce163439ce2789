"""The commands, called as the console script calls them."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chronomap import ChronoMap
from chronomap.cli import main

HISTORY = Path(__file__).parents[2] / "examples" / "data" / "anyio-history.jsonl.gz"
MODULE = [sys.executable, "-m", "chronomap"]


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """A small map: three commits about two keys, dated 100, 200 and 300."""
    with ChronoMap() as cm:
        cm.put("name", "ada", 100)
        cm.put("age", 36, 200)
        cm.put("name", "eve", 300)
        cm.put((1, "x"), None, 300)
        cm.delete("age", 400)
        cm.save_json(tmp_path / "map.json")
    return str(tmp_path / "map.json")


def out(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run; what it printed."""
    assert main(arguments) == code
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["name"], "eve\n"),
        (["name", "--json"], '"eve"\n'),
        (["name", "--at", "150"], "ada\n"),
        (["name", "--at", "1970-01-01T00:02:30Z"], "ada\n"),
        (["name", "--at", "r1"], "ada\n"),
        (["name", "--revision", "1"], "ada\n"),
        (["age", "--at", "250"], "36\n"),
        (['[1, "x"]', "--json-key"], "null\n"),
    ],
)
def test_get(saved: str, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    """A value now, at an instant, at a revision, and of a key that is not text."""
    assert out(capsys, "get", saved, *arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["get", "MAP", "age"], 1, "no value for key age"),
        (["get", "MAP", "name", "--at", "50"], 1, "no value for key name then"),
        (["history", "MAP", "other"], 1, "no history of key other"),
        (["at", "MAP", "50"], 1, "nothing was there then"),
        (["get", "MAP", "name", "--at", "yesterday"], 2, "'yesterday' is no moment"),
        (["get", "MAP", "name", "--at", "nan"], 2, ""),
        (["get", "MAP", "name", "--at", "1e300"], 0, ""),
        (["get", "MAP", "name", "--at", "r99"], 2, "revision 99 is in the future"),
        (["get", "MAP", "name", "--revision", "-1"], 2, ""),
        (["get", "MAP", "[", "--json-key"], 2, "is not JSON"),
        (["get", "MAP", "{}", "--json-key"], 2, "an object cannot be a key"),
        (["get", "nowhere.json", "name"], 2, "nowhere.json: No such file"),
        (["get", "map.txt", "name"], 2, "map.txt: No such file"),
        (["get", "MAP"], 2, "Missing argument"),
        (["nonsense"], 2, "No such command"),
        (["export", "MAP", "/nowhere/out.json"], 2, "/nowhere/out.json"),
        (["export", "MAP", "out.chrono"], 2, "to make a map on disk: chronomap import out.chrono"),
        (["import", "out.jsonl", "MAP"], 2, "import makes a map"),
        (["demo", "--data", "/nowhere"], 2, "--data DIR"),
    ],
)
def test_failures_say_what_is_wrong(
    saved: str, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    """1 if there is nothing, 2 if the question is wrong; one message, no traceback."""
    assert main([saved if argument == "MAP" else argument for argument in arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("chronomap: ") or not code
    assert "Traceback" not in error


@pytest.mark.parametrize("content", [b"", b"{}", b"[", b"\xff\xfe", b'{"a": 1}\n', b"[" * 100_000])
@pytest.mark.parametrize("name", ["bad.json", "bad.pkl", "bad.jsonl", "bad.jsonl.gz"])
def test_a_broken_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes) -> None:
    """The message names the file."""
    (tmp_path / name).write_bytes(content)
    code = main(["stats", str(tmp_path / name)])
    error = capsys.readouterr().err
    assert code == 2 or (content == b"" and "jsonl" in name)
    assert not code or (error.startswith("chronomap: ") and name in error)


def test_pickles_run_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stranger's pickle is refused, not executed."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("executed",)

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    assert main(["stats", str(tmp_path / "evil.pkl")]) == 2
    assert "executed" not in capsys.readouterr().out


def test_history(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Values with since when and which revision; with --all, tombstones too."""
    assert out(capsys, "history", saved, "name").splitlines() == [
        '1970-01-01T00:01:40Z\tr1\t"ada"',
        '1970-01-01T00:05:00Z\tr3\t"eve"',
    ]
    assert out(capsys, "history", saved, "age", "--all").splitlines() == [
        "1970-01-01T00:03:20Z\tr2\t36\tvalue\t",
        "1970-01-01T00:06:40Z\tr5\t\ttombstone\t",
    ]


def test_at(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole map at an instant and at a revision, as lines and as JSON."""
    assert out(capsys, "at", saved, "250") == 'name\t"ada"\nage\t36\n'
    assert json.loads(out(capsys, "at", saved, "r2", "--json")) == {"name": "ada", "age": 36}
    assert out(capsys, "at", saved, "250", "--prefix", "ag") == "age\t36\n"
    assert json.loads(out(capsys, "at", saved, "300", "--json")) == [["name", "eve"], ["age", 36], [[1, "x"], None]]


def test_diff(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was added, removed and changed."""
    assert sorted(out(capsys, "diff", saved, "250", "500").splitlines()) == [
        '+\t[1, "x"]\t\tnull',
        "-\tage\t36\t",
        '~\tname\t"ada"\t"eve"',
    ]
    assert json.loads(out(capsys, "diff", saved, "r1", "r2", "--json")) == [{"key": "age", "kind": "added", "after": 36}]
    assert out(capsys, "diff", saved, "250", "250") == ""


@pytest.mark.parametrize("name", ["out.json", "out.pkl", "out.pickle", "out.jsonl", "out.jsonl.gz"])
def test_export_and_import(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Every format brings back the same states."""
    exported, again = str(tmp_path / name), str(tmp_path / "again.json")
    assert out(capsys, "export", saved, exported) == ""
    assert out(capsys, "import", again, exported) == ""
    for when in ("150", "250", "350", "450"):
        assert out(capsys, "at", saved, when) == out(capsys, "at", again, when)


def test_stats(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts of the demo's data."""
    stats = json.loads(out(capsys, "stats", str(HISTORY), "--json"))
    assert (stats["revision"], stats["present"], stats["versions"]) == (1348, 120, 4114)


def test_keys_that_would_garble_the_output_are_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No tab and no escape sequence gets through."""
    with ChronoMap() as cm:
        cm.put("a\tb\x1b[2J", 1)
        cm.save_json(tmp_path / "map.json")
    assert out(capsys, "at", str(tmp_path / "map.json"), "r1") == '"a\\tb\\u001b[2J"\t1\n'


def test_change_lines_through_a_pipe(saved: str, tmp_path: Path) -> None:
    """A dash is standard input or output."""
    lines = subprocess.run([*MODULE, "export", saved, "-"], capture_output=True, check=True).stdout
    assert len(lines.splitlines()) == 5
    got = subprocess.run([*MODULE, "get", "-", "name"], input=lines, capture_output=True, check=True)
    assert got.stdout == b"eve\n"
    into = str(tmp_path / "piped.pkl")
    subprocess.run([*MODULE, "import", into, "-"], input=lines, capture_output=True, check=True)
    assert main(["get", into, "name"]) == 0


def test_a_reader_that_goes_away() -> None:
    """As with any Unix tool: silence, and the exit code of SIGPIPE."""
    with subprocess.Popen([*MODULE, "export", str(HISTORY), "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"{")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupted() -> None:
    """Ctrl-C ends with 130."""
    # A shell has what it starts in the background ignore SIGINT, these tests perhaps; what is handled here is no more ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen([*MODULE, "shell"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"put a 1\nsleep 60\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"r1\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=10)
    assert process.returncode == 130
    assert b"Traceback" not in error


def test_without_the_extras() -> None:
    """It says what to install."""
    program = "import sys; sys.modules['typer'] = None; from chronomap.cli import main; sys.exit(main(['stats', 'x']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "the command line needs extras: pip install 'chronomap[cli]'\n"
