"""A resource with the names of a valid one is looked at by its values alone, and judged alike."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.validate.check import Validator
from tasks.validate.names import values_alone
from tasks.validate.structure import structure

OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "a",
    "status": "final",
    "code": {"text": "a"},
    "valueQuantity": {"value": 1},
}


@pytest.fixture
def checker() -> Validator:
    return Validator(structure("4.0.1"))


@pytest.mark.parametrize(
    "change",
    [
        {"status": "done"},
        {"code": {}},
        {"valueQuantity": {"value": "1"}},
        {"valueQuantity": {"code": "mg"}},
        {"id": "ä"},
        {"valueString": "x"},
        {"dataAbsentReason": {"text": "why"}},
        {"unheard": 1},
        {"contained": [{"resourceType": "Patient", "gender": "?"}]},
        {"note": [{}]},
    ],
)
def test_a_broken_one_is_found_after_a_valid_one_with_its_names(checker: Validator, change: dict[str, Any]) -> None:
    assert checker.check(OBSERVATION) == ()
    assert checker.check({**OBSERVATION, "status": "amended"}) == ()
    broken = OBSERVATION | change
    assert checker.check(broken)
    assert checker.check(broken) == Validator(structure("4.0.1")).check(broken)


def test_what_is_inside_is_looked_at_every_time(checker: Validator) -> None:
    holder = {**OBSERVATION, "contained": [{"resourceType": "Patient", "id": "p", "gender": "male"}]}
    holder["subject"] = {"reference": "#p"}
    assert checker.check(holder) == ()
    holder["contained"] = [{"resourceType": "Patient", "id": "p", "gender": "?"}]
    assert checker.check(holder)


def test_a_missing_element_is_found_whatever_came_before(checker: Validator) -> None:
    assert checker.check(OBSERVATION) == ()
    assert checker.check({name: value for name, value in OBSERVATION.items() if name != "code"})


def test_values_alone_leaves_what_looks_at_values() -> None:
    looks = {"properties": {"a": {"type": "string"}}}
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": False},
        "additionalProperties": False,
        "required": ["a"],
        "dependentSchemas": {"a": {"properties": {"b": False}}},
        "allOf": [
            {"anyOf": [{"required": ["a"]}, {"properties": {"b": False}}]},
            {"allOf": [looks, {"required": ["a"]}]},
        ],
    }
    assert values_alone(schema) == {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "allOf": [{"allOf": [looks]}],
    }
