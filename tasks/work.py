"""What the stages need of a feed at run time, built once a process: landing, source, pipeline."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tasks import registry
from tasks.errors import ConfigError
from tasks.feed import Feed, load
from tasks.landing.objects import S3Objects
from tasks.landing.store import Landing
from tasks.pipeline import Pipeline
from tasks.settings import connection, settings, state_folder
from tasks.source.contents import Decrypt
from tasks.source.contents_pgp import PgpKeys
from tasks.source.port import Source


def landing() -> Landing:
    """Return the landing of the settings; raises `ConfigError` where its place cannot be used."""
    config = settings()
    if not config.landing.startswith("s3://"):
        return Landing(Path(config.landing), config.landing_keys)
    bucket, _, prefix = config.landing.removeprefix("s3://").partition("/")
    if not bucket:
        raise ConfigError("SLUICE_LANDING: write a folder, or s3://bucket/prefix with the connection `landing`")
    objects = S3Objects(bucket, prefix, connection("landing"))
    return Landing(state_folder() / "landing", config.landing_keys, objects)


def source(feed: Feed) -> Source:
    """Return the feed's source, connected by the named connection's values."""
    made: Source = registry.find("sources", feed.source.kind)(feed.source, connection(feed.source.connection))
    return made


def decrypt(feed: Feed) -> Decrypt | None:
    """Return what opens the feed's sealed deliveries, with the keys of the connection that `decrypt:` names."""
    name = getattr(feed.source, "decrypt", None)
    return None if name is None else PgpKeys.of(connection(name)).decrypt


@lru_cache(maxsize=64)
def pipeline(name: str) -> Pipeline:
    """Return the compiled pipeline of a feed."""
    feed = load(name)
    return Pipeline(feed.profile, feed.format, feed.route, feed.enrich)
