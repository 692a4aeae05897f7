"""What stands in a file: resources, deletions, a view's rows; as NDJSON, CSV (RFC 4180) or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from mappings.engine import json
from mappings.engine.views import View, column_type
from tasks.deliver.port import Item

if TYPE_CHECKING:
    import pyarrow as pa

_DELETES = 1_000
"""Deletions that stand in one Bundle."""


class Limits(Protocol):
    """Where a file ends."""

    records: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Part:
    """One file's content; `what` and `extension` go into its name, `folder` before it."""

    what: str
    extension: str
    data: bytes
    records: int
    folder: str = ""


def resources(items: Sequence[Item], limits: Limits) -> Iterator[Part]:
    """Yield NDJSON files of one resource type each, with the store's version in `meta`, and what is deleted."""
    kept = sorted((item for item in items if item.resource is not None), key=lambda item: item.resource_type)
    for kind, group in groupby(kept, key=lambda item: item.resource_type):
        yield from _lines(kind, (json.dumps(_versioned(item)) for item in group), limits)
    yield from deletions([item for item in items if item.resource is None], limits)


def deletions(items: Sequence[Item], limits: Limits) -> Iterator[Part]:
    """Yield NDJSON files of transaction Bundles in `deleted/`, as a FHIR bulk export tells of deletions."""
    for kind, group in groupby(sorted(items, key=lambda item: item.key), key=lambda item: item.resource_type):
        found = [{"request": {"method": "DELETE", "url": item.key}} for item in group]
        bundles = (found[start : start + _DELETES] for start in range(0, len(found), _DELETES))
        lines = (json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": some}) for some in bundles)
        yield from _lines(kind, lines, limits, "deleted/")


def rows(view: View, found: Iterator[dict[str, Any]], kind: str, limits: Limits) -> Iterator[Part]:
    """Yield files of a view's rows; one without a row where there is none, so that a snapshot says so."""
    write = {"csv": _csv, "parquet": _parquet, "ndjson": _ndjson}[kind]
    empty = True
    while some := _some(found, limits):
        empty = False
        yield Part(view.name, kind, write(view, some), len(some))
    if empty and kind != "ndjson":
        yield Part(view.name, kind, write(view, []), 0)


def _some(found: Iterator[dict[str, Any]], limits: Limits) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    size = 0
    for row in found:
        out.append(row)
        size += sum(len(value) if isinstance(value, str) else 8 for value in row.values())
        if len(out) >= limits.records or size >= limits.bytes:
            break
    return out


def _lines(what: str, lines: Iterable[bytes], limits: Limits, folder: str = "") -> Iterator[Part]:
    out: list[bytes] = []
    size = 0
    for line in lines:
        if out and (len(out) >= limits.records or size + len(line) > limits.bytes):
            yield Part(what, "ndjson", b"".join(out), len(out), folder)
            out, size = [], 0
        out.append(line + b"\n")
        size += len(line) + 1
    if out:
        yield Part(what, "ndjson", b"".join(out), len(out), folder)


def _versioned(item: Item) -> dict[str, Any]:
    resource = dict(item.resource or {})
    if item.version:
        resource["meta"] = {**resource.get("meta", {}), "versionId": str(item.version)}
    return resource


def _ndjson(_view: View, found: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row) + b"\n" for row in found)


def _csv(view: View, found: Sequence[dict[str, Any]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    names = [column.name for column in view.columns]
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in found)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value).decode() if isinstance(value, (dict, list)) else value


def _parquet(view: View, found: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = [(column.name, *_arrow(column_type(column))) for column in view.columns]
    arrays = [pa.array([fit(row.get(name)) for row in found], kind) for name, kind, fit in kinds]
    schema = pa.schema([(name, kind) for name, kind, _ in kinds])
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), out, compression="zstd")
    return out.getvalue()


def _arrow(kind: str) -> tuple[pa.DataType, Callable[[Any], Any]]:
    """Return a column's Arrow type and what makes a value fit it; decimals have nine digits behind the point."""
    import pyarrow as pa

    if kind in {"integer", "bigint"}:
        return pa.int64(), lambda value: value
    if kind == "boolean":
        return pa.bool_(), lambda value: value
    if kind == "numeric":
        return pa.decimal128(38, 9), _decimal
    return pa.string(), lambda value: value if value is None or isinstance(value, str) else _text(value)


def _decimal(value: Any) -> Decimal | None:
    """Nine digits behind the point: more is rounded, as a number is by any table with a fixed scale."""
    return None if value is None else round(Decimal(str(value)), 9)


def _text(value: Any) -> str:
    return json.dumps(value).decode() if isinstance(value, (dict, list)) else str(value)
