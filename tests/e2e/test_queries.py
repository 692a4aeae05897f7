"""The example queries of docs/queries.md, asked as an analyst of the warehouse that the sample day filled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.dev.partners import Day

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "queries.md"
QUERIES: dict[str, str] = dict(
    re.findall(r"^## (.+?)\n.*?```sql\n(.+?)```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)
Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def ask(site: Any, demo: Any) -> Ask:
    def answer(title: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(site.environment()["SLUICE_WAREHOUSE_OWNER_URL"], autocommit=True) as connection:
            connection.execute("set role sluice_analyst")
            return connection.execute(QUERIES[title].encode()).fetchall()

    return answer


def generated(day: Day, kind: str) -> dict[str, int]:
    return {partner: kinds[kind] for partner, kinds in day.expected.store.items() if kind in kinds}


@pytest.mark.parametrize("title", QUERIES)
def test_every_query_of_the_page_runs_as_an_analyst(ask: Ask, title: str) -> None:
    rows = ask(title)
    assert rows or title == "What was charged?", title


def test_patients_and_results_are_as_many_as_the_partners_generated(ask: Ask, day: Day) -> None:
    assert dict(ask("Who sent how many patients?")) == generated(day, "Patient")
    assert dict(ask("How many results came from each partner?")) == generated(day, "Observation")


def test_a_feeds_records_ended_as_the_partners_generated_them(ask: Ask, day: Day) -> None:
    wanted: dict[str, Counter[str]] = {}
    for delivery in day.expected.deliveries:
        said = delivery.counts
        own = wanted.setdefault(delivery.feed, Counter())
        own.update(received=said.received, published=said.published, quarantined=said.quarantined)
        own.update(duplicate=said.duplicate)
    found = ask("What became of what a feed sent?")
    names = ("received", "published", "quarantined", "duplicate")
    assert {row[0]: row[1:] for row in found} == {
        feed: (*(counts[name] for name in names), 0) for feed, counts in wanted.items()
    }


def test_patients_are_found_by_number_and_by_name_without_accents(ask: Ask, day: Day) -> None:
    twins = ask("Who is the patient with this number?")
    assert day.expected.twin_mrn in QUERIES["Who is the patient with this number?"]
    assert len({row[0] for row in twins}) == len({row[3] for row in twins}) >= 2
    assert day.expected.early_update.mrn in {row[1] for row in ask("Who is called like this?")}


def test_an_encounters_timeline_begins_with_its_start(ask: Ask, day: Day) -> None:
    assert day.expected.early_update.visit in QUERIES["What happened in an encounter?"]
    assert ask("What happened in an encounter?")[0][1] == "started"


def test_every_encounter_is_admitted_once_in_the_census(ask: Ask, day: Day) -> None:
    assert sum(row[2] for row in ask("Who was in the house?")) == sum(generated(day, "Encounter").values())


def test_every_order_that_the_partners_reported_on_has_its_turnaround(ask: Ask, day: Day) -> None:
    found: Counter[str] = Counter()
    for code, _display, orders, median, nine_in_ten in ask("How long do orders take in the laboratory?"):
        found[code] += orders
        assert 0 < median <= nine_in_ten
    assert found == day.expected.reported


def test_the_latest_results_are_those_that_the_partners_generated_last(site: Any, demo: Any, day: Day) -> None:
    rows = site.rows(
        "select s.partner, p.mrn, r.loinc_code, coalesce(r.comparator || r.value, r.value::text, r.value_code) "
        "from mart.latest_result r join core.patient p on p.id = r.patient_id "
        "join mart.source s on s.delivery_id = p.record_id >> 32 where s.partner in ('northside', 'eastlab')"
    )
    found = {(partner, mrn, loinc): value for partner, mrn, loinc, value in rows}
    assert found.keys() == day.expected.latest.keys()
    wrong = {key for key, value in found.items() if value not in day.expected.latest[key]}
    assert not wrong


def test_rows_are_counted_by_their_source_as_they_stand(site: Any, demo: Any) -> None:
    counted = "select delivery_id, sum(rows) from mart.source_rows where relation = 'observation' group by 1"
    assert sorted(site.rows(counted)) == sorted(
        site.rows("select record_id >> 32, count(*) from core.observation group by 1")
    )
