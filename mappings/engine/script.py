"""What the names of a message's segments decide: its scopes, which rows speak of which segment, what is out of place.

Messages of one kind bring the same names again and again, so this is worked out once for each sequence of them.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING

from mappings.engine.scopes import Shape

if TYPE_CHECKING:
    from mappings.engine.messages import Plan, ScopeKind, Step
    from mappings.engine.protocols import Segment
    from mappings.engine.run import Run

_KEPT = 1000
_LONGEST = 300
"""Sequences that are kept for a plan, and segments of the longest of them."""


Row = tuple[
    "Step", "Callable[[Run, Segment], bool] | None", tuple[tuple[str, bool, str], ...], tuple[tuple[str, str], ...]
]
"""A step, its condition, and of its links and lists those whose label something in the message may have."""


class Stand:
    """A segment in its place: which rows speak of it, and what nobody hears.

    - `place` is the segment's number, `scope` its scope's; `away` are the steps that do not stand here.
    - `gaps` are the fields that no step takes; `unheard` those that only silent rows carry, by which rows are silent
      (a bit each, the first row's the lowest).
    """

    __slots__ = ("away", "gaps", "place", "rows", "scope", "steps", "unheard")

    def __init__(self, place: int, scope: int, steps: tuple[Step, ...], away: tuple[Step, ...], gaps: tuple[int, ...]):
        self.place = place
        self.scope = scope
        self.steps = steps
        self.away = away
        self.gaps = gaps
        self.rows: tuple[Row, ...] = ()
        self.unheard: dict[int, tuple[int, ...]] = {}

    def settle(self, labels: frozenset[str], unheard: dict[int, tuple[int, ...]]) -> None:
        """Leave out the links to what nothing in the message can be."""
        self.rows = tuple(row_of(step, labels) for step in self.steps)
        self.unheard = unheard


def row_of(step: Step, labels: frozenset[str]) -> Row:
    """Return a step with those of its links that may find something."""
    links = tuple(link for link in step.link if link[2] in labels)
    return step, step.when, links, tuple(one for one in step.listed if one[0] in labels)


class Script:
    """A plan applied to a sequence of segment names; segments and scopes are numbers.

    - `shapes` are the scopes, the message's first, each after the one around it.
    - `todo` holds the segments in the message's order; `labels` are those that their steps give.
    - `findings` are (code, segment).
    """

    __slots__ = ("findings", "labels", "shapes", "todo")

    def __init__(self) -> None:
        self.shapes = [Shape("message", None, 0)]
        self.todo: list[Stand] = []
        self.labels: frozenset[str] = frozenset()
        self.findings: list[tuple[str, int]] = []

    def add(self, name: str, parent: Shape) -> Shape:
        shape = Shape(name, parent, len(self.shapes))
        self.shapes.append(shape)
        return shape


def script_of(plan: Plan, names: tuple[str, ...]) -> Script:
    """Return the script of a plan for a message of these segments."""
    script: Script | None = plan.scripts.get(names)
    if script is None:
        script = _write(plan, names)
        if len(names) <= _LONGEST:
            if len(plan.scripts) >= _KEPT:
                plan.scripts.clear()
            plan.scripts[names] = script
    return script


def _write(plan: Plan, names: tuple[str, ...]) -> Script:
    script = Script()
    current: dict[str, Shape] = {"message": script.shapes[0]}
    stands: dict[str, tuple[int, str, Shape]] = {}
    last = 0
    for place, name in enumerate(names):
        found = plan.steps.get(name)
        if found is None:
            if name not in plan.ignored:
                script.findings.append(("unmapped-segment", place))
            continue
        steps = tuple(found)
        silent: tuple[Step, ...] = ()
        scope = _open(plan, script, name, place, current)
        allowed = plan.standing.get(name)
        if allowed is not None:
            # the nearest one before it; looked up by name, because a message may have a hundred thousand segments
            under = max((stands[n] for n in allowed if n in stands), key=itemgetter(0), default=None)
            # A person who stands behind a diagnosis or a specimen takes no part in the result before it.
            if under is None or (name in _PEOPLE and under[0] < last):
                script.findings.append(("segment-out-of-place", place))
                continue
            steps = tuple(step for step in found if not step.after or under[1] in step.after)
            silent = tuple(step for step in found if step not in steps)
            scope = script.add("segment", under[2])
        elif name not in plan.opens:
            scope = script.add("segment", scope)
        if name in _OF_NOBODY and allowed is None:
            last = place
        _stand(scope, name, place)
        stands[name] = (place, name, scope)
        script.todo.append(Stand(place, scope.number, steps, silent, plan.gaps.get(name, ())))
    _visits_first(script, names)
    script.labels = _labels(plan, [step for stand in script.todo for step in stand.steps])
    for stand in script.todo:
        stand.settle(script.labels, plan.unheard.setdefault((stand.steps, stand.away), {}))
    for shape in script.shapes:
        shape.settle()
    return script


_PEOPLE = frozenset({"PRT", "ROL"})
_OF_NOBODY = frozenset({"AL1", "DG1", "GT1", "IAM", "NK1", "SPM"})
"""Segments that start a thing in which no map lets a person take part."""
_OF_A_VISIT = frozenset({"DG1", "PR1", "OBX", "GT1", "PRB", "FT1", "ACC"})
"""Segments whose natural keys or links name the visit."""


def _visits_first(script: Script, names: tuple[str, ...]) -> None:
    """Let a patient's first PV1 speak before what is said of the visit: keys are the same wherever it stands."""
    first: dict[int, int] = {}
    visits: dict[int, int] = {}
    for at, stand in enumerate(script.todo):
        name = names[stand.place]
        if name in _OF_A_VISIT:
            first.setdefault(_patient(script, stand.scope), at)
        elif name == "PV1":
            visits.setdefault(_patient(script, stand.scope), at)
    for home, at in visits.items():
        if first.get(home, at) < at:
            script.todo.insert(first[home], script.todo.pop(at))


def _patient(script: Script, number: int) -> int:
    """Return the number of the scope of the patient around a scope, that of the message where there is none."""
    shape: Shape | None = script.shapes[number]
    while shape is not None and shape.name != "patient":
        shape = shape.parent
    return shape.number if shape is not None else 0


def _labels(plan: Plan, steps: list[Step]) -> frozenset[str]:
    """Return the labels that something may have: an action may make what has no row."""
    if any(step.makes for step in steps):
        steps = [step for found in plan.steps.values() for step in found]
    return frozenset(step.label for step in steps)


def _stand(scope: Shape, name: str, place: int) -> None:
    """Note that a segment stands in a scope; one in a scope of its own stands in the scope around it, too."""
    scope.first.setdefault(name, place)
    owner = scope.parent if scope.name == "segment" and scope.parent is not None else scope
    owner.members.setdefault(name, []).append(place)
    owner.first.setdefault(name, place) if owner is not scope else None


def _open(plan: Plan, script: Script, name: str, place: int, current: dict[str, Shape]) -> Shape:
    """Return the scope in which a segment stands, opening what it starts."""
    for kind in plan.opens.get(name, ()):
        here = current.get(kind.name)
        if here is None or _again(kind, name, here):
            for ended in kind.ends:
                current.pop(ended, None)
            here = current[kind.name] = script.add(kind.name, _parent(plan, kind, current))
        here.first.setdefault(name, place)
        around = here.parent
        if around is not None and around.name in plan.scopes and name in plan.scopes[around.name].knows:
            around.first.setdefault(name, place)
        return here
    return next(reversed(current.values())) if len(current) > 1 else current["message"]


def _again(kind: ScopeKind, name: str, here: Shape) -> bool:
    place = kind.starts.index(name)
    return any(start in here.first for start in kind.starts[place:])


def _parent(plan: Plan, kind: ScopeKind, current: dict[str, Shape]) -> Shape:
    within = kind.within
    while within != "message":
        if within in current:
            return current[within]
        within = plan.scopes[within].within if within in plan.scopes else "message"
    return current["message"]
