"""FHIR resources out of NDJSON files, bundles, single resources and folders of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from mappings.engine.json import loads

_MARK = b"\xef\xbb\xbf"
_SUFFIXES = {".ndjson", ".jsonl", ".json"}


def read_resources(inputs: Iterable[str], stdin: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the resources of files and folders; `-` is standard input; a bundle gives its entries' resources.

    A line of `sluice convert` is taken as the bundle that it holds.
    Raises `OSError` for what cannot be opened, `ValueError` with the file and the line for what is no resource.
    """
    for name in inputs:
        if name == "-":
            yield from _lines(stdin, "standard input")
            continue
        path = Path(name)
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES) if path.is_dir() else [path]
        for file in files:
            with file.open("rb") as stream:
                yield from _lines(stream, str(file))


def _lines(stream: IO[bytes], place: str) -> Iterator[dict[str, Any]]:
    for number, raw in enumerate(stream, 1):
        line = raw.removeprefix(_MARK) if number == 1 else raw
        try:
            value = loads(line)
        except ValueError:
            if not line.strip():
                continue
            if number > 1 or not (rest := stream.read()):
                raise ValueError(f"{place}, line {number}: not a JSON text") from None
            yield from _whole(line + rest, place)
            return
        if isinstance(value, dict) and value.get("resourceType", "Bundle") != "Bundle":
            yield value
        else:
            yield from _resources(value, f"{place}, line {number}")


def _whole(data: bytes, place: str) -> Iterator[dict[str, Any]]:
    """Read a file as one JSON text over many lines."""
    try:
        value = loads(data)
    except ValueError:
        raise ValueError(f"{place}: neither NDJSON nor a JSON text") from None
    yield from _resources(value, place)


def _resources(value: Any, place: str) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and "resourceType" not in value and "bundle" in value:
        value = value["bundle"] or {"resourceType": "Bundle"}
    kind = value.get("resourceType") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        raise ValueError(f"{place}: not a FHIR resource")  # noqa: TRY004 - a file's mistake, not the caller's
    if kind != "Bundle":
        yield value
        return
    entries = [entry for entry in value.get("entry") or [] if isinstance(entry, dict)]
    found = [(entry.get("fullUrl"), entry["resource"]) for entry in entries if isinstance(entry.get("resource"), dict)]
    keys = {
        url: f"{one['resourceType']}/{one['id']}" for url, one in found if url and {"resourceType", "id"} <= one.keys()
    }
    for _url, resource in found:
        _link(resource, keys)
        yield resource


def _link(node: Any, keys: dict[str, str]) -> None:
    """Name what a bundle's entries refer to by type and id instead of by `fullUrl`, which ends with the bundle.

    Source: FHIR R4, Bundle, "Resolving references in Bundles".
    """
    if isinstance(node, dict):
        target = node.get("reference")
        if isinstance(target, str) and target in keys:
            node["reference"] = keys[target]
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            _link(child, keys)
