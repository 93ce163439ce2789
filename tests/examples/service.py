"""A real server for the examples that are one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn


class Service:
    """A web app behind a real server in a thread, on a port that was free."""

    def __init__(self, create_app: Callable[[], Any]) -> None:
        config = uvicorn.Config(create_app(), port=0, ws="none", lifespan="on", log_config=None)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.001)  # uvicorn offers nothing to wait for
        host, port = self._server.servers[0].sockets[0].getsockname()
        return f"http://{host}:{port}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
