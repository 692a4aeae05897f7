"""The outbox: what each destination should have and has confirmed; a batch ends with the last of its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.sql import SQL, Identifier

from mappings.engine.json import loads
from tasks.ledger.db import Connection
from tasks.ledger.outbox_fill import RECORD
from tasks.ledger.outbox_settle import SETTLE
from tasks.model import Resource


@dataclass(frozen=True, slots=True)
class Pending:
    """What a destination does not have yet.

    - `resource` is None where the resource is deleted; `text` is its JSON.
    - Where a record itself is to be sent, `record` is its number, `resource_type` is `!record`, `resource` None.
    - `said`: the version is the destination's own word, read from there.
    - `attempts` is how often it was tried; `remote_id` is the destination's own id of it.
    - `at` is when the version was published, or the record landed.
    """

    resource_type: str
    id: str
    version: int
    resource: Resource | None
    said: bool = False
    attempts: int = 0
    remote_id: str | None = None
    text: str = ""
    at: datetime | None = None

    @property
    def key(self) -> str:
        """`Type/id`."""
        return f"{self.resource_type}/{self.id}"

    @property
    def record(self) -> int | None:
        """The number of the record that is to be sent itself."""
        return int(self.id) if self.resource_type == RECORD else None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a destination said of one version: `sent`, `unchanged`, `refused` or `retry`, with the transport's code."""

    resource_type: str
    id: str
    version: int
    status: str
    code: str
    finding: str | None = None
    retry_after: float | None = None
    remote_id: str | None = None
    remote_version: str | None = None


_ROWS = """
select t.resource_type, t.id, coalesce(r.version_id, t.wanted), case when r.deleted then null else r.resource::text end,
       m.record_id is not null, t.attempts, t.remote_id, coalesce(r.published_at, d.landed_at), t.due
from turn t left join fhir.resource r on r.resource_type = t.resource_type and r.id = t.id
left join ledger.delivery d on d.id = case when t.resource_type = '!record' then t.id::bigint >> 32 end
left join ledger.remote m
    on m.destination = %(to)s and m.resource_type = r.resource_type and m.id = r.id and m.record_id = r.record_id
order by t.batch, t.resource_type, t.id
"""
PENDING = """
with turn as materialized (
    select resource_type, id, wanted, attempts, remote_id, true as due, batches[1] as batch from ledger.outbox
    where destination = %(to)s and state = 'pending' and next_at <= now()
      and not exists (select from ledger.destination where name = %(to)s and paused_until > now())
    order by batches[1], resource_type, id limit %(limit)s
)"""
AMONG = """
with turn as materialized (
    select resource_type, id, wanted, attempts, remote_id, next_at <= now() as due, batches[1] as batch
    from ledger.outbox join unnest(%(types)s::text[], %(ids)s::text[]) as k(t, i) on t = resource_type and i = id
    where destination = %(to)s and state = 'pending'
)"""


def pending(connection: Connection, destination: str, limit: int) -> list[Pending]:
    """Return what is due for a destination, the merged newest version of each, oldest wish first.

    Nothing is due while the destination is left alone (`pause`).
    """
    rows = connection.execute(_whole(PENDING), {"to": destination, "limit": limit}).fetchall()
    return [of_row(row) for row in rows]


def among(connection: Connection, destination: str, keys: Collection[str]) -> tuple[list[Pending], set[str]]:
    """Return which of these (`Type/id`) are due for the destination, and which of them wait for their time."""
    types, ids = _split(keys)
    rows = connection.execute(_whole(AMONG), {"to": destination, "types": types, "ids": ids}).fetchall()
    return [of_row(row) for row in rows if row[-1]], {f"{row[0]}/{row[1]}" for row in rows if not row[-1]}


def remote_ids(connection: Connection, destination: str, keys: Collection[str]) -> dict[str, str]:
    """Return the destination's own ids of things (`Type/id`), as far as it has assigned any."""
    types, ids = _split(keys)
    rows = connection.execute(
        """
        select resource_type, id, remote_id
        from ledger.outbox join unnest(%s::text[], %s::text[]) as k(t, i) on t = resource_type and i = id
        where destination = %s and remote_id is not null
        """,
        (types, ids, destination),
    ).fetchall()
    return {f"{kind}/{ours}": str(theirs) for kind, ours, theirs in rows}


