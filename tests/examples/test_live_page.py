"""The live page's events, read over TCP by a client that behaves as a browser does and whose connection keeps breaking."""

from __future__ import annotations

import json
import random
import runpy
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from service import Service

from chronomap import AsyncChronoMap, ChangeStream, ChronoMap

EXAMPLE = Path(__file__).parents[2] / "examples" / "live_page.py"

Map = AsyncChronoMap[str, Any]


class Watched(Map):
    """A map that remembers which streams were made."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.streams: list[ChangeStream[str, Any]] = []

    def watch(self, *arguments: Any, **options: Any) -> ChangeStream[str, Any]:
        """The stream, noted."""
        self.streams.append(super().watch(*arguments, **options))
        return self.streams[-1]


@pytest.fixture(scope="module")
def create_app() -> Callable[[Map], Any]:
    """The example's factory."""
    factory: Callable[[Map], Any] = runpy.run_path(str(EXAMPLE))["create_app"]
    return factory


@dataclass
class Event:
    """A complete event."""

    id: str
    kind: str
    data: Any


@dataclass
class Browser:
    """What the page is: EventSource, which keeps the last event's id, and a table."""

    client: httpx.Client
    last_event_id: str = ""
    events: list[Event] = field(default_factory=list)
    table: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def connect(self) -> Iterator[httpx.Response]:
        """A new connection, which says what was seen last."""
        headers = {"Accept": "text/event-stream"}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        with self.client.stream("GET", "/changes", headers=headers) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            yield response

    def read(self, response: httpx.Response, budget: float = float("inf")) -> Iterator[Event]:
        """The events that are complete within a number of bytes, each already applied; an incomplete one is discarded."""
        rest = b""
        for piece in response.iter_bytes():
            rest += piece[: int(min(budget, len(piece)))]
            budget -= len(piece)
            *blocks, rest = rest.split(b"\n\n")
            for block in blocks:
                yield self.dispatch(block.decode())
            if budget <= 0:
                return

    def dispatch(self, block: str) -> Event:
        """Apply one event as the page's script does."""
        fields = dict(line.split(":", 1) for line in block.split("\n"))
        self.last_event_id = fields.get("id", self.last_event_id).strip()
        event = Event(self.last_event_id, fields.get("event", "message").strip(), json.loads(fields["data"]))
        if event.kind == "reset":
            self.table.clear()
        else:
            for change in event.data:
                if change["removed"]:
                    self.table.pop(change["key"], None)
                else:
                    self.table[change["key"]] = change["value"]
        self.events.append(event)
        return event


def close_hard(response: httpx.Response) -> None:
    """Make the close that follows abrupt: TCP's reset instead of its goodbye."""
    connection: socket.socket = response.extensions["network_stream"].get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def write(address: str, bridge: ChronoMap[str, Any], seed: random.Random) -> None:
    """Some hundred commits, over HTTP and from this thread; the last one says so."""
    with httpx.Client(base_url=address, timeout=10) as client:
        for number in range(400):
            keys = [f"key{seed.randrange(30)}" for _ in range(seed.randrange(1, 5))]
            match seed.randrange(6):
                case 0 | 1:
                    assert client.put(f"/items/{keys[0]}", json={"number": number}).is_success
                case 2:
                    assert client.delete(f"/items/{keys[0]}").status_code in {204, 404}
                case 3:
                    bridge.put_many(dict.fromkeys(keys, number))
                case 4:
                    with bridge.transaction() as transaction:
                        transaction.put(keys[0], "ä\n\n" * (number % 20))
                        transaction.delete(keys[-1])
                case _:
                    bridge.delete(keys[0])
        assert client.put("/items/end", json="end").is_success


def told(bridge: ChronoMap[str, Any], since: int) -> dict[int, list[dict[str, Any]]]:
    """What a page has to be told of every commit after a revision, from the history itself."""
    commits: dict[int, list[dict[str, Any]]] = {}
    for change in bridge.replay(since):
        commits.setdefault(change.revision, []).append(
            {
                "key": change.key,
                "kind": change.kind,
                "value": change.value,
                "removed": change.removed,
                "present": change.present,
            }
        )
    return commits


