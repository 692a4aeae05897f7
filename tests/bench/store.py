"""What publishing costs beside the least that any store could do: `python tests/bench/store.py [ROWS]` prints JSON.

The same Observations, in the same run, into the same server with fsync on: `bare` is a COPY into a staging table and
one upsert into a logged table with a primary key. `first` is a load of all that a publication does (staging, records,
change detection, ledger, outbox for one destination, the store); `again` loads them unchanged in a new delivery, after
the destination has confirmed them; `resaid` does so with a newer event time; `changed` says something else under the
same ids, with their history. The next batch is staged while one is published, as the flow does it; `first_alone` and
`again_alone` do one after the other on one connection. Rates are rows a second of wall time, medians of rounds; the
ratios of processor time (this process and its server processes) hold on a machine that is busy with something else.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from tasks.model import Position, moment, record_id
from tasks.process.stage import stage_rows
from tasks.publish.store import publish
from tests.bench.load import observation

BATCH = 10_000
HOURS = ("10", "11", "12")
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
Row = tuple[str, str, bytes, bytes]


def rows_of(count: int, turn: int, said: int) -> list[Row]:
    """Return the rows of `count` Observations of about 0.8 KB; `said` changes what they say, `turn` which they are."""
    rows = []
    for number in range(count):
        one = observation(number // 20, number % 20)
        one["id"] = resource_id("bench", "Observation", str(turn), str(number))
        one["valueQuantity"]["value"] = said + number % 7
        rows.append(("Observation", one["id"], digest(one), dumps(one)))
    return rows


def bare(connection: Connection, rows: list[tuple[str, str, str]]) -> None:
    """COPY and one upsert, a batch at a time."""
    for start in range(0, len(rows), BATCH):
        with connection.transaction():
            with connection.cursor().copy("copy bare_staging from stdin") as copy:
                for row in rows[start : start + BATCH]:
                    copy.write_row(row)
            connection.execute(UPSERT)
            connection.execute("truncate bare_staging")


def publication(feed: Feed, token: int, when: str, staging: Connection) -> Callable[[Connection, list[Row]], None]:
    """Return a load of all that a publication does, the next batch being staged while one is published.

    That is how the flow loads (`flows/ingest.py`); where `staging` is the connection that publishes, one by one.
    """

    def load(connection: Connection, rows: list[Row]) -> None:
        todo = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        if staging is connection:
            for some in todo:
                publish(connection, _stage(staging, feed, token, some, when), token, _no_tables, "bench")
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(_stage, staging, feed, token, todo[0], when)
            for following in [*todo[1:], None]:
                batch = ahead.result()
                if following is not None:
                    ahead = pool.submit(_stage, staging, feed, token, following, when)
                publish(connection, batch, token, _no_tables, "bench")

    return load


def _no_tables(_connection: Connection, _changed: str) -> None:
    """The analysts' tables are measured by `sluice bench views`."""


def _stage(connection: Connection, feed: Feed, token: int, rows: list[Row], when: str) -> int:
    with connection.transaction():
        batches.leave_unflushed(connection)
        delivery = _delivery(connection, feed)
        batch_id = batches.open_batch(connection, feed, token, "bench", "bench")
        members = Members(slices=[Slice(delivery, 1, len(rows), Position())])
        members.slices[0].counts["received"] = len(rows)
        staged = stage_rows(connection, batch_id, _staged(delivery, members, rows, when))
        batches.fix_members(connection, feed, batch_id, members, staged)
    return batch_id


def _staged(delivery: int, members: Members, rows: list[Row], when: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the staging table, as the stager makes them of what a converter says."""
    for ordinal, (kind, key, hashed, text) in enumerate(rows, 1):
        record = record_id(delivery, ordinal)
        members.records.append((record, date(2026, 1, 5), "line", None, None))
        patients = tuple(map(spoken.mark, spoken.named(kind, key, text)))
        yield (record, kind, key, moment(when), "4.0.1", False, ("ehr",), hashed, text, None, patients)


def _delivery(connection: Connection, feed: Feed) -> int:
    row = connection.execute(
        "insert into ledger.delivery (feed, partner, format, name, version, state, landed_at) "
        "values (%s, %s, 'fhir-ndjson', 'bench', gen_random_uuid()::text, 'landed', now()) returning id",
        (feed.name, feed.partner),
    ).fetchone()
    assert row is not None
    return int(row[0])


class Clock:
    """Seconds of wall time, and of processor time: this process's and its server processes'."""

    def __init__(self, *connections: Connection) -> None:
        self._of = [Path(f"/proc/{one.info.backend_pid}/schedstat") for one in connections]

    def timed(
        self, load: Callable[[Connection, list[Any]], None], connection: Connection, rows: list[Any]
    ) -> tuple[float, float]:
        """Return rows a second of both."""
        wall, cpu = time.perf_counter(), self._cpu()
        load(connection, rows)
        return len(rows) / (time.perf_counter() - wall), len(rows) / (self._cpu() - cpu)

    def _cpu(self) -> float:
        return time.process_time() + sum(int(one.read_text().split()[0]) for one in self._of if one.exists()) / 1e9


def main(count: int = 40_000) -> dict[str, Any]:
    """Return the medians and the ratios that are the product's goals."""
    feed = Feed.model_construct(name="bench.store", partner="bench")
    rates: dict[str, list[tuple[float, float]]] = {}
    with scratch_postgres() as url:
        upgrade(url)
        with (
            connect(url) as connection,
            connect(url) as other,
            claims.claim(url, f"feed:{feed.name}", "bench", 600) as token,
        ):
            connection.execute(BARE)
            clock = Clock(connection, other)
            for turn in range(ROUNDS):
                rows, apart = rows_of(count, turn, 4), rows_of(count, turn + ROUNDS, 4)
                load = {hour: publication(feed, token, f"2026-01-05T{hour}:00:00+00:00", other) for hour in HOURS}
                alone = publication(feed, token, f"2026-01-05T{HOURS[0]}:00:00+00:00", connection)
                for name, how, what in (
                    ("bare", bare, [(kind, key, text.decode()) for kind, key, _, text in rows]),
                    ("first", load["10"], rows),
                    ("again", load["10"], rows),
                    ("first_alone", alone, apart),
                    ("again_alone", alone, apart),
                    ("resaid", load["11"], rows),
                    ("changed", load["12"], rows_of(count, turn, 5)),
                ):
                    rates.setdefault(name, []).append(clock.timed(how, connection, what))
                    connection.execute("update ledger.outbox set state = 'confirmed', confirmed = wanted")
    return _told(rates)


def _told(rates: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Return the medians, and the medians of each round's own ratios: what else the machine does changes in between."""

    def ratio(one: str, other: str, clock: int = 0) -> float:
        pairs = zip(rates[one], rates[other], strict=True)
        return round(statistics.median(mine[clock] / theirs[clock] for mine, theirs in pairs), 3)

    share, reload = ratio("first", "bare"), ratio("again", "first")
    goals = {"first_of_bare": 0.5, "again_of_first": 3.0}
    return {
        **{name: round(statistics.median(rate for rate, _ in values)) for name, values in rates.items()},
        "first_of_bare": share,
        "first_alone_of_bare": ratio("first_alone", "bare"),
        "again_of_first": reload,
        "processor_time": {
            "first_of_bare": ratio("first_alone", "bare", 1),
            "again_of_first": ratio("again_alone", "first_alone", 1),
        },
        "goals": goals,
        "met": share >= goals["first_of_bare"] and reload >= goals["again_of_first"],
    }


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:])), indent=2))
