"""Mapping files to callable maps: read, checked, generated, compiled once per set of folders."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

from mappings.engine import messages
from mappings.engine.codegen import Unit, Writer, identifier
from mappings.engine.compiled_keys import datatype_keys, segment_keys
from mappings.engine.conditions import Reference
from mappings.engine.elements import r4, resolve
from mappings.engine.emit import Shop, datatype
from mappings.engine.emit_segment import segment
from mappings.engine.errors import MappingError, Mistake, nearest
from mappings.engine.helpers import NAMES
from mappings.engine.ids import encode, named, scope_of
from mappings.engine.keys import Key
from mappings.engine.kinds import Kind
from mappings.engine.messages import Plan, Step
from mappings.engine.nodes import Node
from mappings.engine.protocols import Segment
from mappings.engine.registry import FUNCTIONS
from mappings.engine.run import Run
from mappings.engine.site import load_functions
from mappings.engine.source import Files, Line, read
from mappings.engine.tables import Table, load

MODULES = (
    "primitives",
    "composites",
    "identifiers",
    "locations",
    "quantities",
    "observations",
    "patients",
    "people",
    "orders",
    "insurance",
    "clinical",
    "dosage",
    "pharmacy",
    "documents",
    "scheduling",
    "financial",
    "merges",
)
"""Where the named functions stand; a site's own may be registered beside them before the maps are compiled."""


@dataclass(slots=True)
class Maps:
    """All compiled maps of one set of folders."""

    version: str
    plans: dict[str, Plan]
    units: dict[str, Unit]
    kinds: dict[str, Kind]
    tables: dict[str, Table]
    calls: dict[str, Callable[..., Any]]
    keys: dict[str, list[Key]] = field(default_factory=dict)
    repeats: dict[str, Key] = field(default_factory=dict)
    source: str = ""
    groups: int = 0
    """How many fields' rows are remembered by text."""

    def plan(self, structure: str, code: str, trigger: str) -> Plan | None:
        """Return the plan of the event (`ADT_A40`), else of the structure, None where there is neither.

        The event goes first: senders who copy MSH-9 keep an old structure in it more often than a wrong event.
        """
        return self.plans.get(f"{code}_{trigger}") or self.plans.get(structure) or self.plans.get(code)

    def make(self, run: Run, step: Step, seg: Segment) -> Node:
        """Return the resource that a message row speaks of, named by its natural key."""
        kind = self.kinds[step.type]
        universal, text = self._key(run, step, seg)
        text = scope_of("" if universal else run.partner, step.type) + text
        node_id = named(text)
        if kind.repeat and (step.type, node_id) in run.nodes:
            node_id = self._apart(run, step, seg, node_id, text)
        scope = run.scope
        node = run.add(Node(step.label, step.type, node_id, scope, kind.living))
        scope.home(step.scope).nodes[step.label] = node
        node.scope = scope
        return node

    def _key(self, run: Run, step: Step, seg: Segment) -> tuple[bool, str]:
        label = encode(step.label) if ":" in step.label and self.kinds[step.type].labels else ""
        for key in self.keys[step.type]:
            found = key(run, seg)
            if found is not None:
                return found[0], label + found[1] if label else found[1]
        parts = run.content(seg.name)
        patient = run.scope.find("Patient")
        return False, label + encode(patient.id if patient and step.type != "Patient" else "", *parts)

    def _apart(self, run: Run, step: Step, seg: Segment, node_id: str, text: str) -> str:
        """Tell things with the same key in one message apart, as `repeat` says."""
        if self.kinds[step.type].repeat == "count":
            run.find("repeated-key", "")
            # A report's lines may all have one key: who comes next is remembered, not counted anew.
            counts = run.memory.setdefault("repeated", {})
            while True:
                counts[node_id] = counts.get(node_id, 1) + 1
                other = named(text + encode(f"#{counts[node_id]}"))
                if (step.type, other) not in run.nodes:
                    return other
        found = self.repeats[step.type](run, seg)
        have = run.nodes[(step.type, node_id)]
        if found is None or found == self._said(run, step, have):
            return node_id
        run.find("repeated-key", "")
        return named(text + found[1])

    def _said(self, run: Run, step: Step, have: Node) -> tuple[bool, str] | None:
        scope, run.scope = run.scope, have.scope or run.scope
        try:
            return self.repeats[step.type](run, None)
        finally:
            run.scope = scope


YOUNG = 100_000
"""New objects after which Python looks for circles among them, in a process that converts."""


