"""A small web service over one map: Starlette, async and sync endpoints, and a live stream of changes.

What a reader learns: an async endpoint awaits the map; a plain one, which Starlette runs in a thread, uses the same
store through ``bridge()``; ``watch`` becomes server-sent events with the revision as event id, so a browser that
reconnects misses nothing. Needs ``starlette`` and, to serve, ``uvicorn``:

    uvicorn --factory web_app:create_app
    curl -X PUT localhost:8000/items/lamp -d '"on"'
    curl -N localhost:8000/changes
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from chronomap import AsyncChronoMap, Change, ChronoMapValueError, ConflictError, FutureRevisionError, LaggedError


async def read_item(request: Request) -> Response:
    """GET /items/{key}?timestamp=…: the value now, or at a time in ISO 8601."""
    cm: AsyncChronoMap[str, Any] = request.app.state.cm
    version = await cm.version(request.path_params["key"], request.query_params.get("timestamp"))
    if version is None or version.deleted:
        return JSONResponse({"error": "not found"}, status_code=404)
    return JSONResponse(version.value, headers={"ETag": f'"{version.revision}"'})


async def write_item(request: Request) -> Response:
    """PUT /items/{key}: store the JSON body; with If-Match only if nobody else wrote meanwhile."""
    cm: AsyncChronoMap[str, Any] = request.app.state.cm
    expected = request.headers.get("if-match")
    revision = await cm.put(
        request.path_params["key"],
        await request.json(),
        if_revision=int(expected.strip('"')) if expected else None,
    )
    return JSONResponse({"revision": revision}, headers={"ETag": f'"{revision}"'})


async def delete_item(request: Request) -> Response:
    """DELETE /items/{key}."""
    deleted = await request.app.state.cm.delete(request.path_params["key"])
    return Response(status_code=204 if deleted else 404)


def report(request: Request) -> Response:
    """GET /report: not async, so Starlette runs it in a thread; the bridge is the same store."""
    cm = request.app.state.cm.bridge()
    return JSONResponse({"items": len(cm), "revision": cm.revision, "newest": cm.get_latest_keys(3)})


async def changes(request: Request) -> Response:
    """GET /changes?prefix=…: what changes from now on, or after the Last-Event-ID that a reconnecting browser sends."""
    last = request.headers.get("last-event-id")
    events = follow(request.app.state.cm, request.query_params.get("prefix"), int(last) if last else None)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def follow(cm: AsyncChronoMap[str, Any], prefix: str | None, since: int | None) -> AsyncIterator[str]:
    """Changes as events; after a gap that cannot be filled, an event ``reset`` and then all that is present."""
    try:
        stream = cm.watch(prefix=prefix, since=since)
    except FutureRevisionError:  # the id is from before a restart of this server
        stream = None
    yield ": connected\n\n"
    while True:
        if stream is None:
            yield "event: reset\ndata: {}\n\n"
            stream = cm.watch(prefix=prefix, initial=True)
        try:
            async with stream:
                async for change in stream:
                    # Not change.revision: that is the same for all changes of a commit, and a browser that has seen
                    # the first of them would not be sent the others. The stream's is of the last complete commit.
                    yield event(change, stream.revision)
        except LaggedError:
            stream = None
        else:
            return  # the map was closed


def event(change: Change[str, Any], revision: int) -> str:
    """One server-sent event."""
    data = {"key": change.key, "value": change.value, "removed": change.removed, "timestamp": change.timestamp}
    return f"id: {revision}\nevent: {change.kind}\ndata: {json.dumps(data)}\n\n"


async def conflict(_: Request, error: Exception) -> Response:
    """Somebody else wrote first."""
    return JSONResponse({"error": str(error)}, status_code=412)


async def bad_request(_: Request, error: Exception) -> Response:
    """A body, timestamp or number that makes no sense."""
    return JSONResponse({"error": str(error)}, status_code=400)


def create_app() -> Starlette:
    """The application, with a map of its own in ``app.state.cm``."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncChronoMap[str, Any]() as cm:
            app.state.cm = cm
            yield

    return Starlette(
        routes=[
            Route("/items/{key}", read_item),
            Route("/items/{key}", write_item, methods=["PUT"]),
            Route("/items/{key}", delete_item, methods=["DELETE"]),
            Route("/report", report),
            Route("/changes", changes),
        ],
        exception_handlers={
            ConflictError: conflict,
            ChronoMapValueError: bad_request,
            json.JSONDecodeError: bad_request,
        },
        lifespan=lifespan,
    )


async def main() -> None:
    """Show the service at work without a network: a client in the same process, and a watcher beside it."""
    import httpx  # noqa: PLC0415 - a server does not need it

    app = create_app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://example") as client,
    ):
        first = await client.put("/items/lamp", json="off")
        await client.put("/items/door", json="shut")
        await client.put("/items/lamp", json="on", headers={"If-Match": first.headers["etag"]})
        late = await client.put("/items/lamp", json="dimmed", headers={"If-Match": first.headers["etag"]})
        print(f"a second writer with the same ETag: {late.status_code}")
        print(f"lamp: {(await client.get('/items/lamp')).json()}")
        print(f"from a thread: {(await client.get('/report')).json()['items']} items")
        print("events after revision 1:")
        events = follow(app.state.cm, prefix=None, since=1)
        for _ in range(3):  # the greeting and two changes
            print((await anext(events)).strip())
        await events.aclose()  # type: ignore[attr-defined]


if __name__ == "__main__":
    asyncio.run(main())
