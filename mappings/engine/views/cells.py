"""What a value becomes in a column of its type, in process; the SQL of `postgres.py` does the same."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from mappings.engine.views.elements import NUMERIC, TEMPORAL, TEXTUAL
from mappings.engine.views.functions import is_number, render, text


def whole_class(type_name: str | None) -> type | None:
    """Return the class whose values `fit` leaves as they are; None where it looks at each."""
    if type_name in TEXTUAL | TEMPORAL | {"xhtml"}:
        return str
    return {"boolean": bool, "decimal": Decimal}.get(type_name or "")


def fit(type_name: str | None) -> Callable[[Any], Any]:
    """Return the function that puts a value into a column of a FHIR type; None is for a value that is not of it."""
    if type_name == "boolean":
        return lambda value: value if isinstance(value, bool) else None
    if type_name == "decimal":
        return lambda value: value if is_number(value) else None
    if type_name in NUMERIC:
        return _whole
    if type_name in TEXTUAL | TEMPORAL | {"xhtml"}:
        return lambda value: value if type(value) is str else _text(value)
    return lambda value: value


def _whole(value: Any) -> int | None:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else None
    return value if is_number(value) else None


def _text(value: Any) -> str:
    found = text(value)
    return render(value) if found is None else found
