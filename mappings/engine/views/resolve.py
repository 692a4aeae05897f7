"""From a path's text to its resolved tree: names become typed elements, constants become literals.

Source: SQL on FHIR v2, "Supported FHIRPath functionality"; FHIRPath N1, chapter 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mappings.engine.views import syntax as s
from mappings.engine.views.elements import (
    NUMERIC,
    PRIMITIVE,
    TEMPORAL,
    TEXTUAL,
    choice_key,
    conforms,
    element,
    is_resource,
    known_type,
    meant,
)
from mappings.engine.views.errors import ViewError
from mappings.engine.views.nodes import (
    Choose,
    Comparison,
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


@dataclass(frozen=True, slots=True)
class Unknown:
    """An element that a path names and FHIR R4 does not have."""

    path: str
    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.path}: FHIR R4's {self.type} has no {self.name}"


@dataclass(frozen=True, slots=True)
class Mistyped(Unknown):
    """A resource type that FHIR R4 does not have, and `name`, which it has."""

    def __str__(self) -> str:
        return f"{self.path}: FHIR R4 has no {self.type} (did you mean {self.name}?)"


@dataclass(slots=True)
class Scope:
    """What the paths of one view have in common; `unknown` grows as they are resolved."""

    resource: str
    constants: Mapping[str, Literal]
    unknown: list[Unknown] = field(default_factory=list)

    def __post_init__(self) -> None:
        if name := meant(self.resource):
            self.unknown.append(Mistyped("resource", self.resource, name))

    def resolve(self, text: object, place: str, focus: Focus) -> Node:
        """Return the tree of the path `text` at `place`; raises `ViewError` where it is none."""
        if not isinstance(text, str) or not text.strip():
            raise ViewError(place, "a FHIRPath expression is wanted here, as a string")
        try:
            return _Resolver(self, place).visit(s.parse(text), focus)
        except ValueError as error:
            if isinstance(error, ViewError):
                raise
            raise ViewError(place, str(error)) from None


_SIGNATURES: dict[str, tuple[tuple[int, ...], str | None]] = {
    "empty": ((0,), "boolean"),
    "not": ((0,), "boolean"),
    "count": ((0,), "integer"),
    "hasValue": ((0,), "boolean"),
    "join": ((0, 1), "string"),
    "length": ((0,), "integer"),
    "lower": ((0,), "string"),
    "upper": ((0,), "string"),
    "trim": ((0,), "string"),
    "startsWith": ((1,), "boolean"),
    "endsWith": ((1,), "boolean"),
    "contains": ((1,), "boolean"),
    "toString": ((0,), "string"),
    "toInteger": ((0,), "integer"),
    "toDecimal": ((0,), "decimal"),
    "getResourceKey": ((0,), "string"),
    "getReferenceKey": ((0, 1), "string"),
    "lowBoundary": ((0,), None),
    "highBoundary": ((0,), None),
}
_ITEMWISE = frozenset({"getReferenceKey", "getResourceKey"})
_LOGIC = frozenset({"and", "or", "xor", "implies"})
_COMPARISON = frozenset({"<", ">", "<=", ">="})


class _Resolver:
    def __init__(self, scope: Scope, place: str) -> None:
        self.scope = scope
        self.place = place
        self.kinds: dict[type, Callable[[Any, Focus], Node]] = {
            s.Nothing: lambda _tree, _focus: Empty(),
            s.Value: lambda tree, _focus: Literal(tree.value, tree.type),
            s.Variable: lambda tree, _focus: self.variable(tree.name),
            s.Name: self.name,
            s.At: self.at,
            s.Call: self.call,
            s.Infix: self.infix,
        }
        self.special: dict[str, Callable[[s.Call, Focus], Node]] = {
            "where": self.where, "exists": self.exists, "all": self.all, "select": self.select, "first": self.first,
            "last": self.first, "ofType": self.of_type, "as": self.of_type, "is": self.is_type, "iif": self.iif,
            "extension": self.extension, "distinct": self.distinct, "getReferenceKey": self.reference_key,
        }  # fmt: skip

    def visit(self, tree: s.Syntax, focus: Focus) -> Node:
        if isinstance(tree, s.This):
            return focus
        return self.kinds[type(tree)](tree, focus)

    def at(self, tree: s.At, focus: Focus) -> Node:
        found = self.visit(tree.base, focus)
        return Item(found, self.visit(tree.position, focus), found.type)

    def variable(self, name: str) -> Node:
        if name == "rowIndex":
            return RowIndex()
        if name in {"resource", "context", "rootResource"}:
            return Root(self.scope.resource)
        if name in self.scope.constants:
            return self.scope.constants[name]
        known = ", ".join(sorted(self.scope.constants)) or "none"
        raise ViewError(self.place, f"constant {name!r} is not defined (defined: {known})")

    def name(self, tree: s.Name, focus: Focus) -> Node:
        if isinstance(tree.base, s.This) and tree.name[0].isupper() and tree.name in {focus.type, "Resource"}:
            return focus
        if tree.name == "extension" and isinstance(tree.base, s.Name):
            base = self.with_extensions(tree.base, focus)
        else:
            base = self.visit(tree.base, focus)
        return self.member(base, tree.name)

    def with_extensions(self, tree: s.Name, focus: Focus) -> Node:
        """Return where an element's extensions stand: a primitive's are in its neighbour with an underscore."""
        found = self.visit(tree, focus)
        if isinstance(found, Member) and found.type in PRIMITIVE:
            return Member(found.base, tuple(f"_{key}" for key in found.keys), "Element", found.many)
        return found

    def member(self, base: Node, name: str) -> Node:
        if isinstance(base, Empty):
            return base
        known = element(base.type, name)
        if known is None:
            if name != "resourceType" and (known_type(base.type) or base.type in PRIMITIVE):
                self.scope.unknown.append(Unknown(self.place, str(base.type), name))
            return Member(
                base, (name,), "code" if name == "resourceType" else None, name != "resourceType" or base.many
            )
        many = base.many or known.many
        if len(known.types) > 1:
            return Member(base, tuple(choice_key(name, kind) for kind in known.types), None, many)
        return Member(base, (name,), known.types[0], many)

    def call(self, tree: s.Call, focus: Focus) -> Node:
        if tree.name in self.special:
            return self.special[tree.name](tree, focus)
        if tree.name not in _SIGNATURES:
            names = ", ".join(sorted({*_SIGNATURES, *self.special}))
            raise ViewError(self.place, f"function {tree.name}() is not supported (supported: {names})")
        counts, kind = _SIGNATURES[tree.name]
        self.arguments(tree, *counts)
        base = self.visit(tree.base, focus)
        arguments = tuple(self.visit(argument, focus) for argument in tree.arguments)
        if tree.name in {"lowBoundary", "highBoundary"}:
            kind = "decimal" if base.type in NUMERIC else base.type
        return Function(tree.name, base, arguments, kind, tree.name in _ITEMWISE and base.many)

    def arguments(self, tree: s.Call, *counts: int) -> None:
        if len(tree.arguments) not in counts:
            wanted = " or ".join(map(str, counts))
            raise ViewError(self.place, f"{tree.name}() takes {wanted} arguments, not {len(tree.arguments)}")

    def where(self, tree: s.Call, focus: Focus) -> Node:
        self.arguments(tree, 1)
        return self.filter(self.visit(tree.base, focus), tree.arguments[0])

    def filter(self, base: Node, criteria: s.Syntax) -> Node:
        return Filter(base, self.visit(criteria, Focus(base.type)), base.type, base.many)

    def exists(self, tree: s.Call, focus: Focus) -> Node:
        self.arguments(tree, 0, 1)
        base = self.visit(tree.base, focus)
        base = self.filter(base, tree.arguments[0]) if tree.arguments else base
        return Function("exists", base, (), "boolean")

    def all(self, tree: s.Call, focus: Focus) -> Node:
        self.arguments(tree, 1)
        base = self.visit(tree.base, focus)
        fits = Operation("istrue", self.visit(tree.arguments[0], Focus(base.type)), Empty(), "boolean")
        return Function(
            "empty", Filter(base, Function("not", fits, (), "boolean"), base.type, base.many), (), "boolean"
        )

    def select(self, tree: s.Call, focus: Focus) -> Node:
        self.arguments(tree, 1)
        base = self.visit(tree.base, focus)
        projection = self.visit(tree.arguments[0], Focus(base.type))
        return Each(base, projection, projection.type, base.many or projection.many)

    def first(self, tree: s.Call, focus: Focus) -> Node:
        self.arguments(tree, 0)
        base = self.visit(tree.base, focus)
        return Item(base, Literal(0 if tree.name == "first" else -1, "integer"), base.type)

    def distinct(self, tree: s.Call, focus: Focus) -> Node:
        self.arguments(tree, 0)
        base = self.visit(tree.base, focus)
        return Function("distinct", base, (), base.type, base.many)

    def iif(self, tree: s.Call, focus: Focus) -> Node:
        self.arguments(tree, 2, 3)
        condition, then = (self.visit(argument, focus) for argument in tree.arguments[:2])
        other = self.visit(tree.arguments[2], focus) if len(tree.arguments) == 3 else Empty()
        kind = then.type if isinstance(other, Empty) or other.type == then.type else None
        return Choose(condition, then, other, kind, then.many or other.many)

    def extension(self, tree: s.Call, focus: Focus) -> Node:
        self.arguments(tree, 1)
        criteria = s.Infix("=", s.Name(s.This(), "url"), tree.arguments[0])
        return self.filter(self.name(s.Name(tree.base, "extension"), focus), criteria)

    def reference_key(self, tree: s.Call, focus: Focus) -> Node:
        self.arguments(tree, 0, 1)
        base = self.visit(tree.base, focus)
        arguments = (Literal(self.type_argument(tree), "string"),) if tree.arguments else ()
        return Function("getReferenceKey", base, arguments, "string", base.many)

    def type_argument(self, tree: s.Call) -> str:
        self.arguments(tree, 1)
        argument = tree.arguments[0]
        if isinstance(argument, s.Name) and (
            isinstance(argument.base, s.This) or argument.base in {s.Name(s.This(), "FHIR"), s.Name(s.This(), "System")}
        ):
            system = argument.base == s.Name(s.This(), "System")
            return argument.name[0].lower() + argument.name[1:] if system else argument.name
        raise ViewError(self.place, f"{tree.name}() takes the name of a type")

    def of_type(self, tree: s.Call, focus: Focus) -> Node:
        wanted = self.type_argument(tree)
        if is_resource(wanted):
            base = self.visit(tree.base, focus)
            is_wanted = Operation(
                "=",
                Member(Focus(None), ("resourceType",), "code", many=False),
                Literal(wanted, "code"),
                "boolean",
                "text",
            )
            return Filter(base, is_wanted, wanted, base.many)
        if isinstance(tree.base, s.Name):
            return self.choice(tree.base, wanted, focus)
        base = self.visit(tree.base, focus)
        if base.type is None:
            raise ViewError(self.place, f"ofType({wanted}) must follow the element whose type it chooses")
        return base if conforms(base.type, wanted) else Empty()

    def choice(self, tree: s.Name, wanted: str, focus: Focus) -> Node:
        base = self.visit(tree.base, focus)
        known = element(base.type, tree.name)
        if known is not None and len(known.types) == 1:
            found = self.member(base, tree.name)
            return found if conforms(known.types[0], wanted) else Empty()
        if (known is None and known_type(base.type)) or (known is not None and wanted not in known.types):
            self.scope.unknown.append(Unknown(self.place, str(base.type), f"{tree.name}.ofType({wanted})"))
        many = base.many or known is None or known.many
        return Member(base, (choice_key(tree.name, wanted),), wanted, many)

    def is_type(self, tree: s.Call, focus: Focus) -> Node:
        return Function("exists", self.of_type(tree, focus), (), "boolean")

    def infix(self, tree: s.Infix, focus: Focus) -> Node:
        left, right = self.visit(tree.left, focus), self.visit(tree.right, focus)
        operator = tree.operator
        if operator in _LOGIC:
            return Operation(operator, left, right, "boolean")
        if operator in {"=", "!="} or operator in _COMPARISON:
            return Operation(operator, left, right, "boolean", _comparison(left.type, right.type))
        if operator in {"in", "contains"}:
            one, all_ = (left, right) if operator == "in" else (right, left)
            return Operation("in", one, all_, "boolean")
        if operator == "|":
            kind = left.type if left.type == right.type else None
            return Function("distinct", Operation("|", left, right, kind, many=True), (), kind, many=True)
        if operator == "&" or (operator == "+" and (left.type in TEXTUAL or right.type in TEXTUAL)):
            return Operation("&" if operator == "&" else "concat", left, right, "string")
        kinds = {left.type, right.type}
        whole = operator in {"div", "mod"} or (operator != "/" and kinds <= NUMERIC - {"decimal"})
        return Operation(operator, left, right, "integer" if whole and "decimal" not in kinds else "decimal")


def _comparison(left: str | None, right: str | None) -> Comparison:
    if left in TEMPORAL or right in TEMPORAL:
        return "temporal"
    if left in NUMERIC and right in NUMERIC:
        return "numeric"
    if left in TEXTUAL and right in TEXTUAL:
        return "text"
    return "unknown"
