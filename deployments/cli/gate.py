"""`sluice gate`: batches that a quality check holds, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.output import as_json, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Batch = Annotated[int, typer.Argument(help="A batch's number as `gate list` prints it.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit trail; no patient data.")]


def gate_list(
    feed: Annotated[str | None, typer.Option(help="Of this feed alone.")] = None,
    json: Json = False,
) -> None:
    """List held batches with their records' count and the checks that failed, or the batches they wait behind."""
    from tasks.feed import load
    from tasks.gate.held import held
    from tasks.ledger.db import connect
    from tasks.settings import settings

    if feed is not None:
        load(feed)
    with connect(settings().warehouse_url) as connection:
        rows = held(connection, feed)
    if json:
        as_json(rows)
        return
    for row in rows:
        behind = ", ".join(map(str, row["behind"] or ()))
        row["held"] = f"waits behind {behind}" if behind else "; ".join(row["failed"] or ())
        row["from"] = ", ".join(row["deliveries"] or ())
        row["since"] = row["created_at"].isoformat(timespec="seconds")
    if rows:
        table(rows, ["batch", "feed", "records", "since", "from", "held"])
    else:
        print("no batch is held")


def gate_release(batch: Batch, reason: Reason, json: Json = False) -> None:
    """Let a held batch pass; the feed's next run publishes it."""
    from tasks.gate.held import release
    from tasks.ledger.db import connect
    from tasks.settings import actor, settings

    with connect(settings().warehouse_url) as connection:
        count = release(connection, batch, actor(), reason)
    if json:
        as_json({"batch": batch, "released": count})
    else:
        print(f"batch {batch}: {count} records released, the feed's next run publishes them")


def gate_reject(batch: Batch, reason: Reason, json: Json = False) -> None:
    """Throw a held batch away: its records end as discarded, and the same messages sent again are a new try."""
    from tasks.gate.held import reject
    from tasks.ledger.db import connect
    from tasks.settings import actor, settings

    with connect(settings().warehouse_url) as connection:
        count = reject(connection, batch, actor(), reason)
    if json:
        as_json({"batch": batch, "discarded": count})
    else:
        print(f"batch {batch}: {count} records discarded, nothing of them was published")


def gate_docs(
    feed: Annotated[str, typer.Argument(help="A feed's name.")],
    to: Annotated[Path, typer.Option(help="Folder for the pages; it does not exist yet or is empty.")],
    last: Annotated[int, typer.Option(min=1, max=1000, help="So many batches, the newest ones.")] = 20,
    json: Json = False,
) -> None:
    """Write great-expectations' Data Docs of what the gate said of a feed's batches; no value is in them."""
    from tasks.feed import load
    from tasks.gate.docs import write
    from tasks.ledger.db import connect
    from tasks.settings import settings

    with connect(settings().warehouse_url) as connection:
        pages = write(connection, load(feed), to, last)
    if json:
        as_json(pages)
    else:
        table(pages, ["batch", "table", "held", "failed", "page"])
