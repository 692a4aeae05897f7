"""`sluice views`: ViewDefinitions over files, and the official tests of whoever runs them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mappings.engine.views import View
    from mappings.engine.views.conformance import Runner


class Runners(StrEnum):
    """Where the official tests are run."""

    memory = "memory"
    postgres = "postgres"
    both = "both"


def run(
    view: Annotated[str, typer.Argument(help="A ViewDefinition file, or the name of a view of the warehouse.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT…", help="NDJSON files, bundles, folders of them, or -.")
    ],
) -> None:
    """Print the rows of a view over FHIR resources, as NDJSON; exit code 1 for an invalid view."""
    from mappings.engine.json import dumps
    from mappings.engine.views import ViewError
    from mappings.engine.views.read import read_resources
    from tasks.errors import ConfigError, Permanent

    compiled, place = _view(view)
    for unknown in compiled.unknown:
        print(f"sluice: {place}: {unknown}; it gives nothing", file=sys.stderr)
    try:
        for row in compiled.rows(read_resources(inputs, sys.stdin.buffer)):
            sys.stdout.buffer.write(dumps(row) + b"\n")
        sys.stdout.flush()
    except ViewError as error:
        raise Permanent(f"{place}: {error}; the rows before it were printed") from None
    except BrokenPipeError:
        raise  # an `OSError` that is nobody's mistake: `main` ends the command
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: {error.strerror}; name files that can be read, or - for standard input"
        ) from None
    except ValueError as error:
        raise Permanent(f"{error}; the rows before it were printed") from None


def conformance(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of SQL on FHIR v2 test files.")],
    *,
    runner: Annotated[
        Runners, typer.Option(help="In process, in Postgres, or a test passes only in both.")
    ] = Runners.both,
    out: Annotated[Path | None, typer.Option(help="Write the report to this file and print a summary.")] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the report (this is what happens without --out too).")
    ] = False,
) -> None:
    """Run the official SQL on FHIR tests of a folder; exit code 1 where one does not pass."""
    from deployments.cli.output import as_json
    from mappings.engine.json import dumps
    from mappings.engine.views.conformance import failures, merge, run_suite
    from tasks.errors import ConfigError

    try:
        report = merge([run_suite(folder, run_view) for run_view in _runners(runner)])
    except (OSError, ValueError) as error:
        raise ConfigError(f"{error}; name a folder of SQL on FHIR v2 test files") from None
    failed = failures(report)
    if out:
        out.write_bytes(dumps(report) + b"\n")
    if json_ or not out:
        as_json(report)
    else:
        total = sum(len(suite["tests"]) for suite in report.values())
        print(f"{total - failed} of {total} passed; report in {out}")
    if failed:
        raise typer.Exit(1)


def _view(name: str) -> tuple[View, str]:
    from mappings.engine.yamlfile import nearest
    from tasks.core_views import read_view, view_files
    from tasks.errors import ConfigError, Permanent

    path = Path(name) if Path(name).is_file() else view_files().get(name)
    if path is None:
        raise ConfigError(f"{name}: neither a file nor a view of the warehouse{nearest(name, view_files())}")
    try:
        return read_view(path), str(path)
    except ConfigError as error:
        raise Permanent(str(error)) from None


def _runners(wanted: Runners) -> Iterator[Runner]:
    """Yield the runners, Postgres on a server of its own: the warehouse need not be there and is not touched."""
    from mappings.engine.views.conformance import in_memory

    if wanted is not Runners.postgres:
        yield in_memory
    if wanted is not Runners.memory:
        import psycopg

        from infra.dev.scratch import scratch_postgres
        from tasks.publish.view_runner import rows_in_postgres

        with scratch_postgres() as url, psycopg.connect(url, autocommit=True) as connection:
            yield lambda view, resources: rows_in_postgres(connection, view, resources)
