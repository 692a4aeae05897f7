"""The Prefect task that releases what a mended map can take now."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.replay.run import release_mended
from tasks.shell import RETRIES, guarded


@task(name="release", cache_policy=NO_CACHE, **RETRIES)
@guarded
def release(feed_name: str, token: int, run_id: str) -> dict[str, int]:
    """Send quarantined records through again that today's maps have not seen; return counts of what became of them."""
    return dict(release_mended(feed_name, token, run_id))
