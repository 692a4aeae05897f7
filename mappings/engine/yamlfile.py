"""YAML files whose mistakes are told with file, line and the nearest valid word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

Path_ = tuple[str | int, ...]


class YamlFile:
    """A YAML mapping with the line of every value.

    - `data` are plain values under keys that are texts, `on` and `no` too.
    - `line(path)` is the line, from 1, of the deepest part of `path` that exists.
    - Raises `YamlMistake` where the text is not YAML, holds a key twice or is not a mapping at the top.
    """

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self._lines: dict[Path_, int] = {}
        try:
            node = yaml.compose(path.read_text(encoding="utf-8") if text is None else text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = mark.line + 1 if mark else 1
            raise YamlMistake(path, where, f"not YAML: {error.problem or 'it cannot be read'}") from None
        except (yaml.YAMLError, UnicodeDecodeError):
            raise YamlMistake(path, 1, "not YAML: it cannot be read") from None
        if not isinstance(node, yaml.MappingNode):
            raise YamlMistake(path, 1, "a mapping of keys to values is needed")
        self.data: dict[str, Any] = self._build(node, ())

    def line(self, path: Iterable[str | int]) -> int:
        """Return the line of the deepest part of `path` that the file has."""
        where = tuple(path)
        while where and where not in self._lines:
            where = where[:-1]
        return self._lines.get(where, 1)

    def mistake(self, path: Iterable[str | int], message: str) -> str:
        """Return one line that names file, line and what is wrong."""
        return f"{self.path.name}:{self.line(path)}: {message}"

    def _build(self, node: yaml.Node, path: Path_) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*path, number)) for number, item in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlMistake(self.path, line, "a key is one word, not a list or a mapping")
            # as it is written: YAML 1.1 takes `on` for a truth value and 5 for a number
            key = str(key_node.value)
            if key in out:
                raise YamlMistake(self.path, line, f"the key {key} stands here a second time")
            self._lines[*path, key] = line
            out[key] = self._build(value_node, (*path, key))
        return out


class YamlMistake(ValueError):
    """A YAML file cannot be used; the text is one line with file and line."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path.name}:{line}: {message}")


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return ` (did you mean …?)` for the valid word nearest to `word`, or the valid words where none is near."""
    words = sorted(valid)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else f" (one of {', '.join(words)})"


class _Values(yaml.SafeLoader):
    """Safe scalars, but without dates and sexagesimal numbers: 06:00 is a text here."""


def _scalar(node: yaml.Node) -> Any:
    loader = _Values("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


for _tag in ("timestamp", "int"):
    _Values.add_constructor(
        f"tag:yaml.org,2002:{_tag}",
        lambda _loader, node: int(node.value) if node.value.lstrip("+-").isdigit() else str(node.value),
    )
