"""Process: from landed bytes to a staged batch, in one worker and one transaction.

Reading goes on where the feed's oldest unread delivery was left, takes up to a limit of records from as many
deliveries as it needs, and leaves staged resources, records, counts and the next position behind, or nothing at all.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice, takewhile
from typing import Any

from mappings.engine.json import canonical, digest_of, dumps
from tasks.destinations import passes
from tasks.errors import BadRecord
from tasks.failpoints import reached
from tasks.feed import Feed
from tasks.landing.store import Landing
from tasks.ledger import batches, binary, claims, deliveries, erased, peers, segments, spoken
from tasks.ledger.batches import Ended, Members, Slice
from tasks.ledger.db import Connection
from tasks.ledger.deliveries import Delivery
from tasks.ledger.erased import ERASED, Suppressed
from tasks.ledger.outbox_fill import RECORD
from tasks.model import DELETED, DIRECTORY, Conversion, Entry, Finding, Frame, Position, Resource, moment, record_id
from tasks.pipeline import Done, Pipeline
from tasks.process.peer import Peer
from tasks.route.rules import Decision

LOOK_AHEAD = 500
"""Frames whose keys are looked up together."""

Row = tuple[Any, ...]

STAGE = """
copy staging.resource
    (batch_id, record_id, resource_type, id, event_time, fhir_version, deleted, destinations, digest, resource, slots,
     patients)
