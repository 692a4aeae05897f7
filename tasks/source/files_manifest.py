"""Manifests: what a partner says is in a delivery, as CSV, JSON or the output of sha256sum."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mappings.engine.json import loads
from tasks.model import Finding

LIMIT = 16 * 1024 * 1024
"""Bytes of a manifest that are read; more is not a manifest."""

_HASHES = {32: "md5", 40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}
_NAME = ("name", "file", "filename", "file_name", "path")
_SIZE = ("size", "bytes", "length", "file_size")
_COUNT = ("records", "count", "rows", "record_count", "messages")
_SUM = ("sha256", "sha512", "sha384", "sha1", "md5", "checksum", "hash", "digest")
_NAMELESS = "the manifest names no file: it needs a column or key `name`"
_LINE = re.compile(r"\\?([0-9a-fA-F]{32,128}) [ *](.+)")


@dataclass(frozen=True, slots=True)
class Listed:
    """What a manifest says of one file; what it does not say is None. `algorithm` is a name of hashlib."""

    name: str
    size: int | None = None
    algorithm: str | None = None
    digest: str | None = None
    records: int | None = None

    def expect(self) -> dict[str, Any]:
        """Return the JSON form that an offer's `meta["expect"]` carries: size, records and checksums by algorithm."""
        told: dict[str, Any] = {"size": self.size, "records": self.records}
        if self.algorithm:
            told[self.algorithm] = self.digest
        return {key: value for key, value in told.items() if value is not None}


def parse(data: bytes) -> list[Listed]:
    """Return the files that a manifest names; raises `ValueError` without any of its text where it is none."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("the manifest is not UTF-8") from None
    if text.startswith(("{", "[")):
        return [_listed(row) for row in _json_rows(loads(text))]
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError("the manifest is empty")
    if all(_LINE.fullmatch(line) for line in lines):
        return [_sum_line(line) for line in lines]
    return list(_csv_rows(lines))


def disagreements(listed: Listed, size: int | None) -> tuple[Finding, ...]:
    """Return what is wrong with a file of `size` bytes by its manifest."""
    if listed.size is not None and size is not None and listed.size != size:
        return (Finding("manifest-size-mismatch", "manifest.size", "error"),)
    return ()


def _json_rows(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict) and isinstance(value.get("files"), list | dict):
        value = value["files"]
    if isinstance(value, dict):
        value = [
            {"name": name, **(said if isinstance(said, dict) else {"checksum": said})} for name, said in value.items()
        ]
    for row in value:
        if not isinstance(row, dict):
            raise ValueError("the manifest's list holds something that is no object")  # noqa: TRY004
        yield {str(key).strip().lower(): said for key, said in row.items()}


def _csv_rows(lines: list[str]) -> Iterator[Listed]:
    delimiter = max(",;\t|", key=lines[0].count)
    rows = csv.DictReader(io.StringIO("\n".join(lines)), delimiter=delimiter)
    if not {str(field).strip().lower() for field in rows.fieldnames or ()} & set(_NAME):
        raise ValueError(_NAMELESS)
    for row in rows:
        yield _listed({str(key).strip().lower(): (said or "") for key, said in row.items() if isinstance(said, str)})


def _sum_line(line: str) -> Listed:
    found = _LINE.fullmatch(line)
    digest, name = found.groups() if found else ("", "")
    return Listed(name, None, *_digest("checksum", digest))


def _listed(row: Mapping[str, Any]) -> Listed:
    name = _first(row, _NAME)
    if not name:
        raise ValueError(_NAMELESS)
    column = next((key for key in _SUM if row.get(key)), "")
    return Listed(str(name), _whole(row, _SIZE), *_digest(column, str(row.get(column) or "")), _whole(row, _COUNT))


def _digest(column: str, text: str) -> tuple[str | None, str | None]:
    if not text:
        return None, None
    prefix, _, rest = text.rpartition(":")
    digest = rest.strip().lower()
    algorithm = _HASHES.get(len(digest))
    if algorithm is None or re.fullmatch("[0-9a-f]+", digest) is None:
        raise ValueError("the manifest holds a checksum that is neither MD5, SHA-1 nor SHA-2 in hexadecimal")
    said = (prefix or column).strip().lower().replace("-", "")
    if said in _HASHES.values() and said != algorithm:
        raise ValueError("the manifest holds a checksum whose length is not its algorithm's")
    return algorithm, digest


def _first(row: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key) not in (None, "")), None)


def _whole(row: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    said = _first(row, keys)
    if said is None:
        return None
    if not re.fullmatch(r"\d+", str(said).strip()):
        raise ValueError("the manifest holds a size or count that is no whole number")
    return int(said)
