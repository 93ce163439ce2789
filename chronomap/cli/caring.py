"""The commands that care for a map on disk: is it whole, save what can be saved, copy it, make it smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import chronomap
from chronomap.cli import NOTHING, OK
from chronomap.cli.console import CARE, Disk, Json, app, say
from chronomap.cli.files import insist_on, on_disk
from chronomap.cli.words import BadInput, as_json


@app.command(rich_help_panel=CARE)
def verify(file: Disk, *, json: Json = False) -> int:
    """Look whether everything in a file is as it was written, also while it is open elsewhere; if not, exit with 1.

    Says what is wrong, one line each, and up to which revision all is well.
    """
    insist_on(file)
    found = chronomap.verify(file, chronomap.TolerantCodec())
    if json:
        names = ("ok", "revision", "safe", "records", "problems")
        typer.echo(as_json({name: getattr(found, name) for name in names}))
        return OK if found.ok else NOTHING
    for problem in found.problems:
        typer.echo(problem)
    if found.ok:
        return say(f"{file}: all is well: {found.records} records, up to revision {found.revision}")
    newest = f", of {found.revision}" if found.revision else ""
    return say(
        f"{file} is damaged: all is well up to revision {found.safe}{newest}; restore a backup, or take what is readable into "
        f"a new file: chronomap salvage {file} NEW",
        NOTHING,
    )


@app.command(rich_help_panel=CARE)
def salvage(
    file: Disk,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The file to make; must not be there yet.")],
    *,
    json: Json = False,
) -> int:
    """Take what is readable of a damaged file into a new one, under the same revisions; if not everything, exit with 1.

    Says which revisions are, or may be, incomplete. The old file is not changed.
    """
    insist_on(file)
    if Path(new).exists():
        raise BadInput(f"{new} is there already; salvage into a new file")
    found = chronomap.salvage(file, new, chronomap.TolerantCodec())
    code = OK if found.complete else NOTHING
    if json:
        names = ("complete", "revision", "records", "headers_lost", "incomplete")
        typer.echo(as_json({name: getattr(found, name) for name in names}))
        return code
    typer.echo(f"saved\t{found.records} records, up to revision {found.revision}")
    if found.headers_lost:
        typer.echo(f"lost\tthe headers of {found.headers_lost} commits: what was noted with them")
    if found.incomplete:
        typer.echo(f"lost\tall or part of {len(found.incomplete)} commits: {_ranges(found.incomplete)}")
    return say(f"{new}: everything is there" if found.complete else f"{new}: not everything could be saved", code)


def _ranges(revisions: list[int]) -> str:
    """``r1-r3, r7`` for 1, 2, 3 and 7."""
    runs: list[list[int]] = []
    for revision in revisions:
        if runs and revision == runs[-1][1] + 1:
            runs[-1][1] = revision
        else:
            runs.append([revision, revision])
    return ", ".join(f"r{first}" if first == last else f"r{first}-r{last}" for first, last in runs)


@app.command(rich_help_panel=CARE)
def backup(
    file: Disk,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The file to make; must not be there yet.")],
    *,
    json: Json = False,
) -> int:
    """Copy a file, also while another process writes to it. The copy is whole and stands at one revision."""
    on_disk(file)
    if Path(new).exists():
        raise BadInput(f"{new} is there already; give the backup another name")
    from chronomap.cli import journals  # noqa: PLC0415 - needs the extras of maps on disk

    revision = journals.back_up(file, new)
    if json:
        typer.echo(as_json({"revision": revision}))
        return OK
    return say(f"{new}: a copy as of revision {revision}")


@app.command(rich_help_panel=CARE)
def compact(
    file: Disk,
    *,
    revision: Annotated[
        int | None, typer.Option(metavar="N", help="Change streams can begin there or later; default: some thousand back.")
    ] = None,
    json: Json = False,
) -> int:
    """Take out of a file what no version needs, and give the space back. Takes as much space again meanwhile."""
    on_disk(file)
    before = Path(file).stat().st_size
    from chronomap.cli import journals  # noqa: PLC0415 - needs the extras of maps on disk

    with journals.own(file) as cm:
        cm.compact(revision)
        cm.vacuum()
    after = Path(file).stat().st_size
    if json:
        typer.echo(as_json({"before": before, "after": after}))
        return OK
    return say(f"{file}: {before:,} bytes before, {after:,} now")
