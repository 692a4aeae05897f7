"""What a field holds beyond its data type: components, subcomponents and repetitions that no row or function expects.

A data type's map knows its components; what reads single ones (a named function, a constant, a time) does not look
further. So each field is held against its shape, and what is too much and has not been said is noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mappings.engine.nodes import Node
from mappings.engine.recall import LONGEST

if TYPE_CHECKING:
    from mappings.engine.protocols import Components, Repetitions, Segment
    from mappings.engine.run import Run

_NOTHING = frozenset({"", '""'})


def excess(run: Run, seg: Segment, number: int, said: Node | dict[str, Any]) -> bool:
    """Note what field `number` has beyond its data type and `said`, which the field has filled in, does not say.

    Return whether the field is of its type's shape, as nearly all are.
    """
    shape = seg.shape(number)
    if shape is None:
        return True
    many, widths = shape
    field = seg.field(number)
    if (many or len(field) <= 1) and all(_fits(components, widths) for components in field):
        return True
    for components in field if many else field[:1]:
        for place, text in _beyond(components, widths):
            if not _says(said, text):
                run.find("unmapped-field", f"{number}.{place}")
    if not many and any(not _says(said, text) for text in _further(field)):
        run.find("repetition-not-carried", str(number))
    return False


def excess_of(run: Run, seg: Segment, number: int, said: Node | dict[str, Any]) -> bool:
    """Note it of a field that has a slot of its own by what stands in that slot alone, where there is one."""
    own = said.slots.get(f"{seg.name}-{number}") if isinstance(said, Node) and said.slots is not None else None
    return excess(run, seg, number, {"": own} if own else said)


def excess_anew(run: Run, seg: Segment, number: int, said: Node | dict[str, Any], group: int) -> None:
    """Note it of a field that a function takes, and remember the texts that are of their type's shape."""
    if excess(run, seg, number, said) and len(seg.texts[number]) <= LONGEST:
        run.recall.keep(group, seg.texts[number], True)


def _fits(components: Components, widths: Sequence[int]) -> bool:
    if len(components) > len(widths):
        return False
    if len(max(components, key=len)) == 1:
        return True
    for subs, width in zip(components, widths, strict=False):  # noqa: SIM110 - each message comes by here
        if len(subs) > width:
            return False
    return True


def _beyond(components: Components, widths: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield place and text of what is valued beyond the data type's components and their subcomponents."""
    known = len(widths)
    for comp, subs in enumerate(components, 1):
        width = widths[comp - 1] if comp <= known else 0
        for sub, text in enumerate(subs[width:], width + 1):
            if text.strip() not in _NOTHING:
                yield (f"{comp}.{sub}" if sub > 1 else str(comp)), text.strip()


def _further(field: Repetitions) -> Iterator[str]:
    """Yield the texts of all repetitions but the first that the first does not have too."""
    first = field[0]
    for components in field[1:]:
        if components != first:
            yield from (text.strip() for subs in components for text in subs if text.strip() not in _NOTHING)


def _says(said: Any, text: str) -> bool:
    if isinstance(said, Node):
        said = said.resource if said.slots is None else said.slots
    if isinstance(said, dict):
        return any(_says(value, text) for value in said.values())
    if isinstance(said, list | tuple):
        return any(_says(value, text) for value in said)
    return isinstance(said, str) and text in said
