"""Shreds erased records in landing: their bytes become zeros, what is left is sealed under a new key.

Every object has a key of its own, which only its header holds. The header of the old object is overwritten, so that
its ciphertext is of use to nobody; copies of it elsewhere stay readable until the key that wraps them is destroyed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tasks import work
from tasks.errors import ConfigError
from tasks.feed import load
from tasks.landing.store import Landing
from tasks.ledger import erased
from tasks.ledger.db import Connection
from tasks.ledger.erased import Hole, ToShred
from tasks.model import record_id
from tasks.process.stage import Stager
from tasks.replay.read import places


def shred(connection: Connection, landing: Landing) -> Counter[str]:
    """Blank what is to be blanked; return how many deliveries were `shredded`, and how many still `waits`.

    Can be broken off at any point and called again. Raises `Transient` and `Permanent` where landing does not take it.
    """
    counts: Counter[str] = Counter()
    for one in erased.to_shred(connection):
        if one.waits:
            counts["waits"] += 1
            continue
        if one.delivery_id == one.told_by:
            _locate(connection, landing, one)
        holes = erased.holes(connection, one.told_by)
        landing.rewrite(one.object, [(hole.start, hole.next.offset) for hole in holes], one.size)
        erased.shredded(connection, one)
        counts["shredded"] += 1
    return counts


def _locate(connection: Connection, landing: Landing, one: ToShred) -> None:
    """Find where the records stand, and let every reader pass them over before the bytes are gone."""
    ordinals = erased.records_of(connection, one.delivery_id)
    if ordinals:
        found = list(_holes(connection, landing, one, ordinals))
        with connection.transaction():
            erased.set_holes(connection, one.delivery_id, found)


def _holes(connection: Connection, landing: Landing, one: ToShred, ordinals: list[int]) -> Iterator[Hole]:
    row = connection.execute("select feed from ledger.delivery where id = %s", (one.delivery_id,)).fetchone()
    if row is None:
        raise ConfigError(f"delivery {one.delivery_id} is not known to the ledger any more")
    stager = Stager(load(row[0]), landing, work.pipeline(row[0]))
    records = [record_id(one.delivery_id, ordinal) for ordinal in ordinals]
    for before, frame in places(connection, stager, records):
        yield Hole(frame.ordinal, before.offset, frame.next)