from stdin (format binary)
"""


@dataclass(frozen=True, slots=True)
class Staged:
    """What became of one round of reading.

    - `batch_id` is None where there was no record to stage; `read` says whether anything was read at all.
    """

    batch_id: int | None
    read: bool
    received: int = 0
    quarantined: int = 0
    duplicate: int = 0
    filtered: int = 0


class Stager:
    """Reads, converts and stages a feed's records; one object a feed and process."""

    def __init__(self, feed: Feed, landing: Landing, pipeline: Pipeline) -> None:
        self.feed = feed
        self.landing = landing
        self.pipeline = pipeline
        self.suppressed = Suppressed()
        # behind the record of each delivery that was read again last: the next one asked for is often the one there
        self.left: dict[int, Position] = {}
        self._written = Written()
        name = getattr(feed.source, "peer", None)
        self.peer = Peer(name, take=feed.source.copies == "take") if name else None

    def run(self, frame: Frame) -> Done:
        """Return what became of a frame; one that speaks of an erased patient is dropped, whatever its route.

        Who is erased is what the caller's transaction holds: `hold` is to be called in it first.
        """
        done = self.pipeline.run(frame)
        if self.suppressed.until and self.suppressed.covers(
            self.pipeline.said(frame) if done.failed else done.conversion
        ):
            return Done("route", Conversion(), Decision((), ERASED))
        return done

    def rows(self, record: int, landed_at: datetime, done: Done) -> Iterator[Row]:
        """Yield the rows of the staging table of a record that is good."""
        return staged_rows(record, landed_at, done.conversion, done.decision, self._written)

    def hold(self, writer: Connection) -> None:
        """Let nobody be erased until the writer's transaction has ended, and know who is."""
        self.suppressed = erased.hold(writer)

    def stage(
        self, reader: Connection, writer: Connection, token: int, limit: int, run_id: str | None = None
    ) -> Staged:
        """Stage up to `limit` records.

        Raises `LeaseLost` where another worker has taken the feed over. `reader` and `writer` are two connections:
        the writer is inside its COPY while the reader looks keys up.
        """
        todo = deliveries.unread(reader, self.feed.name)
        if not todo:
            return Staged(None, False)
        with writer.transaction():
            claims.check(writer, f"feed:{self.feed.name}", token)
            self.hold(writer)
            batches.leave_unflushed(writer)
            batch_id = batches.open_batch(writer, self.feed, token, run_id, self.pipeline.version)
            members = Members()
            rows = stage_rows(writer, batch_id, self._rows(reader, members, todo, limit))
            batches.fix_members(writer, self.feed, batch_id, members, rows)
            erased.withheld(writer, members.withheld)
            if self.peer:
                peers.note(writer, self.peer.name, members.heard)
            total: Counter[str] = Counter()
            for part in members.slices:
                total.update(part.counts)
            if not total["received"]:
                batches.forget(writer, batch_id)
                return Staged(None, True)
        reached("staged")
        return Staged(batch_id, True, total["received"], total["quarantined"], total["duplicate"], total["filtered"])

    def restore(self, reader: Connection, writer: Connection, batch_id: int, token: int) -> bool:
        """Stage a batch again where Postgres lost it in a crash (staging is unlogged); say whether it had to.

        The members stay what they are: only what was staged for them is made anew.
        """
        if batches.is_whole(reader, batch_id):
            return False
        with writer.transaction():
            claims.check(writer, f"feed:{self.feed.name}", token)
            self.hold(writer)
            writer.execute("delete from staging.resource where batch_id = %s", (batch_id,))
            failed = Members()
            rows = stage_rows(writer, batch_id, self._again(reader, batch_id, failed))
            batches.set_staged_rows(writer, batch_id, rows)
            batches.end_before_store(writer, self.feed, batch_id, failed)
        return True

    def _again(self, reader: Connection, batch_id: int, failed: Members) -> Iterator[Row]:
        """Yield the rows of what a batch's records say today; those that the maps refuse by now go into `failed`."""
        going = batches.going(reader, batch_id)
        for delivery, last in batches.members(reader, batch_id):
            for frame in self.frames(reader, delivery):
                if frame.ordinal > last:
                    break
                record = record_id(delivery.id, frame.ordinal)
                if record in going:
                    done = self.run(frame)
                    if done.failed:
                        failed.quarantined.append((record, delivery.id, done.stage, done.conversion.findings))
                    else:
                        yield from self.rows(record, delivery.landed_at, done)

    def _rows(self, reader: Connection, members: Members, todo: Iterable[Delivery], limit: int) -> Iterator[Row]:
        seen: dict[bytes, int] = {}
        for delivery in todo:
            if limit <= 0:
                return
            part = Slice(delivery.id, delivery.position.ordinal, delivery.position.ordinal - 1, delivery.position)
            members.slices.append(part)
            if delivery.growing:
                part.stop = delivery.position
            frames = self.frames(reader, delivery)
            while group := list(islice(frames, min(LOOK_AHEAD, limit))):
                seen.update(_known(reader, self.feed.name, group))
                for frame in group:
                    yield from self._record(members, part, delivery, frame, seen)
                limit -= len(group)
                part.stop = group[-1].next
            if next(frames, None) is not None:
                continue
            if delivery.growing:
                part.read_to = delivery.size
            else:
                part.stop = None

    def frames(self, reader: Connection, delivery: Delivery) -> Iterator[Frame]:
        """Yield the delivery's frames from its position on, each with what the ledger knows of it."""
        frames = self._noted(reader, delivery)
        return self.peer.marked(reader, frames) if self.peer else frames

    def _noted(self, reader: Connection, delivery: Delivery) -> Iterator[Frame]:
        """Yield the frames, each with what its listener found when it came."""
        here = delivery.position.offset
        noted = segments.findings(reader, delivery.id, here, delivery.size) if delivery.size is not None else []
        for frame in self._around(reader, delivery):
            own = [code for start, code in noted if here <= start < frame.next.offset]
            here = frame.next.offset
            more = tuple(Finding(code, "MSH-10") for code in own)
            yield replace(frame, findings=(*frame.findings, *more)) if more else frame

    def _around(self, reader: Connection, delivery: Delivery) -> Iterator[Frame]:
        """The delivery's frames; where the bytes of an erased record were, one that says so in its place."""
        for hole in erased.holes(reader, delivery.id, delivery.position.ordinal):
            before = replace(delivery, size=hole.start)
            # what stands before a hole is read as if the delivery ended there: only its own frames are taken
            if hole.start > delivery.position.offset:
                yield from takewhile(lambda frame: frame.ordinal < hole.ordinal, self._frames(before))  # noqa: B023
            yield Frame(hole.ordinal, "record", b"", hole.next, findings=(Finding(ERASED, "record", "error"),))
            delivery = replace(delivery, position=hole.next)
        yield from self._frames(delivery)

    def _frames(self, delivery: Delivery) -> Iterator[Frame]:
        """The delivery's frames; where it cannot be read on, one frame that says so."""
        if delivery.size == 0:
            # a segment whose listener died before anything was committed to it: nobody sent an empty file
            return
        here = delivery.position
        length = None if delivery.size is None else delivery.size - here.offset
        try:
            for frame in self.pipeline.format.split(self.landing.read(delivery.object, here.offset, length), here):
                here = frame.next
                yield frame
            found = whole(delivery, here)
        except BadRecord as error:
            found = error.findings
        if found:
            # what a listener lands later begins anew behind what cannot be read
            after = Position(1 << 62 if delivery.size is None else delivery.size, here.ordinal + 1, {})
            yield Frame(here.ordinal, "delivery", b"", after, findings=found)

    def _record(
        self, members: Members, part: Slice, delivery: Delivery, frame: Frame, seen: dict[bytes, int]
    ) -> Iterator[Row]:
        record = record_id(delivery.id, frame.ordinal)
        key = record_key(self.feed.name, frame)
        part.last = frame.ordinal
        part.counts["received"] += 1
        ended: Ended | None = None
        if key is not None and seen.get(key, record) != record:
            ended = "duplicate"
        else:
            ended, rows = self._convert(members, record, delivery, frame)
            yield from rows
        if ended:
            part.counts[ended] += 1
        elif key is not None:
            seen[key] = record
        members.records.append((record, delivery.landed_at.date(), frame.location, key, ended))

    def _convert(
        self, members: Members, record: int, delivery: Delivery, frame: Frame
    ) -> tuple[Ended | None, Iterator[Row]]:
        done = self.run(frame)
        members.note(record, done.stage, done.conversion.findings)
        members.note_unmapped(record, done.conversion.unmapped)
        if done.failed:
            members.quarantined.append((record, delivery.id, done.stage, done.conversion.findings))
            return "quarantined", iter(())
        if done.decision.dropped is not None:
            members.note(record, "route", [Finding("filtered", done.decision.dropped, "information")])
            if done.decision.dropped == ERASED:
                members.withheld.append(record)
            elif done.conversion.entries:
                members.spoken.append((record, spoken.patients(done.conversion)))
            return "filtered", iter(())
        if self.peer:
            members.heard += self.peer.heard(record, frame, done.conversion)
        return None, self.rows(record, delivery.landed_at, done)


