"""What Prefect's pages show of a run: progress, counts, findings, assets. Ids, codes and counts only."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.feed_run import FeedRun
from tasks.errors import ConfigError
from tasks.feed import feed_files, load
from tasks.ledger import counts
from tasks.ledger.db import connect
from tasks.log import get_logger
from tasks.settings import settings


class Progress:
    """The progress artifact of a run: how many records have been read, by batches."""

    def __init__(self, run: FeedRun) -> None:
        self.records = 0
        self.batches = 0
        self.feed = run.feed.name
        self.artifact: Any = None

    def read(self, staged: dict[str, Any]) -> None:
        """Count a staged batch; how many more there are is not known before the delivery's end."""
        self.batches += 1
        self.records += staged["received"]
        text = f"{self.feed}: {self.batches} batches, {self.records} records read"
        share = 100 * self.batches / (self.batches + 1)
        if self.artifact is None:
            self.artifact = create_progress_artifact(share, key=f"{key(self.feed)}-progress", description=text)
        else:
            update_progress_artifact(self.artifact, progress=share, description=text)

    def done(self) -> None:
        """Set the progress to its end."""
        if self.artifact is not None:
            update_progress_artifact(self.artifact, progress=100.0)


def verdict(run: FeedRun, batch_id: int, said: dict[str, Any]) -> None:
    """Show the gate's verdict on a batch."""
    word = "passed" if said["passed"] else "HELD: see `sluice gate list`"
    lines = [
        f"# Batch {batch_id} of {run.feed.name}: {word}",
        "",
        "| check | on | severity | held true |",
        "|---|---|---|---|",
    ]
    for item in said["results"]:
        held = "yes" if item["held"] else "NO"
        lines.append(f"| {item['expectation']} | {item['table']} {item['place']} | {item['severity']} | {held} |")
    create_markdown_artifact("\n".join(lines), key=f"{key(run.feed.name)}-gate", description=f"batch {batch_id}")
    get_logger().info("gate", batch=batch_id, passed=said["passed"])


def summary(run: FeedRun, landed: dict[str, int]) -> dict[str, Any]:
    """Show a run's deliveries with the counts of the invariant and its findings; return the sums."""
    with connect(settings().warehouse_url) as connection:
        deliveries = counts.of_run(connection, run.id)
        findings = counts.findings_of_run(connection, run.id)
    rows = [
        {"delivery": row["id"], "state": row["state"], **{k: row[k] for k in counts.OUTCOMES}} for row in deliveries
    ]
    name = key(run.feed.name)
    if rows:
        create_table_artifact(rows, key=f"{name}-counts", description=f"{run.feed.name}: counts by outcome")
    if findings:
        lines = [
            f"# Findings of {run.feed.name}",
            "",
            "| severity | stage | code | location | count |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {severity} | {stage} | {code} | `{place}` | {n} |" for severity, stage, code, place, n in findings
        ]
        create_markdown_artifact(
            "\n".join(lines), key=f"{name}-findings", description=f"{len(findings)} kinds of findings"
        )
    sums = counts.total(deliveries)
    get_logger().info("run ended", landed=sum(landed.values()), **sums)
    return {"feed": run.feed.name, **sums}


def assets(feed: str) -> dict[str, Any]:
    """Return the options by which a publication is shown as the feed's asset, made from what the partner sent."""
    partner, _, rest = feed.partition(".")
    return {"assets": [f"sluice://warehouse/{partner}/{rest}"], "asset_deps": [f"sluice://partner/{partner}/{rest}"]}


def delivered(destination: str, *feeds: str) -> dict[str, Any]:
    """Return the options by which a delivery is shown as the destination's asset, made from those of its feeds."""
    made_from = [asset for feed in feeds for asset in assets(feed)["assets"]]
    return {"assets": [f"sluice://destination/{destination}"], "asset_deps": made_from}


def routed_to(destination: str) -> list[str]:
    """Return the feeds that have a route to a destination; one with a mistake in its file is left out."""
    found = []
    for name in feed_files():
        with suppress(ConfigError):
            if destination in load(name).destinations:
                found.append(name)
    return found


def key(name: str) -> str:
    """Return a name as Prefect allows it in an artifact's key: lower case, digits and dashes."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())
