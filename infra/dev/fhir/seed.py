"""Load resources as they are into a server's schema, without a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from infra.dev.fhir.protocol import require_id, require_type
from infra.dev.fhir.schema import open_pool
from infra.dev.fhir.store import Db, Key, Write, apply, begin
from tasks.model import Resource

AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Seeded:
    """What became of the resources, by count."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0


def seed(database_url: str, schema: str, resources: Iterable[Resource], base_url: str = "") -> Seeded:
    """Write `resources` under their own ids; one that is there as it is gets no new version.

    They are not validated: a sample partner may hold a resource that violates its schema. Each thousand is one
    transaction, so memory does not grow with their number. Raises `Refusal` for one without type or id, and
    `ConfigError` where the database does not answer.
    """
    done = Seeded()
    with open_pool(database_url, schema, size=1) as pool:
        for writes in _chunks(resources):
            with pool.connection() as db, db.transaction():
                done = _write(db, writes, base_url, done)
    return done


def _chunks(resources: Iterable[Resource]) -> Iterator[list[Write]]:
    """Yield the resources a thousand at a time; one that comes again waits for the next, so that its order holds."""
    writes: dict[Key, Write] = {}
    for resource in resources:
        key = require_type(resource.get("resourceType", "")), require_id(resource.get("id"))
        if key in writes or len(writes) == AT_ONCE:
            yield list(writes.values())
            writes = {}
        writes[key] = Write(key, "PUT", resource)
    if writes:
        yield list(writes.values())


def _write(db: Db, writes: list[Write], base_url: str, done: Seeded) -> Seeded:
    tick = begin(db, len(writes))
    versions = apply(db, tick, writes, base_url)
    created = sum(version.created for version in versions)
    fresh = sum(version.vid >= tick.vid for version in versions)
    return Seeded(done.created + created, done.updated + fresh - created, done.unchanged + len(versions) - fresh)
