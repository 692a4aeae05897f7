"""Deletions that a destination refused: sent there again, or closed because its operator saw to it otherwise."""

from __future__ import annotations

from tasks.erase.run import finish
from tasks.errors import ConfigError
from tasks.ledger import audit
from tasks.ledger.db import connect
from tasks.settings import settings

AGAIN = "state = 'pending', attempts = 0, next_at = now()"
CLOSE = "state = 'confirmed', confirmed = wanted, code = 'closed'"
UPDATE = """
update ledger.outbox o set {}, updated_at = now() from ledger.erased_resource g
where o.destination = %s and o.state = 'refused' and o.resource_type = g.resource_type and o.id = g.id
"""


def send_again(destination: str, actor: str, reason: str) -> int:
    """Queue what a destination refused to delete for it again; return how many. Raises `ConfigError` for none."""
    return _settle(AGAIN, "erase-send-again", destination, actor, reason)


def close(destination: str, actor: str, reason: str) -> int:
    """Take an operator's word that what a destination refused to delete is gone there, or stays by right; return how
    many. Raises `ConfigError` where it refused none or the reason is missing.
    """
    count = _settle(CLOSE, "erase-close", destination, actor, reason)
    finish()
    return count


def _settle(change: str, action: str, destination: str, actor: str, reason: str) -> int:
    with connect(settings().warehouse_url) as connection, connection.transaction():
        count = connection.execute(UPDATE.format(change).encode(), (destination,)).rowcount
        if not count:
            raise ConfigError(f"{destination} has refused no deletion; `sluice erase` shows what is still to be done")
        audit.append(connection, actor, action, f"destination:{destination}", reason, counts={"deletions": count})
    return count
