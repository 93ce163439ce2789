"""The commands that look: at the present, the past and what changes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from chronomap import Change, ChronoMap, Version
from chronomap.cli.console import CHANGE, LOOK, Disk, File, Json, JsonKey, Key, When, app, table
from chronomap.cli.files import kind_of, load, on_disk, save, saved_kind
from chronomap.cli.words import BadInput, Nothing, as_json, iso, key_of, moment, pin, shown


@app.command(rich_help_panel=LOOK)
def demo(
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where anyio-history.jsonl.gz is.")] = None,
    seed: Annotated[int | None, typer.Option(help="Shuffle as in an earlier run.")] = None,
) -> int:
    """Show what a map that never forgets is good for, on eight years of a real project; checked against git."""
    from chronomap.cli.demo import show  # noqa: PLC0415 - only the demo needs an event loop

    return show(data, seed)


@app.command(rich_help_panel=LOOK)
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
    with load(file) as cm:
        version = cm.version(named, timestamp, revision=revision if also is None else also)
    if version is None:
        raise Nothing(f"no value for key {shown(named)}" + (" then" if at or revision is not None else ""))
    typer.echo(version.value if isinstance(version.value, str) and not json else as_json(version.value))


@app.command(rich_help_panel=LOOK)
def history(
    file: File,
    key: Key,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Also tombstones, cancellations and what is scheduled; with kind and expiry.")
    ] = False,
    json_key: JsonKey = False,
    json: Json = False,
) -> None:
    """Print what a key has held: since when, and from which revision."""
    named = key_of(key, as_json=json_key)
    with load(file) as cm:
        versions = cm.versions(named, scheduled=every)
        if not every:
            standing = {timestamp for timestamp, _ in cm.history(named)}
            versions = [version for version in versions if version.kind == "value" and version.timestamp in standing]
    if not versions:
        raise Nothing(f"no history of key {shown(named)}")
    if json:
        typer.echo(as_json([_version(version) for version in versions]))
        return
    rows = [
        [iso(version.timestamp), f"r{version.revision}", as_json(version.value) if version.kind == "value" else ""]
        + ([version.kind, "" if version.expires_at is None else iso(version.expires_at)] if every else [])
        for version in versions
    ]
    table(["since", "revision", "value", *(["kind", "expires"] if every else [])], rows)


def _version(version: Version[Any, Any]) -> dict[str, Any]:
    held = {"value": version.value} if version.kind == "value" else {}
    names = ("timestamp", "revision", "committed_at", "expires_at", "kind", "meta")
    return held | {name: getattr(version, name) for name in names}


@app.command(rich_help_panel=LOOK)
def at(
    file: File,
    when: When,
    *,
    prefix: Annotated[str | None, typer.Option(help="Only text keys that start with it.")] = None,
    json: Json = False,
) -> None:
    """Print the whole map as it was. JSON: an object, or a list of pairs if some key is not text."""
    with load(file) as cm:
        items = list(pin(cm, when).items(prefix))
    if json:
        textual = all(isinstance(key, str) for key, _ in items)
        typer.echo(as_json(dict(items) if textual else items))
    else:
        table(["key", "value"], ([shown(key), as_json(value)] for key, value in items))
    if not items:
        raise Nothing("nothing was there then")


@app.command(rich_help_panel=LOOK)
def diff(
    file: File,
    old: Annotated[str, typer.Argument(metavar="FROM", help="ISO 8601, epoch seconds, rN, or now.")],
    new: Annotated[str, typer.Argument(metavar="TO", help="The same.")],
    *,
    json: Json = False,
) -> None:
    """Print what changed between two moments: + added, - removed, ~ changed."""
    with load(file) as cm:
        found = [(*difference, difference.kind) for difference in pin(cm, new).diff_detailed(pin(cm, old))]
    if json:
        typer.echo(as_json([_difference(*difference) for difference in found]))
        return
    table(
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


@app.command(rich_help_panel=LOOK)
def watch(
    file: Disk,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Only these keys.")] = None,
    *,
    prefix: Annotated[str | None, typer.Option(help="Only text keys that start with it.")] = None,
    since: Annotated[int | None, typer.Option(metavar="N", help="Begin after revision N; default: with what comes.")] = None,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after so many changes.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="End after so long without a commit.")] = None,
    json_key: JsonKey = False,
    json: Json = False,
) -> None:
    """Print changes as they are committed, by whichever process; one line each, until Ctrl-C.

    --since 0 --timeout 0 prints all that there has been. What expires or falls due is told once the process that has the map
    open has committed it.
    """
    on_disk(file)
    from chronomap.cli import journals  # noqa: PLC0415 - needs the extras of maps on disk

    wanted = {key_of(key, as_json=json_key) for key in keys or ()}
    left = count
    with closing(journals.follow(file, since, timeout)) as changes:
        for change in changes:
            key = change.key
            named = not wanted or key in wanted
            if not named or not (prefix is None or (isinstance(key, str) and key.startswith(prefix))):
                continue
            typer.echo(as_json(_change(change)) if json else _line(change))
            left = None if left is None else left - 1
            if left == 0:
                return


def _change(change: Change[Any, Any]) -> dict[str, Any]:
    held = {} if change.removed else {"value": change.value}
    names = ("key", "timestamp", "committed_at", "expires_at", "meta")
    head = {"revision": change.revision, "kind": change.kind}
    return head | held | {name: getattr(change, name) for name in names}


def _line(change: Change[Any, Any]) -> str:
    value = "" if change.removed else as_json(change.value)
    return f"r{change.revision}\t{change.kind}\t{shown(change.key)}\t{value}\t{iso(change.timestamp)}"


@app.command(rich_help_panel=LOOK)
def export(file: File, out: Annotated[str, typer.Argument(metavar="OUT", help="Its ending says what is written.")]) -> None:
    """Write a map with its history in another format."""
    saved_kind(out)
    with load(file, bar=True) as cm:
        save(cm, out, bar=True)


@app.command(rich_help_panel=LOOK)
def stats(file: File, *, json: Json = False) -> None:
    """Print how much a map holds, and over which time."""
    with load(file) as cm:
        found = numbers(cm)
    if kind_of(file) == "disk":
        from chronomap.cli import journals  # noqa: PLC0415 - needs the extras of maps on disk

        found |= journals.numbers(file)
    if json:
        typer.echo(as_json(found))
    else:
        table(["", ""], ([name, shown(value)] for name, value in found.items()))


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


@app.command(rich_help_panel=CHANGE)
def shell(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="Begin with this map; a map on disk is made.")] = None,
    *,
    read_only: Annotated[bool, typer.Option("--read-only", help="Only look; another process may have the map open.")] = False,
) -> int:
    """Try things out, with travel in time; also reads commands from a pipe. Without FILE: with a map in memory."""
    from chronomap.cli.shell import Shell  # noqa: PLC0415 - only the shell needs prompt_toolkit

    return Shell(file, read_only=read_only).run()