def whole(delivery: Delivery, end: Position) -> tuple[Finding, ...]:
    """Return what is wrong with a delivery that was read to its `end`: its manifest's count, or that it is empty.

    Where several rows are one record the manifest may count either.
    """
    records = end.ordinal - 1
    if delivery.expected is not None and delivery.expected not in (records, end.context.get("rows", records)):
        return (Finding("manifest-record-count", "manifest.records", "error"),)
    if delivery.full and not records:
        return (Finding("empty-full-delivery", "delivery", "error"),)
    return ()


Columns = tuple[bytes, bytes, bytes | None, tuple[int, ...]]


class Written:
    """Entries as staging holds them: digest, resource, slots, and of whom the resource speaks.

    What the converter hands out again (`Entry.shared`) is written once: the same physicians and wards, and patients of
    whom the same is said, come in message after message.
    """

    def __init__(self) -> None:
        self._held: dict[int, tuple[Resource, Columns]] = {}

    def __call__(self, entry: Entry) -> Columns:
        """Return an entry's columns."""
        if not entry.shared or entry.deleted:
            return _written(entry)
        held = self._held.get(id(entry.resource))
        if held is None or held[0] is not entry.resource:
            if len(self._held) >= HELD:
                self._held.clear()
            held = self._held[id(entry.resource)] = entry.resource, _written(entry)
        return held[1]


