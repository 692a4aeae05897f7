"""A CSV mapping to one Python function: rows of cells in, entries out.

The function is generated: a column costs its reader and a cache, an element that depends on nothing is a literal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from mappings.engine.conditions import Reference, compile_condition
from mappings.engine.csv_file import Column, CsvMapping, Place
from mappings.engine.csv_resources import CsvResource, ResourceWriter
from mappings.engine.csv_template import Writer
from mappings.engine.csv_types import BAD, NO_ZONE, WRONG, Code
from mappings.engine.elements import r4
from mappings.engine.errors import MappingError, Mistake
from mappings.engine.ids import resource_id
from mappings.engine.model import Entry, Finding, Profile, UnmappedCode
from mappings.engine.slots import assemble
from mappings.engine.systems import universal
from mappings.engine.yamlfile import nearest

CACHED_CELLS = 16_384
LONGEST_CACHED = 64
_RESOURCE = ("type", "key", "authority", "living", "per", "when", "elements")
_COLUMN = re.compile(r"\$(?:\{([^{}]+)\}|([^\W\d][\w -]*?))(?:\.original)?")
_WORDS = {"OR", "AND", "NOT", "IS", "IN", "VALUED", "EQUALS", "COUNT"}
_NAME = re.compile(r'"[^"]*"|[A-Za-z_]\w*')
Rows = Sequence[Sequence[str]]
Convert = Callable[[Rows, list[Finding], list[UnmappedCode]], tuple[list[Entry], str | None]]


def compile_csv(mapping: CsvMapping, profile: Profile) -> Convert:
    """Return the function that converts a record's rows; its cells stand in the order of the declared columns.

    It returns entries and the event time; with an error among the findings the entries are empty.
    Raises `MappingError` with every mistake.
    """
    return _Compiler(mapping, profile).compile()


class Cells(dict[str, Any]):
    """What a column's reader made of each short text; forgets all when it has grown large."""

    def __init__(self, read: Callable[[str], Any]) -> None:
        super().__init__()
        self.read = read

    def __missing__(self, cell: str) -> Any:
        if len(cell) > LONGEST_CACHED:
            return self.read(cell)
        if len(self) >= CACHED_CELLS:
            self.clear()
        value = self[cell] = self.read(cell)
        return value


def concept(value: Code | None) -> dict[str, Any] | None:
    """Return a code as CodeableConcept: what its table says, or the original coding."""
    if value is None:
        return None
    made: dict[str, Any] = {"coding": [value.coding.copy()]}
    if value.target is None:
        made["text"] = value.original
    return made


