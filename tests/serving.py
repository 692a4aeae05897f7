"""Development servers on real sockets, each in a thread of the test's process."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from infra.dev.fhir import create_app
from infra.dev.fhir.faults import Faults


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve `app` on a port of the system's choice; yields its base URL."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, access_log=False, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


class FhirServer:
    """A development FHIR server with a schema of its own at `url`; `faults` may be added while it runs."""

    def __init__(self, database: str, **options: Any) -> None:
        self.faults = Faults()
        self._serving = serving(create_app(database, f"fhir_{uuid.uuid4().hex[:12]}", faults=self.faults, **options))
        self.url = self._serving.__enter__()

    def stop(self) -> None:
        self._serving.__exit__(None, None, None)
