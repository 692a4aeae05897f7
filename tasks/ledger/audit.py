"""The audit trail: append-only, each row's hash over the one before and its own content.

Who changes a row, takes one out, puts one in or swaps two breaks the chain, and `verify` says where. Who cuts off the
end is found by the head: it is printed by every verification, and one that was written down elsewhere must be in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg.types.json import Jsonb

from mappings.engine.json import dumps
from tasks.errors import ConfigError
from tasks.ledger.db import Connection

FIRST = bytes(32)
"""What the first row is chained to."""


@dataclass(frozen=True, slots=True)
class Act:
    """One row of the trail.

    - `subject` names what was acted on: `record:12:345`, `batch:7`, `feed:northside.adt`, `destination:ehr`.
    - `counts` are numbers only; the reason is the operator's own word and is kept as it was given.
    """

    number: int
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    counts: Mapping[str, int]
    previous: bytes
    hash: bytes

    def expected(self) -> bytes:
        """Return the hash that the row's content and its predecessor's hash give."""
        content = [self.number, self.at.astimezone(UTC).isoformat(timespec="microseconds"), self.actor, self.action]
        content += [self.subject, self.reason, sorted(self.counts.items())]
        return hashlib.sha256(self.previous + dumps(content)).digest()


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found: how many rows there are, the head's hash, and one line a problem."""

    rows: int
    head: str
    problems: tuple[str, ...]


def append(
    connection: Connection,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    *,
    counts: Mapping[str, int] | None = None,
) -> int:
    """Append an act inside the transaction that does it; return its number.

    Appends wait for each other, so that the chain has no fork. Raises `ConfigError` without a reason.
    """
    if not reason.strip():
        raise ConfigError(f"{action} {subject}: --reason is empty; the audit trail wants to know why")
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtextextended('sluice:audit', 0))")
        last = connection.execute("select number, hash from ledger.audit order by number desc limit 1").fetchone()
        now = connection.execute("select clock_timestamp()").fetchone()
        assert now is not None  # noqa: S101
        number, previous = (last[0] + 1, bytes(last[1])) if last else (1, FIRST)
        act = Act(number, now[0], actor, action, subject, reason.strip(), dict(counts or {}), previous, b"")
        connection.execute(
            """
            insert into ledger.audit (number, at, actor, action, subject, reason, counts, previous, hash)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (number, act.at, actor, action, subject, act.reason, Jsonb(dict(act.counts)), previous, act.expected()),
        )
    return number


def acts(connection: Connection, action: str | None = None, subject: str | None = None) -> Iterator[Act]:
    """Yield the trail in order, of one action or subject alone where asked."""
    with connection.transaction(), connection.cursor("trail") as cursor:
        cursor.execute(
            """
            select number, at, actor, action, subject, reason, counts, previous, hash from ledger.audit
            where (%(action)s::text is null or action = %(action)s)
              and (%(subject)s::text is null or subject = %(subject)s)
            order by number
            """,
            {"action": action, "subject": subject},
        )
        for row in cursor:
            number, at, actor, did, about, reason, counts, previous, own = row
            yield Act(number, at, actor, did, about, reason, counts, bytes(previous), bytes(own))


def verify(connection: Connection, head: str | None = None) -> Verified:
    """Compute every hash again; with `head` (hex), also say whether the trail was cut off behind a row once seen."""
    problems: list[str] = []
    number, previous, seen = 0, FIRST, False
    for act in acts(connection):
        problems += _broken(act, number, previous)
        number, previous = act.number, act.hash
        seen = seen or act.hash.hex() == head
    if head is not None and not seen:
        problems.append("the head that was given is not in the trail: rows were cut off at its end or written anew")
    return Verified(number, previous.hex(), tuple(problems))


def _broken(act: Act, before: int, previous: bytes) -> Iterator[str]:
    if act.number != before + 1:
        yield f"row {before + 1}: missing, row {act.number} stands in its place"
    elif act.previous != previous:
        yield f"row {act.number}: does not follow on row {before}, one of the two was exchanged"
    if act.hash != act.expected():
        yield f"row {act.number}: its content is not what was written"
