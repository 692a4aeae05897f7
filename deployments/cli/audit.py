"""`sluice audit`: who did what, and whether the trail is whole."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from deployments.cli.output import as_json, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def audit_verify(
    head: Annotated[str | None, typer.Option(help="A head that an earlier verification printed.")] = None,
    json: Json = False,
) -> None:
    """Compute the trail's hashes again: exit code 1 where a row was changed, taken out, put in or exchanged.

    Keep the head somewhere else: given back with --head, it also tells whether the end was cut off.
    """
    from dataclasses import asdict

    from tasks.ledger.audit import verify
    from tasks.ledger.db import connect
    from tasks.settings import settings

    with connect(settings().warehouse_url) as connection:
        found = verify(connection, head)
    if json:
        as_json(asdict(found))
    else:
        for problem in found.problems:
            print(problem)
        print(f"{'BROKEN' if found.problems else 'whole'}: {found.rows} rows, head {found.head}")
    if found.problems:
        raise typer.Exit(1)


def audit_list(
    action: Annotated[str | None, typer.Option(help="This action alone, as `decrypt` or `replay`.")] = None,
    subject: Annotated[str | None, typer.Option(help="About this alone, as `batch:7` or `feed:north.adt`.")] = None,
    format: Annotated[  # noqa: A002
        Literal["text", "json", "fhir"], typer.Option("--format", help="fhir: AuditEvents, NDJSON.")
    ] = "text",
    json: Json = False,
) -> None:
    """List what operators did, oldest first: number, time, who, what, to what, why, counts."""
    from tasks.ledger.audit import acts
    from tasks.ledger.audit_event import audit_event
    from tasks.ledger.db import connect
    from tasks.settings import settings

    with connect(settings().warehouse_url) as connection:
        found = list(acts(connection, action, subject))
    if format == "fhir":
        for act in found:
            as_json(audit_event(act))
        return
    columns = ("number", "at", "actor", "action", "subject", "reason", "counts")
    rows = [{name: getattr(act, name) for name in columns} for act in found]
    if json or format == "json":
        as_json(rows)
        return
    for row in rows:
        row["at"] = row["at"].isoformat(timespec="seconds")
        row["counts"] = ", ".join(f"{name} {count}" for name, count in row["counts"].items())
    table(rows, columns)
