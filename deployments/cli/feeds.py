"""`sluice feed check`, `sluice deploy`, `sluice run`: feeds."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.output import as_json, table
from tasks.errors import ConfigError, Permanent


def check(
    feeds: Annotated[list[str] | None, typer.Argument(help="Names or files of feeds; all of them without any.")] = None,
) -> None:
    """Check feed files: one line a mistake with file, line and nearest valid word; exit code 1 where there is one."""
    from deployments.feed_check import check_feed
    from tasks.feed import feed_files

    problems: list[str] = []
    names = feeds or list(feed_files())
    for name in names:
        found = check_feed(name)
        problems += found
        if not found:
            print(f"{name}: good")
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)


def deploy(
    feeds: Annotated[list[str] | None, typer.Argument(help="Names of feeds; all of them without any.")] = None,
) -> None:
    """Register feeds as Prefect deployments with their schedules."""
    from deployments.runtime import use_prefect

    use_prefect()
    from deployments.deploy import deploy as register

    register(feeds or [], print)


def run(
    feed: Annotated[str, typer.Argument(help="A feed's name.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    here: Annotated[bool, typer.Option("--here", help="In this process instead of a worker's.")] = False,
) -> None:
    """Poll one feed once, through Prefect, and print the ledger's counts of what this run landed and read."""
    from deployments.runtime import use_prefect
    from tasks.feed import load

    name = load(feed).name
    use_prefect()
    from deployments.runs import run_feed

    ended, counts = run_feed(name, here=here)
    if json:
        as_json(counts)
    else:
        table([counts], list(counts))
    if not ended.good:
        raise Permanent(f"{name}: {ended}; see it in Prefect's UI, it can be retried there")


def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Benchmarks; all without any.")] = None,
) -> None:
    """Run benchmarks and print their figures as JSON, one line each, both sides of a comparison in one run."""
    import subprocess
    import sys

    from mappings.engine.yamlfile import nearest
    from tasks.settings import PROJECT

    folder = PROJECT / "tests" / "bench"
    known = sorted(path.stem for path in folder.glob("[a-z]*.py"))
    for name in names or known:
        if name not in known:
            raise ConfigError(f"bench {name}: there is no such benchmark{nearest(name, known)}")
        subprocess.run([sys.executable, str(folder / f"{name}.py")], check=True, cwd=PROJECT)
