"""Batches: their members are fixed and stored in one transaction, before any gate looks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.feed import Feed
from tasks.ledger import spoken
from tasks.ledger.db import Connection
from tasks.ledger.deliveries import EXPECTED, Delivery, of_row, position_json
from tasks.ledger.peers import Heard
from tasks.model import Finding, Position, UnmappedCode

Ended = Literal["quarantined", "duplicate", "filtered"]


@dataclass(slots=True)
class Slice:
    """What a batch holds of one delivery; `stop` is None when the delivery was read to its end.

    - `read_to` is the size to which a delivery that grows was read, where it was read as far as it went.
    """

    delivery_id: int
    first: int
    last: int
    start: Position
    stop: Position | None = None
    read_to: int | None = None
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Found:
    """One finding of a batch: how often, the first record that had it, and all that had it as [from, before) ranges."""

    first: int
    count: int = 0
    spans: list[list[int]] = field(default_factory=list)

    def note(self, record: int) -> None:
        """Count a record; records come in their order, so that neighbours are one range."""
        self.count += 1
        if self.spans and self.spans[-1][0] <= record <= self.spans[-1][1]:
            self.spans[-1][1] = max(self.spans[-1][1], record + 1)
        else:
            self.spans.append([record, record + 1])

    def ranges(self) -> str:
        """Return the ranges as Postgres writes them."""
        return "{" + ",".join(f"[{start},{stop})" for start, stop in self.spans) + "}"


@dataclass(slots=True)
class Members:
    """A batch being put together: its slices, its records and what is wrong with them.

    - `records` are (record id, landed on, location, key, ended or None).
    - `quarantined` are (record id, delivery id, stage, findings).
    - `findings` are by (stage, code, location, severity).
    - `withheld` are records of erased patients; `spoken` is of whom the filtered ones speak.
    - `heard` is how a peer speaks of what they say.
    """

    slices: list[Slice] = field(default_factory=list)
    records: list[tuple[int, Any, str, bytes | None, Ended | None]] = field(default_factory=list)
    quarantined: list[tuple[int, int, str, Sequence[Finding]]] = field(default_factory=list)
    findings: dict[tuple[str, str, str, str], Found] = field(default_factory=dict)
    unmapped: dict[UnmappedCode, list[int]] = field(default_factory=dict)
    withheld: list[int] = field(default_factory=list)
    spoken: list[tuple[int, set[str]]] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    def note(self, record: int, stage: str, findings: Iterable[Finding]) -> None:
        """Count a record's findings."""
        for finding in findings:
            key = (stage, finding.code, finding.location, finding.severity)
            found = self.findings.get(key)
            if found is None:
                found = self.findings[key] = Found(record)
            found.note(record)

    def note_unmapped(self, record: int, codes: Iterable[UnmappedCode]) -> None:
        """Count a record's codes that are in no table."""
        for code in codes:
            self.unmapped.setdefault(code, [0, record])[0] += 1


def open_batch(connection: Connection, feed: Feed, token: int, run_id: str | None, mapping_version: str) -> int:
    """Draw a batch's id; its row becomes visible with its members, in the same transaction."""
    row = connection.execute(
        """
        insert into ledger.batch (feed, partner, state, token, run_id, mapping_version, staged_rows)
        values (%s, %s, 'staged', %s, %s, %s, 0) returning id
        """,
        (feed.name, feed.partner, token, run_id, mapping_version),
    ).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])


def leave_unflushed(connection: Connection) -> None:
    """Let the transaction that stages a batch commit without waiting for the disk.

    A server that crashes within its next moments forgets that transaction as a whole, and what it read is read again:
    whatever follows from it (a verdict, a publication, a receipt) is committed behind it, and takes it along.
    """
    connection.execute("set local synchronous_commit = off")


def fix_members(connection: Connection, feed: Feed, batch_id: int, members: Members, staged_rows: int) -> None:
    """Store a batch's members, counts, findings and how far its deliveries were read."""
    going = sum(1 for record in members.records if record[4] is None)
    connection.execute(
        "update ledger.batch set staged_rows = %s, state = %s, published_at = %s where id = %s",
        (staged_rows, "staged" if going else "published", None if going else "now()", batch_id),
    )
    with connection.cursor() as cursor:
        with cursor.copy(RECORDS) as copy:
            copy.set_types(("int8", "date", "int8", "text", "bytea", "text"))
            for record, landed_on, location, key, ended in members.records:
                copy.write_row((record, landed_on, batch_id, location, key, ended))
        cursor.executemany(
            "insert into ledger.record_key (key, record_id) values (%s, %s)",
            [(record[3], record[0]) for record in members.records if record[3] is not None and record[4] is None],
        )
        cursor.executemany(SLICE, [_slice_row(batch_id, part) for part in members.slices])
        cursor.executemany(
            "update ledger.delivery set position = %s, state = case when %s then 'read' else state end where id = %s",
            [
                (None if part.stop is None else position_json(part.stop), part.stop is None, part.delivery_id)
                for part in members.slices
            ],
        )
        cursor.executemany(
            "update ledger.segment set read_to = %s where delivery_id = %s",
            [(part.read_to, part.delivery_id) for part in members.slices if part.read_to is not None],
        )
    spoken.note_stopped(connection, members.spoken)
    store_findings(connection, feed, batch_id, members)


