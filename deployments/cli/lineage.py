"""`sluice lineage`: where a thing came from and where it went."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from deployments.cli.output import as_json
from tasks.errors import ConfigError

THING = (
    "A resource (Type/id, or the id alone), a version of it (Type/id/_history/2), a warehouse row "
    "(core.observation/ID), what a destination calls it (ehr/Patient/ID) or said of it (receipt:NUMBER), a record "
    "(DELIVERY:ORDINAL), a delivery's number, a partner's file (FEED/NAME, or file/NAME of any feed) or a place in it "
    "(FEED/NAME#line 17), batch:NUMBER, mapping:VERSION, or a run's id."
)


def lineage(
    thing: Annotated[str, typer.Argument(help=THING)],
    format: Annotated[  # noqa: A002
        Literal["text", "json", "html", "svg"], typer.Option("--format", help="html and svg are a drawn graph.")
    ] = "text",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where a thing came from and where it went: delivery, line or message, mapping version, run, destinations."""
    from tasks.ledger.db import connect
    from tasks.lineage.graph import html, svg
    from tasks.lineage.trace import trace
    from tasks.settings import runs_address, settings

    with connect(settings().warehouse_url) as connection:
        found = trace(connection, thing)
    if not found:
        raise ConfigError(f"{thing} is not known to the ledger. {THING}")
    runs = runs_address()
    if json or format == "json":
        as_json(found)
    elif format == "svg":
        sys.stdout.write(svg(found, runs))
    elif format == "html":
        sys.stdout.write(html(found, thing, runs))
    else:
        for step in found:
            print(step["kind"])
            for name, value in step.items():
                if name != "kind" and value is not None:
                    print(f"    {name:16} {value}")
            if runs and step.get("run") and ":" not in step["run"]:
                print(f"    {'run_page':16} {runs}/{step['run']}")
