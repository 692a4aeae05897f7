"""Runs that fail or are killed, and what the next one makes of it."""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from infra.dev.partners import Day
from tests.walks import says, walks

pytestmark = pytest.mark.slow

BREAK = """
create function public.refuse() returns trigger language plpgsql as $$ begin
    if new.feed = 'southgate.retried' and new.state in ('stored', 'published') then
        raise exception 'Zzyzxmarker stands in a message of Postgres'; end if;
    return new; end $$;
create trigger refuse before update on ledger.batch for each row execute function public.refuse();
"""
MEND = "drop trigger refuse on ledger.batch; drop function public.refuse()"


def drop_some(site: Any, day: Day, folder: str, kind: str) -> int:
    """Drop the hospital's files of a kind at another partner; return how many messages they hold."""
    files = [file for file in day.northside if kind in file.name and file.kind == "new" and not file.growing]
    for file in files:
        (site.drop / folder / file.name).write_bytes(file.data)
    return sum(file.data.count(b"MSH|") for file in files)


def retry(site: Any, run: str) -> None:
    """Do what the Retry button of Prefect's UI does."""
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
    answer = site.prefect(f"flow_runs/{run}/set_state", state=state, force=False)
    assert answer["status"] == "ACCEPT", answer


def state_of(site: Any, run: str) -> str:
    return str(site.prefect("flow_runs/filter", flow_runs={"id": {"any_": [run]}})[0]["state"]["name"])


def failed_run(site: Any, feed: str) -> str:
    """Run a feed that must fail; return the run's id."""
    said = site.sluice("run", feed, "--json", code=1)
    assert said.count("\n") == 2, said
    assert "(" in said.splitlines()[-1], "it says why"
    assert "it can be retried there" in said
    return newest_run(site, feed)


def newest_run(site: Any, feed: str) -> str:
    runs = site.prefect("flow_runs/filter", flow_runs={"name": {"any_": [feed]}}, limit=1, sort="START_TIME_DESC")
    return str(runs[0]["id"])


def totals(site: Any, feed: str) -> dict[str, int]:
    columns = ("received", "published", "quarantined", "duplicate", "in_flight")
    sums = ", ".join(f"sum({name})::int" for name in columns)
    row = site.rows(f"select {sums} from ops.delivery where feed = %s", feed)
    return dict(zip(columns, row[0], strict=True))


def test_a_run_that_failed_between_stages_is_retried_in_prefect_and_goes_on(
    site: Any, demo: Any, day: Day, eventually: Callable[..., Any]
) -> None:
    """It is the first walk of docs/operations.md: what is typed and printed stands there."""
    sent = drop_some(site, day, "retried", "A40")
    (fails, failed), (again, _), (nothing, done) = walks(1)
    site.rows(BREAK)
    try:
        printed = site.sluice(*shlex.split(fails)[1:], code=1)
    finally:
        site.rows(MEND)
    assert says(failed + "…", printed), printed
    run = newest_run(site, "southgate.retried")
    assert state_of(site, run) == "Failed"
    assert totals(site, "southgate.retried")["in_flight"] == sent
    assert site.one("select count(*) from fhir.resource where feed = 'southgate.retried'") == 0
    logs = str(site.prefect("logs/filter", limit=200, logs={"flow_run_id": {"any_": [run]}}))
    assert "P0001" in logs
    assert "Zzyzx" not in logs
    subprocess.run(
        [sys.executable, "-m", *shlex.split(again.replace("…", run))],
        env={**site.env, **site.environment()}, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    eventually(lambda: state_of(site, run) in {"Completed", "Failed", "Crashed"}, 300)
    assert state_of(site, run) == "Completed"
    printed = site.sluice(*shlex.split(nothing)[1:])
    assert says(done, printed), printed
    assert totals(site, "southgate.retried") == {
        "received": sent, "published": sent, "quarantined": 0, "duplicate": 0, "in_flight": 0,
    }  # fmt: skip
    deliveries = site.one("select count(*) from ledger.delivery where feed = 'southgate.retried'")
    assert deliveries == len(list((site.drop / "retried").iterdir()))


def killed(site: Any, when: Callable[[], bool]) -> None:
    """Run a feed in small batches and kill it as soon as `when` holds."""
    process = site.start("run", "southgate.killed", "--here", SLUICE_BATCH_RECORDS="100")
    deadline = time.monotonic() + 120
    while not when():
        assert process.poll() is None, "it ended before it could be killed: " + process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()


def test_a_run_that_is_killed_again_and_again_ends_with_the_store_of_an_undisturbed_one(
    site: Any, demo: Any, day: Day, eventually: Callable[..., Any]
) -> None:
    sent = drop_some(site, day, "killed", "ADT")

    def batches(*states: str) -> int:
        found = site.one(
            "select count(*) from ledger.batch where feed = 'southgate.killed' and state = any(%s)", list(states)
        )
        return int(found)

    killed(site, lambda: site.one("select count(*) from ledger.delivery where feed = 'southgate.killed'") > 1)
    killed(site, lambda: batches("staged") > 0)
    killed(site, lambda: batches("stored", "published") > 1)
    before = batches("stored", "published")
    assert totals(site, "southgate.killed")["received"] < sent
    said = site.facts("run", "southgate.killed")
    assert said["state"] == "Completed"
    assert batches("stored", "published") > before
    bad = len([one for one in day.expected.broken if one.feed == "northside.hl7"])
    # who of them is known to the FHIR server already is told there by the deliveries' own flow
    eventually(lambda: totals(site, "southgate.killed")["in_flight"] == 0, 300)
    assert totals(site, "southgate.killed") == {
        "received": sent, "published": sent - bad, "quarantined": bad, "duplicate": 0, "in_flight": 0,
    }  # fmt: skip
    assert all(row["good"] for row in site.facts("doctor"))
    # the same files at the same partner through another feed, undisturbed: had anything been lost or half done,
    # this would change it
    after_kills = site.versions("partner = 'southgate'")
    calm = site.facts("run", "southgate.calm")
    assert (calm["received"], calm["published"]) == (sent, sent - bad)
    assert site.versions("partner = 'southgate'") == after_kills
    assert len(after_kills) > 500
    for row in site.facts("quarantine", "list", "--feed", "southgate.killed"):
        assert row["code"] == "not-hl7v2"


@pytest.mark.slow
def test_a_run_that_failed_because_the_partners_server_was_down_is_retried_when_it_is_up(
    site: Any, second: Any, eventually: Callable[..., Any]
) -> None:
    pid = next(row["pid"] for row in site.facts("status") if row["service"] == "sftp")
    psutil.Process(pid).kill()
    eventually(lambda: "sftp" in [row["service"] for row in unanswered(site)])
    run = failed_run(site, "northside.hl7")
    assert "retr" in str(site.prefect("task_runs/filter", task_runs={"state": {"name": {"any_": ["Failed"]}}}))
    site.sluice("up")
    assert not unanswered(site)
    retry(site, run)
    eventually(lambda: state_of(site, run) in {"Completed", "Failed", "Crashed"})
    assert state_of(site, run) == "Completed"


def unanswered(site: Any) -> list[dict[str, Any]]:
    import json

    process = site.start("status", "--json")
    out, _err = process.communicate(timeout=60)
    return [row for row in json.loads(out) if not row["answers"]]
