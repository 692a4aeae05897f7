"""`sluice prune`: what nobody can ask for any more leaves the ledger."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.output import as_json, table


def prune(
    older_than: Annotated[int, typer.Option(help="Days since it was landed or confirmed.", min=1)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and keep everything.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prune old records that nothing refers to, and old load receipts; never what is in flight or in quarantine."""
    from tasks.ledger import prune as pruning
    from tasks.ledger.db import connect
    from tasks.settings import settings

    with connect(settings().warehouse_url) as connection:
        made = pruning.ensure_partitions(connection)
        counts = {"partitions": made, **pruning.prune(connection, older_than, dry_run=dry_run)}
    if json:
        as_json(counts)
    else:
        table([counts], list(counts))