@cache
def compile_maps(files: Files) -> Maps:
    """Compile every map under `files`; raises `MappingError` with all mistakes at once."""
    for module in MODULES:
        importlib.import_module(f"mappings.engine.{module}")
    load_functions()
    problems: list[str] = []
    tables = {path.stem: load(name, path) for name, path in files.find("codes", "*.csv")}
    kinds = _kinds(files, problems)
    units = {
        **_units(files, "v2/datatypes", kinds, problems),
        **_units(files, "v2/segments", kinds, problems),
    }
    source, names, groups = _generate(units, tables, _together(files), problems)
    maps = Maps(files.digest(), {}, units, kinds, tables, {})
    things = datatype_keys(units, kinds, problems)
    maps.keys, maps.repeats = segment_keys(kinds, problems)
    maps.plans = _plans(files, units, kinds, problems)
    if problems:
        raise MappingError(problems)
    space: dict[str, Any] = {**NAMES, **names, "keys": things}
    exec(compile(source, "<maps>", "exec"), space)  # noqa: S102 - generated from our own grammar
    maps.calls = {name: space[identifier(name)] for name in units}
    maps.source, maps.groups = source, groups
    for plan in {id(plan): plan for plan in maps.plans.values()}.values():
        _bind(plan, maps, units)
    # The maps, and what has been imported for them, stay until the process ends: without this every full collection
    # walks them again, and half of a conversion's time goes there.
    gc.collect()
    gc.freeze()
    # A conversion leaves nothing in circles behind, and makes thousands of objects: looking for circles after every
    # 700 of them costs an eighth of its time.
    gc.set_threshold(max(gc.get_threshold()[0], YOUNG), 20, 20)
    return maps


def _kinds(files: Files, problems: list[str]) -> dict[str, Kind]:
    kinds = {}
    for name, (head, _) in read("keys.yaml", files.one("keys.yaml")).items():
        values = head.values
        if name not in r4():
            problems.append(head.problem(f"no resource type {name}{nearest(name, r4())}"))
        kinds[name] = Kind(
            bool(values.get("living")),
            tuple(values.get("keys", ())),
            str(values.get("repeat", "")),
            bool(values.get("labels", True)),
        )
    return kinds


def _units(files: Files, folder: str, kinds: dict[str, Kind], problems: list[str]) -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    is_segment = folder.endswith("segments")
    for file, path in files.find(folder, "*.yaml"):
        for name, (head, rows) in read(file, path).items():
            try:
                units[name] = _unit(name, head, rows, is_segment, kinds)
            except Mistake as mistake:
                problems.append(head.problem(str(mistake)))
    return units


def _unit(name: str, head: Line, rows: list[Line], is_segment: bool, kinds: dict[str, Kind]) -> Unit:
    head.check(frozenset({"to", "within", "slot", "note", "cached"}))
    root = name.split("[", maxsplit=1)[0]
    target = str(head.values.get("to", ""))
    if target not in r4() and not target[:1].islower():
        raise Mistake(f"no FHIR type {target}{nearest(target, r4())}")
    within = str(head.values.get("within", ""))
    made = resolve(target, within)[-1].type if within else target
    resource = "implicitRules" in r4().get(target, {}) and not is_segment
    if resource and target not in kinds:
        raise Mistake(f"keys.yaml says nothing of {target}")
    living = kinds[target].living if target in kinds else False
    return Unit(name, root, made, head, rows, is_segment, resource, living, within)


def _together(files: Files) -> dict[str, frozenset[str]]:
    """Return for each segment map the maps that stand beside it in every message map that it stands in."""
    raw: dict[str, tuple[Line, list[Line]]] = {}
    for file, path in files.find("v2/messages", "*.yaml"):
        raw.update(read(file, path))
    together: dict[str, frozenset[str]] = {}
    for name, (head, _) in raw.items():
        if name[0].islower() or any(part not in raw for part in head.values.get("include", ())):
            continue
        maps = frozenset(str(row.values.get("map", "")) for part in _included(name, raw) for row in raw[part][1])
        for one in maps:
            together[one] = together.get(one, maps) & maps
    return together


def _generate(
    units: dict[str, Unit], tables: dict[str, Table], together: dict[str, frozenset[str]], problems: list[str]
) -> tuple[str, dict[str, Any], int]:
    sources: list[str] = []
    names: dict[str, Any] = {}
    groups = count()
    for unit in units.values():
        writer = Writer()
        write = segment if unit.segment else datatype
        sources.append(write(unit, Shop(units, tables, writer, problems, groups, together)))
        names.update(writer.names)
    return "\n\n".join(sources), names, next(groups)


def _plans(files: Files, units: dict[str, Unit], kinds: dict[str, Kind], problems: list[str]) -> dict[str, Plan]:
    raw: dict[str, tuple[Line, list[Line]]] = {}
    for file, path in files.find("v2/messages", "*.yaml"):
        raw.update(read(file, path))
    plans = {}
    for name, (head, _) in raw.items():
        if not name[0].islower() or name == "any":
            try:
                head.check(frozenset({"include", "scopes", "note", "same"}))
                plan = _plan(name, raw, units, kinds, problems)
                plans.update(dict.fromkeys([name, *head.values.get("same", ())], plan))
            except Mistake as mistake:
                problems.append(head.problem(str(mistake)))
    return plans


