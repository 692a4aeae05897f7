"""One stack in a folder of its own, one `sluice demo` on it, and what all the tests of it ask."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from infra.dev.partners import Day, generate
from infra.dev.stack import PORTS, apart
from tasks.destinations import PACKAGED as PACKAGED_DESTINATIONS
from tasks.settings import PACKAGED_FEEDS, PROJECT
from tests.receiver import Receiver

OWN_FEED = """
source: {kind: directory, connection: drop, path: %s, ready: {stable_polls: 1}, after: leave}
format: hl7v2
timezone: America/New_York
identify: {patient: [MR@NORTHSIDE, PI]}
route: [{to: [warehouse%s]}]
"""
OWN_FEEDS = (
    ("killed", "killed", ""),
    ("calm", "killed", ""),
    ("retried", "retried", ", ehr"),
)
"""Feeds of the tests' own: name, folder below `drop`, where else it goes."""
ROUTED = """
source: {kind: directory, connection: drop, path: routed, ready: {stable_polls: 1}, after: leave}
format: hl7v2
timezone: America/New_York
identify: {patient: [MR@SOUTHGATE]}
enrich: [{translate: Observation.code, with: own-codes}]
route:
  - {when: "PV1-3.1 = TEST", drop: test ward}
  - {to: [warehouse, ehr, archive], go_on: true}
  - {when: "MSH-9.1 = ORU", to: [clinic]}
"""
"""A feed with conditions, a table and two destinations of its own."""
OWN_FILES = {
    "feeds/southgate.routed.yaml": ROUTED,
    "lookups/own-codes.yaml": "kind: csv\nfile: own-codes.csv\n",
    "lookups/own-codes.csv": "code,to_system,to_code,to_display\nGLU,http://loinc.org,2345-7,Glucose\n",
    "destinations/archive.yaml": "kind: directory\nconnection: given\npath: given\n",
    "destinations/clinic.yaml": "kind: mllp\nconnection: clinic\nheader: {receiving_facility: CLINIC}\n",
}
VERSIONS = """
select resource_type, id, version_id, deleted, encode(digest, 'hex') from fhir.resource where {0}
union all select resource_type, id, version_id, deleted, encode(digest, 'hex') from fhir.history where {0}
order by 1, 2, 3
"""


