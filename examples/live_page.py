"""A table in a browser that is always up to date: server-sent events, one per commit, with the revision as the event id.

What a reader learns: ``stream.commits()`` gives what belongs together; ``stream.revision`` after it is where to resume, so
the ``Last-Event-ID`` that a browser sends when its connection broke becomes ``since=``, and nothing is missed or repeated.
Who cannot resume gets an event ``reset`` and then all that is present. Needs ``starlette`` and, to serve, ``uvicorn``:

    uvicorn --factory live_page:create_app --timeout-graceful-shutdown 1
    curl -X PUT localhost:8000/items/lamp -d '"on"'

An id from a later revision than the map has reached is recognised as one from before a restart. A map that begins anew when
its server does can pass that revision before the browser is back: put something that names the start into such ids too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chronomap import AsyncChronoMap, Change, ChangeStream

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>ChronoMap, live</title>
<p>Connection: <b id="state">opening</b>, revision <b id="revision">unknown</b></p>
<table><thead><tr><th>key<th>value<tbody id="items"></table>
<script>
const items = document.getElementById("items"), state = document.getElementById("state");
const rows = new Map();
const source = new EventSource("/changes");
source.onopen = () => { state.textContent = "open"; };
source.onerror = () => {
  state.textContent = source.readyState === EventSource.CLOSED ? "refused, reload the page" : "broken, trying again";
};
source.addEventListener("reset", event => { rows.clear(); items.replaceChildren(); tell(event); });
source.onmessage = event => {
  for (const change of JSON.parse(event.data)) if (change.present) show(change);
  tell(event);
};
function tell(event) { document.getElementById("revision").textContent = event.lastEventId || "unknown"; }
function show({key, value, removed}) {
  let row = rows.get(key);
  if (removed) {
    if (row) row.remove();
    rows.delete(key);
    return;
  }
  if (!row) {
    rows.set(key, row = items.insertRow());
    row.insertCell().textContent = key;
    row.insertCell();
  }
  row.cells[1].textContent = JSON.stringify(value);
}
</script>
"""

RESET = "event: reset\nid:\ndata: {}\n\n"
"""Forget everything. The empty id makes the browser forget its last one: cut off from here on, it must begin anew."""


def follow(cm: AsyncChronoMap[str, Any], last_event_id: str | None) -> tuple[ChangeStream[str, Any], bool]:
    """What comes after an event; if there is none, or none of ours, all that is present and then what comes (and True)."""
    if last_event_id:
        with suppress(ValueError):  # not a number, or a FutureRevisionError: from before a restart
            return cm.watch(since=int(last_event_id), on_lag="resync"), False
    return cm.watch(initial=True, on_lag="resync"), True


async def events(stream: ChangeStream[str, Any], anew: bool) -> AsyncIterator[str]:
    """One event per commit."""
    revision = stream.revision
    if anew:
        yield RESET
    async for changes in stream.commits():
        if changes[0].kind == "resync":  # fell behind, or was away for too long: the present comes next
            yield RESET
            continue
        # What is present comes in several lists, and only with the last one is everything there that a revision means.
        complete, revision = stream.revision != revision, stream.revision
        data = json.dumps([plain(change) for change in changes])
        yield f"id: {revision}\ndata: {data}\n\n" if complete else f"data: {data}\n\n"


def plain(change: Change[str, Any]) -> dict[str, Any]:
    """What the page needs to know. Not ``present``: dated ahead, or a correction behind a newer value."""
    return {name: getattr(change, name) for name in ("key", "kind", "value", "removed", "present")}


class Events(StreamingResponse):
    """A response that holds a stream and closes it, also when the client is gone."""

    media_type = "text/event-stream"

    def __init__(self, stream: ChangeStream[str, Any], anew: bool) -> None:
        super().__init__(events(stream, anew), headers={"Cache-Control": "no-store"})
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What Starlette calls; it is cancelled when the client disconnects."""
        async with self._stream:
            await super().__call__(scope, receive, send)


async def page(_: Request) -> Response:
    """GET /: the table."""
    return HTMLResponse(PAGE)


async def changes(request: Request) -> Response:
    """GET /changes: for EventSource."""
    return Events(*follow(request.app.state.cm, request.headers.get("last-event-id")))


async def write_item(request: Request) -> Response:
    """PUT /items/{key}: store the JSON body."""
    try:
        value = await request.json()
        json.dumps(value, allow_nan=False)  # Python reads NaN and Infinity, a browser does not
    except (ValueError, RecursionError) as error:
        return JSONResponse({"error": str(error)}, status_code=400)
    return JSONResponse({"revision": await request.app.state.cm.put(request.path_params["key"], value)})


async def delete_item(request: Request) -> Response:
    """DELETE /items/{key}."""
    deleted = await request.app.state.cm.delete(request.path_params["key"])
    return Response(status_code=204 if deleted else 404)


def create_app(cm: AsyncChronoMap[str, Any] | None = None) -> Starlette:
    """The application, with the map in ``app.state.cm``; closed with it. Values must be JSON."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncChronoMap[str, Any]() if cm is None else cm as app.state.cm:
            yield

    return Starlette(
        routes=[
            Route("/", page),
            Route("/changes", changes),
            Route("/items/{key}", write_item, methods=["PUT"]),
            Route("/items/{key}", delete_item, methods=["DELETE"]),
        ],
        lifespan=lifespan,
    )


async def main() -> None:
    """Show what a browser is sent, without one, and how it goes on after its connection broke."""

    async def browse(last_event_id: str | None, count: int) -> None:
        print(f"connected with Last-Event-ID {last_event_id}")
        stream, anew = follow(cm, last_event_id)
        async with stream:
            sent = events(stream, anew)
            for _ in range(count):
                event = await anext(sent)
                fields = dict(line.split(":", 1) for line in event.splitlines() if line)
                told = [f"{change['key']}={change['value']}" for change in json.loads(fields["data"])]
                print(f"  id{fields['id']}: {' '.join(told) or fields['event'].strip()}")
            await sent.aclose()  # type: ignore[attr-defined]

    async with AsyncChronoMap[str, Any]() as cm:
        await cm.put_many({"lamp": "off", "door": "shut"})
        await cm.put("lamp", "on")
        await browse(None, 2)
        await cm.put_many({"lamp": "dimmed", "door": "open"})  # while nobody is connected
        await cm.delete("lamp")
        await browse("2", 2)
        await browse("99", 2)


if __name__ == "__main__":
    asyncio.run(main())
