"""FHIRPath over JSON for FHIR's own invariants: an expression becomes closures once, then runs on dicts.

What can be decided only with a server at hand (a reference that leaves the resource, a value set) is empty, and what
is empty is neither true nor false. Source: FHIRPath N1; FHIR R4 section 2.1.9.1, FHIRPath in invariants.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mappings.engine.json import dumps
from mappings.engine.views import functions as f
from mappings.engine.views import temporal
from mappings.engine.views.functions import FALSE, NOTHING, TRUE, Items, boolean, single, truth
from mappings.engine.views.syntax import At, Call, Infix, Name, Nothing, Syntax, This, Value, Variable, parse

UCUM = "http://unitsofmeasure.org"


class Around(NamedTuple):
    """What an expression may refer to: `%context`, `%resource`, and `%rootResource`, which contains it or is it."""

    context: Any
    resource: Any
    root: Any


Evaluate = Callable[[Items, Around], Items]
Build = Callable[["Compiler", Evaluate, tuple[Syntax, ...]], Evaluate]


class Compiler:
    """Compiles expressions of one FHIR version; `choices` are the JSON names of elements whose type is in the name."""

    def __init__(self, choices: dict[str, frozenset[str]]) -> None:
        self._choices = choices

    def compile(self, expression: str) -> Callable[[Any, Any, Any], bool | None]:
        """Return `(element, resource, root resource) → True, False or None`; raises `ValueError` for no expression."""
        evaluate = self.build(parse(expression))

        def decide(element: Any, resource: Any, root: Any) -> bool | None:
            try:
                return truth(evaluate([element], Around(element, resource, root)))
            except f.ManyItems:
                return None

        return decide

    def build(self, node: Syntax) -> Evaluate:  # noqa: PLR0911 - a case a kind of node
        """Return the closure of one node."""
        match node:
            case This():
                return lambda focus, _around: focus
            case Nothing():
                return lambda _focus, _around: NOTHING
            case Value(value):
                items = [value]
                return lambda _focus, _around: items
            case Variable(name):
                return _VARIABLES[name]
            case Name(base, name):
                return self._member(base, name)
            case At(base, position):
                items_of, at = self.build(base), self.build(position)
                return lambda focus, around: items_of(focus, around)[at(focus, around)[0] :][:1]
            case Call(base, name, arguments) if name in {"is", "as", "ofType"}:
                return self._typed(base, name, arguments[0])
            case Call(base, name, arguments):
                return FUNCTIONS[name](self, self.build(base), arguments)
            case Infix(operator, left, right):
                return _infix(operator, self.build(left), self.build(right))

    def _member(self, base: Syntax, name: str) -> Evaluate:
        choices = self._choices.get(name, frozenset())
        if isinstance(base, This):
            if name[0].isupper():
                return lambda focus, _around: [one for one in focus if _is_resource(one, name)]
            return lambda focus, _around: _children(focus, name, choices)
        items = self.build(base)
        return lambda focus, around: _children(items(focus, around), name, choices)

    def _typed(self, base: Syntax, name: str, kind: Syntax) -> Evaluate:
        """Return the items of a type: that is in their property's name, or they are resources that say it."""
        wanted = kind.name if isinstance(kind, Name) else ""
        items = self.build(base)
        suffix = wanted[:1].upper() + wanted[1:]
        under = self._member(base.base, base.name + suffix) if isinstance(base, Name) else None

        def of_type(focus: Items, around: Around) -> Items:
            return (under and under(focus, around)) or [
                one for one in items(focus, around) if _is_resource(one, wanted)
            ]

        if name != "is":
            return of_type
        return lambda focus, around: boolean(bool(of_type(focus, around))) if items(focus, around) else NOTHING


def _is_resource(item: Any, kind: str) -> bool:
    return isinstance(item, dict) and item.get("resourceType") == kind


def _children(items: Items, name: str, choices: frozenset[str]) -> Items:
    found: Items = []
    for item in items:
        if type(item) is dict:
            key: str | None = name
            if choices and name not in item and f"_{name}" not in item:
                key = next((one.removeprefix("_") for one in item if one.removeprefix("_") in choices), None)
            if key is not None:
                found += _at(item, key)
    return found


def _at(item: dict[str, Any], name: str) -> Items:
    """Return what stands under a name; of a primitive without a value the object that holds its extensions."""
    value = item.get(name)
    if type(value) is not list:
        other = item.get(f"_{name}") if value is None else value
        return [] if other is None else other if type(other) is list else [other]
    if None not in value:
        return value
    beside = item.get(f"_{name}") or []
    return [beside[i] if one is None and i < len(beside) else one for i, one in enumerate(value)]


def _descendants(items: Items) -> Iterator[Any]:
    for item in items:
        for value in item.values() if type(item) is dict else ():
            below = value if type(value) is list else [value]
            yield from below
            yield from _descendants(below)


_VARIABLES: dict[str, Evaluate] = {
    "context": lambda _focus, around: [around.context],
    "resource": lambda _focus, around: [around.resource],
    "rootResource": lambda _focus, around: [around.root],
    "ucum": lambda _focus, _around: [UCUM],
}


