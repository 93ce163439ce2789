"""Rows 16 and 17 of the table in ``__init__``, as far as they are not shown in ``tests/formats`` and ``tests/cli``."""

from __future__ import annotations

import ast
import inspect
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import chronomap
from chronomap import ChronoMap
from chronomap.journal import UnsafePickleCodec

PACKAGE = Path(chronomap.__file__).parent
RUNS_CODE = {"eval", "exec", "compile", "__import__", "loads", "load"}
FROM_MODULES = {"pickle", "marshal", "shelve", "dill", "yaml", "builtins"}


def test_a_save_that_is_killed(tmp_path: Path) -> None:
    """Row 16: a process killed in the middle of writing leaves the previous file whole."""
    path = tmp_path / "map.json"
    cm = ChronoMap[str, str]()
    cm.put("k", "previous")
    cm.save_json(path)
    program = """
        import os, signal, sys
        from chronomap import ChronoMap
        cm = ChronoMap()
        cm.put_many({str(number): "new" * 100 for number in range(1000)})
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        cm.save_json(sys.argv[1])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), path], timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert ChronoMap[str, str].load_json(path)["k"] == "previous"
    (left,) = (file.name for file in tmp_path.iterdir() if file != path)
    assert left.startswith(".chronomap-"), "what was written aside lies beside it, under a name that tells whose it is"
    cm.save_json(path)


def test_nothing_is_evaluated() -> None:
    """Row 17: no module calls ``eval``, ``exec`` or a loader that runs what it loads; the one unpickler is the gate's.

    But for the codec that says so in its name, which nothing but its user ever asks for.
    """
    calls, subclasses, trusting = 0, [], []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "pickle.Unpickler" for base in node.bases):
                subclasses.append(node.name)
            if not isinstance(node, ast.Call):
                continue
            calls += 1
            function = ast.unparse(node.func)
            module, _, name = function.rpartition(".")
            if function == "pickle.loads" and path.name == "codec.py":
                trusting.append(node.lineno)
                continue
            assert not (name in RUNS_CODE and module in {"", *FROM_MODULES} and function != "load"), f"{path}: {function}"
            assert function not in {"pickle.Unpickler", "Unpickler", "os.system", "os.popen"}, f"{path}: {function}"
    assert subclasses == ["Reader"]
    source = inspect.getsource(UnsafePickleCodec)
    assert len(trusting) == 1
    assert source.count("pickle.loads") == 1
    assert calls > 1000


@pytest.mark.parametrize("save", ["save_json", "save_pickle", "export_changes"])
def test_what_looks_like_code_stays_text(tmp_path: Path, save: str) -> None:
    """Row 17: keys and values that are programs go out and come back as the texts they are, with no code compiled."""
    path = tmp_path / "map"
    code = "__import__('os').system('echo ran')"
    cm = ChronoMap[str, object]()
    cm.put(code, {"$type": code, "py/object": "os.system", "x": [code]})
    getattr(cm, save)(path)
    program = """
        import json, sys
        from chronomap import ChronoMap
        def hook(event, arguments):
            if event in ("exec", "compile", "import", "os.system", "subprocess.Popen", "pickle.find_class"):
                print("ran", event, arguments)
        sys.addaudithook(hook)
        cm = ChronoMap()
        if sys.argv[2] == "export_changes":
            cm.import_changes(sys.argv[1])
        else:
            cm = getattr(ChronoMap, sys.argv[2].replace("save", "load"))(sys.argv[1])
        print(json.dumps(cm.latest()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), path, save], timeout=30, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == cm.latest()
