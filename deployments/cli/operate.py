"""`sluice doctor`, `sluice views apply`: what on-call asks."""

from __future__ import annotations

from pathlib import Path
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


def destinations(json: Json = False) -> None:
    """List destinations: what waits for each and since when, what it refused, and why it is left alone for now."""
    from tasks.ledger.db import connect
    from tasks.ledger.outbox import standing
    from tasks.settings import settings

    with connect(settings().warehouse_url) as connection:
        rows = standing(connection)
    if json:
        as_json(rows)
    else:
        for row in rows:
            row |= {name: row[name] and row[name].isoformat(timespec="seconds") for name in ("since", "paused_until")}
        table(rows, ["destination", "waiting", "since", "refused", "failures", "why", "paused_until"])


def apply(
    *,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the tables of views that are gone.")] = False,
) -> None:
    """Build the warehouse's tables from the views, those anew whose view has changed; a line each."""
    from tasks.core_views import core_views
    from tasks.ledger.db import connect
    from tasks.publish import views
    from tasks.publish.tables import apply as build
    from tasks.settings import owner_url

    with connect(owner_url()) as connection:
        built = build(connection)
        dropped = views.drop_tables(connection, core_views()) if drop else []
        left = views.left_over(connection, core_views())
    for name in built:
        print(f"{name}: built")
    for name in dropped:
        print(f"core.{name}: dropped")
    for name in left:
        print(f"core.{name}: its view is gone; the table is kept up to date until `sluice views apply --drop`")
    if not built and not dropped:
        print("every table is as its view says")


def dictionary(
    out: Annotated[Path | None, typer.Option(help="Write it to this file instead of printing it.")] = None,
) -> None:
    """Print the data dictionary: every relation and column of the warehouse and what it means, as Markdown."""
    from tasks.errors import ConfigError
    from tasks.ledger.db import connect
    from tasks.publish.dictionary import dictionary as made
    from tasks.settings import settings

    with connect(settings().warehouse_url) as connection:
        text = made(connection)
    if out is None:
        print(text, end="")
    else:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{out}: {error.strerror}; name a file that can be written") from None
