"""The Prefect task of delivering."""

from __future__ import annotations

from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE

from tasks.deliver.drain import drain
from tasks.destinations import open_destination
from tasks.dispatch.records import Records
from tasks.ledger import claims
from tasks.ledger.db import connect
from tasks.settings import settings
from tasks.shell import RETRIES, guarded


@materialize("sluice://destination", name="deliver", cache_policy=NO_CACHE, **RETRIES)
@guarded
def deliver(destination_name: str, run_id: str) -> dict[str, int]:
    """Send a destination what it does not have yet; return counts by status, none where another run is sending."""
    config = settings()
    destination = open_destination(destination_name)
    try:
        with (
            claims.claim(config.warehouse_url, f"destination:{destination_name}", run_id, config.lease_seconds),
            connect(config.warehouse_url) as connection,
        ):
            return dict(drain(connection, destination_name, destination, Records(connection)))
    except claims.Busy:
        return {}
    finally:
        destination.close()
