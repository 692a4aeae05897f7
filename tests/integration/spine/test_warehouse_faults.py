"""The warehouse fails in the middle of a publication: nothing half-published, and the next run ends it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from infra.dev import postgres
from infra.dev.scratch import _wait
from infra.migrations import upgrade
from tasks.errors import SluiceError, Transient
from tasks.ledger import batches, claims
from tasks.ledger.db import connect
from tasks.publish.store import publish
from tasks.publish.tables import apply, refresh

COUNTED = "select (select count(*) from fhir.resource), (select count(*) from core.patient)"


@pytest.fixture
def staged(site, adt) -> int:
    """A batch of three records that is staged and not published."""
    site.write("day.hl7", *(adt(mrn=str(number), control=f"c{number}") for number in range(3)))
    with claims.claim(site.url, f"feed:{site.feed}", "run", 60) as token:
        site.land(token)
        batch = site.stage(token).batch_id
    assert batch is not None
    return batch


def publish_with(site, batch: int, meanwhile, *, setting: str = "") -> None:
    """Publish, with something that happens when everything but the commit is done."""

    def hook(connection, changed):
        refresh(connection, changed)
        meanwhile(connection)

    with claims.claim(site.url, f"feed:{site.feed}", "run", 60) as token, connect(site.url) as connection:
        if setting:
            connection.execute(setting.encode())
        publish(connection, batch, token, hook, "run")


def ends_well(site) -> None:
    """The next run publishes everything, once."""
    counts = site.run()
    assert (counts["published"], counts["in_flight"]) == (3, 0)
    assert site.rows("select count(*), max(version_id) from fhir.resource where resource_type = 'Patient'") == [(3, 1)]
    assert site.rows("select * from ops.invariant") == []
    with connect(site.url) as connection:
        assert batches.open_batches(connection, site.feed) == []


def test_a_deadlock_rolls_the_publication_back_and_is_tried_again(site, staged):
    locked, ended = threading.Event(), threading.Event()

    def other() -> None:
        with psycopg.connect(site.url, options="-c deadlock_timeout=60s") as connection:
            connection.execute("select from ledger.delivery for update")
            locked.set()
            connection.execute("select from ledger.batch for update")
        ended.set()

    def meanwhile(connection) -> None:
        thread.start()
        locked.wait(60)
        connection.execute("update ledger.delivery set run_id = run_id")

    thread = threading.Thread(target=other)
    with pytest.raises(Transient, match="40P01"):
        publish_with(site, staged, meanwhile, setting="set deadlock_timeout = '50ms'")
    thread.join(60)
    assert ended.is_set()
    assert site.rows(COUNTED) == [(0, 0)]
    ends_well(site)


def test_a_connection_that_postgres_ends_leaves_nothing_behind(site, staged):
    def meanwhile(connection) -> None:
        pid = connection.info.backend_pid
        site.rows("select pg_terminate_backend(%s, 10000)", pid)
        connection.execute("select 1")

    with pytest.raises(Transient):
        publish_with(site, staged, meanwhile)
    assert site.rows(COUNTED) == [(0, 0)]
    ends_well(site)


def test_no_connection_left_is_told_and_the_next_run_goes_on(site, staged, monkeypatch):
    postgres.ensure_login(site.url, "loader_of_few", "few", "sluice_loader")
    owner = site.url
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("alter role loader_of_few connection limit 1")
    few = make_url(owner).set(username="loader_of_few", password="few").render_as_string(hide_password=False)
    monkeypatch.setenv("SLUICE_WAREHOUSE_URL", few)
    site.url = few
    with pytest.raises(Transient, match="nothing was committed"):
        site.run()
    site.url = owner
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("alter role loader_of_few connection limit -1")
    assert site.rows(COUNTED) == [(0, 0)]
    site.url = few
    ends_well(site)


def test_a_resource_with_ten_thousand_components_has_as_many_rows(site):
    site.configure("source: {kind: directory, connection: drop, ready: {stable_polls: 1}}\nformat: fhir-ndjson\n")
    code = {"coding": [{"system": "http://loinc.org", "code": "2339-0"}]}
    component = {
        "code": code,
        "valueQuantity": {"value": 5.10, "system": "http://unitsofmeasure.org", "code": "mmol/L"},
    }
    large = {"resourceType": "Observation", "id": "o1", "status": "final", "code": code}
    large["component"] = [component] * 10_000
    site.write("large.ndjson", json.dumps(large) + "\n")
    assert site.run()["published"] == 1
    assert site.rows("select count(*), count(distinct ordinal) from core.observation_component") == [(10_000, 10_000)]
    assert site.rows("select component_count from core.observation") == [(10_000,)]


class Server:
    """A Postgres of a test's own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "data"
        self.password = secrets.token_urlsafe(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        postgres.prepare(self.folder, self.password)
        self.url = postgres.url(self.port, self.password, "postgres")
        self.start()

    def start(self) -> None:
        user = postgres.system_user()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = postgres.command(self.folder, self.port)
        self.process = subprocess.Popen(command, user=user, group=user, cwd="/", **quiet)
        _wait(self.process, self.url)

    def kill(self) -> None:
        """End it as a power cut would: no checkpoint, unlogged tables are empty afterwards."""
        self.process.send_signal(3)
        self.process.wait(60)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def own_server(site, folder: Path, monkeypatch) -> Iterator[Server]:
    server = Server(folder)
    try:
        upgrade(server.url)
        with connect(server.url) as connection:
            apply(connection)
        monkeypatch.setenv("SLUICE_WAREHOUSE_URL", server.url)
        site.url = server.url
        yield server
    finally:
        server.stop()


@pytest.mark.slow
def test_a_warehouse_that_restarts_in_the_middle_of_a_load_has_all_of_it_after_the_next_run(
    site, adt, tmp_path_factory, monkeypatch
):
    with own_server(site, tmp_path_factory.mktemp("pg"), monkeypatch) as server:
        site.write("day.hl7", *(adt(mrn=str(number), control=f"c{number}") for number in range(3)))
        with claims.claim(site.url, f"feed:{site.feed}", "run", 60) as token:
            site.land(token)
            batch = site.stage(token).batch_id

        def meanwhile(connection) -> None:
            server.kill()
            server.start()
            connection.execute("select 1")

        with pytest.raises(SluiceError):
            publish_with(site, batch, meanwhile)
        assert site.rows(COUNTED) == [(0, 0)]
        assert site.rows("select count(*) from staging.resource") == [(0,)], "staging is unlogged"
        ends_well(site)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted, which root alone may")
def test_a_full_disk_stops_the_load_and_nothing_is_lost_when_there_is_room_again(
    site, adt, tmp_path_factory, monkeypatch
):
    folder = tmp_path_factory.mktemp("small")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    folder.chmod(0o755)
    try:
        with own_server(site, folder, monkeypatch) as server:
            site.write("day.hl7", *(adt(mrn=str(number), control=f"c{number}") for number in range(3)))
            with claims.claim(site.url, f"feed:{site.feed}", "run", 60) as token:
                site.land(token)
                batch = site.stage(token).batch_id

            def meanwhile(connection) -> None:
                connection.execute(
                    "create unlogged table filler as select repeat('x', 1000) from generate_series(1, 1000000)"
                )

            with pytest.raises(Transient):
                publish_with(site, batch, meanwhile)
            if server.process.poll() is not None:
                server.start()
            _wait(server.process, server.url)
            assert site.rows(COUNTED) == [(0, 0)]
            ends_well(site)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
