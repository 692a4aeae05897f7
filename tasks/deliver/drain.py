"""Drain the outbox of one destination, at its own pace and in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from tasks.deliver.fhir_order import references
from tasks.deliver.port import Destination, Item, Outcome, Remembers, Together, UsesStore
from tasks.errors import Transient
from tasks.failpoints import reached
from tasks.ledger import outbox, peers, rounds
from tasks.ledger.db import Connection
from tasks.ledger.outbox import Pending
from tasks.model import Finding

ROUND = 5_000
"""Versions that are taken from the outbox at a time."""
DEEP = 20
"""How many steps what is sent may be followed to what it refers to."""
GIVE_UP = 15
"""How often one thing is tried, over an hour and more, that the destination stumbles over while it takes others."""
WAIT = 10.0
"""Seconds that a thing waits for what it refers to."""

Contents = Callable[[Sequence[int]], Mapping[int, bytes]]
"""Returns records' own bytes, as they were landed."""


def drain(
    connection: Connection, name: str, destination: Destination, contents: Contents | None = None
) -> Counter[str]:
    """Send what is due until nothing is, or until the destination takes nothing more; return counts by status."""
    counts: Counter[str] = Counter()
    if isinstance(destination, UsesStore):
        destination.use(outbox.Lookup(connection))
    while due := _due(connection, name, destination):
        reached("outbox-claimed")
        said, ready, held = due
        if isinstance(destination, Remembers):
            mentioned = {key for row in ready for key in (row.key, *_references(row))}
            destination.remember(outbox.remote_ids(connection, name, mentioned))
        answers, pause = _sent(destination, _items(connection, name, ready, contents))
        reached("sent-unconfirmed")
        if pause is None:
            outbox.resume(connection, name)
            waiting = [_answer(Outcome(_item(row), "retry", "waits", retry_after=WAIT)) for row in held]
            with connection.transaction():
                outbox.settle(connection, name, [*said, *answers, *waiting])
                rounds.end(connection, name)
        counts.update(answer.status for answer in (*said, *answers))
        counts["retry"] += len(held)
        if pause is not None:
            outbox.pause(connection, name, *pause)
            break
        if not said and all(answer.status == "retry" for answer in answers):
            break
    return +counts


def _due(
    connection: Connection, name: str, destination: Destination
) -> tuple[list[outbox.Answer], list[Pending], list[Pending]] | None:
    """Return what the destination said itself, what it is to be sent and what waits; None where nothing is due."""
    if isinstance(destination, Together) and (unfinished := rounds.again(connection, name)):
        return [], unfinished, []
    if not (pending := outbox.pending(connection, name, ROUND)):
        return None
    ready, held = _in_order(connection, name, [row for row in pending if not row.said])
    if isinstance(destination, Together):
        rounds.begin(connection, name, ready)
    return [_said(row) for row in pending if row.said], ready, held


def _in_order(connection: Connection, name: str, pending: list[Pending]) -> tuple[list[Pending], list[Pending]]:
    """Add what is referred to and due later in the queue; take out what refers to a thing that waits for its time."""
    rows = {row.key: row for row in pending}
    waits: set[str] = set()
    asked: set[str] = set()
    new: Collection[Pending] = pending
    for _ in range(DEEP):
        unknown = {key for row in new for key in _references(row)} - rows.keys() - asked
        if not unknown:
            break
        asked |= unknown
        new, not_yet = outbox.among(connection, name, unknown)
        rows.update({row.key: row for row in new})
        waits |= not_yet
    held: dict[str, Pending] = {}
    while more := [row for row in rows.values() if row.key not in held and not waits.isdisjoint(_references(row))]:
        held |= {row.key: row for row in more}
        waits |= {row.key for row in more}
    return [row for key, row in rows.items() if key not in held], list(held.values())


def _references(row: Pending) -> tuple[str, ...]:
    return tuple(key for key in references(row.text.encode()) if key != row.key) if row.text else ()


def _items(
    connection: Connection, name: str, rows: Sequence[Pending], contents: Contents | None
) -> list[tuple[Item, int]]:
    """Return what is to be sent and how often it was tried, with the destination's names of what comes from there."""
    records = [row.record for row in rows if row.record is not None]
    bodies = contents(records) if contents and records else {}
    names: Mapping[tuple[str, str], str] = {}
    mentioned: dict[str, list[tuple[str, str]]] = {}
    if peers.is_read(connection, name):
        mentioned = {row.key: [_split(key) for key in (row.key, *_references(row))] for row in rows}
        names = peers.names(connection, name, (key for keys in mentioned.values() for key in keys))
    return [
        (_item(row, _named(mentioned.get(row.key, []), names), bodies.get(row.record or 0)), row.attempts)
        for row in rows
    ]


def _sent(
    destination: Destination, tried: Sequence[tuple[Item, int]]
) -> tuple[list[outbox.Answer], tuple[str, float | None] | None]:
    """Return the answers, and why and how long the destination is to be left alone where it took nothing at all."""
    items = [item for item, _ in tried]
    times = {(item.resource_type, item.id): attempts for item, attempts in tried}
    try:
        outcomes = [_in_the_end(one, times) for one in destination.send(items)] if items else []
    except Transient as error:
        return [_answer(Outcome(item, "retry", "no-answer")) for item in items], ("no-answer", error.retry_after)
    answers = [_answer(outcome) for outcome in outcomes]
    if outcomes and all(one.status == "retry" and one.finding is None for one in outcomes):
        waits = [one.retry_after for one in outcomes if one.retry_after is not None]
        return answers, (outcomes[0].code or "no-answer", max(waits) if waits else None)
    return answers, None


def _in_the_end(outcome: Outcome, tried: Mapping[tuple[str, str], int]) -> Outcome:
    """Give up what the destination has said no to again and again while it was there."""
    item = outcome.item
    if outcome.status != "retry" or outcome.finding is None or tried[item.resource_type, item.id] < GIVE_UP:
        return outcome
    return Outcome(item, "refused", outcome.code, Finding("given-up", outcome.finding.location, "error"))


def _item(row: Pending, names: Mapping[str, str] | None = None, content: bytes | None = None) -> Item:
    return Item(row.resource_type, row.id, row.version, row.resource, names or {}, content, row.at)


def _named(keys: Sequence[tuple[str, str]], names: Mapping[tuple[str, str], str]) -> dict[str, str]:
    return {"/".join(key): f"{key[0]}/{names[key]}" for key in keys if key in names}


def _split(key: str) -> tuple[str, str]:
    kind, _, ident = key.partition("/")
    return kind, ident


def _said(row: Pending) -> outbox.Answer:
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
