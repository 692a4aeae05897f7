"""FHIR's own invariants: which one is broken, and where; and that what is right breaks none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tasks.validate import validator
from tasks.validate.fhirpath import Compiler
from tasks.validate.invariants import WRITTEN
from tasks.validate.narrative import has_text, is_safe
from tasks.validate.structure import structure
from tasks.validate.surely import surely

PATIENT: dict[str, Any] = {"resourceType": "Patient", "id": "a"}
OBSERVATION: dict[str, Any] = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
ALLERGY: dict[str, Any] = {"resourceType": "AllergyIntolerance", "patient": {"reference": "Patient/1"}}
CONDITION: dict[str, Any] = {"resourceType": "Condition", "subject": {"reference": "Patient/1"}}
COMPOSITION: dict[str, Any] = {
    "resourceType": "Composition",
    "status": "final",
    "type": {"text": "x"},
    "date": "2024",
    "author": [{"display": "x"}],
    "title": "x",
}
QUESTIONNAIRE: dict[str, Any] = {"resourceType": "Questionnaire", "status": "active"}
TERMS = "http://terminology.hl7.org/CodeSystem"
LOINC = {"system": "http://loinc.org", "code": "8480-6"}
UCUM = "http://unitsofmeasure.org"
EXTENSION = {"url": "y", "valueCode": "z"}
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'


def found(resource: Any, version: Any = "4.0.1") -> list[tuple[str, str]]:
    return [(finding.code, finding.location) for finding in validator(version).check(resource)]


def bundle(kind: str, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries), **more}


def concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": f"{TERMS}/{system}", "code": code}]}


BROKEN: list[tuple[dict[str, Any], str, str]] = [
    ({**PATIENT, "extension": [{"url": "http://x"}]}, "ext-1", "Patient.extension[0]"),
    (
        {
            **PATIENT,
            "extension": [{"url": "http://x", "valueCode": "a", "extension": [{"url": "y", "valueCode": "z"}]}],
        },
        "ext-1",
        "Patient.extension[0]",
    ),
    ({**PATIENT, "_birthDate": {"extension": [{"url": "http://x"}]}}, "ext-1", "Patient.birthDate.extension[0]"),
    ({**PATIENT, "contact": [{"gender": "male"}]}, "pat-1", "Patient.contact[0]"),
    ({**PATIENT, "telecom": [{"value": "5550100"}]}, "cpt-2", "Patient.telecom[0]"),
    ({**PATIENT, "photo": [{"data": "YQ=="}]}, "att-1", "Patient.photo[0]"),
    (
        {**PATIENT, "name": [{"family": "x", "period": {"start": "2024-03", "end": "2024-02-28"}}]},
        "per-1",
        "Patient.name[0].period",
    ),
    (
        {**PATIENT, "extension": [{"url": "http://x", "valuePeriod": {"start": "2024", "end": "2023"}}]},
        "per-1",
        "Patient.extension[0].value.ofType(Period)",
    ),
    ({**PATIENT, "generalPractitioner": [{"reference": "#gp"}]}, "ref-1", "Patient.generalPractitioner[0]"),
    (
        {**PATIENT, "contained": [{"resourceType": "Practitioner", "id": "gp"}]},
        "dom-3",
        "Patient",
    ),
    (
        {**PATIENT, "contained": [{**PATIENT, "contained": [{**PATIENT, "id": "b"}]}], "link": []},
        "dom-2",
        "Patient",
    ),
    (
        {
            **PATIENT,
            "contained": [{"resourceType": "Practitioner", "id": "gp", "meta": {"versionId": "1"}}],
            "generalPractitioner": [{"reference": "#gp"}],
        },
        "dom-4",
        "Patient",
    ),
    (
        {
            **PATIENT,
            "contained": [{"resourceType": "Practitioner", "id": "gp", "meta": {"security": [{"code": "R"}]}}],
            "generalPractitioner": [{"reference": "#gp"}],
        },
        "dom-5",
        "Patient",
    ),
    (
        {**PATIENT, "text": {"status": "generated", "div": DIV.format("<script>x</script>")}},
        "txt-1",
        "Patient.text.div",
    ),
    ({**PATIENT, "text": {"status": "generated", "div": DIV.format(" ")}}, "txt-2", "Patient.text.div"),
    ({**OBSERVATION, "referenceRange": [{"appliesTo": [{"text": "x"}]}]}, "obs-3", "Observation.referenceRange[0]"),
    ({**OBSERVATION, "valueString": "x", "dataAbsentReason": {"text": "y"}}, "obs-6", "Observation"),
    (
        {
            **OBSERVATION,
            "code": {"coding": [LOINC]},
            "valueInteger": 1,
            "component": [{"code": {"coding": [LOINC]}, "valueInteger": 2}],
        },
        "obs-7",
        "Observation",
    ),
    ({**OBSERVATION, "valueQuantity": {"value": 1, "code": "mg"}}, "qty-3", "Observation.value.ofType(Quantity)"),
    (
        {**OBSERVATION, "valueRange": {"low": {"value": Decimal("2.0")}, "high": {"value": 1}}},
        "rng-2",
        "Observation.value.ofType(Range)",
    ),
    ({**OBSERVATION, "valueRatio": {"numerator": {"value": 1}}}, "rat-1", "Observation.value.ofType(Ratio)"),
    (ALLERGY, "ait-1", "AllergyIntolerance"),
    (
        {
            **ALLERGY,
            "clinicalStatus": concept("allergyintolerance-clinical", "active"),
            "verificationStatus": concept("allergyintolerance-verification", "entered-in-error"),
        },
        "ait-2",
        "AllergyIntolerance",
    ),
    (
        {**CONDITION, "clinicalStatus": concept("condition-clinical", "active"), "abatementDateTime": "2024"},
        "con-4",
        "Condition",
    ),
    (
        {
            **CONDITION,
            "clinicalStatus": concept("condition-clinical", "active"),
            "verificationStatus": concept("condition-ver-status", "entered-in-error"),
        },
        "con-5",
        "Condition",
    ),
    ({"resourceType": "Organization", "active": True}, "org-1", "Organization"),
    (
        {"resourceType": "Organization", "name": "x", "telecom": [{"system": "phone", "use": "home"}]},
        "org-3",
        "Organization.telecom[0]",
    ),
    (
        {
            "resourceType": "Appointment",
            "status": "booked",
            "start": "2024-01-01T10:00:00Z",
            "participant": [{"actor": {"reference": "Patient/1"}, "status": "accepted"}],
        },
        "app-2",
        "Appointment",
    ),
    (
        {**QUESTIONNAIRE, "item": [{"linkId": "1", "type": "group", "item": [{"linkId": "1", "type": "string"}]}]},
        "que-2",
        "Questionnaire",
    ),
    ({**QUESTIONNAIRE, "item": [{"linkId": "1", "type": "group"}]}, "que-1", "Questionnaire.item[0]"),
    (
        {
            **QUESTIONNAIRE,
            "item": [
                {"linkId": "1", "type": "boolean"},
                {
                    "linkId": "2",
                    "type": "string",
                    "enableWhen": [{"question": "1", "operator": "exists", "answerInteger": 1}],
                },
            ],
        },
        "que-7",
        "Questionnaire.item[1].enableWhen[0]",
    ),
    (bundle("collection", {"fullUrl": "urn:x:1"}), "bdl-5", "Bundle.entry[0]"),
    (bundle("collection", {"resource": PATIENT}, total=1), "bdl-1", "Bundle"),
    (bundle("transaction", {"resource": PATIENT}), "bdl-3", "Bundle"),
    (bundle("message", {"resource": PATIENT}), "bdl-12", "Bundle"),
    (
        bundle(
            "document",
            {"resource": COMPOSITION, "fullUrl": "urn:x:1"},
            identifier={"value": "x"},
            timestamp="2024-01-01T00:00:00Z",
        ),
        "bdl-9",
        "Bundle",
    ),
    (
        bundle("collection", {"resource": PATIENT, "fullUrl": "http://x/Patient/a/_history/1"}),
        "bdl-8",
        "Bundle.entry[0]",
    ),
    (
        bundle("collection", {"resource": PATIENT, "fullUrl": "urn:x:1"}, {"resource": PATIENT, "fullUrl": "urn:x:1"}),
        "bdl-7",
        "Bundle",
    ),
    ({"resourceType": "Parameters", "parameter": [{"name": "x"}]}, "inv-1", "Parameters.parameter[0]"),
    (
        bundle("collection", {"resource": {**OBSERVATION, "valueString": "x", "dataAbsentReason": {"text": "y"}}}),
        "obs-6",
        "Bundle.entry[0].resource",
    ),
    (
        {
            "resourceType": "Task",
            "status": "draft",
            "intent": "order",
            "authoredOn": "2024-02-02",
            "lastModified": "2024-02-01",
        },
        "inv-1",
        "Task",
    ),
]


@pytest.mark.parametrize(("resource", "key", "location"), BROKEN, ids=[key for _, key, _ in BROKEN])
def test_a_broken_invariant_is_told_by_its_key_and_place(resource: Any, key: str, location: str) -> None:
    resource = {name: value for name, value in resource.items() if value != []}
    assert (f"fhir-invariant-{key}", location) in found(resource)


R5_BROKEN: list[tuple[dict[str, Any], str, str]] = [
    (
        {**OBSERVATION, "bodySite": {"text": "x"}, "bodyStructure": {"reference": "BodyStructure/1"}},
        "obs-8",
        "Observation",
    ),
    ({**PATIENT, "generalPractitioner": [{"type": "Practitioner"}]}, "ref-2", "Patient.generalPractitioner[0]"),
    (
        {**CONDITION, "clinicalStatus": concept("condition-clinical", "active"), "abatementDateTime": "2024"},
        "con-3",
        "Condition",
    ),
    (
        {**PATIENT, "name": [{"period": {"start": "2024-02-02", "end": "2024-02-01"}}]},
        "per-1",
        "Patient.name[0].period",
    ),
    (
        {"resourceType": "Device", "name": [{"value": "a", "type": "user-friendly-name", "display": True}] * 2},
        "dev-1",
        "Device",
    ),
    (bundle("searchset", {"resource": PATIENT, "fullUrl": "urn:x:1"}), "bdl-18", "Bundle"),
    (
        {
            "resourceType": "Encounter",
            "status": "planned",
            "contained": [{**PATIENT, "id": "p"}],
            "participant": [{"type": [{"text": "x"}], "actor": {"reference": "#p"}}],
        },
        "enc-2",
        "Encounter.participant[0]",
    ),
]


@pytest.mark.parametrize(("resource", "key", "location"), R5_BROKEN, ids=[key for _, key, _ in R5_BROKEN])
def test_r5_has_invariants_of_its_own(resource: Any, key: str, location: str) -> None:
    assert (f"fhir-invariant-{key}", location) in found(resource, "5.0.0")


@pytest.mark.parametrize(
    "resource",
    [
        {**PATIENT, "extension": [{"url": "http://x", "extension": [EXTENSION]}]},
        {**PATIENT, "extension": [{"id": "e", "url": "http://x", "_valueCode": {"extension": [EXTENSION]}}]},
        {**PATIENT, "name": [{"period": {"start": "2024-02", "end": "2024-02-01"}}]},
        {**PATIENT, "name": [{"period": {"start": "2024-02-01T23:00:00-05:00", "end": "2024-02-02T04:00:00Z"}}]},
        {**PATIENT, "name": [{"period": {"start": "2024-02-02", "end": "2024-02-01T22:30:00Z"}}]},
        {**PATIENT, "name": [{"period": {"end": "2024-02-01"}}]},
        {**PATIENT, "telecom": [{"_value": {"extension": [EXTENSION]}, "system": "phone"}]},
        {
            **PATIENT,
            "contained": [{"resourceType": "Organization", "id": "o", "name": "x"}],
            "managingOrganization": {"reference": "#o"},
        },
        {
            **PATIENT,
            "contained": [
                {"resourceType": "RelatedPerson", "id": "r", "patient": {"reference": "#"}}
            ],
        },
        {
            **PATIENT,
            "contained": [
                {"resourceType": "PractitionerRole", "id": "r", "organization": {"reference": "#o"}},
                {"resourceType": "Organization", "id": "o", "name": "x"},
            ],
            "generalPractitioner": [{"reference": "#r"}],
        },
        {**OBSERVATION, "valueRange": {"low": {"value": 2, "unit": "g"}, "high": {"value": 1, "unit": "kg"}}},
        {**OBSERVATION, "valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 2}}},
        {**OBSERVATION, "dataAbsentReason": {"text": "y"}, "component": [{"code": {"text": "x"}, "valueInteger": 2}]},
        {**OBSERVATION, "valueInteger": 1, "component": [{"code": {"coding": [LOINC]}, "valueInteger": 2}]},
        {**ALLERGY, "verificationStatus": concept("allergyintolerance-verification", "entered-in-error")},
        {**CONDITION, "clinicalStatus": concept("condition-clinical", "resolved"), "abatementDateTime": "2024"},
        {**PATIENT, "text": {"status": "generated", "div": DIV.format("<p>a&nbsp;b <br/><b>c</b></p>")}},
        bundle("transaction", {"resource": PATIENT, "request": {"method": "PUT", "url": "Patient/a"}}),
        bundle("message", {"resource": {
            "resourceType": "MessageHeader",
            "eventUri": "http://x",
            "source": {"endpoint": "http://x"},
        }}),
    ],
)  # fmt: skip
def test_what_is_right_breaks_no_invariant(resource: dict[str, Any]) -> None:
    assert found(resource) == []


@pytest.mark.parametrize("node", [{"name": [{"id": "x"}]}, {"contact": [{"id": "x"}]}, {"maritalStatus": {"id": "x"}}])
def test_an_element_with_nothing_but_an_id_says_nothing(node: dict[str, Any]) -> None:
    assert [code for code, _ in found({**PATIENT, **node})] == ["fhir-empty"]


def test_an_element_with_an_id_beside_a_value_is_right() -> None:
    assert found({**PATIENT, "name": [{"id": "n", "family": "x"}]}) == []


@pytest.mark.parametrize("version", ["4.0.1", "5.0.0"])
def test_every_expression_of_the_specification_is_understood(version: str) -> None:
    types = structure(version)
    compiler = Compiler(types.choices())
    stated = [one for place in types.stated() for one in types.stated()[place].items()]
    assert len(stated) > 200
    for key, expression in stated:
        if key not in WRITTEN:
            assert compiler.compile(expression)({}, {}, {}) in {True, False, None}


@pytest.mark.parametrize(
    "inner",
    [
        "<p onclick='x()'>a</p>",
        "<a href='javascript:x()'>a</a>",
        "<a href=' java\tscript:x()'>a</a>",
        "<img src='data:text/html;base64,YQ=='/>",
        "<iframe src='http://x'/>",
        "<form><input/></form>",
        "<object data='x'/>",
        "<link rel='stylesheet' href='http://x'/>",
        "<style>p {}</style>",
        "<svg><script>x</script></svg>",
        "<p style='width: expression(alert(1))'>a</p>",
        "<p>a",
        "a</div><div>b",
        "<?php x ?>a",
        "<SCRIPT>x</SCRIPT>",
    ],
)
def test_a_narrative_that_acts_or_is_no_xhtml_is_not_safe(inner: str) -> None:
    assert not is_safe(DIV.format(inner))


@pytest.mark.parametrize(
    "div",
    [
        "<p>a</p>",
        "text",
        '<!DOCTYPE div [<!ENTITY a "b">]><div>&a;</div>',
        '<div xmlns="http://www.w3.org/2000/svg">a</div>',
        "",
        "<div>\ud800</div>",
        5,
    ],
)
def test_a_narrative_is_one_div_of_xhtml(div: Any) -> None:
    assert not is_safe(div)


@pytest.mark.parametrize(
    "inner",
    [
        "a &nbsp; &eacute; &#233; &lt;script&gt;",
        "<table class='grid'><tr><td colspan='2' style='color: red'>a</td></tr></table>",
        "<a href='http://x'>a</a><a href='#b'>b</a><a href='Patient/1'>c</a><a name='d'/>",
        "<img src='data:image/png;base64,YQ==' alt='a'/>",
        "<!-- a comment --><p>a</p>",
    ],
)
def test_basic_formatting_is_safe(inner: str) -> None:
    assert is_safe(DIV.format(inner))
    assert has_text(DIV.format(inner))


@pytest.mark.parametrize("expression", ["identifier.system.exists()", "identifier.system.empty().not()"])
def test_an_element_says_nothing_of_what_is_further_in_it(expression: str) -> None:
    assert surely(expression, "Bundle", structure("4.0.1").shape("Bundle")) is False
    assert surely("identifier.exists()", "Bundle", structure("4.0.1").shape("Bundle")) is not False
