"""Reads a resource's JSON and refuses what JSON lets pass and FHIR cannot mean: a name twice, a boundless number."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from mappings.engine.json import dumps, loads

LEAST_EXPONENT = -1000
"""A number with more decimals than this is not kept by every store (Postgres: 16,383)."""
GREATEST = 10**300
"""A number beyond it is none for who reads JSON's numbers as IEEE 754 has them, as most do."""

_NAME = b'":'
_UNUSUAL = re.compile(rb'"\s+:|\\u0022')
_ODD = re.compile(rb"[0-9][eE](?:-[0-9]{4}|\+?[0-9]{3})|[0-9]{300}")
_ELEMENT = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")


class Unreadable(ValueError):
    """Text that is no JSON, or says what FHIR cannot mean; `code` is the finding's, `path` where, if it is known."""

    def __init__(self, code: str, path: str = "") -> None:
        super().__init__(code)
        self.code, self.path = code, path


def read(data: bytes) -> Any:
    """Return the value of a JSON text; raises `Unreadable` (`not-json`, `duplicate-key`, `number-out-of-range`)."""
    try:
        value = loads(data)
    except ValueError:
        raise Unreadable("not-json") from None
    if _repeats(data, value):
        raise Unreadable("duplicate-key", _twice(data))
    if _ODD.search(data) and _out_of_range(value):
        raise Unreadable("number-out-of-range")
    return value


def _repeats(data: bytes, value: Any) -> bool:
    """Say whether the text has more names than its value: the last of several wins, and the others would be gone."""
    if _UNUSUAL.search(data):
        return bool(_twice(data))
    return data.count(_NAME) != dumps(value).count(_NAME)


class _Repeated(dict[str, Any]):
    """An object that had a name twice."""

    name = ""


def _twice(data: bytes) -> str:
    """Return the path of the first name that stands twice in its object; "" where none does."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        repeated = _Repeated(pairs)
        names = [name for name, _ in pairs]
        repeated.name = next(name for name in names if names.count(name) > 1)
        return repeated

    try:
        value = json.loads(data, object_pairs_hook=build, parse_float=str, parse_int=str)
    except RecursionError:
        return "resource"
    kind = value.get("resourceType") if isinstance(value, dict) else None
    return _find(value, kind if isinstance(kind, str) and _ELEMENT.fullmatch(kind) else "resource")


def _find(value: Any, at: str) -> str:
    if isinstance(value, _Repeated):
        return f"{at}.{value.name}" if _ELEMENT.fullmatch(value.name) else at
    if isinstance(value, dict):
        inner = [(f"{at}.{name}" if _ELEMENT.fullmatch(name) else at, one) for name, one in value.items()]
    else:
        inner = [(f"{at}[{i}]", one) for i, one in enumerate(value)] if isinstance(value, list) else []
    return next((found for place, one in inner if (found := _find(one, place))), "")


def _out_of_range(value: Any) -> bool:
    if isinstance(value, Decimal):
        return int(value.as_tuple().exponent) < LEAST_EXPONENT or not -GREATEST <= value <= GREATEST
    if isinstance(value, int):
        return not -GREATEST <= value <= GREATEST
    if isinstance(value, dict):
        return any(map(_out_of_range, value.values()))
    return isinstance(value, list) and any(map(_out_of_range, value))
