"""Amounts with their units: OBX-6, CQ, and the reference ranges in OBX-7 (HL7 v2.9 chapter 7.4.2)."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mappings.engine.helpers import whole
from mappings.engine.keys import text_of
from mappings.engine.primitives import number
from mappings.engine.protocols import CLEAR, Components
from mappings.engine.registry import finish
from mappings.engine.systems import code_system

if TYPE_CHECKING:
    from mappings.engine.run import Run

UCUM = "http://unitsofmeasure.org"
COMPARATORS = {"<": "<", ">": ">", "<=": "<=", ">=": ">=", "=<": "<=", "=>": ">="}


def unit_of(components: Components | None, run: Run, at: str = "6") -> dict[str, Any]:
    """Return the unit, system and code of a Quantity from OBX-6; a unit without a system is text alone."""
    if not components:
        return {}
    found: dict[str, Any] = run.cached("unit", components, at, None, _unit)
    return found


def _unit(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any]:
    unit, said = chosen(components, run)
    if len(components) > 1:
        run.rest(components, said, at)
    return unit


def chosen(components: Components, run: Run) -> tuple[dict[str, Any], frozenset[int]]:
    """Return the unit that a CWE names, and the components that say it.

    Of its codings the one of UCUM, wherever it stands, else the first; a code without its system is said by the text.
    """
    if len(components) == 1:
        code = text_of(components, 1)
        return {"unit": code} if code else {}, FIRST
    found = [at for at in (1, 4, 10) if text_of(components, at) or text_of(components, at + 1)]
    if not found:
        text = text_of(components, 9)
        return {"unit": text} if text else {}, frozenset({9})
    ucum = (at for at in found if text_of(components, at) and code_system(text_of(components, at + 2)) == UCUM)
    at = next(ucum, found[0])
    code, text, system = (text_of(components, at + step) for step in range(3))
    unit: dict[str, Any] = {"unit": text or code}
    if not code or not system:
        return unit, frozenset({at + 1 if text else at})
    unit.update(system=code_system(system) or run.local_system(system), code=code)
    return unit, frozenset({at, at + 1, at + 2})


@finish("unit-of-quantity")
def unit_of_quantity(c: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """CQ.2: unit, system and code."""
    if len(c) > 1 and c[1]:
        value.update(_unit([[sub] for sub in c[1]], run, f"{at}.2"))


FIRST = frozenset({1})


def quantity(value: str, comparator: str, unit: dict[str, Any]) -> dict[str, Any] | None:
    """Return a Quantity, None where `value` is not a number."""
    amount = number(value)
    if amount is None:
        return None
    result: dict[str, Any] = {"value": amount, **unit}
    if comparator in COMPARATORS:
        result["comparator"] = COMPARATORS[comparator]
    return result


_RANGE = re.compile(r"\s*([-+]?\d+(?:\.\d+)?)\s*(?:-|–|to|\.\.)\s*([-+]?\d+(?:\.\d+)?)\s*")
_BOUND = re.compile(r"\s*(<=|>=|<|>|=<|=>)\s*([-+]?\d+(?:\.\d+)?)\s*")


def reference_ranges(field: Any, unit: dict[str, Any]) -> list[dict[str, Any]]:
    """OBX-7: the text as it came, and low and high where it is `low-high`, `<high`, `>low`."""
    texts = [whole(components).strip() for components in field]
    return [{**_ends(text, unit), "text": text} for text in texts if text and text != CLEAR]


@lru_cache(maxsize=65536)
def _parsed(text: str) -> tuple[Decimal | None, Decimal | None]:
    """Return the low and the high end of a reference range."""
    found = _RANGE.fullmatch(text)
    if found:
        return number(found.group(1)), number(found.group(2))
    found = _BOUND.fullmatch(text)
    if found:
        amount = number(found.group(2))
        return (None, amount) if "<" in found.group(1) else (amount, None)
    return None, None


def _ends(text: str, unit: dict[str, Any]) -> dict[str, Any]:
    low, high = _parsed(text)
    ends = {}
    if low is not None:
        ends["low"] = {"value": low, **unit}
    if high is not None:
        ends["high"] = {"value": high, **unit}
    return ends
