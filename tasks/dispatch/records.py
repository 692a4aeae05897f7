"""Records' own bytes for destinations that are sent them unchanged, read again from landing."""

from __future__ import annotations

from collections.abc import Sequence

from tasks import work
from tasks.feed import load
from tasks.ledger.db import Connection
from tasks.process.stage import Stager
from tasks.replay.read import read_again

FEEDS = """
select d.feed, array_agg(r.id order by r.id) from unnest(%s::bigint[]) r(id)
join ledger.delivery d on d.id = r.id >> 32 group by d.feed
"""


class Records:
    """Reads records by their numbers; `tasks.deliver.drain.Contents`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, records: Sequence[int]) -> dict[int, bytes]:
        """Return the records' bytes; raises `Permanent` where landing no longer holds one."""
        found: dict[int, bytes] = {}
        for feed, mine in self._connection.execute(FEEDS, (list(records),)).fetchall():
            stager = Stager(load(feed), work.landing(), work.pipeline(feed))
            found |= {record: frame.data for record, _, frame in read_again(self._connection, stager, mine)}
        return found
