"""What all tests share: one embedded Postgres a session, a migrated warehouse of its own for each test that asks."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from xdist.scheduler import LoadScopeScheduling

from infra.dev.scratch import scratch_postgres

TEMPLATE = "sluice_template"
STACK = "tests/e2e/"


class ByFile(LoadScopeScheduling):
    """Gives a file's tests to one worker, those of the running stack all to the same one.

    Every worker that got one of these would start a stack and its demo of its own.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Let the tests be given to workers as above."""
    return ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the running stack: it takes longest, and may wait on a busy machine."""
    items.sort(key=lambda item: _scope(item.nodeid) != STACK)
    for item in items:
        if _scope(item.nodeid) == STACK:
            item.add_marker(pytest.mark.timeout(1800))


def _scope(nodeid: str) -> str:
    return STACK if nodeid.startswith(STACK) else nodeid.partition("::")[0]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The superuser's URL of an embedded Postgres that lives as long as the session.

    `SLUICE_TEST_POSTGRES_URL` names another one, to see the tests pass on an older version: databases are made in it.
    """
    if own := os.environ.get("SLUICE_TEST_POSTGRES_URL"):
        yield own
    else:
        with scratch_postgres(durable=False) as url:
            yield url


@pytest.fixture(scope="session")
def warehouse_template(postgres_url: str) -> str:
    """The name of a database with the newest schema and empty tables."""
    from infra.migrations import upgrade
    from tasks.ledger.db import connect
    from tasks.publish.tables import apply

    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"create database {TEMPLATE}")
    url = _database(postgres_url, TEMPLATE)
    upgrade(url)
    with connect(url) as connection:
        apply(connection)
    return TEMPLATE


@pytest.fixture
def warehouse_url(
    postgres_url: str, warehouse_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A fresh warehouse that the settings point to, with a landing folder and key of the test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"create database {name} template {warehouse_template}")
    url = _database(postgres_url, name)
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLUICE_WAREHOUSE_URL", url)
    monkeypatch.setenv("SLUICE_LANDING_KEY", "test:" + base64.b64encode(b"k" * 32).decode())
    yield url
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"drop database {name} with (force)")


def _database(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"
