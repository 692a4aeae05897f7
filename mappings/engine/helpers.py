"""The few names that generated code calls."""

from __future__ import annotations

from typing import Any

from mappings.engine.nodes import put, within
from mappings.engine.protocols import CLEAR, Components, Repetitions, Segment
from mappings.engine.recall import say
from mappings.engine.recall_whole import once

EMPTY = frozenset({"", CLEAR, None})


def joined(subcomponents: Any) -> str:
    """Return a text whose author wrote `&` without escaping it."""
    return "&".join(subcomponents)


def whole(components: Components) -> str:
    """Return a field as text, its separators put back where the author wrote them without escaping; `""` is none."""
    if len(components) == 1 and len(components[0]) == 1:
        text = components[0][0]
        return "" if text == CLEAR else text
    return "^".join("&".join("" if sub == CLEAR else sub for sub in subs) for subs in components).rstrip("^&")


def part(components: Components, comp: int, sub: int = 1) -> str:
    """Return one (sub)component, empty where it is absent or cleared."""
    if len(components) < comp:
        return ""
    subs = components[comp - 1]
    text = subs[sub - 1] if subs and len(subs) >= sub else ""
    return "" if text == CLEAR else text


def cleared(field: Repetitions) -> bool:
    """Say whether a field is `""` alone: the sender deletes it."""
    return len(field) == 1 and nulled(field[0])


def nulled(components: Components) -> bool:
    """Say whether a repetition holds `""` and nothing else, be it once or in each component."""
    texts = [text for subs in components for text in subs]
    return CLEAR in texts and EMPTY.issuperset(texts)


def field_of(segment: Segment | None, number: int) -> Repetitions:
    """Return a field of a segment that may not be there."""
    return segment.field(number) if segment is not None else ()


def value_of(segment: Segment | None, number: int, rep: int, comp: int, sub: int) -> str:
    """Return a value of a segment that may not be there."""
    return segment.value(number, rep, comp, sub) if segment is not None else ""


def valued(segment: Segment | None, number: int) -> bool:
    """Say whether a field holds anything but `""` and blanks."""
    if segment is None or number >= len(segment.texts) or not segment.texts[number]:
        return False
    if segment.texts[number][0].isalnum():
        # No separator is a letter or a digit, and so neither is the first of an escape sequence.
        return True
    repetitions = segment.field(number)
    if repetitions and repetitions[0][0][0].strip() not in EMPTY:
        return True
    return any(text.strip() not in EMPTY for components in repetitions for subs in components for text in subs)


def count_of(segment: Segment | None, number: int) -> int:
    """Return how many repetitions a field has."""
    return len(field_of(segment, number))


def element(target: dict[str, Any], path: str, index: int) -> dict[str, Any]:
    """Return the list element number `index` at `path`, made where it is missing."""
    *parents, last = path.split(".")
    target = within(target, parents)
    elements: list[dict[str, Any]] = [*target.get(last, ())]
    elements.extend({} for _ in range(index - len(elements)))
    elements[index - 1] = made = {**elements[index - 1]}
    target[last] = elements
    return made


def with_constants(value: dict[str, Any], constants: dict[str, Any]) -> dict[str, Any]:
    """Return `value` with a row's constants; what it says itself of the same element (a type in CX.5) stays behind."""
    result = {**value}
    for name, constant in constants.items():
        have = value.get(name)
        if isinstance(constant, dict) and isinstance(have, dict):
            result[name] = with_constants(have, constant)
        elif isinstance(constant, list) and isinstance(have, list):
            result[name] = [*constant, *(one for one in have if one not in constant)]
        else:
            result[name] = constant
    return result


def append(target: dict[str, Any], name: str, value: Any) -> None:
    """Append to a list that other messages may share."""
    target[name] = [*target.get(name, ()), value]


NAMES: dict[str, Any] = {
    "EMPTY": EMPTY,
    "append": append,
    "count_of": count_of,
    "element": element,
    "field_of": field_of,
    "joined": joined,
    "nulled": nulled,
    "once": once,
    "part": part,
    "put": put,
    "say": say,
    "value_of": value_of,
    "valued": valued,
    "whole": whole,
    "with_constants": with_constants,
    "within": within,
}
