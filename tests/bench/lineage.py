"""`sluice lineage` over a large ledger: milliseconds of every kind of question, and of the whole command.

`milliseconds` is what the answer takes: connecting to Postgres, asking, and what was found as steps; it is what may
grow with the ledger, and what the goal of 100 ms is about. `command` is what somebody waits who types it, most of
which is Python importing the libraries of the command line and of Postgres: `python_and_its_libraries` is a process
that does this alone.

`SLUICE_BENCH_RECORDS` sets how many records, resources, receipts and outbox rows are made up, 10,000 to a batch and
100,000 to a delivery (10,000,000 is the product's goal; the default is for an impatient person).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from infra.dev.scratch import scratch_postgres
from infra.migrations import upgrade

PER_BATCH, PER_DELIVERY = 10_000, 100_000
ROUNDS = 15
RUN = "11111111-2222-3333-4444-000000000001"

FILL = (
    """
    insert into ledger.delivery (feed, partner, format, name, version, state, object, size, sha256, landed_at, run_id)
    select 'bench.adt', 'bench', 'hl7v2', 'day' || n || '.hl7', '1', 'read', 'x', 1, sha256(n::text::bytea), now(),
           '11111111-2222-3333-4444-' || lpad(n::text, 12, '0')
    from generate_series(1, %(deliveries)s) n
    """,
    """
    insert into ledger.batch (feed, partner, state, token, run_id, mapping_version, staged_rows, published_at)
    select 'bench.adt', 'bench', 'published', 1,
           '11111111-2222-3333-4444-' || lpad((1 + (n - 1) / %(batches)s)::text, 12, '0'), 'v' || n %% 20, 0, now()
    from generate_series(1, %(deliveries)s * %(batches)s) n
    """,
    """
    insert into ledger.batch_slice (batch_id, delivery_id, first_ordinal, last_ordinal, start, received)
    select n, 1 + (n - 1) / %(batches)s, 1 + (n - 1) %% %(batches)s * %(size)s, (1 + (n - 1) %% %(batches)s) * %(size)s,
           '{"offset": 0, "ordinal": 1, "context": {}}', %(size)s
    from generate_series(1, %(deliveries)s * %(batches)s) n
    """,
    """
    insert into ledger.record (id, landed_on, batch_id, location)
    select (1 + (n - 1) / %(each)s) << 32 | 1 + (n - 1) %% %(each)s, current_date, 1 + (n - 1) / %(size)s,
           'message ' || 1 + (n - 1) %% %(each)s
    from generate_series(1, %(records)s::bigint) n
    """,
    """
    insert into fhir.resource
        (resource_type, id, version_id, event_time, record_id, batch_id, partner, feed, fhir_version, digest, resource)
    select case n %% 3 when 0 then 'Observation' when 1 then 'Patient' else 'Encounter' end,
           md5(n::text)::uuid::text, 1, now(), (1 + (n - 1) / %(each)s) << 32 | 1 + (n - 1) %% %(each)s,
           1 + (n - 1) / %(size)s, 'bench', 'bench.adt', '4.0.1', '', '{}'
    from generate_series(1, %(records)s::bigint) n
    """,
    """
    insert into ledger.outbox (destination, resource_type, id, wanted, confirmed, state, batches, remote_id)
    select 'ehr', resource_type, id, 1, 1, 'confirmed', '{}', 'r' || id from fhir.resource
    """,
    """
    insert into ledger.load_receipt (destination, resource_type, resource_id, version_id, status, code)
    select 'ehr', resource_type, id, 1, 'sent', '200' from fhir.resource
    """,
)


LARGE = ("ledger.record", "fhir.resource", "ledger.outbox", "ledger.load_receipt")
INDEXES = """
select i.indrelid::regclass::text, c.relname, k.conname, pg_get_indexdef(c.oid), pg_get_constraintdef(k.oid)
from pg_index i join pg_class c on c.oid = i.indexrelid left join pg_constraint k on k.conindid = c.oid
where i.indrelid = any(%s::regclass[]) and (k.conrelid is null or k.conrelid = i.indrelid)
"""


def main() -> None:
    """Print one JSON object: records, milliseconds by question (median), and of the command as a process."""
    records = int(os.environ.get("SLUICE_BENCH_RECORDS", "300000"))
    # nothing is written while it is measured, and the ledger is made up: no disk has to have it
    with scratch_postgres(durable=False) as url, tempfile.TemporaryDirectory() as home:
        upgrade(url)
        os.environ.update(
            {"SLUICE_HOME": home, "SLUICE_WAREHOUSE_URL": url, "SLUICE_LANDING_KEY": "k:" + "a" * 43 + "="}
        )
        began = time.monotonic()
        fill(url, records)
        figures: dict[str, Any] = {"records": records, "fill_seconds": round(time.monotonic() - began)}
        things = questions(url, records)
        figures["milliseconds"] = {name: ask(url, thing) for name, thing in things.items()}
        figures["milliseconds_of_connecting_alone"] = ask(url, None)
        figures["slowest_milliseconds"] = max(figures["milliseconds"].values())
        figures["command"] = command(things["a resource"])
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


def fill(url: str, records: int) -> None:
    """Make up a ledger and a store of so many records."""
    params = {
        "records": records,
        "deliveries": -(-records // PER_DELIVERY),
        "batches": PER_DELIVERY // PER_BATCH,
        "size": PER_BATCH,
        "each": PER_DELIVERY,
    }
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set maintenance_work_mem = '1GB'")
        connection.execute("set work_mem = '256MB'")
        with _without_indexes(connection):
            for statement in FILL:
                connection.execute(statement.encode(), params)
        connection.execute("vacuum analyze")


@contextmanager
def _without_indexes(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Take the large tables' indexes away meanwhile: made at the end, they are sorted once."""
    indexes = connection.execute(INDEXES, (list(LARGE),)).fetchall()
    for table, name, constraint, *_ in indexes:
        what = f"alter table {table} drop constraint {constraint}"
        connection.execute((what if constraint else f"drop index {table.partition('.')[0]}.{name}").encode())
    yield
    for table, _, constraint, index, definition in indexes:
        # of a partitioned table it is said without those of its partitions
        whole = index.replace(" ON ONLY ", " ON ")
        what = f"alter table {table} add constraint {constraint} {definition}" if constraint else whole
        connection.execute(what.encode())


