"""Publish: one transaction that folds a batch into the store, its tables, the ledger and the outbox.

Facts are replaced whole, newest event time first; a thing that lives on is folded from the newest contribution of
every slot. Both by (event time, landing order), so the state does not depend on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.errors import Permanent
from tasks.failpoints import reached
from tasks.ledger import claims, outbox_fill
from tasks.ledger.db import Connection
from tasks.publish import identity, incoming
from tasks.publish.incoming import by_type

Refresh = Callable[[Connection, str], object]
"""Brings the analysts' tables up to date for the (resource_type, id, old_version) of a relation, in the transaction."""

HISTORY = """
insert into fhir.history
select r.* from fhir.resource r join changed c on c.id = r.id
where c.old_version is not null and c.resource_type = {kind} and r.resource_type = {kind}
"""

COLUMNS = """
    (resource_type, id, version_id, event_time, record_id, batch_id, partner, feed, fhir_version, deleted, digest,
     resource)
"""
# publications are one at a time, so what was not there when it was weighed is not there now
CREATE = f"""
insert into fhir.resource {COLUMNS}
select c.resource_type, c.id, 1, c.event_time, c.record_id, %(batch)s, %(partner)s, %(feed)s, c.fhir_version, c.deleted,
       c.digest, source.resource::jsonb
from changed c {{source}} and c.old_version is null
"""
REPLACE = """
update fhir.resource r set
    version_id = c.old_version + 1, event_time = c.event_time, record_id = c.record_id, batch_id = %(batch)s,
    partner = %(partner)s, feed = %(feed)s, fhir_version = c.fhir_version, deleted = c.deleted, digest = c.digest,
    resource = source.resource::jsonb, published_at = now()
from changed c {source} and c.old_version is not null
  and c.resource_type = {kind} and r.resource_type = {kind} and r.id = c.id
"""
# by its place and not by a join: that would read and hash all that is staged, of held batches too
STAGED = "(select s.resource from staging.resource s where s.ctid = c.place offset 0)"
SOURCES = (
    f"cross join lateral {STAGED} source where c.place is not null",
    "join incoming source on source.ctid = c.folded where c.place is null",
)


@dataclass(frozen=True, slots=True)
class Published:
    """Counts of one publication."""

    batch_id: int
    created: int
    changed: int
    unchanged: int
    queued: int


def publish(connection: Connection, batch_id: int, token: int, refresh: Refresh, run_id: str = "") -> Published:
    """Publish a staged batch; returns at once with zeros where it is published already.

    Raises `LeaseLost` where another worker has taken the feed over, `Permanent` where the staged rows are gone
    (Postgres was restarted hard: staging is unlogged); the next run stages them again first.
    """
    with connection.transaction():
        batch = connection.execute(
            "select feed, partner, state, staged_rows from ledger.batch where id = %s for update", (batch_id,)
        ).fetchone()
        if batch is None or batch[2] != "staged":
            return Published(batch_id, 0, 0, 0, 0)
        claims.check(connection, f"feed:{batch[0]}", token)
        lock(connection)
        connection.execute("update ledger.batch set published_by = %s where id = %s", (run_id, batch_id))
        if incoming.of_batch(connection, batch_id) != batch[3]:
            raise Permanent(
                f"batch {batch_id}: its staged rows are gone in a crash; run again, it is staged anew first"
            )
        published = settle(connection, batch_id, batch[0], batch[1], refresh)
        connection.execute("delete from staging.resource where batch_id = %s", (batch_id,))
        reached("before-commit")
    reached("after-commit")
    return published


def unmerge(connection: Connection, retired: str, actor: str, reason: str, refresh: Refresh) -> Published:
    """Undo a merge of patients as an operator's act; both get a version as if nothing had merged them.

    Raises `ConfigError` where the patient is not merged into another.
    """
    with connection.transaction():
        lock(connection)
        batch_id, feed = identity.take_apart(connection, retired, actor, reason)
        return settle(connection, batch_id, feed, feed.partition(".")[0], refresh)


def lock(connection: Connection) -> None:
    """Wait until no other publication is going on: two that fold the same thing would each miss what the other says."""
    connection.execute("select pg_advisory_xact_lock(hashtextextended('sluice:publish', 0))")
    # one at a time may have room: a batch's joins and sorts stay in memory
    connection.execute("set local work_mem = '64MB'")
    # what is analysed are a batch's own tables: their size decides, a sample tells the rest
    connection.execute("set local default_statistics_target = 10")
    # compiling a batch's expressions takes longer than running them
    connection.execute("set local jit = off")
    # what a batch touches is found by its key: reading the whole store for it costs more, the larger that is
    connection.execute("set local random_page_cost = 1.1")


def settle(connection: Connection, batch_id: int, feed: str, partner: str, refresh: Refresh) -> Published:
    """Take what the tables `weighed` and `changed` say into store, tables and outbox, and close the batch."""
    counts = _write(connection, batch_id, feed, partner)
    identity.redirect(connection)
    refresh(connection, "changed")
    queued = outbox_fill.fill(connection, batch_id)
    _close(connection, batch_id, queued)
    return Published(batch_id, *counts, queued)


def _write(connection: Connection, batch_id: int, feed: str, partner: str) -> tuple[int, int, int]:
    """Write what changed; return how many were created, changed, unchanged."""
    params = {"batch": batch_id, "partner": partner, "feed": feed}
    rows = connection.execute(
        """
        select resource_type, count(*) filter (where old_version is null), count(old_version) from changed group by 1
        """
    ).fetchall()
    created, replaced = (sum(row[column] for row in rows) for column in (1, 2))
    # what is there is written over first: what is made here is not looked at again
    kinds = sorted(kind for kind, _, count in rows if count)
    by_type(connection, HISTORY, kinds)
    for source in SOURCES:
        by_type(connection, REPLACE.replace("{source}", source), kinds, params)
    for source in SOURCES if created else ():
        connection.execute(CREATE.format(source=source), params)
    row = connection.execute("select count(*) from weighed").fetchone()
    assert row is not None  # noqa: S101 - counts are one row
    return created, replaced, int(row[0]) - created - replaced


def _close(connection: Connection, batch_id: int, queued: int) -> None:
    """The store has the batch; it is published when no destination waits for anything of it."""
    connection.execute(
        """
        update ledger.batch set
            state = case when %(queued)s = 0 then 'published' else 'stored' end, awaiting = %(queued)s,
            stored_at = now(), published_at = case when %(queued)s = 0 then now() end
        where id = %(batch)s
        """,
        {"batch": batch_id, "queued": queued},
    )
