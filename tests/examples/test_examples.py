"""Every example runs as it stands, quickly and without a warning, and shows what its docstring promises."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service import Service

EXAMPLES = Path(__file__).parents[2] / "examples"

SHOWN = {
    "config_rollout": [
        "Monday: 0 %",
        "Wednesday will be: 50 %",
        "Tuesday: 10 %",
        "Friday: 50 %",
        "rolled back: {'checkout.new': 0, 'checkout.timeout': 30}",
        "on Wednesday it was: 50 %",
        "and forward again: {'checkout.new': 50, 'checkout.timeout': 30}",
    ],
    "sessions": [
        "present: ['session:a', 'session:b']",
        "hook: session:b of bob ended",
        "present: ['session:a']",
        "bob's session: not logged in",
        "alice's cart: ['book']",
        "versions of bob's session: ['value', 'tombstone']",
        "after erasing: []",
        "hook: session:a of alice ended",
        "present: []",
    ],
    "metrics": [
        "room 1, minutes 10 to 13: [22.0, 22.1, 22.2, 22.3]",
        "mean of the newest: 27.9",
        "mean at minute 10: 23.0",
        "room 3 at minute 10: 21.5, corrected from 24.0",
        "kept: [26.5, 26.6, 26.7, 26.8, 26.9]",
        "minute 10 is gone; oldest readable: 3300 s",
    ],
    "audit_trail": [
        "bob: eve 4000 -> 4400 as of 2024-05-01",
        "  2024-05-01  revision 3  4400",
        "  2024-07-01  revision 2  4400",
        "in June it was 4400",
        "in June we paid by what we knew at revision 2: 4000",
        "after undo: {'eve': 4400, 'kim': 4100}",
        "not undone: ('kim',) changed since, at revision 8",
    ],
    "web_app": [
        "a second writer with the same ETag: 412",
        "lamp: on",
        "from a thread: 2 items",
        "id: 2",
        "id: 3",
    ],
    "live_page": [
        "connected with Last-Event-ID None",
        "  id: reset",
        "  id 2: lamp=on door=shut",
        "connected with Last-Event-ID 2",
        "  id 3: lamp=dimmed door=open",
        "  id 4: lamp=None",
        "connected with Last-Event-ID 99",
        "  id: reset",
        "  id 4: door=open",
    ],
}


def test_every_example_is_tested() -> None:
    """A new example needs an entry here."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SHOWN.keys()


@pytest.mark.parametrize("name", SHOWN)
def test_output(name: str) -> None:
    """The example prints these lines, in this order, and nothing to stderr."""
    run = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    lines = iter(run.stdout.splitlines())
    for expected in SHOWN[name]:
        assert expected in lines, run.stdout


@pytest.fixture(scope="module")
def create_app() -> Callable[[], Any]:
    """The example's factory."""
    factory: Callable[[], Any] = runpy.run_path(str(EXAMPLES / "web_app.py"))["create_app"]
    return factory


@pytest.fixture
def client(create_app: Callable[[], Any]) -> Iterator[httpx.Client]:
    """A client of a fresh service."""
    with Service(create_app) as address, httpx.Client(base_url=address, timeout=10) as client:
        yield client


def events(response: httpx.Response) -> Iterator[dict[str, str]]:
    """The server-sent events of a response; comments as ``{"": text}``."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name.removesuffix(":")] = value
        elif fields:
            yield fields
            fields = {}


def test_items(client: httpx.Client) -> None:
    """Values are stored, read now and in the past, replaced only by who knows the newest version, and deleted."""
    assert client.get("/items/lamp").status_code == 404
    first = client.put("/items/lamp", json={"on": False})
    assert first.json() == {"revision": 1}
    assert client.put("/items/lamp", json={"on": True}, headers={"If-Match": first.headers["etag"]}).is_success
    assert client.put("/items/lamp", json={"on": 0}, headers={"If-Match": first.headers["etag"]}).status_code == 412
    now = client.get("/items/lamp")
    assert (now.json(), now.headers["etag"]) == ({"on": True}, '"2"')
    assert client.get("/items/lamp", params={"timestamp": "2000-01-01"}).status_code == 404
    assert client.get("/items/lamp", params={"timestamp": "yesterday"}).status_code == 400
    assert client.put("/items/lamp", content=b"{").status_code == 400
    assert client.delete("/items/lamp").status_code == 204
    assert client.delete("/items/lamp").status_code == 404


def test_sync_endpoint(client: httpx.Client) -> None:
    """A plain endpoint, in a thread, sees what the async ones wrote."""
    client.put("/items/lamp", json="on")
    client.put("/items/door", json="shut")
    report = client.get("/report").json()
    assert (report["items"], report["revision"]) == (2, 2)
    assert [key for key, _, _ in report["newest"]] == ["door", "lamp"]


def test_live_changes(client: httpx.Client) -> None:
    """An event arrives while its stream is open; only the asked prefix; a disconnect disturbs nobody."""
    with client.stream("GET", "/changes", params={"prefix": "lamp"}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = events(response)
        assert next(stream) == {"": "connected"}
        client.put("/items/door", json="shut")
        client.put("/items/lamp", json="on")
        change = next(stream)
        assert (change["id"], change["event"]) == ("2", "put")
        assert json.loads(change["data"])["value"] == "on"
        client.delete("/items/lamp")
        assert json.loads(next(stream)["data"])["removed"] is True
    assert client.get("/report").json()["revision"] == 3


def test_resume(client: httpx.Client) -> None:
    """Who reconnects with the last id gets exactly what came after it."""
    for number in range(5):
        client.put("/items/lamp", json=number)
    with client.stream("GET", "/changes", headers={"Last-Event-ID": "2"}) as response:
        stream = events(response)
        next(stream)
        found = [next(stream) for _ in range(3)]
    assert [event["id"] for event in found] == ["3", "4", "5"]
    assert [json.loads(event["data"])["value"] for event in found] == [2, 3, 4]


def test_resume_after_restart(client: httpx.Client) -> None:
    """An id that this server never gave is answered with a reset and the present."""
    client.put("/items/lamp", json="on")
    with client.stream("GET", "/changes", headers={"Last-Event-ID": "99"}) as response:
        stream = events(response)
        next(stream)
        assert next(stream)["event"] == "reset"
        present = next(stream)
    assert (present["id"], present["event"]) == ("1", "initial")
