"""Resources of a CSV mapping to Python source: facts as they are, living things as slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mappings.engine.csv_file import Place
from mappings.engine.csv_template import Made, Writer, choice, union
from mappings.engine.elements import Step, resolve
from mappings.engine.errors import Mistake
from mappings.engine.slots import slot_order


@dataclass(frozen=True, slots=True)
class CsvResource:
    """One resource of the mapping, checked."""

    name: str
    type: str
    key: tuple[Any, ...]
    scope: str
    living: bool
    per_row: bool
    when: str | None
    elements: Mapping[str, Any]


class ResourceWriter:
    """Writes what makes a resource's entry, into the lines of `writer`; mistakes go to `problems`."""

    def __init__(self, writer: Writer, problems: list[tuple[Place, str]]) -> None:
        self.writer, self.problems = writer, problems

    def parts(self, one: CsvResource) -> Iterator[tuple[str, bool, Made]]:
        """Write every element's content and yield its path, whether it is an item of a list, and the content."""
        for path, content in one.elements.items():
            place: Place = ("resources", one.name, "elements", path)
            try:
                step = self.step(one.type, path)
                if step is None:
                    yield "*", False, self.writer.call(content, "[x]")
                elif one.living and step.many and isinstance(content, list):
                    single = Step(step.name, step.type, many=False)
                    for number, item in enumerate(content):
                        yield path, True, self.writer.item(item, single, (*place, number))
                else:
                    yield path, False, self.writer.value(content, step, place)
            except Mistake as error:
                self.problems.append((place, str(error)))

    def step(self, kind: str, path: str) -> Step | None:
        """Return an element's step; None for a choice that a function decides."""
        if path.endswith("[x]"):
            choice(kind, path)
            return None
        return resolve(kind, path)[-1]

    def fact(self, one: CsvResource) -> None:
        """Write a resource that is replaced whole."""
        writer = self.writer
        parts = [(path, made) for path, _, made in self.parts(one)]
        sure = "".join(f", {path!r}: {made.code}" for path, made in parts if not made.maybe and "." not in path)
        writer.line(f"r = {{'resourceType': {one.type!r}, 'id': id_{one.name}{sure}}}")
        for path, made in parts:
            code = writer.bound(made) if made.maybe else made.code
            guard = f"if {code} is not None: " if made.maybe else ""
            if path == "*":
                writer.line(f"{guard}r.update({code})")
            elif "." in path:
                writer.line(f"{guard}put(r, {path!r}, {code})")
            elif made.maybe:
                writer.line(f"{guard}r[{path!r}] = {code}")
        writer.line("entries.append(Entry(r))")

    def living(self, one: CsvResource) -> None:
        """Write a thing that lives on, as slots: which columns said what."""
        writer = self.writer
        slots: dict[str, list[tuple[str, bool, Made]]] = {}
        for path, item, made in self.parts(one):
            if path == "*":
                place: Place = ("resources", one.name, "elements")
                self.problems.append((place, "a choice that a function decides is for facts: leave `living` out"))
                continue
            slots.setdefault(made.slot or "+".join(made.columns) or "~mapping", []).append((path, item, made))
        paths = Counter(path for parts in slots.values() for path, _, _ in parts)
        simple = not any("." in path for path in paths) and all(
            item or paths[path] == 1 for parts in slots.values() for path, item, _ in parts
        )
        writer.line("s = {}")
        writer.line("cleared = ()")
        if simple:
            writer.line(f"r = {{'resourceType': {one.type!r}, 'id': id_{one.name}}}")
        defaults = [slot for slot in slots if slot.startswith("~")]
        for slot in (*sorted(slots.keys() - set(defaults), key=slot_order), *sorted(defaults, key=slot_order)):
            self.slot(one, slot, slots[slot], paths if simple else None)
        whole = "r" if simple else f"assemble({one.type!r}, id_{one.name}, s)"
        writer.line(f"entries.append(Entry({whole}, s, cleared))")

    def slot(
        self, one: CsvResource, slot: str, parts: list[tuple[str, bool, Made]], paths: Mapping[str, int] | None
    ) -> None:
        """Write a slot, and where `paths` says how often each is spoken of, what `assemble` would make of it."""
        writer = self.writer
        pairs: list[str] = []
        alone = len(parts) == 1
        if not alone:
            writer.line("p = []")
        for path, item, made in parts:
            code = writer.bound(made)
            content = f"[{code}]" if item else code
            if made.maybe:
                writer.line(f"if {code} is not None:")
                writer.depth += 1
            if paths is not None:
                self.place(path, code, content, item=item, often=paths[path] > 1, default=slot.startswith("~"))
            pair = f"({path!r}, {content})"
            writer.line(f"s[{slot!r}] = [{pair}]" if alone else f"p.append({pair})")
            writer.depth -= made.maybe
            pairs.append(path)
        if not alone:
            writer.line(f"if p: s[{slot!r}] = p")
        columns = [name for name in union(made.columns for _, _, made in parts) if name in self.writer.columns]
        if columns and all(self.writer.columns[name].clears for name in columns):
            told = ", ".join(repr(f"{one.type}.{path}") for path in dict.fromkeys(pairs))
            writer.line(f"if {slot!r} not in s: s[{slot!r}] = []; cleared += ({told},)")

    def place(self, path: str, code: str, content: str, *, item: bool, often: bool, default: bool) -> None:
        """Write how a slot's value goes into the resource: as `assemble` does it, without looking for its way."""
        if default:
            self.writer.line(f"if {path!r} not in r: r[{path!r}] = {content}")
        elif item and often:
            self.writer.line(f"if {path!r} not in r: r[{path!r}] = {content}")
            self.writer.line(f"elif {code} not in r[{path!r}]: r[{path!r}].append({code})")
        else:
            self.writer.line(f"r[{path!r}] = {content}")
