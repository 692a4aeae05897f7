"""Landing's keys change: what an older key wraps is sealed again under today's, and the older one can be destroyed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tasks import work
from tasks.erase.run import CLAIM
from tasks.errors import Permanent
from tasks.ledger import audit, claims
from tasks.ledger.db import Connection, connect
from tasks.settings import settings

OBJECTS = """
select d.id, d.object, g.size, g.delivery_id is not null and g.closed_at is null
from ledger.delivery d left join ledger.segment g on g.delivery_id = d.id
where coalesce(d.object, '') <> '' and d.id > %s order by d.id limit 1000
"""


@dataclass(slots=True)
class Rewrapped:
    """What a rotation found and did.

    - `by_key` counts objects by the key that wrapped them before; `free` are older keys that wrap nothing now.
    - `waits` are segments that a listener still appends to; `damaged` deliveries whose object cannot be read.
    """

    current: str
    by_key: Counter[str] = field(default_factory=Counter)
    rewrapped: int = 0
    waits: int = 0
    damaged: list[int] = field(default_factory=list)
    free: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "current": self.current,
            "by_key": dict(self.by_key),
            "rewrapped": self.rewrapped,
            "waits": self.waits,
            "damaged": self.damaged,
            "free": self.free,
        }


def rewrap(actor: str, reason: str, *, dry: bool = False) -> Rewrapped:
    """Seal again what an older key wraps; a dry run counts. Raises `Busy`, `Transient`, and `ConfigError` for keys."""
    config, landing = settings(), work.landing()
    found = Rewrapped(landing.key_id)
    with (
        claims.claim_within(config.warehouse_url, CLAIM, "rewrap", config.lease_seconds, 60),
        connect(config.warehouse_url) as connection,
    ):
        if not dry:
            audit.append(connection, actor, "landing-rewrap", f"key:{landing.key_id}", reason)
        for delivery, name, size, growing in _objects(connection):
            try:
                key = landing.key_of(name)
                found.by_key[key] += 1
                if key == landing.key_id:
                    continue
                if growing:
                    found.waits += 1
                    continue
                if not dry:
                    landing.rewrite(name, size=size)
                found.rewrapped += 1
            except Permanent:
                found.damaged.append(delivery)
        if not dry and not found.waits and not found.damaged:
            found.free = [key for key in config.landing_keys if key != landing.key_id]
        if not dry:
            counts = {"rewrapped": found.rewrapped, "waits": found.waits, "damaged": len(found.damaged)}
            audit.append(connection, actor, "landing-rewrap-ended", f"key:{landing.key_id}", reason, counts=counts)
    return found


def _objects(connection: Connection) -> Iterator[tuple[int, str, int | None, bool]]:
    after = 0
    while rows := connection.execute(OBJECTS, (after,)).fetchall():
        yield from rows
        after = rows[-1][0]
