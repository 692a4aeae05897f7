"""`sluice replay`: what was landed goes through again under today's maps; the dry run says first what would change."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import as_json, table
from deployments.cli.quarantine import print_outcome, record_number
from tasks.errors import ConfigError

if TYPE_CHECKING:
    from tasks.publish.preview import Change
    from tasks.replay.again import Outcome


def replay(
    reason: Annotated[str, typer.Option(help="Why, for the audit trail; no patient data.")],
    delivery: Annotated[int | None, typer.Option(help="This delivery's records.")] = None,
    record: Annotated[
        list[str] | None, typer.Option(help="This record (DELIVERY:ORDINAL); may be given again.")
    ] = None,
    code: Annotated[
        str | None, typer.Option(help="Records in quarantine for it, and those that went on with it.")
    ] = None,
    location: Annotated[
        str | None, typer.Option(help="The same by where (PID-8, a column), or with --code both.")
    ] = None,
    feed: Annotated[str | None, typer.Option(help="Of this feed alone.")] = None,
    mapping_version: Annotated[str | None, typer.Option(help="What was converted with these maps.")] = None,
    since: Annotated[str | None, typer.Option(help="Landed from then on, as 2026-03-09 or 2026-03-09T08:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Landed before then.")] = None,
    destination: Annotated[
        str | None, typer.Option(help="Convert nothing: send what is published to this destination again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; print what would change.")] = False,
    despite_gate: Annotated[bool, typer.Option("--despite-gate", help="Publish although a check fails.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=50_000, help="Records a transaction.")] = 1000,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between two, in which live runs go on.")] = 0.2,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for a run that has the feed.")] = 60,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send records through again: same ids, same event times, so that nothing doubles and the newest state stands."""
    from tasks.replay.run import Pace, send_again
    from tasks.replay.run import replay as press
    from tasks.replay.select import Selection
    from tasks.settings import actor

    selection = Selection(
        feed=feed,
        delivery=delivery,
        records=tuple(record_number(one) for one in record or ()),
        code=code,
        location=location,
        mapping_version=mapping_version,
        since=_moment("--since", since),
        until=_moment("--until", until),
    )
    if not selection.given() and destination is None:
        raise ConfigError(
            "replay what? Say --delivery, --record, --code, --location, --feed, --mapping-version, --since or --until"
        )
    pace = Pace(batch_size, pause, patience)
    if destination is not None:
        _known(destination)
        _print_sent(send_again(selection, destination, actor(), reason, pace, dry=dry_run), destination, dry_run, json)
        return
    printer = _Printer(json=json)
    outcome = press(selection, actor(), reason, pace, printer.tell, dry=dry_run, despite_gate=despite_gate)
    printer.end(outcome, dry_run)


class _Printer:
    """Prints differences as they come, by resource and element; values never."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.elements: Counter[tuple[str, str, str]] = Counter()
        self.listed: list[dict[str, Any]] = []

    def tell(self, outcome: Outcome) -> None:
        from tasks.replay.difference import pattern

        for change in outcome.changes:
            for path, word in _differences(change):
                self.elements[change.resource_type, pattern(path), word] += 1
                row = {"resource": f"{change.resource_type}/{change.id}", "path": path, "change": word}
                if self.json:
                    self.listed.append({**row, "record": _name(change.record)})
                else:
                    print(f"{row['resource']}  {path}: {word}" if path else f"{row['resource']}  {word}")
        if sys.stderr.isatty():
            print(f"{sum(outcome.counts.values())} records seen", file=sys.stderr)

    def end(self, outcome: Outcome, dry: bool) -> None:
        rows = [
            {"type": kind, "path": path, "change": word, "resources": count}
            for (kind, path, word), count in self.elements.most_common()
        ]
        if self.json:
            refused = [{"code": c, "location": at, "records": n} for (c, at), n in outcome.refused.most_common()]
            counts = {name: count for name, count in sorted(outcome.counts.items()) if count}
            as_json({"dry_run": dry, "counts": counts, "refused": refused, "elements": rows, "changes": self.listed})
            return
        if rows:
            table(rows, ["resources", "type", "path", "change"])
        print("nothing was changed; it would be:" if dry else "done:")
        print_outcome(outcome, json=False)


def _differences(change: Change) -> list[tuple[str, str]]:
    from tasks.replay.difference import difference

    if change.before is None:
        return [("", "added")]
    if change.after is None:
        return [("", "removed")]
    return list(difference(change.before, change.after))


def _name(record: int) -> str:
    from tasks.model import split_record_id

    return "{}:{}".format(*split_record_id(record))


def _print_sent(counts: Counter[str], destination: str, dry: bool, json: bool) -> None:
    if json:
        as_json({"dry_run": dry, "destination": destination, "queued": dict(counts)})
        return
    table([{"type": kind, "resources": count} for kind, count in counts.most_common()], ["type", "resources"])
    print(f"{destination}: {counts.total()} resources {'would be' if dry else 'are'} sent again")


def _known(destination: str) -> None:
    from mappings.engine.yamlfile import nearest
    from tasks.destinations import destination_files

    if destination not in destination_files():
        raise ConfigError(
            f"destination {destination}: there is no such file{nearest(destination, destination_files())}"
        )


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{name}: a date or a time is needed, as 2026-03-09 or 2026-03-09T08:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
