"""Templates of resources to Python source.

A template is a resource as it should look:

- A text that begins with `$` is a column's value: `$unit`, `${Pat. No.}`. `$sex.display`, `$sex.system`,
  `$sex.original` and `$sex.concept` are a code's other sides. `"{accession}-{loinc}"` joins several.
- What depends on columns that say nothing is left out, and so is an object of which only constants would be left.
  `$low!` lets the object it stands in fall away where this cell is empty, whatever the others say.
- `{ref: patient}` refers to another resource of the mapping; `{call: lab-value, with: [$a, $b]}` calls a function.
- `each: row` beside other keys makes one element for every row of a record.
- `slot: …` names the slot of a living thing's element where it is not that of its columns; `~…` holds only as long
  as nobody else says anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mappings.engine.csv_file import Place
from mappings.engine.csv_functions import FUNCTIONS
from mappings.engine.elements import Step, primitive, r4, resolve
from mappings.engine.errors import Mistake
from mappings.engine.site import load_functions
from mappings.engine.yamlfile import nearest

_LEAF = re.compile(r"\$([^\W\d][\w -]*?|\{[^{}]+\})(?:\.(display|system|original|concept))?(!)?")
_PART = re.compile(r"\{([^\W\d][\w ./()%#-]*)\}")
_TEXT_TYPES = {"string", "markdown", "code", "uri", "url", "canonical", "id", "oid", "uuid"}
_FITS = {
    "integer": {"integer", "positiveInt", "unsignedInt", "decimal"},
    "decimal": {"decimal"},
    "boolean": {"boolean"},
    "date": {"date", "dateTime"},
    "datetime": {"dateTime", "instant"},
}


@dataclass(slots=True)
class Made:
    """A piece of source: an expression.

    - `maybe`: it may be None; `must`: then the object around it falls away.
    - `columns` are those it hangs on; `static` says that it hangs on none.
    """

    code: str
    maybe: bool = False
    columns: tuple[str, ...] = ()
    must: bool = False
    static: bool = True
    slot: str = ""


@dataclass
class Writer:
    """Gathers lines of source and hands out names."""

    columns: Mapping[str, Any]
    resources: Mapping[str, str]
    """Resource's name in the mapping → its type."""
    lines: list[str] = field(default_factory=list)
    globals: dict[str, Any] = field(default_factory=dict)
    problems: list[tuple[Place, str]] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    depth: int = 1
    each: tuple[str, ...] = ()
    """Lines that unpack a row inside of a loop over a record's rows; empty where a record is one row."""
    again: tuple[str, ...] = ()
    """Lines that unpack the record's first row after such a loop."""
    _count: int = 0

    def name(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def value(self, template: Any, steps: Step, place: Place) -> Made:
        """Write what makes `template`, an element of the type of `steps`."""
        try:
            return self._value(template, steps, place)
        except Mistake as error:
            self.problems.append((place, str(error)))
            return Made("None", maybe=True, static=False)

    def _value(self, template: Any, step: Step, place: Place) -> Made:
        if isinstance(template, list):
            if not step.many:
                raise Mistake(f"{step.name} does not repeat: write its content without the list")
            return self.sequence([self.item(one, step, (*place, n)) for n, one in enumerate(template)], template)
        if step.many:
            raise Mistake(f"{step.name} repeats: write a list")
        return self.item(template, step, place)

    def item(self, template: Any, step: Step, place: Place) -> Made:
        """Write one element of a list, or the only one."""
        try:
            return self._item(template, step, place)
        except Mistake as error:
            self.problems.append((place, str(error)))
            return Made("None", maybe=True, static=False)

    def _item(self, template: Any, step: Step, place: Place) -> Made:
        if isinstance(template, str):
            return self.leaf(template, step)
        if not isinstance(template, dict):
            self._primitive(step)
            return Made(repr(template))
        if "ref" in template:
            return self.reference(template, step)
        if "call" in template:
            return self.call(template, step.type)
        if primitive(step.type):
            raise Mistake(f"{step.name} is a {step.type}: write a value, not an object")
        if "slot" not in template:
            return self.object(template, step.type, place)
        made = self.object({key: value for key, value in template.items() if key != "slot"}, step.type, place)
        made.slot = str(template["slot"])
        return made

    def _primitive(self, step: Step) -> None:
        if not primitive(step.type):
            raise Mistake(f"{step.name} is a {step.type}: write an object")

    def leaf(self, text: str, step: Step) -> Made:
        """Write a text: a column's value, a pattern of several, or a constant."""
        found = _LEAF.fullmatch(text)
        if found is None:
            self._primitive(step)
            return self.joined(text) if _PART.search(text) else Made(repr(text))
        name = found[1].strip("{}")
        column = self.column(name)
        kind, side = column.type, found[2]
        if side and kind != "code":
            raise Mistake(f".{side} is a side of a code, and {column.name} is a {kind}")
        if side != "concept":
            self._primitive(step)
            if step.type not in _FITS.get(kind, _TEXT_TYPES):
                raise Mistake(f"{step.name} is a {step.type}, and column {column.name} is a {kind}")
        elif step.type != "CodeableConcept":
            raise Mistake(f"{step.name} is a {step.type}, not a CodeableConcept")
        variable, maybe = self.variable(column.name, side), not column.required
        if kind == "code":
            maybe = maybe or column.table is not None or side in {"display", "system"}
        return Made(variable, maybe, (column.name,), bool(found[3]), static=False)

    def column(self, name: str) -> Any:
        """Return the declared column; raises `Mistake` with the nearest."""
        if name not in self.columns:
            raise Mistake(f"{name} is not a column{nearest(name, self.columns)}")
        self.used.add(name)
        return self.columns[name]

    def variable(self, column: str, side: str | None = None) -> str:
        """Return the variable of a column's value, for codes of one of its sides."""
        number = list(self.columns).index(column)
        if self.columns[column].type != "code" or side == "code":
            return f"v{number}"
        kind = self.name()
        if side == "original":
            self.line(f"{kind} = v{number}.original if v{number} is not None else None")
        elif side == "concept":
            self.line(f"{kind} = concept(v{number})")
        else:
            word = f"coding.get({side!r})" if side else "code"
            self.line(f"{kind} = v{number}.{word} if v{number} is not None else None")
        return kind

    def joined(self, text: str) -> Made:
        """Write a text with columns in braces; it is there when all of them are."""
        parts: list[str] = []
        columns: list[str] = []
        at = 0
        for found in _PART.finditer(text):
            column = self.column(found[1])
            columns.append(column.name)
            parts += [repr(text[at : found.start()]), f"str({self.variable(column.name, 'original')})"]
            at = found.end()
        parts.append(repr(text[at:]))
        maybe = [
            f"v{list(self.columns).index(name)} is not None" for name in columns if not self.columns[name].required
        ]
        code = "''.join((" + ", ".join(part for part in parts if part != "''") + ",))"
        return Made(
            f"({code} if {' and '.join(maybe)} else None)" if maybe else code, bool(maybe), tuple(columns), static=False
        )

    def reference(self, template: Mapping[str, Any], step: Step) -> Made:
        """Write a reference to another resource of the mapping."""
        if step.type != "Reference":
            raise Mistake(f"{step.name} is a {step.type}, not a Reference")
        name = template["ref"]
        if name not in self.resources:
            raise Mistake(f"{name} is not a resource of this mapping{nearest(str(name), self.resources)}")
        code = f"({{'reference': '{self.resources[name]}/' + id_{name}}} if id_{name} is not None else None)"
        made = Made(code, maybe=True, columns=(f"→{name}",), static=False)
        return self.loop(made) if template.get("each") == "row" else made

    def call(self, template: Mapping[str, Any], type_name: str) -> Made:
        """Write the call of a named function."""
        name = template["call"]
        load_functions()
        if name not in FUNCTIONS:
            raise Mistake(f"{name} is not a function{nearest(str(name), FUNCTIONS)}")
        function, count, result = FUNCTIONS[name]
        given = template.get("with", [])
        if not isinstance(given, list) or len(given) != count:
            raise Mistake(f"{name} takes {count} values: with: [$…, $…]")
        if result != type_name:
            raise Mistake(f"{name} makes {result}, and {type_name} is wanted here")
        arguments, columns = [], []
        for one in given:
            found = _LEAF.fullmatch(str(one))
            if found:
                name = found[1].strip("{}")
                columns.append(self.column(name).name)
                arguments.append(self.variable(name, found[2]))
            else:
                arguments.append(repr(one))
        self.globals[f"f_{function.__name__}"] = function
        result_name = self.name()
        self.line(f"{result_name} = f_{function.__name__}({', '.join(arguments)})")
        return Made(result_name, maybe=True, columns=tuple(columns), static=False)

    def object(self, template: Mapping[str, Any], type_name: str, place: Place) -> Made:
        """Write an object; keys are the type's elements."""
        each = template.get("each") == "row"
        if each:
            return self._each(template, type_name, place)
        parts: list[tuple[str, Made]] = []
        for key, content in template.items():
            name, step = self.step(type_name, key, (*place, key))
            if step is None:
                continue
            made = self.call(content, "[x]") if name == "*" else self.value(content, step, (*place, key))
            parts.append((name, made))
        return self.assembled(parts)

    def step(self, type_name: str, key: str, place: Place) -> tuple[str, Step | None]:
        """Return an element's name (`*` for a choice) and step."""
        try:
            if key.endswith("[x]"):
                return "*", choice(type_name, key)
            return key, resolve(type_name, key)[-1]
        except Mistake as error:
            self.problems.append((place, str(error)))
            return key, None

    def assembled(self, parts: list[tuple[str, Made]]) -> Made:
        """Write a dict of parts by the rule of what is left out."""
        columns = union(made.columns for _, made in parts)
        sure = [(key, made) for key, made in parts if not made.maybe or made.must]
        unsure = [(key, made) for key, made in parts if made.maybe and not made.must]
        literal = "{" + ", ".join(f"{key!r}: {made.code}" for key, made in sure if key != "*") + "}"
        if all(made.static for _, made in parts) or not any(made.maybe for _, made in parts):
            return Made(literal, columns=columns, static=all(made.static for _, made in parts))
        needed = [made.code for _, made in parts if made.must and made.maybe]
        kept = any(not made.static and not made.maybe for _, made in parts)
        where = " and ".join(f"{code} is not None" for code in needed)
        if not needed and not kept:
            where = " or ".join(f"{self.bound(made)} is not None" for _, made in unsure)
        target = self.name()
        if where:
            self.line(f"{target} = None")
            self.line(f"if {where}:")
            self.depth += 1
        self.line(f"{target} = {literal}")
        for key, made in unsure:
            code = self.bound(made)
            if where == f"{code} is not None":
                self.line(f"{target}{f'.update({code})' if key == '*' else f'[{key!r}] = {code}'}")
                continue
            self.line(f"if {code} is not None: {target}{f'.update({code})' if key == '*' else f'[{key!r}] = {code}'}")
        if where:
            self.depth -= 1
        return Made(target, maybe=bool(where), columns=columns, static=False)

    def bound(self, made: Made) -> str:
        """Return a name for an expression, so that it is evaluated once."""
        if not made.code.isidentifier():
            name = self.name()
            self.line(f"{name} = {made.code}")
            made.code = name
        return made.code

    def sequence(self, items: list[Made], template: Any) -> Made:
        """Write a list without the items that are left out."""
        columns = union(item.columns for item in items)
        static = all(item.static for item in items)
        loops = [isinstance(one, dict) and one.get("each") == "row" for one in template]
        if not any(item.maybe for item in items) and not any(loops):
            return Made("[" + ", ".join(item.code for item in items) + "]", columns=columns, static=static)
        target = self.name()
        if len(items) == 1 and not loops[0]:
            code = self.bound(items[0])
            self.line(f"{target} = [{code}] if {code} is not None else None")
            return Made(target, maybe=True, columns=columns, static=False)
        self.line(f"{target} = []")
        for item, loop in zip(items, loops, strict=True):
            if loop:
                self.line(f"{target} += {item.code}")
            elif item.maybe:
                code = self.bound(item)
                self.line(f"if {code} is not None: {target}.append({code})")
            else:
                self.line(f"{target}.append({item.code})")
        return Made(f"({target} or None)", maybe=True, columns=columns, static=False)

    def _each(self, template: Mapping[str, Any], type_name: str, place: Place) -> Made:
        target = self._open()
        made = self.object({key: value for key, value in template.items() if key != "each"}, type_name, place)
        return self._close(target, made)

    def loop(self, made: Made) -> Made:
        """Write a list of what every row makes of `made`."""
        return self._close(self._open(), made)

    def _open(self) -> str:
        if not self.each:
            raise Mistake("`each: row` is for records of several rows: the file has no `group:`")
        target = self.name()
        self.line(f"{target} = []")
        self.line("for row in rows:")
        self.depth += 1
        for line in self.each:
            self.line(line)
        return target

    def _close(self, target: str, made: Made) -> Made:
        code = self.bound(made)
        self.line(f"if {code} is not None and {code} not in {target}: {target}.append({code})")
        self.depth -= 1
        for line in self.again:
            self.line(line)
        return Made(target, columns=made.columns, static=False)


def choice(type_name: str, key: str) -> Step:
    """Return the step of `value[x]`; raises `Mistake` where the type has no such choice."""
    stem = key.removesuffix("[x]")
    if not any(one.startswith(stem) and one != stem for one in r4()[type_name]):
        raise Mistake(f"{type_name} has no choice {key}")
    return Step(key, "*", many=False)


def union(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in names for name in part))
