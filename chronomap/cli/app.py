"""The commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chronomap import ChronoMap, ChronoMapError
from chronomap.cli import INTERRUPTED, NOTHING, OK, USAGE
from chronomap.cli.files import (
    BadInput,
    Nothing,
    add_lines,
    as_json,
    iso,
    key_of,
    kind_of,
    load,
    moment,
    pin,
    save,
    shown,
)

app = typer.Typer(
    name="chronomap",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Look into the past of a key-value map that never forgets.",
    epilog="WHEN is ISO 8601 (UTC if it names no offset), epoch seconds, or rN for revision N. Files: .json, .pkl, "
    ".pickle (saved maps), .jsonl, .jsonl.gz (change lines), - (change lines on standard input or output).",
)

File = Annotated[str, typer.Argument(metavar="FILE", help="A saved map or a file of change lines.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The key, as text.")]
When = Annotated[str, typer.Argument(metavar="WHEN", help="ISO 8601, epoch seconds, or rN.")]
JsonKey = Annotated[bool, typer.Option("--json-key", help="The key is written as JSON; a list stands for a tuple.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Says what went wrong on standard error."""
    try:
        code = app(args=list(arguments), prog_name="chronomap", standalone_mode=False)
    except Nothing as nothing:
        return _fail(str(nothing), NOTHING)
    except (BadInput, ChronoMapError) as error:
        return _fail(str(error), USAGE)
    except typer.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer would have it 1: "nothing found"
            raise ended.__context__ from None
        raise
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), USAGE)
    except Exception as error:
        # What the parser raises is click's, and typer may bring its own copy of click: known by what it can do.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return _fail(message(), USAGE)
    return code if isinstance(code, int) else OK


