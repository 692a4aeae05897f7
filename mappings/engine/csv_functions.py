"""Named functions that a CSV mapping calls: `{call: lab-value, with: [$value, $unit]}`.

Each takes the values of its columns (None where a cell says nothing) and returns the element's content, or None.
A function of a choice (`value[x]`) returns the element's whole name with its content.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any

LONGEST_NUMBER = 40
UCUM = "http://unitsofmeasure.org"
_RESULT = re.compile(r"(<=|>=|<|>)?\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)")


@lru_cache(maxsize=16_384)
def result(value: str) -> tuple[str | None, Decimal] | None:
    """Return a result's comparator and number; None where it is not a number."""
    found = _RESULT.fullmatch(value)
    return (found[1], Decimal(found[2])) if found else None


def quantity(value: str | Decimal | None, unit: str | None) -> dict[str, Any] | None:
    """Return a Quantity with a UCUM unit; a text may have `<`, `<=`, `>=` or `>` before the number."""
    # A long text is no number, and must not stay in the cache.
    found = result(text) if value is not None and len(text := str(value)) <= LONGEST_NUMBER else None
    if found is None:
        return None
    made: dict[str, Any] = {"value": found[1]}
    if found[0]:
        made["comparator"] = found[0]
    if unit:
        made["unit"], made["system"], made["code"] = unit, UCUM, unit
    return made


def lab_value(value: str | None, unit: str | None) -> dict[str, Any] | None:
    """Return a laboratory's result: `valueQuantity` where it is a number, else `valueString`."""
    if value is None:
        return None
    made = quantity(value, unit)
    return {"valueQuantity": made} if made else {"valueString": value if not unit else f"{value} {unit}"}


def lab_value_comma(value: str | None, unit: str | None) -> dict[str, Any] | None:
    """Return a laboratory's result whose numbers have a decimal comma: `5,40` is 5.40, `1.234` is a text."""
    if value is None or "." in value or value.count(",") != 1:
        known = value is None or "." not in value
        return lab_value(value, unit) if known else {"valueString": value if not unit else f"{value} {unit}"}
    made = quantity(value.replace(",", "."), unit)
    return {"valueQuantity": made} if made else lab_value(value, unit)


FUNCTIONS: dict[str, tuple[Callable[..., Any], int, str]] = {
    "lab-value": (lab_value, 2, "[x]"),
    "lab-value-comma": (lab_value_comma, 2, "[x]"),
    "quantity": (quantity, 2, "Quantity"),
}
"""Name → function, how many values it takes, what it returns (`[x]`: a choice's name with its content)."""


def csv_function(name: str, takes: int, makes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function that takes so many columns' values and makes such a FHIR type."""

    def keep(call: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS[name] = (call, takes, makes)
        return call

    return keep
