"""What the validator says of a resource: which code, and where."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tasks.validate import validator

PATIENT: dict[str, Any] = {"resourceType": "Patient", "id": "a"}
OBSERVATION: dict[str, Any] = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
CONDITION: dict[str, Any] = {"resourceType": "Condition", "subject": {"reference": "Patient/1"}}
SYSTEM = "http://terminology.hl7.org/CodeSystem/condition-clinical"


def found(resource: Any, version: Any = "4.0.1") -> list[tuple[str, str]]:
    findings = validator(version).check(resource)
    assert all(finding.severity == "error" for finding in findings)
    return [(finding.code, finding.location) for finding in findings]


@pytest.mark.parametrize(
    "resource",
    [
        PATIENT,
        {**PATIENT, "birthDate": "1970-02", "_birthDate": {"extension": [{"url": "http://x", "valueCode": "y"}]}},
        {**PATIENT, "_birthDate": {"extension": [{"url": "http://x", "valueCode": "unknown"}]}},
        {**PATIENT, "name": [{"given": ["A", None], "_given": [None, {"id": "x"}]}]},
        {**PATIENT, "multipleBirthInteger": 0, "active": False},
        {**PATIENT, "contained": [{**OBSERVATION, "id": "o", "subject": {"reference": "#"}}]},
        {**OBSERVATION, "valueQuantity": {"value": Decimal("5.10")}},
        {**OBSERVATION, "valueQuantity": {"value": Decimal("1E-20")}},
        {**OBSERVATION, "valueQuantity": {"value": 7}},
        {
            "resourceType": "Observation",
            "code": {"text": "x"},
            "_status": {"extension": [{"url": "http://x", "valueCode": "y"}]},
        },
        {
            **CONDITION,
            "clinicalStatus": {"coding": [{"system": "x", "code": "y"}, {"system": SYSTEM, "code": "active"}]},
        },
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": PATIENT}]},
        {"resourceType": "Parameters", "parameter": [{"name": "a", "part": [{"name": "b", "resource": PATIENT}]}]},
        {"resourceType": "Binary", "contentType": "text/plain"},
    ],
)
def test_a_valid_resource_has_no_findings(resource: dict[str, Any]) -> None:
    assert found(resource) == []


@pytest.mark.parametrize(
    ("resource", "code", "location"),
    [
        ({**PATIENT, "nickname": "x"}, "fhir-unknown-element", "Patient.nickname"),
        ({**PATIENT, "name": [{"first": "x"}]}, "fhir-unknown-element", "Patient.name[0].first"),
        ({**PATIENT, "Smith, John": "x"}, "fhir-unknown-element", "Patient"),
        ({**PATIENT, "_name": [{}]}, "fhir-unknown-element", "Patient._name"),
        ({"resourceType": "Observation", "code": {"text": "x"}}, "fhir-required", "Observation.status"),
        ({**PATIENT, "link": [{"type": "seealso"}]}, "fhir-required", "Patient.link[0].other"),
        ({**PATIENT, "active": "true"}, "fhir-type", "Patient.active"),
        ({**PATIENT, "active": None}, "fhir-type", "Patient.active"),
        ({**PATIENT, "name": ["x"]}, "fhir-type", "Patient.name[0]"),
        ({**PATIENT, "name": {"text": "x"}}, "fhir-cardinality", "Patient.name"),
        ({**PATIENT, "gender": ["male"]}, "fhir-cardinality", "Patient.gender"),
        ({**PATIENT, "birthDate": "2023-02-29"}, "fhir-format", "Patient.birthDate"),
        ({**PATIENT, "birthDate": "1900-02-29"}, "fhir-format", "Patient.birthDate"),
        ({**PATIENT, "deceasedDateTime": "2023-02-01T10:00:00"}, "fhir-format", "Patient.deceased.ofType(dateTime)"),
        ({**PATIENT, "id": "a_b"}, "fhir-format", "Patient.id"),
        ({**PATIENT, "id": "a" * 65}, "fhir-format", "Patient.id"),
        ({**PATIENT, "meta": {"lastUpdated": "2023-02-01"}}, "fhir-format", "Patient.meta.lastUpdated"),
        ({**PATIENT, "photo": [{"data": "a=b"}]}, "fhir-format", "Patient.photo[0].data"),
        ({**PATIENT, "photo": [{"size": -1}]}, "fhir-format", "Patient.photo[0].size"),
        ({**PATIENT, "name": [{"family": "a\x0bb"}]}, "fhir-format", "Patient.name[0].family"),
        ({**PATIENT, "gender": "m"}, "fhir-binding", "Patient.gender"),
        ({**CONDITION, "clinicalStatus": {"text": "active"}}, "fhir-binding", "Condition.clinicalStatus"),
        (
            {**CONDITION, "clinicalStatus": {"coding": [{"system": SYSTEM, "code": "actif"}]}},
            "fhir-binding",
            "Condition.clinicalStatus.coding",
        ),
        (
            {**OBSERVATION, "valueString": "x", "valueQuantity": {"value": 1}},
            "fhir-choice",
            "Observation.value",
        ),
        ({**PATIENT, "deceasedBoolean": True, "_deceasedDateTime": {"id": "x"}}, "fhir-choice", "Patient.deceased"),
        (
            {**PATIENT, "_deceasedBoolean": {"id": "x"}, "_deceasedDateTime": {"id": "x"}},
            "fhir-choice",
            "Patient.deceased",
        ),
        (
            {**PATIENT, "extension": [{"url": "http://x", "valueCode": "a", "valueString": "b"}]},
            "fhir-choice",
            "Patient.extension[0].value",
        ),
        ({**PATIENT, "name": []}, "fhir-empty", "Patient.name"),
        ({**PATIENT, "name": [{}]}, "fhir-empty", "Patient.name[0]"),
        ({**PATIENT, "name": [{"family": ""}]}, "fhir-empty", "Patient.name[0].family"),
        ({**PATIENT, "name": [{"given": ["A", None]}]}, "fhir-empty", "Patient.name[0].given"),
        ({**PATIENT, "name": [{"given": ["A", None], "_given": [None]}]}, "fhir-empty", "Patient.name[0].given"),
        ({**PATIENT, "name": [{"given": [None], "_given": [None]}]}, "fhir-empty", "Patient.name[0].given"),
        ({**PATIENT, "name": [{"_given": [None, None]}]}, "fhir-empty", "Patient.name[0].given"),
        (
            {**PATIENT, "contained": [{"resourceType": "Patients"}]},
            "fhir-unknown-type",
            "Patient.contained[0].resourceType",
        ),
        (
            {**PATIENT, "contained": [{**PATIENT, "contained": [PATIENT]}]},
            "fhir-invariant-dom-2",
            "Patient",
        ),
        (
            {"resourceType": "Bundle", "type": "batch", "entry": [{}, {"resource": {**PATIENT, "gender": "m"}}]},
            "fhir-binding",
            "Bundle.entry[1].resource.gender",
        ),
        (
            {**OBSERVATION, "extension": [{"url": "http://x", "valueQuantity": {"value": "5"}}]},
            "fhir-type",
            "Observation.extension[0].value.ofType(Quantity).value",
        ),
        (
            {**PATIENT, "_birthDate": {"extension": [{"valueCode": "x"}]}},
            "fhir-required",
            "Patient.birthDate.extension[0].url",
        ),
        ({"resourceType": "Patiens"}, "fhir-unknown-type", "resourceType"),
        ({}, "fhir-unknown-type", "resourceType"),
        ([], "fhir-unknown-type", "resourceType"),
        ({"resourceType": ["Patient"]}, "fhir-unknown-type", "resourceType"),
        ({"resourceType": "DomainResource"}, "fhir-unknown-type", "resourceType"),
        ({"resourceType": "HumanName", "family": "x"}, "fhir-unknown-type", "resourceType"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(resource: Any, code: str, location: str) -> None:
    assert (code, location) in found(resource)


@pytest.mark.parametrize("value", [float("nan"), Decimal("NaN"), Decimal("Infinity"), b"x", object()])
def test_a_value_that_json_does_not_have_is_a_finding(value: Any) -> None:
    assert found({**OBSERVATION, "valueQuantity": {"value": value}})


def test_a_mistake_is_found_as_deep_as_json_is_read() -> None:
    extension: dict[str, Any] = {"url": "http://x", "valueCode": ""}
    for _ in range(400):
        extension = {"url": "http://x", "extension": [extension]}
    ((code, location),) = found({**PATIENT, "extension": [extension]})
    assert (code, location.count("extension[0]")) == ("fhir-empty", 401)


def test_a_resource_that_repeats_its_mistake_has_a_bounded_list() -> None:
    assert 1 < len(found({**PATIENT, "name": [{"use": "x"}] * 10_000})) <= 100


def test_the_versions_have_their_own_rules() -> None:
    encounter = {"resourceType": "Encounter", "status": "finished", "class": {"code": "IMP"}}
    assert found(encounter) == []
    assert set(found(encounter, "5.0.0")) == {
        ("fhir-cardinality", "Encounter.class"),
        ("fhir-binding", "Encounter.status"),
    }


def test_checking_does_not_change_the_resource() -> None:
    resource = {**OBSERVATION, "contained": [PATIENT], "valueQuantity": {"value": Decimal("5.10")}}
    before = repr(resource)
    found(resource)
    assert repr(resource) == before
