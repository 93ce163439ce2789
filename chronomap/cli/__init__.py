"""The command line. Needs the extras of ``chronomap[cli]``, which are imported only when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path

OK, NOTHING, USAGE, BROKEN_PIPE, INTERRUPTED = 0, 1, 2, 141, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with the given arguments (default: the process's); returns the exit code."""
    if any(find_spec(extra) is None for extra in ("typer", "rich", "prompt_toolkit")):
        print("the command line needs extras: pip install 'chronomap[cli]'", file=sys.stderr)  # noqa: T201
        return USAGE
    from chronomap.cli.app import run  # noqa: PLC0415 - needs the extras

    _usable_streams()
    try:
        code = run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone. Let the interpreter's last flush go nowhere.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _usable_streams() -> None:
    """Streams that were closed lead nowhere, and what an encoding cannot say is escaped."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - for as long as the process lives
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
