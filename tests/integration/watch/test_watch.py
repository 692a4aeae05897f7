"""The watcher: a run is started when there is something to take, once, and never for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deployments.watch import Watcher, is_watched
from tasks import work
from tasks.errors import ConfigError
from tasks.feed import load
from tasks.ledger import claims
from tasks.ledger.db import connect
from tasks.process.land import Lander
from tasks.process.stage import Stager
from tasks.publish.store import publish
from tasks.publish.tables import refresh

MESSAGE = "MSH|^~\\&|A|B|C|D|20260309100000-0500||ADT^A01^ADT_A01|{}|P|2.5.1\rPID|1||{}^^^N^MR||Okafor^Ada\r"


class Site:
    """Two feeds of folders, a watcher over them, and runs as the flow makes them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.started: list[str] = []
        self.watcher: Watcher | None = None

    def feed(self, name: str, ready: int = 1, **more: str) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        source = f"{{kind: directory, connection: drop, path: {name}, ready: {{stable_polls: {ready}}}}}"
        text = f"source: {source}\nformat: hl7v2\ntimezone: UTC\n"
        text += "".join(f"{key}: {value}\n" for key, value in more.items())
        (self.folder / "feeds" / f"{name}.yaml").write_text(text)

    def drop(self, feed: str, number: int) -> None:
        (self.folder / feed / f"{number}.hl7").write_text(MESSAGE.format(number, number), newline="")

    def watch(self, *names: str, fail: bool = False) -> Watcher:
        def start(name: str) -> None:
            if fail:
                raise ConfigError("not deployed")
            self.started.append(name)

        self.watcher = Watcher([load(name) for name in names], self.url, start, every=0.0)
        return self.watcher

    def run(self, name: str, *, stage_only: bool = False) -> None:
        feed = load(name)
        with (
            claims.claim(self.url, f"feed:{name}", "run", 60) as token,
            connect(self.url) as one,
            connect(self.url) as two,
        ):
            Lander(one, feed, work.source(feed), work.landing(), token, "run").land()
            staged = Stager(feed, work.landing(), work.pipeline(name)).stage(one, two, token, 1000, "run")
            if staged.batch_id is not None and not stage_only:
                publish(two, staged.batch_id, token, refresh, "run")


@pytest.fixture
def site(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    (tmp_path / "feeds").mkdir()
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path / "feeds"))
    monkeypatch.setenv("SLUICE_CONNECTION_DROP", json.dumps({"root": str(tmp_path)}))
    made = Site(warehouse_url, tmp_path)
    made.feed("north.adt")
    made.feed("east.adt")
    work.pipeline.cache_clear()
    yield made
    if made.watcher:
        made.watcher.close()


def test_nothing_is_started_where_nothing_has_come(site: Site) -> None:
    watcher = site.watch("north.adt", "east.adt")
    assert [watcher.tick(wait=True) for _ in range(3)] == [[], [], []]


def test_what_has_come_starts_its_own_feed_once_and_is_not_landed_by_the_watcher(site: Site) -> None:
    watcher = site.watch("north.adt", "east.adt")
    site.drop("east.adt", 1)
    assert watcher.tick(wait=True) == ["east.adt"]
    assert [watcher.tick(wait=True) for _ in range(3)] == [[], [], []]
    with psycopg.connect(site.url) as connection:
        assert connection.execute("select from ledger.delivery").fetchall() == []


def test_after_a_run_the_next_file_starts_another_and_what_was_taken_does_not(site: Site) -> None:
    watcher = site.watch("north.adt")
    site.drop("north.adt", 1)
    assert watcher.tick(wait=True) == ["north.adt"]
    site.run("north.adt")
    assert watcher.tick(wait=True) == []
    site.drop("north.adt", 2)
    assert watcher.tick(wait=True) == ["north.adt"]


def test_while_a_run_is_at_work_none_is_started(site: Site) -> None:
    watcher = site.watch("north.adt")
    with claims.claim(site.url, "feed:north.adt", "run", 60):
        site.drop("north.adt", 1)
        assert watcher.tick(wait=True) == []
    assert watcher.tick(wait=True) == ["north.adt"]


