"""Deliveries: from the first sight of an offer to the last record known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tasks.errors import LeaseLost
from tasks.feed import Feed
from tasks.ledger.db import Connection
from tasks.model import BEGIN, Offer, Position


@dataclass(frozen=True, slots=True)
class Delivery:
    """A landed delivery that is being read: where its bytes are and where reading goes on.

    - `size` is how many bytes of a listener's segment count; None where the whole object does.
    - `growing`: more may come behind `size`, so that its end is not known yet.
    - `expected` is how many records its manifest says that it holds; `full` that it says everything.
    """

    id: int
    object: str
    landed_at: datetime
    position: Position
    corrects: int | None
    size: int | None = None
    growing: bool = False
    expected: int | None = None
    full: bool = False


EXPECTED = """
case when strpos(d.name, '!') = 0 or not exists (
    select from ledger.delivery beside where beside.feed = d.feed and beside.landed_at = d.landed_at
      and beside.id <> d.id and split_part(beside.name, '!', 1) = split_part(d.name, '!', 1)
      and strpos(beside.name, '!') > 0
) then (d.offer #>> '{meta,expect,records}')::bigint end
"""
"""What the manifest says of a delivery; of an archive it is the whole's count, which its only file has."""

Verdict = Literal["landed", "duplicate", "correction"]


def open_delivery(connection: Connection, feed: Feed, offer: Offer, run_id: str | None) -> int:
    """Note that an offer is being fetched; return the delivery's id, the same one after a crash."""
    row = connection.execute(
        """
        insert into ledger.delivery as d (feed, partner, format, name, version, offer, run_id)
        values (%s, %s, %s, %s, %s, %s, %s)
        on conflict (feed, name, version) do update set run_id = excluded.run_id, offer = excluded.offer
        returning id
        """,
        (feed.name, feed.partner, feed.format, offer.name, offer.version, _json(offer), run_id),
    ).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])


REPEATED = """
{0}.state = 'duplicate' and exists (
    select from ledger.delivery e
    where e.feed = {0}.feed and e.name = {0}.name and e.id < {0}.id and e.sha256 = {0}.sha256
      and e.state in ('landed', 'read', 'duplicate')
)"""
"""What came before under its own name says nothing new: not even that it is the name's last word again."""

LANDED = f"""
with me as (select id, feed, name from ledger.delivery where id = %(id)s),
predecessor as (
    select d.id, d.sha256 from ledger.delivery d, me
    where d.feed = me.feed and d.name = me.name and d.id < me.id and d.state in ('landed', 'read', 'duplicate')
      and not ({REPEATED.format("d")})
    order by d.id desc limit 1
),
newest as (
    select d.sha256 from ledger.delivery d, me
    where d.feed = me.feed and d.id <> me.id and d.is_full and d.state in ('landed', 'read')
    order by d.landed_at desc, d.id desc limit 1
),
twin as (
    select coalesce(d.duplicate_of, d.id) as id from ledger.delivery d, me
    where d.feed = me.feed and d.sha256 = %(sha)s and d.id <> me.id and d.state in ('landed', 'read', 'duplicate')
      and (d.name = me.name or not %(replaces)s or (
        -- what was replaced under another name stands no more: then this is news
        not ({REPEATED.format("d")})
        and not exists (
            select from ledger.delivery later
            where later.feed = d.feed and later.name = d.name and later.id > d.id and later.id <> me.id
              and later.state in ('landed', 'read', 'duplicate') and not ({REPEATED.format("later")})
        )
        and not exists (select from predecessor p where p.sha256 <> %(sha)s)
      ))
      and not (%(full)s and exists (select from newest n where n.sha256 <> %(sha)s))
    order by (d.name = me.name) desc, d.id desc limit 1
)
update ledger.delivery d set
    object = %(object)s, size = %(size)s, sha256 = %(sha)s, landed_at = now(), is_full = %(full)s,
    duplicate_of = (select id from twin),
    corrects = case when exists (select from twin) then null else (select id from predecessor) end,
    state = case when exists (select from twin) then 'duplicate' else 'landed' end
where d.id = %(id)s and d.state = 'landing'
returning d.duplicate_of, d.corrects
"""  # noqa: S608 (made of constants)


def landed(
    connection: Connection,
    delivery_id: int,
    obj: str,
    size: int,
    sha256: bytes,
    *,
    replaces: bool = True,
    full: bool = False,
) -> Verdict:
    """Commit that the delivery's bytes are kept, and say what it is beside its feed's earlier ones.

    The same bytes under the same name, however often it was corrected since, or as another name's last word: a
    duplicate. The same name with other bytes: a correction, which `replaces` its predecessor unless the feed adds. A
    `full` one speaks for everything that came before it, so that A, B, A ends with A.
    """
    params = {"id": delivery_id, "object": obj, "size": size, "sha": sha256, "replaces": replaces, "full": full}
    row = connection.execute(LANDED, params).fetchone()
    if row is None:
        raise LeaseLost(f"delivery {delivery_id}: another worker has landed it; this one changes nothing")
    if row[0] is not None:
        return "duplicate"
    return "landed" if row[1] is None else "correction"


def withdraw(connection: Connection, delivery_id: int) -> None:
    """Forget a delivery that was never landed: its sender broke off."""
    connection.execute("delete from ledger.delivery where id = %s and state = 'landing'", (delivery_id,))


def finished(connection: Connection, delivery_id: int) -> None:
    """Note that the source was told that the bytes are kept."""
    connection.execute("update ledger.delivery set finished_at = now() where id = %s", (delivery_id,))


def unfinished(connection: Connection, feed: str) -> list[tuple[int, Offer]]:
    """Return landed deliveries whose source was not told so: a crash came between."""
    rows = connection.execute(
        """
        select id, offer from ledger.delivery
        where feed = %s and finished_at is null and state <> 'landing' order by id
        """,
        (feed,),
    ).fetchall()
    return [(int(row[0]), _offer(row[1])) for row in rows]


def unread(connection: Connection, feed: str, limit: int = 1000) -> list[Delivery]:
    """Return landed deliveries with records that nobody has read yet, in landing order."""
    rows = connection.execute(
        f"""
        select d.id, d.object, d.landed_at, d.position, d.corrects, s.size,
               s.delivery_id is not null and s.closed_at is null, {EXPECTED}, d.is_full
        from ledger.delivery d left join ledger.segment s on s.delivery_id = d.id
        where d.feed = %s and d.state = 'landed'
          and (s.delivery_id is null or s.closed_at is not null or s.size > s.read_to)
        order by d.id limit %s
        """.encode(),  # noqa: S608
        (feed, limit),
    ).fetchall()
    return [of_row(row) for row in rows]


def of_row(row: Sequence[Any]) -> Delivery:
    """Return the delivery of a row: id, object, landed_at, position, corrects, size, growing, expected, full."""
    return Delivery(
        row[0], row[1], row[2], position(row[3]), row[4], size=row[5], growing=row[6], expected=row[7], full=row[8]
    )


def position(value: Any) -> Position:
    """Return a stored position; the beginning where none is stored."""
    return BEGIN if value is None else Position(value["offset"], value["ordinal"], value["context"])


def position_json(value: Position) -> str:
    """Return a position as it is stored."""
    return json.dumps({"offset": value.offset, "ordinal": value.ordinal, "context": dict(value.context)})


def _json(offer: Offer) -> str:
    meta: Mapping[str, Any] = offer.meta
    return json.dumps({"name": offer.name, "version": offer.version, "size": offer.size, "meta": dict(meta)})


def _offer(value: Any) -> Offer:
    return Offer(value["name"], value["version"], value["size"], value["meta"])
