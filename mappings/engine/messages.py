"""Message maps: which segment says what of which resource, and where one patient, order or observation ends.

A map's rows are walked segment by segment. `to` is a label: a resource type, with a name after a colon where a
message has several (`Provenance:event`). A label means one thing within its scope; labels without a scope live as
long as their segment. A scope opens at the first of its `starts` and again at each that it already holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mappings.engine.conditions import compile_condition
from mappings.engine.emit import field_term
from mappings.engine.errors import Mistake, nearest
from mappings.engine.excess import excess
from mappings.engine.helpers import valued
from mappings.engine.nodes import Node, put
from mappings.engine.protocols import Segment
from mappings.engine.run import Run
from mappings.engine.scopes import Scope
from mappings.engine.script import Row, Stand, script_of
from mappings.engine.source import Line

KEYS = frozenset({
    "segment", "to", "map", "when", "link", "listed", "after", "run", "events", "drop", "use", "takes", "anew",
})  # fmt: skip
SCOPE_KEYS = frozenset({"starts", "within", "has", "ends", "knows"})


@dataclass(frozen=True, slots=True)
class ScopeKind:
    """One kind of scope: the segments that open it, the labels that live in it, the scopes that end with it."""

    name: str
    starts: tuple[str, ...]
    has: frozenset[str]
    ends: frozenset[str]
    within: str
    knows: frozenset[str]
    """Segments that open a scope in this one and are seen from here: an order knows its SPM."""


@dataclass(slots=True, eq=False)
class Step:
    """A compiled message row."""

    label: str
    type: str
    scope: str
    name: str
    """The segment map's name, empty for a row without one."""
    call: Callable[[Segment, Run, Node], None] | None
    when: Callable[[Run, Segment], bool] | None
    after: frozenset[str]
    link: tuple[tuple[str, bool, str], ...] = ()
    """(path, is it a list, label)"""
    listed: tuple[tuple[str, str], ...] = ()
    """(label, path): where this resource is listed."""
    action: Callable[[Segment, Run], None] | None = None
    makes: bool = False
    """The action may make resources of labels that no row has."""
    takes: frozenset[int] = frozenset()
    """The fields that an action takes."""
    use: bool = False
    """Only where the label is in scope already."""
    carries: frozenset[int] = frozenset()
    """The fields that are heard where this row speaks."""
    anew: bool = False
    """A second segment in a scope speaks of the thing that its own key names; of a scope of its own, each does."""

    def act(self, seg: Segment, run: Run) -> None:
        """Do what waited for the whole message."""
        assert self.action is not None  # noqa: S101 - what has none does not wait
        self.action(seg, run)
        for number in self.takes:
            if number <= seg.count and any(cut in seg.texts[number] for cut in run.marks):
                excess(run, seg, number, {})


@dataclass(slots=True)
class Plan:
    """A message structure's rows by segment name, its scopes, and which fields they take."""

    name: str
    steps: dict[str, list[Step]] = field(default_factory=dict)
    scopes: dict[str, ScopeKind] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)
    """The scope that each label lives in; a label that is not here lives as long as its segment."""
    opens: dict[str, list[ScopeKind]] = field(default_factory=dict)
    covers: dict[str, set[int]] = field(default_factory=dict)
    gaps: dict[str, tuple[int, ...]] = field(default_factory=dict)
    standing: dict[str, frozenset[str]] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    unheard: dict[tuple[tuple[Step, ...], tuple[Step, ...]], dict[int, tuple[int, ...]]] = field(default_factory=dict)
    """By the rows of a segment, those that stand elsewhere, and those that did not speak: what no other row carries."""
    scripts: dict[tuple[str, ...], Any] = field(default_factory=dict)
    """What has been worked out for sequences of segment names."""


def merge_scopes(raw: dict[str, dict[str, Any]], line: Line) -> None:
    """Add a map's `scopes` to `raw`: what lives in a scope and what ends with it adds up, the rest is said last."""
    for name, body in (line.values.get("scopes") or {}).items():
        have = raw.setdefault(name, {})
        for key, value in body.items():
            if key not in SCOPE_KEYS:
                raise Mistake(f"unknown key {key!r} in scope {name}{nearest(key, SCOPE_KEYS)}")
            have[key] = [*have.get(key, ()), *value] if key in {"has", "ends", "knows"} else value


