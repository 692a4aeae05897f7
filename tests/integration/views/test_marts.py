"""Marts: kept with the store, built anew without a gap, and refused with their name where they cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tasks.core_marts import Mart, core_marts, in_order
from tasks.errors import ConfigError
from tasks.ledger.db import Connection, connect
from tasks.publish.marts import ensure_marts, refresh_marts

PATIENT = (
    "insert into core.patient (id, family, given, mrn, phone, version_id, record_id) "
    "values (%s, %s, 'José', 'A-1', '+1 (212) 555-0100', 1, 1)"
)


@pytest.fixture
def store(warehouse_url: str) -> Iterator[Connection]:
    with connect(warehouse_url) as connection:
        yield connection


def change(store: Connection, *ids: str, kind: str = "Patient", old: int | None = None) -> None:
    with store.transaction():
        store.execute("create temp table changed (resource_type text, id text, old_version int) on commit drop")
        store.execute("insert into changed select %s, unnest(%s::text[]), %s::int", (kind, list(ids), old))
        refresh_marts(store, "changed")


def result(store: Connection, key: str, value: float, day: int, unit: str = "mmol/L") -> None:
    store.execute(
        "insert into core.observation (id, patient_id, code_system, code_code, status, value_value, value_ucum, "
        "effective_at, version_id, record_id) values (%s, 'ada', 'l', 'K', 'final', %s, %s, %s, 1, 1)",
        (key, value, unit, f"2026-03-{day:02d}"),
    )


def latest(store: Connection) -> list[tuple[object, ...]]:
    return store.execute(
        "select observation_id, value_normalised::float, unit_normalised from mart.latest_result"
    ).fetchall()


def test_a_patient_is_found_by_what_people_type(store: Connection) -> None:
    store.execute(PATIENT, ("ada", "Núñez-O'Brien"))
    change(store, "ada")
    row = store.execute(
        "select name_normalised, mrn_normalised, phone_normalised, current_patient_id from mart.patient_search_index"
    ).fetchone()
    assert row == ("nunez obrien jose", "A1", "2125550100", "ada")
    store.execute("delete from core.patient")
    change(store, "ada", old=1)
    assert store.execute("select count(*) from mart.patient_search_index").fetchone() == (0,)


def test_the_latest_result_follows_what_is_newer_corrected_and_taken_back(store: Connection) -> None:
    result(store, "o1", 4, 1)
    change(store, "o1", kind="Observation")
    result(store, "o2", 5000, 3, "umol/L")
    change(store, "o2", kind="Observation")
    result(store, "o3", 3, 2)
    change(store, "o3", kind="Observation")
    assert latest(store) == [("o2", 5.0, "mmol/L")]
    store.execute("update core.observation set status = 'entered-in-error' where id = 'o2'")
    change(store, "o2", kind="Observation", old=1)
    assert latest(store) == [("o3", 3.0, "mmol/L")]
    store.execute("delete from core.observation where id = 'o3'")
    change(store, "o3", kind="Observation", old=1)
    assert latest(store) == [("o1", 4.0, "mmol/L")]


def test_a_trend_compares_each_result_with_the_one_before_it_in_one_unit(store: Connection) -> None:
    result(store, "o1", 4, 1)
    result(store, "o2", 5000, 2, "umol/L")
    result(store, "o3", 7, 3, "bananas")
    change(store, "o1", "o2", "o3", kind="Observation")
    rows = store.execute("select number, change::float from mart.result_trend order by number").fetchall()
    assert rows == [(1, None), (2, 1.0), (3, None)]


def test_an_orders_turnaround_follows_its_report_even_to_another_order(store: Connection) -> None:
    store.execute(
        "insert into core.service_request (id, code_code, authored_at, version_id, record_id) "
        "select unnest(array['s1', 's2']), 'K', '2026-03-01 10:00+00', 1, 1"
    )
    change(store, "s1", "s2", kind="ServiceRequest")
    store.execute(
        "insert into core.diagnostic_report (id, status, service_request_id, issued_at, version_id, record_id) "
        "values ('r', 'final', 's1', '2026-03-01 11:00+00', 1, 1)"
    )
    change(store, "r", kind="DiagnosticReport")
    asked = "select service_request_id, minutes_to_final::int from mart.order_turnaround order by 1"
    assert store.execute(asked).fetchall() == [("s1", 60), ("s2", None)]
    store.execute(
        "insert into fhir.history (resource_type, id, version_id, event_time, record_id, batch_id, partner, feed, "
        "fhir_version, digest, resource) values ('DiagnosticReport', 'r', 1, now(), 1, 1, 'p', 'p.f', '4.0.1', '', "
        """'{"basedOn": [{"reference": "ServiceRequest/s1"}]}')"""
    )
    store.execute("update core.diagnostic_report set service_request_id = 's2'")
    change(store, "r", kind="DiagnosticReport", old=1)
    assert store.execute(asked).fetchall() == [("s1", None), ("s2", 60)]
    store.execute("delete from core.service_request where id = 's1'")
    change(store, "s1", kind="ServiceRequest", old=1)
    assert store.execute(asked).fetchall() == [("s2", 60)]


def test_the_census_follows_encounters_that_move_end_and_are_cancelled(store: Connection) -> None:
    store.execute(
        "insert into core.encounter (id, class_code, status, start_at, start_text, version_id, record_id) "
        "select unnest(array['e1', 'e2']), 'IMP', 'in-progress', '2026-03-01 23:00-05', '2026-03-01T23:00-05:00', 1, 1"
    )
    change(store, "e1", "e2", kind="Encounter")
    asked = "select day::text, admitted, discharged, present from mart.daily_census where admitted + discharged > 0"
    assert store.execute(asked).fetchall() == [("2026-03-01", 2, 0, 2)]
    store.execute("update core.encounter set end_at = '2026-03-03 10:00+00', end_text = '2026-03-03' where id = 'e1'")
    store.execute("update core.encounter set status = 'cancelled' where id = 'e2'")
    change(store, "e1", "e2", kind="Encounter", old=1)
    assert store.execute(asked).fetchall() == [("2026-03-01", 1, 0, 1), ("2026-03-03", 0, 1, 0)]


def test_charges_are_added_up_anew_for_whom_they_name_and_named_before(store: Connection) -> None:
    store.execute(
        "insert into core.charge_item (id, patient_id, encounter_id, status, price_value, price_currency, version_id, "
        "record_id) values ('c1', 'ada', 'e', 'billable', 10, 'USD', 1, 1), ('c2', 'ada', 'e', 'billable', 5, 'USD', "
        "1, 1), ('c3', null, null, 'billable', 7, 'USD', 1, 1)"
    )
    change(store, "c1", "c2", "c3", kind="ChargeItem")
    asked = "select patient_id, encounter_id, charges, amount::int from mart.encounter_charges order by 1 nulls last"
    assert store.execute(asked).fetchall() == [("ada", "e", 2, 15), (None, None, 1, 7)]
    store.execute(
        "insert into fhir.history (resource_type, id, version_id, event_time, record_id, batch_id, partner, feed, "
        "fhir_version, digest, resource) values ('ChargeItem', 'c2', 1, now(), 1, 1, 'p', 'p.f', '4.0.1', '', "
        """'{"subject": {"reference": "Patient/ada"}}')"""
    )
    store.execute("update core.charge_item set patient_id = 'bo' where id = 'c2'")
    store.execute("delete from core.charge_item where id = 'c3'")
    store.execute(
        "insert into fhir.history (resource_type, id, version_id, event_time, record_id, batch_id, partner, feed, "
        "fhir_version, digest, resource) values ('ChargeItem', 'c3', 1, now(), 1, 1, 'p', 'p.f', '4.0.1', '', '{}')"
    )
    change(store, "c2", "c3", kind="ChargeItem", old=1)
    assert store.execute(asked).fetchall() == [("ada", "e", 1, 10), ("bo", "e", 1, 5)]


def test_a_mart_that_becomes_a_table_takes_the_place_of_its_view(store: Connection) -> None:
    store.execute("drop view mart.daily_census; drop table mart.encounter_day")
    store.execute("create view mart.encounter_day as select 1 as encounter_id")
    built = ensure_marts(store, core_marts(), [])
    assert {"encounter_day", "daily_census"} <= set(built)
    assert store.execute("select count(*) from mart.daily_census").fetchone() == (0,)
    assert ensure_marts(store, core_marts(), []) == []


def test_a_mart_is_built_anew_when_its_table_was_and_readers_see_the_old_one_until_then(store: Connection) -> None:
    store.execute(PATIENT, ("ada", "Ek"))
    store.execute("create view mart.mine as select patient_id from mart.patient_search_index")
    for _ in range(2):
        assert ensure_marts(store, core_marts(), ["patient"]) == ["patient_search_index"]
    assert store.execute("select patient_id from mart.mine").fetchall() == [("ada",)]
    assert ensure_marts(store, core_marts(), []) == []


def test_a_mart_of_what_is_not_there_is_refused_by_name_and_the_others_stay(store: Connection) -> None:
    wrong = Mart("wrong", "view", "Wrong", {"a": "A"}, "select nobody from core.patient")
    with pytest.raises(ConfigError, match='mart wrong: column "nobody" does not exist; the marts stay as they were'):
        ensure_marts(store, [*core_marts(), wrong], [])
    assert store.execute("select count(*) from mart.result").fetchone() == (0,)


def test_a_mart_whose_statements_fail_does_not_hold_up_publishing(store: Connection) -> None:
    broken = [
        replace(mart, refresh=("select 1 / 0 from {changed}",)) if mart.name == "patient_search_index" else mart
        for mart in core_marts()
    ]
    ensure_marts(store, broken, [])
    change(store, "ada")
    problem = store.execute("select problem from ops.mart_definition where hash is null").fetchone()
    assert problem == ("Postgres refused with SQLSTATE 22012",)
    assert ensure_marts(store, core_marts(), []) == ["patient_search_index"]


def test_marts_that_read_each_other_in_a_circle_are_refused() -> None:
    one = Mart("one", "view", "One", {"a": "A"}, "select a from mart.two")
    with pytest.raises(ConfigError, match="marts one, two: they read each other in a circle"):
        in_order([one, replace(one, name="two", query="select a from mart.one")])
