"""Which records a replay or a release is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.errors import ConfigError
from tasks.ledger.db import Connection
from tasks.model import split_record_id

CONDITIONS = {
    "feed": "d.feed = %(feed)s",
    "delivery": "r.id between %(delivery)s::bigint << 32 and (%(delivery)s::bigint << 32) + 4294967295",
    "records": "r.id = any(%(records)s)",
    "code": "({found})",
    "location": "({found})",
    "mapping_version": "b.mapping_version = %(mapping_version)s",
    "since": "d.landed_at >= %(since)s",
    "until": "d.landed_at < %(until)s",
}

# where both a code and a place are asked for, one finding must be both
FOUND = """
r.id in (select f.record_id from ledger.quarantine f where {what} and f.ended_at is null)
or r.state is null and r.batch_id in (select f.batch_id from ledger.finding f where {what})
and exists (
    select from ledger.finding f
    where f.batch_id = r.batch_id and {what} and (f.records is null or r.id <@ f.records)
)
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """What an operator asked for; everything that is given must hold.

    - `code` and `location` (`PID-7`, a column) mean records that are in quarantine for it, and those that went on with
      such a finding; of batches from before the ledger kept which records had it, all of them.
    - `since` and `until` are about when the delivery was landed.
    """

    feed: str | None = None
    delivery: int | None = None
    records: tuple[int, ...] = ()
    code: str | None = None
    location: str | None = None
    mapping_version: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def given(self) -> dict[str, Any]:
        """Return what was given."""
        return {name: value for name in CONDITIONS if (value := getattr(self, name)) not in {None, ()}}

    def words(self) -> str:
        """Return the selection as one line, for the audit trail."""
        said = self.given()
        if self.records:
            said["records"] = ",".join("{}:{}".format(*split_record_id(record)) for record in self.records[:20])
        return " ".join(f"{name.removesuffix('s')}:{value}" for name, value in said.items()) or "everything"


def check_known(connection: Connection, selection: Selection) -> None:
    """Raise `ConfigError` for a feed, delivery, record or mapping version that nobody knows: it was mistyped."""
    asked: dict[str, tuple[str, Any]] = {
        "feed": ("select distinct feed from ledger.delivery where feed = any(%s)", selection.feed),
        "delivery": ("select id from ledger.delivery where id = any(%s)", selection.delivery),
        "mapping version": (
            "select distinct mapping_version from ledger.batch where mapping_version = any(%s)",
            selection.mapping_version,
        ),
    }
    for name, (query, value) in asked.items():
        if value is not None and not connection.execute(query.encode(), ([value],)).fetchone():
            raise ConfigError(f"{name} {value} is not known to the ledger; `sluice lineage` finds a file's delivery")
    rows = connection.execute("select id from ledger.record where id = any(%s)", (list(selection.records),)).fetchall()
    for record in sorted(set(selection.records) - {row[0] for row in rows}):
        name = "{}:{}".format(*split_record_id(record))
        raise ConfigError(f"record {name} is not known to the ledger; see `sluice quarantine list`")


def feeds(connection: Connection, selection: Selection) -> list[str]:
    """Return the feeds that the selection may have records of."""
    where, params = _where(selection, ("feed", "since", "until"))
    if selection.delivery is not None or selection.records:
        where += " and d.id = any(%(ids)s)"
        ids = {split_record_id(record)[0] for record in selection.records}
        params["ids"] = [selection.delivery] if selection.delivery is not None else list(ids)
    rows = connection.execute(
        f"select distinct d.feed from ledger.delivery d where true{where} order by 1".encode(),  # noqa: S608
        params,
    )
    return [str(row[0]) for row in rows.fetchall()]


def chunks(
    connection: Connection, selection: Selection, feed: str, size: int, *, only: str = "true"
) -> Iterator[list[int]]:
    """Yield the feed's selected records, `size` at a time in landing order; `only` is a further condition in SQL."""
    where, params = _where(selection, tuple(CONDITIONS))
    after = -1
    while True:
        rows = connection.execute(
            f"""
            select r.id from ledger.record r join ledger.batch b on b.id = r.batch_id
            join ledger.delivery d on d.id = r.id >> 32
            where d.feed = %(own)s and r.id > %(after)s and ({only}){where} order by r.id limit %(size)s
            """.encode(),  # noqa: S608
            {**params, "own": feed, "after": after, "size": size},
        ).fetchall()
        if not rows:
            return
        yield [int(row[0]) for row in rows]
        after = rows[-1][0]


def _where(selection: Selection, names: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    given = {name: value for name, value in selection.given().items() if name in names}
    if "records" in given:
        given["records"] = list(given["records"])
    what = " and ".join(f"f.{name} = %({name})s" for name in ("code", "location") if name in given)
    found = FOUND.format(what=what)
    return "".join(f" and {CONDITIONS[name].format(found=found)}" for name in given), given
