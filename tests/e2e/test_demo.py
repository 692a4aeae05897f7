"""The sample day, compared with what its partners generated."""

from collections import Counter
from typing import Any

import pytest

from infra.dev.partners import Day, Delivery

SAMPLES = ("county.registry", "eastlab.results", "eastlab.roster", "northside.hl7")
OUTCOMES = ("received", "published", "quarantined", "duplicate", "filtered", "discarded", "in_flight")


def short(row: dict[str, Any]) -> tuple[str, str]:
    """A delivery as its partner calls it: a file's name, an export's type."""
    name = row["name"].rpartition("/")[2]
    return row["feed"], name.partition(".")[0] if row["feed"] == "county.registry" else name


def expected_row(delivery: Delivery) -> tuple[str, str, tuple[int, ...]]:
    said = delivery.counts
    counts = (said.received, said.published, said.quarantined, said.duplicate, 0, 0, 0)
    return delivery.feed, delivery.name.rpartition("/")[2], counts


def of_report(rows: list[dict[str, Any]]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(*short(row), tuple(row[name] for name in OUTCOMES)) for row in rows]


def first_day(rows: list[dict[str, Any]], feed: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["feed"] == feed]


def test_every_delivery_ends_with_the_counts_that_its_partner_generated(demo: Any, day: Day) -> None:
    assert sorted(of_report(demo["deliveries"])) == sorted(expected_row(one) for one in day.expected.deliveries)


def test_nothing_is_in_flight_and_every_count_adds_up(demo: Any) -> None:
    for row in demo["deliveries"]:
        assert row["in_flight"] == 0, row
        assert row["received"] == sum(row[name] for name in OUTCOMES[1:]) > 0, row


def test_the_store_holds_by_partner_and_type_what_was_generated(site: Any, demo: Any, day: Day) -> None:
    for partner, kinds in day.expected.store.items():
        rows = site.rows(
            "select resource_type, count(*) from fhir.resource where partner = %s and not deleted group by 1", partner
        )
        found = dict(rows)
        assert {kind: found.get(kind, 0) for kind in kinds} == kinds, partner


def test_the_report_counts_the_store_and_the_server_alike(demo: Any) -> None:
    assert demo["reaches"] == demo["server"]
    assert demo["store"]["Patient"] > 2000


def test_the_destination_has_by_type_what_the_store_has(site: Any, second: Any) -> None:
    reaches = second["report"]["reaches"]
    assert reaches == {kind: site.server_count(kind) for kind in reaches}


def test_the_broken_records_are_in_quarantine_and_nothing_else_is(site: Any, demo: Any, day: Day) -> None:
    rows = site.facts("quarantine", "list")
    lines = {delivery.feed: broken for broken in day.expected.broken for delivery in [broken]}
    found = {(row["feed"], short({**row, "name": row["delivery_name"]})[1], row["location"]) for row in rows}
    assert found == {(one.feed, one.delivery.rpartition("/")[2], one.finding) for one in lines.values()}
    assert len(rows) == 3
    for row in rows:
        broken = lines[row["feed"]]
        if broken.ordinal is not None:
            assert row["place"] == broken.location
            assert row["record"].endswith(f":{broken.ordinal}")
        else:
            assert row["place"] == f"line {row['record'].partition(':')[2]}"
    assert {row["feed"]: (row["stage"], row["code"]) for row in rows} == {
        "northside.hl7": ("parse", "not-hl7v2"),
        "eastlab.results": ("convert", "not-a-date"),
        "county.registry": ("validate", "fhir-required"),
    }


def test_a_quarantined_record_is_shown_with_its_findings_and_no_word_of_it(site: Any, demo: Any) -> None:
    for row in site.facts("quarantine", "list"):
        shown = site.facts("quarantine", "show", row["record"])
        assert {"code": row["code"], "location": row["location"], "severity": "error"} in shown["findings"]
        assert shown["run"]
        assert row["place"] in site.sluice("quarantine", "show", row["record"])


def test_the_quarantine_can_be_asked_by_feed_and_by_code(site: Any, demo: Any) -> None:
    assert [row["feed"] for row in site.facts("quarantine", "list", "--feed", "eastlab.results")] == ["eastlab.results"]
    assert [row["code"] for row in site.facts("quarantine", "list", "--code", "not-hl7v2")] == ["not-hl7v2"]
    assert site.facts("quarantine", "list", "--code", "no-such-code") == []


def test_a_file_delivered_again_is_a_duplicate_of_its_first_delivery(demo: Any, day: Day) -> None:
    rows = first_day(demo["deliveries"], "northside.hl7")
    by_id = {row["id"]: row for row in rows}
    again = [row for row in rows if row["state"] == "duplicate"]
    expected = [one.name for one in day.expected.deliveries if one.kind == "duplicate"]
    assert sorted(row["name"] for row in again) == sorted(expected)
    for row in again:
        first = by_id[row["duplicate_of"]]
        assert first["state"] == "read"
        assert row["name"] in {first["name"], f"resend_{first['name']}"}
        assert row["duplicate"] == row["received"] == first["received"]