class Lookup:
    """Current resources of the store (`tasks.deliver.port.Store`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, keys: Collection[str]) -> dict[str, Resource]:
        """Return current resources by key (`Type/id`), without those that are unknown or deleted."""
        return self._of(keys, deleted=False)

    def last(self, keys: Collection[str]) -> dict[str, Resource]:
        """Return resources by key as `get` does, and of what is deleted what was last said of it."""
        return self._of(keys, deleted=True)

    def _of(self, keys: Collection[str], *, deleted: bool) -> dict[str, Resource]:
        rows = self._connection.execute(
            """
            select resource_type || '/' || id, resource::text
            from fhir.resource join unnest(%s::text[], %s::text[]) as k(t, i) on t = resource_type and i = id
            where not deleted or %s
            """,
            (*_split(keys), deleted),
        ).fetchall()
        return {key: loads(text) for key, text in rows}

    def beside(self, keys: Collection[str], resource_type: str) -> dict[str, list[Resource]]:
        """Return, by key, the current resources of a type whose version the same record made."""
        rows = self._connection.execute(
            """
            select r.resource_type || '/' || r.id, b.resource::text
            from fhir.resource r join unnest(%s::text[], %s::text[]) as k(t, i) on t = r.resource_type and i = r.id
            join fhir.resource b on b.record_id = r.record_id and b.resource_type = %s and not b.deleted
            order by 1, b.id
            """,
            (*_split(keys), resource_type),
        ).fetchall()
        found: dict[str, list[Resource]] = {}
        for key, text in rows:
            found.setdefault(key, []).append(loads(text))
        return found

    def table(self, name: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table of the schema `core`, in one snapshot, some thousands in memory at a time."""
        query = SQL("select {} from {}").format(SQL(", ").join(map(Identifier, columns)), Identifier("core", name))
        with self._connection.transaction(), self._connection.cursor("sluice_table") as cursor:
            cursor.itersize = 5_000
            for row in cursor.execute(query):
                yield dict(zip(columns, row, strict=True))


def backlog(connection: Connection, destination: str) -> int:
    """Return how many resources a destination does not have yet."""
    row = connection.execute(
        "select count(*) from ledger.outbox where destination = %s and state = 'pending'", (destination,)
    ).fetchone()
    return int(row[0]) if row else 0


def standing(connection: Connection) -> list[dict[str, Any]]:
    """Return how every destination stands: what waits for it and since when, what it refused, why it is left alone."""
    cursor = connection.execute(
        """
        select coalesce(o.destination, d.name) as destination, coalesce(o.waiting, 0) as waiting, o.since,
               coalesce(o.refused, 0) as refused, coalesce(d.failures, 0) as failures,
               case when d.failures > 0 then d.why end as why, d.paused_until
        from (
            select destination, count(*) filter (where state = 'pending') as waiting,
                   min(updated_at) filter (where state = 'pending') as since,
                   count(*) filter (where state = 'refused') as refused
            from ledger.outbox where state in ('pending', 'refused') group by 1
        ) o full join ledger.destination d on d.name = o.destination order by 1
        """
    )
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def pause(connection: Connection, destination: str, why: str, seconds: float | None = None) -> None:
    """Leave a destination alone that took nothing: for `seconds`, or longer with every time, up to five minutes.

    Its queue stays as it is, so that everything goes in order once it is there again.
    """
    connection.execute(
        """
        insert into ledger.destination as d (name, failures, why, paused_until)
        values (%(to)s, 1, %(why)s, now() + make_interval(secs => coalesce(%(seconds)s::float, 1)))
        on conflict (name) do update set
            failures = d.failures + 1, why = excluded.why, updated_at = now(),
            paused_until = now() + make_interval(secs => coalesce(%(seconds)s, least(300, 2 ^ least(d.failures, 9))))
        """,
        {"to": destination, "why": why, "seconds": seconds},
    )


def resume(connection: Connection, destination: str) -> None:
    """Note that a destination takes something again."""
    connection.execute(
        """
        update ledger.destination set failures = 0, paused_until = null, updated_at = now()
        where name = %s and failures > 0
        """,
        (destination,),
    )


def settle(connection: Connection, destination: str, answers: Iterable[Answer]) -> None:
    """Write down a destination's answers, and end the batches that waited for nothing else.

    A version that grew while its predecessor was sent stays pending. Every record that says a refused resource is
    quarantined.
    """
    rows = [
        (a.resource_type, a.id, a.version, a.status, a.code, a.finding, a.retry_after, a.remote_id, a.remote_version)
        for a in answers
    ]
    with connection.transaction():
        connection.execute(
            """
            create temp table answer (
                resource_type text, id text collate "C", version int, status text, code text, finding text,
                retry_after float, remote_id text, remote_version text
            ) on commit drop
            """
        )
        with connection.cursor().copy("copy answer from stdin") as copy:
            for row in rows:
                copy.write_row(row)
        for statement in SETTLE:
            connection.execute(statement, {"destination": destination})


def _whole(turn: str) -> bytes:
    return "".join((turn, _ROWS)).encode()


def of_row(row: tuple[Any, ...]) -> Pending:
    """Return what one row of the queue says."""
    kind, key, version, text, said, attempts, remote_id, at, _due = row
    return Pending(kind, key, version, text and loads(text), said, attempts, remote_id, text or "", at)


def _split(keys: Iterable[str]) -> tuple[list[str], list[str]]:
    pairs = [key.partition("/") for key in keys]
    return [kind for kind, _, _ in pairs], [ident for _, _, ident in pairs]
