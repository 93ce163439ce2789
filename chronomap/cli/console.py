"""What all commands share: the program itself, arguments that mean the same everywhere, and ways to answer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chronomap.cli import OK

app = typer.Typer(
    name="chronomap",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Look into the past of a key-value map that never forgets.",
    epilog="WHEN is ISO 8601 (UTC if it names no offset), epoch seconds, rN for revision N, or now. FILE is a map on disk, "
    "whatever its name, also while another process has it open; .json, .pkl, .pickle (saved maps); .jsonl, .jsonl.gz (change "
    "lines), - (change lines on standard input or output). What begins with a minus sign comes after --. "
    "Exit code: 0 done; 1 nothing found, a condition not met, damage; 2 it could not be done.",
)

File = Annotated[str, typer.Argument(metavar="FILE", help="A map on disk, a saved map, or change lines.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The key, as text.")]
Disk = Annotated[str, typer.Argument(metavar="FILE", help="A map on disk.")]
When = Annotated[str, typer.Argument(metavar="WHEN", help="ISO 8601, epoch seconds, rN, or now.")]
JsonKey = Annotated[bool, typer.Option("--json-key", help="The key is written as JSON; a list stands for a tuple.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


LOOK, CHANGE, CARE = "Look", "Change", "Care for a file"


def say(message: str, code: int = OK) -> int:
    """Say something beside what is printed, and have that exit code."""
    sys.stdout.flush()
    if message:
        print(f"chronomap: {message}", file=sys.stderr)  # noqa: T201
    return code


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for a terminal, lines of tab-separated fields for everything else."""
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(row))
        return
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    Console().print(drawn)
