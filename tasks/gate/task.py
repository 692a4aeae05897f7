"""The Prefect task of the gate."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.feed import load
from tasks.gate.gate import decide
from tasks.ledger.db import connect
from tasks.settings import settings
from tasks.shell import RETRIES, guarded


@task(name="gate", cache_policy=NO_CACHE, **RETRIES)
@guarded
def gate(feed_name: str, batch_id: int, token: int) -> dict[str, Any]:
    """Check a staged batch and hold it where something critical fails; return the verdict without any value."""
    with connect(settings().warehouse_url) as connection:
        return decide(connection, load(feed_name), batch_id, token)
