"""Which references an element takes, by what they point at."""

from __future__ import annotations

import pytest

from tasks.validate import validator


def findings(reference: str) -> list[tuple[str, str]]:
    encounter = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"code": "IMP"},
        "subject": {"reference": reference},
    }
    return [(finding.code, finding.location) for finding in validator("4.0.1").check(encounter)]


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/1",
        "Group/a-b.C",
        "Patient/1/_history/2",
        "Patient?identifier=http://example.org|1",
        "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        "urn:oid:1.2.3",
        "http://example.org/fhir/Patient/1",
        "https://example.org/Patient/1/_history/3",
        "http://example.org/patients/list.html",
        "http://example.org/a",
        "http://example.org",
        "http://example.org/Files/some/document",
    ],
)
def test_a_reference_to_a_permitted_type_or_of_unknown_type_passes(reference: str) -> None:
    assert findings(reference) == []


@pytest.mark.parametrize(
    "reference",
    [
        "Practitioner/1",
        "Patients/1",
        "Practitioner?identifier=1",
        "http://example.org/fhir/Practitioner/1",
        "http://example.org/fhir/Practitioner/1/_history/2",
        "https://example.org/Practitioner/1",
        "Patient",
        "Patient/",
        "/Patient/1",
        "Patient/a b",
        "1",
    ],
)
def test_a_reference_to_another_type_or_of_no_form_is_refused(reference: str) -> None:
    assert findings(reference) == [("fhir-reference-target", "Encounter.subject.reference")]


def test_the_type_beside_a_reference_counts_too() -> None:
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "encounter": {"type": "Patient", "display": "x"},
    }
    found = validator("4.0.1").check(observation)
    assert [(f.code, f.location) for f in found] == [("fhir-reference-target", "Observation.encounter.type")]


def test_r4_and_r5_differ_where_the_standard_does() -> None:
    group = {
        "resourceType": "Group",
        "type": "person",
        "actual": True,
        "member": [{"entity": {"reference": "RelatedPerson/1"}}],
    }
    assert [f.code for f in validator("4.0.1").check(group)] == ["fhir-reference-target"]
    group["membership"] = "enumerated"
    del group["actual"]
    assert validator("5.0.0").check(group) == ()


@pytest.mark.parametrize("reference", ["#contained", "#"])
def test_a_reference_to_nothing_contained_is_refused(reference: str) -> None:
    assert findings(reference) == [("fhir-invariant-ref-1", "Encounter.subject")]


@pytest.mark.parametrize(
    ("reference", "kind", "agrees"),
    [
        ("Patient/1", "Patient", True),
        ("Patient/1", "http://hl7.org/fhir/StructureDefinition/Patient", True),
        ("http://x/fhir/Patient/1/_history/2", "Patient", True),
        ("urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "Patient", True),
        ("Patient/1", "Group", False),
        ("http://x/fhir/Patient/1", "Group", False),
        ("Patient?identifier=1", "Group", False),
    ],
)
def test_the_type_that_a_reference_says_is_that_of_what_it_names(reference: str, kind: str, agrees: bool) -> None:
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    said = {**observation, "subject": {"reference": reference, "type": kind}}
    found = [(one.code, one.location) for one in validator("4.0.1").check(said)]
    assert found == ([] if agrees else [("fhir-reference-target", "Observation.subject")])
