"""`sluice up`, `sluice down`, `sluice status`: the embedded stack."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from deployments.cli.output import as_json, table, warn


def up() -> None:
    """Start the embedded stack: Postgres, Prefect, SFTP, S3, two FHIR servers, the worker. Twice changes nothing."""
    from infra.dev.stack import Stack

    stack = Stack()
    stack.up(lambda line: print(line, file=sys.stderr))
    table(stack.status(), ["service", "address", "answers"])


def down() -> None:
    """End the embedded stack; its data stays."""
    from infra.dev.stack import Stack

    Stack().down(lambda line: print(line, file=sys.stderr))


def demo(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Let sample partners drop a day's data, take it through every stage and print what happened."""
    from deployments.runtime import use_prefect
    from infra.dev.stack import Stack

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    Stack().up(tell)
    use_prefect()
    from deployments.demo import demo as run

    run(tell, as_json if json else demo_report)


def demo_report(report: dict[str, Any]) -> None:
    """Print the demo's result for people."""
    outcomes = ["received", "published", "quarantined", "duplicate", "filtered", "discarded", "in_flight"]
    print("\nWhat each delivery became; received is the sum of what stands to its right:")
    table(report["deliveries"], ["id", "feed", "name", "state", "corrects", "duplicate_of", *outcomes])
    print("\nCurrent resources in the warehouse and on the FHIR server:")
    kinds = report["store"]
    table(
        [{"type": kind, "warehouse": kinds[kind], "server": report["server"][kind]} for kind in kinds],
        ["type", "warehouse", "server"],
    )
    print("\nWhere to look:")
    table(report["services"], ["service", "address"])
    print("\nTry: sluice quarantine list · sluice doctor · sluice lineage Patient/<id> · sluice down")


def status(
    late: Annotated[
        bool, typer.Option("--late", help="List instead what did not come as its feed expects it.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where each service listens and whether it answers; with --late, what is late, missing, too small or large."""
    if late:
        from deployments.late import late_rows

        listed = late_rows(warn)
        if json:
            as_json(listed)
        elif listed:
            table(listed, list(listed[0]))
        else:
            print("everything came as expected")
        return
    from infra.dev.stack import Stack

    rows = Stack().status()
    if json:
        as_json(rows)
    else:
        table(rows, ["service", "address", "answers"])
    if not all(row["answers"] for row in rows):
        raise typer.Exit(1)
