"""What did not come: Prefect's server gets event and artifact, once, and `sluice status --late` lists it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.settings import PROJECT

FEED = "southgate.awaited"
TEXT = """
source: {kind: directory, connection: drop, path: calm, match: "*.never", ready: {stable_polls: 1}}
format: hl7v2
timezone: UTC
expect: {by: "00:00", records: [2, 10]}
"""


def test_a_delivery_that_did_not_come_is_told_once(site: Any, eventually: Callable[..., Any]) -> None:
    path = Path(site.env["SLUICE_FEEDS"].split(":")[1]) / f"{FEED}.yaml"
    path.write_text(TEXT)
    try:
        _look(site)
        site.rows("update ledger.event set at = now() - interval '2 days' where feed = %s", FEED)
        first = _look(site)
        assert 0 < first["new"] <= first["found"]
        assert _look(site) == {"found": first["found"], "new": 0}
        late = [row for row in site.facts("status", "--late") if row["feed"] == FEED]
    finally:
        path.unlink()
    said = eventually(lambda: _events(site))
    assert {one["event"] for one in said} <= {"sluice.feed.late", "sluice.feed.missing"}
    assert sorted((one["payload"]["day"], one["payload"]["kind"]) for one in said) == sorted(
        (row["day"], row["kind"]) for row in late
    )
    shown = [json.loads(one["data"]) for one in site.everything("artifacts") if one["key"] == "sluice-late"]
    assert all({row["kind"] for row in rows if row["feed"] == FEED} <= {"late", "missing"} for rows in shown)
    assert any(len([row for row in rows if row["feed"] == FEED]) == len(late) for rows in shown)


def _look(site: Any) -> dict[str, int]:
    """Run the flow against the stack's Prefect server; return how much it found, and how much of it was new."""
    code = "import json; from flows.expect import expect; print(json.dumps(expect()))"
    env = {**site.env, **site.environment(), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _events(site: Any) -> list[Any]:
    wanted = {"event": {"prefix": ["sluice.feed."]}, "resource": {"id": [f"sluice.feed.{FEED}"]}}
    return list(site.prefect("events/filter", limit=50, filter=wanted)["events"])
