"""From a resolved path to a piece of Postgres SQL; works on Postgres 14 and later without extensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count as counter

from mappings.engine.views import fragments as f
from mappings.engine.views import moments
from mappings.engine.views.elements import NUMERIC, PRIMITIVE
from mappings.engine.views.fragments import Bool, Fragment, Items, Number, One, Path, Text
from mappings.engine.views.functions import KEY_LENGTH
from mappings.engine.views.jsonpath import condition
from mappings.engine.views.nodes import (
    Choose,
    Each,
    Empty,
    Filter,
    Focus,
    Function,
    Item,
    Literal,
    Member,
    Node,
    Operation,
    Root,
    RowIndex,
)
from mappings.engine.views.quoting import json_literal, json_string, literal

_KEY = r"(?:^|/)([A-Z][A-Za-z]+)/([A-Za-z0-9.-]+)(?:/_history/[A-Za-z0-9.-]+)?$"
_SMALL = r"^[+-]?\d{1,9}$"
_DECIMAL = r"^[+-]?\d+(\.\d+)?$"


@dataclass(frozen=True, slots=True)
class Here:
    """Where a path is evaluated: SQL for the item, the resource and the row index; `names` gives fresh aliases."""

    item: str
    resource: str
    index: str
    names: counter[int]

    def at(self, item: str, index: str | None = None) -> Here:
        """Return the same place with another item."""
        return Here(item, self.resource, index or self.index, self.names)

    def fresh(self, prefix: str) -> str:
        """Return an alias that nothing else in the query has."""
        return f"{prefix}{next(self.names)}"


def expression(node: Node, here: Here) -> Fragment:
    """Return the SQL of a resolved path at a place."""
    return _BUILDERS[type(node)](node, here)


def _member(node: Member, here: Here) -> Fragment:
    base = expression(node.base, here)
    if len(node.keys) > 1:
        return _choice(node, base, here)
    key = node.keys[0]
    if isinstance(base, One) and not node.many:
        return One(f"({base.text} -> {literal(key)})")
    nulls = node.type is None or node.type in PRIMITIVE
    if isinstance(base, Path):
        return Path(base.start, f"{base.path}.{json_string(key)}[*]", nulls)
    if isinstance(base, One | Items):
        return Path(base.text, f"$.{json_string(key)}[*]", nulls)
    return One("NULL::jsonb")


def _choice(node: Member, base: Fragment, here: Here) -> Fragment:
    if isinstance(base, One) and not node.many:
        return One("coalesce(" + ", ".join(f"{base.text} -> {literal(key)}" for key in node.keys) + ")")
    row = here.fresh("e")
    values = ", ".join(f"{row}.v -> {literal(key)}" for key in node.keys)
    return Items(
        f"(SELECT jsonb_agg(coalesce({values}) ORDER BY {row}.o) FILTER (WHERE coalesce({values}) IS NOT NULL) "
        f"FROM jsonb_array_elements({f.items(base)}) WITH ORDINALITY AS {row}(v, o))"
    )


def _item(node: Item, here: Here) -> Fragment:
    base = expression(node.base, here)
    if node.position == Literal(0, "integer"):
        return f.first(base)
    array = f.items(base)
    if isinstance(node.position, Literal):
        at = node.position.value
        return One(f"({array} -> {at})") if type(at) is int and at >= -1 else One("NULL::jsonb")
    position = f.number(expression(node.position, here))
    return One(f.bound(position, lambda v: f"CASE WHEN {v} BETWEEN 0 AND 2147483647 THEN {array} -> ({v})::int END"))


def _filter(node: Filter, here: Here) -> Fragment:
    base = expression(node.base, here)
    if isinstance(base, Path | Items):
        simple = condition(node.criteria)
        start, path = (base.start, base.path) if isinstance(base, Path) else (base.text, "$[*]")
        if simple is not None:
            return Path(start, f"{path} ? ({simple})", nulls=False)
        row = here.fresh("w")
        test = f.truth(expression(node.criteria, here.at(f"{row}.v")))
        return Items(
            f"(SELECT jsonb_agg({row}.v ORDER BY {row}.o) "
            f"FROM jsonb_array_elements({f.items(base)}) WITH ORDINALITY AS {row}(v, o) WHERE {test})"
        )
    value = f.jsonb(base)
    row = here.fresh("w")
    test = f.truth(expression(node.criteria, here.at(f"{row}.v")))
    return One(f"(SELECT {row}.v FROM (SELECT {value} AS v OFFSET 0) AS {row} WHERE {row}.v IS NOT NULL AND {test})")


def _each(node: Each, here: Here) -> Fragment:
    row, part = here.fresh("e"), here.fresh("p")
    inner = f.items(expression(node.projection, here.at(f"{row}.v")))
    return Items(
        f"(SELECT jsonb_agg({part}.v ORDER BY {row}.o, {part}.o) "
        f"FROM jsonb_array_elements({f.items(expression(node.base, here))}) WITH ORDINALITY AS {row}(v, o) "
        f"CROSS JOIN LATERAL jsonb_array_elements({inner}) WITH ORDINALITY AS {part}(v, o))"
    )


def _literal(node: Literal, _here: Here) -> Fragment:
    if isinstance(node.value, bool):
        return Bool("true" if node.value else "false")
    if isinstance(node.value, str):
        return Text(f"{literal(node.value)}::text")
    return (
        Number(f"({node.value:f})::numeric") if not isinstance(node.value, int) else Number(f"({node.value})::numeric")
    )


def _choose(node: Choose, here: Here) -> Fragment:
    test = f.truth(expression(node.condition, here))
    then, other = expression(node.then, here), expression(node.otherwise, here)
    if node.many:
        return Items(f"(CASE WHEN {test} THEN {f.items(then)} ELSE {f.items(other)} END)")
    return One(f"(CASE WHEN {test} THEN {f.jsonb(then)} ELSE {f.jsonb(other)} END)")


def _function(node: Function, here: Here) -> Fragment:
    base = expression(node.base, here)
    arguments = [expression(argument, here) for argument in node.arguments]
    return _FUNCTIONS[node.name](node, base, arguments, here)


def _text_function(template: str) -> Callable[[Node, Fragment, list[Fragment], Here], Fragment]:
    return lambda _node, base, _arguments, _here: Text(template.format(f.string(base)))


def _with_argument(use: Callable[[str, str], str]) -> Callable[[Node, Fragment, list[Fragment], Here], Fragment]:
    return lambda _node, base, arguments, _here: Bool(use(f.string(base), f.string(arguments[0])))


def _has_value(_node: Node, base: Fragment, _arguments: list[Fragment], _here: Here) -> Fragment:
    if not isinstance(base, Path | Items):
        return Bool(f"({f.any_text(base)} IS NOT NULL)")
    one = "jsonb_array_length({0}) = 1 AND jsonb_typeof({0} -> 0) NOT IN ('object', 'array')"
    return Bool(f.bound(f.items(base), lambda v: f"coalesce({one.format(v)}, false)"))


def _join(_node: Node, base: Fragment, arguments: list[Fragment], here: Here) -> Fragment:
    row = here.fresh("j")
    separator = f"coalesce({f.string(arguments[0])}, '')" if arguments else "''"
    return Text(
        f"(SELECT coalesce(string_agg({row}.v #>> '{{}}', {separator} ORDER BY {row}.o), '') "
        f"FROM jsonb_array_elements({f.items(base)}) WITH ORDINALITY AS {row}(v, o) "
        f"WHERE jsonb_typeof({row}.v) NOT IN ('object', 'array'))"
    )


def _distinct(_node: Node, base: Fragment, _arguments: list[Fragment], here: Here) -> Fragment:
    if not isinstance(base, Path | Items):
        return base
    row = here.fresh("d")
    return Items(
        f"(SELECT jsonb_agg({row}.v ORDER BY {row}.o) FROM (SELECT v, min(o) AS o "
        f"FROM jsonb_array_elements({f.items(base)}) WITH ORDINALITY AS q(v, o) GROUP BY v) AS {row})"
    )


def _to_number(shape: str) -> Callable[[Node, Fragment, list[Fragment], Here], Fragment]:
    def convert(_node: Node, base: Fragment, _arguments: list[Fragment], _here: Here) -> Fragment:
        def cases(v: str) -> str:
            truths = f"WHEN {v} = 'true' THEN 1 WHEN {v} = 'false' THEN 0"
            return f"CASE WHEN {v} ~ {literal(shape)} THEN ({v})::numeric {truths} END"

        return Number(f.bound(f.any_text(base), cases))

    return convert


def _boundary(node: Function, base: Fragment, _arguments: list[Fragment], _here: Here) -> Fragment:
    low, kind = node.name == "lowBoundary", node.base.type
    half = f"({{0}} {'-' if low else '+'} ('5e-' || (scale({{0}}) + 1))::numeric)"
    if kind in NUMERIC or isinstance(base, Number):
        return Number(f.bound(f.number(base), half.format))
    if kind is not None:
        return Text(moments.boundary(f.string(base), kind, low))
    moment = moments.boundary("(p.v #>> '{}')", None, low)
    return One(
        f"(SELECT CASE jsonb_typeof(p.v) WHEN 'number' THEN to_jsonb({half.format('(p.v)::numeric')}) "
        f"WHEN 'string' THEN to_jsonb({moment}) END FROM (SELECT {f.jsonb(base)} AS v OFFSET 0) AS p)"
    )


def _resource_key(_node: Node, base: Fragment, _arguments: list[Fragment], _here: Here) -> Fragment:
    if isinstance(base, Path):
        return Path(base.start, f"{base.path}.id", nulls=False)
    return Path(base.text, "$.id", nulls=False) if isinstance(base, Items) else One(f"({f.jsonb(base)} -> 'id')")


def _reference_key(node: Function, base: Fragment, _arguments: list[Fragment], here: Here) -> Fragment:
    wanted = str(node.arguments[0].value) if node.arguments and isinstance(node.arguments[0], Literal) else None
    if not isinstance(base, Path | Items):
        return Text(f.bound(f.jsonb(base), lambda v: _key(v, wanted)))
    row = here.fresh("k")
    return Items(
        f"(SELECT jsonb_agg({row}.k ORDER BY {row}.o) FROM (SELECT {_key('q.v', wanted)} AS k, q.o "
        f"FROM jsonb_array_elements({f.items(base)}) WITH ORDINALITY AS q(v, o)) AS {row} WHERE {row}.k IS NOT NULL)"
    )


def _key(reference: str, wanted: str | None) -> str:
    target = f"({reference} ->> 'reference')"
    found = f"regexp_match({target}, {literal(_KEY)})"
    typed = "" if wanted is None else f" AND k.m[1] = {literal(wanted)}"
    urn = "" if wanted is None else f" AND {reference} ->> 'type' = {literal(wanted)}"
    whole = f"(SELECT k.m[2] FROM (SELECT {found} AS m OFFSET 0) AS k WHERE length(k.m[2]) <= {KEY_LENGTH}{typed})"
    return (
        f"CASE {_quick_key(target, wanted)}WHEN starts_with({target}, 'urn:uuid:') "
        f"THEN CASE WHEN true{urn} THEN substr({target}, 10) END WHEN {target} IS NOT NULL THEN {whole} END"
    )


def _quick_key(target: str, wanted: str | None) -> str:
    """Return the case of `Type/id`, by far the most frequent, without a regular expression that remembers."""
    if wanted is None:
        return ""
    rest = f"substr({target}, {len(wanted) + 2})"
    plain = (
        f"{rest} !~ '[^A-Za-z0-9.-]' AND length({target}) BETWEEN {len(wanted) + 2} AND {len(wanted) + 1 + KEY_LENGTH}"
    )
    return f"WHEN starts_with({target}, {literal(wanted + '/')}) AND {plain} THEN {rest} "


_FUNCTIONS: dict[str, Callable[..., Fragment]] = {
    "exists": lambda _node, base, _arguments, _here: Bool(f.exists(base)),
    "empty": lambda _node, base, _arguments, _here: Bool(f"(NOT {f.exists(base)})"),
    "not": lambda _node, base, _arguments, _here: Bool(f"(NOT {f.truth(base)})"),
    "count": lambda _node, base, _arguments, _here: Number(f"({f.count(base)})::numeric"),
    "hasValue": _has_value,
    "join": _join,
    "distinct": _distinct,
    "length": lambda _node, base, _arguments, _here: Number(f"length({f.string(base)})::numeric"),
    "lower": _text_function("lower({})"),
    "upper": _text_function("upper({})"),
    "trim": _text_function("btrim({}, E' \\t\\n\\r\\f')"),
    "startsWith": _with_argument(lambda text, other: f"starts_with({text}, {other})"),
    "endsWith": _with_argument(lambda text, other: f"(right({text}, length({other})) = {other})"),
    "contains": _with_argument(lambda text, other: f"(position({other} in {text}) > 0)"),
    "toString": lambda _node, base, _arguments, _here: Text(f.any_text(base)),
    "toInteger": _to_number(_SMALL),
    "toDecimal": _to_number(_DECIMAL),
    "getResourceKey": _resource_key,
    "getReferenceKey": _reference_key,
    "lowBoundary": _boundary,
    "highBoundary": _boundary,
}


def _operation(node: Operation, here: Here) -> Fragment:
    left, right = expression(node.left, here), expression(node.right, here)
    if node.operator in _LOGIC:
        return Bool(_LOGIC[node.operator](f.truth(left), f.truth(right)))
    if node.operator in {"=", "!="}:
        equal = _equal(node, left, right)
        return Bool(f"(NOT {equal})" if node.operator == "!=" else equal)
    if node.operator in {"<", "<=", ">", ">="}:
        return Bool(_order(node, left, right))
    if node.operator in _OPERATIONS:
        return _OPERATIONS[node.operator](left, right, here)
    return Number(_arithmetic(node.operator, f.number(left), f.number(right)))


def _together(left: Fragment, right: Fragment, _here: Here) -> Fragment:
    return Items(f"(coalesce({f.items(left)}, '[]') || coalesce({f.items(right)}, '[]'))")


def _membership(left: Fragment, right: Fragment, here: Here) -> Fragment:
    row = here.fresh("i")
    found = f"EXISTS (SELECT FROM jsonb_array_elements({f.items(right)}) AS {row}(v) WHERE {row}.v = q.v)"
    value = f"(SELECT {f.jsonb(left)} AS v OFFSET 0) AS q"
    return Bool(f"(SELECT CASE WHEN q.v IS NOT NULL THEN {found} END FROM {value})")


def _concatenation(left: Fragment, right: Fragment, _here: Here) -> Fragment:
    return Text(f"(coalesce({f.any_text(left)}, '') || coalesce({f.any_text(right)}, ''))")


def _strict_concatenation(left: Fragment, right: Fragment, _here: Here) -> Fragment:
    return Text(f"({f.any_text(left)} || {f.any_text(right)})")


def _arithmetic(operator: str, left: str, right: str) -> str:
    if operator == "div":
        return f"div({left}, nullif({right}, 0))"
    if operator == "mod":
        return f"mod({left}, nullif({right}, 0))"
    if operator == "/":
        return f"trim_scale(round({left} / nullif({right}, 0), 8))"
    return f"({left} {operator} {right})"


def _equal(node: Operation, left: Fragment, right: Fragment) -> str:
    many = isinstance(left, Path | Items) or isinstance(right, Path | Items)
    if node.kind == "temporal":
        return _temporally_equal(left, right, many)
    if many:
        return f"(nullif({f.items(left)}, '[]') = nullif({f.items(right)}, '[]'))"
    if type(left) is type(right):
        return f"({left.text} = {right.text})"  # type: ignore[union-attr]
    sides = [
        json_literal(side.value) if isinstance(side, Literal) else f.jsonb(piece)
        for side, piece in ((node.left, left), (node.right, right))
    ]
    return f"({sides[0]} = {sides[1]})"


def _temporally_equal(left: Fragment, right: Fragment, many: bool) -> str:
    order = f"CASE WHEN l = r THEN 0 ELSE {moments.compare('p.l', 'p.r')} END".replace("l = r", "p.l = p.r", 1)
    if not many:
        one = f"(SELECT {f.string(left)} AS l, {f.string(right)} AS r OFFSET 0) AS p"
        return f"((SELECT {order} FROM {one}) = 0)"
    rows = "jsonb_array_elements_text(z.l), jsonb_array_elements_text(z.r)"
    judged = (
        "CASE WHEN bool_or(c.o <> 0) THEN false WHEN bool_or(c.o IS NULL) THEN NULL ELSE true END "
        f"FROM (SELECT {order} AS o FROM ROWS FROM ({rows}) AS p(l, r)) AS c"
    )
    return (
        "(SELECT CASE WHEN jsonb_array_length(z.l) <> jsonb_array_length(z.r) THEN false "
        f"WHEN jsonb_array_length(z.l) > 0 THEN (SELECT {judged}) END "
        f"FROM (SELECT nullif({f.items(left)}, '[]') AS l, nullif({f.items(right)}, '[]') AS r OFFSET 0) AS z "
        "WHERE z.l IS NOT NULL AND z.r IS NOT NULL)"
    )


def _order(node: Operation, left: Fragment, right: Fragment) -> str:
    if node.kind == "temporal":
        return f"({moments.compare(f.string(left), f.string(right))} {node.operator} 0)"
    if node.kind == "numeric" or Number in {type(left), type(right)}:
        return f"({f.number(left)} {node.operator} {f.number(right)})"
    if node.kind == "text" or Text in {type(left), type(right)}:
        return f'({f.string(left)} COLLATE "C" {node.operator} {f.string(right)} COLLATE "C")'
    numbers = f"{f.number(One('p.l'))} {node.operator} {f.number(One('p.r'))}"
    texts = f'{f.string(One("p.l"))} COLLATE "C" {node.operator} {f.string(One("p.r"))} COLLATE "C"'
    return (
        f"(SELECT CASE WHEN jsonb_typeof(p.l) = 'number' THEN {numbers} ELSE {texts} END "
        f"FROM (SELECT {f.jsonb(left)} AS l, {f.jsonb(right)} AS r OFFSET 0) AS p)"
    )


_OPERATIONS: dict[str, Callable[[Fragment, Fragment, Here], Fragment]] = {
    "|": _together,
    "in": _membership,
    "&": _concatenation,
    "concat": _strict_concatenation,
}
_LOGIC: dict[str, Callable[[str, str], str]] = {
    "and": lambda left, right: f"({left} AND {right})",
    "or": lambda left, right: f"({left} OR {right})",
    "xor": lambda left, right: f"({left} <> {right})",
    "implies": lambda left, right: f"((NOT {left}) OR {right})",
    "istrue": lambda left, _right: f"({left} IS TRUE)",
}
_BUILDERS: dict[type, Callable[..., Fragment]] = {
    Focus: lambda _node, here: One(here.item),
    Root: lambda _node, here: One(here.resource),
    RowIndex: lambda _node, here: Number(f"({here.index})::numeric"),
    Empty: lambda _node, _here: One("NULL::jsonb"),
    Literal: _literal,
    Member: _member,
    Item: _item,
    Filter: _filter,
    Each: _each,
    Choose: _choose,
    Function: _function,
    Operation: _operation,
}
