"""`sluice load`: FHIR files into a destination."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tasks.load import LoadSummary


def load(
    paths: Annotated[list[Path], typer.Argument(help="NDJSON files, Bundles, a folder that an export filled, or -.")],
    *,
    to: Annotated[str, typer.Option("--to", help="A destination's name, or the path of its file.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Load FHIR NDJSON or Bundles into a destination; exit code 1 where anything was refused."""
    from deployments.cli.output import as_json
    from tasks.destinations import open_destination
    from tasks.load import Loader

    destination = open_destination(to)
    try:
        with _files(paths) as files:
            summary = Loader(destination, moved=_shown()).load(files)
    finally:
        destination.close()
    if json:
        as_json(summary.as_json())
    else:
        _print(summary)
    if not summary.complete:
        raise typer.Exit(1)


def _shown() -> Callable[[Counter[str], int], None]:
    """Return what shows progress: a line that is written over on a terminal, nothing in a pipe."""
    import time

    if not sys.stderr.isatty():
        return lambda _counts, _of: None
    began = time.monotonic()

    def show(counts: Counter[str], total: int) -> None:
        done = sum(counts.values())
        rate = done / max(time.monotonic() - began, 0.001)
        left = f", about {(total - done) / rate:.0f} s left" if done and total > done else ""
        sys.stderr.write(f"\r{done}/{total} resources, {rate:.0f}/s{left}\033[K")
        sys.stderr.flush()

    return show


@contextmanager
def _files(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield `paths` with a file of what standard input holds in the place of `-`: everything is read, then ordered."""
    from tasks.errors import ConfigError

    if Path("-") not in paths:
        yield paths
        return
    with TemporaryDirectory(prefix="sluice-load-") as folder:
        given = Path(folder) / "standard-input"
        with given.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        if not given.stat().st_size:
            raise ConfigError("nothing to load: standard input is empty")
        yield [given if path == Path("-") else path for path in paths]


def _print(summary: LoadSummary) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    for status in ("sent", "unchanged", "duplicate", "refused", "retry"):
        if summary.outcomes[status] or status == "sent":
            print(f"{status}: {summary.outcomes[status]}")
    if summary.ids_given:
        print(f"without an id: {summary.ids_given}, given one from their bundle or their content")
    for (code, location, answer), count in summary.refusals.most_common():
        print(f"  {count} × {code} at {location} ({answer})")
    for place in summary.unreadable:
        print(f"  {' '.join(filter(None, (place['file'], place['place'])))}: {place['code']}")
    if summary.outcomes["retry"]:
        print("the destination did not take everything now: run the same command again", file=sys.stderr)