def test_the_watchers_looks_count_until_a_file_is_stable(site: Site) -> None:
    site.feed("north.adt", ready=3)
    watcher = site.watch("north.adt")
    site.drop("north.adt", 1)
    assert [watcher.tick(wait=True) for _ in range(3)] == [[], [], ["north.adt"]]


def test_what_an_earlier_run_left_behind_starts_a_run(site: Site) -> None:
    watcher = site.watch("north.adt")
    site.drop("north.adt", 1)
    site.run("north.adt", stage_only=True)
    assert watcher.tick(wait=True) == ["north.adt"]


def test_a_source_that_fails_is_left_alone_for_a_while_and_holds_no_other(site: Site) -> None:
    watcher = site.watch("north.adt", "east.adt")
    (site.folder / "north.adt").rmdir()
    site.drop("east.adt", 1)
    assert watcher.tick(wait=True) == ["east.adt"]
    north = watcher.watched["north.adt"]
    assert north.failures == 1
    site.feed("north.adt")
    site.drop("north.adt", 1)
    north.due = 0.0
    assert watcher.tick(wait=True) == ["north.adt"]
    assert north.failures == 0


def test_a_feed_that_is_not_deployed_is_told_once_and_others_go_on(site: Site) -> None:
    watcher = site.watch("north.adt", fail=True)
    site.drop("north.adt", 1)
    assert watcher.tick(wait=True) == []
    assert watcher.watched["north.adt"].due > 0


def test_postgres_may_go_and_come(site: Site, postgres_url: str) -> None:
    watcher = site.watch("north.adt")
    watcher.tick(wait=True)
    name = site.url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
    assert watcher.tick(wait=True) == []
    site.drop("north.adt", 1)
    watcher.watched["north.adt"].due = 0.0
    assert watcher.tick(wait=True) == ["north.adt"]


def test_its_pages_say_that_it_looks_and_what_it_found(site: Site, postgres_url: str) -> None:
    import httpx

    from tasks.listen.health import Health

    watcher = site.watch("north.adt")
    pages = Health("127.0.0.1", 0, lambda: watcher.ready)
    with httpx.Client(base_url=f"http://127.0.0.1:{pages.port}", trust_env=False, timeout=30) as monitor:
        assert monitor.get("/readyz").status_code == 503
        site.drop("north.adt", 1)
        watcher.tick(wait=True)
        assert monitor.get("/readyz").status_code == monitor.get("/healthz").status_code == 200
        text = monitor.get("/metrics").text
        name = site.url.rpartition("/")[2]
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f"alter database {name} with allow_connections false")
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
            watcher.tick(wait=True)
            assert monitor.get("/readyz").status_code == 503
            admin.execute(f"alter database {name} with allow_connections true")
    pages.close()
    assert 'sluice_polls_total{feed="north.adt",found="something"}' in text
    assert 'sluice_runs_started_total{feed="north.adt"}' in text


def test_what_a_listener_was_told_starts_a_run_of_a_feed_that_is_not_polled(site: Site) -> None:
    from tasks.ledger import notices

    text = "source: {kind: fhir-rest, base_url: 'http://127.0.0.1:9', types: [Patient], subscribe: {endpoint: "
    text += "'http://127.0.0.1:9/ward.fhir/notify'}}\nformat: fhir-bundle\nschedule: {every: 1h}\n"
    (site.folder / "feeds" / "ward.fhir.yaml").write_text(text)
    assert is_watched(load("ward.fhir"))
    watcher = site.watch("ward.fhir")
    assert watcher.tick(wait=True) == []
    with connect(site.url) as connection:
        notices.add(connection, "ward.fhir", [("Patient", "p1")])
    assert watcher.tick(wait=True) == ["ward.fhir"]


def test_what_comes_by_itself_or_by_the_clock_is_not_watched(site: Site) -> None:
    (site.folder / "feeds" / "a.mllp.yaml").write_text("source: {kind: mllp}\nformat: hl7v2\ntimezone: UTC\n")
    site.feed("b.cron", schedule="{cron: '0 6 * * *'}")
    site.feed("c.often", schedule="{every: 5m}")
    assert [is_watched(load(name)) for name in ("a.mllp", "b.cron", "c.often")] == [False, False, True]
