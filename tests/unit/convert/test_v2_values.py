"""OBX-5 by OBX-2, clears, codes, findings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mappings.engine.json import dumps
from tests.v2_messages import message, one, only, resources, seg

PATIENT = "PID|||1^^^NS^MR"


def observation(fields: dict[int, str]) -> dict[str, Any]:
    lines = [
        seg("PID", {3: "1^^^A^MR"}),
        seg("OBR", {3: "F1", 4: "P^Panel^L"}),
        seg("OBX", {3: "C^c^L", 11: "F", **fields}),
    ]
    return only(one(message("ORU^R01^ORU_R01", *lines)), "Observation")


SCT = {"system": "http://snomed.info/sct"}
UNIT = {"unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}


@pytest.mark.parametrize(
    ("kind", "value", "element", "expected"),
    [
        ("NM", "5.10", "valueQuantity", {"value": Decimal("5.10"), **UNIT}),
        ("NM", "<5", "valueQuantity", {"value": Decimal(5), **UNIT, "comparator": "<"}),
        ("NM", "trace", "valueString", "trace"),
        ("SN", "^5", "valueQuantity", {"value": Decimal(5), **UNIT}),
        ("SN", ">=^5", "valueQuantity", {"value": Decimal(5), **UNIT, "comparator": ">="}),
        ("SN", "^1^-^5", "valueRange", {"low": {"value": Decimal(1), **UNIT}, "high": {"value": Decimal(5), **UNIT}}),
        ("SN", "^1^:^128", "valueRatio", {"numerator": {"value": 1, **UNIT}, "denominator": {"value": Decimal(128)}}),
        ("SN", "^2^+", "valueString", "2 + mg/dL"),
        ("SN", "<>^5", "valueString", "<> 5 mg/dL"),
        ("ST", "plain", "valueString", "plain"),
        ("ST", "a^b&c", "valueString", "a^b&c"),
        ("TX", "line one~line two", "valueString", "line one\nline two"),
        ("CWE", "260385009^N^SCT", "valueCodeableConcept", {"coding": [{"code": "260385009", "display": "N", **SCT}]}),
        ("IS", "POS", "valueCodeableConcept", {"coding": [{"code": "POS"}]}),
        ("DT", "20240301", "valueDateTime", "2024-03-01"),
        ("DTM", "202403011015", "valueDateTime", "2024-03-01T10:15:00-05:00"),
        ("TM", "1015", "valueTime", "10:15:00"),
        ("DR", "20240301^20240302", "valuePeriod", {"start": "2024-03-01", "end": "2024-03-02"}),
        ("NR", "1^5", "valueRange", {"low": {"value": Decimal(1), **UNIT}, "high": {"value": Decimal(5), **UNIT}}),
        ("XPN", "Doe^Jane^^^Dr", "valueString", "Dr Jane Doe"),
    ],
)  # fmt: skip
def test_the_value_is_what_obx_2_says(kind: str, value: str, element: str, expected: Any) -> None:
    found = observation({2: kind, 5: value, 6: "mg/dL^^UCUM"})
    assert found[element] == expected
    assert len([name for name in found if name.startswith("value")]) == 1


def test_a_number_keeps_its_digits_in_json() -> None:
    assert b'"value":5.10' in dumps(observation({2: "NM", 5: "5.10"}))


def test_an_array_is_sampled_data_and_an_attachment_keeps_its_bytes() -> None:
    assert observation({2: "NA", 5: "1^2^3~4^5^6"})["valueSampledData"]["data"] == "1 4 2 5 3 6"
    found = observation({2: "ED", 5: "^AP^PDF^Base64^JVBERg=="})["extension"][0]["valueAttachment"]
    assert found == {"contentType": "application/pdf", "data": "JVBERg=="}
    text = observation({2: "ED", 5: "^TX^^A^hello"})["extension"][0]["valueAttachment"]
    assert text == {"contentType": "text/plain", "data": "aGVsbG8="}


def test_repeated_coded_values_are_components() -> None:
    found = observation({2: "CWE", 5: "A^a^L~B^b^L"})
    assert [part["valueCodeableConcept"]["coding"][0]["code"] for part in found["component"]] == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("3.5-5.0", {"low", "high"}),
        ("<5", {"high"}),
        (">=5", {"low"}),
        ("-1.5 - 2", {"low", "high"}),
        ("negative", set()),
    ],
)
def test_a_reference_range_is_parsed_and_kept_as_text(text: str, ends: set[str]) -> None:
    (found,) = observation({2: "NM", 5: "4", 7: text})["referenceRange"]
    assert found["text"] == text
    assert set(found) - {"text"} == ends


@pytest.mark.parametrize(("status", "reason"), [("X", "error"), ("N", "not-asked")])
def test_a_result_that_is_not_there_says_why(status: str, reason: str) -> None:
    found = observation({2: "NM", 11: status})
    assert found["dataAbsentReason"]["coding"][0]["code"] == reason
    assert found["status"] == "cancelled"


def test_a_cleared_field_is_an_explicit_clear_and_stands_nowhere_as_text() -> None:
    conversion = one(message("ADT^A08^ADT_A01", seg("PID", {3: "1^^^A^MR", 5: '""', 8: '""', 11: '""', 16: "M"})))
    entry = next(e for e in conversion.entries if e.resource["resourceType"] == "Patient")
    assert set(entry.cleared) == {"Patient.name", "Patient.gender", "Patient.address"}
    assert entry.slots is not None
    assert entry.slots["PID-5"] == []
    assert b'\\"\\"' not in dumps([e.resource for e in conversion.entries])


def test_a_cleared_component_is_not_text() -> None:
    found = only(one(message("ADT^A08^ADT_A01", seg("PID", {3: "1^^^A^MR", 5: 'Doe^""^Q'}))), "Patient")
    assert found["name"] == [{"family": "Doe", "given": ["Q"]}]


def test_an_unmapped_code_is_kept_found_and_listed() -> None:
    conversion = one(message("ADT^A08^ADT_A01", seg("PID", {3: "1^^^A^MR", 8: "X", 16: "Q^Quirky^HL70002"})))
    found = only(conversion, "Patient")
    extension = found["_gender"]["extension"][0]["valueCodeableConcept"]["coding"]
    assert extension == [{"system": "http://terminology.hl7.org/CodeSystem/v2-0001", "code": "X"}]
    assert found["maritalStatus"]["coding"][0]["code"] == "Q"
    assert {(u.table, u.code, u.location) for u in conversion.unmapped} >= {
        ("AdministrativeSex", "X", "PID-8"),
        ("MaritalStatus", "Q", "PID-16"),
    }


def test_a_field_without_a_map_is_a_finding_without_its_value() -> None:
    conversion = one(message("ADT^A08^ADT_A01", seg("PID", {3: "1^^^A^MR", 38: "SECRET", 60: "SECRET"})))
    assert {(f.code, f.location) for f in conversion.findings} == {
        ("unmapped-field", "PID-38"),
        ("unmapped-field", "PID-60"),
    }
    assert "SECRET" not in repr(conversion.findings)


def test_a_component_without_a_map_is_a_finding() -> None:
    conversion = one(message("ADT^A08^ADT_A01", seg("PID", {3: "1^^^A^MR", 11: "1 Main^^Boston^^^^^GEO"})))
    assert ("unmapped-field", "PID-11.8") in {(f.code, f.location) for f in conversion.findings}


def test_a_date_that_is_not_one_is_a_finding_and_no_element() -> None:
    conversion = one(message("ADT^A08^ADT_A01", seg("PID", {3: "1^^^A^MR", 7: "19991345"})))
    assert "birthDate" not in only(conversion, "Patient")
    assert ("not-a-date", "PID-7") in {(f.code, f.location) for f in conversion.findings}


def test_systems_are_absolute() -> None:
    found = observation({2: "CE", 5: "A^a^L^B^b^99LAB", 3: "1^x^2.16.840.1.113883.6.1"})
    systems = [c["system"] for c in found["valueCodeableConcept"]["coding"]]
    assert systems == ["urn:sluice:northside:L", "urn:sluice:northside:99LAB"]
    assert found["code"]["coding"][0]["system"] == "urn:oid:2.16.840.1.113883.6.1"


def test_a_result_without_a_time_has_its_order_s_and_a_finding_about_it_names_the_order() -> None:
    def convert(time: str) -> Any:
        lines = [seg("OBR", {3: "F1", 4: "P^Panel^L", 7: time}), seg("OBX", {2: "NM", 3: "C^c^L", 5: "1", 11: "F"})]
        return one(message("ORU^R01^ORU_R01", seg("PID", {3: "1^^^A^MR"}), *lines))

    assert only(convert("202403011015"), "Observation")["effectiveDateTime"] == "2024-03-01T10:15:00-05:00"
    assert {f.location for f in convert("soon").findings if f.code == "not-a-date"} == {"OBR-7"}


def unit_and_more(units: str) -> tuple[Any, bool]:
    found = observation({2: "NM", 5: "5", 6: units})
    return found["valueQuantity"], any(
        one["url"] == "urn:sluice:observation-unit" for one in found.get("extension", ())
    )


def test_of_a_unit_s_codings_that_of_ucum_is_the_quantity_s_and_the_others_stay_beside_it() -> None:
    value = Decimal(5)
    assert unit_and_more("mg/dl^local^L^mg/dL^mg/dL^UCUM") == ({"value": value, **UNIT}, True)
    assert unit_and_more("mg/dL^mg/dL^UCUM") == ({"value": value, **UNIT}, False)
    assert unit_and_more("mg^milligram") == ({"value": value, "unit": "milligram"}, True)


def test_a_date_beside_a_financial_class_is_no_name_of_it() -> None:
    lines = [seg("PID", {3: "1^^^A^MR"}), seg("PV1", {2: "I", 19: "V1", 20: "SELF^20240101"})]
    coverage = only(one(message("ADT^A01^ADT_A01", *lines)), "Coverage")
    assert coverage["period"] == {"start": "2024-01-01"}
    assert "display" not in coverage["type"]["coding"][0]


def test_padding_that_is_miscounted_loses_no_document() -> None:
    found = observation({2: "ED", 5: "^AP^PDF^Base64^JVBERi0=="})
    assert found["extension"][0]["valueAttachment"] == {"contentType": "application/pdf", "data": "JVBERi0="}
    assert {one["url"] for one in found["extension"]} >= {
        "http://hl7.org/fhir/5.0/StructureDefinition/extension-Observation.value"
    }


@pytest.mark.parametrize("unit", ["MIN", "min", "MINS", "Minutes"])
def test_minutes_are_minutes_however_they_are_written(unit: str) -> None:
    lines = [seg("SCH", {1: "A1", 9: "20", 10: unit, 11: "^^^202403051000"}), seg("PID", {3: "1^^^A^MR"})]
    conversion = one(message("SIU^S12^SIU_S12", *lines))
    assert only(conversion, "Appointment")["end"] == "2024-03-05T10:20:00-05:00"
    assert "unknown-unit" not in {finding.code for finding in conversion.findings}


def test_a_reason_for_absence_gives_way_to_a_value() -> None:
    lines = [seg("PID", {3: "1^^^A^MR"}), seg("OBR", {3: "F1", 4: "P^Panel^L"})]
    valued = seg("OBX", {2: "NM", 3: "C^c^L", 5: "1", 11: "F", 32: "asked^Asked^L"})
    conversion = one(message("ORU^R01^ORU_R01", *lines, valued))
    assert "dataAbsentReason" not in only(conversion, "Observation")
    assert ("outranked", "OBX-32") in {(f.code, f.location) for f in conversion.findings}
    absent = observation({2: "NM", 32: "asked^Asked^L"})
    assert absent["dataAbsentReason"]["coding"][0]["code"] == "asked"


@pytest.mark.parametrize("kind", ["nm", " NM", "Nm "])
def test_the_type_of_a_value_is_known_in_any_case(kind: str) -> None:
    text = message("ORU^R01^ORU_R01", "PID|||1^^^NS^MR", "OBR|1||F1|A", f"OBX|1|{kind}|B||4.0|mg|||||F")
    assert only(one(text), "Observation")["valueQuantity"]["value"] == Decimal("4.0")


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("NM", "pending", True),
        ("NM", "1,234.5", True),
        ("NM", "1~few", True),
        ("NM", "1~2", False),
        ("NR", "low^high", True),
        ("NA", "1^x", True),
        ("SN", "<^5", False),
        ("SN", "<>^5", False),
    ],
)
def test_a_unit_is_said_by_the_value_or_beside_it(kind: str, value: str, kept: bool) -> None:
    found = observation({2: kind, 5: value, 6: "mg/dL"})
    beside = [e for e in found.get("extension", ()) if e["url"] == "urn:sluice:observation-unit"]
    assert [e["valueCodeableConcept"]["coding"][0]["code"] for e in beside] == (["mg/dL"] if kept else [])


@pytest.mark.parametrize("kind", ["CP", "RI", "OG", "JCC", "PLN", "TQ", "DLN", "CD"])
def test_a_type_of_hl7_that_fhir_does_not_have_is_a_text(kind: str) -> None:
    conversion = one(message("ORU^R01^ORU_R01", PATIENT, "OBR|1||F1|A", f"OBX|1|{kind}|B||A&1^B^C||||||F"))
    assert only(conversion, "Observation")["valueString"] == "A&1^B^C"
    assert not [f for f in conversion.findings if f.code == "unknown-value-type"]


def test_a_coding_system_that_has_an_oid_beside_its_local_name_is_that_oid() -> None:
    value = "A^Alpha^99LAB^B^Beta^LN^^^^^^^^1.2.3^^^2.16.840.1.113883.6.1"
    conversion = one(message("ORU^R01^ORU_R01", PATIENT, "OBR|1||F1|A", f"OBX|1|CWE|B||{value}||||||F"))
    codings = only(conversion, "Observation")["valueCodeableConcept"]["coding"]
    assert [coding["system"] for coding in codings] == ["urn:oid:1.2.3", "http://loinc.org"]


def test_an_identifier_that_is_null_is_none() -> None:
    patient = only(one(message("ADT^A31", 'PID|||1^^^NS^MR~""^^^OLD^PI')), "Patient")
    assert [identifier["value"] for identifier in patient["identifier"]] == ["1"]


def test_the_procedure_of_a_charge_is_said_once() -> None:
    lines = [seg("FT1", {4: "20240601", 6: "CG", 7: "1^Visit^CPT", 25: code}) for code in ("1^Visit^CPT", "2^Scan^CPT")]
    charges = resources(one(message("DFT^P03^DFT_P03", PATIENT, *lines)), "ChargeItem")
    assert [[coding["code"] for coding in charge["code"]["coding"]] for charge in charges] == [["1"], ["1", "2"]]


def test_an_ampersand_that_nobody_escaped_is_one_of_the_parent_s_value() -> None:
    obr = seg("OBR", {3: "F1", 4: "A", 26: "B&Organism&L^1^E. coli & more&yet"})
    conversion = one(message("ORU^R01^ORU_R01", PATIENT, obr))
    (extension,) = only(conversion, "DiagnosticReport")["extension"]
    assert extension["extension"][-1]["valueString"] == "E. coli & more&yet"


def test_the_language_of_the_message_is_one_of_bcp_47() -> None:
    text = message("ADT^A08", PATIENT).replace("|P|2.5.1", "|P|2.5.1|||||||en^English^ISO639")
    assert only(one(text), "MessageHeader")["language"] == "en"


def test_a_field_of_very_many_repetitions_loses_none_and_says_none_twice() -> None:
    numbers = "~".join(f"{number}^^^A{number}^MR" for number in [*range(300), *range(300)])
    names = "~".join(f"F{number}^G" for number in range(300))
    patient = only(one(message("ADT^A08", seg("PID", {3: numbers, 5: names}))), "Patient")
    assert [identifier["value"] for identifier in patient["identifier"]] == [str(number) for number in range(300)]
    assert [name["family"] for name in patient["name"]] == [f"F{number}" for number in range(300)]


def test_an_address_on_the_net_beside_a_number_is_kept() -> None:
    patient = only(
        one(message("ADT^A08", seg("PID", {3: "1^^^A^MR", 13: "(509) 555-1212^^^j@example.org"}))), "Patient"
    )
    (telecom,) = patient["telecom"]
    assert telecom["value"] == "(509) 555-1212"
    assert telecom["extension"] == [{"url": "urn:sluice:communication-address", "valueString": "j@example.org"}]


def test_who_stands_after_the_first_where_fhir_has_one_is_kept_beside_it() -> None:
    order = seg("ORC", {1: "NW", 2: "P1", 12: "7^Who^Jim~8^Who^Jim~9^Else^Ann"})
    conversion = one(message("ORM^O01^ORM_O01", PATIENT, order, seg("OBR", {2: "P1", 4: "A", 16: "7^Who^Jim"})))
    request = only(conversion, "ServiceRequest")
    people = {f"Practitioner/{one['id']}": one for one in resources(conversion, "Practitioner")}
    beside = [e["valueReference"]["reference"] for e in request["extension"] if e["url"].endswith("further-requester")]
    assert [people[one]["identifier"][0]["value"] for one in beside] == ["8", "9"]
    assert not [finding for finding in conversion.findings if finding.code == "repetition-not-carried"]
