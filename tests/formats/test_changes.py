"""Histories as change lines: written for others to read, read with suspicion."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from chronomap import MISSING, ChronoMap, ChronoMapTypeError, ChronoMapValueError, formats
from chronomap.core.records import CANCELLED
from chronomap.testing import ManualClock

REAL = Path(__file__).parents[2] / "examples" / "data" / "anyio-history.jsonl.gz"


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a file as any other program would read them."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def ordered(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Within a commit, the order of keys says nothing."""
    return sorted(lines, key=lambda line: (line["commit"], line["key"]))


@pytest.mark.parametrize("name", ["again.jsonl", "again.jsonl.gz"])
def test_a_real_history_goes_in_and_out(tmp_path: Path, name: str) -> None:
    """Every change of anyio's repository: what comes out is what went in (keys of one commit in any order)."""
    cm: ChronoMap[str, Any] = ChronoMap()
    original = lines_of(REAL)
    assert cm.import_changes(REAL) == len(original)
    assert cm.revision == original[-1]["commit"]
    assert cm.export_changes(tmp_path / name) == len(original)
    assert ordered(lines_of(tmp_path / name)) == ordered(original)
    again: ChronoMap[str, Any] = ChronoMap()
    again.import_changes(tmp_path / name)
    assert again.to_dict()["store"] == cm.to_dict()["store"]


def test_what_was_said_about_a_commit_goes_with_it(tmp_path: Path) -> None:
    """Out on each line of the commit, in with the commit."""
    cm: ChronoMap[str, Any] = ChronoMap()
    cm.put_many({"a": 1, "b": 2}, meta={"author": "ann", "try": 2})
    cm.put("c", 3)
    path = tmp_path / "f.jsonl"
    cm.export_changes(path)
    assert [line.get("meta") for line in lines_of(path)] == [{"author": "ann", "try": 2}] * 2 + [None]
    again: ChronoMap[str, Any] = ChronoMap()
    again.import_changes(path)
    assert [dict(version.meta) for key in "abc" for version in again.versions(key)] == [{"author": "ann", "try": 2}] * 2 + [{}]
    text = path.read_text().replace("ann", "bob", 1)
    path.write_text(text)
    with pytest.raises(ChronoMapValueError, match="line 2: another meta"):
        again.import_changes(path)
    path.write_text(text.replace('{"author":"bob","try":2}', "[1]"))
    with pytest.raises(ChronoMapValueError, match="line 1: meta is a mapping"):
        again.import_changes(path)


def test_the_example_in_the_module(tmp_path: Path) -> None:
    """The lines shown in its docstring, and back."""
    clock = ManualClock(100)
    cm: ChronoMap[str, Any] = ChronoMap(clock=clock)
    cm.put("a", {"size": 5}, ttl=60)
    clock.set(101)
    cm.put("b", None)
    clock.set(102)
    cm.delete("b")
    cm.put("c", 1, timestamp=900)
    cm.unschedule("c")
    path = tmp_path / "f.jsonl"
    assert cm.export_changes(path) == 5
    assert path.read_text().splitlines() == [
        '{"commit":1,"timestamp":100,"key":"a","value":{"size":5},"expires_at":160}',
        '{"commit":2,"timestamp":101,"key":"b","value":{"$type":"none"}}',
        '{"commit":3,"timestamp":102,"key":"b","value":null}',
        '{"commit":4,"timestamp":900,"key":"c","value":1}',
        '{"commit":5,"timestamp":900,"key":"c","value":null,"cancel":true}',
    ]
    commits = list(formats.read_changes(path))
    assert commits[0] == [("a", {"size": 5}, 100.0, 160.0, ())]
    assert commits[1][0].value is None
    assert commits[2][0].value is MISSING
    assert commits[4][0].value is CANCELLED
    again: ChronoMap[str, Any] = ChronoMap(clock=clock)
    assert again.import_changes(path) == 5
    assert again.to_dict()["store"] == cm.to_dict()["store"]


def test_keys_and_values_of_any_plain_type(tmp_path: Path) -> None:
    """Written like in JSON files; a user's own dict that looks like the mark for None is not taken for it."""
    cm: ChronoMap[Any, Any] = ChronoMap()
    cm.put(1, (1, b"x"))
    cm.put("1", {"$type": "none"})
    cm.put((1, "x"), [None, 1.5])
    cm.put("half", 1, timestamp=0.5)
    cm.export_changes(tmp_path / "f")
    again: ChronoMap[Any, Any] = ChronoMap()
    again.import_changes(tmp_path / "f")
    assert again.latest() == cm.latest()
    assert again.history("half") == [(0.5, 1)]


