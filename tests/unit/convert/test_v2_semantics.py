"""What events, actions and nulls do: each was wrong once."""

from __future__ import annotations

import pytest

from tests.v2_messages import message, one, only, resources, seg

VISIT = {2: "I", 3: "W2^202^B^NS", 19: "V1^^^NS^VN"}


def adt(event: str, *segments: str) -> str:
    return message(f"ADT^{event}", f"EVN|{event}|20240301", seg("PID", {3: "1^^^NS^MR", 5: "Doe^Jane"}), *segments)


@pytest.mark.parametrize("event", [f"A{number:02d}" for number in range(1, 63) if number not in {19, 56, 57, 58, 59}])
def test_every_event_of_adt_has_a_map(event: str) -> None:
    found = {finding.code for finding in one(adt(event, seg("PV1", VISIT))).findings}
    assert not found & {"unmapped-structure", "unmapped-segment"}


def test_two_visits_that_move_in_one_message_stay_two() -> None:
    groups = []
    for number in ("V7^^^NS^VN", "V8^^^NS^VN"):
        groups += [seg("MRG", {1: "2^^^NS^MR", 5: number}), seg("PV1", {2: "I", 19: number})]
    found = resources(one(adt("A45", *groups)), "Encounter")
    assert [[i["value"] for i in encounter["identifier"]] for encounter in found] == [["V7"], ["V8"]]


@pytest.mark.parametrize("event", ["A06", "A07"])
def test_a_change_of_class_retires_the_former_account_and_visit(event: str) -> None:
    merged = seg("MRG", {3: "AC0^^^NS^AN", 5: "V0^^^NS^VN"})
    conversion = one(adt(event, merged, seg("PV1", VISIT)))
    former = next(e for e in resources(conversion, "Encounter") if e["identifier"][0]["value"] == "V0")
    now = next(e for e in resources(conversion, "Encounter") if e["identifier"][0]["value"] == "V1")
    assert former["status"] == "entered-in-error"
    assert former["partOf"] == {"reference": f"Encounter/{now['id']}"}
    assert only(conversion, "Account")["status"] == "inactive"


def test_a_cleared_result_is_a_clear_not_a_value() -> None:
    conversion = one(message("ORU^R01^ORU_R01", "PID|||1^^^NS^MR", "OBR|1||F1|A", 'OBX|1|NM|B||""|mg|||||F'))
    (entry,) = [e for e in conversion.entries if e.resource["resourceType"] == "Observation"]
    assert entry.cleared == ("Observation.value",)
    assert not [name for name in entry.resource if name.startswith("value")]


def test_the_unit_of_a_text_is_kept_beside_it() -> None:
    conversion = one(message("ORU^R01^ORU_R01", "PID|||1^^^NS^MR", "OBR|1||F1|A", "OBX|1|ST|B||1:40|titer|||||F"))
    (extension,) = only(conversion, "Observation")["extension"]
    assert extension["valueCodeableConcept"]["coding"] == [{"code": "titer"}]


def test_the_namespace_of_a_group_number_is_not_the_filler_s_number() -> None:
    conversion = one(message("ORU^R01^ORU_R01", "PID|||1^^^NS^MR", "ORC|RE|P1|F1|G9^CPOE", "OBR|1|P1|F1|A"))
    values = {i["value"] for i in only(conversion, "DiagnosticReport")["identifier"]}
    assert values == {"P1", "F1", "G9"}


def test_the_method_of_an_old_diagnosis_is_its_system() -> None:
    conversion = one(adt("A01", seg("PV1", VISIT), "DG1|1|I9|345.1|EPILEPSY"))
    (coding,) = only(conversion, "Condition")["code"]["coding"]
    assert coding == {"system": "http://hl7.org/fhir/sid/icd-9-cm", "code": "345.1"}


def test_a_role_that_ends_is_no_participant() -> None:
    conversion = one(adt("A08", seg("PV1", VISIT), "ROL||DE|AT|77^Roe^Jim^^^^^^NS"))
    assert "participant" not in only(conversion, "Encounter")


def test_of_two_ways_to_say_a_thing_the_one_that_does_not_count_is_noted() -> None:
    orders = ["ORC|NW|P1|||||||||||||20240302", "OBR|1|P1||A||20240301"]
    found = {(f.code, f.location) for f in one(message("OML^O21^OML_O21", "PID|||1^^^NS^MR", *orders)).findings}
    assert ("outranked", "ORC-15") in found
    same = [line.replace("20240302", "20240301") for line in orders]
    assert not [f for f in one(message("OML^O21^OML_O21", "PID|||1^^^NS^MR", *same)).findings if f.code == "outranked"]


@pytest.mark.parametrize(("sent", "code"), [("eng", "en"), ("es", "es")])
def test_a_language_is_a_tag_of_bcp_47(sent: str, code: str) -> None:
    patient = only(one(message("ADT^A08", seg("PID", {3: "2^^^NS^MR", 15: sent}))), "Patient")
    (coding, *_) = patient["communication"][0]["language"]["coding"]
    assert (coding["system"], coding["code"]) == ("urn:ietf:bcp:47", code)


