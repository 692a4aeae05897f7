"""Versions in and out of Postgres, a set at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec
from psycopg import Connection

from infra.dev.fhir.outcome import Refusal
from infra.dev.fhir.terms import terms
from mappings.engine.json import dumps
from tasks.model import Resource

Key = tuple[str, str]
Db = Connection[Any]
_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted")
SERVER_META = frozenset({"versionId", "lastUpdated"})
COLUMNS = "v.vid, v.type, v.id, v.version, v.updated, v.deleted, v.method, v.content::text, v.digest"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a resource.

    - `content` is its JSON text with id, versionId and lastUpdated, None for a deletion.
    - `created` is set on what a write has just brought into being. Version 0 stands for what has never been there.
    """

    vid: int
    type: str
    id: str
    version: int
    updated: datetime
    deleted: bool
    method: str
    content: str | None
    digest: bytes | None = None
    created: bool = False

    @property
    def key(self) -> Key:
        """Type and id."""
        return self.type, self.id


@dataclass(frozen=True, slots=True)
class Write:
    """What is to become of one resource.

    - `body` None is its deletion; `if_match` is the version that it must have now.
    - `entry` is its place in the bundle that asked for it, for a refusal to name.
    """

    key: Key
    method: str
    body: Resource | None
    if_match: int | None = None
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """A writing transaction's place in order: the time of all its versions and the first of their numbers."""

    updated: datetime
    vid: int


def instant(moment: datetime) -> str:
    """Return `moment` as a FHIR instant in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now(db: Db) -> datetime:
    """Return the time of the newest commit: everything up to it can be seen, everything later will be newer."""
    return db.execute("SELECT last FROM clock").fetchone()[0]  # type: ignore[index, no-any-return]


def begin(db: Db, count: int) -> Tick:
    """Take the writers' turn for this transaction, with room for `count` versions.

    The row is locked until the transaction ends, so what is read after this is what will be replaced.
    """
    row = db.execute(
        "UPDATE clock SET vid = vid + %s, last = greatest(date_trunc('milliseconds', clock_timestamp()),"
        " last + interval '1 millisecond') RETURNING last, vid",
        (count,),
    ).fetchone()
    return Tick(row[0], row[1] - count + 1)  # type: ignore[index]


def current(db: Db, keys: Sequence[Key], content: bool = True) -> dict[Key, Version]:
    """Return the current versions of those of `keys` that exist or have existed."""
    columns = COLUMNS if content else COLUMNS.replace("v.content::text", "NULL")
    # LIMIT keeps the planner to one index look-up a key, also before the tables have statistics.
    rows = db.execute(
        "SELECT v.* FROM unnest(%s::text[], %s::text[]) AS k(type, id) CROSS JOIN LATERAL ("  # noqa: S608
        f"SELECT {columns} FROM version v WHERE v.type = k.type AND v.id = k.id AND v.superseded = 'infinity'"
        " LIMIT 1) AS v",
        ([kind for kind, _ in keys], [id_ for _, id_ in keys]),
    )
    return {version.key: version for version in (Version(*row) for row in rows)}


def at_version(db: Db, key: Key, version: int) -> Version | None:
    """Return one version of a resource, None where there was none."""
    query = f"SELECT {COLUMNS} FROM version v WHERE v.type = %s AND v.id = %s AND v.version = %s"  # noqa: S608
    row = db.execute(query, (*key, version)).fetchone()
    return Version(*row) if row else None


def apply(db: Db, tick: Tick, writes: Sequence[Write], base: str) -> list[Version]:
    """Write each of `writes`, which name different resources, and return in their order what stands now.

    A body that says what the current version says leaves that version as it is, and so does a deletion of what is
    not there. Raises `Refusal` 412 where `if_match` is not the current version; then nothing has been written.
    """
    before = current(db, [write.key for write in writes], content=False)
    results = [_next(write, before.get(write.key), tick, n) for n, write in enumerate(writes)]
    fresh = [(write, version) for write, version in zip(writes, results, strict=True) if version.vid >= tick.vid]
    replaced = [before[version.key].vid for _, version in fresh if version.key in before]
    if replaced:
        db.execute("UPDATE version SET superseded = %s WHERE vid = ANY(%s)", (tick.updated, replaced))
    _insert(db, [version for _, version in fresh])
    _index(db, fresh, base)
    _keep_compartments(db, [(before[v.key].vid, v.vid) for _, v in fresh if v.deleted])
    return results


def _next(write: Write, before: Version | None, tick: Tick, n: int) -> Version:
    if write.if_match is not None and (before is None or before.deleted or before.version != write.if_match):
        refusal = Refusal(412, "If-Match names another version than the current one: read the resource again")
        raise refusal if write.entry is None else refusal.at(write.entry)
    there = before is not None and not before.deleted
    number = before.version + 1 if before else 1
    if write.body is None:
        if not there:
            return before or Version(0, *write.key, 0, tick.updated, True, write.method, None)
        return Version(tick.vid + n, *write.key, number, tick.updated, True, write.method, None)
    digest = digest_of(write.body)
    if there and before is not None and before.digest == digest:
        content = stamped(write.body, write.key, before.version, before.updated)
        return replace(before, content=content)
    content = stamped(write.body, write.key, number, tick.updated)
    return Version(tick.vid + n, *write.key, number, tick.updated, False, write.method, content, digest, not there)


def _insert(db: Db, versions: Sequence[Version]) -> None:
    columns = "vid, type, id, version, updated, deleted, method, content, digest"
    with db.cursor().copy(f"COPY version ({columns}) FROM STDIN") as copy:
        for v in versions:
            copy.write_row((v.vid, v.type, v.id, v.version, v.updated, v.deleted, v.method, v.content, v.digest))


def _index(db: Db, fresh: Iterable[tuple[Write, Version]], base: str) -> None:
    rows = [(term, v.vid) for write, v in fresh if write.body is not None for term in terms(write.body, base)]
    with db.cursor().copy("COPY term (term, vid) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _keep_compartments(db: Db, moved: Sequence[tuple[int, int]]) -> None:
    """Give a deletion the terms of what it deleted: an export of a patient's data must tell of it."""
    if moved:
        db.execute(
            "INSERT INTO term (term, vid) SELECT t.term, k.new FROM unnest(%s::bigint[], %s::bigint[]) AS k(old, new)"
            " CROSS JOIN LATERAL (SELECT term FROM term WHERE vid = k.old OFFSET 0) AS t",
            ([old for old, _ in moved], [new for _, new in moved]),
        )


def _meta(body: Resource) -> dict[str, Any]:
    meta = body.get("meta")
    return meta if isinstance(meta, dict) else {}


def digest_of(body: Resource) -> bytes:
    """Return the digest of what `body` says, without the meta elements that the server sets."""
    meta = {name: value for name, value in _meta(body).items() if name not in SERVER_META}
    said = {name: value for name, value in body.items() if name != "meta"} | ({"meta": meta} if meta else {})
    return blake2b(_sorted.encode(said), digest_size=16).digest()


def stamped(body: Resource, key: Key, version: int, updated: datetime) -> str:
    """Return `body` as JSON text with its id, and the server's versionId and lastUpdated in meta."""
    meta = {**_meta(body), "versionId": str(version), "lastUpdated": instant(updated)}
    rest = {name: value for name, value in body.items() if name not in ("resourceType", "id", "meta")}
    return dumps({"resourceType": key[0], "id": key[1], "meta": meta, **rest}).decode()
