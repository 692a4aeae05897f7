"""What a destination is given in one piece: after a crash the same versions are given again, nothing else with them.

A file that was written and not noted takes its own place then. With what was published meanwhile in it, it would be
another file, and whoever reads the folder would get its content twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.ledger import outbox
from tasks.ledger.db import Connection
from tasks.ledger.outbox import Pending

BEGIN = """
insert into ledger.round as r (destination, resource_types, ids, versions)
values (%(to)s, %(types)s, %(ids)s, %(versions)s)
on conflict (destination) do update
    set resource_types = excluded.resource_types, ids = excluded.ids, versions = excluded.versions, begun_at = now()
"""

# what was confirmed in the end is not asked for again; what was erased meanwhile is nowhere any more
AGAIN = """
select k.type, k.id, k.version, case when v.deleted then null else v.resource::text end, false, o.attempts, o.remote_id,
       coalesce(v.published_at, d.landed_at), true
from ledger.round r
cross join unnest(r.resource_types, r.ids, r.versions) with ordinality k(type, id, version, place)
join ledger.outbox o
    on o.destination = r.destination and o.resource_type = k.type and o.id = k.id and o.state = 'pending'
    and o.confirmed < k.version
left join fhir.version v on v.resource_type = k.type and v.id = k.id and v.version_id = k.version
left join ledger.delivery d on d.id = case when k.type = '!record' then k.id::bigint >> 32 end
where r.destination = %(to)s and (v.id is not null or d.id is not null)
  and not exists (select from ledger.destination p where p.name = r.destination and p.paused_until > now())
order by k.place
"""


def begin(connection: Connection, destination: str, rows: Sequence[Pending]) -> None:
    """Keep what a destination is about to be given, before it is."""
    types, ids = [row.resource_type for row in rows], [row.id for row in rows]
    versions = [row.version for row in rows]
    connection.execute(BEGIN, {"to": destination, "types": types, "ids": ids, "versions": versions})


def again(connection: Connection, destination: str) -> list[Pending]:
    """Return what a destination was being given when whoever gave it died, in the versions and order of then.

    Nothing while the destination is left alone (`outbox.pause`).
    """
    rows = connection.execute(AGAIN, {"to": destination}).fetchall()
    return [outbox.of_row(row) for row in rows]


def end(connection: Connection, destination: str) -> None:
    """Forget what was given: it is noted."""
    connection.execute("delete from ledger.round where destination = %s", (destination,))
