"""A file is replaced as a whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chronomap import ChronoMap
from chronomap.formats.replacing import replacing

WRITERS: list[Callable[[ChronoMap[Any, Any], Path], Any]] = [
    lambda cm, path: cm.save_json(path),
    lambda cm, path: cm.save_pickle(path),
    lambda cm, path: cm.export_changes(path),
]
each_writer = pytest.mark.parametrize("write", WRITERS, ids=["json", "pickle", "changes"])
posix = pytest.mark.skipif(os.name != "posix", reason="permissions, links and pipes of POSIX")


@pytest.fixture
def cm() -> ChronoMap[str, int]:
    """A map with something in it."""
    cm: ChronoMap[str, int] = ChronoMap()
    cm.put("a", 1)
    return cm


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()], ids=repr)
@each_writer
def test_a_failure_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cm: ChronoMap[str, int], write: Any, call: str, error: Any
) -> None:
    """Whichever call fails, with whatever: the old file is whole and nothing lies beside it."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(b"the old file")

    def fails(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(type(error)):
            write(cm, path)
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]
    write(cm, path)
    assert path.read_bytes() != b"the old file"


def test_a_failure_in_the_middle_of_writing(tmp_path: Path) -> None:
    """What was written so far is thrown away."""
    path = tmp_path / "f"
    path.write_bytes(b"the old file")

    def write_half() -> None:
        with replacing(path) as file:
            file.write(b"half of")
            file.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, name, directory: in another order a power failure could leave an empty file."""
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    with replacing(tmp_path / "f") as file:
        file.write(b"x")
    assert calls == (["fsync", "replace", "fsync"] if os.name == "posix" else ["fsync", "replace"])


@posix
@each_writer
def test_permissions(tmp_path: Path, cm: ChronoMap[str, int], write: Any) -> None:
    """An old file keeps its own; a new one gets what any new file gets."""
    old, new, ordinary = tmp_path / "old", tmp_path / "new", tmp_path / "ordinary"
    ordinary.touch()
    for mode in (0o600, 0o664, 0o777):
        old.touch()
        old.chmod(mode)
        write(cm, old)
        assert stat.S_IMODE(old.stat().st_mode) == mode
    write(cm, new)
    assert new.stat().st_mode == ordinary.stat().st_mode


@posix
@each_writer
def test_a_link_stays_a_link(tmp_path: Path, cm: ChronoMap[str, int], write: Any) -> None:
    """What it points to is replaced, also in another directory, also if it is not there yet."""
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "file", tmp_path / "link"
    link.symlink_to(target)
    for _ in range(2):
        write(cm, link)
        assert link.is_symlink() and target.stat().st_size > 10
    assert list(target.parent.iterdir()) == [target]


@posix
def test_a_pipe_stays_a_pipe(tmp_path: Path, cm: ChronoMap[str, int]) -> None:
    """/dev/null must not become a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        cm.save_json(pipe)
        assert os.read(reader, 1000).startswith(b'{"format"')
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_directory_is_refused(tmp_path: Path, cm: ChronoMap[str, int]) -> None:
    """By the system's own error."""
    with pytest.raises(OSError, match=r"irectory|denied"):
        cm.save_json(tmp_path)


def test_the_longest_name_there_can_be(tmp_path: Path, cm: ChronoMap[str, int]) -> None:
    """The file beside it must not need a longer one."""
    path = tmp_path / ("n" * 255)
    cm.save_json(path)
    assert ChronoMap.load_json(path).latest() == cm.latest() != {}
    assert list(tmp_path.iterdir()) == [path]