def test_a_signer_written_as_an_xcn_keeps_the_name() -> None:
    report = "OBR|1||F1|A" + "|" * 28 + "88^Signer^Sam"
    conversion = one(message("ORU^R01^ORU_R01", "PID|||1^^^NS^MR", report))
    assert only(conversion, "Practitioner")["name"] == [{"family": "Signer", "given": ["Sam"]}]
    assert not [finding for finding in conversion.findings if finding.code == "not-a-date"]


def _outranked(*segments: str) -> set[str]:
    found = one(message("ORM^O01^ORM_O01", "PID|||1^^^NS^MR", *segments)).findings
    return {finding.location for finding in found if finding.code == "outranked"}


def test_a_field_that_begins_like_the_one_before_it_and_says_more_is_noted() -> None:
    assert _outranked("ORC|NW|P1|||||1^Q6H", "OBR|1|P1||A" + "|" * 23 + "1^ONCE^^^^S") == {"OBR-27"}
    assert _outranked("ORC|NW|P1|||||1^Q6H", "OBR|1|P1||A" + "|" * 23 + "1") == set()


def test_a_day_gives_way_to_its_moment_without_a_word() -> None:
    assert _outranked("ORC|NW|P1" + "|" * 13 + "20240301", "OBR|1|P1||A", "TQ1|1||||||20240301080000") == set()
    assert _outranked("ORC|NW|P1" + "|" * 13 + "20240302", "OBR|1|P1||A", "TQ1|1||||||20240301080000") == {"ORC-15"}


def test_a_group_has_its_name_beside_its_number() -> None:
    conversion = one(adt("A01", seg("IN1", {2: "PLANA", 3: "I1", 4: "Blue", 8: "GRP1", 9: "Group One^L"})))
    (group,) = [one for one in only(conversion, "Coverage")["class"] if one["type"]["coding"][0]["code"] == "group"]
    assert (group["value"], group["name"]) == ("GRP1", "Group One")


def test_a_plan_is_of_the_coverage_and_the_numbers_of_a_company_are_the_insurer_s() -> None:
    insured = {2: "PLANA^Gold", 3: "C1^^^NAIC~C2^^^NAT", 4: "Blue", 5: "9 Way^^Town"}
    conversion = one(adt("A01", seg("IN1", insured)))
    (plan,) = only(conversion, "Coverage")["class"]
    assert (plan["type"]["coding"][0]["code"], plan["value"], plan["name"]) == ("plan", "PLANA", "Gold")
    (insurer,) = [one for one in resources(conversion, "Organization") if one.get("name") == "Blue"]
    assert [one["value"] for one in insurer["identifier"]] == ["C1", "C2"]


def test_an_insurer_without_a_name_is_named_by_its_number() -> None:
    conversion = one(adt("A01", seg("IN1", {2: "PLANA", 3: "C1^^^NAIC"})))
    insurer = next(one for one in resources(conversion, "Organization") if one["identifier"][0]["value"] == "C1")
    assert only(conversion, "Coverage")["payor"] == [{"reference": f"Organization/{insurer['id']}"}]


def test_what_a_function_does_not_clear_is_noted() -> None:
    noted = one(adt("A01", seg("PR1", {3: "P1^Hip^L", 5: '""'}), seg("IN1", {2: "PLANA", 3: "I1", 8: '""'})))
    assert [f.location for f in noted.findings if f.code == "clear-not-carried"] == ["PR1-5"]
    assert "Coverage.class" in {path for entry in noted.entries for path in entry.cleared}


@pytest.mark.parametrize("after", ["AL1|1|DA|PEN^Penicillin^L", "DG1|1||I10^Hypertension^I10C", "PR1|1||P1^Hip^L|||"])
def test_a_note_is_said_of_what_it_follows_and_not_of_a_result_before(after: str) -> None:
    conversion = one(adt("A01", seg("PV1", VISIT), "OBX|1|NM|H^Height^L||180|cm|||||F", after, "NTE|1||the note"))
    holders = [e.resource["resourceType"] for e in conversion.entries if "note" in e.resource]
    assert holders == [{"AL1": "AllergyIntolerance", "DG1": "Condition", "PR1": "Procedure"}[after[:3]]]


def siu(*segments: str) -> str:
    return message("SIU^S12^SIU_S12", *segments)


_SCH = {1: "AP1^E", 2: "AF1^L"}
_PID = seg("PID", {3: "1^^^NS^MR", 5: "Doe^Jane"})


@pytest.mark.parametrize("order", [(seg("SCH", _SCH), _PID), (_PID, seg("SCH", _SCH))])
def test_the_patient_takes_part_in_an_appointment(order: tuple[str, str]) -> None:
    conversion = one(siu(*order))
    actors = [one["actor"] for one in only(conversion, "Appointment")["participant"]]
    assert actors == [{"reference": f"Patient/{only(conversion, 'Patient')['id']}"}]


