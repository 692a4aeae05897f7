"""What publishing a staged batch would change, worked out as publishing does it, and never written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mappings.engine.json import loads
from tasks.ledger.db import Connection
from tasks.model import Resource
from tasks.publish import incoming


@dataclass(frozen=True, slots=True)
class Change:
    """A resource as it is published and as it would be; None where it is not, or would not be, there."""

    resource_type: str
    id: str
    record: int
    before: Resource | None
    after: Resource | None


def preview(connection: Connection, batch_id: int) -> Iterator[Change]:
    """Yield what would change, ordered by type and id; the caller's transaction must be rolled back afterwards."""
    incoming.of_batch(connection, batch_id, again=True)
    cursor = connection.execute(
        """
        select c.resource_type, c.id, c.record_id, case when not r.deleted then r.resource::text end,
               case when not c.deleted then coalesce(i.resource::text, s.resource) end
        from changed c left join incoming i on i.ctid = c.folded left join staging.resource s on s.ctid = c.place
        left join fhir.resource r on r.resource_type = c.resource_type and r.id = c.id order by 1, 2
        """
    )
    for kind, key, record, before, after in cursor:
        yield Change(kind, key, record, before and loads(before), after and loads(after))
