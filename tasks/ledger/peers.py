"""Peers: systems that are a source and a destination, what they call things and what Sluice wrote there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.ledger.db import Connection

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Ours:
    """A thing at a peer that Sluice has written there.

    - `id` is the store's; `home` says that the thing comes from the peer itself, else it is a copy.
    - `written` are the peer's versions that came of Sluice's writing; `deleted` is what the store says.
    """

    id: str
    home: bool
    deleted: bool
    written: frozenset[str]


@dataclass(frozen=True, slots=True)
class Heard:
    """A record in which a peer spoke of a thing: the store's type and id, the peer's id."""

    resource_type: str
    id: str
    remote_id: str
    home: bool
    record: int


OURS = """
with named as (select * from unnest(%(types)s::text[], %(ids)s::text[]) n(resource_type, remote_id)),
found as (
    select n.resource_type, n.remote_id, o.id from named n
    join ledger.outbox o on o.id = n.remote_id and o.resource_type = n.resource_type
    where o.destination = %(peer)s and coalesce(o.remote_id, o.id) = n.remote_id
    union
    select n.resource_type, n.remote_id, o.id from named n
    join ledger.outbox o on o.remote_id = n.remote_id and o.resource_type = n.resource_type
    where o.destination = %(peer)s
    union
    select n.resource_type, n.remote_id, m.id from named n
    join ledger.remote m on m.resource_type = n.resource_type and m.remote_id = n.remote_id
    join ledger.outbox o on o.resource_type = m.resource_type and o.id = m.id and o.destination = m.destination
    where m.destination = %(peer)s
)
select f.resource_type, f.remote_id, f.id, coalesce(m.home, false), coalesce(r.deleted, false),
       array(
           select distinct l.remote_version from ledger.load_receipt l
           where l.destination = %(peer)s and l.resource_id = f.id and l.resource_type = f.resource_type
             and l.remote_version is not null
       )
from found f
left join ledger.remote m on m.destination = %(peer)s and m.resource_type = f.resource_type and m.id = f.id
left join fhir.resource r on r.resource_type = f.resource_type and r.id = f.id
"""


def ours(connection: Connection, peer: str, keys: Iterable[Key]) -> dict[Key, Ours]:
    """Return of things at a peer, by what it calls them (type, id), those that Sluice has written there."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    params = {"peer": peer, "types": [kind for kind, _ in wanted], "ids": [ident for _, ident in wanted]}
    rows = connection.execute(OURS, params).fetchall()
    return {(row[0], row[1]): Ours(row[2], row[3], row[4], frozenset(row[5])) for row in rows}


def stands(connection: Connection, keys: Sequence[Key]) -> dict[Key, str]:
    """Return what the store says of things, as JSON."""
    if not keys:
        return {}
    rows = connection.execute(
        """
        select r.resource_type, r.id, r.resource::text from fhir.resource r
        join unnest(%s::text[], %s::text[]) n(resource_type, id) on r.resource_type = n.resource_type and r.id = n.id
        where not r.deleted
        """,
        ([kind for kind, _ in keys], [ident for _, ident in keys]),
    ).fetchall()
    return {(row[0], row[1]): row[2] for row in rows}


def note(connection: Connection, peer: str, heard: Iterable[Heard]) -> None:
    """Keep under which ids a peer speaks of things, and in which record it did so last."""
    rows = {(one.resource_type, one.id): one for one in heard}.values()
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ledger.remote as m (destination, resource_type, id, remote_id, home, record_id)
            values (%s, %s, %s, %s, %s, %s)
            on conflict (destination, resource_type, id) do update
                set remote_id = excluded.remote_id, record_id = greatest(m.record_id, excluded.record_id)
            """,
            [(peer, one.resource_type, one.id, one.remote_id, one.home, one.record) for one in rows],
        )


def names(connection: Connection, destination: str, keys: Iterable[Key]) -> dict[Key, str]:
    """Return of the store's things (type, id) the ids of those that come from the destination itself."""
    wanted = sorted(set(keys))
    rows = connection.execute(
        """
        select m.resource_type, m.id, m.remote_id from ledger.remote m
        join unnest(%s::text[], %s::text[]) n(resource_type, id) on m.resource_type = n.resource_type and m.id = n.id
        where m.destination = %s and m.home
        """,
        ([kind for kind, _ in wanted], [ident for _, ident in wanted], destination),
    ).fetchall()
    return {(row[0], row[1]): row[2] for row in rows}


def is_read(connection: Connection, destination: str) -> bool:
    """Say whether anything was ever read from a destination."""
    row = connection.execute("select exists (select from ledger.remote where destination = %s)", (destination,))
    found = row.fetchone()
    return bool(found and found[0])