HELD = 5_000
"""Entries that are held as they were written: a few KB each."""


def _written(entry: Entry) -> Columns:
    resource = entry.resource
    text = canonical(resource)
    patients = spoken.named(resource["resourceType"], resource["id"], text)
    return digest_of(text), text, _slots(entry), tuple(map(spoken.mark, patients))


def staged_rows(
    record: int, landed_at: datetime, conversion: Conversion, decision: Decision, written: Written
) -> Iterator[Row]:
    """Yield a record's rows of the staging table, without the batch."""
    when = moment(conversion.event_time) if conversion.event_time else landed_at
    named = [name for name in decision.to if name != "warehouse"]
    to = [name for name in named if not passes(name)]
    # where the record itself is sent, one of its rows tells the outbox so
    itself = [f"{name}{RECORD}{record}" for name in named if name not in to]
    for entry in conversion.entries:
        resource = entry.resource
        kind, key = resource["resourceType"], resource["id"]
        digest, text, slots, speaks_of = written(entry)
        yield (
            record,
            kind,
            key,
            when,
            conversion.fhir_version,
            entry.deleted,
            (*(name for name in to if decision.takes(name, kind)), *itself),
            digest,
            text,
            slots,
            speaks_of,
        )
        itself = []


def stage_rows(writer: Connection, batch_id: int, rows: Iterable[Row]) -> int:
    """Stage rows for a batch, and note of whom they speak; return how many there are."""
    speaks: set[tuple[int, int]] = set()
    batch = binary.number(batch_id)

    def packed() -> Iterator[bytes]:
        for row in said_once(rows):
            speaks.update([(patient, row[0]) for patient in row[-1]])
            yield batch + _packed(row)

    count = binary.copy_rows(writer, STAGE, 12, packed())
    spoken.note(writer, speaks)
    return count


def _packed(row: Row) -> bytes:
    record, kind, key, when, version, deleted, to, digest, text, slots, patients = row
    return b"".join(
        (
            binary.number(record),
            binary.word(kind),
            binary.raw(key.encode()),
            binary.instant(when),
            binary.word(version),
            binary.boolean(deleted),
            binary.texts(to),
            binary.raw(digest),
            binary.raw(text),
            binary.raw(slots),
            binary.numbers(patients),
        )
    )


def said_once(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows, of those of a directory that say the same in a batch the newest alone, at the end.

    Thousands of messages name the same ward: the newest statement is all that the fold needs of them.
    """
    newest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row[1] not in DIRECTORY:
            yield row
            continue
        same = (row[1], row[2], row[5], row[6], row[7])
        have = newest.get(same)
        if have is None or (row[3], row[0]) > (have[3], have[0]):
            newest[same] = row
    yield from newest.values()


def _slots(entry: Entry) -> bytes | None:
    if entry.slots is None:
        return None
    return dumps({**entry.slots, DELETED: []} if entry.deleted else entry.slots)


def record_key(feed: str, frame: Frame) -> bytes | None:
    """Return the hash by which the same bytes are the same record of a feed; None where they are not."""
    if frame.key is None:
        return None
    return hashlib.blake2b(frame.key, digest_size=16, key=feed.encode()[:64]).digest()


def _known(reader: Connection, feed: str, frames: list[Frame]) -> dict[bytes, int]:
    keys = [key for frame in frames if (key := record_key(feed, frame)) is not None]
    if not keys:
        return {}
    return batches.known(reader, keys)