def test_a_corrected_file_says_what_it_corrects(demo: Any, day: Day) -> None:
    rows = first_day(demo["deliveries"], "eastlab.results")
    corrections = [row for row in rows if row["corrects"] is not None]
    expected = [one.name.rpartition("/")[2] for one in day.expected.deliveries if one.kind == "correction"]
    assert [row["name"] for row in corrections] == expected
    first = next(row for row in rows if row["id"] == corrections[0]["corrects"])
    assert first["name"] == corrections[0]["name"]
    assert corrections[0]["state"] == "read"
    assert not [row for row in demo["deliveries"] if row["corrects"] is not None and row not in corrections]


def test_a_file_that_grew_while_it_was_polled_was_taken_once_and_whole(site: Any, demo: Any, day: Day) -> None:
    slow = next(file for file in day.northside if file.growing)
    rows = [row for row in demo["deliveries"] if row["name"] == slow.name]
    assert len(rows) == 1
    size = site.one("select size from ops.delivery where id = %s", rows[0]["id"])
    assert size == len(slow.data) > max(slow.growing)


def test_a_result_that_the_correction_no_longer_says_is_deleted_and_stands_in_history(
    site: Any, demo: Any, day: Day
) -> None:
    accession, loinc = day.expected.retracted
    said = f'%"{accession}%'
    rows = site.rows(
        """
        select v.id, v.version_id, v.deleted, v.superseded_at is null from fhir.version v
        where v.partner = 'eastlab' and v.resource_type = 'Observation' and v.id in (
            select id from fhir.version where partner = 'eastlab' and resource_type = 'Observation'
            and resource::text like %s and resource #>> '{code,coding,0,code}' = %s
        ) order by 2
        """,
        said,
        loinc,
    )
    assert [(row[1], row[2], row[3]) for row in rows] == [(1, False, False), (2, True, True)]
    assert site.one("select count(*) from core.observation where id = %s", rows[0][0]) == 0
    deleted = site.one("select count(*) from fhir.resource where deleted and partner = 'eastlab'")
    assert deleted == 1
    shown = site.sluice("lineage", f"Observation/{rows[0][0]}")
    assert "deleted          True" in shown


def test_one_record_number_at_two_partners_is_two_people(site: Any, demo: Any, day: Day) -> None:
    rows = site.rows(
        """
        select distinct p.id, p.partner, p.resource ->> 'birthDate' from fhir.resource p,
            jsonb_array_elements(p.resource -> 'identifier') i
        where p.resource_type = 'Patient' and not p.deleted and p.partner in ('northside', 'eastlab')
          and i ->> 'value' = %s
        """,
        day.expected.twin_mrn,
    )
    assert sorted(row[1] for row in rows) == ["eastlab", "northside"]
    assert rows[0][0] != rows[1][0]
    assert rows[0][2] != rows[1][2]


def test_an_update_that_came_before_its_admission_still_stands(site: Any, demo: Any, day: Day) -> None:
    early = day.expected.early_update
    rows = site.rows(
        """
        select distinct p.resource from fhir.resource p, jsonb_array_elements(p.resource -> 'identifier') i
        where p.resource_type = 'Patient' and p.partner = 'northside' and i ->> 'value' = %s
        """,
        early.mrn,
    )
    assert len(rows) == 1
    families = {name["family"] for name in rows[0][0]["name"] if name.get("use") in {None, "official", "usual"}}
    assert families == {early.family}
    place = site.one("select location_id from core.encounter where identifier_value = %s", early.visit)
    names = []
    while place:
        location = site.one("select resource from fhir.resource where resource_type = 'Location' and id = %s", place)
        names.append(location.get("name"))
        place = location.get("partOf", {}).get("reference", "").removeprefix("Location/")
    assert "ICU" in names


def test_a_warehouse_row_leads_to_delivery_place_mapping_and_run(site: Any, demo: Any) -> None:
    deliveries = {row["id"]: row for row in demo["deliveries"]}
    tables = (("observation", "Observation"), ("patient", "Patient"), ("diagnostic_report", "DiagnosticReport"))
    for table, kind in tables:
        for partner in ("northside", "eastlab", "county"):
            rows = site.rows(
                f"select t.id, t.record_id from core.{table} t join fhir.resource r on r.id = t.id "
                "where r.resource_type = %s and r.partner = %s order by t.id limit 1",
                kind,
                partner,
            )
            for key, record in rows:
                steps = site.facts("lineage", f"{kind}/{key}")
                found = next(step for step in steps if step["kind"] == "record")
                delivery = next(step for step in steps if step["kind"] == "delivery")
                assert found["record"] == f"{record >> 32}:{record & 0xFFFFFFFF}"
                assert delivery["delivery"] == record >> 32
                assert delivery["name"] == deliveries[record >> 32]["name"]
                assert found["place"].split()[0] in {"line", "message"}
                assert int(found["place"].split()[1]) > 0
                assert len(found["mapping_version"]) >= 16
                assert site.prefect("flow_runs/filter", flow_runs={"id": {"any_": [found["run"]]}})
                sent = next(step for step in steps if step["kind"] == "destination")
                assert (sent["destination"], sent["status"]) == ("ehr", "sent")


