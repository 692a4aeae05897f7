"""Erasure as an operator presses it: store, tables and history at once, landing and destinations as fast as they go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from tasks import work
from tasks.destinations import destination_files, read
from tasks.erase import find, store
from tasks.erase.shred import shred
from tasks.errors import ConfigError
from tasks.ledger import audit, claims, erased, spoken
from tasks.ledger.db import Connection, connect
from tasks.settings import settings

CLAIM = "landing"
"""Who writes objects of landing anew holds this; readers and those that land need not."""


@dataclass(slots=True)
class Erasure:
    """What an erasure took out, or would: ids and counts, no value.

    - `number` is None for a dry run; `patients` are the ids that merges made one person.
    - `counts` are those of `store.count`; `landing` how many deliveries were `shredded` and how many still wait.
    """

    number: int | None
    patients: tuple[str, ...]
    counts: dict[str, Any]
    searched: find.Searched
    landing: Counter[str] = field(default_factory=Counter)

    def beyond(self, key_id: str) -> Iterator[str]:
        """Yield, one line each, what Sluice cannot reach and who can; `key_id` wraps what landing holds now."""
        yield "the partners' own folders, archives and systems: ask them"
        for name, number in self.counts["destinations"].items():
            yield f"{name}: {number} deletions are queued; {_keeps(name)}"
        for name, number in self.counts["sent_on"].items():
            yield f"{name}: {number} messages went there as they came, and cannot be called back, ask its operator"
        yield "backups, replicas and write-ahead logs of Postgres from before now: let them age out"
        yield (
            f"backups and copies of landing from before now: `sluice landing rewrap`, then destroy key {key_id} and "
            "the older ones"
        )
        if self.searched.unread:
            some = ", ".join(f"{record >> 32}:{record & 0xFFFFFFFF}" for record in self.searched.unread[:20])
            yield (
                f"{len(self.searched.unread)} stopped records that no map can read, so that nobody knows whose they "
                f"are ({some}): look at them with `sluice quarantine show`, name those of the patient with --record"
            )
        for table in self.counts["stale_tables"]:
            yield f"{table}: it is not kept at present, what it says of the patient goes with `sluice views apply`"
        for kind, number in self.counts["left"].items():
            yield f"{number} {kind} that speak of others too: they stay, mend them at their source"
        if self.counts["shared_records"]:
            yield (
                f"{self.counts['shared_records']} records spoke of other patients too: their bytes are gone, what they "
                "said of the others stays published"
            )


def erase(
    patient: str,
    actor: str,
    reason: str,
    *,
    dry: bool = False,
    allow_new: bool = False,
    records: tuple[int, ...] = (),
    tell: Callable[[int], None] = lambda _: None,
) -> Erasure:
    """Take a patient out of the store and keep the patient out; a dry run counts and writes its line in the trail.

    `records` are further ones that an operator knows to be the patient's; with `allow_new` what happens from now on
    may be published again. Raises `ConfigError` for a patient that is not known or a reason that is missing.
    """
    url = settings().warehouse_url
    with connect(url) as connection:
        ids = find.same_person(connection, patient)
        if not reason.strip():
            raise ConfigError(f"erase {patient}: --reason is empty; the audit trail wants to know why")
        searched = find.search_stopped(connection, ids, tell)
        with connection.transaction(force_rollback=dry):
            made = _take_out(connection, ids, (*searched.found, *records), actor, allow_new=allow_new)
            made.searched = searched
            if not dry:
                audit.append(connection, actor, "erase", f"erasure:{made.number}", reason, counts=_numbers(made))
        if dry:
            made.number = None
            audit.append(connection, actor, "erase-dry-run", "patient", reason, counts=_numbers(made))
    if not dry:
        made.landing = finish()
    return made


def finish(patience: float = 60) -> Counter[str]:
    """Blank in landing what is to be blanked and forget what destinations confirmed; return what became of deliveries.

    Safe to call at any time and by several at once: raises `Busy` where another one has been at it for `patience`.
    """
    config = settings()
    with (
        claims.claim_within(config.warehouse_url, CLAIM, "erase", config.lease_seconds, patience),
        connect(config.warehouse_url) as connection,
    ):
        counts = shred(connection, work.landing())
        counts["forgotten"] = store.forget_confirmed(connection)
        store.close_done(connection)
    return counts


def lift(patient: str, actor: str, reason: str) -> None:
    """Let a patient who was erased be published again; raises `ConfigError` where nobody of that id was."""
    with connect(settings().warehouse_url) as connection, connection.transaction():
        key = spoken.digest(patient.rpartition("/")[2])
        row = connection.execute(
            "delete from ledger.suppressed where digest = %s returning erasure_id", (key,)
        ).fetchone()
        if row is None:
            raise ConfigError(f"{patient}: nobody of that id was erased")
        audit.append(connection, actor, "erase-lift", f"erasure:{row[0]}", reason)


def _take_out(connection: Connection, ids: list[str], more: tuple[int, ...], actor: str, *, allow_new: bool) -> Erasure:
    # nobody stages meanwhile, and nobody publishes: what is under way ends before, what comes later knows
    connection.execute(f"select pg_advisory_xact_lock({erased.LOCK})".encode())
    connection.execute("select pg_advisory_xact_lock(hashtextextended('sluice:publish', 0))")
    find.gather(connection, ids)
    connection.execute(
        "insert into mine select id from unnest(%s::bigint[]) id where id not in (select record_id from mine)",
        (list(more),),
    )
    counts = store.count(connection, ids)
    number = store.open_erasure(connection, actor)
    row = connection.execute("select now()").fetchone()
    store.suppress(connection, number, ids, row[0] if allow_new and row else None)
    stale = store.take_out(connection, number, ids)
    made = Erasure(number, tuple(ids), {**counts, "stale_tables": stale}, find.Searched())
    connection.execute("update ledger.erasure set counts = %s where id = %s", (Jsonb(_numbers(made)), number))
    return made


def _numbers(made: Erasure) -> dict[str, int]:
    counts = made.counts
    return {
        "patients": len(made.patients),
        "resources": sum(counts["resources"].values()),
        "versions": counts["versions"],
        "records": counts["records"],
        "deliveries": counts["deliveries"],
        "queued": sum(counts["destinations"].values()),
        "unread": len(made.searched.unread),
    }


def _keeps(destination: str) -> str:
    """Say what a destination keeps after a deletion."""
    kind = read(destination)[1].kind if destination in destination_files() else ""
    if kind == "fhir":
        return "it may keep versions of its own ($expunge), ask its operator"
    return "what was sent there before cannot be called back, ask its operator"