def _plain(work: Callable[[Items], Items]) -> Build:
    """Return a function of the collection alone."""
    return lambda _compiler, items, _arguments: lambda focus, around: work(items(focus, around))


def _each(work: Callable[[Any], Any]) -> Build:
    """Return a function of a single item that is empty for none."""

    def apply(items: Items) -> Items:
        value = single(items)
        found = None if value is None else work(value)
        return NOTHING if found is None else [found]

    return _plain(apply)


def _text(work: Callable[[str, str], Any]) -> Build:
    """Return a function of a text and one argument."""

    def build(compiler: Compiler, items: Evaluate, arguments: tuple[Syntax, ...]) -> Evaluate:
        argument = compiler.build(arguments[0])

        def apply(focus: Items, around: Around) -> Items:
            value, other = single(items(focus, around)), single(argument(focus, around))
            return [work(value, other)] if isinstance(value, str) and other is not None else NOTHING

        return apply

    return build


def _tested(work: Callable[[Items, Callable[[Any], bool | None]], Items]) -> Build:
    """Return a function with a criterion for each item; without one, every item meets it."""

    def build(compiler: Compiler, items: Evaluate, arguments: tuple[Syntax, ...]) -> Evaluate:
        if not arguments:
            return lambda focus, around: work(items(focus, around), lambda _item: True)
        criterion = compiler.build(arguments[0])
        return lambda focus, around: work(items(focus, around), lambda item: truth(criterion([item], around)))

    return build


def _projected(repeats: bool) -> Build:
    def build(compiler: Compiler, items: Evaluate, arguments: tuple[Syntax, ...]) -> Evaluate:
        each = compiler.build(arguments[0])

        def select(focus: Items, around: Around) -> Items:
            found = [value for item in items(focus, around) for value in each([item], around)]
            fresh = found
            while repeats and fresh:
                fresh = [value for item in fresh for value in each([item], around)]
                found = found + fresh
            return found

        return select

    return build


def _two(work: Callable[[Items, Items], Items]) -> Build:
    def build(compiler: Compiler, items: Evaluate, arguments: tuple[Syntax, ...]) -> Evaluate:
        other = compiler.build(arguments[0])
        return lambda focus, around: work(items(focus, around), other(focus, around))

    return build


def _iif(compiler: Compiler, items: Evaluate, arguments: tuple[Syntax, ...]) -> Evaluate:
    test, *ways = (compiler.build(argument) for argument in arguments)

    def choose(focus: Items, around: Around) -> Items:
        here = items(focus, around)
        way = ways[0] if truth(test(here, around)) else ways[1] if len(ways) > 1 else None
        return NOTHING if way is None else way(here, around)

    return choose


def _replaced(compiler: Compiler, items: Evaluate, arguments: tuple[Syntax, ...]) -> Evaluate:
    pattern, by = (compiler.build(argument) for argument in arguments)

    def replace(focus: Items, around: Around) -> Items:
        value = single(items(focus, around))
        if not isinstance(value, str):
            return NOTHING
        return [re.sub(single(pattern(focus, around)), single(by(focus, around)), value)]

    return replace


def _resolved(_compiler: Compiler, items: Evaluate, _arguments: tuple[Syntax, ...]) -> Evaluate:
    """Return the contained resources that references name; what stands elsewhere is not known here."""

    def resolve(focus: Items, around: Around) -> Items:
        wanted = {one.get("reference") if isinstance(one, dict) else one for one in items(focus, around)}
        contained = around.root.get("contained", []) if isinstance(around.root, dict) else []
        return [one for one in contained if isinstance(one, dict) and f"#{one.get('id')}" in wanted]

    return resolve


def _all(items: Items, test: Callable[[Any], bool | None]) -> Items:
    found = [test(item) for item in items]
    return FALSE if False in found else NOTHING if None in found else TRUE


