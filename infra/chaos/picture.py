"""What a site looks like in the end, without what two undisturbed runs would differ in: ids drawn, times of arrival."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

Facts = dict[str, Any]

QUERIES: Mapping[str, str] = {
    # a batch of a listener's messages is as large as what came meanwhile, and a version is a batch's
    "store": """
        select resource_type || '/' || id, deleted || ' ' || encode(digest, 'hex')
               || case when partner = any(%(pushed)s) then '' else ' v' || version_id end
        from fhir.resource
    """,
    "history": """
        select resource_type || '/' || id || '/' || version_id, deleted || ' ' || encode(digest, 'hex')
        from fhir.history where partner <> all(%(pushed)s)
    """,
    "contributions": """
        select resource_type || '/' || id || ' ' || event_time, md5(string_agg(said::text, ' ' order by said::text))
        from fhir.contribution group by resource_type, id, event_time
    """,
    "late facts": """
        select resource_type || '/' || id || ' ' || event_time, md5(string_agg(resource::text, ' ' order by
               resource::text)) from fhir.late_fact group by resource_type, id, event_time
    """,
    "identities": "select resource_type || '/' || retired_id, string_agg(survivor_id, ' ' order by survivor_id) "
    "from fhir.identity group by 1",
    "outbox": "select destination || ' ' || resource_type || '/' || id, state from ledger.outbox",
    "deliveries": """
        select feed || ' ' || name || ' ' || coalesce(sha256, '') || ' '
               || (row_number() over (partition by feed, name, sha256 order by id)),
               concat_ws(' ', state, received, published, quarantined, duplicate, filtered, discarded, in_flight)
        from ops.delivery
    """,
    "quarantine": """
        select q.feed || ' ' || r.location || ' ' || q.stage || ' ' || q.code || ' ' || q.location, count(*)::text
        from ledger.quarantine q join ledger.record r on r.id = q.record_id
        where q.ended_at is null and q.feed <> all(%(feeds)s) group by 1
    """,
    "totals": """
        select feed, concat_ws(' ', sum(received), sum(published), sum(quarantined), sum(duplicate), sum(filtered),
               sum(discarded), sum(in_flight))
        from ops.delivery group by feed
    """,
    "unmapped": "select concat_ws(' ', feed, code_table, system, code, location), count::text "
    "from restricted.unmapped_code",
}
SERVER = """
select type || '/' || id, deleted || ' ' || encode(digest, 'hex') from {schema}.version where superseded = 'infinity'
"""
_NUMBERS = re.compile(r"(\bdelivery |(?:^|\r)(?:MSH(?:\|[^|\r]*){8}|[FB]HS(?:\|[^|\r]*){9})\|)\d+")
"""Where a receipt names a delivery: in words, or as the control id of a batch or of an acknowledgement (HL7 2.15)."""
SOUND = "select delivery_id::text from ops.invariant"


@dataclass
class Picture:
    """Everything that must be the same in the end: facts by their place, by part (store, server, receipts, …)."""

    parts: dict[str, Facts] = field(default_factory=dict)

    def differences(self, other: Picture, most: int = 20) -> list[str]:
        """Return a line for each place in which `other` is not the same, none where it is."""
        lines = []
        for part in sorted(self.parts.keys() | other.parts.keys()):
            mine, theirs = self.parts.get(part, {}), other.parts.get(part, {})
            places = sorted(place for place in mine.keys() | theirs.keys() if mine.get(place) != theirs.get(place))
            lines += [f"{part} {place}: {mine.get(place)} | {theirs.get(place)}" for place in places[:most]]
            if len(places) > most:
                lines.append(f"{part}: {len(places) - most} more")
        return lines

    @property
    def size(self) -> int:
        """How many facts were compared."""
        return sum(len(part) for part in self.parts.values())


def of_warehouse(url: str, pushed: Iterable[str] = ()) -> dict[str, Facts]:
    """Return the parts that the warehouse shows; `pushed` are feeds whose batches and deliveries are cut by chance."""
    feeds = list(pushed)
    params = {"feeds": feeds, "pushed": [feed.partition(".")[0] for feed in feeds]}
    with psycopg.connect(url, autocommit=True) as connection:
        parts: dict[str, Facts] = {}
        for name, query in QUERIES.items():
            rows = connection.execute(query.encode(), params if "%(" in query else None).fetchall()
            parts[name] = dict(rows)
        parts["deliveries"] = {k: v for k, v in parts["deliveries"].items() if k.split(" ")[0] not in feeds}
        parts["core"] = _tables(connection)
        # what is out of balance counts as a difference to nothing
        parts["invariant"] = dict.fromkeys((row[0] for row in connection.execute(SOUND).fetchall()), "unsound")
    return parts


def of_server(url: str, schema: str) -> Facts:
    """Return the current resources of the embedded FHIR server by its own database."""
    with psycopg.connect(url, autocommit=True) as connection:
        return dict(connection.execute(SERVER.format(schema=schema).encode()).fetchall())


def of_receipts(files: Mapping[str, bytes]) -> Facts:
    """Return what receipts say, without the numbers of deliveries and the times."""
    facts: dict[str, list[str]] = {}
    for name, data in files.items():
        number = re.search(r"\.(\d+)\.(receipt\.txt|receipt\.json|ack\.hl7)$", name)
        if number is None:
            continue
        text = data.decode("utf-8", "replace")
        if name.endswith(".json"):
            text = json.dumps(_timeless(json.loads(text)), sort_keys=True)
        else:
            text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+\+00:00|\d{14}\+0000", "TIME", text)
            text = _NUMBERS.sub(r"\1NUMBER", text)
        facts.setdefault(f"{name[: number.start()]} {number[2]}", []).append(hashlib.sha256(text.encode()).hexdigest())
    return {name: " ".join(sorted(digests)) for name, digests in facts.items()}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in {"delivery", "landed_at", "made_at"}}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _tables(connection: psycopg.Connection[Any]) -> Facts:
    """Count and digest of every table of the analysts, without the columns that name a record or a version."""
    tables = connection.execute(
        """
        select table_name, string_agg('t.' || quote_ident(column_name), ', ' order by ordinal_position)
        from information_schema.columns
        where table_schema = 'core' and column_name <> all(%s) group by 1
        """,
        (["record_id", "version_id"],),
    ).fetchall()
    facts = {}
    for name, columns in tables:
        row = f"row({columns})::text"
        query = f"select count(*) || ' ' || md5(string_agg({row}, chr(10) order by {row})) from core.\"{name}\" t"  # noqa: S608
        [facts[name]] = connection.execute(query.encode()).fetchone() or (None,)
    return facts
