"""What publishing costs beside the least that any store could do: `python tests/bench/store.py [ROWS]` prints JSON.

The same Observations, in the same run, into the same server with fsync on: `bare` is a COPY into a staging table and
one upsert into a logged table with a primary key. `first` is a load of all that a publication does (staging, records,
change detection, ledger, outbox for one destination, the store); `again` loads them unchanged in a new delivery, after
the destination has confirmed them; `resaid` does so with a newer event time; `changed` says something else under the
same ids, with their history. Rates are rows a second of wall time, medians of rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from infra.dev.scratch import scratch_postgres
from infra.migrations import upgrade
from mappings.engine.ids import resource_id
from mappings.engine.json import digest, dumps
from tasks.feed import Feed
from tasks.ledger import batches, claims, spoken
from tasks.ledger.batches import Members, Slice
from tasks.ledger.db import Connection, connect
from tasks.model import Position, record_id
from tasks.process.stage import STAGE
from tasks.publish.store import publish
from tests.bench.load import observation

BATCH = 10_000
ROUNDS = 3
BARE = """
create unlogged table bare_staging (resource_type text, id text collate "C", resource jsonb);
create table bare (
    resource_type text not null, id text collate "C" not null, resource jsonb not null, primary key (resource_type, id)
);
"""
UPSERT = """
insert into bare select resource_type, id, resource from bare_staging
on conflict (resource_type, id) do update set resource = excluded.resource
"""
Row = tuple[str, str, bytes, str]


def rows_of(count: int, turn: int, said: int) -> list[Row]:
    """Return the rows of `count` Observations of about 0.8 KB; `said` changes what they say, `turn` which they are."""
    rows = []
    for number in range(count):
        one = observation(number // 20, number % 20)
        one["id"] = resource_id("bench", "Observation", str(turn), str(number))
        one["valueQuantity"]["value"] = said + number % 7
        rows.append(("Observation", one["id"], digest(one), dumps(one).decode()))
    return rows


def bare(connection: Connection, rows: list[Row]) -> None:
    """COPY and one upsert, a batch at a time."""
    for start in range(0, len(rows), BATCH):
        with connection.transaction():
            with connection.cursor().copy("copy bare_staging from stdin") as copy:
                for kind, key, _digest, text in rows[start : start + BATCH]:
                    copy.write_row((kind, key, text))
            connection.execute(UPSERT)
            connection.execute("truncate bare_staging")


def publication(feed: Feed, token: int, when: str) -> Callable[[Connection, list[Row]], None]:
    """Return a load of all that a publication does."""

    def load(connection: Connection, rows: list[Row]) -> None:
        for start in range(0, len(rows), BATCH):
            batch = _stage(connection, feed, token, rows[start : start + BATCH], when)
            publish(connection, batch, token, lambda _connection, _changed: None, "bench")

    return load


def _stage(connection: Connection, feed: Feed, token: int, rows: list[Row], when: str) -> int:
    with connection.transaction():
        delivery = _delivery(connection, feed)
        batch_id = batches.open_batch(connection, feed, token, "bench", "bench")
        members = Members(slices=[Slice(delivery, 1, len(rows), Position())])
        members.slices[0].counts["received"] = len(rows)
        with connection.cursor().copy(STAGE) as copy:
            for ordinal, (kind, key, hashed, text) in enumerate(rows, 1):
                record = record_id(delivery, ordinal)
                members.records.append((record, date(2026, 1, 5), "line", None, None))
                row = (batch_id, record, kind, key, when, "4.0.1", False, ["ehr"], hashed, text, None)
                copy.write_row((*row, [spoken.mark(one) for one in spoken.named(kind, key, text.encode())]))
        batches.fix_members(connection, feed, batch_id, members, len(rows))
    return batch_id


def _delivery(connection: Connection, feed: Feed) -> int:
    row = connection.execute(
        "insert into ledger.delivery (feed, partner, format, name, version, state, landed_at) "
        "values (%s, %s, 'fhir-ndjson', 'bench', gen_random_uuid()::text, 'landed', now()) returning id",
        (feed.name, feed.partner),
    ).fetchone()
    assert row is not None
    return int(row[0])


def timed(load: Callable[[Connection, list[Row]], None], connection: Connection, rows: list[Row]) -> float:
    """Return rows a second."""
    began = time.perf_counter()
    load(connection, rows)
    return len(rows) / (time.perf_counter() - began)


def main(count: int = 40_000) -> dict[str, Any]:
    """Return the medians and the ratios that are the product's goals."""
    feed = Feed.model_construct(name="bench.store", partner="bench")
    rates: dict[str, list[float]] = {name: [] for name in ("bare", "first", "again", "resaid", "changed")}
    with scratch_postgres() as url:
        upgrade(url)
        with connect(url) as connection, claims.claim(url, f"feed:{feed.name}", "bench", 600) as token:
            connection.execute(BARE)
            for turn in range(ROUNDS):
                rows = rows_of(count, turn, 4)
                rates["bare"].append(timed(bare, connection, rows))
                first = publication(feed, token, "2026-01-05T10:00:00+00:00")
                rates["first"].append(timed(first, connection, rows))
                connection.execute("update ledger.outbox set state = 'confirmed', confirmed = wanted")
                rates["again"].append(timed(first, connection, rows))
                resaid = publication(feed, token, "2026-01-05T11:00:00+00:00")
                rates["resaid"].append(timed(resaid, connection, rows))
                changed = publication(feed, token, "2026-01-05T12:00:00+00:00")
                rates["changed"].append(timed(changed, connection, rows_of(count, turn, 5)))
    found = {name: round(statistics.median(values)) for name, values in rates.items()}
    share, reload = found["first"] / found["bare"], found["again"] / found["first"]
    goals = {"first_of_bare": 0.5, "again_of_first": 3.0}
    met = share >= goals["first_of_bare"] and reload >= goals["again_of_first"]
    return {
        **found,
        "first_of_bare": round(share, 3),
        "again_of_first": round(reload, 3),
        "goals": goals,
        "met": met,
    }


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:])), indent=2))
