"""A store that holds data is migrated in place: what it knows stays, and what comes next is published into it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from infra.migrations import downgrade, upgrade
from tasks.ledger.db import connect
from tasks.model import record_id
from tasks.publish import tables
from tasks.publish.incoming import AGAIN_INTO
from tests.integration.spine.test_store_order import Publisher

BEFORE = "0024"
DATA = """
insert into ledger.delivery (feed, partner, format, name, version, state, landed_at)
select 'north.adt', 'north', 'fhir-ndjson', 'file' || n, '1', 'read', '2026-03-09' from generate_series(1, 3) n;
insert into ledger.batch (feed, partner, state, token, mapping_version, staged_rows)
select 'north.adt', 'north', 'published', 0, 'maps', 1 from generate_series(1, 3) n;
insert into ledger.record (id, landed_on, batch_id, location)
select (n << 32) + 1, '2026-03-09', n, 'line 1' from generate_series(1::bigint, 3) n;
insert into fhir.resource (resource_type, id, version_id, event_time, record_id, batch_id, partner, feed, fhir_version,
    digest, resource)
values ('Observation', 'old-x', 1, '2026-03-09', (1::bigint << 32) + 1, 1, 'north', 'north.adt', '4.0.1', 'seven',
    '{"resourceType": "Observation", "id": "old-x", "status": "final", "valueInteger": 7}');
insert into fhir.said_again (resource_type, id, record_id, event_time, digest)
select 'Observation', 'old-x', (n << 32) + 1, '2026-03-09', 'seven' from generate_series(2::bigint, 3) n;
insert into ledger.outbox (destination, resource_type, id, wanted, confirmed, state, batches)
values ('ehr', 'Observation', 'old-x', 1, 1, 'confirmed', '{}');
"""
AGAIN = "select record_id >> 32, digest from fhir.said_again where id = 'old-x' order by 1, 2"


@pytest.fixture
def old_url(postgres_url: str) -> Iterator[str]:
    """A store as it was, with a fact that three deliveries say in the same words."""
    name = f"old_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"create database {name}")
    url = f"{postgres_url.rpartition('/')[0]}/{name}"
    upgrade(url, BEFORE)
    with psycopg.connect(url) as connection:
        connection.execute(DATA)
    yield url
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"drop database {name} with (force)")


def ask(url: str, query: str) -> list[Any]:
    with connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_what_a_store_knew_before_counts_after_and_the_next_batch_is_published(old_url: str) -> None:
    upgrade(old_url)
    assert ask(old_url, AGAIN) == [(2, b"seven"), (3, b"seven")]
    with connect(old_url) as connection:
        tables.apply(connection)
        Publisher(old_url, "north.adt").publish(connection, [(1, "Observation", "x", 8)], "old")
    told = "select version_id, resource->>'valueInteger' from fhir.version where id = 'old-x' order by 1"
    assert ask(old_url, told) == [(1, "7"), (2, "8")]
    assert ask(old_url, "select destination, wanted, state from ledger.outbox") == [("ehr", 2, "pending")]


def test_what_a_record_says_again_takes_the_place_of_what_it_said_and_the_way_back_keeps_one_row(old_url: str) -> None:
    upgrade(old_url)
    said = f"""
    select 'Observation' as resource_type, 'old-x' as id, {record_id(2, 1)} as record_id,
           now() as event_time, false as deleted, 'eight'::bytea as digest
    """
    with connect(old_url) as connection:
        connection.execute(AGAIN_INTO.format(said=said).encode())
        assert connection.execute(AGAIN.encode()).fetchall() == [(2, b"eight"), (3, b"seven")]
        # nothing refuses a second row; the key that did so before comes back with one of them
        connection.execute("insert into fhir.said_again select * from fhir.said_again where record_id >> 32 = 3")
    downgrade(old_url, BEFORE)
    assert ask(old_url, AGAIN) == [(2, b"eight"), (3, b"seven")]
    upgrade(old_url)
