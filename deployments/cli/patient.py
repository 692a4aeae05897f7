"""`sluice patient`: which patients are merged, and taking a merge back."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.output import as_json, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def patient_merges(
    patient: Annotated[str | None, typer.Option(help="Of this patient's id alone.")] = None,
    json: Json = False,
) -> None:
    """List merged patients: who leads to whom, since when, and which record said so."""
    from tasks.ledger.db import connect
    from tasks.publish.identity import merges
    from tasks.settings import settings

    with connect(settings().warehouse_url) as connection:
        rows = merges(connection, patient)
    if json:
        as_json(rows)
        return
    for row in rows:
        row["at"] = row["at"].isoformat(timespec="seconds")
    table(rows, ["patient", "into", "at", "feed", "delivery", "place"])


def patient_unmerge(
    patient: Annotated[str, typer.Argument(help="The retired patient: Patient/ID, or the id alone.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail; no patient data.")],
    json: Json = False,
) -> None:
    """Take a merge back: both patients get a version without it; a merge that happens later counts again."""
    from tasks.ledger.db import connect
    from tasks.publish.store import unmerge
    from tasks.publish.tables import refresh
    from tasks.settings import actor, settings

    patient = patient.removeprefix("Patient/")
    with connect(settings().warehouse_url) as connection:
        done = unmerge(connection, patient, actor(), reason, refresh)
    if json:
        as_json({"patient": patient, "changed": done.changed, "queued": done.queued})
    else:
        print(f"patient {patient}: {done.changed} patients changed, {done.queued} versions queued for destinations")
