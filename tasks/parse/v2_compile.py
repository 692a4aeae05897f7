"""Compile hl7apy's tables to the dictionary's data: `python -m tasks.parse.v2_compile`.

hl7apy (MIT) holds the standard's messages, segments and data types as nested Python tuples that take seconds to
import; what the parser needs of one version is a JSON file of some 200 KB that is read in milliseconds.
"""

from __future__ import annotations

import importlib
import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("data")
VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")


def compile_version(version: str) -> dict[str, dict[str, Any]]:
    """Return the tables of `version`.

    - `structures`: name -> items; an item is `[segment, min, max]` or `[group, min, max, items]`, where max is 1 or
      -1. A choice of segments is one item whose name has all of them: `OBR|RQD|RXO`.
    - `segments` and `datatypes`: name -> `[datatype, table, name, max]` by position, None where there is none.
    """
    module = f"hl7apy.v{version.replace('.', '_')}"
    messages = importlib.import_module(f"{module}.messages").MESSAGES
    segments = importlib.import_module(f"{module}.segments").SEGMENTS
    datatypes = importlib.import_module(f"{module}.datatypes").DATATYPES_STRUCTS
    return {
        "structures": {name: _items(name, node) for name, node in sorted(messages.items())},
        "segments": {name: _elements(node) for name, node in sorted(segments.items()) if len(name) == 3},
        "datatypes": {name: _elements((None, node)) for name, node in sorted(datatypes.items())},
    }


def _items(structure: str, node: Any) -> list[Any]:
    found = []
    for name, child, (least, most), kind in node[1]:
        choice = kind == "GRP" and (child[0] == "choice" or name.endswith("_CHOICE"))
        if choice and all(tuple(one[2:]) == ((1, 1), "SEG") for one in child[1]):
            found.append(["|".join(one[0] for one in child[1] if len(one[0]) == 3), least, most])
        elif kind == "GRP":
            found.append([name.removeprefix(f"{structure}_"), least, most, _items(structure, child)])
        elif not name.startswith(("ANY", "Hxx")):
            found.append([name, least, most])
    return found


def _elements(owner: Any) -> list[Any]:
    children = owner[1] if len(owner) > 1 and isinstance(owner[1], tuple) else ()
    # Two slips in hl7apy's 2.1: ORO's only child is not in a tuple, and RX1-30 has a stray item before its name.
    if children and isinstance(children[0], str):
        children = (children,)
    found: list[Any] = []
    for name, node, (_, most), _kind in children:
        position = int(name.rpartition("_")[2])
        found.extend([None] * (position - len(found)))
        datatype, long_name, table = node[2], node[-3], node[-2]
        number = str(table or "").removeprefix("HL7")
        found[position - 1] = [datatype or "", number, (long_name or "").replace("_", " "), most]
    return found


def write(version: str) -> str:
    """Return the data file of `version`: JSON with one entry a line, so that a difference can be read."""
    tables = compile_version(version)
    parts = []
    for table, entries in tables.items():
        lines = ",\n".join(
            f"{json.dumps(name)}:{json.dumps(entry, separators=(',', ':'))}" for name, entry in entries.items()
        )
        parts.append(f"{json.dumps(table)}:{{\n{lines}\n}}")
    return "{" + ",\n".join(parts) + "}\n"


_TIMES = {"TS", "DTM"}
"""A time is one text: its degree of precision, which versions before 2.6 have beside it, is in its digits."""


def shapes() -> dict[str, list[list[int] | None]]:
    """Return the widest shape that any version gives each field.

    By segment and position `[repeats, subcomponents of component 1, of 2, …]`, None for a field of any type.
    """
    found: dict[str, list[list[int] | None]] = {}
    for version in VERSIONS:
        tables = json.loads((DATA / f"v{version}.json").read_bytes())
        for name, fields in tables["segments"].items():
            have = found.setdefault(name, [])
            have.extend([0] for _ in range(len(fields) - len(have)))
            for at, field in enumerate(fields):
                have[at] = _wider(have[at], field, tables["datatypes"])
    return found


def _wider(have: list[int] | None, field: list[Any] | None, datatypes: dict[str, Any]) -> list[int] | None:
    if have is None or field is None:
        return have
    if field[0] in ("varies", ""):
        return None
    parts = [] if field[0] in _TIMES else datatypes.get(field[0], ())
    inner = [_width(part, datatypes) for part in parts] or [1]
    both = zip_longest(have[1:], inner, fillvalue=0)
    return [int(bool(have[0]) or field[3] == -1), *(max(pair) for pair in both)]


def _width(part: list[Any] | None, datatypes: dict[str, Any]) -> int:
    return 1 if part is None or part[0] in _TIMES else len(datatypes.get(part[0], ())) or 1


def write_shapes() -> str:
    """Return the data file of the shapes, one segment a line."""
    parts = [f"{json.dumps(name)}:{json.dumps(one, separators=(',', ':'))}" for name, one in sorted(shapes().items())]
    return "{" + ",\n".join(parts) + "}\n"


def main() -> None:
    """Write the data files of all versions, and the shapes of their fields."""
    (DATA / "shapes.json").write_text(write_shapes(), encoding="utf-8")
    for version in VERSIONS:
        (DATA / f"v{version}.json").write_text(write(version), encoding="utf-8")


if __name__ == "__main__":
    main()