@pytest.mark.parametrize(
    ("schedule", "others", "end"),
    [
        ({11: "^^^20240310090000^20240310093000"}, [], "2024-03-10T09:30:00-04:00"),
        ({11: "^^M30^20240310090000"}, [], "2024-03-10T09:30:00-04:00"),
        ({9: "30", 10: "min", 11: "^^^20240310090000"}, [], "2024-03-10T09:30:00-04:00"),
        ({11: "^^^20240310090000"}, ["RGS|1", "AIS|1|A|S^S^L|20240310090000|||30|min"], "2024-03-10T09:30:00-04:00"),
        ({}, ["TQ1|1|||||30^min|20240310090000"], "2024-03-10T09:30:00-04:00"),
        ({11: "^^^20240310090000"}, [], None),
    ],
)
def test_an_appointment_ends_when_any_of_its_segments_says(
    schedule: dict[int, str], others: list[str], end: str | None
) -> None:
    found = only(one(siu(seg("SCH", {**_SCH, **schedule}), *others[:1], _PID, *others[1:])), "Appointment")
    assert found["start"] == "2024-03-10T09:00:00-04:00"
    assert found.get("end") == end
    assert ("_end" in found) == (end is None)


@pytest.mark.parametrize("name", ["DG1|1||I10^H^I10C||20240301", "PR1|1||0SR^Hip^I10P||20240302", "OBX|1|NM|H^H^L||1"])
def test_a_thing_has_one_id_whether_it_stands_before_its_visit_or_behind(name: str) -> None:
    one_way, other = (one(adt("A01", *order)) for order in ((seg("PV1", VISIT), name), (name, seg("PV1", VISIT))))
    assert {e.resource["id"] for e in one_way.entries} == {e.resource["id"] for e in other.entries}


def test_every_financial_class_of_a_visit_is_a_coverage_in_any_order() -> None:
    found = []
    for classes in ("MC^20240101~SP^20240201", "SP^20240201~MC^20240101"):
        made = resources(one(adt("A01", seg("PV1", {**VISIT, 20: classes}))), "Coverage")
        found.append({c["id"]: (c["type"]["coding"][-1]["code"], c["period"]["start"]) for c in made})
    assert found[0] == found[1]
    assert sorted(found[0].values()) == [("MC", "2024-01-01"), ("SP", "2024-02-01")]


@pytest.mark.parametrize(("prior", "noted"), [("1^^^NS^MR", []), ("2^^^NS^MR", ["MRG-1"])])
def test_a_prior_identifier_that_the_patient_has_is_nothing_lost(prior: str, noted: list[str]) -> None:
    merged = one(adt("A50", seg("MRG", {1: prior, 5: "V0^^^NS^VN"}), seg("PV1", VISIT)))
    assert [f.location for f in merged.findings if f.code == "unmapped-field"] == noted


def test_a_susceptibility_names_the_result_that_it_goes_on_from() -> None:
    order = seg(
        "OBR", {3: "F2^LAB", 4: "18769-0^Susceptibility^LN", 26: "600-7&Bacteria&LN^1^Staph", 29: "P1&E^F1&LAB"}
    )
    report = only(one(message("ORU^R01^ORU_R01", _PID, order, "OBX|1|NM|A^A^L||1||||||F")), "DiagnosticReport")
    (parent,) = [e["extension"] for e in report["extension"] if e["url"] == "urn:sluice:parent-result"]
    assert parent[0]["valueCodeableConcept"]["coding"][0]["code"] == "600-7"
    assert [part["valueString"] for part in parent[1:]] == ["1", "Staph"]


def test_what_is_seen_of_a_person_is_no_result_of_the_order_below() -> None:
    segments = (
        _PID,
        "OBX|1|NM|W^Weight^L||70||||||F",
        "ORC|NW|P1",
        "OBR|1|P1||G^Glucose^L",
        "OBX|1|NM|G^G^L||5||||||F",
    )
    weight, glucose = resources(one(message("ORU^R30^ORU_R30", *segments)), "Observation")
    assert "basedOn" not in weight
    assert "basedOn" in glucose


@pytest.mark.parametrize("between", ["DG1|1||I10^HTN^I10", "SPM|1|S1^F1||BLD"])
def test_a_person_behind_a_diagnosis_or_a_specimen_is_not_the_observer_before_it(between: str) -> None:
    person = seg("PRT", {2: "AD", 4: "SB", 5: "80^Spm^S"})
    lines = ["PID|||1^^^NS^MR", "OBR|1||F1|A", "OBX|1|NM|B||1|g|||||F", between, person]
    conversion = one(message("ORU^R01^ORU_R01", *lines))
    assert "performer" not in only(conversion, "Observation")
    assert ("segment-out-of-place", "PRT") in {(f.code, f.location) for f in conversion.findings}
