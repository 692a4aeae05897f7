"""The sample partners' day through the stages, with folders in the place of their servers and one destination."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from infra.dev.partners import Day, generate
from tasks import work
from tasks.deliver.drain import drain
from tasks.destinations import open_destination
from tasks.dispatch.records import Records
from tasks.feed import load
from tasks.gate.gate import decide
from tasks.ledger import claims
from tasks.ledger.db import connect
from tasks.process.land import Lander
from tasks.process.stage import Stager
from tasks.publish.retract import due, retract
from tasks.publish.store import publish
from tasks.publish.tables import refresh
from tasks.settings import PACKAGED_FEEDS

DOWN = "kind: fhir\nbase_url: http://127.0.0.1:9/fhir\nbackoff: 0.01\nattempts: 1\n"


@lru_cache
def _day() -> Day:
    return generate(1, date(2026, 3, 9))


class WholeDay:
    """Feeds like the packaged ones, whose files lie in folders; everything goes to `clinic`."""

    def __init__(self, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url, self.folder = url, folder
        self.day = _day()
        self.feeds: list[str] = []
        for name in ("feeds", "drop", "destinations"):
            (folder / name).mkdir()
        for path in sorted(PACKAGED_FEEDS.glob("*.yaml")):
            feed = yaml.safe_load(path.read_text())
            feed["source"] = {
                "kind": "directory",
                "connection": "drop",
                "path": path.stem,
                "ready": {"stable_polls": 1},
            }
            feed["source"]["match"] = "**/*"
            feed["route"] = [{"to": ["warehouse", "clinic"]}]
            del feed["checks"], feed["schedule"]
            (folder / "feeds" / path.name).write_text(yaml.safe_dump(feed))
            (folder / "drop" / path.stem).mkdir()
            self.feeds.append(path.stem)
        monkeypatch.setenv("SLUICE_FEEDS", str(folder / "feeds"))
        monkeypatch.setenv("SLUICE_DESTINATIONS", str(folder / "destinations"))
        monkeypatch.setenv("SLUICE_CONNECTION_DROP", json.dumps({"root": str(folder / "drop")}))
        work.pipeline.cache_clear()

    def destination(self, text: str) -> None:
        (self.folder / "destinations" / "clinic.yaml").write_text(text)

    def drop(self, files: int | None = None) -> None:
        """Put the first files of each partner into their folders, or all of them."""
        county = "".join(json.dumps(one, default=str) + "\n" for one in self.day.county[: files and 200])
        self._write("county.registry", [("all.ndjson", county.encode())])
        self._write("northside.hl7", [(one.name, one.data) for one in self.day.northside[:files]])
        for feed in ("results", "roster"):
            mine = [(one.name, one.data) for one in self.day.eastlab if one.name.startswith(feed)]
            self._write(f"eastlab.{feed}", mine[: files and 1])

    def run(self) -> None:
        """Take everything that was dropped into the store."""
        for name in self.feeds:
            with claims.claim(self.url, f"feed:{name}", "run", 60) as token, connect(self.url) as connection:
                feed = load(name)
                Lander(connection, feed, work.source(feed), work.landing(), token, "run").land()
                stager = Stager(feed, work.landing(), work.pipeline(name))
                with connect(self.url) as writer:
                    while (staged := stager.stage(connection, writer, token, 2000, "run")).read:
                        if staged.batch_id is not None and decide(connection, feed, staged.batch_id, token)["passed"]:
                            publish(connection, staged.batch_id, token, refresh, "run")
                for delivery in due(connection, feed):
                    retract(connection, feed, delivery, token, refresh=refresh)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def store(self) -> dict[str, dict[str, Any]]:
        """The current resources by key, without those that are deleted."""
        rows = self.rows("select resource_type || '/' || id, resource from fhir.resource where not deleted")
        return dict(rows)

    def _write(self, feed: str, files: Iterable[tuple[str, bytes]]) -> None:
        for name, data in files:
            path = self.folder / "drop" / feed / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def deliver(day: WholeDay, *, now: bool = True) -> Counter[str]:
    """Drain as the flow does, once; return counts by status."""
    with connect(day.url) as connection:
        if now:
            connection.execute("update ledger.destination set paused_until = null")
        destination = open_destination("clinic")
        try:
            return drain(connection, "clinic", destination, Records(connection))
        finally:
            destination.close()


def held(base: str, kinds: Iterable[str]) -> Counter[str]:
    """How many resources of each type the server counts."""
    with httpx.Client(base_url=base, timeout=60) as http:
        return Counter({kind: http.get(f"/{kind}?_summary=count&_total=accurate").json()["total"] for kind in kinds})