def test_cut_off(create_app: Callable[[Map], Any], seed: random.Random) -> None:
    """However often and wherever the connection breaks, every commit arrives once, whole, in order, under its revision."""
    cm = Watched()
    with Service(lambda: create_app(cm)) as address, httpx.Client(base_url=address, timeout=10) as client:
        bridge = cm.bridge()
        bridge.put_many({f"old{number}": number for number in range(300)})  # more than one event of what is present
        writer = threading.Thread(target=write, args=(address, bridge, random.Random(seed.random())))
        writer.start()
        browser, cuts = Browser(client), 0
        try:
            while "end" not in browser.table:
                budget = seed.randrange(2 ** seed.randrange(3, 12 if browser.last_event_id else 17))
                with browser.connect() as response:
                    if seed.random() < 0.5:
                        close_hard(response)
                    for _ in browser.read(response, budget):
                        if "end" in browser.table:
                            break
                cuts += 1
        finally:
            writer.join()
        print(f"{cuts} connections, {len(browser.events)} events")
        assert browser.table == bridge.latest()
        assert cuts > 30

        numbered = [event for event in browser.events if event.id]
        ids = [int(event.id) for event in numbered]
        assert ids == list(range(ids[0], bridge.revision + 1))
        assert {int(event.id): event.data for event in numbered[1:]} == told(bridge, ids[0])
        first = browser.events.index(numbered[0])
        assert all(event.kind == "message" for event in browser.events[first:])
        assert browser.events[0].kind == "reset"
    assert len(cm.streams) == cuts
    assert all(stream._closed for stream in cm.streams)
    assert {event.id for event in browser.events[:first]} <= {""}


@pytest.mark.parametrize("last", ["99999", "1", "yesterday", "-1"], ids=["future", "fallen out", "no number", "negative"])
def test_reset(create_app: Callable[[Map], Any], last: str) -> None:
    """An id that nothing can follow is answered with a reset, the present, and what comes then."""
    cm = Map(feed_retention=8)
    with Service(lambda: create_app(cm)) as address, httpx.Client(base_url=address, timeout=10) as client:
        bridge = cm.bridge()
        bridge.put("lamp", "on")
        for number in range(3_000):
            bridge.put("counter", number)
        browser = Browser(client, last, table={"gone": True})
        with browser.connect() as response:
            stream = browser.read(response)
            assert next(stream) == Event("", "reset", {})
            present = next(stream)
            assert (present.id, {change["kind"] for change in present.data}) == ("3001", {"initial"})
            assert browser.table == {"lamp": "on", "counter": 2_999}
            assert client.delete("/items/lamp").status_code == 204
            assert next(stream).id == "3002"
            assert browser.table == {"counter": 2_999}


def test_slow_reader(create_app: Callable[[Map], Any]) -> None:
    """Who does not read until the feed has moved on gets a reset in the middle, and then the present under a later id."""
    cm = Map(feed_retention=8)
    with Service(lambda: create_app(cm)) as address, httpx.Client(base_url=address, timeout=10) as client:
        bridge = cm.bridge()
        browser = Browser(client)
        with browser.connect() as response:
            stream = browser.read(response)
            assert next(stream).kind == "reset"
            for _ in range(64):
                bridge.put("big", "x" * 500_000)  # more than what sockets buffer
            for number in range(2_000):
                bridge.put("counter", number)
            bridge.put("end", "end")
            for _ in stream:
                if "end" in browser.table:
                    break
            assert browser.table == bridge.latest()
        assert [event.kind for event in browser.events].count("reset") == 2
        ids = [int(event.id) for event in browser.events if event.id]
        assert ids == sorted(set(ids))
        assert ids[-1] == bridge.revision


def test_writes(create_app: Callable[[Map], Any]) -> None:
    """The page is there; what is not JSON for a browser is refused, and what is missing is not deleted."""
    with Service(lambda: create_app(Map())) as address, httpx.Client(base_url=address, timeout=10) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert 'new EventSource("/changes")' in page.text
        for body in (b"{", b"NaN", b"[1e999]", b"\xff"):
            assert client.put("/items/lamp", content=body).status_code == 400
        assert client.put("/items/lamp", content=b"null").json() == {"revision": 1}
        assert client.delete("/items/lamp").status_code == 204
        assert client.delete("/items/lamp").status_code == 404
