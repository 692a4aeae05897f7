"""The store by itself: any order and any batches give one state, workers at the same moment lose nothing."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mappings.engine.json import digest, dumps
from mappings.engine.slots import assemble
from tasks.feed import Feed
from tasks.ledger import batches, claims
from tasks.ledger.batches import Members, Slice
from tasks.ledger.db import Connection, connect
from tasks.model import DELETED, Position, record_id
from tasks.process.stage import stage_rows
from tasks.publish.store import publish
from tasks.publish.tables import refresh

BEGIN = datetime(2026, 3, 9, tzinfo=UTC)
NAMES = ("One", "Two", "Three")
Statement = tuple[int, str, str, Any]
"""(minute, kind of thing, which one, what is said of it)"""

SLOTS = st.dictionaries(
    st.sampled_from(["PID-5", "PID-8", "PID-13"]),
    st.sampled_from([[], [["gender", "female"]], *([["name", [{"family": name}]]] for name in NAMES)]),
    min_size=1,
)
MERGE = {"MRG": [["active", False], ["link", [{"other": {"reference": "Patient/{0}"}, "type": "replaced-by"}]]]}
PATIENT = st.one_of(SLOTS, st.just({DELETED: []}), st.just(MERGE), st.just({"MRG": []}))
SAID = st.one_of(
    st.tuples(st.just("Patient"), st.sampled_from("ab"), PATIENT),
    st.tuples(st.just("Observation"), st.sampled_from("xy"), st.sampled_from([1, 2, None])),
)
HISTORIES = st.lists(SAID, min_size=2, max_size=9)


class Publisher:
    """Stages and publishes statements as a feed of its own."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.feed = Feed.model_construct(name=name, partner=name.partition(".")[0])

    def publish(self, connection: Connection, statements: Sequence[Statement], scope: str) -> None:
        with claims.claim(self.url, f"feed:{self.feed.name}", "run", 60) as token:
            publish(connection, self.stage(connection, token, statements, scope), token, refresh, "run")

    def stage(self, connection: Connection, token: int, statements: Sequence[Statement], scope: str) -> int:
        with connection.transaction():
            row = connection.execute(
                "insert into ledger.delivery (feed, partner, format, name, version, state, landed_at) "
                "values (%s, %s, 'hl7v2', 'test', gen_random_uuid()::text, 'read', now()) returning id",
                (self.feed.name, self.feed.partner),
            ).fetchone()
            assert row is not None
            batch = batches.open_batch(connection, self.feed, token, "run", "maps")
            members = Members(slices=[Slice(row[0], 1, len(statements), Position())])
            members.slices[0].counts["received"] = len(statements)
            rows = [(record_id(row[0], n), *staged(one, scope)) for n, one in enumerate(statements, 1)]
            members.records = [(record, BEGIN.date(), "message", None, None) for record, *_ in rows]
            stage_rows(connection, batch, rows)
            batches.fix_members(connection, self.feed, batch, members, len(statements))
        return batch


def staged(statement: Statement, scope: str) -> tuple[Any, ...]:
    """The row of the staging table for a statement, without its record."""
    minute, kind, which, said = statement
    when, key = BEGIN + timedelta(minutes=minute), f"{scope}-{which}"
    if kind == "Patient":
        slots = json.loads(json.dumps(said).replace("{0}", f"{scope}-{'b' if which == 'a' else 'a'}"))
        deleted = DELETED in slots
        resource = assemble(kind, key, {slot: pairs for slot, pairs in slots.items() if slot != DELETED})
        text = dumps(slots)
    else:
        deleted, text = said is None, None
        resource = {"resourceType": kind, "id": key, "status": "final", "valueInteger": said or 0}
        resource["subject"] = {"reference": f"Patient/{scope}-a"}
        resource["code"] = {"coding": [{"system": "http://loinc.org", "code": "1-1"}]}
    return (kind, key, when, "4.0.1", deleted, (), digest(resource), dumps(resource), text, ())


