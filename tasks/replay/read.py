"""Reads records again from landing, by the places in their deliveries from which they were read before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import groupby

from tasks.errors import Permanent
from tasks.ledger.db import Connection
from tasks.ledger.deliveries import EXPECTED, Delivery, of_row
from tasks.model import Frame, Position, record_id, split_record_id
from tasks.process.stage import Stager

STARTS = f"""
select d.id, d.object, d.landed_at, s.start, d.corrects, g.size, false, {EXPECTED}, d.is_full from ledger.delivery d
join ledger.batch_slice s on s.delivery_id = d.id left join ledger.segment g on g.delivery_id = d.id
where d.id = %s order by (s.start->>'ordinal')::bigint
"""  # noqa: S608


def read_again(reader: Connection, stager: Stager, records: Iterable[int]) -> Iterator[tuple[int, datetime, Frame]]:
    """Yield (record, when it was landed, frame) in the records' order.

    Raises `Permanent` where a delivery no longer holds a record that it held.
    """
    for delivery, _, frame in _found(reader, stager, records):
        yield record_id(delivery.id, frame.ordinal), delivery.landed_at, frame


def places(reader: Connection, stager: Stager, records: Iterable[int]) -> Iterator[tuple[Position, Frame]]:
    """Yield (the position at which a record begins, its frame) in the records' order; raises as `read_again` does."""
    for _, before, frame in _found(reader, stager, records):
        yield before, frame


def _found(reader: Connection, stager: Stager, records: Iterable[int]) -> Iterator[tuple[Delivery, Position, Frame]]:
    for delivery_id, group in groupby(sorted(records), key=lambda record: split_record_id(record)[0]):
        rows = reader.execute(STARTS.encode(), (delivery_id,)).fetchall()
        starts = [of_row(row) for row in rows]
        if left := stager.left.get(delivery_id):
            starts = sorted([*starts, replace(starts[0], position=left)], key=lambda start: start.position.ordinal)
        wanted = deque(split_record_id(record)[1] for record in group)
        while wanted:
            yield from _from(reader, stager, starts, wanted)


def _from(
    reader: Connection, stager: Stager, starts: list[Delivery], wanted: deque[int]
) -> Iterator[tuple[Delivery, Position, Frame]]:
    """Yield what is wanted from the nearest start on, until another start is nearer to the next."""
    delivery = _nearest(starts, wanted[0])
    before = delivery.position
    for frame in stager.frames(reader, replace(delivery, growing=False)):
        if frame.ordinal == wanted[0]:
            wanted.popleft()
            stager.left[delivery.id] = frame.next
            yield delivery, before, frame
            if not wanted or _nearest(starts, wanted[0]).position.ordinal > frame.ordinal + 1:
                return
        before = frame.next
    raise Permanent(
        f"delivery {delivery.id}: record {wanted[0]} is no longer in what was landed; nothing was changed, "
        f"see `sluice lineage {delivery.id}`"
    )


def _nearest(starts: list[Delivery], ordinal: int) -> Delivery:
    return next(one for one in reversed(starts) if one.position.ordinal <= ordinal)
