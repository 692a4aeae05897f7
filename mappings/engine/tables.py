"""Code tables: one CSV per table, `code,display,system,to_code,to_display,to_system,note`.

`system` is the source's (`HL70001`). A code without `to_code` is known and has no counterpart. A row with the code
`*` says what stands for every other code.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mappings.engine.errors import MappingError
from mappings.engine.systems import code_system

COLUMNS = ("code", "display", "system", "to_code", "to_display", "to_system", "note")


class Target(NamedTuple):
    """What a code becomes; `system` is a URI or empty where the element's own code list is meant."""

    code: str
    display: str
    system: str


class Table:
    """A table by code, with the source system's URI."""

    __slots__ = ("codes", "name", "source", "wild")

    def __init__(self, name: str, rows: Iterator[dict[str, str]]) -> None:
        self.name = name
        self.codes: dict[str, Target | None] = {}
        self.source = ""
        self.wild: Target | None = None
        for row in rows:
            target = Target(row["to_code"], row["to_display"], row["to_system"]) if row["to_code"] else None
            self.source = self.source or (code_system(row["system"]) or "" if row["system"] else "")
            if row["code"] == "*":
                self.wild = target
            else:
                self.codes.setdefault(row["code"], target)

    def get(self, code: str) -> Target | None:
        """Return what `code` becomes: as it stands, in upper case, or what stands for every other."""
        found = self.codes.get(code)
        if found is None:
            found = self.codes.get(code.upper()) or self.wild
        return found

    def __contains__(self, code: str) -> bool:
        return self.codes.get(code) is not None


def load(name: str, path: Path) -> Table:
    """Read a table; raises `MappingError` where its columns are others."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise MappingError([f"{name}:1: a code table has the columns {','.join(COLUMNS)}"])
        return Table(Path(name).stem, rows)