STATE = """
select r.resource_type, right(r.id, 1), r.deleted,
       case when not r.deleted or r.resource_type = 'Patient' then replace(r.resource::text, %(scope)s, '') end
from fhir.resource r where r.id like %(scope)s || '-%%'
union all
select 'identity', right(retired_id, 1), false, right(survivor_id, 1) from fhir.identity
where retired_id like %(scope)s || '-%%'
union all
select 'latest', right(observation_id, 1), false, status from mart.latest_result
where patient_id like %(scope)s || '-%%'
union all
select 'core', right(id, 1), false, value_integer::text from core.observation where id like %(scope)s || '-%%'
order by 1, 2
"""


@pytest.fixture
def store(warehouse_url: str) -> Iterator[Connection]:
    with connect(warehouse_url) as connection:
        yield connection


def parted(statements: Sequence[Statement], dice: random.Random) -> Iterator[Sequence[Statement]]:
    """The statements in any order, in batches of any size."""
    left = dice.sample(statements, len(statements))
    while left:
        size = dice.randint(1, len(left))
        yield left[:size]
        left = left[size:]


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES, seed=st.integers(0, 2**32))
def test_any_order_and_any_batches_give_the_same_state(
    store: Connection, warehouse_url: str, history: list[tuple[str, str, Any]], seed: int
) -> None:
    statements = [(minute, *said) for minute, said in enumerate(history)]
    publisher = Publisher(warehouse_url, "north.adt")
    dice, states = random.Random(seed), []
    for orders in ([statements], [[one] for one in statements], *(list(parted(statements, dice)) for _ in range(2))):
        scope = uuid.uuid4().hex[:12]
        for part in orders:
            publisher.publish(store, part, scope)
        states.append(store.execute(STATE.encode(), {"scope": scope}).fetchall())
    assert all(state == states[0] for state in states)


def test_a_thing_costs_what_still_counts_and_not_what_was_ever_said(store: Connection, warehouse_url: str) -> None:
    publisher = Publisher(warehouse_url, "north.adt")
    said = [(minute, "Patient", "a", {"PID-8": [["gender", "female"]], "PID-5": []}) for minute in range(40)]
    for start in range(0, 40, 10):
        publisher.publish(store, said[start : start + 10], "many")
    assert store.execute("select count(*), count(*) filter (where live) from fhir.contribution").fetchone() == (40, 1)


def test_workers_that_publish_the_same_patient_at_the_same_moment_lose_nothing(warehouse_url: str) -> None:
    def work(number: int) -> None:
        publisher = Publisher(warehouse_url, f"feed{number}.adt")
        with connect(warehouse_url) as connection:
            for turn in range(5):
                slot = f"PID-13.{number}.{turn}"
                said = (turn, "Patient", "a", {slot: [["telecom", [{"value": slot}]]]})
                publisher.publish(connection, [said], "both")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with connect(warehouse_url) as connection:
        rows = connection.execute("select jsonb_array_length(resource -> 'telecom') from fhir.resource").fetchall()
    assert rows == [(15,)]


def test_what_a_batch_says_becomes_visible_together(warehouse_url: str) -> None:
    seen: set[tuple[int, ...]] = set()
    done = threading.Event()

    def look() -> None:
        with psycopg.connect(warehouse_url, autocommit=True) as reader:
            while not done.is_set():
                row = reader.execute(
                    "select (select count(*) from fhir.resource), (select count(*) from core.observation) "
                    "+ (select count(*) from core.patient), (select count(*) from mart.patient_search_index)"
                ).fetchone()
                assert row is not None
                seen.add(row)

    watcher = threading.Thread(target=look)
    watcher.start()
    publisher = Publisher(warehouse_url, "north.adt")
    with connect(warehouse_url) as connection:
        for turn in range(3):
            said = [(turn, "Patient", "a", {"PID-8": [["gender", "female"]]}), (turn, "Observation", "x", 1)]
            publisher.publish(connection, said, f"t{turn}")
    done.set()
    watcher.join()
    assert seen <= {(2 * turn, 2 * turn, turn) for turn in range(4)}
