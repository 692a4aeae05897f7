"""`sluice doctor`, `sluice views apply`: what on-call asks."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.output import as_json, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def doctor(json: Json = False) -> None:
    """Check the ledger's invariant and the stack; exit code 1 where something is wrong."""
    from deployments.doctor import examine

    rows = examine()
    if json:
        as_json(rows)
    else:
        table(rows, ["check", "good", "detail"])
    if not all(row["good"] for row in rows):
        raise typer.Exit(1)


def apply() -> None:
    """Build the warehouse's tables from the views, those anew whose view has changed; a line each."""
    from tasks.ledger.db import connect
    from tasks.publish.tables import apply as build
    from tasks.settings import settings

    with connect(settings().warehouse_url) as connection:
        built = build(connection)
    for name in built:
        print(f"core.{name}: built")
    if not built:
        print("every table is as its view says")
