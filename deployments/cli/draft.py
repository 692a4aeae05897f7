"""`sluice feed draft`: a first mapping and feed file from a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def draft(
    file: Annotated[Path, typer.Argument(help="A sample: CSV, HL7 v2 messages, FHIR NDJSON or a FHIR bundle.")],
    feed: Annotated[str, typer.Option("--feed", help="The feed's name, <partner>.<feed>.")] = "",
    to: Annotated[
        Path | None, typer.Option("--to", help="A folder for the files; without it the project's own.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="The zone of times without an offset, e.g. America/New_York.")] = "",
) -> None:
    """Write a first mapping and feed file from a sample, guesses marked as comments; nothing is overwritten."""
    from deployments.drafting.write import draft as write

    for path in write(file, feed, to, timezone):
        print(f"wrote {path}")
    print("next: read the lines marked `guess:`, then `sluice feed check`")