class _Compiler:
    def __init__(self, mapping: CsvMapping, profile: Profile) -> None:
        self.mapping, self.profile = mapping, profile
        self.columns = {column.name: column for column in mapping.layout.columns}
        self.problems: list[tuple[Place, str]] = []
        self.optional: dict[str, list[str]] = {}
        self.grouped = bool(mapping.layout.group)
        types = {name: str(body.get("type")) for name, body in mapping.resources.items() if isinstance(body, dict)}
        self.writer = Writer(self.columns, types)
        self.resources = ResourceWriter(self.writer, self.problems)
        self.globals: dict[str, Any] = {
            "BAD": BAD,
            "NO_ZONE": NO_ZONE,
            "Entry": Entry,
            "UnmappedCode": UnmappedCode,
            "concept": concept,
            "assemble": assemble,
            "resource_id": resource_id,
            "known": lru_cache(CACHED_CELLS)(resource_id),
            "put": _put,
            "newest": _newest,
            "unique": _unique,
        }

    def compile(self) -> Convert:
        resources = [one for name, body in self.mapping.resources.items() if (one := self.resource(name, body))]
        writer = self.writer
        names = ", ".join(f"v{number}" for number in range(len(self.columns))) + ","
        writer.line("entries = []")
        writer.line("bad = False")
        if self.grouped:
            writer.line("rows = []")
            writer.line("for cells in lines:")
            writer.depth = 2
            self.read()
            writer.line(f"rows.append(({names}))")
            writer.depth = 1
        else:
            writer.line("cells = lines[0]")
            self.read()
        writer.line("if bad: return entries, None")
        identities = self.identities(resources)
        if self.grouped:
            writer.each = (f"({names}) = row", *identities)
            writer.again = ("row = rows[0]", *writer.each)
        for line in writer.again or identities:
            writer.line(line)
        time = self.event_time()
        for one in resources:
            self.emit(one)
        writer.line(f"return {'unique(entries)' if self.grouped else 'entries'}, {time}")
        self.problems += writer.problems
        self.unused()
        if self.problems:
            lines = {self.mapping.file.mistake(place, text): None for place, text in self.problems}
            raise MappingError(sorted(lines, key=lambda line: int(line.split(":")[1])))
        return self.function()

    def function(self) -> Convert:
        source = "\n".join(["def convert(lines, findings, unmapped):", *self.writer.lines])
        space = {**self.globals, **self.writer.globals}
        exec(compile(source, f"<{self.mapping.file.path.name}>", "exec"), space)  # noqa: S102 - own generated source
        made: Convert = space["convert"]
        return made

    def resource(self, name: str, body: Any) -> CsvResource | None:
        """Return a resource of the file, or note what is wrong with it."""
        place: Place = ("resources", name)
        if not isinstance(body, dict) or not isinstance(body.get("elements"), dict):
            self.problems.append((place, f"{name} needs `type:`, `key:` and `elements:`"))
            return None
        for key in body:
            if key not in _RESOURCE:
                self.problems.append(((*place, key), f"`{key}` is not a key here{nearest(str(key), _RESOURCE)}"))
        kind = str(body.get("type"))
        if "id" not in r4().get(kind, {}) or "meta" not in r4()[kind]:
            known = [one for one, elements in r4().items() if "meta" in elements]
            self.problems.append(((*place, "type"), f"{kind} is not a resource type{_near(kind, known)}"))
            return None
        if not body.get("key"):
            self.problems.append((place, f"{name} needs `key:`, the columns that make it what it is"))
        if body.get("per", "row") == "record" and not self.grouped:
            self.problems.append(((*place, "per"), "`per: record` is for records of several rows: see `group:`"))
        key = body.get("key") or []
        authority = str(body.get("authority") or "")
        uri = universal(authority, "")
        shared = uri is not None or authority in self.profile.shared_authorities
        return CsvResource(
            name=name,
            type=kind,
            key=(*_listed(key), uri or authority) if authority else tuple(_listed(key)),
            scope="" if shared else self.profile.partner,
            living=bool(body.get("living")),
            per_row=body.get("per", "row") != "record",
            when=self.condition((*place, "when"), body.get("when")),
            elements=body["elements"],
        )

    def condition(self, place: Place, text: Any) -> str | None:
        """Compile `when:` over columns' names with the language of all mappings."""
        if text is None:
            return None
        columns = list(self.columns)
        try:
            return compile_condition(_NAME.sub(lambda found: self._reference(found[0], columns), str(text)), self._term)
        except Mistake as error:
            self.problems.append((place, str(error)))
            return None

    def _reference(self, word: str, columns: list[str]) -> str:
        if word.startswith('"') or word in _WORDS:
            return word
        if word not in columns:
            raise Mistake(f"{word} is not a column{nearest(word, columns)}")
        self.writer.used.add(word)
        return f"CSV-{columns.index(word) + 1}"

    def _term(self, ref: Reference, asked: str) -> str:
        variable = f"v{(ref.number or 1) - 1}"
        if asked == "valued":
            return f"({variable} is not None)"
        column = list(self.columns.values())[(ref.number or 1) - 1]
        original = f"({variable}.original if {variable} else '')"
        return original if column.type == "code" else f"(str({variable}) if {variable} is not None else '')"

    def read(self) -> None:
        """Write what reads the cells of one row."""
        writer = self.writer
        writer.line("(" + ", ".join(f"c{number}" for number in range(len(self.columns))) + ",) = cells")
        nulls = self.mapping.layout.nulls
        self.globals["nulls"] = nulls
        for number, column in enumerate(self.columns.values()):
            cell, value = f"c{number}", f"v{number}"
            if column.unused and not column.required:
                writer.line(f"{value} = None")
                continue
            reader = column.reader(self.profile.timezone)
            if nulls:
                writer.line(f"if {cell}.strip() in nulls: {cell} = ''")
            if reader is None:
                writer.line(f"{value} = {cell}.strip() or None")
            else:
                self.globals[f"cells{number}"] = Cells(reader)
                writer.line(f"{value} = cells{number}[{cell}]")
            self.check(column, value, number)

    def check(self, column: Column, value: str, number: int) -> None:
        """Write what is found out about one value."""
        writer = self.writer
        if column.type in WRONG:
            self.globals[f"wrong{number}"] = Finding(WRONG[column.type], column.name, "error")
            writer.line(f"if {value} is BAD: findings.append(wrong{number}); bad = True")
            if column.type == "datetime" and self.profile.timezone is None:
                self.globals[f"zoneless{number}"] = Finding("time-without-zone", column.name, "error")
                writer.line(f"elif {value} is NO_ZONE: findings.append(zoneless{number}); bad = True")
        elif column.type == "code" and column.table is not None:
            self.globals[f"foreign{number}"] = Finding("unmapped-code", column.name)
            names = f"{column.table.name!r}, '', {value}.original, {column.name!r}"
            writer.line(f"if {value} is not None and {value}.target is None:")
            writer.line(f"    findings.append(foreign{number}); unmapped.append(UnmappedCode({names}))")
        if column.required:
            self.globals[f"missing{number}"] = Finding("missing-value", column.name, "error")
            writer.line(f"if {value} is None: findings.append(missing{number}); bad = True")

    def identities(self, resources: Sequence[CsvResource]) -> list[str]:
        """Return the lines that compute each resource's id, None where a part of its key says nothing."""
        lines = []
        for one in resources:
            parts, needed, optional = [], [], []
            for part in one.key:
                found = _COLUMN.fullmatch(str(part))
                if found is None:
                    parts.append(repr(str(part)))
                    continue
                name = found[1] or found[2]
                if name not in self.columns:
                    near = nearest(name, self.columns)
                    self.problems.append((("resources", one.name, "key"), f"{name} is not a column{near}"))
                    continue
                column = self.columns[name]
                variable = f"v{list(self.columns).index(name)}"
                self.writer.used.add(name)
                if not column.required:
                    needed.append(f"{variable} is not None")
                    optional.append(column.name)
                text = f"{variable}.original" if column.type == "code" else variable
                parts.append(text if column.type in {"string", "code", "date", "datetime"} else f"str({text})")
            if one.when:
                needed.insert(0, one.when)
            code = f"resource_id({one.scope!r}, {one.type!r}, {', '.join(parts)})"
            if one.living:
                code = f"known({one.scope!r}, {one.type!r}, {', '.join(parts)})"
            lines.append(f"id_{one.name} = {code}" + (f" if {' and '.join(needed)} else None" if needed else ""))
            self.optional[one.name] = optional
        return lines

    def event_time(self) -> str:
        text = self.mapping.event_time
        if text is None:
            return "None"
        found = _COLUMN.fullmatch(str(text))
        column = self.columns.get(found[1] or found[2]) if found else None
        if column is None or column.type != "datetime":
            self.problems.append((("event_time",), "`event_time:` is a column of type datetime: $resulted_at"))
            return "None"
        self.writer.used.add(column.name)
        number = list(self.columns).index(column.name)
        return f"newest([row[{number}] for row in rows])" if self.grouped else f"v{number}"

    def emit(self, one: CsvResource) -> None:
        """Write what makes one resource's entries."""
        writer = self.writer
        loop = self.grouped and one.per_row
        if loop:
            writer.line("for row in rows:")
            writer.depth += 1
            for line in writer.each:
                writer.line(line)
        writer.line(f"if id_{one.name} is not None:")
        writer.depth += 1
        (self.resources.living if one.living else self.resources.fact)(one)
        writer.depth -= 1
        if self.optional[one.name]:
            self.globals[f"nameless_{one.name}"] = Finding("no-natural-key", self.optional[one.name][0], "information")
            writer.line(f"elif {one.when or True}: findings.append(nameless_{one.name})")
        if loop:
            writer.depth -= 1
            for line in writer.again:
                writer.line(line)

    def unused(self) -> None:
        for column in self.columns.values():
            used = column.name in self.writer.used or column.name in self.mapping.layout.group
            if not used and not column.unused:
                place: Place = ("columns", column.name)
                text = f"no resource takes the column {column.name}; say why with `unused: <reason>`"
                self.problems.append((place, text))


def _near(word: str, known: Sequence[str]) -> str:
    text = nearest(word, known)
    return text if text.startswith(" (did") else ""


def _listed(key: Any) -> list[Any]:
    return key if isinstance(key, list) else [key]


def _put(resource: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    for name in way:
        resource = resource.setdefault(name, {})
    resource[last] = value


def _newest(times: list[str | None]) -> str | None:
    return max((time for time in times if time), default=None)


def _unique(entries: list[Entry]) -> list[Entry]:
    """Keep what was said last of each resource."""
    return list({(entry.resource["resourceType"], entry.resource["id"]): entry for entry in entries}.values())
