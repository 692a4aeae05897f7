"""From a resolved path to Python closures: `(item, environment) → items`, all decisions taken beforehand.

The environment is (resource, row index). A collection is a list and is never changed by whoever receives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.engine.views import functions as f
from mappings.engine.views.functions import FALSE, NOTHING, TRUE, Items, ManyItems, single, truth
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

Environment = tuple[Any, int]
Evaluate = Callable[[Any, Environment], Items]
Scalar = Callable[[Any, Environment], Any]


def compile_items(node: Node) -> Evaluate:
    """Return the closure that gives the path's items."""
    return _BUILDERS[type(node)](node)


def _constant(items: Items) -> Evaluate:
    return lambda _this, _env: items


def _each(node: Each) -> Evaluate:
    items, each = compile_items(node.base), compile_items(node.projection)
    return lambda this, env: [value for item in items(this, env) for value in each(item, env)]


def _choose(node: Choose) -> Evaluate:
    test, yes, no = (compile_items(part) for part in (node.condition, node.then, node.otherwise))
    return lambda this, env: yes(this, env) if truth(test(this, env)) is True else no(this, env)


def compile_scalar(node: Node) -> Scalar:
    """Return the closure that gives the path's only item or None; it raises `ManyItems` where there are more."""
    chain = _chain(node)
    if chain is not None and isinstance(chain[0], Focus):
        return _scalar_chain(chain[1], compile_items(node))
    if isinstance(node, Item) and node.position == Literal(0, "integer") and isinstance(node.base, Filter | Member):
        return _first(compile_items(node.base))
    if isinstance(node, Function) and not node.many:
        if node.name == "getReferenceKey":
            base, wanted = compile_scalar(node.base), _wanted(node)
            return lambda this, env: f.reference_key(base(this, env), wanted)
        if node.name == "getResourceKey" and isinstance(node.base, Focus):
            return lambda this, _env: this.get("id") if type(this) is dict else None
    return _only(compile_items(node))


def _first(items: Evaluate) -> Scalar:
    def first(this: Any, env: Environment) -> Any:
        found = items(this, env)
        return found[0] if found else None

    return first


def _only(items: Evaluate) -> Scalar:
    def only(this: Any, env: Environment) -> Any:
        found = items(this, env)
        if len(found) > 1:
            raise ManyItems
        return found[0] if found else None

    return only


def _chain(node: Node) -> tuple[Node, tuple[str, ...]] | None:
    """Return a plain a.b.c as where it starts and its names."""
    names: list[str] = []
    while isinstance(node, Member) and len(node.keys) == 1:
        names.append(node.keys[0])
        node = node.base
    return (node, tuple(reversed(names))) if names else None


def _scalar_chain(names: tuple[str, ...], general: Evaluate) -> Scalar:
    first, rest = names[0], names[1:]

    def one(this: Any, env: Environment) -> Any:
        value = this.get(first) if type(this) is dict else None
        return value if type(value) is not list else single(general(this, env))

    def walk(this: Any, env: Environment) -> Any:
        value = this.get(first) if type(this) is dict else None
        for name in rest:
            if value is None:
                return None
            if type(value) is not dict:
                return single(general(this, env))
            value = value.get(name)
        return value if type(value) is not list else single(general(this, env))

    return walk if rest else one


def _gather(items: Items, name: str) -> Items:
    found: Items = []
    for item in items:
        if type(item) is dict:
            value = item.get(name)
            if value is None:
                continue
            if type(value) is list:
                found.extend(value if None not in value else [one for one in value if one is not None])
            else:
                found.append(value)
    return found


def _member(node: Member) -> Evaluate:
    chain = _chain(node)
    if chain is None:
        base, keys = compile_items(node.base), node.keys
        return lambda this, env: [value for item in base(this, env) for value in _chosen(item, keys)]
    start, names = chain
    if isinstance(start, Focus):
        return _from_focus(names)
    items = compile_items(start)

    def walk(this: Any, env: Environment) -> Items:
        found = items(this, env)
        for name in names:
            if not found:
                return NOTHING
            found = _gather(found, name)
        return found

    return walk


def _chosen(item: Any, keys: tuple[str, ...]) -> Items:
    """Return what stands under the first of a choice's names that is there."""
    return next((found for key in keys if (found := _gather([item], key))), NOTHING)


