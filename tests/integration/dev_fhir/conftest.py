"""A development server on a real socket over a real Postgres; each test has a schema of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from infra.dev.fhir import create_app
from tests.serving import serving


@pytest.fixture(scope="session")
def database_url(postgres_url: str) -> str:
    return postgres_url


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
