"""The page that says for each v2 field where it goes: `python -m mappings.engine.fields > docs/v2-fields.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from mappings.engine.codegen import Unit
from mappings.engine.compiled import Maps, compile_maps
from mappings.engine.conditions import Reference
from mappings.engine.source import Line, files


@dataclass(frozen=True, slots=True)
class Way:
    """One row of a map, seen from the field: where it goes, how, when; or why it is not carried."""

    place: str
    number: int
    target: str
    how: str
    when: str
    dropped: str


def ways(unit: Unit) -> Iterator[Way]:
    """Yield a way for each field (or component) that a row of `unit` names."""
    for line in unit.rows:
        sources = line.values.get("from") or []
        for source in sources if isinstance(sources, list) else [sources]:
            reference = Reference(str(source))
            if reference.root == unit.root and reference.number:
                yield _way(unit, line, reference)


def _way(unit: Unit, line: Line, reference: Reference) -> Way:
    values = line.values
    within = f"{unit.within}." if unit.within else ""
    path = str(values.get("to", "")).replace("$this", "")
    kind = str(unit.head.values.get("to", ""))
    target = ".".join(part for part in (kind, f"{within}{path}".strip(".")) if part)
    if "url" in values:
        urls = values["url"] if isinstance(values["url"], list) else [values["url"]]
        target = f"{target} ({' / '.join(str(url).rsplit('/', 1)[-1] for url in urls)})"
    how = str(values.get("as", values.get("table", "")))
    if "as" in values and "table" in values:
        how = f"{values['as']}, {values['table']}"
    return Way(
        reference.text, reference.number or 0, target, how, str(values.get("when", "")), str(values.get("drop", ""))
    )


def page(maps: Maps) -> str:
    """Return the page in Markdown: a table per segment, a table per data type."""
    lines = [
        "# Where each HL7 v2 field goes",
        "",
        "Generated from the maps by `python -m mappings.engine.fields`; do not edit.",
        "How a map is written: [mapping.md](mapping.md).",
        "A field that is not listed is reported as `unmapped-field` when a message brings it.",
        "",
    ]
    for title, segment in (("Segments", True), ("Data types", False)):
        lines += [f"## {title}", ""]
        roots = sorted({unit.root for unit in maps.units.values() if unit.segment is segment})
        for root in roots:
            lines += _table(
                root, [unit for unit in maps.units.values() if unit.root == root and unit.segment is segment]
            )
    return "\n".join(lines)


def _table(root: str, units: list[Unit]) -> list[str]:
    found = sorted(
        {way for unit in units for way in ways(unit)},
        key=lambda way: (way.number, way.place, way.target, way.how, way.when),
    )
    carried = {way.place for way in found if not way.dropped}
    rows = [_row(way) for way in found if not way.dropped or way.place not in carried]
    if not rows:
        return []
    return [f"### {root}", "", "| from | to | by | when |", "|---|---|---|---|", *dict.fromkeys(rows), ""]


def _row(way: Way) -> str:
    cells = (way.place, f"*not carried: {way.dropped}*" if way.dropped else way.target, way.how, way.when)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(page(compile_maps(files())))
