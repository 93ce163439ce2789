"""Saving a whole map and loading it.

Why a user cares: a map in memory is as safe as its last save, and a program starts when its map is loaded.
"""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.frame import Meter, scenario
from benchmarks.stores import KEYS, opened


@scenario("files", sides=("ours", "peer", "dict of lists"))
def files(meter: Meter) -> None:
    """One version, when 1,000 keys with 100 versions each are saved and loaded.

    The dict of lists is dumped by ``json`` and ``pickle`` as it is. Ours also checks that everything will come back equal
    and of the same type, replaces the old file as a whole, syncs it, and reads pickles without trusting them.
    """
    keys = KEYS[: meter.size(len(KEYS))]
    with opened(meter.side) as store, tempfile.TemporaryDirectory() as folder:
        for turn in range(100):
            for key in keys:
                store.put(key, turn)
        for name in ("json", "pickle"):
            path = Path(folder, f"map.{name}")
            save, load = ways(meter.side, name, store.behind, path)
            meter.each(f"save {name}", lambda: None, lambda _, save=save: save(), per=len(keys) * 100)
            meter.each(f"load {name}", lambda: None, lambda _, load=load: load(), per=len(keys) * 100)
            loaded = load()
            if meter.side == "dict of lists":
                assert loaded[keys[-1]][-1][1] == 99
            else:
                assert loaded.get(keys[-1]) == 99
                assert len(loaded.history(keys[0])) == 100


def ways(side: str, name: str, behind: Any, path: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """How to save and load on a side."""
    if side != "dict of lists":
        kind = type(behind)
        return lambda: getattr(behind, f"save_{name}")(path), lambda: getattr(kind, f"load_{name}")(path)
    if name == "json":
        return lambda: path.write_text(json.dumps(behind), encoding="utf-8"), lambda: json.loads(
            path.read_text(encoding="utf-8")
        )
    return lambda: path.write_bytes(pickle.dumps(dict(behind))), lambda: pickle.loads(path.read_bytes())  # noqa: S301 - our own
