"""`sluice deploy` beside operators: what they paused stays paused, and a deployment without a file is told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.slow

FEED = "southgate.paused"
TEXT = """
source: {kind: directory, connection: drop, path: calm, match: "*.never", ready: {stable_polls: 1}}
format: hl7v2
timezone: UTC
schedule: {every: 1h}
"""


def test_what_an_operator_paused_stays_paused_when_it_is_deployed_again(site: Any) -> None:
    path = Path(site.env["SLUICE_FEEDS"].split(":")[1]) / f"{FEED}.yaml"
    path.write_text(TEXT)
    try:
        assert f"ingest/{FEED}: deployed, every 1h\n" in site.sluice("deploy", FEED)
        made = deployment(site)
        assert (made["paused"], [one["active"] for one in made["schedules"]]) == (False, [True])
        ask(site, "POST", f"deployments/{made['id']}/pause_deployment")
        assert f"ingest/{FEED}: deployed, every 1h, paused as it was\n" in site.sluice("deploy", FEED)
        assert deployment(site)["paused"]
        ask(site, "POST", f"deployments/{made['id']}/resume_deployment")
        [schedule] = deployment(site)["schedules"]
        ask(site, "PATCH", f"deployments/{made['id']}/schedules/{schedule['id']}", json={"active": False})
        assert f"ingest/{FEED}: deployed, every 1h, paused as it was\n" in site.sluice("deploy", FEED)
        after = deployment(site)
        assert (after["paused"], [one["active"] for one in after["schedules"]]) == (False, [False])
    finally:
        path.unlink()
    try:
        assert f"ingest/{FEED}: has no file here" in site.sluice("deploy", "southgate.calm")
    finally:
        ask(site, "DELETE", f"deployments/{made['id']}")


def deployment(site: Any) -> Any:
    return ask(site, "GET", f"deployments/name/ingest/{FEED}").json()


def ask(site: Any, method: str, path: str, **body: Any) -> httpx.Response:
    answer = httpx.request(method, f"{site.environment()['PREFECT_API_URL']}/{path}", timeout=60, **body)
    assert answer.is_success, f"{path}: {answer.status_code}"
    return answer
