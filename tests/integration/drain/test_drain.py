"""The drain: what a listener acknowledged becomes visible, and a held window holds its own patients alone."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mllp_site import Site, message, msa

from tasks.errors import ConfigError
from tasks.gate import gate
from tasks.gate.held import held, release
from tasks.ledger import patients
from tasks.ledger.claims import Busy
from tasks.ledger.db import connect
from tasks.process import drain as drain_module
from tasks.process.drain import Drain


def drained(site: Site, condition: Callable[[], bool]) -> dict[str, int]:
    """Drain until something is true; fails where a minute was not enough."""
    counts = Drain([site.feed], "run").run(60, condition)
    assert condition()
    return counts[site.feed]


def published(site: Site) -> int:
    [(number,)] = site.rows("select coalesce(sum(published), 0)::int from ops.delivery")
    return number


@contextmanager
def draining(site: Site) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=lambda: Drain([site.feed], "run").run(120, stop.is_set))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_what_comes_while_it_runs_becomes_visible_from_a_segment_that_grows(site: Site) -> None:
    sender = site.listen().sender()
    with draining(site):
        for number in range(40):
            assert msa(sender.ask(message(f"C{number}", mrn=str(number))))[0] == "AA"
            if number % 10 == 9:
                while published(site) <= number:
                    pass
    assert site.rows("select count(*) from core.patient") == [(40,)]
    assert site.rows("select state, count(*) from ledger.delivery group by 1") == [("landed", 1)]
    assert site.rows("select * from ops.invariant") == []


def test_who_waits_behind_a_held_batch_is_found_without_comparing_all_that_is_staged(warehouse_url: str) -> None:
    with connect(warehouse_url) as connection:
        plan = "\n".join(row[0] for row in connection.execute(f"explain {patients.BLOCKED}".encode(), {"batch": 1}))
    conditions = [line for line in plan.splitlines() if "Join Filter" in line or " Cond:" in line]
    assert conditions
    # a condition on an expression over the resource is worked out for each pair of rows
    assert not [line for line in conditions if "#>>" in line]


def test_a_closed_segment_comes_to_its_end(site: Site) -> None:
    running = site.listen()
    running.sender().ask(message("C1"))
    running.stop()
    drained(site, lambda: site.rows("select state from ledger.delivery") == [("read",)])
    assert published(site) == 1


def test_two_drains_of_a_feed_do_not_run_at_once(site: Site) -> None:
    with draining(site):
        while not site.rows("select from ledger.claim where name = %s", f"feed:{site.feed}"):
            pass
        with pytest.raises(Busy):
            Drain([site.feed], "another").run(1, lambda: False)


def test_what_a_killed_drain_staged_is_published_by_the_next(site: Site) -> None:
    from tasks.ledger import claims

    site.listen().sender().ask(message("C1"))
    with claims.claim(site.url, f"feed:{site.feed}", "killed", 60) as token:
        site.stage(token)
    site.rows("delete from staging.resource returning 1")
    drained(site, lambda: published(site) == 1)


@pytest.fixture
def checks(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Every patient's family name starts with an upper case letter, or the window is held."""
    with warnings.catch_warnings():
        # what it imports is deprecated in places
        warnings.simplefilter("ignore")
        import great_expectations  # noqa: F401 - here, so that its warnings stay here
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "adt.yaml").write_text(
        "patient:\n  - {type: expect_column_values_to_match_regex, kwargs: {column: family, regex: '^[A-Z]'}}\n"
    )
    monkeypatch.setattr(gate, "CHECKS", tmp_path / "checks")
    site.configure(rest="checks: adt\n")
    return site


def families(site: Site) -> list[str]:
    query = "select resource -> 'name' -> 0 ->> 'family' from fhir.resource where resource_type = 'Patient' order by 1"
    return [row[0] for row in site.rows(query)]


def batches(site: Site) -> list[str]:
    return [row[0] for row in site.rows("select state from ledger.batch order by id")]


def test_a_held_window_holds_its_own_patients_alone_and_lets_them_go_together(checks: Site) -> None:
    sender = checks.listen().sender()
    sender.ask(message("C1", mrn="1", family="wrong"))
    drained(checks, lambda: batches(checks) == ["held"])
    sender.ask(message("C2", mrn="2", family="Good"))
    later = message("C3", mrn="1", family="Later").replace(b"20260309100000", b"20260309110000")
    sender.ask(later)
    drained(checks, lambda: families(checks) == ["Good"] and batches(checks).count("held") == 2)
    assert checks.rows("select * from ops.invariant") == []
    with connect(checks.url) as connection:
        [behind] = [one["batch"] for one in held(connection) if one["behind"] == [1]]
        with pytest.raises(ConfigError, match=f"batch {behind} waits behind 1"):
            release(connection, behind, "somebody", "it looks good")
        release(connection, 1, "somebody", "looked at it")
    drained(checks, lambda: families(checks) == ["Good", "Later"])
    [counts] = checks.rows("select received, published, in_flight from ops.delivery")
    assert counts == (3, 3, 0)
    assert checks.rows("select * from ops.invariant") == []