def _from_focus(names: tuple[str, ...]) -> Evaluate:
    def walk(this: Any, _env: Environment) -> Items:
        found = [this]
        for name in names:
            found = _gather(found, name)
            if not found:
                return NOTHING
        return found

    return walk


def _item(node: Item) -> Evaluate:
    items, position = compile_items(node.base), compile_items(node.position)

    def pick(this: Any, env: Environment) -> Items:
        found, at = items(this, env), single(position(this, env))
        if not found or type(at) is not int or at >= len(found) or at < -1:
            return NOTHING
        return [found[at]]

    if node.position == Literal(0, "integer"):
        return lambda this, env: items(this, env)[:1]
    return pick


def _filter(node: Filter) -> Evaluate:
    items, test = compile_items(node.base), compile_test(node.criteria)
    return lambda this, env: [item for item in items(this, env) if test(item, env) is True]


def compile_test(node: Node) -> Callable[[Any, Environment], bool | None]:
    """Return the closure that gives the path as a condition: True, False or None."""
    if isinstance(node, Operation) and node.operator == "=" and isinstance(node.right, Literal) and node.kind == "text":
        wanted = node.right.value
        chain = _chain(node.left)
        if chain is not None and isinstance(chain[0], Focus) and len(chain[1]) == 1 and not node.left.many:
            name = chain[1][0]
            return lambda this, _env: type(this) is dict and this.get(name) == wanted
    evaluate = compile_items(node)
    return lambda this, env: truth(evaluate(this, env))


def _function(node: Function) -> Evaluate:
    items = compile_items(node.base)
    if node.name in _COLLECTIONS:
        work = _COLLECTIONS[node.name]
        return lambda this, env: work(items(this, env))
    if node.name in f.UNARY:
        return _unary(items, f.UNARY[node.name])
    return _FUNCTIONS[node.name](node, items, [compile_items(argument) for argument in node.arguments])


def _boundary(node: Function, items: Evaluate, _arguments: list[Evaluate]) -> Evaluate:
    kind, sign = node.base.type, -1 if node.name == "lowBoundary" else 1
    return _unary(items, lambda value: f.boundary(value, kind, sign))


def _resource_key(_node: Function, items: Evaluate, _arguments: list[Evaluate]) -> Evaluate:
    return lambda this, env: [item["id"] for item in items(this, env) if type(item) is dict and "id" in item]


def _reference_key(node: Function, items: Evaluate, _arguments: list[Evaluate]) -> Evaluate:
    wanted = _wanted(node)
    return lambda this, env: [key for item in items(this, env) if (key := f.reference_key(item, wanted)) is not None]


def _wanted(node: Function) -> str | None:
    return next((str(one.value) for one in node.arguments if isinstance(one, Literal)), None)


_COLLECTIONS: dict[str, Callable[[Items], Items]] = {
    "exists": lambda items: TRUE if items else FALSE,
    "empty": lambda items: FALSE if items else TRUE,
    "count": lambda items: [len(items)],
    "distinct": f.distinct,
    "not": lambda items: NOTHING if (value := truth(items)) is None else f.boolean(not value),
    "hasValue": lambda items: f.boolean(len(items) == 1 and f.text(items[0]) is not None),
}


def _unary(items: Evaluate, work: Callable[[Any], Any]) -> Evaluate:
    def apply(this: Any, env: Environment) -> Items:
        value = single(items(this, env))
        found = None if value is None else work(value)
        return NOTHING if found is None else [found]

    return apply


def _binary(node: Function, items: Evaluate, arguments: list[Evaluate]) -> Evaluate:
    work, argument = f.BINARY[node.name], arguments[0]

    def apply(this: Any, env: Environment) -> Items:
        value, other = single(items(this, env)), single(argument(this, env))
        if not isinstance(value, str) or not isinstance(other, str):
            return NOTHING
        return TRUE if work(value, other) else FALSE

    return apply


def _join(_node: Function, items: Evaluate, arguments: list[Evaluate]) -> Evaluate:
    def apply(this: Any, env: Environment) -> Items:
        separator = single(arguments[0](this, env)) if arguments else ""
        return [str(separator or "").join(t for item in items(this, env) if (t := f.text(item)) is not None)]

    return apply