def questions(url: str, records: int) -> dict[str, str]:
    """Return one question of each kind, about a record in the middle."""
    delivery, ordinal = 1 + records // 2 // PER_DELIVERY, min(records, PER_DELIVERY) // 2
    asked = "select id from ledger.load_receipt where resource_id = %s"
    with psycopg.connect(url, autocommit=True) as connection:
        [(kind, key)] = connection.execute(
            "select resource_type, id from fhir.resource where record_id = %s", (delivery << 32 | ordinal,)
        ).fetchall()
        [(receipt,)] = connection.execute(asked, (key,)).fetchall()
    return {
        "a resource": f"{kind}/{key}",
        "an id alone": key,
        "a version": f"{kind}/{key}/_history/1",
        "a row": f"core.{kind.lower()}/{key}",
        "a destination's id": f"ehr/{kind}/r{key}",
        "a receipt": f"receipt:{receipt}",
        "a record": f"{delivery}:{ordinal}",
        "a delivery": str(delivery),
        "a file": f"bench.adt/day{delivery}.hl7",
        "a place in a file": f"bench.adt/day{delivery}.hl7#message {ordinal}",
        "a batch": f"batch:{delivery}",
        "a mapping version": "mapping:v7",
        "a run": RUN,
    }


def ask(url: str, thing: str | None) -> float:
    """Return the median milliseconds of a question, or of none, over a connection of its own as the command has it."""
    from tasks.ledger.db import connect
    from tasks.lineage.trace import trace

    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with connect(url) as connection:
            assert thing is None or trace(connection, thing), thing
        took.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(took), 1)


def command(thing: str) -> dict[str, float]:
    """Return the milliseconds of the command as a process, beside those of a process that does nothing."""
    sluice = [str(Path(sys.executable).parent / "sluice"), "lineage", thing]
    idle = [sys.executable, "-c", "import typer, psycopg, yaml, msgspec"]
    return {"whole_process": _process(sluice), "python_and_its_libraries": _process(idle)}


def _process(arguments: list[str]) -> float:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
        took.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(took))


if __name__ == "__main__":
    main()
