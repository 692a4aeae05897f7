"""What `sluice load` reads: NDJSON, Bundles and single resources, taken apart into one thing to load each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mappings.engine import json
from mappings.engine.ids import resource_id
from mappings.engine.model import Profile
from tasks.errors import BadRecord, ConfigError
from tasks.model import Finding, Frame
from tasks.parse.fhir import BundleFormat, NdjsonFormat

_NDJSON_NAMES = {".ndjson", ".jsonl"}
_UNPACKED = {"transaction", "batch", "collection", "message", "searchset", "history"}
_HEAD = 64 * 1024
_CONVERTED = re.compile(rb'\{"source":')
"""How a line of `sluice convert` begins."""
_BUNDLE = re.compile(rb'"resourceType"\s*:\s*"Bundle"')
_KIND = re.compile(rb'"type"\s*:\s*"document"')
_ABSOLUTE = re.compile(r"(https?://\S*/)[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}")
_PROFILE = Profile(partner="load")


@dataclass(frozen=True, slots=True)
class Loadable:
    """One thing to load: `resource` is None where it is to be deleted; `given` says that it had no id of its own."""

    resource_type: str
    id: str
    resource: dict[str, Any] | None
    given: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One thing that cannot be loaded, and where it stands."""

    file: str
    place: str
    finding: Finding


def files_of(paths: list[Path]) -> list[Path]:
    """Return the files of `paths`; a folder gives its NDJSON and JSON files, those of an export without its errors."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for folder in (path, path / "deleted") for p in folder.glob("*.*"))
            found += [p for p in inside if p.suffix in {*_NDJSON_NAMES, ".json"} and p.name != "manifest.json"]
        elif path.is_file():
            found.append(path)
        else:
            raise ConfigError(f"{path}: there is no such file or folder")
    if not found:
        raise ConfigError("nothing to load: no NDJSON or JSON file is there")
    return found


def read(path: Path) -> Iterator[Loadable | Unreadable]:
    """Yield what a file holds, never the whole file at once (except a single resource over many lines)."""
    try:
        yield from _read(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except BadRecord as error:
        for finding in error.findings:
            yield Unreadable(path.name, finding.location, finding)


def _read(path: Path) -> Iterator[Loadable | Unreadable]:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    lines = path.suffix in _NDJSON_NAMES or _CONVERTED.match(first) or (_is_object(first) and not _BUNDLE.search(first))
    if lines:
        for frame in NdjsonFormat(_PROFILE).split(_chunks(path)):
            yield from _line(path, frame)
    elif _BUNDLE.search(head) and not _KIND.search(head):
        yield from _bundle(path, _chunks(path), "")
    else:
        yield from _whole(path, path.read_bytes())


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _line(path: Path, frame: Frame) -> Iterator[Loadable | Unreadable]:
    if frame.findings:
        yield Unreadable(path.name, frame.location, frame.findings[0])
        return
    yield from _whole(path, frame.data, frame.location)


def _whole(path: Path, data: bytes, place: str = "") -> Iterator[Loadable | Unreadable]:
    """Yield what one JSON text holds: a resource, a Bundle to take apart, or a line of `sluice convert`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        yield Unreadable(path.name, place, Finding("not-json", place or path.name, "error"))
        return
    if isinstance(value, dict) and "bundle" in value and "resourceType" not in value:
        value = value["bundle"]
        data = json.dumps(value)
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        yield Unreadable(path.name, place, Finding("not-a-resource", place or path.name, "error"))
    elif value["resourceType"] == "Bundle" and value.get("type") in _UNPACKED:
        yield from _bundle(path, iter([data]), place)
    else:
        yield _loadable(value, None)


def _bundle(path: Path, chunks: Iterator[bytes], place: str) -> Iterator[Loadable | Unreadable]:
    reader = BundleFormat(_PROFILE)
    for frame in reader.split(chunks):
        where = f"{place} {frame.location}".strip()
        try:
            found = None if frame.findings else _of_entry(reader, frame)
        except BadRecord as error:
            yield Unreadable(path.name, where, error.findings[0])
            continue
        yield found or Unreadable(path.name, where, frame.findings[0])


def _of_entry(reader: BundleFormat, frame: Frame) -> Loadable:
    if deletes := frame.context.get("deletes"):
        kind, _, ident = str(deletes).partition("/")
        return Loadable(kind, ident, None)
    context = frame.context
    absolute = _ABSOLUTE.fullmatch(context.get("fullUrl", ""))
    resource = _linked(reader.parse(frame).content, context.get("links", {}), absolute[1] if absolute else None)
    identity = context.get("identity")
    return _loadable(resource, identity if isinstance(identity, str) else None)


def _loadable(resource: dict[str, Any], identity: str | None) -> Loadable:
    kind, own = resource["resourceType"], resource.get("id")
    if isinstance(own, str):
        return Loadable(kind, own, resource)
    ident = identity or resource_id("load", kind, hashlib.sha256(json.dumps(resource)).hexdigest())
    return Loadable(kind, ident, {"resourceType": kind, "id": ident, **resource}, given=True)


def _linked(value: Any, links: dict[str, str], base: str | None) -> Any:
    """Return `value` with references to a Bundle's own entries, by URN or by URL, as `Type/id`."""
    if isinstance(value, list):
        return [_linked(item, links, base) for item in value]
    if not isinstance(value, dict):
        return value
    out = {name: _linked(item, links, base) for name, item in value.items()}
    reference = out.get("reference")
    if isinstance(reference, str):
        out["reference"] = links.get(reference, reference.removeprefix(base) if base else reference)
    return out
