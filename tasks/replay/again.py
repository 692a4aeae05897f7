"""Records of one feed go through the stages again, from landing, under today's maps.

Two ways: a record that stopped (quarantined, filtered) and is good now goes into a new batch, gated and published as
every batch; one that is published is staged again under its own id and event time, so that it replaces what it said
and nothing doubles. Both are one transaction; as a dry run they are rolled back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tasks.errors import GateFailed
from tasks.feed import Feed
from tasks.gate.gate import decide
from tasks.ledger import batches, claims, erased
from tasks.ledger.batches import Members
from tasks.ledger.db import Connection
from tasks.ledger.erased import ERASED
from tasks.ledger.moves import Move, move
from tasks.pipeline import Done
from tasks.process.stage import Row, Stager, record_key, stage_rows
from tasks.publish.preview import Change, preview
from tasks.publish.store import Refresh, publish
from tasks.publish.withdraw import withdraw
from tasks.replay import requeue, stopped
from tasks.replay.read import read_again


@dataclass(slots=True)
class Outcome:
    """What became, or would become, of a number of records.

    - `counts`: `published`, `held`, `quarantined` (still), `filtered`, `duplicate`, `kept` (published, and today's maps
      refuse it: it stays as it is), `requeued` (a destination had refused it), `skipped` (in flight or ended).
    - `refused` counts the (code, location) for which records are not let through.
    - `released` are the stopped records that are good now; `changes` are what a dry run would change.
    """

    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    released: list[int] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Add another outcome's counts; its changes are the caller's to print."""
        self.counts.update(other.counts)
        self.refused.update(other.refused)


@dataclass(frozen=True, slots=True)
class Again:
    """One feed under one claim; without a token everything is a dry run."""

    feed: Feed
    stager: Stager
    reader: Connection
    writer: Connection
    token: int | None
    run_id: str
    refresh: Refresh

    def release(self, records: Sequence[int], reason: str, extra: Callable[[Outcome], None] | None = None) -> Outcome:
        """Send stopped records through; those that are good now are published, the others stay with new findings.

        `extra` is called inside the transaction with what became of them (the audit trail).
        """
        outcome = Outcome()
        with self._transaction():
            outcome.counts["requeued"] += requeue.refused(self.writer, self.feed.name, records, reason)
            mine = stopped.lock(self.writer, self.feed.name, records)
            outcome.counts["skipped"] += len(set(records)) - len(mine) - outcome.counts["requeued"]
            told = _Told()
            for record, landed_at, frame in read_again(self.reader, self.stager, mine):
                done = self.stager.run(frame)
                if told.take(record, done, record_key(self.feed.name, frame)):
                    told.rows += self.stager.rows(record, landed_at, done)
            if mine:
                self._settle(self._open(), mine, told, outcome, reason)
            if extra:
                extra(outcome)
        return outcome

    def restage(self, records: Sequence[int], reason: str, *, despite_gate: bool = False) -> Iterator[Outcome]:
        """Stage published records again and publish what differs; raises `GateFailed` where the gate would hold it.

        Yields the same outcome twice: once all is converted and staged, and with what became of the records. What lies
        between is Postgres' work, and may go on in another thread.
        """
        outcome = Outcome()
        with self._transaction():
            outcome.counts["requeued"] += requeue.refused(self.writer, self.feed.name, records, reason)
            mine = stopped.published(self.writer, self.feed.name, records)
            outcome.counts["skipped"] += len(set(records)) - len(mine)
            told, batch_id = _Told(), self._open()
            # Postgres takes a record's rows while the next record is converted
            stage_rows(self.writer, batch_id, self._said_now(mine, told))
            outcome.counts["kept"] += len(told.still) + len(told.dropped)
            outcome.refused.update(told.refused())
            yield outcome
            if told.good:
                withdraw(self.writer, batch_id, told.good)
                self._count_rows(batch_id)
                self._through(batch_id, outcome, len(told.good), must_pass=not despite_gate)
            else:
                batches.forget(self.writer, batch_id)
        yield outcome

    def _said_now(self, records: Sequence[int], told: _Told) -> Iterator[Row]:
        """Yield the rows of those records that are good now; `told` knows what became of each."""
        for record, landed_at, frame in read_again(self.reader, self.stager, records):
            done = self.stager.run(frame)
            if told.take(record, done, None):
                yield from self.stager.rows(record, landed_at, done)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self.writer.transaction(force_rollback=self.token is None):
            if self.token is not None:
                claims.check(self.writer, f"feed:{self.feed.name}", self.token)
            self.stager.hold(self.writer)
            yield

    def _open(self) -> int:
        version = self.stager.pipeline.version
        return batches.open_batch(self.writer, self.feed, self.token or 0, self.run_id, version)

    def _settle(
        self, batch_id: int, mine: dict[int, stopped.Stopped], told: _Told, outcome: Outcome, reason: str
    ) -> None:
        """Write down what became of stopped records, and send the good ones on."""
        known = batches.known(self.reader, told.keys)
        twice = [record for record in told.good if told.twice(record, known)]
        told.drop(twice)
        outcome.refused.update(told.refused())
        still = [record for record in told.still if mine[record].quarantined]
        outcome.counts.update(quarantined=len(still), duplicate=len(twice), filtered=len(told.dropped))
        stopped.store_findings(
            self.writer, self.stager.pipeline.version, {record: told.still[record] for record in still}
        )
        outcome.counts["filtered"] += len(told.still) - len(still)
        moves = [Move(record, None, batch_id) for record in told.good]
        moves += [Move(record, "duplicate") for record in twice] + [Move(record, "filtered") for record in told.dropped]
        move(self.writer, moves)
        stopped.end(self.writer, [one.record for one in moves], "released", reason)
        erased.withheld(self.writer, told.withheld)
        outcome.released += told.good
        if not told.good:
            batches.forget(self.writer, batch_id)
            return
        batches.store_findings(self.writer, self.feed, batch_id, told.members)
        stage_rows(self.writer, batch_id, told.rows)
        self._count_rows(batch_id)
        self._through(batch_id, outcome, len(told.good), must_pass=False)

    def _count_rows(self, batch_id: int) -> None:
        row = self.writer.execute("select count(*) from staging.resource where batch_id = %s", (batch_id,)).fetchone()
        batches.set_staged_rows(self.writer, batch_id, int(row[0]) if row else 0)

    def _through(self, batch_id: int, outcome: Outcome, count: int, *, must_pass: bool) -> None:
        """Gate and publish a batch; a dry run looks at what would change instead."""
        if self.token is None:
            outcome.changes += preview(self.writer, batch_id)
            outcome.counts["published"] += count
            return
        verdict = decide(self.writer, self.feed, batch_id, self.token)
        if not verdict["passed"] and must_pass:
            raise GateFailed(f"feed {self.feed.name}: {_failed(verdict)}; these records stay published as they were")
        if verdict["passed"] or self._is_replay(batch_id):
            self.writer.execute("update ledger.batch set state = 'staged' where id = %s", (batch_id,))
            publish(self.writer, batch_id, self.token, self.refresh, self.run_id)
            outcome.counts["published"] += count
        else:
            outcome.counts["held"] += count

    def _is_replay(self, batch_id: int) -> bool:
        row = self.writer.execute("select from ledger.batch_slice where batch_id = %s", (batch_id,)).fetchone()
        return row is None


