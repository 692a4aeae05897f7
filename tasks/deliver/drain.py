"""Drain the outbox of one destination, at its own pace."""

from __future__ import annotations

from collections import Counter

from tasks.deliver.port import Destination, Item, Outcome
from tasks.errors import Transient
from tasks.failpoints import reached
from tasks.ledger import outbox
from tasks.ledger.db import Connection

ROUND = 5_000
"""Versions that are taken from the outbox at a time."""


def drain(connection: Connection, name: str, destination: Destination) -> Counter[str]:
    """Send what is due until nothing is, or until the destination takes nothing more; return counts by status."""
    counts: Counter[str] = Counter()
    while pending := outbox.pending(connection, name, ROUND):
        reached("outbox-claimed")
        items = [Item(row.resource_type, row.id, row.version, row.resource) for row in pending]
        try:
            answers = [_answer(outcome) for outcome in destination.send(items)]
        except Transient as error:
            answers = [_not_now(item, error.retry_after) for item in items]
        reached("sent-unconfirmed")
        outbox.settle(connection, name, answers)
        said = Counter(answer.status for answer in answers)
        counts.update(said)
        if said["retry"] == len(answers):
            break
    return counts


def _answer(outcome: Outcome) -> outbox.Answer:
    item, finding = outcome.item, outcome.finding
    return outbox.Answer(
        item.resource_type,
        item.id,
        item.version,
        outcome.status,
        outcome.code,
        f"{finding.code} at {finding.location}" if finding else None,
        outcome.retry_after,
        outcome.remote_id,
        outcome.remote_version,
    )


def _not_now(item: Item, retry_after: float | None) -> outbox.Answer:
    return outbox.Answer(item.resource_type, item.id, item.version, "retry", "no-answer", None, retry_after)
