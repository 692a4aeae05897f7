"""Two development FHIR servers, and the stages that exchange between them, called as the flow calls them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tasks import work
from tasks.deliver.drain import drain
from tasks.destinations import open_destination
from tasks.feed import load
from tasks.ledger import claims, counts
from tasks.ledger.db import connect
from tasks.process.land import Lander
from tasks.process.stage import Stager
from tasks.publish.store import publish
from tasks.publish.tables import refresh
from tests.serving import FhirServer


class System(FhirServer):
    """A health system's FHIR server, and what its own people do there."""

    def __init__(self, database: str) -> None:
        super().__init__(database)
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def put(self, resource: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.is_success, answer.text
        return dict(answer.json())

    def delete(self, key: str) -> None:
        assert self.http.delete(f"/{key}").is_success

    def get(self, key: str) -> dict[str, Any]:
        return dict(self.http.get(f"/{key}").raise_for_status().json())

    def all(self, kind: str) -> list[dict[str, Any]]:
        found = self.http.get(f"/{kind}?_count=1000&_sort=_lastUpdated").raise_for_status().json()
        return [entry["resource"] for entry in found.get("entry", ())]

    def versions(self) -> int:
        """How many versions of anything there are: it stands still when the system is at rest."""
        return int(self.http.get("/_history?_count=0").raise_for_status().json()["total"])

    def stop(self) -> None:
        self.http.close()
        super().stop()


@dataclass
class Exchange:
    """Feeds between systems."""

    url: str
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    systems: dict[str, System] = field(default_factory=dict)

    def feed(self, name: str, source: str, rest: str = "") -> None:
        text = (
            f"source: {{kind: fhir-rest, connection: {name.partition('.')[0]}, attempts: 2, backoff: 0.01, {source}}}\n"
        )
        (self.folder / f"{name}.yaml").write_text(text + "format: fhir-bundle\n" + rest)
        work.pipeline.cache_clear()

    def add(self, name: str, system: System, **more: str) -> System:
        """Make a system known as a connection and as a destination."""
        self.systems[name] = system
        values = json.dumps({"base_url": system.url, **more})
        self.monkeypatch.setenv(f"SLUICE_CONNECTION_{name.upper()}", values)
        text = f"kind: fhir\nconnection: {name}\nbackoff: 0.01\n"
        (self.folder.parent / "destinations" / f"{name}.yaml").write_text(text)
        return system

    def poll(self, name: str) -> dict[str, int]:
        """Land, stage and publish what a feed's source has; return what was landed."""
        feed = load(name)
        stager = Stager(feed, work.landing(), work.pipeline(name))
        source = work.source(feed)
        with (
            claims.claim(self.url, f"feed:{name}", "run", 60) as token,
            connect(self.url) as one,
            connect(self.url) as two,
        ):
            try:
                landed = dict(Lander(one, feed, source, work.landing(), token, "run").land())
            finally:
                source.close()
            while (staged := stager.stage(one, two, token, 10_000, "run")).read:
                if staged.batch_id is not None:
                    publish(two, staged.batch_id, token, refresh, "run")
        return landed

    def deliver(self, name: str) -> dict[str, int]:
        destination = open_destination(name)
        try:
            with connect(self.url) as connection:
                return dict(drain(connection, name, destination))
        finally:
            destination.close()

    def round(self) -> None:
        """Every feed once and every destination once."""
        for path in sorted(self.folder.glob("*.yaml")):
            self.poll(path.stem)
            for destination in load(path.stem).destinations:
                self.deliver(destination)

    def counts(self, feed: str | None = None) -> dict[str, int]:
        with connect(self.url) as connection:
            return counts.total(counts.of_feed(connection, feed))

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode(), params).fetchall()


@pytest.fixture
def system(postgres_url: str) -> Iterator[Callable[[], System]]:
    running: list[System] = []

    def start() -> System:
        running.append(System(postgres_url))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def exchange(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exchange:
    for name in ("feeds", "destinations"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path / "feeds"))
    monkeypatch.setenv("SLUICE_DESTINATIONS", str(tmp_path / "destinations"))
    return Exchange(warehouse_url, tmp_path / "feeds", monkeypatch)
