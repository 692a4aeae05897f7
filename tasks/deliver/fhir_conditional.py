"""References by search (`Patient?identifier=system|value`), turned into references to what they find.

A transaction's server does that itself, a batch's or a PUT's does not, and neither could the order of what is sent
follow them. Source: FHIR R4, http.html, "Conditional References".
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from tasks.deliver.port import Item
from tasks.model import Resource

_CONDITION = re.compile(r"[A-Z][A-Za-z]{1,63}\?\S+")
_IN_JSON = re.compile(rb'"reference"\s*:\s*"([A-Z][A-Za-z]{1,63})\?')
_REMEMBERED = 100_000


class Conditional:
    """Resolves such references: among what is sent together by identifier, else by asking the server, once each.

    What finds nothing, or cannot be asked for, stays as it is: a server that takes it takes it, another one refuses it.
    """

    def __init__(self, search: Callable[[str], str | None]) -> None:
        self._search = search
        self._found: OrderedDict[str, str] = OrderedDict()

    def resolved(self, items: Sequence[Item], together: Iterable[Item]) -> dict[str, Item]:
        """Return the items by key with references to `Type/id` in the place of those by search.

        `together` is all that is sent together.
        """
        asked = {condition for item in items for condition in _conditions(item.resource)}
        here = _identified(together)
        places = {condition: place for condition in asked if (place := self._place(condition, here))}
        return {item.key: replace(item, resource=_rewritten(item.resource, places)) for item in items}

    def _place(self, condition: str, here: dict[tuple[str, str, str], str]) -> str | None:
        kind, _, query = condition.partition("?")
        pairs = parse_qsl(query)
        if len(pairs) == 1 and pairs[0][0] == "identifier":
            system, _, value = pairs[0][1].rpartition("|")
            if ours := here.get((kind, system, value)):
                return f"{kind}/{ours}"
        if condition not in self._found:
            theirs = self._search(condition)
            if theirs is None:
                return None
            self._found[condition] = f"{kind}/{theirs}"
            if len(self._found) > _REMEMBERED:
                self._found.popitem(last=False)
        return self._found[condition]


def conditional_types(body: bytes) -> set[str]:
    """Return the types that a resource's JSON refers to by search."""
    return {name.decode() for name in _IN_JSON.findall(body)} if b"?" in body else set()


def _conditions(value: Any) -> Iterator[str]:
    """Yield the references by search in a resource."""
    if isinstance(value, list):
        for one in value:
            yield from _conditions(one)
    elif isinstance(value, dict):
        reference = value.get("reference")
        if isinstance(reference, str) and "?" in reference and _CONDITION.fullmatch(reference):
            yield reference
        for one in value.values():
            if isinstance(one, (dict, list)):
                yield from _conditions(one)


def _identified(items: Iterable[Item]) -> dict[tuple[str, str, str], str]:
    found: dict[tuple[str, str, str], str] = {}
    for item in items:
        listed = item.resource.get("identifier") if item.resource else None
        for one in listed if isinstance(listed, list) else [listed]:
            if isinstance(one, dict):
                found[item.resource_type, str(one.get("system", "")), str(one.get("value", ""))] = item.id
    return found


def _rewritten(value: Any, places: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_rewritten(one, places) for one in value]
    if not isinstance(value, dict):
        return value
    out: Resource = {name: _rewritten(one, places) for name, one in value.items()}
    if value.get("reference") in places:
        out["reference"] = places[value["reference"]]
    return out