class _Told:
    """What the conversions of a group of records said, sorted by what becomes of them."""

    def __init__(self) -> None:
        self.good: list[int] = []
        self.rows: list[Row] = []
        self.keys: dict[bytes, int] = {}
        self.own: dict[int, bytes] = {}
        self.still: dict[int, Done] = {}
        self.dropped: list[int] = []
        self.withheld: list[int] = []
        self.members = Members()

    def take(self, record: int, done: Done, key: bytes | None) -> bool:
        """Sort a record in; say whether it is good."""
        if done.failed:
            self.still[record] = done
            return False
        if done.decision.dropped is not None:
            self.dropped.append(record)
            if done.decision.dropped == ERASED:
                self.withheld.append(record)
            return False
        if key is not None:
            self.keys.setdefault(key, record)
            self.own[record] = key
        self.members.note(record, done.stage, done.conversion.findings)
        self.members.note_unmapped(record, done.conversion.unmapped)
        self.good.append(record)
        return True

    def twice(self, record: int, known: dict[bytes, int]) -> bool:
        """Say whether a record's content came through as another record, before or in this group."""
        key = self.own.get(record)
        return key is not None and (known.get(key, record) != record or self.keys[key] != record)

    def drop(self, records: Sequence[int]) -> None:
        gone = set(records)
        self.good = [record for record in self.good if record not in gone]
        self.rows = [row for row in self.rows if row[0] not in gone]

    def refused(self) -> Counter[tuple[str, str]]:
        worst = (next(f for f in done.conversion.findings if f.severity == "error") for done in self.still.values())
        return Counter((finding.code, finding.location) for finding in worst)


def _failed(verdict: dict[str, Any]) -> str:
    bad = [item for item in verdict["results"] if not item["held"] and item["severity"] == "critical"]
    return "the gate would hold this: " + "; ".join(
        f"{item['table']} {item['expectation']} {item['place']}".strip() for item in bad
    )
