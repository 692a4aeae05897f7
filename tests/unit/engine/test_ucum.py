"""UCUM units, brought to one a kind of quantity."""

from __future__ import annotations

from decimal import Decimal

import pytest

from mappings.engine.ucum import normal


@pytest.mark.parametrize(
    ("unit", "number", "wanted", "same"),
    [
        ("g/L", "120", "mg/dL", "12000"),
        ("ug/dL", "80", "mg/dL", "0.08"),
        ("umol/L", "88", "mmol/L", "0.088"),
        ("10*3/uL", "6.1", "10*9/L", "6.1"),
        ("10*12/L", "4.5", "10*9/L", "4500"),
        ("[lb_av]", "150", "kg", "68.0388555"),
        ("[in_i]", "70", "cm", "177.80"),
        ("Cel", "37.2", "Cel", "37.2"),
        ("K", "310.15", "Cel", "37.00"),
        ("mL/min/{1.73_m2}", "90", "mL/min", "90"),
        ("ukat/L", "1", "U/L", "60"),
        ("fL", "90", "fL", "90"),
        ("{INR}", "1.1", "{INR}", "1.1"),
        ("L/L", "0.45", "%", "45.00"),
    ],
)
def test_a_number_is_brought_to_the_unit_of_its_kind_exactly(unit: str, number: str, wanted: str, same: str) -> None:
    found = normal(unit)
    assert found is not None
    assert found.unit == wanted
    assert Decimal(number) * found.factor + found.addend == Decimal(same)


def test_degrees_fahrenheit_have_another_zero() -> None:
    found = normal("[degF]")
    assert found is not None
    assert abs(Decimal("98.6") * found.factor + found.addend - 37) < Decimal("1e-20")


@pytest.mark.parametrize("unit", ["", "bananas", "mg/", "((", "mg//dL", "m g", "10*99999", "x" * 200])
def test_what_is_not_a_unit_is_none(unit: str) -> None:
    assert normal(unit) is None


def test_a_unit_of_a_kind_without_a_chosen_one_keeps_its_own() -> None:
    found = normal("K/uL")
    assert found is not None
    assert (found.unit, found.factor) == ("K/uL", 1)
