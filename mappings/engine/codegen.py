"""From a map's rows to the source of one Python function.

Generated, not interpreted: a row costs a length check where its field is absent, and constants are literals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from mappings.engine.conditions import Reference, compile_condition
from mappings.engine.elements import Step, primitive, r4, resolve
from mappings.engine.errors import Mistake, nearest
from mappings.engine.registry import FUNCTIONS
from mappings.engine.source import Line

KEYS = frozenset(
    {"from", "to", "as", "table", "when", "const", "set", "default", "url", "value", "ref", "slot", "reps", "drop"}
)
_TEXTS = {"string", "markdown", "xhtml"}
_BY_TYPE = {
    "url": "uri",
    "canonical": "uri",
    "oid": "uri",
    "uuid": "uri",
    **{
        name: name
        for name in (
            "decimal", "integer", "positiveInt", "unsignedInt", "boolean", "dateTime", "date", "instant", "time",
            "code", "uri", "id", "base64Binary",
        )
    },
}  # fmt: skip


@dataclass(slots=True)
class Unit:
    """A map on its way to source: its name, the FHIR type it makes, where its rows start."""

    name: str
    root: str
    type: str
    head: Line
    rows: list[Line]
    segment: bool = False
    resource: bool = False
    living: bool = False
    within: str = ""
    """The element of the resource that all rows together make one of (`contact`), empty for the resource itself."""
    covers: set[int] = field(default_factory=set)
    """Numbers of the fields (segment) or components (data type) that some row takes."""


def identifier(name: str) -> str:
    """Return a map's name as a Python name."""
    return "m_" + re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")


class Writer:
    """Collects indented lines and the objects that they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self.depth = 1
        self.counter = 0

    def add(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def fresh(self, stem: str) -> str:
        self.counter += 1
        return f"{stem}{self.counter}"

    def keep(self, stem: str, value: Any) -> str:
        """Return the name under which generated code finds `value`."""
        name = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_")
        self.names[name] = value
        return name


def nested(type_name: str, entries: dict[str, Any]) -> dict[str, Any]:
    """Return `{path: constant}` as a nested value, lists where FHIR has lists."""
    result: dict[str, Any] = {}
    for path, value in entries.items():
        node = result
        steps = resolve(type_name, path)
        for step in steps[:-1]:
            node = node.setdefault(step.name, [{}] if step.many else {})
            node = node[0] if isinstance(node, list) else node
        last = steps[-1]
        node[last.name] = [value] if last.many and not isinstance(value, list) else value
    return result


@dataclass(slots=True)
class Row:
    """A row with its names resolved."""

    line: Line
    source: Reference | None
    said: list[Step]
    """Steps down to the list (or the leaf) that the value is put at."""
    inner: list[Step]
    """Steps from the list's element to the leaf."""
    leaf: str
    """The leaf's FHIR type."""
    extension: tuple[list[str], str] | None = None
    covers: set[int] = field(default_factory=set)

    @property
    def many(self) -> bool:
        return bool(self.said) and self.said[-1].many

    @property
    def path(self) -> str:
        return ".".join(step.name for step in self.said)

    @property
    def indexed(self) -> int | None:
        return self.said[-1].index if self.said else None


def row_of(unit: Unit, line: Line) -> Row:
    """Resolve a row's names; raises `Mistake`."""
    line.check(KEYS)
    values = line.values
    sources = values.get("from")
    texts = sources if isinstance(sources, list) else [sources] if sources else []
    references = [Reference(str(text)) for text in texts]
    for reference in references:
        if reference.root != unit.root and not (unit.segment and reference.number):
            known = f"{unit.root}-n" if unit.segment else f"{unit.root}.n"
            raise Mistake(f"{reference.text} is not of {unit.root}: write {known}")
    covers = {r.number for r in references if r.number and r.root == unit.root}
    first = references[0] if references else None
    if "drop" in values or ("to" not in values and "as" in values):
        return Row(line, first, [], [], "*", covers=covers)
    if "to" not in values:
        raise Mistake("a row needs to, or as with a function for the whole, or drop with the reason")
    steps = resolve(unit.type, str(values["to"])) if values["to"] != "$this" else []
    at = next((i for i, step in enumerate(steps) if step.many), len(steps) - 1)
    row = Row(line, first, steps[: at + 1], steps[at + 1 :], steps[-1].type if steps else unit.type, covers=covers)
    if "url" in values:
        row.extension = _extension(values, row)
        row.leaf = row.extension[1]
    return row


