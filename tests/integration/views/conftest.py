"""A Postgres with a store of the shape that publishing fills."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from infra.dev.scratch import scratch_postgres
from tests.bench.views import STORE

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="session")
def views_url() -> Iterator[str]:
    with scratch_postgres() as url:
        yield url


@pytest.fixture
def store(views_url: str) -> Iterator[Connection]:
    with psycopg.connect(views_url, autocommit=True) as connection:
        connection.execute(b"DROP SCHEMA IF EXISTS fhir, core, ops, mart CASCADE")
        connection.execute(STORE.encode())
        yield connection
