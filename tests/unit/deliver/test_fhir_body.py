"""What is taken off before a server gets it."""

from __future__ import annotations

import pytest

from tasks.deliver.fhir_body import without_lone_alternates

ALTERNATE = {"url": "http://hl7.org/fhir/StructureDefinition/alternate-codes", "valueCodeableConcept": {"text": "x"}}
LONE = {"extension": [ALTERNATE]}
OTHER = {"extension": [{"url": "http://example.org/other", "valueString": "y"}]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"_use": LONE, "value": "a"}, {"value": "a"}),
        ({"use": "home", "_use": LONE}, {"use": "home", "_use": LONE}),
        ({"_use": OTHER}, {"_use": OTHER}),
        (
            {"_use": {"extension": [ALTERNATE, *OTHER["extension"]]}},
            {"_use": {"extension": [ALTERNATE, *OTHER["extension"]]}},
        ),
        ({"_category": [LONE]}, {}),
        ({"category": [None], "_category": [LONE]}, {}),
        ({"category": ["food", None], "_category": [None, LONE]}, {"category": ["food"]}),
        ({"category": ["food", None], "_category": [OTHER, LONE]}, {"category": ["food"], "_category": [OTHER]}),
        ({"url": "urn:x", "_valueCode": LONE}, {"url": "urn:x", "_valueCode": LONE}),
        ({"telecom": [{"system": "email", "_use": LONE}]}, {"telecom": [{"system": "email"}]}),
    ],
)
def test_codes_of_which_only_alternates_are_said_are_left_out(before, after):
    given = {"resourceType": "Patient", **before}
    assert without_lone_alternates(given) == {"resourceType": "Patient", **after}
