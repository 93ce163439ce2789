"""``chronomap shell``: commands one by one, at a prompt or from a pipe."""

from __future__ import annotations

import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout

from chronomap import Change, ChronoMap, ChronoMapError, Snapshot, SyncChangeStream
from chronomap.cli import NOTHING, OK, USAGE
from chronomap.cli.console import say
from chronomap.cli.files import by_ending, kind_of, load, save
from chronomap.cli.words import BadInput, Nothing, as_json, instant, iso, pin, shown, value_of

HELP = """\
put KEY VALUE [--at WHEN] [--ttl SECONDS]   VALUE is JSON, or else text
get KEY              what it holds
delete KEY           the history stays
keys [PREFIX]        the present keys
history KEY          what it has held
versions KEY         the same, with tombstones and what is scheduled
at WHEN              travel: reads are as of then (ISO 8601, epoch seconds, or rN)
now                  return to the present
snapshot NAME        remember this state
rollback NAME|REV    go back to it, as a new commit
undo REV             take back one commit
prune KEY N          forget all but its newest N versions
schedule             what is scheduled
ttl KEY              how many seconds it has left
watch [KEY...]       show changes as they happen (without keys: all); unwatch ends it
sleep SECONDS        wait
save [FILE]          load FILE          stats          help          quit"""

OPTION = re.compile(r"\s+--(at|ttl)[\s=]+(\S+)\s*$")


class Done(Exception):  # noqa: N818 - the user wants to leave
    """End the shell."""


