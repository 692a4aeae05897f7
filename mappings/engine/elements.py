"""FHIR R4's elements: which there are, of which type, and which repeat.

`r4.json` holds type → element → type, with `*` for a list; choice elements stand under each of their names.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mappings.engine.errors import Mistake, nearest

_STEP = re.compile(r"(_?[A-Za-z0-9]+)(?:\[(\d+)\])?")


@dataclass(frozen=True, slots=True)
class Step:
    """One name of a path: the element's type, whether it is a list, and which of its elements is meant."""

    name: str
    type: str
    many: bool
    index: int | None = None


@cache
def r4() -> dict[str, dict[str, str]]:
    """Return the table of elements."""
    loaded: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "r4.json").read_text("utf-8"))
    loaded["Element"] = {"id": "string", "extension": "Extension*"}
    return loaded


def primitive(type_name: str) -> bool:
    """Say whether `type_name` is a primitive; FHIR writes those in lower case."""
    return type_name[:1].islower()


def resolve(type_name: str, path: str) -> list[Step]:
    """Return the steps of `path` from `type_name`; raises `Mistake` with the nearest valid name."""
    steps: list[Step] = []
    here = type_name
    for part in path.split("."):
        found = _STEP.fullmatch(part)
        if found is None:
            raise Mistake(f"{part!r} is not an element's name")
        name, index = found.group(1), found.group(2)
        kind = "Element" if name.startswith("_") and name[1:] in r4().get(here, {}) else r4().get(here, {}).get(name)
        if kind is None:
            raise Mistake(f"{here} has no element {name}{nearest(name, r4().get(here, {}))}")
        here = kind.rstrip("*")
        steps.append(Step(name, here, kind.endswith("*"), int(index) if index else None))
    return steps