FUNCTIONS: dict[str, Build] = {
    "empty": _plain(lambda items: FALSE if items else TRUE),
    "exists": _tested(lambda items, test: boolean(any(test(item) for item in items))),
    "hasValue": _plain(lambda items: boolean(len(items) == 1 and f.text(items[0]) is not None)),
    "not": _plain(lambda items: NOTHING if (value := truth(items)) is None else boolean(not value)),
    "count": _plain(lambda items: [len(items)]),
    "first": _plain(lambda items: items[:1]),
    "tail": _plain(lambda items: items[1:]),
    "distinct": _plain(f.distinct),
    "isDistinct": _plain(lambda items: boolean(len({dumps(item) for item in items}) == len(items))),
    "allTrue": _plain(lambda items: boolean(all(one is True for one in items))),
    "allFalse": _plain(lambda items: boolean(all(one is False for one in items))),
    "children": _plain(lambda items: [v for i in items if type(i) is dict for name in i for v in _at(i, name)]),
    "descendants": _plain(lambda items: list(_descendants(items))),
    "trace": lambda _compiler, items, _arguments: items,
    "toString": _each(f.text),
    "toInteger": _each(f.to_integer),
    "length": _each(lambda value: len(value) if isinstance(value, str) else None),
    "lowBoundary": _each(lambda value: f.decimal_boundary(value, -1) if f.is_number(value) else value),
    "highBoundary": _each(lambda value: f.decimal_boundary(value, 1) if f.is_number(value) else value),
    "substring": _text(lambda value, start: value[int(start) :]),
    "startsWith": _text(str.startswith),
    "endsWith": _text(str.endswith),
    "contains": _text(str.__contains__),
    "matches": _text(lambda value, pattern: re.search(pattern, value) is not None),
    "replaceMatches": _replaced,
    "where": _tested(lambda items, test: [item for item in items if test(item)]),
    "all": _tested(_all),
    "select": _projected(repeats=False),
    "repeat": _projected(repeats=True),
    "combine": _two(lambda one, other: one + other),
    "intersect": _two(lambda one, other: [item for item in one if any(f.same(item, two) for two in other)]),
    "comparable": _two(lambda one, other: boolean(_order(single(one), single(other)) is not None)),
    "iif": _iif,
    "resolve": _resolved,
    "memberOf": lambda _compiler, _items, _arguments: lambda _focus, _around: NOTHING,
}


def _infix(operator: str, left: Evaluate, right: Evaluate) -> Evaluate:
    if operator in _LOGIC:
        decides, otherwise = _LOGIC[operator]

        def logic(focus: Items, around: Around) -> Items:
            one = truth(left(focus, around))
            return decides[one] if one in decides else otherwise(one, truth(right(focus, around)))

        return logic
    work = _OPERATORS[operator]
    return lambda focus, around: work(left(focus, around), right(focus, around))


def _or(one: bool | None, other: bool | None) -> Items:
    return TRUE if other else NOTHING if one is None or other is None else FALSE


def _and(one: bool | None, other: bool | None) -> Items:
    return FALSE if other is False else NOTHING if one is None or other is None else TRUE


_LOGIC: dict[str, tuple[dict[bool | None, Items], Callable[[bool | None, bool | None], Items]]] = {
    "or": ({True: TRUE}, _or),
    "and": ({False: FALSE}, _and),
    "implies": ({False: TRUE}, lambda one, other: _or(None if one is None else not one, other)),
    "xor": ({None: NOTHING}, lambda one, other: NOTHING if other is None else boolean(one is not other)),
}


def _order(one: Any, other: Any) -> int | None:
    """Return -1, 0 or 1 for two items; None where units, precision or zones leave it open."""
    if isinstance(one, dict) and isinstance(other, dict):
        if any(one.get(name) != other.get(name) for name in ("system", "code", "unit")):
            return None
        return _order(one.get("value"), other.get("value"))
    if isinstance(one, str) and isinstance(other, str) and one[19:] == other[19:] and len(one) == len(other):
        # the same precision and the same offset: the text itself is in order
        return (one > other) - (one < other)
    if temporal.is_temporal(one) and temporal.is_temporal(other):
        return _order_in_time(one, other)
    return f.order(one, other, temporally=temporal.span(one) is not None)


def _order_in_time(one: str, other: str) -> int | None:
    if ("T" in one) is ("T" in other):
        return temporal.compare(one, other)
    # a day is not the same hours everywhere, so only what is outside of it in every zone is before or after it
    if temporal.compare(_moment(one, 1), _moment(other, -1)) == -1:
        return -1
    return 1 if temporal.compare(_moment(one, -1), _moment(other, 1)) == 1 else None


def _moment(value: str, sign: int) -> Any:
    return value if "T" in value else f.boundary(value, "dateTime", sign)


def _ordering(wanted: frozenset[int]) -> Callable[[Items, Items], Items]:
    def compare(left: Items, right: Items) -> Items:
        found = _order(single(left), single(right))
        return NOTHING if found is None else boolean(found in wanted)

    return compare


def _equal(left: Items, right: Items) -> bool | None:
    return f.equal(left, right, temporally=False)


def _unequal(left: Items, right: Items) -> Items:
    found = _equal(left, right)
    return NOTHING if found is None else boolean(not found)


def _within(left: Items, right: Items) -> Items:
    return boolean(any(f.same(single(left), other) for other in right)) if left else NOTHING


def _joined(left: Items, right: Items) -> Items:
    return ["".join(f.text(part) or "" for part in (single(left), single(right)))]


def _sum(left: Items, right: Items) -> Items:
    value = f.arithmetic("+", single(left), single(right))
    return NOTHING if value is None else [value]


_OPERATORS: dict[str, Callable[[Items, Items], Items]] = {
    "=": lambda left, right: boolean(_equal(left, right)),
    "!=": _unequal,
    "<": _ordering(frozenset({-1})),
    "<=": _ordering(frozenset({-1, 0})),
    ">": _ordering(frozenset({1})),
    ">=": _ordering(frozenset({0, 1})),
    "in": _within,
    "contains": lambda left, right: _within(right, left),
    "|": lambda left, right: f.distinct(left + right),
    "&": _joined,
    "+": _sum,
}
