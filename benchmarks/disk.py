"""Where the scenarios that are about a disk keep their files: all of them, and all sides, in one directory on one disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.environments import HERE
from benchmarks.frame import Meter

FILES: Final = HERE / ".files"
"""Beside the results, since what is called temporary is in memory on many machines."""

NO_DISK: Final = frozenset({"tmpfs", "ramfs"})
MOUNTS: Final = Path("/proc/self/mounts")


@contextmanager
def folder(meter: Meter) -> Iterator[Path]:
    """An empty directory on the disk, gone in the end.

    Raises:
        SystemExit: If it would be in memory, as far as the system tells: what is synced there costs nothing.
    """
    FILES.mkdir(exist_ok=True)
    if meter.scale.span and file_system(FILES) in NO_DISK:
        raise SystemExit(f"{FILES} is in memory; the scenarios that are about a disk need a checkout that is on one")
    with tempfile.TemporaryDirectory(dir=FILES) as path:
        yield Path(path)


def file_system(path: Path) -> str:
    """The kind of file system that a directory is on; empty where there is no Linux to tell."""
    if not MOUNTS.exists():
        return ""
    mounts = [line.split() for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    # The longest that is above it; of two in one place, the later hides the other.
    return max((len(where), number, kind) for number, (_, where, kind, *_) in enumerate(mounts) if path.is_relative_to(where))[
        2
    ]
