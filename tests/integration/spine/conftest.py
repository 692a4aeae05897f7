"""A site with one feed: a drop folder, a warehouse, and the stages called as the flow calls them, without Prefect."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deployments.doctor import CHECKS
from infra.chaos.picture import Picture, of_warehouse
from tasks import work
from tasks.feed import load
from tasks.gate.gate import decide
from tasks.ledger import audit, batches, claims, counts
from tasks.ledger.counts import OUTCOMES
from tasks.ledger.db import connect
from tasks.process.land import Lander
from tasks.process.stage import Staged, Stager
from tasks.publish.retract import due, retract
from tasks.publish.store import Published, publish
from tasks.publish.tables import refresh
from tasks.settings import state_folder

FEED = """
source: {kind: directory, connection: drop, ready: {stable_polls: 1}}
format: hl7v2
timezone: America/New_York
"""


@dataclass
class Site:
    """One feed and its partner's drop folder."""

    url: str
    drop: Path
    feeds: Path
    feed: str = "northside.adt"

    def write(self, name: str, *messages: str) -> None:
        """Let the partner drop messages as one file."""
        (self.drop / name).write_text("".join(messages), newline="")

    def configure(self, text: str) -> None:
        """Write the feed's file."""
        (self.feeds / f"{self.feed}.yaml").write_text(text)
        work.pipeline.cache_clear()

    def land(self, token: int) -> dict[str, int]:
        feed = load(self.feed)
        with connect(self.url) as connection:
            return dict(Lander(connection, feed, work.source(feed), work.landing(), token, "run").land())

    def stage(self, token: int, limit: int = 10_000) -> Staged:
        stager = Stager(load(self.feed), work.landing(), work.pipeline(self.feed))
        with connect(self.url) as reader, connect(self.url) as writer:
            return stager.stage(reader, writer, token, limit, "run")

    def restore(self, batch: int, token: int) -> bool:
        stager = Stager(load(self.feed), work.landing(), work.pipeline(self.feed))
        with connect(self.url) as reader, connect(self.url) as writer:
            return stager.restore(reader, writer, batch, token)

    def gate(self, batch: int, token: int) -> bool:
        """Let the gate decide; say whether the batch passed."""
        with connect(self.url) as connection:
            return bool(decide(connection, load(self.feed), batch, token)["passed"])

    def publish(self, batch: int, token: int) -> Published:
        with connect(self.url) as connection:
            return publish(connection, batch, token, refresh, "run")

    def run(self, limit: int = 10_000) -> dict[str, int]:
        """Do what the flow does until nothing is left; return the counts of all deliveries."""
        with claims.claim(self.url, f"feed:{self.feed}", "run", 60) as token:
            self.land(token)
            with connect(self.url) as connection:
                left = batches.open_batches(connection, self.feed)
            for batch in left:
                self.restore(batch, token)
                if self.gate(batch, token):
                    self.publish(batch, token)
            while (staged := self.stage(token, limit)).read:
                if staged.batch_id is not None and self.gate(staged.batch_id, token):
                    self.publish(staged.batch_id, token)
            with connect(self.url) as connection:
                left = batches.open_batches(connection, self.feed)
            for batch in left:
                if self.gate(batch, token):
                    self.publish(batch, token)
            with connect(self.url) as connection:
                feed = load(self.feed)
                for delivery in due(connection, feed):
                    retract(connection, feed, delivery, token, refresh=refresh)
        return self.counts()

    def counts(self) -> dict[str, int]:
        with connect(self.url) as connection:
            return counts.total(counts.of_feed(connection))

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode(), params).fetchall()

    def resources(self, kind: str) -> list[dict[str, Any]]:
        """The current resources of a type that are not deleted."""
        query = "select resource from fhir.resource where resource_type = %s and not deleted order by id"
        return [row[0] for row in self.rows(query, kind)]

    def state(self) -> list[tuple[Any, ...]]:
        """Everything that the store says now, whatever the way it came to it."""
        query = "select resource_type, id, deleted, resource::text from fhir.resource order by 1, 2"
        return self.rows(query)

    def picture(self, *but: str) -> Picture:
        """Everything that is compared with an undisturbed run, but what the test's own fault must change."""
        parts = of_warehouse(self.url)
        return Picture({name: facts for name, facts in parts.items() if name not in but})

    def empty(self) -> None:
        """Take everything back: the site is what it was before the first file."""
        tables = self.rows(
            "select string_agg(schemaname || '.' || quote_ident(tablename), ', ') from pg_tables where schemaname in "
            "('fhir', 'ledger', 'staging', 'core', 'restricted') and strpos(tablename, 'view') = 0"
        )
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("alter table ledger.audit disable trigger user")
            connection.execute(f"truncate {tables[0][0]} restart identity cascade".encode())
            connection.execute("alter table ledger.audit enable trigger user")
        shutil.rmtree(state_folder(), ignore_errors=True)
        for path in self.drop.iterdir():
            path.unlink()


@pytest.fixture
def site(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(warehouse_url, tmp_path / "drop", tmp_path / "feeds")
    made.drop.mkdir()
    made.feeds.mkdir()
    monkeypatch.setenv("SLUICE_FEEDS", str(made.feeds))
    monkeypatch.setenv("SLUICE_CONNECTION_DROP", json.dumps({"root": str(made.drop)}))
    made.configure(FEED)
    return made


@pytest.fixture
def sound(site: Site) -> Iterator[None]:
    """Hold the ledger's invariant at the end of a test, and that the audit trail is whole."""
    yield
    assert site.rows("select * from ops.invariant") == []
    counts = site.counts()
    assert counts["received"] == sum(counts[name] for name in OUTCOMES if name != "received")
    with connect(site.url) as connection:
        assert audit.verify(connection).problems == ()
    for name, query in CHECKS.items():
        assert site.rows(query) == [], name


Adt = Callable[..., str]


@pytest.fixture
def adt() -> Adt:
    """Write an ADT message."""
    return message


def message(
    trigger: str = "A01",
    *,
    when: str = "20260309100000-0500",
    mrn: str = "1001",
    family: str = "Okafor",
    phone: str = "",
    control: str = "",
    extra: tuple[str, ...] = (),
) -> str:
    structure = {"A40": "ADT_A39"}.get(trigger, "ADT_A01")
    segments = [
        f"MSH|^~\\&|ADT|NORTH|SLUICE|HUB|{when}||ADT^{trigger}^{structure}|{control or trigger + when + mrn}|P|2.5.1",
        f"EVN|{trigger}|{when}",
        f"PID|1||{mrn}^^^NORTHSIDE^MR||{family}^Ada||19800101|F|||||{phone}",
        f"PV1|1|I|W^1^1^NORTH|||||||||||||||||V{mrn}^^^NORTHSIDE^VN",
        *extra,
    ]
    return "\r".join(segments) + "\r"
