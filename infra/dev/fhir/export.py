"""Bulk exports: what is asked for, the files that it comes to, and their lines (HL7 Bulk Data Access 2.0).

An export is answered as of the moment of its kick-off, from the versions that were current then: nothing is copied,
and what others write meanwhile changes no file. A file is a range of version numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg_pool import ConnectionPool

from infra.dev.fhir.store import Db, now
from infra.dev.fhir.terms import ANY, compartment
from mappings.engine.json import dumps, loads

DELETES_A_LINE = 10
AT_ONCE = 500
LAST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How exports behave.

    - `per_file` is the number of resources of a file, `lifetime` the seconds until a finished export is gone.
    - `polls` is how many status requests are answered 202 at the least, `retry_after` the seconds they name.
    """

    per_file: int = 10_000
    lifetime: int = 3600
    polls: int = 0
    retry_after: int = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a kick-off asks for; `patients` are `Patient/id`, or `*` for all, and None for everything."""

    url: str
    types: list[str] = field(default_factory=list)
    since: str | None = None
    until: str | None = None
    patients: list[str] | None = None


@dataclass(frozen=True, slots=True)
class File:
    """One file of an export: the versions from `first` to `last`."""

    name: str
    kind: str
    type: str
    lines: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Job:
    """An export as it stands: `state` is accepted or done, `polled` how often its status was asked for."""

    id: UUID
    wanted: Wanted
    at: datetime
    state: str
    polled: int
    expires: datetime | None


def start(db: Db, wanted: Wanted) -> UUID:
    """Keep an export that is to be made, as of now; exports whose time is up are forgotten."""
    db.execute("DELETE FROM export WHERE expires < now()")
    job = uuid4()
    request = dumps(asdict(wanted)).decode()
    db.execute("INSERT INTO export (id, request, at) VALUES (%s, %s, %s)", (job, request, now(db)))
    return job


def job_of(db: Db, id_: UUID, *, polled: bool = False) -> Job | None:
    """Return the export, None where there is none or its time is up; `polled` counts this as a status request."""
    row = db.execute(
        "UPDATE export SET progress = progress + %s WHERE id = %s AND coalesce(expires > now(), true)"
        " RETURNING id, request::text, at, state, progress, expires",
        (int(polled), id_),
    ).fetchone()
    return Job(row[0], Wanted(**loads(row[1])), *row[2:]) if row else None


def unfinished(db: Db) -> list[UUID]:
    """Return the exports that a server that ended has left unmade."""
    return [row[0] for row in db.execute("SELECT id FROM export WHERE state = 'accepted'")]


def cancel(db: Db, id_: UUID) -> bool:
    """Forget an export and its files; return whether there was one."""
    return db.execute("DELETE FROM export WHERE id = %s AND coalesce(expires > now(), true)", (id_,)).rowcount > 0


def make(db: Db, id_: UUID, options: ExportOptions) -> None:
    """Find the files of an export and finish it; one that was cancelled meanwhile stays so."""
    job = job_of(db, id_)
    if job is None or job.state == "done":
        return
    for file in _divided(db, job, options.per_file):
        values = (id_, file.name, file.kind, file.type, file.lines, file.first, file.last)
        db.execute("INSERT INTO export_file VALUES (%s, %s, %s, %s, %s, %s, %s)", values)
    expires = "now() + make_interval(secs => %s)"
    db.execute(f"UPDATE export SET state = 'done', expires = {expires} WHERE id = %s", (options.lifetime, id_))  # noqa: S608


def files(db: Db, id_: UUID) -> list[File]:
    """Return the files of an export by kind, type and number."""
    query = "SELECT name, kind, type, lines, first, last FROM export_file WHERE export = %s ORDER BY kind, type, first"
    return [File(*row) for row in db.execute(query, (id_,))]


def _divided(db: Db, job: Job, per_file: int) -> Iterator[File]:
    for kind in ("output", "deleted") if job.wanted.since else ("output",):
        where, values = _conditions(job, kind)
        name = "v.type" if kind == "output" else "'Bundle'"
        query = (
            "SELECT type, part, count(*), min(vid), max(vid) FROM ("  # noqa: S608
            f"SELECT {name} AS type, v.vid, (row_number() OVER (PARTITION BY {name} ORDER BY v.vid) - 1) / %s AS part"
            f" FROM version v WHERE {where}) AS numbered GROUP BY type, part ORDER BY type, part"
        )
        for type_, part, count, first, last in db.execute(query, [per_file, *values]):
            lines = count if kind == "output" else -(-count // DELETES_A_LINE)
            prefix = "deleted." if kind == "deleted" else ""
            yield File(f"{prefix}{type_}.{part + 1:03}.ndjson", kind, type_, lines, first, last)


def _conditions(job: Job, kind: str, first: int = 0, last: int = LAST) -> tuple[str, list[Any]]:
    wanted = job.wanted
    clauses: list[tuple[str, Any]] = [
        ("v.vid >= %s", first),
        ("v.vid <= %s", last),
        ("v.updated <= %s", job.at),
        ("v.superseded > %s", job.at),
        ("v.deleted = %s", kind == "deleted"),
    ]
    if wanted.types:
        clauses.append(("v.type = ANY(%s)", wanted.types))
    if wanted.since:
        clauses.append(("v.updated > %s", datetime.fromisoformat(wanted.since)))
    if wanted.until:
        clauses.append(("v.updated < %s", datetime.fromisoformat(wanted.until)))
    if wanted.patients is not None:
        terms = [compartment(patient) for patient in wanted.patients]
        # The bounds stand inside too: a page of a file must not gather what the whole export holds.
        named = f"SELECT vid FROM term WHERE term = ANY(%s::uuid[]) AND vid BETWEEN {first:d} AND {last:d}"  # noqa: S608
        clauses.append((f"v.vid = ANY(ARRAY({named}))", terms))
    return " AND ".join(clause for clause, _ in clauses), [value for _, value in clauses]


def lines(pool: ConnectionPool, job: Job, file: File) -> Iterator[bytes]:
    """Yield the NDJSON of a file, some hundred lines at a time, each read by itself: a slow client holds nothing."""
    at = file.first
    while at <= file.last:
        with pool.connection() as db:
            rows = _rows(db, job, file, at)
        if not rows:
            return
        yield b"".join(_deletes(rows)) if file.kind == "deleted" else b"".join(f"{row[1]}\n".encode() for row in rows)
        at = rows[-1][0] + 1


def _rows(db: Db, job: Job, file: File, start: int) -> list[Any]:
    where, values = _conditions(job, file.kind, start, file.last)
    if file.kind == "output":
        where, values = f"{where} AND v.type = %s", [*values, file.type]
    columns = "v.vid, v.content::text, v.type, v.id"
    query = f"SELECT {columns} FROM version v WHERE {where} ORDER BY v.vid LIMIT %s"  # noqa: S608
    return db.execute(query, [*values, AT_ONCE]).fetchall()


def _deletes(rows: list[Any]) -> Iterator[bytes]:
    for n in range(0, len(rows), DELETES_A_LINE):
        entries = [{"request": {"method": "DELETE", "url": f"{r[2]}/{r[3]}"}} for r in rows[n : n + DELETES_A_LINE]]
        yield dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}) + b"\n"


def everybody() -> list[str]:
    """Return the patients of an export of all patients."""
    return [ANY]
