"""The commands that change a map on disk, and the one that makes or fills one from other files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from chronomap.cli.console import CHANGE, Disk, Json, JsonKey, Key, app, say
from chronomap.cli.files import add_lines, by_ending, contents, kind_of, load, on_disk, save
from chronomap.cli.words import BadInput, Map, Nothing, as_json, instant, key_of, shown, value_of

At = Annotated[str | None, typer.Option("--at", metavar="WHEN", help="Since when it holds; default: now.")]
IfRevision = Annotated[
    int | None, typer.Option("--if-revision", metavar="N", help="Only if revision N was the last to change the key (0: none).")
]
Meta = Annotated[list[str] | None, typer.Option("--meta", metavar="NAME=VALUE", help="Kept with the history; may be repeated.")]


@app.command(rich_help_panel=CHANGE)
def put(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A map on disk; made if it is not there.")],
    key: Key,
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="JSON, or else text as it is. Left out: standard input.")
    ] = None,
    *,
    at: At = None,
    ttl: Annotated[float | None, typer.Option(metavar="SECONDS", help="How long it holds.")] = None,
    if_revision: IfRevision = None,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Only if the key holds nothing.")] = False,
    meta: Meta = None,
    text: Annotated[bool, typer.Option("--text", help="VALUE is text, even if it could be JSON.")] = False,
    json_key: JsonKey = False,
    json: Json = False,
) -> None:
    """Write one value; prints its revision once it is on the disk.

    42, true, null, "text", [1] and {"a": 1} are JSON; what is not JSON is text: red. With --text everything is text. A value
    on standard input ends before its last line break.
    """
    named = key_of(key, as_json=json_key)
    given = _typed() if value is None else value
    content = given if text else value_of(given)
    when, said = None if at is None else instant(at), _meta(meta)
    with _writable(file, create=True) as cm:
        revision = cm.put(named, content, when, ttl, if_revision=if_revision, if_absent=if_absent, meta=said)
    typer.echo(as_json({"revision": revision}) if json else f"r{revision}")


@app.command(rich_help_panel=CHANGE)
def delete(
    file: Disk,
    key: Key,
    *,
    at: At = None,
    if_revision: IfRevision = None,
    meta: Meta = None,
    json_key: JsonKey = False,
    json: Json = False,
) -> None:
    """Delete a key; its history stays. Prints the revision."""
    named = key_of(key, as_json=json_key)
    when, said = None if at is None else instant(at), _meta(meta)
    with _writable(file) as cm:
        there = cm.delete(named, when, if_revision=if_revision, meta=said)
        revision = cm.revision
    if not there:
        raise Nothing(f"no value for key {shown(named)}" + ("" if at is None else " then"))
    typer.echo(as_json({"revision": revision}) if json else f"r{revision}")


@app.command("import", rich_help_panel=CHANGE)
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The map to make, or to add to.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A saved map (also ChronoMap 2's), change lines, any map.")],
    *,
    json: Json = False,
) -> None:
    """Make a map of another file, with all its history: a map on disk, unless FILE is named .json, .pkl or .pickle.

    Revisions, instants, timestamps, kinds and meta are kept. If FILE is there already, it is added to: change lines one
    commit per revision; of a map what FILE does not have yet, as one commit.
    """
    there = file != "-" and Path(file).exists()
    kind = kind_of(file) if there else by_ending(file) or "disk"
    if kind == "lines":
        raise BadInput(f"{file} would be change lines; import makes a map, and chronomap export writes change lines")
    if there and source != "-" and Path(source).exists() and Path(source).samefile(file):
        raise BadInput(f"{source} cannot be imported into itself")
    if there:
        before, after = _add(file, source, kind)
    else:
        before, after = 0, _make(file, source, kind)
    if json:
        typer.echo(as_json({"revision": after, "added": after - before}))
    else:
        say(f"{file}: {after - before} commits added, now at revision {after}")


def _make(file: str, source: str, kind: str) -> int:
    if kind == "disk":
        from chronomap.cli import journals  # noqa: PLC0415 - needs the extras of maps on disk

        with contents(source) as cm:
            journals.make(file, cm, source)
            return cm.revision
    with load(source, bar=True) as cm:
        save(cm, file, bar=True)
        return cm.revision


def _add(file: str, source: str, kind: str) -> tuple[int, int]:
    with _writable(file, at_once=True) if kind == "disk" else load(file) as cm:
        before = cm.revision
        if kind_of(source) == "lines":
            add_lines(cm, source, bar=True)
        else:
            with load(source, bar=True) as other:
                cm.merge(other)
        if kind != "disk":
            save(cm, file, bar=True)
        return before, cm.revision


def _writable(file: str, *, create: bool = False, at_once: bool = False) -> Map:
    """A map on disk, this process being its owner."""
    new = create and not Path(file).exists()
    if not new:
        on_disk(file)
    elif by_ending(file) is not None:
        raise BadInput(f"{file} is named as saved maps are; name a map on disk otherwise, for example NAME.chrono")
    from chronomap.cli import journals  # noqa: PLC0415 - needs the extras of maps on disk

    cm = journals.own(file, create=create, at_once=at_once)
    if new:
        say(f"{file}: made a new map")
    return cm


def _typed() -> str:
    if sys.stdin.isatty():
        raise BadInput("give a VALUE, or standard input to read it from")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise BadInput("what is on standard input is not UTF-8 text") from None


def _meta(pairs: list[str] | None) -> dict[str, Any] | None:
    said: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadInput(f"--meta {pair!r}: write NAME=VALUE")
        said[name] = value
    return said or None
