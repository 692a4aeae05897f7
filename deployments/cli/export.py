"""`sluice export`: a FHIR bulk export into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.source.bulk_export import ExportSummary, Progress


def export(
    url: Annotated[str, typer.Argument(help="The server's base, or a kick-off URL (…/Patient/$export).")],
    *,
    to: Annotated[Path, typer.Option("--to", help="The folder to fill; given again, the export goes on there.")],
    type_: Annotated[list[str] | None, typer.Option("--type", help="Resource types, separated by commas.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what changed after this instant or date (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Only what changed before this instant or date (UTC).")] = None,
    group: Annotated[str | None, typer.Option(help="The id of a Group: only its members.")] = None,
    auth: Annotated[Path | None, typer.Option(help="The auth file (JSON).")] = None,
    type_filter: Annotated[list[str] | None, typer.Option(help="A search that restricts a type; repeatable.")] = None,
    elements: Annotated[list[str] | None, typer.Option(help="Elements to include, separated by commas.")] = None,
    post: Annotated[bool, typer.Option("--post", help="Ask by POST instead of GET.")] = False,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Files fetched at once, at most.")] = 4,
    json_: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Export a FHIR server's data in bulk; exit code 1 where the export is partial."""
    from tasks import http
    from tasks.http_auth import NoAuth, read_auth
    from tasks.source.bulk_export import Exporter
    from tasks.source.bulk_export import Progress as Moving
    from tasks.source.bulk_folder import ExportFolder
    from tasks.source.bulk_request import ExportRequest, instant

    request = ExportRequest(
        url,
        types=_words(type_),
        since=instant(since) if since else None,
        until=instant(until) if until else None,
        group=group,
        type_filters=tuple(type_filter or ()),
        elements=_words(elements),
        method="post" if post else "get",
    )
    known = read_auth(auth) if auth else NoAuth()
    client = http.client(request.base, known, connections=parallel + 1, follow_redirects=True)
    folder = ExportFolder(to, request.fingerprint())
    with client:
        try:
            summary = Exporter(client, request, folder, parallel=parallel, progress=Moving(_shown())).run()
        finally:
            folder.close()
    _print(summary, to, json_)
    if summary.partial:
        raise typer.Exit(1)


def _words(given: list[str] | None) -> tuple[str, ...]:
    return tuple(word.strip() for text in given or () for word in text.split(",") if word.strip())


def _shown() -> Callable[[Progress], None]:
    """Return what shows progress: a line that is written over on a terminal, nothing in a pipe."""
    import sys
    import time

    if not sys.stderr.isatty():
        return lambda _: None
    began, last = time.monotonic(), [0.0]

    def show(progress: Progress) -> None:
        now = time.monotonic()
        if now - last[0] < 0.2:
            return
        last[0] = now
        left = (now - began) / progress.files * (progress.of - progress.files) if progress.files else 0
        text = f"{progress.stage}: {progress.files}/{progress.of} files, {progress.size / 1e6:.1f} MB"
        sys.stderr.write(f"\r{text}{f', about {left:.0f} s left' if left else ''}\033[K")
        sys.stderr.flush()

    return show


def _print(summary: ExportSummary, to: Path, as_json: bool) -> None:
    import json
    import sys
    from dataclasses import asdict

    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    status = "partial" if summary.partial else "complete"
    if as_json:
        print(json.dumps({"status": status, "directory": str(to), **asdict(summary)}))
        return
    print(f"{status}: {sum(summary.resources.values())} resources in {summary.files} files, {summary.size} bytes")
    print(f"transaction time: {summary.transaction_time or 'not given by the server'}")
    for name, count in sorted(summary.resources.items()):
        print(f"  {name}: {count}")
    if summary.deleted_bundles:
        print(f"  deleted: {summary.deleted_bundles} bundles")
    for line in _lacking(summary):
        print(line)
    if summary.partial:
        print("partial: run the same command again to complete it", file=sys.stderr)


def _lacking(summary: ExportSummary) -> list[str]:
    lines = [f"missing: {item['file'] or 'manifest'}: {item['reason']}" for item in summary.missing]
    for item in summary.short:
        if "other_type" in item:
            lines.append(f"unexpected: {item['file']}: {item['other_type']} resources of another type")
        else:
            lines.append(f"short: {item['file']}: {item['resources']} resources, the manifest says {item['expected']}")
    lines += [f"broken: {item['file']}: line {item['line']} is not JSON" for item in summary.broken]
    lines += [f"server: {key}: {count} issues" for key, count in sorted(summary.issues.items())]
    return lines + [f"note: {note}" for note in summary.notes]
