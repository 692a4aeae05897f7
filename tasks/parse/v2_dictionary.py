"""The dictionary of a version: structures, segments and data types, from hl7apy's tables as `v2_compile` left them."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from mappings.engine import json
from tasks.parse.v2_events import STRUCTURES, WITHOUT_TRIGGER

_DATA = Path(__file__).with_name("data")
VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")
DEFAULT = "2.5.1"


class Dictionary:
    """What one version of the standard says about segments, data types and structures.

    - Fields and components count from 1. What the version does not have is "" (a name, a type, a table) or 0.
    - A data type is the version's own word: `CX`, `CM_PAT_ID` (2.2 to 2.4 have a CM of each shape), `varies` for OBX-5.
    - A table is its four digits: `0203`.
    """

    def __init__(self, version: str, tables: dict[str, dict[str, Any]]) -> None:
        self.version = version
        self.structures: dict[str, Any] = tables["structures"]
        self._segments: dict[str, list[list[Any] | None]] = tables["segments"]
        self._datatypes: dict[str, list[list[Any] | None]] = tables["datatypes"]

    def has(self, segment: str) -> bool:
        """Say whether the version has this segment."""
        return segment in self._segments

    def fields(self, segment: str) -> int:
        """Return how many fields `segment` has."""
        return len(self._segments.get(segment, ()))

    def components(self, datatype: str) -> int:
        """Return how many components `datatype` has: 0 for a primitive one."""
        return len(self._datatypes.get(datatype, ()))

    def datatype(self, segment: str, n: int) -> str:
        """Return the data type of field `n`."""
        return str(_look(self._segments, segment, n, 0))

    def table(self, segment: str, n: int) -> str:
        """Return the table of field `n`."""
        return str(_look(self._segments, segment, n, 1))

    def name(self, segment: str, n: int) -> str:
        """Return the name of field `n`."""
        return str(_look(self._segments, segment, n, 2))

    def repeats(self, segment: str, n: int) -> bool:
        """Say whether field `n` may repeat."""
        return _look(self._segments, segment, n, 3) == -1

    def component(self, datatype: str, n: int) -> str:
        """Return the data type of component `n` (of a component's data type: of its subcomponent `n`)."""
        return str(_look(self._datatypes, datatype, n, 0))

    def component_table(self, datatype: str, n: int) -> str:
        """Return the table of component `n`."""
        return str(_look(self._datatypes, datatype, n, 1))

    def component_name(self, datatype: str, n: int) -> str:
        """Return the name of component `n`."""
        return str(_look(self._datatypes, datatype, n, 2))

    def derive(self, code: str, trigger: str, declared: str = "") -> str:
        """Return the structure of a message: MSH-9.3 `declared` where it is one, else by code and trigger (table 0354).

        A name that is only an event's (`ADT_A04`, `SIU_S15`) counts as that event; of an event that no table knows,
        `code_trigger` is returned.
        """
        for name in (declared, "_".join(filter(None, (code, trigger or WITHOUT_TRIGGER.get(code))))):
            candidates = (*STRUCTURES.get(name, ()), name)
            found = next((one for one in candidates if one in self.structures), None)
            if found:
                return found
        return "ACK" if code == "ACK" else candidates[0]

    def structure(self, name: str) -> Any:
        """Return the items of structure `name` as `v2_compile` describes them.

        Of the nearest later version where this one does not have it, else of an earlier one; None where none has it.
        """
        if name in self.structures:
            return self.structures[name]
        here = VERSIONS.index(self.version)
        for version in (*VERSIONS[here + 1 :], *reversed(VERSIONS[:here])):
            found = dictionary(version).structures.get(name)
            if found:
                return found
        return None


@lru_cache(maxsize=64)
def dictionary(version: str) -> Dictionary:
    """Return the dictionary of `version`, or of the nearest one below that there is; of 2.5.1 where it is none."""
    name = nearest_version(version)
    if name != version:
        return dictionary(name)
    return Dictionary(name, json.loads((_DATA / f"v{name}.json").read_bytes()))


@lru_cache(maxsize=1)
def _shapes() -> dict[str, list[list[Any] | None]]:
    shapes: dict[str, list[list[Any] | None]] = json.loads((_DATA / "shapes.json").read_bytes())
    return shapes


@lru_cache(maxsize=8192)
def shape(segment: str, n: int) -> tuple[bool, tuple[int, ...]] | None:
    """Return whether a field may repeat, and how many subcomponents each of its components has, in any version.

    None where no version knows the field, or where it takes any type.
    """
    fields = _shapes().get(segment, ())
    found = fields[n - 1] if 0 < n <= len(fields) else None
    return (bool(found[0]), tuple(found[1:])) if found else None


def nearest_version(version: str) -> str:
    """Return the version of the standard to read a message of `version` with."""
    if version in VERSIONS:
        return version
    match = re.match(r"\s*(2(?:\.\d{1,3}){1,3})", version, re.ASCII)
    if not match:
        return DEFAULT
    wanted = _numbers(match[1])
    return next((name for name in reversed(VERSIONS) if _numbers(name) <= wanted), VERSIONS[0])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _look(tables: dict[str, list[list[Any] | None]], name: str, n: int, item: int) -> str | int:
    elements = tables.get(name, ())
    element = elements[n - 1] if 0 < n <= len(elements) else None
    value: str | int = element[item] if element else ""
    return value