def scopes_of(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, ScopeKind]:
    """Return the kinds of scope of a message map."""
    result: dict[str, ScopeKind] = {}
    for name, body in raw.items():
        inner = {other for other in raw if name in _chain(raw, other)}
        result[name] = ScopeKind(
            name,
            tuple(body.get("starts", ())),
            frozenset(body.get("has", ())),
            frozenset(inner | set(body.get("ends", ()))),
            str(body.get("within", "message")),
            frozenset(body.get("knows", ())),
        )
    return result


def _chain(raw: Mapping[str, Mapping[str, Any]], name: str) -> set[str]:
    seen: set[str] = set()
    while name in raw and name not in seen:
        seen.add(name)
        name = str(raw[name].get("within", "message"))
    return seen


def condition(text: str, name: str) -> Callable[[Run, Segment], bool]:
    """Compile the `when` of a row of segment `name`; another's fields are those of the nearest of that name."""
    source = compile_condition(text, field_term(name))
    names: dict[str, Any] = {}
    from mappings.engine.helpers import NAMES

    exec(f"def when(run, seg):\n    return bool({source})\n", {**NAMES}, names)  # noqa: S102 - compiled from our own grammar
    made: Callable[[Run, Segment], bool] = names["when"]
    return made


def walk(plan: Plan, run: Run, make: Callable[[Run, Step, Segment], Node]) -> None:
    """Walk the message: open scopes and find each row's resource first, then let the maps speak."""
    segments = run.message.segments
    script = script_of(plan, tuple([seg.name for seg in segments]))
    scopes = run.open(script.shapes)
    for code, place in script.findings:
        run.seg = segments[place]
        run.find(code, "")
    for stand in script.todo:
        run.scope = scopes[stand.scope]
        run.seg = seg = segments[stand.place]
        silent, bit = 0, 1
        for row in stand.rows:
            when = row[1]
            if when is None or when(run, seg):
                _do(row, run, seg, make)
            else:
                silent |= bit
            bit += bit
        if silent or stand.away:
            numbers = stand.unheard.get(silent)
            if numbers is None:
                numbers = stand.unheard[silent] = _carried(stand, silent)
            _unheard(numbers, run, seg)
        if stand.gaps:
            _gaps(stand.gaps, run, seg)
    _late(plan, run)


def _carried(stand: Stand, silent: int) -> tuple[int, ...]:
    steps = [step for at, step in enumerate(stand.steps) if silent >> at & 1]
    return _only_carried(stand.steps, (*stand.away, *steps))


def _only_carried(steps: Sequence[Step], silent: Sequence[Step]) -> tuple[int, ...]:
    """Return the fields that only rows carry which do not speak."""
    heard = {number for step in steps if step not in silent for number in (*step.carries, *step.takes)}
    return tuple(sorted({number for step in silent for number in step.carries} - heard))


def _late(plan: Plan, run: Run) -> None:
    """Let those speak that only add to a resource and waited for it: a diagnosis may stand before its visit."""
    alone: dict[int, tuple[Scope, Segment, tuple[Step, ...]]] = {}
    for scope, seg, row in run.waiting:
        run.scope, run.seg = scope, seg
        step = row[0]
        node = scope.find(step.label) or _only(plan, run, scope, step.label, {})
        if node is not None:
            _speak(row, run, seg, node)
        elif step.carries:
            alone[seg.index] = (scope, seg, (*alone.get(seg.index, (scope, seg, ()))[2], step))
    for scope, seg, silent in alone.values():
        run.scope, run.seg = scope, seg
        every = plan.steps[seg.name]
        steps = tuple([one for one in every if one in silent or one.when is None or one.when(run, seg)])
        _unheard(_only_carried(steps, silent), run, seg)


def _unheard(numbers: tuple[int, ...], run: Run, seg: Segment) -> None:
    """Note the valued ones of the fields that only rows carry which do not speak this time."""
    for number in numbers:
        if valued(seg, number):
            run.find("outranked", str(number), "information")


