"""The questions that are asked of the ledger, at two million records: each finds its rows by an index."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tasks.erase import find
from tasks.ledger import prune

DELIVERIES = 2_000
RECORDS = 1_000
FILL = f"""
insert into ledger.delivery (feed, partner, format, name, version, state, object, size, sha256, run_id, landed_at,
                             finished_at, receipt, receipt_at)
select 'p' || n % 100 || '.f' || n % 3, 'p' || n % 100, 'hl7v2', 'file' || n, '1', 'read', 'o', 1,
       sha256(n::text::bytea), 'run' || n, now() - make_interval(mins => 5 * n), now(), '{{"a": 1}}', now()
from generate_series(1, {DELIVERIES}) n;
update ledger.delivery set state = 'landed', finished_at = null where id % 500 = 0;
insert into ledger.batch (feed, partner, state, token, run_id, mapping_version, staged_rows)
select feed, partner, case when id % 400 = 0 then 'staged' else 'published' end, 1, run_id, 'v', 0
from ledger.delivery order by id;
insert into ledger.batch_slice (batch_id, delivery_id, first_ordinal, last_ordinal, start, received)
select id, id, 1, {RECORDS}, '{{"offset": 0, "ordinal": 1, "context": {{}}}}', {RECORDS} from ledger.batch;
insert into ledger.record (id, landed_on, batch_id, location, key, state)
select (d << 32) + r, current_date - (d % 90)::int, d, 'message ' || r, decode(md5(d || ':' || r), 'hex'),
       case when r % 1000 = 7 then 'quarantined' end
from generate_series(1, {DELIVERIES}::bigint) d, generate_series(1, {RECORDS}) r;
insert into ledger.record_key select key, id from ledger.record where state is null;
insert into ledger.record_patient select id % 100000, id from ledger.record order by id;
insert into fhir.resource (resource_type, id, version_id, event_time, record_id, batch_id, partner, feed, fhir_version,
                           digest, resource)
select 'Observation', md5(id::text), 1, now(), id, 1, 'p', 'f', '4.0.1', '',
       jsonb_build_object('subject', jsonb_build_object('reference', 'Patient/' || id % 100000))
from ledger.record where id % 10 = 1;
insert into ledger.quarantine (record_id, delivery_id, batch_id, feed, stage, code, location, findings, mapping_version,
                               ended_at, ended_as)
select r.id, r.id >> 32, r.batch_id, b.feed, 'convert', 'code' || r.batch_id % 20, 'PID-3', '[]', 'v',
       case when r.batch_id % 10 > 0 then now() end, case when r.batch_id % 10 > 0 then 'released' end
from ledger.record r join ledger.batch b on b.id = r.batch_id where r.state = 'quarantined';
insert into ledger.outbox (destination, resource_type, id, wanted, confirmed, state, batches)
select 'ehr', 'Patient', md5(n::text), 1, 1, case when n % 1000 = 0 then 'pending' else 'confirmed' end, array[n]
from generate_series(1, 300000) n;
insert into ledger.load_receipt (at, destination, resource_type, resource_id, version_id, status, code)
select now() - make_interval(secs => n), 'ehr', 'Patient', md5(n::text), 1, 'sent', '200'
from generate_series(1, 300000) n;
"""
LARGE = ("resource_", "record", "load_receipt", "outbox", "delivery", "batch_slice", "batch", "quarantine")
"""Relations, and the beginnings of their partitions' names, that no question may read from end to end."""
DELIVERY = 17
FILLED = "select sum(reltuples) from pg_class where relname = %s"
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "which of these contents came before": (
        """
        select key, record_id from ledger.record_key
        where key = any(array(select decode(md5('17:' || n), 'hex') from generate_series(1, 500) n))
        """,
        {},
    ),
    "where is partner X's file": ("select * from ops.delivery where partner = 'p17' and name = 'file17'", {}),
    "did these bytes come before": (
        "select id from ledger.delivery where feed = 'p17.f2' and sha256 = sha256('17'::bytea)",
        {},
    ),
    "what was landed and not read": ("select id from ledger.delivery where feed = 'p0.f2' and state = 'landed'", {}),
    "what did this run do": (
        "select * from ops.delivery where id in (select id from ledger.delivery where run_id = 'run17')",
        {},
    ),
    "one record by its id": ("select * from ledger.record where id = %(id)s", {"id": (DELIVERY << 32) + 5}),
    "a delivery's records": (
        "select id from ledger.record where id >= %(id)s::bigint << 32 and id < (%(id)s::bigint + 1) << 32",
        {"id": DELIVERY},
    ),
    "a batch's records": ("select id from ledger.record where batch_id = 17 and state is null", {}),
    "a feed's quarantine by code": (
        "select count(*) from ledger.quarantine where feed = 'p10.f1' and code = 'code10' and ended_at is null",
        {},
    ),
    "what a destination is due": (
        """
        select resource_type, id from ledger.outbox where destination = 'ehr' and state = 'pending' and next_at <= now()
        order by batches[1], resource_type, id limit 500
        """,
        {},
    ),
    "what destinations said of a resource": (
        "select * from ledger.load_receipt where resource_id = md5('17') order by destination, at desc",
        {},
    ),
    "what a feed has left": ("select id from ledger.batch where feed = 'p0.f0' and state = 'staged' order by id", {}),
}


