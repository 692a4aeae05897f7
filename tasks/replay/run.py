"""Releases and replays as operators press them: chunk by chunk, each under the feed's claim, beside live traffic."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import groupby

from tasks import work
from tasks.errors import ConfigError
from tasks.feed import Feed, load
from tasks.ledger import audit, claims
from tasks.ledger.db import Connection, connect
from tasks.ledger.moves import Move, move
from tasks.model import split_record_id
from tasks.process.stage import Stager
from tasks.publish.tables import refresh
from tasks.replay import requeue, stopped
from tasks.replay.again import Again, Outcome
from tasks.replay.read import read_again
from tasks.replay.select import Selection, check_known, chunks, feeds
from tasks.settings import settings

STOPPED = "r.state in ('quarantined', 'filtered')"
QUARANTINED = "r.state = 'quarantined'"
Tell = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """How a replay goes beside live traffic.

    - `records` a chunk, each chunk under its own claim; `pause` seconds between two, in which live runs go on.
    - `patience` is how many seconds a chunk waits for a run that has the feed.
    """

    records: int = 1000
    pause: float = 0.2
    patience: float = 60


def release(selection: Selection, actor: str, reason: str, pace: Pace, tell: Tell) -> Outcome:
    """Send quarantined records through again; return what became of them.

    Raises `Busy` where a run has the feed for longer than the pace's patience; chunks before it stay done.
    """
    total = Outcome()
    for stager, records in _restaged(_chunks(selection, pace, QUARANTINED)):
        with again(stager, f"release:{actor}", patience=pace.patience) as through:

            def note(outcome: Outcome, writer: Connection = through.writer) -> None:
                counts = {name: count for name, count in outcome.counts.items() if count}
                audit.append(writer, actor, "quarantine-release", selection.words(), reason, counts=counts)

            outcome = through.release(records, reason, note)
        total.add(outcome)
        tell(outcome)
    return total


def mended(connection: Connection, feed: Feed, limit: int = 50_000) -> list[int]:
    """Return quarantined records that today's maps have not seen, where the feed wants them released by itself."""
    if not feed.quarantine.auto_release:
        return []
    rows = connection.execute(
        """
        select record_id from ledger.quarantine
        where feed = %s and ended_at is null and stage <> 'deliver' and mapping_version <> %s
        order by record_id limit %s
        """,
        (feed.name, work.pipeline(feed.name).version, limit),
    )
    return [int(row[0]) for row in rows.fetchall()]


def release_mended(name: str, token: int, run_id: str) -> Counter[str]:
    """Release what the maps of today have not seen yet, under a run's own claim; return what became of it."""
    config = settings()
    stager = _stager(name)
    total: Counter[str] = Counter()
    with connect(config.warehouse_url) as reader, connect(config.warehouse_url) as writer:
        through = Again(stager.feed, stager, reader, writer, token, run_id, refresh)

        def note(outcome: Outcome) -> None:
            counts = {name: count for name, count in outcome.counts.items() if count}
            why = f"the maps changed to version {stager.pipeline.version}"
            audit.append(writer, "sluice", "quarantine-release", f"feed:{name}", why, counts=counts)

        while records := mended(reader, stager.feed, config.batch_records):
            total.update(through.release(records, "the maps changed", note).counts)
    return total


def discard(selection: Selection, actor: str, reason: str, pace: Pace) -> int:
    """End quarantined records as discarded; return how many."""
    total = 0
    for stager, records in _restaged(_chunks(selection, pace, QUARANTINED)):
        with again(stager, f"discard:{actor}", patience=pace.patience) as through, through.writer.transaction():
            writer = through.writer
            claims.check(writer, f"feed:{stager.feed.name}", through.token or 0)
            rows = writer.execute(
                "select id from ledger.record where id = any(%s) and state = 'quarantined' for update", (records,)
            )
            mine = [int(row[0]) for row in rows.fetchall()]
            move(writer, [Move(record, "discarded") for record in mine])
            stopped.end(writer, mine, "discarded", reason)
            audit.append(
                writer, actor, "quarantine-discard", selection.words(), reason, counts={"discarded": len(mine)}
            )
            total += len(mine)
    return total


def replay(
    selection: Selection, actor: str, reason: str, pace: Pace, tell: Tell, *, dry: bool, despite_gate: bool = False
) -> Outcome:
    """Send what is selected through again under today's maps: what stopped is released, what is published restaged.

    A dry run writes nothing but its own line in the audit trail, and hands `tell` what would change. Raises
    `GateFailed` where a check would hold a chunk of published records; it and the chunks after it stay as they are.
    """
    total = Outcome()
    with connect(settings().warehouse_url) as connection:
        check_known(connection, selection)
    _note(actor, "replay-dry-run" if dry else "replay", selection.words(), reason, {})
    goes = (
        _through(again(stager, f"replay:{actor}", patience=pace.patience, dry=dry), records, reason, despite_gate)
        for stager, records in _restaged(_chunks(selection, pace, "true"))
    )
    for outcome in _overlapped(goes) if dry else map(_whole, goes):
        total.add(outcome)
        tell(outcome)
    if not dry:
        _note(actor, "replay-ended", selection.words(), reason, total.counts)
    return total


