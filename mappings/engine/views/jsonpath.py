"""Conditions as jsonpath filters, where they mean the same there: much faster than unnesting an array.

A filter takes an element where its condition is true, so false and unknown need not be told apart: that holds for
comparisons, `exists()`, `and` and `or`, and not below `not()`, which is therefore not translated.
"""

from __future__ import annotations

from mappings.engine.views.nodes import Focus, Function, Literal, Member, Node, Operation
from mappings.engine.views.quoting import json_string


def condition(node: Node) -> str | None:
    """Return the jsonpath of a condition on `@`; None where jsonpath cannot say it."""
    if isinstance(node, Literal) and isinstance(node.value, bool):
        return "(1 == 1)" if node.value else "(1 == 0)"
    if isinstance(node, Function) and node.name == "exists":
        path = _path(node.base)
        return None if path is None else f"exists({path})"
    if isinstance(node, Operation):
        return _both(node) if node.operator in {"and", "or"} else _comparison(node)
    return None


def _both(node: Operation) -> str | None:
    left, right = condition(node.left), condition(node.right)
    if left is None or right is None:
        return None
    return f"({left} {'&&' if node.operator == 'and' else '||'} {right})"


def _comparison(node: Operation) -> str | None:
    if node.kind == "temporal" or node.operator not in {"=", "!="} or not isinstance(node.right, Literal):
        return None
    path = _path(node.left)
    if path is None or node.left.many:
        return None
    return f"({path} {'==' if node.operator == '=' else '!='} {_constant(node.right)})"


def _constant(node: Literal) -> str:
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    if isinstance(node.value, str):
        return json_string(node.value)
    return str(node.value) if isinstance(node.value, int) else f"{node.value:f}"


def _path(node: Node) -> str | None:
    names: list[str] = []
    while isinstance(node, Member) and len(node.keys) == 1:
        names.append(json_string(node.keys[0]))
        node = node.base
    return "@." + ".".join(reversed(names)) if isinstance(node, Focus) and names else None