RECORDS = "copy ledger.record (id, landed_on, batch_id, location, key, state) from stdin (format binary)"
SLICE = """
insert into ledger.batch_slice
    (batch_id, delivery_id, first_ordinal, last_ordinal, start, received, quarantined, duplicate, filtered)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


def _slice_row(batch_id: int, part: Slice) -> tuple[Any, ...]:
    counts = part.counts
    ended = (counts["quarantined"], counts["duplicate"], counts["filtered"])
    return (batch_id, part.delivery_id, part.first, part.last, position_json(part.start), counts["received"], *ended)


def store_findings(connection: Connection, feed: Feed, batch_id: int, members: Members) -> None:
    """Store a batch's counted findings, its quarantined records and the codes that no table has."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ledger.finding (batch_id, stage, code, location, severity, count, first_record, records)
            values (%s, %s, %s, %s, %s, %s, %s, %s)
            """,
            [(batch_id, *key, found.count, found.first, found.ranges()) for key, found in members.findings.items()],
        )
        cursor.executemany(
            """
            insert into ledger.quarantine
                (record_id, delivery_id, batch_id, feed, stage, code, location, findings, mapping_version, owner)
            select %s, %s, b.id, b.feed, %s, %s, %s, %s, b.mapping_version, %s from ledger.batch b where b.id = %s
            """,
            [
                (record, delivery, stage, *_first(found), _findings_json(found), feed.quarantine.owner, batch_id)
                for record, delivery, stage, found in members.quarantined
            ],
        )
        cursor.executemany(
            """
            insert into restricted.unmapped_code as u (feed, code_table, system, code, location, count, first_record)
            values (%s, %s, %s, %s, %s, %s, %s)
            on conflict (feed, code_table, system, code, location) do update
                set count = u.count + excluded.count, last_seen_at = now()
            """,
            [
                (feed.name, code.table, code.system, code.code, code.location, *value)
                for code, value in members.unmapped.items()
            ],
        )


def _first(findings: Sequence[Finding]) -> tuple[str, str]:
    worst = next((finding for finding in findings if finding.severity == "error"), findings[0])
    return worst.code, worst.location


def _findings_json(findings: Sequence[Finding]) -> str:
    return json.dumps([{"code": f.code, "location": f.location, "severity": f.severity} for f in findings])


def is_whole(connection: Connection, batch_id: int) -> bool:
    """Say whether everything that was staged for a batch is still there."""
    row = connection.execute(
        """
        select staged_rows = (select count(*) from staging.resource s where s.batch_id = b.id)
        from ledger.batch b where id = %s
        """,
        (batch_id,),
    ).fetchone()
    return bool(row and row[0])


def set_staged_rows(connection: Connection, batch_id: int, rows: int) -> None:
    """Note how many rows are staged for a batch."""
    connection.execute("update ledger.batch set staged_rows = %s where id = %s", (rows, batch_id))


def known(connection: Connection, keys: Iterable[bytes]) -> dict[bytes, int]:
    """Return which record stands for each content; a key holds the feed's name, so that feeds do not meet in it."""
    rows = connection.execute(
        "select key, record_id from ledger.record_key where key = any(%s)", (list(keys),)
    ).fetchall()
    return {bytes(key): int(record) for key, record in rows}


def going(connection: Connection, batch_id: int) -> set[int]:
    """Return the records of a batch that have not ended before the store."""
    rows = connection.execute("select id from ledger.record where batch_id = %s and state is null", (batch_id,))
    return {int(row[0]) for row in rows.fetchall()}


def members(connection: Connection, batch_id: int) -> list[tuple[Delivery, int]]:
    """Return a batch's deliveries, each from where the batch began in it, with the last ordinal that belongs to it."""
    rows = connection.execute(
        f"""
        select d.id, d.object, d.landed_at, s.start, d.corrects, g.size, false, {EXPECTED}, d.is_full, s.last_ordinal
        from ledger.batch_slice s join ledger.delivery d on d.id = s.delivery_id
        left join ledger.segment g on g.delivery_id = d.id
        where s.batch_id = %s order by d.id
        """.encode(),  # noqa: S608
        (batch_id,),
    ).fetchall()
    return [(of_row(row), row[-1]) for row in rows]


def end_before_store(connection: Connection, feed: Feed, batch_id: int, failed: Members) -> None:
    """Quarantine records of a staged batch that turned out to fail after its members were fixed."""
    if not failed.quarantined:
        return
    records = [record for record, *_ in failed.quarantined]
    connection.execute("update ledger.record set state = 'quarantined' where id = any(%s)", (records,))
    connection.execute(
        """
        update ledger.batch_slice s set quarantined = s.quarantined + n.records
        from (select id >> 32 as delivery_id, count(*) as records from unnest(%s::bigint[]) id group by 1) n
        where s.batch_id = %s and s.delivery_id = n.delivery_id
        """,
        (records, batch_id),
    )
    store_findings(connection, feed, batch_id, failed)


def open_batches(connection: Connection, feed: str, state: str = "staged") -> list[int]:
    """Return a feed's batches in a state, oldest first."""
    rows = connection.execute("select id from ledger.batch where feed = %s and state = %s order by id", (feed, state))
    return [int(row[0]) for row in rows.fetchall()]


def set_state(connection: Connection, batch_id: int, state: str, verdict: dict[str, Any] | None = None) -> None:
    """Move a batch to another state, with the gate's verdict where there is one."""
    connection.execute(
        "update ledger.batch set state = %s, verdict = coalesce(%s, verdict) where id = %s",
        (state, None if verdict is None else json.dumps(verdict), batch_id),
    )


def forget(connection: Connection, batch_id: int) -> None:
    """Take an empty batch back: its deliveries were read and held no record."""
    for table in ("batch_slice", "finding", "batch"):
        column = "id" if table == "batch" else "batch_id"
        connection.execute(f"delete from ledger.{table} where {column} = %s", (batch_id,))  # noqa: S608
