"""`sluice quarantine`: records that stopped, why, and what becomes of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import as_json, table
from tasks.errors import ConfigError

if TYPE_CHECKING:
    from tasks.replay.again import Outcome
    from tasks.replay.select import Selection

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Records = Annotated[list[str] | None, typer.Argument(help="Records as `quarantine list` prints them.")]
FeedName = Annotated[str | None, typer.Option("--feed", help="Of this feed alone.")]
Code = Annotated[str | None, typer.Option(help="With this finding alone.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit trail; no patient data.")]
Location = Annotated[str | None, typer.Option(help="With a finding at this place alone, as PID-7 or a column.")]
LISTED = ("record", "feed", "delivery_name", "place", "stage", "code", "location", "mapping_version", "owner", "age")
COUNTS = ("published", "held", "quarantined", "duplicate", "filtered", "requeued", "skipped")


def quarantine_list(
    feed: FeedName = None,
    code: Code = None,
    groups: Annotated[bool, typer.Option("--groups", help="Counted by feed, code and location.")] = False,
    json: Json = False,
) -> None:
    """List quarantined records with code, location, stage, mapping version, owner and age."""
    from tasks.ledger.db import connect
    from tasks.ledger.quarantine import grouped, listed
    from tasks.settings import settings

    with connect(settings().warehouse_url) as connection:
        rows = grouped(connection, feed, code) if groups else listed(connection, feed, code)
    if json:
        as_json(rows)
    elif groups:
        table(rows, ["records", "feed", "stage", "code", "location", "owner", "oldest"])
    else:
        table(rows, LISTED)


def quarantine_show(
    record: Annotated[str, typer.Argument(help="A record's id as `quarantine list` prints it: DELIVERY:ORDINAL.")],
    decrypt: Annotated[bool, typer.Option("--decrypt", help="Print the record's own bytes; wants --reason.")] = False,
    reason: Annotated[str, typer.Option(help="Why it is decrypted, for the audit trail.")] = "",
    json: Json = False,
) -> None:
    """Show everything that is known of one quarantined record, and what it says only where that is asked for."""
    if decrypt:
        _decrypt(record, reason)
        return
    from tasks.ledger.db import connect
    from tasks.ledger.quarantine import shown
    from tasks.settings import settings

    with connect(settings().warehouse_url) as connection:
        found = shown(connection, record_number(record))
    if found is None:
        raise ConfigError(f"record {record} is not in quarantine; see `sluice quarantine list`")
    if json:
        as_json(found)
        return
    for name, value in found.items():
        if name != "findings":
            print(f"{name:16} {'' if value is None else value}".rstrip())
    table(found["findings"], ["severity", "code", "location"])


def quarantine_release(
    reason: Reason,
    records: Records = None,
    feed: FeedName = None,
    code: Code = None,
    location: Location = None,
    json: Json = False,
) -> None:
    """Send records through again with today's maps; those that still fail stay, with their new findings."""
    from tasks.replay.run import Pace, release
    from tasks.settings import actor

    selection = _selection(records, feed, code, location)
    outcome = release(selection, actor(), reason, Pace(), lambda _: None)
    print_outcome(outcome, json)


def quarantine_discard(
    reason: Reason,
    records: Records = None,
    feed: FeedName = None,
    code: Code = None,
    location: Location = None,
    json: Json = False,
) -> None:
    """End records as discarded: they are never published."""
    from tasks.replay.run import Pace, discard
    from tasks.settings import actor

    count = discard(_selection(records, feed, code, location), actor(), reason, Pace())
    if json:
        as_json({"discarded": count})
    else:
        print(f"{count} records discarded")


def quarantine_unmapped(
    feed: FeedName = None,
    codes: Annotated[bool, typer.Option("--codes", help="Print the codes themselves; wants --reason.")] = False,
    reason: Annotated[str, typer.Option(help="Why the codes are read, for the audit trail.")] = "",
    json: Json = False,
) -> None:
    """List where codes came that no table has, and the codes themselves only where that is asked for."""
    from tasks.ledger.db import connect
    from tasks.ledger.quarantine import unmapped, unmapped_codes
    from tasks.settings import actor, settings

    with connect(settings().warehouse_url) as connection:
        rows = unmapped_codes(connection, feed, actor(), reason) if codes else unmapped(connection, feed)
    columns = ["codes", "times", "feed", "code_table", "location", "last"]
    if codes:
        columns = ["times", "feed", "code_table", "system", "code", "location", "first_record"]
    if json:
        as_json(rows)
    else:
        table(rows, columns)


def print_outcome(outcome: Outcome, json: bool) -> None:
    """Print what became of records, and for which findings some were not let through."""
    refused = [
        {"code": code, "location": location, "records": count}
        for (code, location), count in outcome.refused.most_common()
    ]
    counts = {name: outcome.counts[name] for name in (*COUNTS, "kept") if outcome.counts[name] or name == "published"}
    if json:
        as_json({**counts, "refused": refused})
        return
    table([counts], list(counts))
    if refused:
        table(refused, ["records", "code", "location"])


def record_number(text: str) -> int:
    """Return a record's number from DELIVERY:ORDINAL; raises `ConfigError` for another form."""
    from tasks.model import record_id

    delivery, _, ordinal = text.partition(":")
    if not (delivery.isdigit() and ordinal.isdigit() and len(delivery) < 11 and len(ordinal) < 11):
        raise ConfigError(f"{text} is not a record's id, as 12:345 is (delivery 12, record 345)")
    return record_id(int(delivery), int(ordinal))


def _selection(records: list[str] | None, feed: str | None, code: str | None, location: str | None) -> Selection:
    from tasks.replay.select import Selection

    if not (records or feed or code or location):
        raise ConfigError("which records? Name them, or say --feed, --code or --location; see `sluice quarantine list`")
    chosen = tuple(record_number(record) for record in records or ())
    return Selection(feed=feed, code=code, location=location, records=chosen)


def _decrypt(record: str, reason: str) -> None:
    from tasks.replay.run import decrypted
    from tasks.settings import actor

    data = decrypted(record_number(record), actor(), reason)
    if sys.stdout.isatty():
        # segments end with a carriage return, which a terminal would print over
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