def _gaps(gaps: tuple[int, ...], run: Run, seg: Segment) -> None:
    """Note the valued fields that no row takes: those in `gaps`, and all from its last on."""
    texts = seg.texts
    count = len(texts)
    for number in gaps:
        if number >= count:
            return
        if texts[number] and seg.field(number):
            run.find("unmapped-field", str(number))
    for number in range(gaps[-1] + 1, count):
        if texts[number] and seg.field(number):
            run.find("unmapped-field", str(number))


def _do(row: Row, run: Run, seg: Segment, make: Callable[[Run, Step, Segment], Node]) -> None:
    step = row[0]
    if step.action is not None:
        run.later.append((run.scope, seg, step))
        return
    node = run.scope.find(step.label)
    if node is None or (step.anew and (seg.ordinal > 1 or step.scope == "segment")):
        if step.use:
            run.waiting.append((run.scope, seg, row))
            return
        node = make(run, step, seg)
    _speak(row, run, seg, node)


def _speak(row: Row, run: Run, seg: Segment, node: Node) -> None:
    """Let a segment's map fill a resource in, and link it."""
    step, _, links, listed = row
    run.node = node
    if step.call is not None:
        step.call(seg, run, node)
    scope = run.scope
    for path, many, label in links:
        target = scope.find(label)
        if target is None:
            run.links.append((scope, node, path, many, label, seg.name))
        elif target is not node:
            _point(node, target, path, many, seg.name)
    for label, path in listed:
        run.listed.append((scope, node, path, label, seg.name))


def _point(node: Node, target: Node, path: str, many: bool, slot: str) -> None:
    """Put a reference to `target` at `path` of `node`."""
    pointer: Any = target.pointer()
    if node.slots is not None:
        node.point(slot, path, pointer, many)
    elif "." in path:
        put(node.resource, path, [pointer] if many else pointer)
    elif not many:
        node.resource[path] = pointer
    elif path not in node.resource:
        node.resource[path] = [pointer]
    elif pointer not in node.resource[path]:
        node.resource[path].append(pointer)


def _list(run: Run) -> None:
    """Put references to what is listed elsewhere; a report may list a hundred thousand results."""
    known: dict[tuple[int, str], set[str]] = {}
    for scope, node, path, label, name in run.listed:
        target = scope.find(label)
        if target is None:
            continue
        if target.slots is not None or "." in path:
            _point(target, node, path, True, name)
            continue
        have = target.resource.setdefault(path, [])
        there = known.get((id(target), path))
        if there is None:
            there = known[id(target), path] = {one.get("reference") for one in have}
        pointer = node.pointer()
        if pointer["reference"] not in there:
            there.add(pointer["reference"])
            have.append(pointer)


def _only(plan: Plan, run: Run, scope: Scope, label: str, known: dict[tuple[str, int], Node | None]) -> Node | None:
    """Return the one resource with `label` further in: an order's only specimen, a message's only patient anywhere."""
    kind = plan.scopes.get(plan.homes.get(label, ""))
    here: Scope | None = scope
    around = "message" if kind is not None and kind.name == "patient" else kind and kind.within
    while here is not None and kind is not None and here.name != around:
        here = here.parent
    if kind is None or here is None:
        return None
    key = (label, id(here))
    if key not in known:
        found = [node for node in run.order if node.label == label and _inside(node.scope, here)]
        known[key] = found[0] if len(found) == 1 else None
    return known[key]


def _inside(scope: Scope | None, outer: Scope) -> bool:
    while scope is not None:
        if scope is outer:
            return True
        scope = scope.parent
    return False


def finish(plan: Plan, run: Run) -> None:
    """Do what waits for the whole message: actions, then the links between resources."""
    for scope, seg, step in run.later:
        run.scope, run.seg = scope, seg
        step.act(seg, run)
    only: dict[tuple[str, int], Node | None] = {}
    for scope, node, path, many, label, name in run.links:
        target = scope.find(label) or (node.scope and node.scope.find(label)) or _only(plan, run, scope, label, only)
        if target is not None and target is not node:
            _point(node, target, path, many, name)
    _list(run)
