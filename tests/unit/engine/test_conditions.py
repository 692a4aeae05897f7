"""The language of `when`."""

from __future__ import annotations

import pytest

from mappings.engine.conditions import Reference, compile_condition
from mappings.engine.errors import Mistake

VALUES = {"OBX-2": "NM", "PID-5.7": "L", "OBX-5[1].1": "7", "PV1-45": ""}


def terms(reference: Reference, asked: str) -> str:
    value = VALUES.get(reference.text, "")
    return {"valued": repr(bool(value)), "value": repr(value), "count": "2"}[asked]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('OBX-2 EQUALS "NM"', True),
        ('OBX-2 = "SN"', False),
        ('OBX-2 IN ("SN", "NM")', True),
        ('OBX-2 NOT IN ("SN", "NM")', False),
        ("PV1-45 VALUED", False),
        ("PV1-45 NOT VALUED", True),
        ("PV1-45 IS NOT VALUED AND PID-5.7 IS VALUED", True),
        ('NOT (OBX-2 EQUALS "NM" OR PID-5.7 EQUALS "L")', False),
        ('OBX-5[1].1 EQUALS "7"', True),
        ('PV1-45 VALUED OR OBX-2 EQUALS "NM" AND PID-5.7 EQUALS "X"', False),
        ("OBX-5 COUNT > 1", True),
        ("OBX-5 COUNT = 1", False),
    ],
)
def test_a_condition_means_what_it_says(condition: str, expected: bool) -> None:
    assert bool(eval(compile_condition(condition, terms))) is expected


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("OBX-2 VALUD", "VALUED"),
        ("OBX-2 EQUALS NM", 'in "…"'),
        ('(OBX-2 EQUALS "NM"', "bracket"),
        ("OBX-2 VALUED OBX-3 VALUED", "too much"),
        ("VALUED OBX-2", "field was expected"),
        ("PIDDY-2 VALUED", "cannot read"),
    ],
)
def test_a_condition_that_cannot_be_read_says_why(condition: str, said: str) -> None:
    with pytest.raises(Mistake, match=said.replace("(", r"\(")):
        compile_condition(condition, terms)
