"""Who is who: ids from natural keys."""

from __future__ import annotations

import pytest

from mappings.engine.slots import assemble
from tests.v2_messages import convert, message, one, only, resources, seg


def patient(identifiers: str, **profile: object) -> str:
    return str(only(one(message("ADT^A08^ADT_A01", seg("PID", {3: identifiers})), **profile), "Patient")["id"])


def test_the_order_of_pid_3_s_repetitions_does_not_matter() -> None:
    first = patient("1^^^NORTHSIDE^MR~2^^^STATE^DL~3^^^OTHER^MR")
    assert first == patient("3^^^OTHER^MR~2^^^STATE^DL~1^^^NORTHSIDE^MR")


def test_one_number_under_two_authorities_is_two_patients() -> None:
    assert patient("1^^^NORTHSIDE^MR") != patient("1^^^SOUTHSIDE^MR")


def test_one_number_at_two_partners_is_two_patients_unless_the_authority_is_shared_or_universal() -> None:
    local, shared, oid = "1^^^HOSP^MR", "1^^^STATE^MR", "1^^^&2.16.840.1.113883.19.5&ISO^MR"
    assert patient(local, partner="a") != patient(local, partner="b")
    assert patient(shared, partner="a", shared_authorities=("STATE",)) == patient(
        shared, partner="b", shared_authorities=("STATE",)
    )
    assert patient(oid, partner="a") == patient(oid, partner="b")


def test_the_declared_preference_decides() -> None:
    both = "1^^^A^MR~2^^^B^PI"
    assert patient(both, patient=("PI",)) == patient("2^^^B^PI")
    assert patient(both, patient=("MR@A", "PI")) == patient("1^^^A^MR")
    assert patient(both) == patient("1^^^A^MR")


def test_the_same_message_twice_gives_the_same() -> None:
    text = message(
        "ADT^A01^ADT_A01", seg("PID", {3: "1^^^A^MR"}), seg("PV1", {2: "I", 19: "V1"}), seg("AL1", {3: "P^Nuts^L"})
    )
    assert one(text) == one(text)


def test_a01_and_a03_are_one_encounter_and_the_fold_keeps_what_the_second_does_not_say() -> None:
    pid = seg("PID", {3: "1^^^A^MR"})
    admitted = one(message("ADT^A01^ADT_A01", pid, seg("PV1", {2: "I", 3: "W^1^A", 19: "V1^^^A", 44: "202403011000"})))
    gone = one(message("ADT^A03^ADT_A03", pid, seg("PV1", {2: "I", 19: "V1^^^A", 45: "202403021000"})))
    first, second = (next(e for e in c.entries if e.resource["resourceType"] == "Encounter") for c in (admitted, gone))
    assert first.resource["id"] == second.resource["id"]
    assert (first.resource["status"], second.resource["status"]) == ("in-progress", "finished")
    folded = assemble("Encounter", first.resource["id"], {**(first.slots or {}), **(second.slots or {})})
    assert folded["status"] == "finished"
    assert folded["period"] == {"start": "2024-03-01T10:00:00-05:00", "end": "2024-03-02T10:00:00-05:00"}
    assert folded["location"] == first.resource["location"]


def test_a13_reopens_and_clears_the_end() -> None:
    pid = seg("PID", {3: "1^^^A^MR"})
    gone = one(message("ADT^A03^ADT_A03", pid, seg("PV1", {2: "I", 19: "V1", 45: "202403021000"})))
    back = one(message("ADT^A13^ADT_A01", pid, seg("PV1", {2: "I", 19: "V1", 45: "202403021000"})))
    first, second = (next(e for e in c.entries if e.resource["resourceType"] == "Encounter") for c in (gone, back))
    folded = assemble("Encounter", first.resource["id"], {**(first.slots or {}), **(second.slots or {})})
    assert folded["status"] == "in-progress"
    assert "period" not in folded
    assert "Encounter.period.end" in second.cleared


def test_an_update_says_nothing_of_the_status() -> None:
    text = message("ADT^A08^ADT_A01", seg("PID", {3: "1^^^A^MR"}), seg("PV1", {19: "V1"}))
    entry = next(e for e in one(text).entries if e.resource["resourceType"] == "Encounter")
    assert all(
        slot.startswith("~") for slot, said in (entry.slots or {}).items() if any(p == "status" for p, _ in said)
    )


def test_two_results_with_the_same_code_are_two_observations_and_stay_so() -> None:
    obx = {2: "TX", 3: "REPORT^Report^L", 11: "F"}
    text = message(
        "ORU^R01^ORU_R01",
        seg("PID", {3: "1^^^A^MR"}),
        seg("OBR", {3: "F1^LAB", 4: "CT^CT^L", 25: "F"}),
        seg("OBX", {1: "1", **obx, 5: "one"}),
        seg("OBX", {1: "2", **obx, 5: "two"}),
    )
    found = resources(one(text), "Observation")
    assert len({resource["id"] for resource in found}) == 2
    assert "repeated-key" in {finding.code for finding in one(text).findings}


