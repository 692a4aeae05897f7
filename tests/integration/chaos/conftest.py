"""A site for chaos without an orchestrator: a drop folder, a warehouse, a FHIR server, receipts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from drops import FEEDS, Site, site_on

from infra.chaos.feeds import write
from infra.chaos.world import wait_for
from infra.dev.process import listens


@pytest.fixture(scope="session")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The feed files that all sites of a session share, as they share the processes that have compiled them."""
    return write(tmp_path_factory.mktemp("feeds"), FEEDS)


@pytest.fixture(scope="session")
def server(postgres_url: str) -> Iterator[tuple[str, str]]:
    """A FHIR server in a process of its own: the database that it keeps its resources in, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "infra.dev.fhir", "--database-url-env", "CHAOS_FHIR", "--schema", "ehr"]
    with subprocess.Popen(
        [*command, "--port", str(port)], env={**os.environ, "CHAOS_FHIR": postgres_url}, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert wait_for(lambda: listens(port), 120)
            yield postgres_url, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture
def sites(
    postgres_url: str, warehouse_template: str, tmp_path: Path, feeds: Path, server: tuple[str, str]
) -> Iterator[Callable[[str], Site]]:
    """Make sites, one after another: each has a warehouse of its own and empties the FHIR server that all share."""
    with ExitStack() as stack:

        def make(name: str) -> Site:
            database = f"chaos_{uuid.uuid4().hex[:12]}"
            with psycopg.connect(postgres_url, autocommit=True) as admin:
                admin.execute(f"create database {database} template {warehouse_template}")
                admin.execute("truncate ehr.version cascade")
            stack.callback(_drop, postgres_url, database)
            url = f"{postgres_url.rpartition('/')[0]}/{database}"
            site = site_on(tmp_path / name, url, feeds, server)
            stack.callback(site.close)
            return site

        yield make


def _drop(admin_url: str, database: str) -> None:
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"drop database {database} with (force)")
