"""A view's table: its SQL from the view's columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import psycopg

from mappings.engine.views import View, ViewError, column_type
from mappings.engine.views.definition import NAME, Column
from mappings.engine.views.fragments import MANY
from mappings.engine.views.nodes import Focus, Function, Member, Node
from mappings.engine.views.quoting import literal, name

RESERVED = {
    "resource_id": "Id of the resource that the row was made from",
    "version_id": "Version of the resource that the row was made from",
    "record_id": "Record that brought this version: lineage is a join with it",
}
CHANGED = "sluice_changed"
"""The name under which a refresh knows the ids of the resources that changed."""

_SOURCE = "SELECT id AS resource_id, resource_type, version_id, record_id, resource FROM fhir.resource"


_OWN_WORDS = ("select[", "where[", MANY)


def reason(error: psycopg.Error) -> str:
    """Return why a view's SQL failed: its own words where it raised, else the SQLSTATE; never a value."""
    _, _, quoted = (error.diag.message_primary or "").partition('"')
    return quoted.rstrip('"') if quoted.startswith(_OWN_WORDS) else f"Postgres refused with SQLSTATE {error.sqlstate}"


LONGEST = 63
"""Letters of a column's name: what Postgres keeps of one."""


class ViewTable:
    """The table `core.<view's name>`: the view's columns, then the version and the record that they came from.

    - `key` is the column of the resource's id: the view's own where it has one, else `resource_id`.
    - `building` is the relation, `building_name` its name, in which a build waits to take the place of `relation`.
    - `moment` is the column by whose years it is divided; None for a table in one piece. Such a table has no primary
      key, because a time may be absent and may be corrected.

    Raises `ViewError` for a view without a name that can be a table's, with a column of a reserved name, or divided by
    what is no moment.
    """

    def __init__(self, view: View) -> None:
        if not NAME.fullmatch(view.name) or len(view.name) > 40:
            raise ViewError("name", "a view that becomes a table needs a name of at most 40 letters, digits and _")
        for column in view.columns:
            if len(column.name) > LONGEST:
                raise ViewError(f"{column.place}.name", f"a column's name has at most {LONGEST} characters")
        self.view = view
        self.name = view.name
        self.relation = f"core.{name(view.name)}"
        self.building_name = f"{view.name}__new"
        self.building = f"core.{name(self.building_name)}"
        self._key = next((column.name for column in view.columns if _is_key(column.node)), "resource_id")
        self.key = name(self._key)
        self.extra = [column for column in RESERVED if column != "resource_id" or self._key == "resource_id"]
        for column in view.columns:
            if column.name in self.extra:
                raise ViewError(f"{column.place}.name", f"column {column.name!r} is added to every table")
        self.moment = next((column.name for column in view.columns if _divides(column)), None)
        self.fill()

    def create(self) -> str:
        """Return the statements that make the table to build in; a divided one with the part for all other times."""
        columns = [f"{name(column.name)} {self._type(column)}" for column in self.view.columns]
        columns += [f"{name(column)} {self._extra_type(column)} NOT NULL" for column in self.extra]
        made = f"CREATE TABLE {self.building} ({', '.join(columns)})"
        if self.moment is None:
            return made
        rest = f"core.{name(f'{self.building_name}_default')}"
        made += f" PARTITION BY RANGE ({name(self.moment)})"
        return f"{made}; CREATE TABLE {rest} PARTITION OF {self.building} DEFAULT"

    def fill(self) -> str:
        """Return the statement that fills the table to build in from the whole store."""
        return f"INSERT INTO {self.building} ({self._columns()}) {self._select(f'({_SOURCE} WHERE NOT deleted)')}"

    def refresh(self, relation: str = "") -> str:
        """Return the statement that inserts the rows of the resources whose ids stand in the CTE `CHANGED`."""
        changed = f"resource_type = {literal(self.view.resource)} AND id IN (SELECT id FROM {CHANGED})"
        select = self._select(f"({_SOURCE} WHERE NOT deleted AND {changed})")
        return f"INSERT INTO {relation or self.relation} ({self._columns()}) {select}"

    def finish(self) -> Iterator[str]:
        """Yield the statements that make a filled table whole: key, indexes, comments, statistics."""
        if own := self._primary():
            key = f"ADD CONSTRAINT {name(f'{self.building_name}_key')} PRIMARY KEY ({', '.join(map(name, own))})"
            yield f"ALTER TABLE {self.building} {key}"
        for number, column in enumerate(self._indexed()):
            yield f"CREATE INDEX {name(f'{self.building_name}_{number}')} ON {self.building} ({name(column)})"
        yield f"COMMENT ON TABLE {self.building} IS {literal(self.view.description or self.view.resource)}"
        described = [(column.name, column.description) for column in self.view.columns]
        for column, text in [*described, *((column, RESERVED[column]) for column in self.extra)]:
            yield f"COMMENT ON COLUMN {self.building}.{name(column)} IS {literal(text) if text else 'NULL'}"
        yield f"ANALYZE {self.building}"

    def renames(self) -> Iterator[tuple[str, str]]:
        """Yield the indexes' names while building and afterwards."""
        if self._primary():
            yield f"{self.building_name}_key", f"{self.name}_key"
        for number, column in enumerate(self._indexed()):
            yield f"{self.building_name}_{number}", f"{self.name[:20]}_{column[:36]}_idx"

    def _indexed(self) -> Iterable[str]:
        wanted = [
            column.name
            for column in self.view.columns
            if column.indexed or column.name in {"patient_id", "encounter_id"}
        ]
        return dict.fromkeys(wanted if self._primary() else [self._key, *wanted])

    def _primary(self) -> list[str]:
        """The columns that tell its rows apart; empty where the view does not say, or the table is divided."""
        own = [column.name for column in self.view.columns if column.key]
        if self.moment is not None or not (own or self.view.definition.select.gives_one_row()):
            return []
        return [self._key, *own]

    def _columns(self) -> str:
        return ", ".join(name(column) for column in [*self.extra, *(column.name for column in self.view.columns)])

    def _select(self, source: str) -> str:
        return self.view.sql(source, self.extra)

    def _type(self, column: Column) -> str:
        kind = column_type(column)
        is_key = kind == "text" and (column.name == self._key or column.name.endswith("_id"))
        return f'{kind} COLLATE "C"' if is_key else kind

    @staticmethod
    def _extra_type(column: str) -> str:
        return {"resource_id": 'text COLLATE "C"', "version_id": "int", "record_id": "bigint"}[column]


def _divides(column: Column) -> bool:
    """Say whether a table is divided by the years of a column."""
    if not column.partition:
        return False
    if column.partition != "year" or column_type(column) != "timestamptz":
        raise ViewError(f"{column.place}.tag", "sluice/partition is year, on a column of TIMESTAMP WITH TIME ZONE")
    return True


def _is_key(node: Node) -> bool:
    """Say whether a column's path is the id of the resource itself, and of nothing inside it."""
    match node:
        case Member(base=Focus(root=True), keys=("id",)) | Function(name="getResourceKey", base=Focus(root=True)):
            return True
    return False
