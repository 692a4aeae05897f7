"""Turns an invariant into a JSON Schema that is met only where the invariant holds beyond doubt.

What JSON Schema can say of the elements that are there decides most invariants of most resources inside the engine;
what it cannot (`start <= end`) is in doubt as soon as all of it is there, and then the expression itself is run.
`False` is the schema of what is always in doubt, `True` of what never is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mappings.engine.views.syntax import Call, Infix, Name, Syntax, This, Value, parse
from tasks.validate.structure import Shape, Structure

Schema = dict[str, Any] | bool

_OF_NOTHING_EMPTY = frozenset({
    "where", "select", "repeat", "first", "tail", "substring", "resolve", "toInteger", "toString", "trace", "matches",
    "startsWith", "endsWith", "contains", "lowBoundary", "highBoundary", "ofType", "as", "is", "not", "memberOf",
    "comparable", "length", "replaceMatches",
})  # fmt: skip
_OF_NOTHING_TRUE = frozenset({"empty", "all", "isDistinct", "allTrue", "allFalse"})
_OF_NOTHING_FALSE = frozenset({"exists", "hasValue"})
_COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">=", "in"})
_LOGIC = frozenset({"and", "or", "implies", "xor"})


def surely(expression: str, kind: str, shape: Shape) -> Schema:
    """Return the schema of those objects of a type for which an expression is surely not false."""
    # some expressions begin with the type's name, which says nothing more
    return _Translator(shape).never(parse(expression.replace(f"{kind}.", "")), value=False)


def beyond_doubt(structure: Structure, kind: str, but: Sequence[str] = ()) -> Schema:
    """Return the schema of the objects of a type that surely break none of its invariants, `but` left aside."""
    stated = structure.invariants(kind).items()
    return all_of(*(surely(text, kind, structure.shape(kind)) for key, text in stated if key not in but))


class _Translator:
    def __init__(self, shape: Shape) -> None:
        self._names: dict[str, list[str]] = {}
        for name, prop in shape.properties.items():
            both = [name, f"_{name}"] if prop.primitive else [name]
            self._names.setdefault(prop.element, []).extend(both)
        self._plain = {name for name, prop in shape.properties.items() if prop.primitive and not prop.many}

    def never(self, node: Syntax, value: bool) -> Schema:  # noqa: PLR0911 - a case a kind of node
        """Return the schema of where a node is surely not `value`: it is the opposite, or empty."""
        match node:
            case Infix(operator, left, right) if operator in _LOGIC:
                return self._logic(operator, left, right, value)
            case Call(base, "not", ()):
                return self.never(base, not value)
            case Call(base, _, _) if (root := self._root(base)) is not None:
                return any_of(self._by_presence(node, root, value), self._by_text(node, value))
            case Infix("=" | "!=" as operator, left, right) if _two_valued(left) and _two_valued(right):
                return self._differ(left, right, same=(operator == "=") is not value)
            case Infix(">", left, Value(0)) if (names := self._summed(left)) and not value:
                return any_of(*(self._present(name) for name in names))
            case Infix("<" | "<=", Call(base, "count", ()), Value()) if (root := self._root(base)) and not value:
                return self._absent(root)
            case Infix(operator, left, right) if operator in _COMPARISONS:
                roots = [root for side in (left, right) if (root := self._root(side)) is not None]
                return any_of(*(self._absent(root) for root in roots), self._by_text(node, value))
        return False

    def _logic(self, operator: str, left: Syntax, right: Syntax, value: bool) -> Schema:
        if operator == "xor":
            known = _two_valued(left) and _two_valued(right)
            return self._differ(left, right, same=value) if known else False
        first = self.never(left, not value if operator == "implies" else value)
        second = self.never(right, value)
        # of two with "and" the whole is not false where neither is, and not true where one is not; "or" mirrors it
        both = (operator == "and") is not value
        return all_of(first, second) if both else any_of(first, second)

    def _differ(self, left: Syntax, right: Syntax, same: bool) -> Schema:
        """Return where two nodes that are always true or false are surely the same, or surely not."""
        ways = [all_of(self.never(left, one), self.never(right, one if same else not one)) for one in (True, False)]
        return any_of(*ways)

    def _by_presence(self, node: Call, root: str, value: bool) -> Schema:
        # of `identifier.system` its first element alone says nothing
        simple = isinstance(node.base, Name) and isinstance(node.base.base, This) and not node.arguments
        if node.name in _OF_NOTHING_TRUE:
            if value and node.name == "empty" and simple:
                return self._present(root)
            return False if value else self._absent(root)
        if node.name in _OF_NOTHING_FALSE:
            if not value and simple:
                return (
                    {"required": [root]} if node.name == "hasValue" and root in self._plain else self._has(node, root)
                )
            return self._absent(root) if value else False
        return self._absent(root) if node.name in _OF_NOTHING_EMPTY else False

    def _has(self, node: Call, root: str) -> Schema:
        return self._present(root) if node.name == "exists" else False

    def _by_text(self, node: Syntax, value: bool) -> Schema:
        """Return where a comparison of one plain element with texts is surely not `value`."""
        match node:
            case Infix("=" | "!=" as operator, left, Value(str() as text)) if self._is_plain(left):
                return self._text(left, {"enum": [text]}, (operator == "=") is not value)
            case Infix("in", left, right) if self._is_plain(left) and (texts := _texts(right)):
                return self._text(left, {"enum": texts}, not value)
            case Call(base, "startsWith", (Value(str() as text),)) if self._is_plain(base) and text.isalnum():
                return self._text(base, {"pattern": f"^{text}"}, not value)
            case Call(base, "startsWith", (Value("#"),)) if self._is_plain(base):
                return self._text(base, {"pattern": "^#"}, not value)
        return False

    def _is_plain(self, node: Syntax) -> bool:
        return isinstance(node, Name) and isinstance(node.base, This) and node.name in self._plain

    def _text(self, node: Syntax, schema: Schema, meets: bool) -> Schema:
        assert isinstance(node, Name)  # noqa: S101 - what _is_plain says
        return {"properties": {node.name: schema if meets else {"not": schema}}}

    def _root(self, node: Syntax) -> str | None:
        """Return the element without which a path is empty."""
        while True:
            match node:
                case Name(This(), name):
                    return name if name in self._names else None
                case Name(base, _):
                    node = base
                case Call(base, name, _) if name in _OF_NOTHING_EMPTY:
                    node = base
                case _:
                    return None

    def _summed(self, node: Syntax) -> list[str]:
        """Return the elements that a sum of counts counts; none where it is anything else."""
        match node:
            case Call(Name(This(), name), "count", ()) if name in self._names:
                return [name]
            case Infix("+", left, right):
                first, second = self._summed(left), self._summed(right)
                return first + second if first and second else []
        return []

    def _present(self, name: str) -> Schema:
        ways: list[Schema] = [{"required": [one]} for one in self._names[name]]
        return any_of(*ways)

    def _absent(self, name: str) -> Schema:
        return {"properties": dict.fromkeys(self._names[name], False)}


def _two_valued(node: Syntax) -> bool:
    match node:
        case Call(Name(This(), _), "exists" | "empty", ()):
            return True
        case Call(base, "not", ()):
            return _two_valued(base)
        case Infix(operator, left, right) if operator in _LOGIC:
            return _two_valued(left) and _two_valued(right)
    return False


def _texts(node: Syntax) -> list[str]:
    match node:
        case Value(str() as text):
            return [text]
        case Infix("|", left, right):
            first, second = _texts(left), _texts(right)
            return first + second if first and second else []
    return []


def all_of(*schemas: Schema) -> Schema:
    """Return the schema of what meets all of them."""
    return _joined("allOf", schemas, decides=False)


def any_of(*schemas: Schema) -> Schema:
    """Return the schema of what meets one of them."""
    return _joined("anyOf", schemas, decides=True)


def _joined(word: str, schemas: tuple[Schema, ...], decides: bool) -> Schema:
    if decides in schemas:
        return decides
    open_ones = [one for schema in schemas if not isinstance(schema, bool) for one in _parts(word, schema)]
    if not open_ones:
        return not decides
    return open_ones[0] if len(open_ones) == 1 else {word: open_ones}


def _parts(word: str, schema: dict[str, Any]) -> list[dict[str, Any]]:
    return list(schema[word]) if schema.keys() == {word} else [schema]
