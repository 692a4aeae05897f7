"""FHIR resources to HL7 v2.5.1 messages, by the tables of `mappings/outbound`.

`compile_messages` turns the two files into functions; `Message.build` gives the encoded text of one message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mappings.engine.errors import MappingError
from mappings.engine.outbound_types import TYPES, Find, Repetition, flat
from mappings.engine.tables import load
from mappings.engine.yamlfile import YamlFile, nearest

FOLDER = Path(__file__).parent.parent / "outbound"
CODES = Path(__file__).parent.parent / "codes"
_STEP = re.compile(r"([A-Za-z]+|\*)(?:\[([^\]]+)\])?")
_SEGMENT = re.compile(r"(?P<optional>\?)?(?P<name>[A-Z][A-Z0-9_]+)(?: (?P<how>of|each) (?P<path>\S+))?")
_ESCAPES = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\.br\\", "\n": "\\.br\\"}
)
Resource = Mapping[str, Any]
Field = Callable[[Resource, Find, Mapping[str, str]], list[Repetition]]


class Unwritable(Exception):
    """A resource cannot be told in this message; `place` is the segment that has nothing to be written from."""

    def __init__(self, code: str, place: str) -> None:
        super().__init__(f"{code} at {place}")
        self.code, self.place = code, place


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment's name, the type that it is written from, and its fields by number."""

    name: str
    about: str
    fields: Mapping[int, Field]

    def write(self, resource: Resource, find: Find, facts: Mapping[str, str]) -> str:
        """Return the segment's text without its end."""
        texts = [""] * (max(self.fields) + 1)
        for number, field in self.fields.items():
            try:
                texts[number] = "~".join(filter(None, map(encode, field(resource, find, facts))))
            except (ValueError, KeyError, AttributeError, TypeError):
                raise Unwritable("not-to-be-written", f"{self.name}-{number}") from None
        return "|".join([self.name, *texts[1:]]).rstrip("|")


