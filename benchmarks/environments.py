"""The environments that the sides run in, made when first needed and again when what they hold changes.

The peer is called ``chronomap`` too, so it has an environment of its own and nothing else is in there. What only the
comparison needs is in others, so that nobody who develops ChronoMap has to install it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
MADE: Final = HERE / ".environments"

PEER_VERSION: Final = "2.1.0"
PACKAGES: Final = {
    "peer": (f"chronomap=={PEER_VERSION}",),
    "libraries": (
        "aiocache==0.12.3",
        "cachetools==8.0.2",
        "diskcache==5.6.3",
        "janus==2.0.0",
        "matplotlib==3.11.2",  # for the plot
        "pykka==4.5.0",
    ),
    "disk": (
        "aiosqlite==0.22.1",
        "hiredis==3.5.0",  # what makes redis fast
        "redis==8.1.0",
    ),
}
"""Exact versions: a figure that others are to repeat must say of what it is."""

LIBRARIES: Final = frozenset({"aiocache", "cachetools.TTLCache", "diskcache", "janus", "pykka actor"})
"""The sides that need the third environment. What the standard library or anyio can do runs in ours."""

ON_DISK: Final = frozenset({"aiosqlite", "Redis"})
"""The sides that need the fourth: what else writes to a disk and is awaited. What apsw can do runs in ours."""


def environment(side: str) -> str:
    """Where a side runs."""
    return "peer" if side == "peer" else "libraries" if side in LIBRARIES else "disk" if side in ON_DISK else "ours"


def python(name: str) -> Path:
    """The interpreter of an environment, which is made if need be."""
    if name == "ours":
        return Path(sys.executable)
    where = MADE / name
    interpreter = where / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = where / "stamp"
    wanted = " ".join((platform.python_version(), *PACKAGES[name]))
    if not (interpreter.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        print(f"Making {where.relative_to(ROOT)}: {', '.join(PACKAGES[name])}", file=sys.stderr)
        _run(sys.executable, "-m", "venv", "--clear", where)
        _run(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name])
        stamp.write_text(wanted, encoding="utf-8")
    return interpreter


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(2)
