"""A CSV mapping file: how the file looks, what its columns are, what its rows become.

file:      {delimiter: ";", quote: '"', encoding: utf-8, header: true, group: [order], trailer: {starts: "#END"}}
columns:   {name: {type: date, format: "%d.%m.%Y", required: true}}
event_time: $resulted_at
resources: {patient: {type: Patient, key: [$id], living: true, elements: {…}}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mappings.engine import csv_types, tables
from mappings.engine.errors import MappingError, Mistake
from mappings.engine.source import ROOT, Files, files
from mappings.engine.tables import Table, Target
from mappings.engine.yamlfile import YamlFile, YamlMistake, nearest

Place = tuple[str | int, ...]
_TOP = ("file", "columns", "event_time", "resources")
_FILE = ("delimiter", "quote", "escape", "encoding", "header", "group", "trailer", "nulls")
_COLUMN = (
    "type",
    "required",
    "format",
    "aliases",
    "table",
    "map",
    "true_words",
    "false_words",
    "point",
    "thousands",
    "pivot",
    "empty",
    "unused",
)
DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
ENCODINGS = (
    "utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "ascii", "iso-8859-2", "iso-8859-15", "cp850",
    "cp1250", "cp1251",
)  # fmt: skip
SAME_ENCODINGS = {
    "utf8": "utf-8", "utf-8-sig": "utf-8", "latin1": "latin-1", "iso-8859-1": "latin-1", "windows-1252": "cp1252",
    "windows-1250": "cp1250", "windows-1251": "cp1251", "utf16": "utf-16", "us-ascii": "ascii",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trailer:
    """The row at the end that counts the others: how its first cell starts, and which cell (from 1) holds the count."""

    starts: str
    count: int | None


@dataclass(frozen=True, slots=True)
class Column:
    """A declared column.

    - `aliases` are other names under which partners send it; `format` are formats of dates, the first that fits counts.
    - `point` is the decimal sign, `thousands` the sign between groups of three digits, if there is one.
    - `pivot` is the last two-digit year that is of this century.
    - `table` maps its codes; `empty` is `clear` where an empty cell takes back what the column said before.
    - `unused` is the reason why no resource takes it.
    """

    name: str
    type: str
    required: bool
    formats: tuple[str, ...]
    aliases: tuple[str, ...]
    table: Table | None
    true: tuple[str, ...]
    false: tuple[str, ...]
    point: str
    thousands: str
    pivot: int | None
    clears: bool
    unused: str | None

    def reader(self, zone: str | None) -> csv_types.Reader | None:
        """Return what reads its cells; None for plain text."""
        if self.type in {"date", "datetime"}:
            return csv_types.moment(self.formats, zone, time=self.type == "datetime", pivot=self.pivot)
        readers: dict[str, csv_types.Reader | None] = {
            "string": None,
            "integer": csv_types.grouped(csv_types.integer, self.thousands),
            "decimal": csv_types.grouped(csv_types.decimal(self.point), self.thousands, self.point),
            "boolean": csv_types.boolean(self.true, self.false),
            "code": csv_types.code(self.table),
        }
        return readers[self.type]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the file looks; `quote` is empty where quotes mean nothing, `escape` where nothing escapes one."""

    delimiter: str
    quote: str
    escape: str
    encoding: str
    header: bool
    group: tuple[str, ...]
    trailer: Trailer | None
    nulls: frozenset[str]
    columns: tuple[Column, ...]

    def index(self, name: str) -> int:
        """Return a column's place."""
        return [column.name for column in self.columns].index(name)


@dataclass(frozen=True, slots=True)
class CsvMapping:
    """A mapping file that was read; `file` knows the lines, `version` is the content hash of all that takes part."""

    layout: Layout
    event_time: str | None
    resources: Mapping[str, Any]
    file: YamlFile
    version: str


@lru_cache(maxsize=64)
def load(name: str, partner: str = "") -> CsvMapping:
    """Read `mappings/csv/<name>.yaml`, the partner's overlay first, or a path to a file.

    Raises `MappingError` with every mistake: file, line, what is wrong, the nearest valid word.
    """
    roots = files(partner)
    path = Path(name) if name.endswith(".yaml") else _find(roots, name)
    try:
        file = YamlFile(path)
    except YamlMistake as error:
        raise MappingError([str(error)]) from None
    except OSError:
        raise MappingError([f"{path.name}: there is no such mapping file"]) from None
    reading = _Reading(file, roots)
    layout = reading.layout()
    if reading.problems:
        raise MappingError(reading.problems)
    return CsvMapping(layout, file.data.get("event_time"), file.data["resources"], file, _digest(path, reading.tables))


def _find(roots: Files, name: str) -> Path:
    known = {path.stem: path for _, path in roots.find("csv", "*.yaml")}
    if name not in known:
        raise MappingError([f"mapping {name}: there is no mappings/csv/{name}.yaml{nearest(name, known)}"])
    return known[name]


def _digest(path: Path, codes: Iterable[Path]) -> str:
    """Hash the mapping, its code tables and the engine's own code."""
    total = hashlib.sha256()
    for part in (path, *sorted(codes), *sorted((ROOT / "engine").glob("*.py"))):
        total.update(part.name.encode() + b"\0" + part.read_bytes())
    return total.hexdigest()[:16]