@dataclass(frozen=True, slots=True)
class _Place:
    segment: Segment
    optional: bool
    each: bool
    path: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of message: its type (MSH-9), the resource type that it tells of, its segments in order."""

    type: str
    about: str
    places: tuple[_Place, ...]

    def build(self, resource: Resource, find: Find, facts: Mapping[str, str]) -> str:
        r"""Return the message's segments behind MSH, each with its end (`\r`).

        `find` returns what a reference names; `facts` are the fixed values (`now`). Raises `Unwritable`.
        """
        return "".join(f"{line}\r" for place in self.places for line in _written(place, resource, find, facts))


def encode(repetition: Repetition) -> str:
    """Return one repetition of a field, escaped (chapter 2, 2.7)."""
    components = ["&".join(sub.translate(_ESCAPES) for sub in component).rstrip("&") for component in repetition]
    return "^".join(components).rstrip("^")


def _written(place: _Place, resource: Resource, find: Find, facts: Mapping[str, str]) -> Iterator[str]:
    segment = place.segment
    if place.path is None:
        found = [resource]
    else:
        named = (_resolved(value, find) for value in _walk(resource, place.path, find))
        found = [one for one in named if one is not None and one.get("resourceType") == segment.about]
    if not found and not place.optional and not place.each:
        raise Unwritable("nothing-to-write-from", segment.name)
    for number, one in enumerate(found if place.each else found[:1], 1):
        yield segment.write(one, find, {**facts, "number": str(number)})


@lru_cache(maxsize=1)
def compile_messages() -> Mapping[str, Message]:
    """Return the messages by name; raises `MappingError` with file and line for a mistake in the tables."""
    file = YamlFile(FOLDER / "segments.yaml")
    segments = {name: _segment(file, name, block) for name, block in file.data.items()}
    messages = YamlFile(FOLDER / "messages.yaml")
    return {name: _message(messages, name, block, segments) for name, block in messages.data.items()}


def _message(file: YamlFile, name: str, block: Mapping[str, Any], segments: Mapping[str, Segment]) -> Message:
    places = []
    for number, text in enumerate(block["segments"][1:], 1):
        match = _SEGMENT.fullmatch(text)
        if match is None or match["name"] not in segments:
            raise MappingError(file.mistake([name, "segments", number], f"`{text}`{nearest(str(text), segments)}"))
        places.append(_Place(segments[match["name"]], bool(match["optional"]), match["how"] == "each", match["path"]))
    return Message(block["type"], block["about"], tuple(places))


def _segment(file: YamlFile, name: str, block: Mapping[str, Any]) -> Segment:
    fields = {}
    for number, row in enumerate(block["rows"]):
        try:
            fields[int(row["to"])] = _field(row)
        except (KeyError, ValueError, OSError) as error:
            known = nearest(str(row.get("as", "")), TYPES)
            raise MappingError(file.mistake([name, "rows", number], f"{type(error).__name__}{known}")) from None
    return Segment(block.get("segment", name), block.get("about", ""), fields)


def _field(row: Mapping[str, Any]) -> Field:
    if unknown := row.keys() - {"to", "from", "as", "table", "const", "else", "only"}:
        raise KeyError(*unknown)
    if "const" in row:
        fixed = [flat(str(row["const"]))]
        return lambda _resource, _find, _facts: fixed
    paths = row["from"] if isinstance(row["from"], list) else [row["from"]]
    write = _backwards(row["table"]) if "table" in row else TYPES[row["as"]]
    most, otherwise = row.get("only"), row.get("else")

    def field(resource: Resource, find: Find, facts: Mapping[str, str]) -> list[Repetition]:
        for path in paths:
            values = [facts[path]] if path in facts else list(_walk(resource, path, find))
            found = [one for value in values if any(map(any, one := write(value, find)))]
            if found:
                return found[:most]
        if otherwise is None:
            return []
        return [TYPES[row["as"]](otherwise, find) if row.get("as") in {"CE", "CWE"} else flat(str(otherwise))]

    return field


def _backwards(name: str) -> Callable[[Any, Find], Repetition]:
    """Return what reads a table from right to left: the first code that becomes a value stands for it."""
    found: dict[str, str] = {}
    for code, target in load(name, CODES / f"{name}.csv").codes.items():
        if target is not None:
            found.setdefault(target.code, code)

    def write(value: Any, _find: Find) -> Repetition:
        if isinstance(value, dict):
            value = value.get("code", "")
        return flat(found.get(str(value).lower() if isinstance(value, bool) else str(value), ""))

    return write


def _walk(resource: Resource, path: str, find: Find) -> Iterator[Any]:
    """Yield the values at a path; a reference on the way is followed."""
    nodes: Sequence[Any] = [resource]
    if path != "*":
        for name, kind in _steps(path):
            nodes = [value for node in nodes for value in _of(node, name, find) if kind is None or _is(value, kind)]
    yield from nodes


@lru_cache(maxsize=512)
def _steps(path: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((match[1], match[2]) for match in _STEP.finditer(path))


def _of(node: Any, name: str, find: Find) -> list[Any]:
    if not isinstance(node, Mapping):
        return []
    if name not in node and "reference" in node:
        node = _resolved(node, find) or {}
    value = node.get(name)
    return value if isinstance(value, list) else [] if value is None else [value]


def _is(value: Any, kind: str) -> bool:
    """Say whether an element is of a type, use or url."""
    if not isinstance(value, Mapping):
        return False
    types = value.get("type") if isinstance(value.get("type"), list) else [value.get("type")]
    codings = (coding for one in types or [] if isinstance(one, Mapping) for coding in one.get("coding", []))
    return kind in {value.get("use"), value.get("url"), *(coding.get("code") for coding in codings)}


def _resolved(value: Any, find: Find) -> Resource | None:
    if not isinstance(value, Mapping):
        return None
    return value if "resourceType" in value else find(str(value.get("reference", "")))
