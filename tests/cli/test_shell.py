"""The shell, fed from a pipe and line by line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chronomap.cli.shell import Shell, commands


@pytest.fixture
def shell() -> Shell:
    """An empty one."""
    return Shell()


def said(shell: Shell, capsys: pytest.CaptureFixture[str], *lines: str) -> list[str]:
    """What the last of these lines printed."""
    for line in lines:
        capsys.readouterr()
        shell.execute(line)
    captured = capsys.readouterr()
    return (captured.out + captured.err).splitlines()


def test_values_are_json_or_text(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is evaluated."""
    assert said(shell, capsys, 'put user {"name": "ada lovelace", "at": 1}', "get user") == [
        '{"name": "ada lovelace", "at": 1}'
    ]
    assert said(shell, capsys, "put name ada lovelace", "get name") == ["ada lovelace"]
    assert said(shell, capsys, "put 'two words' 1", "get 'two words'") == ["1"]
    assert said(shell, capsys, "put code __import__('os')", "get code") == ["__import__('os')"]


def test_travel(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """Reads are as of then, until now."""
    said(shell, capsys, "put a 1 --at 2020-01-01", "put a 2", "put b 3 --at=2020-06-01")
    assert said(shell, capsys, "get a") == ["2"]
    assert said(shell, capsys, "at 2020-02-01", "get a") == ["1"]
    assert said(shell, capsys, "keys") == ["a"]
    assert said(shell, capsys, "history a") == ["2020-01-01T00:00:00Z\t1"]
    assert said(shell, capsys, "at r1", "get a") == ["1"]
    assert said(shell, capsys, "now", "get a") == ["2"]
    assert said(shell, capsys, "keys b") == ["b"]


def test_back(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """rollback, undo, delete, and what versions and prune say of them."""
    said(shell, capsys, "put a 1", "snapshot good", "put a 2")
    assert said(shell, capsys, "rollback good") == ["r3"]
    assert said(shell, capsys, "get a") == ["1"]
    assert said(shell, capsys, "undo r3", "get a") == ["2"]
    assert said(shell, capsys, "rollback 1", "get a") == ["1"]
    assert said(shell, capsys, "delete a", "get a") == ["chronomap: no value for key a"]
    assert len(said(shell, capsys, "versions a")) == 6
    assert said(shell, capsys, "prune a 2") == ["4 versions forgotten"]


def test_schedule_and_ttl(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """What lies ahead."""
    assert said(shell, capsys, "schedule") == ["chronomap: nothing is scheduled"]
    assert said(shell, capsys, "put a 1 --at 2999-01-01", "schedule") == ["2999-01-01T00:00:00Z\ta\t1"]
    assert said(shell, capsys, "put b 1", "ttl b") == ["never expires"]
    (left,) = said(shell, capsys, "put c 1 --ttl 100", "ttl c")
    assert 90 < float(left) <= 100


def test_save_and_load(shell: Shell, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A map survives the session."""
    file = tmp_path / "map.json"
    assert said(shell, capsys, "put a 1", f"save {file}") == []
    assert said(Shell(str(file)), capsys, "get a") == ["1"]
    assert said(Shell(), capsys, f"load {file}", "get a") == ["1"]
    assert said(shell, capsys, "stats")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hstory a", "did you mean history?"),
        ("hi a", "did you mean history?"),
        ("__class__", "unknown command"),
        ("put", "put KEY VALUE"),
        ("put a", "put KEY VALUE"),
        ("put a 1 --ttl soon", "no number of seconds"),
        ("put a 1 --ttl 0", "TTL must be positive"),
        ("get", "usage: get KEY"),
        ("get 'a", "No closing quotation"),
        ("rollback nowhere", "neither the name of a snapshot"),
        ("undo 99", "in the future"),
        ("load nowhere.json", "No such file"),
        ("at never", "no moment"),
        ("save", "save FILE"),
    ],
)
def test_mistakes(shell: Shell, capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    """Each gets one helpful message."""
    (told,) = said(shell, capsys, line)
    assert told.startswith("chronomap: ")
    assert message in told
    assert shell.code == 2


def test_help_names_every_command(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """None is forgotten."""
    text = "\n".join(said(shell, capsys, "help"))
    assert [name for name in commands() if name not in text] == ["exit"]


def test_from_a_pipe_with_an_expiry_that_is_told() -> None:
    """A watched key expires, and the watcher hears of it."""
    lines = "watch a\nput b 1\nput a 1 --ttl 0.1\nsleep 0.5\nget a\nnonsense\nquit\nput never 1\n"
    done = subprocess.run(
        [sys.executable, "-m", "chronomap", "shell"], input=lines, capture_output=True, text=True, check=False
    )
    assert sorted(done.stdout.splitlines()) == ["* r2 put a = 1", "* r3 expire a", "r1", "r2"]
    assert (
        done.stderr.splitlines()
        == [
            "chronomap: no value for key a",
            "chronomap: unknown command 'nonsense'; help lists the commands",
        ]
        or "unknown command 'nonsense'" in done.stderr
    )
    assert done.returncode == 2