def _plan(
    name: str,
    raw: dict[str, tuple[Line, list[Line]]],
    units: dict[str, Unit],
    kinds: dict[str, Kind],
    problems: list[str],
) -> Plan:
    plan = Plan(name)
    rows: list[Line] = []
    scopes: dict[str, dict[str, Any]] = {}
    for part in _included(name, raw):
        head, own = raw[part]
        messages.merge_scopes(scopes, head)
        rows += own
    plan.scopes = messages.scopes_of(scopes)
    homes = plan.homes = {label: kind.name for kind in plan.scopes.values() for label in kind.has}
    for kind in plan.scopes.values():
        for start in kind.starts:
            plan.opens.setdefault(start, []).append(kind)
    for row in rows:
        try:
            _step(plan, row, homes, units, kinds)
        except Mistake as mistake:
            problems.append(row.problem(str(mistake)))
    return plan


def _included(name: str, raw: dict[str, tuple[Line, list[Line]]]) -> list[str]:
    order: list[str] = []
    for part in raw[name][0].values.get("include", ()):
        if part not in raw:
            raise Mistake(f"no message map {part}{nearest(part, raw)}")
        order += [one for one in _included(part, raw) if one not in order]
    return [*order, name]


def _step(plan: Plan, row: Line, homes: dict[str, str], units: dict[str, Unit], kinds: dict[str, Kind]) -> None:
    row.check(messages.KEYS)
    values = row.values
    name = str(values.get("segment", ""))
    if "drop" in values:
        plan.steps.setdefault(name, [])
        return
    after = frozenset(values.get("after", ()))
    if after:
        plan.standing[name] = plan.standing.get(name, frozenset()) | after
    when = messages.condition(str(values["when"]), name) if "when" in values else None
    steps = plan.steps.setdefault(name, [])
    if "run" in values:
        function = FUNCTIONS.get(str(values["run"]))
        if function is None:
            raise Mistake(f"no function {values['run']}{nearest(str(values['run']), FUNCTIONS)}")
        takes = frozenset(Reference(str(text)).number or 0 for text in values.get("takes", ()))
        steps.append(Step("", "", "", "", None, when, after, action=function.call, takes=takes, makes=function.makes))
        return
    label = str(values.get("to", ""))
    type_name = label.split(":", maxsplit=1)[0]
    if type_name not in kinds:
        raise Mistake(f"keys.yaml says nothing of {type_name or 'a row without to'}{nearest(type_name, kinds)}")
    map_name = values.get("map")
    if map_name is not None and map_name not in units:
        raise Mistake(f"no segment map {map_name}{nearest(str(map_name), [u for u in units if units[u].segment])}")
    links = tuple(
        (path, resolve(type_name, path)[-1].many, other) for path, other in (values.get("link") or {}).items()
    )
    listed = tuple((other, _list(other, path)) for other, path in (values.get("listed") or {}).items())
    step = Step(
        label,
        type_name,
        "segment" if values.get("anew") == "here" else homes.get(label, "segment"),
        str(map_name or ""),
        None,
        when,
        after,
        links,
        listed,
        use=bool(values.get("use")),
        anew=bool(values.get("anew")),
    )
    steps.append(step)


def _list(label: str, path: str) -> str:
    if not resolve(label.split(":", maxsplit=1)[0], path)[-1].many:
        raise Mistake(f"{label}.{path} is not a list")
    return path


def _bind(plan: Plan, maps: Maps, units: dict[str, Unit]) -> None:
    """Put the compiled maps into the plan's steps, and note which fields no row takes."""
    for name, steps in plan.steps.items():
        covered: set[int] = {1} if name == "MSH" else set()
        for step in steps:
            covered |= step.takes
            if step.name:
                covered |= units[step.name].covers
                step.carries = _carried(units[step.name])
                step.call = maps.calls[step.name]
        plan.covers[name] = covered
        top = max(covered, default=0)
        if steps:
            plan.gaps[name] = (*(number for number in range(1, top + 1) if number not in covered), top + 1)


def _carried(unit: Unit) -> frozenset[int]:
    """Return the fields that a segment map carries, or leaves out for good; not those that another map carries."""
    numbers = set()
    for line in unit.rows:
        if str(line.values.get("drop", "")).startswith("becomes "):
            continue
        sources = line.values.get("from") or []
        references = [Reference(str(text)) for text in (sources if isinstance(sources, list) else [sources])]
        numbers |= {ref.number for ref in references if ref.number and ref.root == unit.root}
    return frozenset(numbers)
