"""The marts of the warehouse: every file of `mappings/marts`, in an order in which each comes after what it reads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from mappings.engine.yamlfile import YamlFile, YamlMistake, nearest
from tasks.errors import ConfigError
from tasks.settings import PROJECT

FOLDER = PROJECT / "mappings" / "marts"
KEYS = ("kind", "description", "columns", "query", "reads", "like", "key", "indexes", "fill", "refresh")


@dataclass(frozen=True, slots=True)
class Mart:
    """One relation of the schema `mart`.

    - A `view` is its `query`, whose columns are named and described in order by `columns`.
    - A `table` has the columns of the view `like` and the primary key `key`; `fill` fills `{table}`, `refresh` keeps it
      for the relation `{changed}` (resource_type, id, old_version).
    - `reads` names, by resource type, the core tables from which a table is made.
    """

    name: str
    kind: str
    description: str
    columns: dict[str, str]
    query: str = ""
    reads: dict[str, str] = field(default_factory=dict)
    like: str = ""
    key: str = ""
    indexes: tuple[str, ...] = ()
    fill: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()

    @property
    def needs(self) -> set[str]:
        """The names in schema `mart` that its statements speak of."""
        return set(re.findall(r"\bmart\.(\w+)", " ".join([self.query, *self.fill, *self.refresh]))) | {self.like}


@lru_cache(maxsize=1)
def core_marts() -> tuple[Mart, ...]:
    """Return the marts; raises `ConfigError` with file and line for a mistake."""
    return in_order([read_mart(path) for path in sorted(FOLDER.glob("*.yaml"))])


def read_mart(path: Path) -> Mart:
    """Read one mart; raises `ConfigError` with file and line for a mistake."""
    try:
        file = YamlFile(path)
    except YamlMistake as error:
        raise ConfigError(str(error)) from None
    data: dict[str, Any] = file.data
    for key in data:
        if key not in KEYS:
            raise ConfigError(file.mistake([key], f"{key} is not a key of a mart{nearest(key, KEYS)}"))
    kind = data.get("kind")
    wanted = {"view": {"query"}, "table": {"like", "key", "fill", "refresh", "reads"}}.get(str(kind))
    if wanted is None:
        raise ConfigError(file.mistake(["kind"], "kind is view or table"))
    for key in sorted({"description", "columns"} | wanted):
        if not data.get(key):
            raise ConfigError(file.mistake([], f"a {kind} needs {key}"))
    values: dict[str, Any] = {key: tuple(data.get(key) or ()) for key in ("indexes", "fill", "refresh")}
    values |= {key: data[key] for key in ("description", "columns", "query", "reads", "like", "key") if key in data}
    return Mart(name=path.stem, kind=str(kind), **values)


def in_order(marts: list[Mart]) -> tuple[Mart, ...]:
    """Return marts so that each comes after those it reads; raises `ConfigError` where two read each other."""
    left, done = {mart.name: mart for mart in marts}, list[Mart]()
    while left:
        ready = [mart for mart in left.values() if not (mart.needs - {mart.name}) & left.keys()]
        if not ready:
            raise ConfigError(f"marts {', '.join(sorted(left))}: they read each other in a circle")
        done += ready
        for mart in ready:
            del left[mart.name]
    return tuple(done)