def _extension(values: Any, row: Row) -> tuple[list[str], str]:
    if row.leaf != "Extension":
        raise Mistake("url stands only with an extension as target")
    kind = f"value{values.get('value', '')}"
    if kind not in r4()["Extension"]:
        raise Mistake(f"an extension has no {kind}{nearest(kind, r4()['Extension'])}")
    urls = values["url"] if isinstance(values["url"], list) else [values["url"]]
    return [str(url) for url in urls], r4()["Extension"][kind].rstrip("*")


def wrap_extension(row: Row, expression: str) -> str:
    """Return the literal of an extension around `expression`."""
    assert row.extension is not None  # noqa: S101 - the caller looked
    urls, _ = row.extension
    key = f"value{row.line.values['value']}"
    text = f"{{'url': {urls[-1]!r}, {key!r}: {expression}}}"
    for url in reversed(urls[:-1]):
        text = f"{{'url': {url!r}, 'extension': [{text}]}}"
    return text


def wrap_inner(row: Row, expression: str, constants: dict[str, Any]) -> str:
    """Return the literal of a list's element: constants, and `expression` at the inner path."""
    element: dict[str, Any] = nested(row.said[-1].type, constants) if constants else {}
    if not row.inner:
        return f"with_constants({expression}, {element!r})" if element else expression
    marker = "\0"
    node = element
    for step in row.inner[:-1]:
        node = node.setdefault(step.name, [{}] if step.many else {})
        node = node[0] if isinstance(node, list) else node
    last = row.inner[-1]
    node[last.name] = [marker] if last.many and not isinstance(expression, list) else marker
    return repr(element).replace(repr(marker), expression)


def convert(writer: Writer, units: dict[str, Unit], tables: dict[str, Any], row: Row) -> tuple[str, str]:
    """Return (`text` or `composite`, expression template with `{s}` and `{at}`) for a row's value."""
    name = row.line.values.get("as")
    table = "None" if row.said else "table"
    if "table" in row.line.values:
        word = str(row.line.values["table"])
        if word not in tables:
            raise Mistake(f"no code table {word}{nearest(word, tables)}")
        table = writer.keep(f"t_{word}", tables[word])
    if name is None:
        return _by_type(writer, row, table)
    if name in units:
        unit = units[name]
        _fits(name, unit.type if not unit.resource else "Reference", row.leaf)
        return "composite", f"{identifier(name)}({{s}}, run, {{at}}, {table})"
    if name in FUNCTIONS:
        function = FUNCTIONS[name]
        _fits(name, function.type, row.leaf)
        call = writer.keep(f"f_{name}", function.call)
        return function.kind, f"{call}({{s}}, run, {{at}}, {table})"
    raise Mistake(f"no data type map or function {name}{nearest(str(name), [*units, *FUNCTIONS])}")


_ALIKE = {
    "uri": {"url", "canonical", "oid"}, "dateTime": {"instant"}, "date": {"dateTime"}, "string": {"markdown", "code"},
    "Quantity": {"Duration", "Age", "Count", "Distance", "Money"}, "code": {"string"}, "markdown": {"string"},
}  # fmt: skip


def _fits(name: str, made: str, wanted: str) -> None:
    if "*" in {made, wanted} or made == wanted or wanted in _ALIKE.get(made, ()):
        return
    raise Mistake(f"{name} makes {made}, the target takes {wanted}")


def _by_type(writer: Writer, row: Row, table: str) -> tuple[str, str]:
    if row.leaf == "CodeableConcept":
        return "text", f"{writer.keep('f_concept', FUNCTIONS['concept'].call)}({{s}}, run, {{at}}, {table})"
    if row.leaf == "Coding":
        return "text", f"{writer.keep('f_coded', FUNCTIONS['coded'].call)}({{s}}, run, {{at}}, {table})"
    if "table" in row.line.values:
        return "text", f"{writer.keep('f_mapped', FUNCTIONS['mapped-code'].call)}({{s}}, run, {{at}}, {table})"
    if row.leaf in _TEXTS:
        return "text", "{s}.strip()"
    if row.leaf in _BY_TYPE:
        function = FUNCTIONS[_BY_TYPE[row.leaf]]
        return "text", f"{writer.keep(f'f_{function.name}', function.call)}({{s}}, run, {{at}})"
    raise Mistake(f"the target takes {row.leaf}: say with as which data type map makes it")


def condition(row: Line, terms: Any) -> str:
    """Return the row's `when` as an expression, empty without one."""
    return compile_condition(str(row.values["when"]), terms) if "when" in row.values else ""


def is_primitive(type_name: str) -> bool:
    """Say whether a row's leaf is a primitive."""
    return primitive(type_name)
