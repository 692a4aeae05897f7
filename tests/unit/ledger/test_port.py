"""The port and the stages are one thing: what the conformance suite holds against the model is what the stages call."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from tasks.ledger import postgres
from tasks.settings import PROJECT

ROOTS = ("tasks", "flows", "deployments")
PACKAGE = PROJECT / "tasks" / "ledger"


def calls(tree: ast.AST) -> set[str]:
    """`module.function` of every call of a function of another module."""
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            found.add(f"{node.func.value.id}.{node.func.attr}")
    return found


def used() -> str:
    """The source of everything outside the ledger's package."""
    files = [path for root in ROOTS for path in (PROJECT / root).rglob("*.py")]
    return "\n".join(path.read_text() for path in files if PACKAGE not in Path(path).parents)


def test_every_function_behind_the_port_is_one_that_the_stages_call() -> None:
    modules = {name for name, value in vars(postgres).items() if inspect.ismodule(value)}
    behind = {name for name in calls(ast.parse(inspect.getsource(postgres))) if name.partition(".")[0] in modules}
    assert len(behind) > 12
    source = used()
    assert [
        name for name in sorted(behind) if f"{name}(" not in source and f"{name.partition('.')[2]}(" not in source
    ] == []


def test_the_port_decides_nothing_of_its_own() -> None:
    """No statement of SQL and no branch stands in it."""
    tree = ast.parse(inspect.getsource(postgres))
    assert [node for node in ast.walk(tree) if isinstance(node, (ast.If, ast.For, ast.While))] == []
    assert not [one for one in calls(tree) if one.endswith(".execute")]