def test_the_window_sees_what_was_published_before_the_batch(checks: Site, tmp_path: Path) -> None:
    (tmp_path / "checks" / "adt.yaml").write_text(
        "patient:\n  - {type: expect_table_row_count_to_be_between, kwargs: {min_value: 0, max_value: 2}}\n"
    )
    sender = checks.listen().sender()
    for number in range(2):
        sender.ask(message(f"C{number}", mrn=str(number)))
        drained(checks, lambda number=number: published(checks) == number + 1)
    sender.ask(message("C9", mrn="9"))
    drained(checks, lambda: batches(checks)[-1] == "held")
    assert published(checks) == 2


def test_every_batch_is_looked_at_also_the_one_right_after_a_good_one(checks: Site) -> None:
    sender = checks.listen().sender()
    with draining(checks):
        sender.ask(message("C1", mrn="1", family="Good"))
        while published(checks) < 1:
            pass
        sender.ask(message("C2", mrn="2", family="wrong"))
        while batches(checks)[-1] != "held":
            assert published(checks) == 1
        sender.ask(message("C3", mrn="3", family="Better"))
        while published(checks) < 2:
            pass
    assert families(checks) == ["Better", "Good"]


def test_the_window_counts_what_this_drain_published_and_each_patient_once(checks: Site, tmp_path: Path) -> None:
    (tmp_path / "checks" / "adt.yaml").write_text(
        "patient:\n  - {type: expect_table_row_count_to_be_between, kwargs: {min_value: 0, max_value: 2}}\n"
        "records:\n  - {type: expect_table_row_count_to_be_between, kwargs: {min_value: 0, max_value: 5}}\n"
    )
    sender = checks.listen().sender()
    with draining(checks):
        for number, mrn in enumerate(("1", "2", "1", "2")):
            sender.ask(message(f"C{number}", mrn=mrn))
            while published(checks) <= number:
                pass
        sender.ask(message("C9", mrn="9"))
        while batches(checks)[-1] != "held":
            pass
    assert published(checks) == 4


def test_a_drain_that_was_only_asleep_puts_nobody_back_and_lets_nobody_go(site: Site) -> None:
    from tasks.errors import LeaseLost
    from tasks.ledger import claims, patients

    site.listen().sender().ask(message("C1"))
    with claims.claim(site.url, f"feed:{site.feed}", "asleep", 60) as old:
        batch = site.stage(old).batch_id
    with claims.claim(site.url, f"feed:{site.feed}", "awake", 60), connect(site.url) as connection:
        with pytest.raises(LeaseLost):
            patients.hold_back(connection, batch, old)
        with pytest.raises(LeaseLost):
            patients.let_go(connection, site.feed, old)


def test_its_pages_say_that_it_works_and_what_it_did_and_no_value(site: Site) -> None:
    import httpx

    from tasks.listen.health import Health

    sender = site.listen().sender()
    pages = Health("127.0.0.1", 0, drain_module.WORKING.is_set)
    with httpx.Client(base_url=f"http://127.0.0.1:{pages.port}", trust_env=False, timeout=30) as monitor:
        assert monitor.get("/healthz").status_code == 200
        assert monitor.get("/readyz").status_code == 503
        with draining(site):
            sender.ask(message("C1", family="Findme"))
            while published(site) < 1 or monitor.get("/readyz").status_code != 200:
                pass
        text = monitor.get("/metrics").text
        assert monitor.get("/readyz").status_code == 503
    pages.close()
    for name in ("sluice_records_total", "sluice_batch_seconds_count", "sluice_lag_seconds", "sluice_held_batches"):
        assert f'{name}{{feed="{site.feed}"' in text, name
    assert "Findme" not in text


def test_as_a_flow_it_is_one_run_with_a_task_run_for_some_minutes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    monkeypatch.setenv("PREFECT_LOGGING_TO_CONSOLE", "false")
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import TaskRunSort
    from prefect.testing.utilities import prefect_test_harness

    from flows.drain import drain

    running = site.listen()
    running.sender().ask(message("C1"))
    with prefect_test_harness(server_startup_timeout=120):
        counts = drain([site.feed], minutes=0.02, rounds=2)
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(sort=TaskRunSort.ID_DESC, limit=50)
    assert published(site) == 1
    assert set(counts) == {site.feed}
    assert sorted(run.name.partition("-")[0] for run in runs) == ["drain", "drain", "published"]
