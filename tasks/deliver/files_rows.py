"""What stands in a file: resources, deletions, a view's rows; as NDJSON, CSV (RFC 4180) or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from functools import partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from mappings.engine import json
from mappings.engine.views import View, column_type
from tasks.deliver.files_part import Limits, Part, parts
from tasks.deliver.port import Item

if TYPE_CHECKING:
    import pyarrow as pa

_DELETES = 1_000
"""Deletions that stand in one Bundle."""
_GROUP = 10_000
"""Rows of a group of a Parquet file: what memory holds of one."""


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
    """Yield files of a view's rows; of a table one without a row where there is none, so that a snapshot says so."""
    if kind == "ndjson":
        return _lines(view.name, map(json.dumps, found), limits)
    return (_csv if kind == "csv" else _parquet)(view, found, limits)


def _lines(what: str, lines: Iterable[bytes], limits: Limits, folder: str = "") -> Iterator[Part]:
    return parts(partial(Part, what, "ndjson", folder), (line + b"\n" for line in lines), limits)


def _versioned(item: Item) -> dict[str, Any]:
    resource = dict(item.resource or {})
    if item.version:
        resource["meta"] = {**resource.get("meta", {}), "versionId": str(item.version)}
    return resource


def _csv(view: View, found: Iterable[dict[str, Any]], limits: Limits) -> Iterator[Part]:
    names = [column.name for column in view.columns]
    lines = (_line(_cell(row.get(name)) for name in names) for row in found)
    return parts(partial(Part, view.name, "csv"), lines, limits, head=_line(names), even_empty=True)


def _line(cells: Iterable[Any]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value).decode() if isinstance(value, (dict, list)) else value


def _parquet(view: View, found: Iterator[dict[str, Any]], limits: Limits) -> Iterator[Part]:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = [(column.name, *_arrow(column_type(column))) for column in view.columns]
    schema = pa.schema([(name, kind) for name, kind, _ in kinds])
    some = _some(found, limits)
    while True:
        with closing(Part(view.name, "parquet")) as part:
            with parquet.ParquetWriter(part.file, schema, compression="zstd") as writer:
                while some and part.fits(0, limits):
                    arrays = [pa.array([fit(row.get(name)) for row in some], kind) for name, kind, fit in kinds]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                    part.records += len(some)
                    some = _some(found, limits, part.records)
            yield part
        if not some:
            return


def _some(found: Iterator[dict[str, Any]], limits: Limits, have: int = 0) -> list[dict[str, Any]]:
    """Return the next rows that go into one group of a Parquet file, and into the file that has so many."""
    return list(islice(found, min(_GROUP, limits.records - have) or min(_GROUP, limits.records)))


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
