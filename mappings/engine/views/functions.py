"""What FHIRPath's functions and operators do to collections, which are lists here.

Source: FHIRPath N1, chapters 5 and 6; SQL on FHIR v2 for getResourceKey() and getReferenceKey().
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from typing import Any

from mappings.engine.json import dumps
from mappings.engine.views import temporal

Items = list[Any]
NOTHING: Items = []
TRUE: Items = [True]
FALSE: Items = [False]
DIGITS = 100
PLACES = Decimal("0.00000001")
KEY_LENGTH = 64
_PLAIN_KEY = re.compile(r"/[A-Za-z0-9.-]{1,64}", re.ASCII)
_KEY = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/([A-Za-z0-9.-]+)(?:/_history/[A-Za-z0-9.-]+)?\Z", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,9}", re.ASCII)


class ManyItems(ValueError):
    """A single item is wanted and there are more."""

    def __init__(self) -> None:
        super().__init__("gives more than one item where one is wanted")


def single(items: Items) -> Any:
    """Return the only item, None where there is none; raises `ManyItems`."""
    if len(items) > 1:
        raise ManyItems
    return items[0] if items else None


def truth(items: Items) -> bool | None:
    """Return a collection as a condition: one item that is no boolean is true, none is neither."""
    value = single(items)
    return value if value is None or isinstance(value, bool) else True


def boolean(value: bool | None) -> Items:
    """Return a truth as a collection."""
    return NOTHING if value is None else TRUE if value else FALSE


def is_number(value: object) -> bool:
    """Say whether a value is a JSON number."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def same(left: Any, right: Any) -> bool:
    """Say whether two items are equal as JSON: true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return (
            isinstance(right, dict) and left.keys() == right.keys() and all(same(v, right[k]) for k, v in left.items())
        )
    return bool(left == right)


def equal(left: Items, right: Items, temporally: bool) -> bool | None:
    """Return whether two collections are equal; None where one is empty or a date's precision does not tell."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    if not temporally:
        return all(map(same, left, right))
    orders = [0 if a == b else temporal.compare(a, b) for a, b in zip(left, right, strict=True)]
    if any(order not in {0, None} for order in orders):
        return False
    return None if None in orders else True


def order(left: Any, right: Any, temporally: bool) -> int | None:
    """Return -1, 0 or 1 for two items that can be ordered, else None."""
    if temporally:
        return temporal.compare(left, right)
    if (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str)):
        return int(left > right) - int(left < right)
    return None


def arithmetic(operator: str, left: Any, right: Any) -> Any:
    """Return what `operator` makes of two numbers; None where they are none, or the divisor is 0."""
    if not is_number(left) or not is_number(right) or (operator in {"/", "div", "mod"} and not right):
        return None
    one, other = Decimal(left), Decimal(right)
    try:
        with localcontext(prec=DIGITS, rounding=ROUND_HALF_UP):
            value = _ARITHMETIC[operator](one, other)
            value = _trimmed(value) if operator == "/" else value
    except InvalidOperation:
        return None
    whole = operator == "div" or (operator != "/" and isinstance(left, int) and isinstance(right, int))
    return int(value) if whole else value


def _trimmed(value: Decimal) -> Decimal:
    """Return a quotient with FHIRPath's eight places and no zeros at the end."""
    rounded = value.quantize(PLACES)
    return rounded.quantize(Decimal(1)) if rounded == rounded.to_integral_value() else rounded.normalize()


_ARITHMETIC: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "div": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
}


def distinct(items: Items) -> Items:
    """Return the items without those that are equal to an earlier one."""
    found: Items = []
    for item in items:
        if not any(same(item, other) for other in found):
            found.append(item)
    return found


def text(value: Any) -> str | None:
    """Return a primitive as text; None for what has no text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    return format(value, "f") if isinstance(value, Decimal) else None


def reference_key(reference: Any, wanted: str | None) -> str | None:
    """Return the key of the resource that a Reference names, if it is of the type `wanted`.

    A logical reference, a contained one (`#…`) and a search have no key; `urn:uuid:` has one and no type of its own.
    """
    if not isinstance(reference, dict) or not isinstance(target := reference.get("reference"), str):
        return None
    if target.startswith("urn:uuid:"):
        return target[9:] if wanted in {None, reference.get("type")} else None
    if wanted is not None and target.startswith(wanted) and _PLAIN_KEY.fullmatch(target, len(wanted)):
        return target[len(wanted) + 1 :]
    match = _KEY.search(target)
    return match[2] if match and wanted in {None, match[1]} and len(match[2]) <= KEY_LENGTH else None


def decimal_boundary(value: int | Decimal, sign: int) -> Decimal:
    """Return a number's lowest (`sign` -1) or highest (1) value before rounding to its digits."""
    number = Decimal(value)
    places = max(0, -int(number.as_tuple().exponent))
    return number + sign * Decimal(5).scaleb(-places - 1)


def boundary(value: Any, type_name: str | None, sign: int) -> Any:
    """Return the boundary of a number, date or time; None for anything else."""
    if is_number(value):
        return decimal_boundary(value, sign)
    if not isinstance(value, str):
        return None
    return temporal.low_boundary(value, type_name) if sign < 0 else temporal.high_boundary(value, type_name)


def to_integer(value: Any) -> int | None:
    """Return a value as a whole number; None where it is none."""
    if isinstance(value, bool | int):
        return int(value)
    return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else None


def to_decimal(value: Any) -> Decimal | None:
    """Return a value as a number; None where it is none."""
    if isinstance(value, bool | int | Decimal):
        return Decimal(value)
    try:
        return Decimal(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None
    except InvalidOperation:
        return None


def _of_text(work: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda value: work(value) if isinstance(value, str) else None


UNARY: dict[str, Callable[[Any], Any]] = {
    "lower": _of_text(str.lower),
    "upper": _of_text(str.upper),
    "trim": _of_text(lambda value: value.strip(" \t\n\r\f")),
    "length": _of_text(len),
    "toString": text,
    "toInteger": to_integer,
    "toDecimal": to_decimal,
}
BINARY: dict[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}


def render(value: Any) -> str:
    """Return a complex value as JSON text."""
    return dumps(value).decode()