def test_an_observation_s_id_is_not_its_ordinal() -> None:
    def ids(*lines: str) -> set[str]:
        head = [seg("PID", {3: "1^^^A^MR"}), seg("OBR", {3: "F1^LAB", 4: "P^Panel^L", 25: "F"})]
        return {r["id"] for r in resources(one(message("ORU^R01^ORU_R01", *head, *lines)), "Observation")}

    one_line = seg("OBX", {1: "1", 2: "NM", 3: "A^a^L", 5: "1", 11: "F"})
    two_line = seg("OBX", {1: "2", 2: "NM", 3: "B^b^L", 5: "2", 11: "F"})
    assert ids(one_line, two_line) == ids(two_line.replace("|2|", "|1|", 1), one_line.replace("|1|", "|2|", 1))


def test_a_visit_without_a_number_is_found_by_patient_and_admission_and_without_that_by_content() -> None:
    pid = seg("PID", {3: "1^^^A^MR"})
    admitted = one(message("ADT^A01^ADT_A01", pid, seg("PV1", {2: "I", 44: "202403011000"})))
    later = one(message("ADT^A08^ADT_A01", pid, seg("PV1", {2: "I", 3: "W^1", 44: "202403011000"})))
    assert only(admitted, "Encounter")["id"] == only(later, "Encounter")["id"]
    nameless = one(message("ADT^A01^ADT_A01", pid, seg("PV1", {2: "O"})))
    assert ("no-natural-key", "PV1") in {(finding.code, finding.location) for finding in nameless.findings}


def test_what_one_message_says_of_a_physician_does_not_leak_into_the_next() -> None:
    def visit(attending: str, consulting: str = "") -> str:
        return message(
            "ADT^A01^ADT_A01", seg("PID", {3: "1^^^A^MR"}), seg("PV1", {2: "I", 7: attending, 9: consulting, 19: "V1"})
        )

    texts = [visit("7^Who"), visit("7^Who", "7^Who^Doctor^T"), visit("7^Who")]
    together = convert("".join(texts))
    names = [only(conversion, "Practitioner")["name"] for conversion in together]
    assert names == [[{"family": "Who"}], [{"family": "Who", "given": ["Doctor", "T"]}], [{"family": "Who"}]]
    assert together[0] == together[2]


def test_the_event_decides_where_the_structure_is_wrong() -> None:
    text = message("ADT^A40^ADT_A01", seg("PID", {3: "1^^^A^MR"}), seg("MRG", {1: "2^^^A^MR"}))
    links = [resource["link"][0]["type"] for resource in resources(one(text), "Patient")]
    assert links == ["replaces", "replaced-by"]


def test_a_diagnosis_under_an_order_is_its_reason() -> None:
    text = message(
        "ORM^O01^ORM_O01",
        seg("PID", {3: "1^^^A^MR"}),
        seg("ORC", {1: "NW", 2: "P1"}),
        seg("OBR", {4: "X^x^L"}),
        seg("DG1", {3: "I10^H^I10C"}),
    )
    assert only(one(text), "ServiceRequest")["reasonReference"] == [
        {"reference": f"Condition/{only(one(text), 'Condition')['id']}"}
    ]


def test_an_appointment_s_order_is_the_order_itself() -> None:
    pid = seg("PID", {3: "1^^^A^MR"})
    ordered = one(message("ORM^O01^ORM_O01", pid, seg("ORC", {1: "NW", 2: "P1^EHR"}), seg("OBR", {4: "X^x^L"})))
    booked = one(message("SIU^S12^SIU_S12", seg("SCH", {1: "A1^EHR", 25: "Booked", 26: "P1^EHR"}), pid))
    assert only(ordered, "ServiceRequest")["id"] == only(booked, "ServiceRequest")["id"]


APART = {
    "AllergyIntolerance": ["AL1|1||A1^Nuts^L", "AL1|2||A2^Eggs^L", "IAM|1||A3^Bees^L|||A|E3"],
    "Condition": ["DG1|1||I10^a^I10" + "|" * 17 + "E1", "PRB|AD|20240301|I11^b^I10|E2", "PRB|AD|20240301|I12^c^I10",
                  "PRB|AD|20240301|I13^d^I10"],
    "RelatedPerson": ["GT1|1|G1|Gale^Ann", "NK1|1|Kin^Bob|SPO", "NK1|2|Kin^Cleo|CHD"],
    "Device": ["OBX|1|NM|1^a^L||1", "PRT||AD||EQUIP||||||D1^^1.2.3^ISO", "OBX|2|NM|2^b^L||2",
               "PRT||AD||EQUIP||||||D2^^1.2.3^ISO"],
}  # fmt: skip


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("kind", APART)
def test_things_of_one_type_that_several_segments_make_stay_apart(kind: str, turn: bool) -> None:
    parts = [*APART[kind]]
    if turn and kind != "Device":
        parts.reverse()
    structure = {"Condition": "PPR^PC1^PPR_PC1", "Device": "ORU^R01^ORU_R01"}.get(kind, "ADT^A08^ADT_A01")
    head = [seg("SFT", {1: "Maker^L", 2: "1", 3: "Product", 4: "B1"}), seg("PID", {3: "1^^^A^MR"})]
    found = resources(one(message(structure, *head, *parts)), kind)
    several = {"Device": 4}.get(kind, len(parts))
    assert len({resource["id"] for resource in found}) == len(found) == several
