"""How the commands print facts: aligned columns for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mappings.engine.json import dumps
from tasks.errors import ConfigError


def as_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.write(dumps(value).decode() + "\n")


def warn(_name: str, error: ConfigError) -> None:
    """Print a feed's mistakes, a line each, where it is only left out."""
    for problem in error.problems:
        print(f"sluice: {problem}: left out", file=sys.stderr)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as aligned columns under their names; yes and no for truth."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[n]) for line in [list(columns), *cells]) for n in range(len(columns))]
    for line in [list(columns), *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return str(value)
