"""FHIR to FHIR: whose id a resource gets, what its references become, what is kept."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

import pytest

from mappings.engine.ids import resource_id
from mappings.engine.json import loads
from mappings.engine.model import Conversion, Profile
from tasks.convert.fhir import FhirConverter
from tasks.errors import ConfigError
from tasks.model import BEGIN, Frame, Parsed
from tasks.parse.fhir import BundleFormat
from tasks.validate import validator

NORTH = FhirConverter(Profile("north"))
BASE = {"fullUrl": "http://ehr.example.org/fhir/Observation/o1"}


def convert(resource: dict[str, Any], converter: FhirConverter = NORTH, **context: Any) -> Conversion:
    return converter.convert(Parsed(Frame(1, "line 1", b"", BEGIN, context=context), resource))


def only(conversion: Conversion) -> dict[str, Any]:
    (entry,) = conversion.entries
    assert entry.slots is None
    return entry.resource


def notes(conversion: Conversion) -> list[tuple[str, str, str]]:
    return [(f.code, f.location, f.severity) for f in conversion.findings]


def observation(reference: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": reference},
        **more,
    }


def test_a_resource_keeps_everything_and_gets_the_stores_id() -> None:
    resource = loads(
        '{"resourceType":"Observation","id":"o1","meta":{"versionId":"3","lastUpdated":"2024-01-01T00:00:00+01:00",'
        '"profile":["http://x/p"]},"text":{"status":"generated","div":"<div>a</div>"},"status":"final",'
        '"code":{"text":"x"},"valueQuantity":{"value":5.10},"_status":{"id":"s"}}'
    )
    conversion = convert(resource)
    made = only(conversion)
    source = "urn:sluice:source:north"
    assert made == {
        **resource,
        "id": resource_id("north", "Observation", "o1"),
        "meta": {**resource["meta"], "source": f"{source}#Observation/o1"},
        "identifier": [{"system": source, "value": "o1"}],
    }
    assert str(made["valueQuantity"]["value"]) == "5.10"
    assert conversion.event_time == "2024-01-01T00:00:00+01:00"
    assert (conversion.fhir_version, conversion.mapping_version) == ("4.0.1", NORTH.version)
    assert notes(conversion) == []
    assert validator("4.0.1").check(made) == ()


def test_two_partners_and_two_types_with_one_id_stay_apart() -> None:
    south = FhirConverter(Profile("south"))
    made = [
        only(convert({"resourceType": kind, "id": "1"}, converter))["id"]
        for kind in ("Patient", "Person")
        for converter in (NORTH, south)
    ]
    assert len(set(made)) == 4
    assert only(convert({"resourceType": "Patient", "id": "1"}))["id"] == made[0]


def test_the_sources_identifier_and_meta_source_are_not_overwritten_or_doubled() -> None:
    own = {"system": "urn:sluice:source:north", "value": "1"}
    mrn = {"system": "urn:oid:1.2", "value": "7"}
    patient = {"resourceType": "Patient", "id": "1", "identifier": [mrn, own], "meta": {"source": "urn:theirs"}}
    assert only(convert(patient))["identifier"] == [mrn, own]
    assert only(convert(patient))["meta"] == {"source": "urn:theirs"}


@pytest.mark.parametrize("kind", ["Provenance", "Composition", "Binary"])
def test_a_type_without_a_list_of_identifiers_gets_none(kind: str) -> None:
    made = only(convert({"resourceType": kind, "id": "1"}))
    assert "identifier" not in made
    assert made["meta"]["source"] == f"urn:sluice:source:north#{kind}/1"


@pytest.mark.parametrize(
    "reference",
    ["Patient/p1", "http://ehr.example.org/fhir/Patient/p1", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
)
def test_a_reference_becomes_the_id_that_its_target_gets(reference: str) -> None:
    links = {"urn:uuid:c757873d-ec9a-4326-a141-556f43239520": "Patient/p1"}
    conversion = convert(observation(reference), **BASE, links=links)
    target = only(convert({"resourceType": "Patient", "id": "p1"}))["id"]
    assert only(conversion)["subject"] == {"reference": f"Patient/{target}"}
    assert notes(conversion) == []


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("Patient?identifier=http://x|1", "conditional-reference"),
        ("http://elsewhere.example.org/fhir/Patient/p1", "foreign-reference"),
        ("http://ehr.example.org/other/Patient/p1", "foreign-reference"),
        ("urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "unresolved-reference"),
    ],
)
def test_a_reference_that_cannot_be_told_is_kept_and_noted(reference: str, code: str) -> None:
    conversion = convert(observation(reference), **BASE)
    assert only(conversion)["subject"] == {"reference": reference}
    assert notes(conversion) == [(code, "Observation.subject.reference", "warning")]


def test_a_reference_to_a_version_loses_the_version_and_says_so() -> None:
    conversion = convert(observation("Patient/p1/_history/2"))
    assert only(conversion)["subject"] == {"reference": f"Patient/{resource_id('north', 'Patient', 'p1')}"}
    assert notes(conversion) == [("reference-version-dropped", "Observation.subject.reference", "information")]


def test_references_are_found_wherever_they_stand() -> None:
    nurse = f"Practitioner/{resource_id('north', 'Practitioner', 'n')}"
    resource = observation(
        "#p",
        performer=[{"display": "x"}, {"reference": "Practitioner/n", "type": "Practitioner"}],
        contained=[{"resourceType": "Patient", "id": "p", "generalPractitioner": [{"reference": "Practitioner/n"}]}],
        extension=[{"url": "http://x", "valueReference": {"reference": "Practitioner/n"}}],
    )
    made = only(convert(resource))
    assert made["subject"] == {"reference": "#p"}
    assert made["contained"][0]["id"] == "p"
    assert [
        made["performer"][1]["reference"],
        made["contained"][0]["generalPractitioner"][0]["reference"],
        made["extension"][0]["valueReference"]["reference"],
    ] == [nurse] * 3


def test_an_attachment_in_a_binary_follows_the_binary() -> None:
    content = [{"attachment": {"url": "Binary/b"}}, {"attachment": {"url": "http://x/Binary/b"}}]
    made = only(convert({"resourceType": "DocumentReference", "id": "1", "content": content}))
    assert made["content"][0]["attachment"]["url"] == f"Binary/{resource_id('north', 'Binary', 'b')}"
    assert made["content"][1] == content[1]


def test_a_property_named_reference_that_is_none_is_kept() -> None:
    expression = {"language": "text/cql", "reference": "Library/1"}
    made = only(
        convert({"resourceType": "PlanDefinition", "id": "1", "action": [{"condition": [{"expression": expression}]}]})
    )
    assert made["action"][0]["condition"][0]["expression"] == expression


def test_a_resource_without_an_id_is_named_by_its_entry_else_by_its_content() -> None:
    patient = {"resourceType": "Patient", "active": True}
    by_entry = convert(patient, identity="p1")
    assert only(by_entry)["id"] == resource_id("north", "Patient", "p1")
    assert notes(by_entry) == []
    first, again, other = (convert(p) for p in (patient, dict(reversed(patient.items())), {**patient, "active": False}))
    assert notes(first) == [("id-from-content", "Patient.id", "warning")]
    assert only(first)["id"] != only(other)["id"]
    assert only(again)["id"] == only(first)["id"]
    assert "identifier" not in only(again)


def test_a_deletion_is_an_entry_of_type_and_id() -> None:
    conversion = convert(
        {"resourceType": "Patient", "id": "9"}, deletes="Patient/9", lastModified="2024-01-01T00:00:00Z"
    )
    (entry,) = conversion.entries
    assert (entry.deleted, entry.resource) == (
        True,
        {"resourceType": "Patient", "id": resource_id("north", "Patient", "9")},
    )
    assert conversion.event_time == "2024-01-01T00:00:00Z"


@pytest.mark.parametrize("time", ["2024", "yesterday", "2024-01-01T00:00:00", 5, None])
def test_a_time_that_is_no_instant_is_no_event_time(time: Any) -> None:
    assert convert({"resourceType": "Patient", "id": "1", "meta": {"lastUpdated": time}}).event_time is None


def test_a_line_that_is_a_bundle_of_deletions_deletes_each() -> None:
    entries = [{"request": {"method": "DELETE", "url": f"Patient/{i}"}} for i in range(3)]
    conversion = convert({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert [(e.deleted, e.resource["id"]) for e in conversion.entries] == [
        (True, resource_id("north", "Patient", str(i))) for i in range(3)
    ]


def test_a_document_stays_one_resource() -> None:
    document = {
        "resourceType": "Bundle",
        "id": "d",
        "type": "document",
        "entry": [{"resource": observation("Patient/1")}],
    }
    assert only(convert(document))["entry"] == document["entry"]


def test_a_line_that_is_a_transaction_is_what_its_file_would_be() -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:1",
                "resource": observation("urn:uuid:2"),
                "request": {"method": "POST", "url": "Observation"},
            },
            {
                "fullUrl": "urn:uuid:2",
                "resource": {"resourceType": "Patient"},
                "request": {"method": "POST", "url": "Patient"},
            },
            {"resource": {"resourceType": "Basic"}, "request": {"method": "PUT", "url": "Basic/7"}},
            {"request": {"method": "DELETE", "url": "Basic/8"}},
        ],
    }
    as_line = convert(bundle)
    files = BundleFormat(Profile("north"))
    as_file = [NORTH.convert(files.parse(f)) for f in files.split([json.dumps(bundle).encode()])]
    assert [e for c in as_file for e in c.entries] == as_line.entries
    assert as_line.entries[0].resource["subject"]["reference"] == f"Patient/{as_line.entries[1].resource['id']}"
    assert [f for c in as_file for f in c.findings] == as_line.findings == []


@pytest.mark.parametrize(
    "entry", [{}, {"resource": {"id": "x"}}, {"request": {"method": "DELETE", "url": "Patient?x=y"}}]
)
def test_a_bundle_with_an_entry_that_is_nothing_is_refused_whole(entry: dict[str, Any]) -> None:
    entries = [{"resource": {"resourceType": "Patient", "id": "1"}}, entry]
    conversion = convert({"resourceType": "Bundle", "type": "batch", "entry": entries})
    assert conversion.entries == []
    assert [f.severity for f in conversion.findings] == ["error"]


def test_converting_does_not_change_what_was_parsed_and_says_the_same_again() -> None:
    resource = observation("Patient/1", valueQuantity={"value": Decimal("1.0")}, meta={"tag": [{"code": "x"}]})
    before = copy.deepcopy(resource)
    assert convert(resource) == convert(resource)
    assert resource == before


def test_content_nested_beyond_reason_is_a_finding() -> None:
    extension: dict[str, Any] = {"url": "http://x"}
    for _ in range(3000):
        extension = {"url": "http://x", "extension": [extension]}
    conversion = convert({"resourceType": "Patient", "id": "1", "extension": [extension]})
    assert conversion.entries == []
    assert notes(conversion) == [("too-deep", "Patient", "error")]


def test_the_version_tells_r4_from_r5_and_other_versions_are_refused() -> None:
    r5 = FhirConverter(Profile("north", fhir_version="5.0.0"))
    assert convert({"resourceType": "Patient", "id": "1"}, r5).fhir_version == "5.0.0"
    assert r5.version != NORTH.version == FhirConverter(Profile("south")).version
    assert "identifier" in only(convert({"resourceType": "AdverseEvent", "id": "1"}, r5))
    assert "identifier" not in only(convert({"resourceType": "AdverseEvent", "id": "1"}))
    with pytest.raises(ConfigError, match=r"4\.0\.1 or 5\.0\.0"):
        FhirConverter(Profile("north", fhir_version="3.0.2"))


@pytest.mark.parametrize(
    ("profile", "noted"),
    [
        ("http://hl7.org/fhir/5.0/StructureDefinition/Patient", True),
        ("http://hl7.org/fhir/StructureDefinition/Patient|5.0.0", True),
        ("http://hl7.org/fhir/StructureDefinition/Patient|4.0.1", False),
        ("http://hl7.org/fhir/4.0/StructureDefinition/Patient", False),
        ("http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient|5.0.1", False),
        (5, False),
    ],
)
def test_a_profile_of_another_version_of_fhir_is_noted(profile: Any, noted: bool) -> None:
    conversion = convert({"resourceType": "Patient", "id": "1", "meta": {"profile": [profile]}})
    wanted = [("profile-of-another-version", "Patient.meta.profile", "warning")] if noted else []
    assert notes(conversion) == wanted