def test_the_place_of_a_lineage_is_the_line_that_the_partner_wrote(site: Any, demo: Any, day: Day) -> None:
    accession, _loinc = day.expected.retracted
    data = next(file for file in day.eastlab if file.name.endswith("_0600.csv")).data.decode().split("\n")
    key, record = site.rows(
        """
        select r.id, r.record_id from fhir.resource r join ledger.delivery d on d.id = r.record_id >> 32
        where r.resource_type = 'Observation' and d.name like '%%0600.csv' and r.resource::text not like %s
        order by r.id limit 1
        """,
        f"%{accession}%",
    )[0]
    place = next(step["place"] for step in site.facts("lineage", key) if step["kind"] == "record")
    line = data[int(place.removeprefix("line ")) - 1]
    resource = site.one("select resource::text from fhir.resource where id = %s", key)
    assert line.split(",")[0] in resource
    assert site.facts("lineage", f"{record >> 32}:{record & 0xFFFFFFFF}")[0]["place"] == place


def test_a_second_day_changes_no_row_and_no_version(second: Any) -> None:
    assert second["before"][0] == second["after"][0]
    assert len(second["before"][0]) > 10_000


def test_a_second_day_sends_nothing_to_the_server(second: Any) -> None:
    assert second["before"][1] == second["after"][1]
    assert sum(row[1] for row in second["after"][1]) > 10_000


def test_on_a_second_day_every_file_is_a_duplicate_and_the_export_brings_nothing_new(second: Any) -> None:
    rows = second["report"]["deliveries"]
    files = [row for row in rows if row["feed"] != "county.registry"]
    assert len(files) > 30
    assert Counter(row["state"] for row in files) == {"duplicate": len(files)}
    for row in rows:
        assert row["received"] == row["duplicate"], row
        assert row["in_flight"] == 0
    assert second["report"]["reaches"] == second["report"]["server"]


@pytest.mark.parametrize("partner", ["northside.hl7", "eastlab.results", "eastlab.roster"])
def test_on_a_second_day_every_file_comes_again(second: Any, demo: Any, partner: str) -> None:
    one, two = (
        {row["name"] for row in report["deliveries"] if row["feed"] == partner} for report in (demo, second["report"])
    )
    assert two == one


def test_doctor_finds_nothing_wrong(site: Any, demo: Any) -> None:
    rows = site.facts("doctor")
    assert rows
    assert all(row["good"] for row in rows), rows
    assert "NO" not in site.sluice("doctor").split()


def test_status_names_every_service_and_it_answers(site: Any, demo: Any) -> None:
    rows = site.facts("status")
    assert [row["service"] for row in rows] == [
        "postgres",
        "sftp",
        "s3",
        "fhir-ehr",
        "fhir-county",
        "prefect",
        "worker",
    ]
    assert all(row["answers"] for row in rows)
    assert [row["address"] for row in demo["services"]] == [row["address"] for row in rows]


def test_a_second_up_changes_nothing(site: Any, demo: Any) -> None:
    before = (site.home / "stack.json").read_text()
    site.sluice("up")
    assert (site.home / "stack.json").read_text() == before


def test_two_ups_at_the_same_time_end_as_one(site: Any, demo: Any) -> None:
    before = (site.home / "stack.json").read_text()
    both = [site.start("up"), site.start("up")]
    for process in both:
        _out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
    assert (site.home / "stack.json").read_text() == before


def test_every_sample_feed_is_good(site: Any, demo: Any) -> None:
    said = site.sluice("feed", "check").splitlines()
    assert {f"{feed}: good" for feed in SAMPLES} <= set(said)
    assert all(line.endswith(": good") for line in said), said


def test_a_run_of_one_feed_prints_its_counts(site: Any, second: Any) -> None:
    said = site.facts("run", "eastlab.roster")
    assert said["feed"] == "eastlab.roster"
    assert said["state"] == "Completed"
    assert {name: said[name] for name in ("deliveries", "received", "in_flight")} == {
        "deliveries": 0,
        "received": 0,
        "in_flight": 0,
    }
    assert "eastlab.roster" in site.sluice("run", "eastlab.roster", "--here")