def test_one_commit_stays_one_commit(tmp_path: Path) -> None:
    """Lines with the same number are committed together."""
    cm: ChronoMap[str, int] = ChronoMap()
    cm.put_many({"a": 1, "b": 2})
    cm.put("a", 3)
    cm.export_changes(tmp_path / "f")
    assert [len(commit) for commit in formats.read_changes(tmp_path / "f")] == [2, 1]
    again: ChronoMap[str, int] = ChronoMap()
    again.import_changes(tmp_path / "f")
    assert again.revision == 2


def test_what_would_not_come_back_is_refused(tmp_path: Path) -> None:
    """And the old file stays."""
    path = tmp_path / "f.gz"
    path.write_bytes(b"old")
    cm: ChronoMap[str, Any] = ChronoMap()
    cm.put("fine", 1)
    cm.put("wrong", Path)
    with pytest.raises(ChronoMapTypeError, match="'wrong'"):
        cm.export_changes(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


GOOD = '{"commit":2,"timestamp":1,"key":"a","value":1}\n'


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "\xff",
        '{"commit":2,"timestamp":1,"key":"a"}',
        '{"commit":2,"timestamp":1,"key":"a","value":1,"more":1}',
        '{"commit":2,"timestamp":1,"key":"a","value":1,"value":2}',
        '{"commit":1,"timestamp":2,"key":"a","value":1}',
        '{"commit":"2","timestamp":2,"key":"a","value":1}',
        '{"commit":2.5,"timestamp":2,"key":"a","value":1}',
        '{"commit":3,"timestamp":null,"key":"a","value":1}',
        '{"commit":3,"timestamp":true,"key":"a","value":1}',
        '{"commit":3,"timestamp":NaN,"key":"a","value":1}',
        '{"commit":3,"timestamp":1e999,"key":"a","value":1}',
        '{"commit":3,"timestamp":2,"key":[],"value":1}',
        '{"commit":3,"timestamp":2,"key":"a","value":NaN}',
        '{"commit":3,"timestamp":2,"key":"a","value":{"$type":"x"}}',
        '{"commit":3,"timestamp":2,"key":"a","value":1,"cancel":true}',
        '{"commit":3,"timestamp":2,"key":"a","value":null,"cancel":1}',
        '{"commit":3,"timestamp":2,"key":"a","value":null,"expires_at":5}',
        '{"commit":3,"timestamp":2,"key":"a","value":1,"expires_at":null}',
        '{"commit":2,"timestamp":1,"key":"a","value":2}',
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_imported(tmp_path: Path, line: str) -> None:
    """Also what came before it."""
    path = tmp_path / "f"
    path.write_text(GOOD + line + "\n" + GOOD, encoding="latin-1")
    cm: ChronoMap[str, int] = ChronoMap()
    with pytest.raises(ChronoMapValueError, match="line 2"):
        cm.import_changes(path)
    assert cm.revision == 0


def test_a_damaged_gzip_file(tmp_path: Path, seed: Any) -> None:
    """Cut or changed anywhere: one kind of error, or other lines that are whole."""
    path = tmp_path / "f.gz"
    whole = gzip.compress((GOOD * 1 + '{"commit":3,"timestamp":2,"key":"b","value":null}\n').encode(), mtime=0)
    for end in range(1, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ChronoMapValueError):
            list(formats.read_changes(path))
    for _ in range(1000):
        damaged = bytearray(whole)
        damaged[seed.randrange(len(whole))] ^= seed.randrange(1, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(ChronoMapValueError):
            list(formats.read_changes(path))


def test_a_gzip_bomb_is_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that is a single line; and what could not be read is not written."""
    monkeypatch.setattr("chronomap.formats.changes.LIMIT", 10_000)
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(b" " * 10_000_000))
    with pytest.raises(ChronoMapValueError, match="more than 10000"):
        list(formats.read_changes(path))
    cm: ChronoMap[str, str] = ChronoMap()
    cm.put("k", "x" * 20_000)
    with pytest.raises(ChronoMapValueError, match="more than 10000"):
        cm.export_changes(path)
    assert cm.export_changes(tmp_path / "f.jsonl") == 1


def test_progress(tmp_path: Path) -> None:
    """Now and then, and at the end with the whole number."""
    cm: ChronoMap[int, int] = ChronoMap()
    cm.put_many({number: number for number in range(2500)})
    calls: list[tuple[int, int | None]] = []
    cm.export_changes(tmp_path / "f", progress=lambda *call: calls.append(call))
    assert calls == [(1000, 2500), (2000, 2500), (2500, 2500)]
    calls.clear()
    ChronoMap().import_changes(tmp_path / "f", progress=lambda *call: calls.append(call))
    assert calls == [(1000, None), (2000, None), (2500, 2500)]