@dataclass
class Site:
    """A stack of the tests' own: its folder, its environment, its commands."""

    home: Path
    drop: Path
    env: dict[str, str] = field(repr=False)

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        """Start a command and do not wait for it."""
        return subprocess.Popen(
            [sys.executable, "-c", "from deployments.cli.main import main; main()", *args],
            cwd=PROJECT,
            env={**self.env, "PYTHONPATH": str(PROJECT), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sluice(self, *args: str, code: int = 0, **env: str) -> str:
        """Return what a command prints; fails where its exit code is another one or it shows a traceback."""
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=900)
        assert process.returncode == code, f"sluice {' '.join(args)}: exit code {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return out if code == 0 else out + err

    def facts(self, *args: str, **env: str) -> Any:
        """Return what a command prints as JSON."""
        return json.loads(self.sluice(*args, "--json", **env))

    def environment(self) -> dict[str, str]:
        """What the stack tells others about itself."""
        found: dict[str, str] = json.loads((self.home / "environment.json").read_text())
        return found

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Ask the warehouse, as its owner."""
        with psycopg.connect(self.environment()["SLUICE_WAREHOUSE_OWNER_URL"], autocommit=True) as connection:
            cursor = connection.execute(query.encode(), params or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *params: Any) -> Any:
        """Ask the warehouse for one value."""
        return self.rows(query, *params)[0][0]

    def versions(self, where: str = "true") -> list[tuple[Any, ...]]:
        """Every version of every resource of the store, with its digest."""
        return self.rows(VERSIONS.format(where))

    def server_versions(self) -> list[tuple[Any, ...]]:
        """How many resources and versions the destination's own database has, by type."""
        url = self.environment()["SLUICE_WAREHOUSE_OWNER_URL"].rpartition("/")[0] + "/fhir"
        query = "select type, count(distinct id), count(*), max(version) from ehr.version group by 1 order by 1"
        with psycopg.connect(url) as connection:
            return connection.execute(query.encode()).fetchall()

    def server_count(self, kind: str) -> int:
        """How many resources of a type the destination says it has."""
        base = json.loads(self.environment()["SLUICE_CONNECTION_EHR"])["base_url"]
        return int(httpx.get(f"{base}/{kind}", params={"_summary": "count"}, timeout=60).json()["total"])

    def report(self) -> Any:
        """What a `sluice demo` reports, and under `reaches` what of its store the server should have, by type.

        That is all of the demo's partners, and of the tests' own feeds what they sent there.
        """
        report = self.facts("demo")
        return {**report, "reaches": {kind: report["store"].get(kind, 0) - count for kind, count in self._held_back()}}

    def _held_back(self) -> list[tuple[str, int]]:
        return self.rows(
            """
            select resource_type, count(*) filter (where partner = 'southgate' and not exists (
                select from ledger.load_receipt l where l.destination = 'ehr' and l.status <> 'refused'
                    and l.resource_type = r.resource_type and l.resource_id = r.id))
            from fhir.resource r where not deleted group by 1
            """
        )

    def prefect(self, path: str, **body: Any) -> Any:
        """Call Prefect's API."""
        answer = httpx.post(f"{self.environment()['PREFECT_API_URL']}/{path}", json=body, timeout=60)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def everything(self, kind: str) -> list[Any]:
        """Every object of a kind that Prefect's API has, page by page."""
        found: list[Any] = []
        while page := self.prefect(f"{kind}/filter", limit=200, offset=len(found)):
            found += page
        return found

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this stack, found by its folder in environment or command line."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("SLUICE_HOME") == str(self.home)
                if (mine or str(self.home) in " ".join(process.cmdline())) and process.pid != os.getpid():
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue
        return found


def clean_environment() -> dict[str, str]:
    """The environment without what somebody else's stack put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SLUICE_", "PREFECT_"))}


def listening(port: int) -> bool:
    """Say whether anybody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def clinic() -> Iterator[Receiver]:
    """A hospital that is told by MLLP."""
    running = Receiver()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def site(clinic: Receiver) -> Iterator[Site]:
    """A running stack; after the last test it is ended, and nothing of it may be left but files.

    Its folder is not one of pytest's: every start of another pytest closes those to the user that Postgres runs as.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-site-") as folder:
        yield from _site(Path(folder), clinic)


def _site(folder: Path, clinic: Receiver) -> Iterator[Site]:
    drop, feeds, points = folder / "drop", folder / "feeds", folder / "failpoints"
    for part in (drop, feeds, points, drop / "routed", folder / "lookups", folder / "destinations"):
        part.mkdir()
    for name, text in OWN_FILES.items():
        (folder / name).write_text(text)
    for name, path, ehr in OWN_FEEDS:
        (drop / path).mkdir(exist_ok=True)
        (feeds / f"southgate.{name}.yaml").write_text(OWN_FEED % (path, ehr))
    env = {
        **clean_environment(),
        **apart(),
        "SLUICE_HOME": str(folder / "home"),
        "SLUICE_FEEDS": f"{PACKAGED_FEEDS}:{feeds}",
        "SLUICE_CONNECTION_DROP": json.dumps({"root": str(drop)}),
        "SLUICE_CONNECTION_GIVEN": json.dumps({"root": str(folder / "given")}),
        "SLUICE_CONNECTION_CLINIC": json.dumps({"host": "127.0.0.1", "port": str(clinic.port)}),
        "SLUICE_DESTINATIONS": f"{PACKAGED_DESTINATIONS}:{folder / 'destinations'}",
        "SLUICE_LOOKUPS": str(folder / "lookups"),
        "SLUICE_BATCH_RECORDS": "1500",
        "SLUICE_FAILPOINTS": str(points),
        "SLUICE_OPENLINEAGE": f"file:{folder / 'home' / 'openlineage.ndjson'}",
    }
    site = Site(folder / "home", drop, env)
    try:
        site.sluice("up")
        used = {one["port"] for one in json.loads((site.home / "stack.json").read_text()).values()} - {0}
        yield site
    finally:
        site.sluice("down")
        left = site.processes()
        for process in left:
            process.kill()
    assert not left, f"`sluice down` left {left}"
    assert len(used) == len(PORTS)
    assert not [port for port in used if listening(port)]
    sockets = [*Path("/tmp").glob(".s.PGSQL.*"), *site.home.rglob("*")]
    assert not [path for path in sockets if path.is_socket() and any(str(port) in path.name for port in used)]
    assert not [path for path in site.home.rglob("*") if path.is_socket()]
    assert not (site.home / "environment.json").exists()


@pytest.fixture(scope="session")
def day() -> Day:
    """The day that the sample partners have in `sluice demo`."""
    return generate(1, date(2026, 3, 9))


@pytest.fixture(scope="session")
def demo(site: Site) -> Any:
    """What `sluice demo` reports of its first day."""
    return site.report()


@pytest.fixture(scope="session")
def second(site: Site, demo: Any) -> dict[str, Any]:
    """What a second `sluice demo` reports, and the store and the server before and after it."""

    def both() -> list[Any]:
        return [site.versions(), site.server_versions()]

    before = both()
    report = site.report()
    return {"report": report, "before": before, "after": both()}


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Wait until something is true and return it."""
    import time

    def wait(ask: Callable[[], Any], seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := ask()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.1)
        return found

    return wait
