"""`sluice feed test`: what a feed makes of a corpus, beside its snapshot and beside what is deployed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import as_json, table
from tasks.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deployments.lab.compare import Difference
    from deployments.lab.run import Lab


def feed_test(
    feed: Annotated[str, typer.Argument(help="A feed's name, or its file.")],
    corpus: Annotated[Path, typer.Option(help="A folder with files as the partner drops them.")],
    update: Annotated[bool, typer.Option("--update", help="Write the snapshot (DIR/expected) anew.")] = False,
    deployed: Annotated[
        bool, typer.Option("--deployed/--no-deployed", help="Compare with what `sluice deploy` deployed last.")
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where what is deployed differs too.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a page of HTML.")] = None,
    values: Annotated[
        bool, typer.Option("--values", help="Show values in the page: for corpora without patients' data alone.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Convert a corpus and say by element what differs; for CI: exit code 1 where the snapshot says something else.

    Without a snapshot the exit code is 1 too: write one with --update, read it, commit it beside the corpus. A CI
    without a Postgres says --no-deployed.
    """
    if not corpus.is_dir():
        raise ConfigError(f"--corpus {corpus}: there is no such folder")
    from deployments.lab.corpus import write_snapshot
    from deployments.lab.report import page
    from deployments.lab.run import try_feed

    lab = try_feed(feed, corpus, with_deployed=deployed)
    if report is not None:
        _write(report, page(lab.feed, lab.cases, list(lab.against()), values=values))
    if json:
        as_json(_facts(lab))
    else:
        _print(lab, deployed)
    if update:
        print(f"{write_snapshot(corpus, lab.cases)} records written to {corpus / 'expected'}")
        return
    if lab.snapshot is None and not json:
        print("no snapshot yet: write one with --update, read it, and commit it beside the corpus")
    if lab.snapshot is None or lab.snapshot or (strict and lab.deployed):
        raise typer.Exit(1)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--report {path}: it cannot be written ({error.strerror})") from None


def _print(lab: Lab, deployed: bool) -> None:
    outcomes = Counter(case["outcome"] for case in lab.cases)
    table([{"records": len(lab.cases), **outcomes}], ["records", *sorted(outcomes)])
    for title, found in lab.against():
        if found is not None:
            _differences(title, found)
    if not deployed:
        print("what is deployed was not asked")


def _differences(title: str, found: Sequence[Difference]) -> None:
    from deployments.lab.compare import by_element

    print(f"{title}: {'no difference' if not found else f'{len(found)} differences'}")
    if found:
        table(by_element(found), ["differences", "records", "type", "path", "change"])


def _facts(lab: Lab) -> dict[str, Any]:
    from deployments.lab.compare import by_element

    def said(found: Sequence[Difference] | None) -> dict[str, Any] | None:
        if found is None:
            return None
        listed = [
            {
                "file": one.file,
                "index": one.index,
                "place": one.place,
                "resource": one.resource,
                "path": one.path,
                "change": one.change,
            }
            for one in found
        ]
        return {"elements": by_element(found), "differences": listed}

    outcomes = Counter(case["outcome"] for case in lab.cases)
    return {
        "feed": lab.feed,
        "records": len(lab.cases),
        "outcomes": dict(outcomes),
        "snapshot": said(lab.snapshot),
        "deployed": said(lab.deployed),
    }
