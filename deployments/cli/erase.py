"""`sluice erase` and `sluice landing`: a patient is taken out everywhere; landing's keys are changed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import as_json, table
from deployments.cli.quarantine import record_number

if TYPE_CHECKING:
    from tasks.erase.run import Erasure

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def erase(
    patient: Annotated[
        str | None, typer.Argument(help="Patient/ID; without one, what earlier erasures left to be done is done.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the audit trail; no patient data.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; print what would be erased.")] = False,
    record: Annotated[
        list[str] | None,
        typer.Option(help="A stopped record that is the patient's (DELIVERY:ORDINAL); again for more."),
    ] = None,
    allow_new: Annotated[
        bool, typer.Option("--allow-new", help="Let through what happens from now on; else nothing ever.")
    ] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Let the patient be published again from now on.")] = False,
    send_again: Annotated[
        str | None, typer.Option(metavar="DESTINATION", help="Send deletions that it refused there again.")
    ] = None,
    close: Annotated[
        str | None,
        typer.Option(metavar="DESTINATION", help="Its operator has seen to the deletions that it refused."),
    ] = None,
    json: Json = False,
) -> None:
    """Erase a patient from store, history, tables, landing and destinations, and keep replays from bringing it back.

    Says what it cannot reach. What waits (an open segment, a destination that is down) is done by the feeds' next runs,
    or by `sluice erase` alone.
    """
    from tasks.erase import run
    from tasks.settings import actor, settings

    if send_again or close:
        _refused(send_again, close, reason)
        return
    if patient is None:
        _standing(json)
        return
    if lift:
        run.lift(patient, actor(), reason)
        print(f"{patient} may be published again")
        return
    records = tuple(record_number(one) for one in record or ())
    made = run.erase(
        patient, actor(), reason, dry=dry_run, allow_new=allow_new, records=records, tell=_progress
    )  # fmt: skip
    _print(made, next(iter(settings().landing_keys)), json)


def rewrap(
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count objects by key, change nothing.")] = False,
    json: Json = False,
) -> None:
    """Seal again, under the first key of SLUICE_LANDING_KEY, every object that an older one wraps.

    Can be broken off and called again. When it prints that an older key wraps nothing, that key may be destroyed, and
    with it every old copy of landing. Exit code 1 where something is still under an older key.
    """
    from tasks.erase.rewrap import rewrap as seal_again
    from tasks.settings import actor

    found = seal_again(actor(), reason, dry=dry_run)
    if json:
        as_json(found.facts())
    else:
        rows = [{"key": key, "objects": count} for key, count in found.by_key.items()]
        table(rows, ["key", "objects"])
        print(f"{found.rewrapped} objects {'would be' if dry_run else 'were'} sealed again under key {found.current}")
        if found.waits:
            print(f"{found.waits} segments are still appended to: call again when they are closed")
        for name in found.damaged:
            print(f"delivery {name}: its object cannot be read; `sluice lineage {name}` says what it was")
        for key in found.free:
            print(f"key {key} wraps nothing any more: take it out of SLUICE_LANDING_KEY and destroy it")
    if found.waits or found.damaged:
        raise typer.Exit(1)


def _print(made: Erasure, key_id: str, json: bool) -> None:
    from dataclasses import asdict

    beyond = list(made.beyond(key_id))
    if json:
        said = asdict(made)
        as_json({**said, "landing": dict(made.landing), "beyond": beyond})
        return
    rows = [{"type": kind, "resources": count} for kind, count in made.counts["resources"].items()]
    table(rows, ["type", "resources"])
    words = "would be erased" if made.number is None else f"are erased (erasure {made.number})"
    print(
        f"{len(made.patients)} ids of one patient, {made.counts['versions']} versions, {made.counts['records']} "
        f"records in {made.counts['deliveries']} deliveries {words}"
    )
    if made.number is not None:
        print(f"landing: {made.landing['shredded']} objects shredded, {made.landing['waits']} wait")
    print("beyond Sluice's reach:")
    for line in beyond:
        print(f"  {line}")


def _refused(again: str | None, close: str | None, reason: str) -> None:
    from tasks.erase import refused
    from tasks.settings import actor

    if again:
        count = refused.send_again(again, actor(), reason)
        print(f"{again}: {count} deletions are sent again")
    if close:
        count = refused.close(close, actor(), reason)
        print(f"{close}: {count} deletions that it refused are closed")


def _standing(json: bool) -> None:
    from tasks.erase.run import finish
    from tasks.ledger.db import connect
    from tasks.ledger.erased import standing
    from tasks.settings import settings

    finish()
    with connect(settings().warehouse_url) as connection:
        rows = standing(connection)
    if json:
        as_json(rows)
        return
    for row in rows:
        row["at"] = row["at"].isoformat(timespec="seconds")
        row["done"] = row["ended_at"] is not None
        row["refused_by"] = ", ".join(row["refused_by"] or ())
    table(rows, ["erasure", "at", "actor", "deliveries_left", "confirmations_left", "refused_by", "done"])


def _progress(number: int) -> None:
    if number % 1000 == 0 and sys.stderr.isatty():
        print(f"{number} stopped records looked through", file=sys.stderr)