class _Reading:
    """Reads the parts of a file and gathers mistakes."""

    def __init__(self, file: YamlFile, roots: Files) -> None:
        self.file, self.roots = file, roots
        self.problems: list[str] = []
        self.tables: list[Path] = []

    def wrong(self, place: Place, text: str) -> None:
        self.problems.append(self.file.mistake(place, text))

    def keys(self, place: Place, value: Any, valid: Iterable[str]) -> dict[str, Any]:
        """Return `value` as a mapping of valid keys."""
        if not isinstance(value, dict):
            self.wrong(place, f"`{place[-1] if place else 'file'}` is a mapping of keys to values")
            return {}
        for key in value:
            if key not in valid:
                self.wrong((*place, key), f"`{key}` is not a key here{nearest(str(key), valid)}")
        return value

    def layout(self) -> Layout:
        data = self.keys((), self.file.data, _TOP)
        if not isinstance(data.get("resources"), dict):
            self.wrong(("resources",), "`resources:` is missing: what the rows become, by name")
        look = self.keys(("file",), data.get("file", {}), _FILE)
        columns = tuple(self.columns(data.get("columns")))
        delimiter = DELIMITERS.get(look.get("delimiter", ","), look.get("delimiter", ","))
        if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
            self.wrong(("file", "delimiter"), f"the delimiter is one character, or one of {', '.join(DELIMITERS)}")
        quote = look.get("quote", '"') or ""
        if quote not in {"", '"', "'", "none"}:
            self.wrong(("file", "quote"), "the quote is \", ' or none")
        escape = look.get("escape", "") or ""
        if escape and (len(escape) != 1 or escape in {delimiter, quote} or escape.isalnum()):
            self.wrong(
                ("file", "escape"), "the escape is one character before a quote inside of quotes, as a backslash"
            )
        encoding = str(look.get("encoding", "utf-8")).lower().replace("_", "-")
        encoding = SAME_ENCODINGS.get(encoding, encoding)
        if encoding not in ENCODINGS:
            self.wrong(("file", "encoding"), f"{encoding} is not an encoding{nearest(encoding, ENCODINGS)}")
        group = _texts(look.get("group"))
        for name in group:
            if name not in {column.name for column in columns}:
                self.wrong(("file", "group"), f"{name} is not a column{nearest(name, [c.name for c in columns])}")
        return Layout(
            delimiter=delimiter,
            quote="" if quote == "none" else quote,
            escape=escape,
            encoding=encoding,
            header=bool(look.get("header", True)),
            group=group,
            trailer=self.trailer(look.get("trailer")),
            nulls=frozenset(_words(look.get("nulls"))),
            columns=columns,
        )

    def trailer(self, value: Any) -> Trailer | None:
        if value is None:
            return None
        look = self.keys(("file", "trailer"), value, ("starts", "count"))
        if not isinstance(look.get("starts"), str) or not look["starts"]:
            self.wrong(("file", "trailer"), "`starts:` is missing: how the trailer's first cell begins")
            return None
        return Trailer(look["starts"], look.get("count"))

    def columns(self, value: Any) -> Iterator[Column]:
        if not isinstance(value, dict) or not value:
            self.wrong(("columns",), "`columns:` is missing: every column by name, in the file's order")
            return
        for name, body in value.items():
            place = ("columns", name)
            try:
                yield self.column(str(name), self.keys(place, body or {}, _COLUMN))
            except Mistake as error:
                self.wrong(place, str(error))
            except MappingError as error:
                self.problems.extend(error.problems)

    def column(self, name: str, body: Mapping[str, Any]) -> Column:
        kind = body.get("type", "string")
        if kind not in csv_types.TYPES:
            self.wrong(("columns", name, "type"), f"{kind} is not a type{nearest(str(kind), csv_types.TYPES)}")
            kind = "string"
        if body.get("thousands", "") and body["thousands"] == body.get("point", "."):
            raise Mistake("`thousands:` and `point:` are the same sign")
        if body.get("empty", "absent") not in {"absent", "clear"}:
            raise Mistake("`empty:` is absent or clear")
        made = Column(
            name=name,
            type=kind,
            required=bool(body.get("required", False)),
            formats=_texts(body.get("format")),
            aliases=_texts(body.get("aliases")),
            table=self.table(name, body),
            true=_texts(body.get("true_words", ("true", "t", "yes", "y", "1"))),
            false=_texts(body.get("false_words", ("false", "f", "no", "n", "0"))),
            point=str(body.get("point", ".")),
            thousands=str(body.get("thousands", "")),
            pivot=body.get("pivot"),
            clears=body.get("empty") == "clear",
            unused=body.get("unused"),
        )
        made.reader("UTC")
        return made

    def table(self, name: str, body: Mapping[str, Any]) -> Table | None:
        """Return the table of `mappings/codes` that is named, or the one that is written in the column itself."""
        if "map" in body:
            made = Table(name, iter(()))
            pairs = self.keys(("columns", name, "map"), body["map"], list(body["map"] or ()))
            made.codes = {str(key): Target(str(value), "", "") for key, value in pairs.items()}
            return made
        if "table" not in body:
            return None
        known = {path.stem: path for _, path in self.roots.find("codes", "*.csv")}
        word = str(body["table"])
        if word not in known:
            self.wrong(("columns", name, "table"), f"{word} is not a table of codes{nearest(word, known)}")
            return None
        self.tables.append(known[word])
        return tables.load(f"codes/{word}.csv", known[word])


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(item) for item in value) if isinstance(value, (list, tuple)) else (str(value),)


def _words(value: Any) -> Iterator[str]:
    """Yield words for nothing; YAML takes an unquoted NULL for its own."""
    for word in value if isinstance(value, list) else _texts(value):
        yield from ("NULL", "Null", "null") if word is None else (str(word),)
