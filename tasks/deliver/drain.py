"""Drain the outbox of one destination, at its own pace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mappings.engine import json
from tasks.deliver.fhir_order import references
from tasks.deliver.port import Destination, Item, Outcome
from tasks.errors import Transient
from tasks.failpoints import reached
from tasks.ledger import outbox, peers
from tasks.ledger.db import Connection

ROUND = 5_000
"""Versions that are taken from the outbox at a time."""


def drain(connection: Connection, name: str, destination: Destination) -> Counter[str]:
    """Send what is due until nothing is, or until the destination takes nothing more; return counts by status."""
    counts: Counter[str] = Counter()
    while pending := outbox.pending(connection, name, ROUND):
        reached("outbox-claimed")
        items = _items(connection, name, [row for row in pending if not row.said])
        answers = [_said(row) for row in pending if row.said]
        try:
            answers += [_answer(outcome) for outcome in destination.send(items)]
        except Transient as error:
            answers += [_not_now(item, error.retry_after) for item in items]
        reached("sent-unconfirmed")
        outbox.settle(connection, name, answers)
        said = Counter(answer.status for answer in answers)
        counts.update(said)
        if said["retry"] == len(answers):
            break
    return counts


def _items(connection: Connection, name: str, pending: Sequence[outbox.Pending]) -> list[Item]:
    """Return what is to be sent, with the destination's names of what comes from there."""
    if not peers.is_read(connection, name):
        return [Item(row.resource_type, row.id, row.version, row.resource) for row in pending]
    mentioned = {}
    for row in pending:
        keys = references(b"" if row.resource is None else json.dumps(row.resource))
        mentioned[row.resource_type, row.id] = [(row.resource_type, row.id), *(_split(key) for key in keys)]
    names = peers.names(connection, name, (key for keys in mentioned.values() for key in keys))
    return [
        Item(row.resource_type, row.id, row.version, row.resource, _named(mentioned[row.resource_type, row.id], names))
        for row in pending
    ]


def _named(keys: Sequence[tuple[str, str]], names: Mapping[tuple[str, str], str]) -> dict[str, str]:
    return {"/".join(key): f"{key[0]}/{names[key]}" for key in keys if key in names}


def _split(key: str) -> tuple[str, str]:
    kind, _, ident = key.partition("/")
    return kind, ident


def _said(row: outbox.Pending) -> outbox.Answer:
    """The destination said this itself: nothing is sent, and it has it."""
    return outbox.Answer(row.resource_type, row.id, row.version, "unchanged", "its-own")


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
