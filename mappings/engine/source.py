"""Mapping files as they stand on disk: which file wins, what they say, on which line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mappings.engine.errors import MappingError, Mistake, nearest

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Line:
    """A mapping from a YAML file that knows where it stands."""

    file: str
    number: int
    values: Mapping[str, Any]

    def problem(self, text: str) -> str:
        """Return `file:line: text`."""
        return f"{self.file}:{self.number}: {text}"

    def check(self, valid: frozenset[str]) -> None:
        """Raise `Mistake` for a key that is not in `valid`."""
        for key in self.values:
            if key not in valid:
                raise Mistake(f"unknown key {key!r}{nearest(key, valid)}")


@dataclass(frozen=True, slots=True)
class Files:
    """The mapping folders, nearest first: a partner's overlay, a site's own root, what Sluice ships."""

    roots: tuple[Path, ...]

    def find(self, folder: str, pattern: str) -> Iterator[tuple[str, Path]]:
        """Yield relative name and path of each file of `folder`; the same name in a nearer root wins."""
        seen: dict[str, Path] = {}
        for root in self.roots:
            for path in sorted((root / folder).glob(pattern)):
                seen.setdefault(f"{folder}/{path.name}", path)
        yield from sorted(seen.items())

    def one(self, name: str) -> Path:
        """Return the nearest file called `name`; raises `MappingError` when there is none."""
        for root in self.roots:
            if (root / name).is_file():
                return root / name
        raise MappingError([f"{name}: no such file in {', '.join(map(str, self.roots))}"])

    def digest(self) -> str:
        """Return a hash over everything that takes part: maps, tables and the engine's own code."""
        total = hashlib.sha256()
        for root in self.roots:
            for path in sorted(p for p in root.rglob("*") if p.suffix in {".yaml", ".csv", ".py", ".json"}):
                if root == ROOT and path.relative_to(root).parts[0] in {"overlays", "views", "csv"}:
                    continue
                total.update(str(path.relative_to(root)).encode())
                total.update(path.read_bytes())
        return total.hexdigest()[:16]


def files(overlay: str = "", *extra: Path) -> Files:
    """Return the folders for a partner called `overlay`; `extra` are a site's own roots."""
    near = (*(root / "overlays" / overlay for root in (*extra, ROOT)),) if overlay else ()
    return Files(tuple(root for root in (*near, *extra, ROOT) if root.is_dir()))


def read(name: str, path: Path) -> dict[str, tuple[Line, list[Line]]]:
    """Return a file's maps: name → (the map's own keys, its rows); raises `MappingError` for broken YAML."""
    try:
        node = yaml.compose(path.read_text("utf-8"), Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise MappingError([f"{name}:{line}: not YAML: {getattr(error, 'problem', 'cannot be read')}"]) from None
    maps: dict[str, tuple[Line, list[Line]]] = {}
    if not isinstance(node, yaml.MappingNode):
        raise MappingError([f"{name}:1: a mapping file is a table of maps by name"])
    for key, body in node.value:
        if not isinstance(body, yaml.MappingNode):
            raise MappingError([f"{name}:{key.start_mark.line + 1}: {key.value} is not a map"])
        maps[key.value] = _map(name, body)
    return maps


def _map(name: str, body: yaml.MappingNode) -> tuple[Line, list[Line]]:
    values: dict[str, Any] = {}
    rows: list[Line] = []
    for key, value in body.value:
        if key.value == "rows" and isinstance(value, yaml.SequenceNode):
            for row in value.value:
                if not isinstance(row, yaml.MappingNode):
                    raise MappingError([f"{name}:{row.start_mark.line + 1}: a row is {{from: …, to: …}}"])
                rows.append(Line(name, row.start_mark.line + 1, _plain(row)))
        else:
            values[key.value] = _plain(value)
    return Line(name, body.start_mark.line + 1, values), rows


def _plain(node: Any) -> Any:
    loader = _LOADER("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()
