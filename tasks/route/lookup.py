"""Lookup tables: what stands for a code, a ward, a practitioner; from CSV, SQL or a FHIR ConceptMap.

A table's file is `deployments/lookups/<name>.yaml`. Tables are looked at again between batches, so that a change counts
without a restart; their content's hash is part of the mapping version that lineage shows.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import psycopg
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mappings.engine import json
from mappings.engine.yamlfile import YamlFile, YamlMistake, nearest
from tasks.errors import ConfigError, Transient
from tasks.settings import PROJECT, connection, environment

PACKAGED = PROJECT / "deployments" / "lookups"
LIMIT = 1_000_000
"""Rows that a table may have: it is held in memory."""
Row = Mapping[str, str]


class LookupOptions(BaseModel):
    """A lookup table's file.

    - `kind: csv` reads `file` (beside this one, with a header), `kind: concept-map` a FHIR ConceptMap; `kind: sql` asks
      `query` of the warehouse, or of `connection`'s `url`, at most every `refresh` seconds.
    - `key` are the columns by which a row is found; a ConceptMap's are `system` and `code`, and its others `to_system`,
      `to_code`, `to_display`, `equivalence`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: Literal["csv", "sql", "concept-map"]
    file: str | None = None
    query: str | None = None
    connection: str | None = None
    key: tuple[str, ...] = ("code",)
    refresh: float = Field(default=60.0, ge=0)

    @model_validator(mode="after")
    def _one_place(self) -> LookupOptions:
        if (self.kind == "sql") != (self.query is not None) or (self.kind != "sql") != (self.file is not None):
            raise ValueError("`kind: csv` and `concept-map` have a `file`, `kind: sql` has a `query`")
        return self


def lookup_files() -> dict[str, Path]:
    """Return every table's name and file: the project's own, or those in the folders of `SLUICE_LOOKUPS`."""
    folders = [Path(part) for part in os.environ.get("SLUICE_LOOKUPS", "").split(":") if part] or [PACKAGED]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


class Lookup:
    """One table; `rows` are found by their key, `version` is the hash of what is in it."""

    def __init__(self, name: str) -> None:
        """Read the table; raises `ConfigError` with file and line for a mistake, `Transient` without its database."""
        path = lookup_files().get(name)
        if path is None:
            raise ConfigError(f"lookup {name}: there is no such file{nearest(name, lookup_files())}")
        self.name, self._path = name, path
        self._options = _options(path)
        self._seen: object = None
        self._asked = 0.0
        self.rows: dict[tuple[str, ...], Row] = {}
        self.version = ""
        self.reload()

    def reload(self) -> None:
        """Read the table again where it changed; a database is asked at most every `refresh` seconds."""
        if self._options.kind == "sql":
            if time.monotonic() - self._asked >= self._options.refresh or not self.version:
                self._take(self._of_query())
                self._asked = time.monotonic()
            return
        place = self._path.parent / str(self._options.file)
        try:
            seen = (place.stat().st_mtime_ns, place.stat().st_size)
            if seen != self._seen:
                self._take(_of_csv(place) if self._options.kind == "csv" else _of_concept_map(place))
                self._seen = seen
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"{self._path.name}: `file` {place.name} cannot be read") from None

    def _take(self, rows: Iterator[Row]) -> None:
        key = ("system", "code") if self._options.kind == "concept-map" else self._options.key
        found: dict[tuple[str, ...], Row] = {}
        digest = sha256()
        for number, row in enumerate(rows):
            if missing := set(key) - row.keys():
                raise ConfigError(f"{self._path.name}: the table has no column {sorted(missing)[0]}{nearest('', row)}")
            if number >= LIMIT:
                raise ConfigError(f"{self._path.name}: the table has more than {LIMIT} rows")
            found.setdefault(tuple(row[name] for name in key), row)
            digest.update(json.dumps(dict(row)))
        self.rows, self.version = found, digest.hexdigest()[:16]

    def _of_query(self) -> Iterator[Row]:
        values = connection(self._options.connection)
        url = values.get("url") or environment().get("SLUICE_WAREHOUSE_URL", "")
        try:
            with psycopg.connect(url, connect_timeout=10) as database:
                database.read_only = True
                cursor = database.execute(str(self._options.query).encode())
                names = [column.name for column in cursor.description or ()]
                rows = [dict(zip(names, map(_text, row), strict=True)) for row in cursor]
        except psycopg.OperationalError:
            raise Transient(f"lookup {self.name}: its database does not answer; nothing was converted") from None
        except psycopg.Error as error:
            raise ConfigError(f"{self._path.name}: `query` fails with SQLSTATE {error.sqlstate}") from None
        yield from rows


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _options(path: Path) -> LookupOptions:
    try:
        file = YamlFile(path)
        return LookupOptions(**file.data)
    except YamlMistake as error:
        raise ConfigError(str(error)) from None
    except ValidationError as error:
        problems = tuple(_explained(file, item) for item in error.errors(include_input=False, include_url=False))
        raise ConfigError(problems[0], problems) from None


def _explained(file: YamlFile, item: Any) -> str:
    place = item["loc"]
    if item["type"] == "extra_forbidden":
        return file.mistake(place, f"`{place[-1]}` is not a key here{nearest(place[-1], LookupOptions.model_fields)}")
    return file.mistake(place, item["msg"].removeprefix("Value error, "))


def _of_csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: value or "" for name, value in row.items() if name}


def _of_concept_map(path: Path) -> Iterator[Row]:
    """Yield a row a mapping; of R4 `equivalence`, of R5 `relationship`; what is unmatched stands for nothing."""
    held = json.loads(path.read_bytes())
    for group in held.get("group", []):
        for element in group.get("element", []):
            for target in element.get("target", [])[:1]:
                how = target.get("equivalence") or target.get("relationship") or ""
                if target.get("code") and how not in {"unmatched", "disjoint", "not-related-to"}:
                    yield {
                        "system": group.get("source", ""),
                        "code": element.get("code", ""),
                        "to_system": group.get("target", ""),
                        "to_code": target["code"],
                        "to_display": target.get("display", ""),
                        "equivalence": how,
                    }
