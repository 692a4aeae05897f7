"""How much of HL7's v2-to-FHIR guide the maps implement: `sluice convert --coverage`.

The guide's rows are read from the folder that `SLUICE_REFERENCE` names (its maps as CSV: messages, segments,
datatypes, codesystems). A row counts as implemented where a map takes its field (or component, or segment, or code).
What is resolved otherwise has its reason: in the map itself (`drop`), or in `mappings/v2/otherwise.csv`.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mappings.engine.compiled import Maps, compile_maps
from mappings.engine.fields import ways
from mappings.engine.source import ROOT, files
from mappings.engine.tables import Table
from tasks.errors import ConfigError

_FOLDERS = ("messages", "segments", "datatypes", "codesystems")
_NAME = re.compile(r"(?:R4|Map)_ (.*?) - ")
_ALIKE = {"CE": "CWE", "CNE": "CWE", "CF": "CWE", "FC": "CWE", "IS": "CWE", "ID": "CWE", "ST": "CWE"}


@dataclass(slots=True)
class Count:
    """The rows of one kind: how many there are, how many are implemented, what was resolved otherwise, what is open."""

    rows: int = 0
    implemented: int = 0
    otherwise: dict[str, str] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)


def report() -> str:
    """Return the coverage, a line per kind, then what is resolved otherwise and what is open.

    Raises `ConfigError` where `SLUICE_REFERENCE` is not set or names no such folder.
    """
    counts = measure(_reference(), compile_maps(files()))
    lines = []
    for kind, count in counts.items():
        share = 100 * count.implemented / count.rows if count.rows else 100.0
        rest = f"{len(count.otherwise)} resolved otherwise, {len(count.open)} open"
        lines.append(f"{kind}: {count.implemented} of {count.rows} rows implemented ({share:.1f} %), {rest}")
    total, done = sum(c.rows for c in counts.values()), sum(c.implemented for c in counts.values())
    lines.append(f"all: {done} of {total} ({100 * done / total:.1f} %)")
    lines += [f"otherwise: {row}: {why}" for count in counts.values() for row, why in count.otherwise.items()]
    lines += [f"open: {row}" for count in counts.values() for row in count.open]
    return "\n".join(lines)


def _reference() -> Path:
    named = os.environ.get("SLUICE_REFERENCE", "")
    for folder in (Path(named), Path(named) / "v2-to-fhir"):
        if named and (folder / "segments").is_dir():
            return folder
    raise ConfigError(
        "SLUICE_REFERENCE: name the folder of the v2-to-FHIR guide's maps (messages, segments, datatypes)"
    )


def measure(reference: Path, maps: Maps, implemented: list[str] | None = None) -> dict[str, Count]:
    """Return the counts by kind of map; `implemented` is filled with the rows of segments that count as such."""
    reasons = _reasons()
    known = _Known(maps)
    counts: dict[str, Count] = {kind: Count() for kind in _FOLDERS}
    for kind, count in counts.items():
        for path in sorted((reference / kind).glob("*.csv")):
            found = _NAME.search(path.name)
            name = found.group(1) if found else path.stem
            for row, done, why in _rows(kind, name, path, known):
                count.rows += 1
                reason = why or next((text for pattern, text in reasons if re.search(pattern, row)), "")
                if done:
                    count.implemented += 1
                    if implemented is not None and kind == "segments":
                        implemented.append(row)
                elif reason:
                    count.otherwise[row] = reason
                else:
                    count.open.append(row)
    return counts


def _reasons() -> list[tuple[str, str]]:
    with (ROOT / "v2" / "otherwise.csv").open(encoding="utf-8", newline="") as rows:
        return [(row["row"], row["reason"]) for row in csv.DictReader(rows)]


class _Known:
    """What the maps take, looked up by the guide's names."""

    def __init__(self, maps: Maps) -> None:
        self.taken: set[str] = set()
        self.dropped: dict[str, str] = {}
        self.tables = {re.sub(r"[^a-z]", "", name.lower()): table for name, table in maps.tables.items()}
        self.plans = {name: set(plan.steps) for name, plan in maps.plans.items()}
        self.roots = {unit.root for unit in maps.units.values()}
        for unit in maps.units.values():
            for way in ways(unit):
                place = f"{unit.root}.{way.number}"
                if way.dropped:
                    self.dropped.setdefault(place, way.dropped)
                else:
                    self.taken.add(place)
        with (ROOT / "v2" / "composites.csv").open(encoding="utf-8", newline="") as rows:
            for row in csv.DictReader(rows):
                self.roots.add(row["datatype"])
                self.taken |= {f"{row['datatype']}.{number}" for number in row["components"].split()}
        for plan in maps.plans.values():
            for name, numbers in plan.covers.items():
                self.taken |= {f"{name}.{number}" for number in numbers} - set(self.dropped)

    def place(self, text: str) -> str:
        """Return `PID.5` for `PID-5.1`, with the data types that are read by another's maps under its name."""
        found = re.match(r"([A-Z][A-Z0-9]{1,2})[.-]?(\d+)?", text)
        if found is None:
            return text
        root = _ALIKE.get(found.group(1), found.group(1)) if found.group(1) not in self.roots else found.group(1)
        return f"{root}.{found.group(2)}" if found.group(2) else root


def _rows(kind: str, name: str, path: Path, known: _Known) -> Iterator[tuple[str, bool, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        body = list(csv.reader(file))[2:]
    for line in body:
        cells = [cell.strip() for cell in line] + [""] * 20
        if kind == "messages" and cells[9]:
            yield _message(name, cells, known)
        elif kind == "codesystems" and cells[0] and cells[6]:
            yield _code(name, cells, known)
        elif kind in {"segments", "datatypes"} and (cells[9] or cells[10] or cells[16]):
            yield _field(name, cells, known)


def _message(name: str, cells: list[str], known: _Known) -> tuple[str, bool, str]:
    segment = cells[1].split(".")[-1]
    row = f"{name} {segment} -> {cells[10] or cells[9]}"
    return row, segment in known.plans.get(name, set()), ""


def _field(name: str, cells: list[str], known: _Known) -> tuple[str, bool, str]:
    source = cells[1] or name.split("[", maxsplit=1)[0]
    place = known.place(source)
    target = cells[9] or cells[10] or cells[16]
    row = f"{name} {source} -> {target}"
    done = place in known.taken or ("." not in place and place in known.roots)
    return row, done, "" if done else known.dropped.get(place, "")


_RENAMED = {
    "observationresultstatuscodesinterpretation": "observationstatus", "resultstatusnonqueries": "resultstatus",
    "eventencounterstatus": "encounterstatusbyevent", "fillerstatuscodesappointment": "appointmentstatus",
    "ordercontrolcodeservicerequeststatus": "ordercontrol",
}  # fmt: skip


def _code(name: str, cells: list[str], known: _Known) -> tuple[str, bool, str]:
    word = re.sub(r"[^a-z]", "", name.lower())
    table: Table | None = known.tables.get(_RENAMED.get(word, word))
    return f"{name} {cells[0]}", table is not None and cells[0] in table.codes, ""
