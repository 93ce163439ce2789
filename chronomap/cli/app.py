"""One command line, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module

import typer

from chronomap import ChronoMapError, ConflictError
from chronomap.cli import INTERRUPTED, NOTHING, OK, USAGE
from chronomap.cli.console import app, say
from chronomap.cli.words import BadInput, Nothing

for _commands in ("looking", "changing", "caring"):  # in the order of the help
    import_module(f"chronomap.cli.{_commands}")


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Says what went wrong on standard error."""
    try:
        code = app(args=list(arguments), prog_name="chronomap", standalone_mode=False)
    except (Nothing, ConflictError) as nothing:
        return say(str(nothing), NOTHING)
    except (BadInput, ChronoMapError) as error:
        return say(str(error), USAGE)
    except typer.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer would have it 1: "nothing found"
            raise ended.__context__ from None
        raise
    except OSError as error:
        return say(f"{error.filename}: {error.strerror}" if error.filename else str(error), USAGE)
    except Exception as error:
        # What the parser raises is click's, and typer may bring its own copy of click: known by what it can do.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        hint = "; write -- before what begins with a minus sign" if re.search(r"No such option: '?-[\d.]", message()) else ""
        return say(message().rstrip(".") + hint, USAGE)
    return code if isinstance(code, int) else OK