class Shell:
    """One session: a map, where in time its reads are, and what is remembered."""

    def __init__(self, file: str | None = None, *, read_only: bool = False) -> None:
        self.file = file
        self.read_only = read_only
        self.cm: ChronoMap[Any, Any] = ChronoMap() if file is None else self._open(file)
        self.then: Snapshot[Any, Any] | None = None
        self.snapshots: dict[str, Snapshot[Any, Any]] = {}
        self.code = OK
        self._saved = self.cm.revision
        self._stream: SyncChangeStream[Any, Any] | None = None
        self._thread: threading.Thread | None = None

    def _open(self, file: str) -> ChronoMap[Any, Any]:
        """The map in a file, made if it is not there: on disk, or in memory if it is named as what ``save`` writes."""
        if file != "-" and not Path(file).exists():
            if by_ending(file) is not None:
                return ChronoMap()
            if self.read_only:
                raise BadInput(f"{file}: No such file or directory")
        elif self.read_only or kind_of(file) != "disk":
            return load(file, bar=True)
        from chronomap.cli import journals  # noqa: PLC0415 - needs the extras of maps on disk

        new = not Path(file).exists()
        cm = journals.own(file, create=new)
        if new:
            say(f"{file}: made a new map; every write is on the disk at once")
        return cm

    @property
    def reads(self) -> ChronoMap[Any, Any] | Snapshot[Any, Any]:
        """What reads are answered from: the present, or where the user has travelled."""
        return self.cm if self.then is None else self.then

    def run(self) -> int:
        """Until quit or the end of input; from a pipe the worst exit code of any command."""
        interactive = sys.stdin.isatty()
        with ExitStack() as stack:
            stack.callback(self.cm_close)
            for line in self._typed() if interactive else sys.stdin:
                try:
                    self.execute(line.strip())
                except Done:
                    break
            if interactive and not self.cm.durable and self.cm.revision != self._saved:
                self.out("changes since the last save are gone; next time, save FILE first")
        return OK if interactive else self.code

    def cm_close(self) -> None:
        """Stop watching and close the map."""
        self.do_unwatch("")
        self.cm.close()

    def _typed(self) -> Iterator[str]:
        session: PromptSession[str] = PromptSession(history=_history(), completer=_Completer(self))
        self.out("help lists the commands; Ctrl-D leaves")
        with patch_stdout():
            while True:
                place = "" if self.then is None else f" {iso(self.then.snapshot_time)} r{self.then.revision}"
                try:
                    yield session.prompt(f"chronomap{place}> ")
                except EOFError:
                    return
                except KeyboardInterrupt:
                    continue

    def out(self, text: str) -> None:
        """Print a line, in one piece: the watching thread prints too."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def execute(self, line: str) -> None:
        """Run one line; what goes wrong is said and remembered in ``code``."""
        if not line or line.startswith("#"):
            return
        word, _, rest = line.partition(" ")
        command: Callable[[str], None] = getattr(self, f"do_{word}", self._unknown(word))
        try:
            command(rest.strip())
        except Nothing as nothing:
            self._complain(str(nothing), NOTHING)
        except (BadInput, ChronoMapError) as error:
            self._complain(str(error), USAGE)

    def _complain(self, message: str, code: int) -> None:
        self.code = max(self.code, code)
        print(f"chronomap: {message}", file=sys.stderr, flush=True)  # noqa: T201

    def _unknown(self, word: str) -> Callable[[str], None]:
        def refuse(_: str) -> NoReturn:
            near = get_close_matches(word, commands()) or [name for name in commands() if name.startswith(word[:2])]
            hint = f"did you mean {' or '.join(near)}?" if near else "help lists the commands"
            raise BadInput(f"unknown command {word!r}; {hint}")

        return refuse

    # -- one key -------------------------------------------------------------------------------------------------------

    def do_put(self, rest: str) -> None:
        """KEY VALUE [--at WHEN] [--ttl SECONDS]."""
        options: dict[str, str] = {}
        while (option := OPTION.search(rest)) is not None:
            options[option[1]] = option[2]
            rest = rest[: option.start()]
        key, value = _first(rest)
        if not value:
            raise BadInput("put KEY VALUE [--at WHEN] [--ttl SECONDS]")
        if len(value) > 1 and value[0] == value[-1] == "'":
            value = value[1:-1]
        when = instant(options["at"]) if "at" in options else None
        ttl = _seconds(options["ttl"]) if "ttl" in options else None
        self.out(f"r{self.cm.put(key, value_of(value), when, ttl)}")

    def do_get(self, rest: str) -> None:
        """KEY."""
        (key,) = _words(rest, 1, "get KEY")
        self.out(shown(self.value(key)))

    def value(self, key: str) -> Any:
        """What a key holds where the user is in time."""
        if key not in self.reads:
            raise Nothing(f"no value for key {key}")
        return self.reads.get(key)

    def do_delete(self, rest: str) -> None:
        """KEY."""
        (key,) = _words(rest, 1, "delete KEY")
        if not self.cm.delete(key):
            raise Nothing(f"no value for key {key}")
        self.out(f"r{self.cm.revision}")

    def do_history(self, rest: str) -> None:
        """KEY."""
        (key,) = _words(rest, 1, "history KEY")
        self._lines((f"{iso(when)}\t{as_json(value)}" for when, value in self.reads.history(key)), f"no history of {key}")

    def do_versions(self, rest: str) -> None:
        """KEY."""
        (key,) = _words(rest, 1, "versions KEY")
        found = self.reads.versions(key, scheduled=True)
        self._lines(
            (
                f"{iso(version.timestamp)}\tr{version.revision}\t"
                + (as_json(version.value) if version.kind == "value" else version.kind)
                + ("" if version.expires_at is None else f"\tuntil {iso(version.expires_at)}")
                for version in found
            ),
            f"no history of {key}",
        )

    def do_ttl(self, rest: str) -> None:
        """KEY."""
        (key,) = _words(rest, 1, "ttl KEY")
        version = self.reads.version(key)
        if version is None:
            raise Nothing(f"no value for key {key}")
        now = time.time() if self.then is None else self.then.snapshot_time
        self.out("never expires" if version.expires_at is None else f"{max(0.0, version.expires_at - now):.3f}")

    def do_prune(self, rest: str) -> None:
        """KEY N."""
        key, number = _words(rest, 2, "prune KEY N")
        self.out(f"{self.cm.prune_history(key, keep_last=_whole(number))} versions forgotten")

    # -- the map -------------------------------------------------------------------------------------------------------

    def do_keys(self, rest: str) -> None:
        """[PREFIX]."""
        self._lines((shown(key) for key in self.reads.keys(rest or None)), "no keys")

    def _lines(self, lines: Iterable[str], otherwise: str) -> None:
        count = 0
        for line in lines:
            self.out(line)
            count += 1
        if not count:
            raise Nothing(otherwise)

    def do_at(self, rest: str) -> None:
        """WHEN."""
        (when,) = _words(rest, 1, "at WHEN (ISO 8601, epoch seconds, or rN)")
        self.then = pin(self.cm, when)
        self.out(f"reads are as of {iso(self.then.snapshot_time)}, revision {self.then.revision}; now returns")

    def do_now(self, _: str) -> None:
        """Return to the present."""
        self.then = None

    def do_snapshot(self, rest: str) -> None:
        """NAME."""
        (name,) = _words(rest, 1, "snapshot NAME")
        snap = self.snapshots[name] = self.cm.snapshot()
        self.out(f"{name}: revision {snap.revision}")

    def do_rollback(self, rest: str) -> None:
        """NAME or REVISION."""
        (name,) = _words(rest, 1, "rollback NAME|REVISION")
        to = self.snapshots.get(name)
        self.out(f"r{self.cm.rollback(_whole(name.removeprefix('r')) if to is None else to)}")

    def do_undo(self, rest: str) -> None:
        """REVISION."""
        (revision,) = _words(rest, 1, "undo REVISION")
        self.out(f"r{self.cm.undo(_whole(revision.removeprefix('r')))}")

    def do_schedule(self, _: str) -> None:
        """List what is scheduled."""
        now, far = time.time(), self.cm.at(2.0**40)
        present = dict.fromkeys([*self.cm.keys(), *far.keys()])
        ahead = [
            (version.timestamp, f"{iso(version.timestamp)}\t{shown(key)}\t{as_json(version.value)}")
            for key in present
            for version in self.cm.versions(key, scheduled=True)
            if version.timestamp > now and self.cm.version(key, version.timestamp) == version
        ]
        self._lines((line for _, line in sorted(ahead)), "nothing is scheduled")

    def do_stats(self, _: str) -> None:
        """Counters."""
        self._lines((f"{name}\t{number}" for name, number in self.cm.get_stats().items()), "")

    # -- watching ------------------------------------------------------------------------------------------------------

    def do_watch(self, rest: str) -> None:
        """[KEY ...]."""
        wanted = set(_split(rest))
        self.do_unwatch("")
        self._stream = self.cm.watch(where=(lambda change: change.key in wanted) if wanted else None)
        self._thread = threading.Thread(target=self._follow, args=(self._stream,), daemon=True)
        self._thread.start()

    def _follow(self, stream: SyncChangeStream[Any, Any]) -> None:
        try:
            for change in stream:
                self.out(_told(change))
        except ChronoMapError as error:
            self._complain(str(error), USAGE)
        except BrokenPipeError:
            return

    def do_unwatch(self, _: str) -> None:
        """End watching."""
        if self._stream is not None and self._thread is not None:
            self._stream.close()
            self._thread.join(1)
            self._stream = self._thread = None

    # -- the session ---------------------------------------------------------------------------------------------------

    def do_sleep(self, rest: str) -> None:
        """SECONDS."""
        time.sleep(_seconds(rest))

    def do_save(self, rest: str) -> None:
        """[FILE]."""
        file = rest or self.file
        if not file:
            raise BadInput("save FILE")
        if self._is_open(file):
            raise BadInput(f"{file} is a map on disk, and every write is there already; save NAME.json makes a copy")
        save(self.cm, file)
        if not self.cm.durable:
            self.file, self._saved = file, self.cm.revision

    def do_load(self, rest: str) -> None:
        """FILE."""
        (file,) = _words(rest, 1, "load FILE")
        if self._is_open(file):
            if not self.read_only:
                raise BadInput(f"{file} is open already")
            self.cm_close()  # before anybody looks into it: see kind_of
            self.cm = ChronoMap()
        if file != "-" and not Path(file).exists():
            raise BadInput(f"{file}: No such file or directory")
        new = self._open(file)
        self.cm_close()
        self.cm, self.file, self.then, self._saved = new, file, None, new.revision
        self.snapshots.clear()

    def _is_open(self, file: str) -> bool:
        """Whether it is the file that the present map is kept in."""
        if not self.cm.durable or self.file is None or file == "-":
            return False
        try:
            return Path(file).samefile(self.file)
        except OSError:
            return False

    def do_help(self, _: str) -> None:
        """List the commands."""
        self.out(HELP)

    def do_quit(self, _: str) -> None:
        """Leave."""
        raise Done

    do_exit = do_quit


def commands() -> list[str]:
    """The names of all commands."""
    return [name.removeprefix("do_") for name in dir(Shell) if name.startswith("do_")]


def _told(change: Change[Any, Any]) -> str:
    value = "" if change.removed else f" = {as_json(change.value)}"
    return f"* r{change.revision} {change.kind} {shown(change.key)}{value}"


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BadInput(f"cannot read {text!r}: {error}") from None


def _words(text: str, count: int, usage: str) -> list[str]:
    words = _split(text)
    if len(words) != count:
        raise BadInput(f"usage: {usage}")
    return words


def _first(text: str) -> tuple[str, str]:
    """The first word, which may be quoted, and the rest as it stands."""
    found = re.match(r"\"((?:[^\"\\]|\\.)*)\"\s|'([^']*)'\s|(\S+)", text)
    if found is None:
        return "", ""
    return next(group for group in found.groups() if group is not None), text[found.end() :].strip()


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise BadInput(f"{text!r} is no number of seconds") from None
    if not 0 <= number < threading.TIMEOUT_MAX:
        raise BadInput(f"{text!r} is no usable number of seconds")
    return number


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise BadInput(f"{text!r} is neither the name of a snapshot nor a whole number")
    return int(text)


def _history() -> History:
    """What was typed in earlier sessions, if there is a place to keep it."""
    state = Path(os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".local" / "state")
    try:
        (state / "chronomap").mkdir(parents=True, exist_ok=True)
        (state / "chronomap" / "history").open("a", encoding="utf-8").close()
    except OSError:
        return InMemoryHistory()
    return FileHistory(state / "chronomap" / "history")


class _Completer(Completer):
    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:  # noqa: ARG002
        before = document.text_before_cursor.lstrip()
        typed = document.get_word_before_cursor(WORD=True)
        if " " not in before:
            among: Iterable[str] = commands()
        elif before.startswith("rollback "):
            among = self._shell.snapshots
        else:
            among = (key for key in self._shell.reads.keys() if isinstance(key, str) and " " not in key)  # noqa: SIM118
        yield from (Completion(word, -len(typed)) for word in among if word.startswith(typed))