def _through(
    means: AbstractContextManager[Again], records: Sequence[int], reason: str, despite_gate: bool
) -> Iterator[Outcome]:
    """Send a chunk through in two steps, as `Again.restage` does; yield after each what became of it so far."""
    with means as through:
        outcome = through.release(records, reason)
        outcome.counts["skipped"] = 0
        gone = set(outcome.released)
        rest = [record for record in records if record not in gone]
        staging = through.restage(rest, reason, despite_gate=despite_gate)
        next(staging)
        yield outcome
        restaged = next(staging)
        outcome.add(restaged)
        outcome.changes += restaged.changes
        done = sum(n for name, n in outcome.counts.items() if name not in {"skipped", "requeued"})
        outcome.counts["skipped"] = len(records) - done
    yield outcome


def _whole(go: Iterator[Outcome]) -> Outcome:
    next(go)
    return next(go)


def _overlapped(goes: Iterable[Iterator[Outcome]]) -> Iterator[Outcome]:
    """Let Postgres compare a chunk while the next is converted; for chunks that write nothing."""
    with _quick_turns(), ThreadPoolExecutor(1) as comparing:
        before: Future[Outcome] | None = None
        for go in goes:
            next(go)
            if before is not None:
                yield before.result()
            before = comparing.submit(next, go)
        if before is not None:
            yield before.result()


@contextmanager
def _quick_turns() -> Iterator[None]:
    """While it lasts, a thread that waited for Postgres has not to wait long for Python's lock.

    Python's 5 ms, after each of a comparison's sixty statements, are longer than most of the statements.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def send_again(
    selection: Selection, destination: str, actor: str, reason: str, pace: Pace, *, dry: bool
) -> Counter[str]:
    """Queue everything that the selected records say for a destination again; return counts by resource type."""
    total: Counter[str] = Counter()
    for _, records in _chunks(selection, pace, "r.state is null"):
        with connect(settings().warehouse_url) as connection, connection.transaction(force_rollback=dry):
            total += requeue.sent(connection, destination, records)
    if not dry:
        _note(actor, "requeue", f"destination:{destination} {selection.words()}", reason, total)
    return total


def decrypted(record: int, actor: str, reason: str) -> bytes:
    """Return a quarantined record's own bytes; the audit trail says so before they are read.

    Raises `ConfigError` where the record is not in quarantine or there is no reason.
    """
    name = "{}:{}".format(*split_record_id(record))
    with connect(settings().warehouse_url) as connection:
        row = connection.execute(
            "select feed from ledger.quarantine where record_id = %s and ended_at is null", (record,)
        ).fetchone()
        if row is None:
            raise ConfigError(f"record {name} is not in quarantine; see `sluice quarantine list`")
        audit.append(connection, actor, "decrypt", f"record:{name}", reason)
        return next(frame.data for _, _, frame in read_again(connection, _stager(row[0]), [record]))


@contextmanager
def again(stager: Stager, run_id: str, *, patience: float, dry: bool = False) -> Iterator[Again]:
    """Yield the means to send a feed's records through again, under the feed's claim unless nothing is written."""
    config = settings()
    with connect(config.warehouse_url) as reader, connect(config.warehouse_url) as writer:
        if dry:
            yield Again(stager.feed, stager, reader, writer, None, run_id, refresh)
            return
        name, lease = f"feed:{stager.feed.name}", config.lease_seconds
        with claims.claim_within(config.warehouse_url, name, run_id, lease, patience) as token:
            yield Again(stager.feed, stager, reader, writer, token, run_id, refresh)


def _stager(name: str) -> Stager:
    return Stager(load(name), work.landing(), work.pipeline(name))


def _restaged(chunked: Iterable[tuple[str, Sequence[int]]]) -> Iterator[tuple[Stager, Sequence[int]]]:
    """Yield chunks with what stages them: one a feed, which knows where it was left in a delivery."""
    for feed, group in groupby(chunked, key=lambda chunk: chunk[0]):
        stager = _stager(feed)
        for _, records in group:
            yield stager, records


def _chunks(selection: Selection, pace: Pace, only: str) -> Iterator[tuple[str, Sequence[int]]]:
    with connect(settings().warehouse_url) as connection:
        check_known(connection, selection)
        first = True
        for feed in feeds(connection, selection):
            for records in chunks(connection, selection, feed, pace.records, only=only):
                if not first:
                    time.sleep(pace.pause)
                first = False
                yield feed, records


def _note(actor: str, action: str, subject: str, reason: str, counts: Mapping[str, int]) -> None:
    said = {name: count for name, count in counts.items() if count}
    with connect(settings().warehouse_url) as connection:
        audit.append(connection, actor, action, subject, reason, counts=said)