@pytest.fixture
def full(warehouse_url: str):
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute(FILL.encode())
        connection.execute("analyze")
        yield connection


def scans(plan: Any) -> list[str]:
    """The relations that a plan reads from end to end."""
    own = [plan["Relation Name"]] if plan.get("Node Type") == "Seq Scan" else []
    return own + [name for part in plan.get("Plans", ()) for name in scans(part)]


def plan_of(connection: Any, query: str, params: dict[str, Any]) -> Any:
    [(found,)] = connection.execute(f"explain (format json) {query}".encode(), params or None).fetchall()
    return (found if isinstance(found, list) else json.loads(found))[0]["Plan"]


@pytest.mark.slow
def test_every_question_finds_its_rows_by_an_index(full: Any) -> None:
    [(count,)] = full.execute("select count(*) from ledger.record").fetchall()
    assert count == DELIVERIES * RECORDS
    assert full.execute("select * from ops.invariant").fetchall() != []  # the quarantined are in no slice's count
    wrong = {}
    for name, (query, params) in QUESTIONS.items():
        read = [one for one in scans(plan_of(full, query, params)) if one.startswith(LARGE)]
        # an empty partition is read from end to end for nothing
        filled = [one for one in read if full.execute(f"select 1 from ledger.{one} limit 1".encode()).fetchall()]
        if filled:
            wrong[name] = filled
    assert wrong == {}


@pytest.mark.slow
def test_pruning_takes_its_deliveries_by_an_index_and_never_reads_all_records(full: Any) -> None:
    query = prune.RECORDS.replace("%(deliveries)s::bigint[]", "array[17, 18, 19]::bigint[]")
    read = [one for one in scans(plan_of(full, query, {})) if one.startswith("record")]
    assert [one for one in read if full.execute(f"select 1 from ledger.{one} limit 1".encode()).fetchall()] == []


@pytest.mark.slow
def test_an_erasure_finds_what_speaks_of_the_patient_by_an_index(full: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find.spoken, "mark", int)
    params = find.asked(["17001"])
    read = set()
    with full.transaction():
        for statement in find.GATHER:
            if not statement.startswith("analyze"):
                read |= {one for one in scans(plan_of(full, statement, params)) if one.startswith(LARGE)}
            full.execute(statement.encode(), params)
        found = full.execute("select record_id from mine order by 1").fetchall()
        filled = [one for one in read if full.execute(FILLED, (one,)).fetchall()[0][0] > 0]
    assert filled == []
    assert (
        found == full.execute("select record_id from ledger.record_patient where patient = 17001 order by 1").fetchall()
    )
    assert len(found) > 10
