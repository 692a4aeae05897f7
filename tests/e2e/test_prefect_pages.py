"""Prefect's pages in a real browser: deployments, runs, artifacts; and what the artifacts say."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.dev.partners import MARKER_NAME, MARKER_NUMBER, Day

BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
FEEDS = ("northside.hl7", "eastlab.results", "eastlab.roster", "county.registry")


@pytest.fixture(scope="module")
def page(site: Any) -> Iterator[Any]:
    """A page of a headless browser on Prefect's UI."""
    found = [path for path in BROWSERS if Path(path).exists()]
    if not found:
        pytest.skip("no browser: install Debian's chromium (apt-get install chromium) to see Prefect's pages tested")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = play.chromium.launch(executable_path=found[0], args=root)
        with contextlib.closing(browser):
            opened = browser.new_page(viewport={"width": 1600, "height": 1400})
            opened.set_default_timeout(30_000)
            yield opened


def address(site: Any, path: str) -> str:
    return f"{site.environment()['PREFECT_API_URL'].removesuffix('/api')}/{path}"


def visit(site: Any, page: Any, path: str, *texts: str) -> str:
    """Open a page, wait until it shows every text, and return what it shows."""
    page.goto(address(site, path))
    for text in texts:
        page.get_by_text(text).first.wait_for()
    shown = str(page.inner_text("body"))
    assert MARKER_NAME not in shown
    assert MARKER_NUMBER not in shown
    return shown


def newest_run(site: Any, feed: str) -> Any:
    """The feed's newest run that left artifacts."""
    runs = site.prefect("flow_runs/filter", sort="START_TIME_DESC", flow_runs={"name": {"any_": [feed]}})
    with_artifacts = {one["flow_run_id"] for one in site.everything("artifacts")}
    return next(run for run in runs if run["id"] in with_artifacts)


def test_the_deployments_are_shown(site: Any, demo: Any, page: Any) -> None:
    shown = visit(site, page, "deployments", "northside.hl7")
    for name in (*FEEDS, "ehr"):
        assert name in shown


def test_the_runs_are_shown_as_completed(site: Any, demo: Any, page: Any) -> None:
    shown = visit(site, page, "runs", "northside.hl7", "Completed")
    for feed in FEEDS:
        assert feed in shown


def test_a_run_is_shown_with_its_artifacts(site: Any, demo: Any, page: Any) -> None:
    run = newest_run(site, "northside.hl7")
    visit(site, page, f"runs/flow-run/{run['id']}", "northside.hl7", "Completed")
    page.locator("li#artifacts").click()
    page.get_by_text("northside-hl7-counts").first.wait_for()
    assert "northside-hl7-counts" in page.inner_text("body")


def test_the_counts_are_shown_as_a_table(site: Any, demo: Any, page: Any) -> None:
    artifact = artifacts(site, "eastlab-results-counts")[0]
    shown = visit(site, page, f"artifacts/artifact/{artifact['id']}", "in_flight")
    for word in ("received", "published", "quarantined"):
        assert word in shown


def test_the_findings_are_shown_with_code_location_and_count(site: Any, demo: Any, page: Any) -> None:
    artifact = next(one for one in artifacts(site, "eastlab-results-findings") if "not-a-date" in one["data"])
    shown = visit(site, page, f"artifacts/artifact/{artifact['id']}", "not-a-date")
    assert "collected_at" in shown


def artifacts(site: Any, key: str) -> list[Any]:
    return [one for one in site.everything("artifacts") if one["key"] == key]


def test_every_feed_has_progress_counts_findings_and_the_gates_verdict(site: Any, demo: Any) -> None:
    keys = {one["key"] for one in site.everything("artifacts")}
    for feed in FEEDS:
        name = feed.replace(".", "-")
        assert {f"{name}-progress", f"{name}-counts", f"{name}-gate"} <= keys
    assert all(one["data"] == 100.0 for one in site.everything("artifacts") if one["type"] == "progress")


def test_the_counts_of_the_artifacts_are_the_ledgers(site: Any, demo: Any, day: Day) -> None:
    tables = [row for one in artifacts(site, "northside-hl7-counts") for row in json.loads(one["data"])]
    shown = {row["delivery"]: row for row in tables if row["state"] == "read"}
    for row in demo["deliveries"]:
        if row["feed"] == "northside.hl7" and row["state"] == "read":
            assert shown[row["id"]]["received"] == row["received"]
            assert shown[row["id"]]["quarantined"] == row["quarantined"]


def test_the_broken_records_findings_are_in_the_artifacts(site: Any, demo: Any, day: Day) -> None:
    for broken in day.expected.broken:
        texts = [one["data"] for one in artifacts(site, broken.feed.replace(".", "-") + "-findings")]
        rows = [line for text in texts for line in text.split("\n") if line.startswith("| error ")]
        assert any(f"`{broken.finding}`" in row and re.search(r"\| 1 \|$", row) for row in rows), broken.feed


def test_the_feeds_assets_are_linked(site: Any, demo: Any) -> None:
    import httpx

    page = site.prefect("events/filter", limit=50, filter={"event": {"prefix": ["prefect.asset."]}})
    events = list(page["events"])
    while page.get("next_page"):
        page = httpx.get(page["next_page"], timeout=60).json()
        events += page["events"]
    said = json.dumps(events)
    for asset in ("sluice://warehouse/northside/hl7", "sluice://partner/northside/hl7", "sluice://destination/ehr"):
        assert asset in said


def test_every_run_told_the_catalogue_what_it_read_and_made(site: Any, demo: Any) -> None:
    """The file stands in the stack's folder, of which no file may hold a word of a record."""
    events = [json.loads(line) for line in (site.home / "openlineage.ndjson").read_text().splitlines()]
    mine = [one for one in events if one["job"]["name"] == "ingest.northside.hl7"]
    runs = {one["run"]["runId"] for one in mine}
    for run in runs:
        told = [one["eventType"] for one in mine if one["run"]["runId"] == run]
        assert told[0] == "START"
        assert set(told[1:]) <= {"COMPLETE", "FAIL"}, "a run that had nothing to do tells so too"
    known = {row[0] for row in site.rows("select run_id from ledger.batch where feed = 'northside.hl7'")}
    assert known <= runs
    read = sum(one["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] for one in mine if one["inputs"])
    assert read >= site.one("select sum(received)::int from ops.delivery where feed = 'northside.hl7'")
    made = {name["name"].partition(".")[2] for one in mine for name in one["outputs"]}
    assert {"fhir.Patient", "core.patient"} <= made