def _operation(node: Operation) -> Evaluate:
    left, right = compile_items(node.left), compile_items(node.right)
    if node.operator in _LOGIC:
        return _logic(left, right, _LOGIC[node.operator])
    if node.operator in _ORDERS:
        return _ordering(left, right, node.kind == "temporal", _ORDERS[node.operator])
    return _OPERATIONS.get(node.operator, _calculation)(node, left, right)


def _is_true(_node: Operation, left: Evaluate, _right: Evaluate) -> Evaluate:
    return lambda this, env: f.boolean(truth(left(this, env)) is True)


def _together(_node: Operation, left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda this, env: left(this, env) + right(this, env)


def _calculation(node: Operation, left: Evaluate, right: Evaluate) -> Evaluate:
    operator = node.operator

    def calculate(this: Any, env: Environment) -> Items:
        value = f.arithmetic(operator, single(left(this, env)), single(right(this, env)))
        return NOTHING if value is None else [value]

    return calculate


def _and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return True if left and right else None


def _or(left: bool | None, right: bool | None) -> bool | None:
    if left or right:
        return True
    return None if left is None or right is None else False


_LOGIC: dict[str, Callable[[bool | None, bool | None], bool | None]] = {
    "and": _and,
    "or": _or,
    "xor": lambda left, right: None if left is None or right is None else left is not right,
    "implies": lambda left, right: _or(None if left is None else not left, right),
}
_ORDERS: dict[str, frozenset[int]] = {
    "<": frozenset({-1}), "<=": frozenset({-1, 0}), ">": frozenset({1}), ">=": frozenset({0, 1}),
}  # fmt: skip


def _logic(left: Evaluate, right: Evaluate, work: Callable[[bool | None, bool | None], bool | None]) -> Evaluate:
    return lambda this, env: f.boolean(work(truth(left(this, env)), truth(right(this, env))))


def _equality(node: Operation, left: Evaluate, right: Evaluate) -> Evaluate:
    temporally, negate = node.kind == "temporal", node.operator == "!="

    def compare(this: Any, env: Environment) -> Items:
        found = f.equal(left(this, env), right(this, env), temporally)
        return NOTHING if found is None else TRUE if found is not negate else FALSE

    return compare


def _ordering(left: Evaluate, right: Evaluate, temporally: bool, wanted: frozenset[int]) -> Evaluate:
    def compare(this: Any, env: Environment) -> Items:
        one, other = single(left(this, env)), single(right(this, env))
        found = None if one is None or other is None else f.order(one, other, temporally)
        return NOTHING if found is None else TRUE if found in wanted else FALSE

    return compare


def _membership(_node: Operation, one: Evaluate, all_: Evaluate) -> Evaluate:
    def search(this: Any, env: Environment) -> Items:
        value = single(one(this, env))
        return NOTHING if value is None else f.boolean(any(f.same(value, other) for other in all_(this, env)))

    return search


def _concatenation(node: Operation, left: Evaluate, right: Evaluate) -> Evaluate:
    strict = node.operator == "concat"

    def join(this: Any, env: Environment) -> Items:
        parts = [None if (v := single(side(this, env))) is None else f.text(v) for side in (left, right)]
        return NOTHING if strict and None in parts else ["".join(part or "" for part in parts)]

    return join


_FUNCTIONS: dict[str, Callable[[Function, Evaluate, list[Evaluate]], Evaluate]] = {
    "lowBoundary": _boundary,
    "highBoundary": _boundary,
    "getResourceKey": _resource_key,
    "getReferenceKey": _reference_key,
    "join": _join,
    **dict.fromkeys(f.BINARY, _binary),
}
_OPERATIONS: dict[str, Callable[[Operation, Evaluate, Evaluate], Evaluate]] = {
    "=": _equality,
    "!=": _equality,
    "istrue": _is_true,
    "|": _together,
    "in": _membership,
    "&": _concatenation,
    "concat": _concatenation,
}
_BUILDERS: dict[type, Callable[[Any], Evaluate]] = {
    Focus: lambda _node: lambda this, _env: NOTHING if this is None else [this],
    Root: lambda _node: lambda _this, env: [env[0]],
    RowIndex: lambda _node: lambda _this, env: [env[1]],
    Empty: lambda _node: _constant(NOTHING),
    Literal: lambda node: _constant([node.value]),
    Member: _member,
    Item: _item,
    Filter: _filter,
    Each: _each,
    Choose: _choose,
    Function: _function,
    Operation: _operation,
}