def _fail(message: str, code: int) -> int:
    sys.stdout.flush()
    if message:
        print(f"chronomap: {message}", file=sys.stderr)  # noqa: T201
    return code


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for a terminal, lines of tab-separated fields for everything else."""
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where anyio-history.jsonl.gz is.")] = None,
    seed: Annotated[int | None, typer.Option(help="Shuffle as in an earlier run.")] = None,
) -> int:
    """Show what a map that never forgets is good for, on eight years of a real project; checked against git."""
    from chronomap.cli.demo import show  # noqa: PLC0415 - only the demo needs an event loop

    return show(data, seed)


@app.command("import")
def import_(
    file: File,
    into: Annotated[str, typer.Option("--into", metavar="MAP", help="Made if it is not there, else added to.")],
) -> None:
    """Add the changes of FILE to a saved map, one commit per revision."""
    if into == "-" or kind_of(into) == "lines":
        raise BadInput("import writes a saved map: name it .json, .pkl or .pickle")
    cm: ChronoMap[Any, Any] = load(into) if Path(into).exists() else ChronoMap()
    before = cm.revision
    if kind_of(file) == "lines":
        add_lines(cm, file, bar=True)
    else:
        cm.merge(load(file))
    save(cm, into, bar=True)
    _fail(f"{into}: {cm.revision - before} commits added, now at revision {cm.revision} with {len(cm)} keys", OK)


@app.command()
def get(
    file: File,
    key: Key,
    *,
    at: Annotated[str | None, typer.Option("--at", metavar="WHEN", help="What it held then.")] = None,
    revision: Annotated[int | None, typer.Option("--revision", metavar="N", help="As known at that revision.")] = None,
    json_key: JsonKey = False,
    json: Json = False,
) -> None:
    """Print what a key holds: text as it is, everything else as JSON."""
    timestamp, also = (None, None) if at is None else moment(at)
    if also is not None and revision is not None:
        raise BadInput("give a revision with --at or with --revision, not with both")
    named = key_of(key, as_json=json_key)
    version = load(file).version(named, timestamp, revision=revision if also is None else also)
    if version is None:
        raise Nothing(f"no value for key {shown(named)}" + (" then" if at or revision is not None else ""))
    typer.echo(version.value if isinstance(version.value, str) and not json else as_json(version.value))


@app.command()
def history(
    file: File,
    key: Key,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Also tombstones, cancellations and what is scheduled; with kind and expiry.")
    ] = False,
    json_key: JsonKey = False,
) -> None:
    """Print what a key has held: since when, and from which revision."""
    named = key_of(key, as_json=json_key)
    cm = load(file)
    versions = cm.versions(named, scheduled=every)
    if not every:
        standing = {timestamp for timestamp, _ in cm.history(named)}
        versions = [version for version in versions if version.kind == "value" and version.timestamp in standing]
    if not versions:
        raise Nothing(f"no history of key {shown(named)}")
    rows = [
        [iso(version.timestamp), f"r{version.revision}", as_json(version.value) if version.kind == "value" else ""]
        + ([version.kind, "" if version.expires_at is None else iso(version.expires_at)] if every else [])
        for version in versions
    ]
    _table(["since", "revision", "value", *(["kind", "expires"] if every else [])], rows)


@app.command()
def at(
    file: File,
    when: When,
    *,
    prefix: Annotated[str | None, typer.Option(help="Only text keys that start with it.")] = None,
    json: Json = False,
) -> None:
    """Print the whole map as it was. JSON: an object, or a list of pairs if some key is not text."""
    items = list(pin(load(file), when).items(prefix))
    if json:
        textual = all(isinstance(key, str) for key, _ in items)
        typer.echo(as_json(dict(items) if textual else items))
    else:
        _table(["key", "value"], ([shown(key), as_json(value)] for key, value in items))
    if not items:
        raise Nothing("nothing was there then")


@app.command()
def diff(
    file: File,
    old: Annotated[str, typer.Argument(metavar="FROM", help="ISO 8601, epoch seconds, or rN.")],
    new: Annotated[str, typer.Argument(metavar="TO", help="ISO 8601, epoch seconds, or rN.")],
    *,
    json: Json = False,
) -> None:
    """Print what changed between two moments: + added, - removed, ~ changed."""
    cm = load(file)
    found = [(*difference, difference.kind) for difference in pin(cm, new).diff_detailed(pin(cm, old))]
    if json:
        typer.echo(as_json([_difference(*difference) for difference in found]))
        return
    _table(
        ["", "key", "before", "after"],
        (
            [
                {"added": "+", "removed": "-"}.get(kind, "~"),
                shown(key),
                "" if kind == "added" else as_json(before),
                "" if kind == "removed" else as_json(after),
            ]
            for key, before, after, kind in found
        ),
    )


def _difference(key: Any, before: Any, after: Any, kind: str) -> dict[str, Any]:
    sides = {} if kind == "added" else {"before": before}
    return {"key": key, "kind": kind, **sides, **({} if kind == "removed" else {"after": after})}


@app.command()
def export(file: File, out: Annotated[str, typer.Argument(metavar="OUT", help="Its ending says what is written.")]) -> None:
    """Write a map with its history in another format."""
    kind_of(out)
    save(load(file, bar=True), out, bar=True)


@app.command()
def stats(file: File, *, json: Json = False) -> None:
    """Print how much a map holds, and over which time."""
    found = numbers(load(file))
    if json:
        typer.echo(as_json(found))
    else:
        _table(["", ""], ([name, shown(value)] for name, value in found.items()))


def numbers(cm: ChronoMap[Any, Any]) -> dict[str, Any]:
    """What ``stats`` prints."""
    counted = cm.get_stats()
    return {
        "revision": counted["revision"],
        "present": len(cm),
        "keys": counted["keys"],
        "versions": counted["versions"],
        "newest": [[key, iso(timestamp)] for key, timestamp, _ in cm.get_latest_keys(1)],
    }


@app.command()
def shell(file: Annotated[str | None, typer.Argument(metavar="FILE", help="Begin with this map.")] = None) -> int:
    """Try things out, with travel in time; also reads commands from a pipe."""
    from chronomap.cli.shell import Shell  # noqa: PLC0415 - only the shell needs prompt_toolkit

    return Shell(file).run()
