"""The ledger's counts, as people ask for them."""

from __future__ import annotations

from typing import Any

from tasks.ledger.db import Connection

OUTCOMES = ("received", "published", "quarantined", "duplicate", "filtered", "discarded", "in_flight")


def of_run(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    """Return the deliveries that a run landed or read, each with its state and the counts of the invariant."""
    return _deliveries(
        connection,
        """
        where d.id in (select id from ledger.delivery where run_id = %(run)s)
           or d.id in (select s.delivery_id from ledger.batch_slice s join ledger.batch b on b.id = s.batch_id
                       where %(run)s in (b.run_id, b.published_by))
        """,
        {"run": run_id},
    )


def of_feed(connection: Connection, feed: str | None = None) -> list[dict[str, Any]]:
    """Return every delivery of a feed, or of all feeds, oldest first."""
    return _deliveries(connection, "where %(feed)s::text is null or d.feed = %(feed)s", {"feed": feed})


def total(deliveries: list[dict[str, Any]]) -> dict[str, int]:
    """Return the number of deliveries and the sum of every count."""
    sums = {name: sum(int(row[name]) for row in deliveries) for name in OUTCOMES}
    return {"deliveries": len(deliveries), **sums}


def findings_of_run(connection: Connection, run_id: str) -> list[tuple[str, str, str, str, int]]:
    """Return (severity, stage, code, location, count) of a run's batches, errors and the most frequent first."""
    rows = connection.execute(
        """
        select severity, stage, code, location, sum(count)::bigint from ledger.finding f
        join ledger.batch b on b.id = f.batch_id where b.run_id = %s
        group by 1, 2, 3, 4
        order by array_position(array['error', 'warning', 'information'], severity), 5 desc, 3, 4
        """,
        (run_id,),
    ).fetchall()
    return [(str(row[0]), str(row[1]), str(row[2]), str(row[3]), int(row[4])) for row in rows]


def _deliveries(connection: Connection, where: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    cursor = connection.execute(
        f"""
        select d.id, d.feed, d.name, d.state, d.duplicate_of, d.corrects, {", ".join("d." + name for name in OUTCOMES)}
        from ops.delivery d {where} order by d.id
        """,  # noqa: S608
        params,
    )
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
