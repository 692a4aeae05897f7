"""What the receipt of a file would say: it is read as its feed would read it, and nothing is landed or published."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tasks import work
from tasks.errors import BadRecord
from tasks.feed import Feed
from tasks.model import Frame
from tasks.pipeline import Pipeline
from tasks.receipt import ack
from tasks.receipt.make import WHOLE, frames, iso
from tasks.receipt.make import stopped as stopped_at
from tasks.receipt.model import Receipt, Stopped
from tasks.source.contents import Decrypt, Limits, unwrap

Open = Callable[[], Iterable[bytes]]
"""Reads the file from its beginning; called twice where acknowledgements are wanted too."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One feed's way of reading; `made_at` stands in its receipts.

    What only the ledger and the destinations know is left out: whether the bytes or their records came before,
    whether a gate holds them and a destination takes them.
    """

    feed: Feed
    pipeline: Pipeline
    decrypt: Decrypt | None
    made_at: datetime

    @classmethod
    def of(cls, feed: Feed) -> Trial:
        """Return the trial of a feed, now; raises `ConfigError` for a mistake in its mapping or route."""
        pipeline = Pipeline(feed.profile, feed.format, feed.route, feed.enrich)
        return cls(feed, pipeline, work.decrypt(feed), datetime.now(UTC))

    def receipts(self, name: str, read: Open) -> list[Receipt]:
        """Return the receipt of a file, of an archive one for each file in it; of one that cannot be opened, that."""
        whole = _Counted(read())
        try:
            return [self._one(member, _Counted(chunks)) for member, chunks in self._unwrap(name, whole)]
        except BadRecord as error:
            why = stopped_at(1, WHOLE, "land", list(error.findings))
            refused = self._receipt(name, whole, Counter(received=1, refused=1), {"refused": [why]})
            return [replace(refused, state="refused")]

    def acknowledgements(self, receipts: list[Receipt], name: str, read: Open) -> Iterator[bytes]:
        """Yield the batch of acknowledgements of each receipt of `receipts`; none of what was refused as a whole."""
        if all(receipt.state == "refused" for receipt in receipts):
            return
        for receipt, (_, chunks) in zip(receipts, self._unwrap(name, read()), strict=True):
            yield from ack.batch(receipt, frames(self.pipeline.format, chunks))

    def _unwrap(self, name: str, chunks: Iterable[bytes]) -> Iterator[tuple[str, Iterable[bytes]]]:
        for member, inner in unwrap(name, chunks, Limits(), self.decrypt):
            yield (name if member == name else f"{name}!{member}"), inner

    def _one(self, name: str, chunks: _Counted) -> Receipt:
        counts: Counter[str] = Counter()
        stopped: dict[str, list[Stopped]] = {}
        seen: set[bytes] = set()
        for frame in frames(self.pipeline.format, chunks):
            outcome, why = self._record(frame, seen)
            counts["received"] += 1
            counts[outcome] += 1
            if outcome in {"refused", "duplicate"}:
                stopped.setdefault(outcome, []).append(why)
        return self._receipt(name, chunks, counts, stopped)

    def _record(self, frame: Frame, seen: set[bytes]) -> tuple[str, Stopped]:
        place = Stopped(frame.ordinal, frame.location)
        key = None if frame.key is None else hashlib.blake2b(frame.key, digest_size=16).digest()
        if key in seen:
            return "duplicate", place
        done = self.pipeline.run(frame)
        if done.failed:
            return "refused", stopped_at(frame.ordinal, frame.location, done.stage, done.conversion.findings)
        if key is not None:
            seen.add(key)
        return ("accepted" if done.decision.dropped is None else "filtered"), place

    def _receipt(self, name: str, read: _Counted, counts: Counter[str], stopped: dict[str, list[Stopped]]) -> Receipt:
        return Receipt(
            feed=self.feed.name,
            delivery=None,
            name=name,
            state="checked",
            sha256=read.hash.hexdigest(),
            size=read.size,
            landed_at=None,
            made_at=iso(self.made_at) or "",
            received=counts["received"],
            accepted=counts["accepted"],
            refused=counts["refused"],
            duplicate=counts["duplicate"],
            filtered=counts["filtered"],
            refused_records=tuple(stopped.get("refused", ())),
            duplicate_records=tuple(stopped.get("duplicate", ())),
        )


class _Counted:
    """Bytes, counted and hashed as they pass."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.hash: Any = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.hash.update(chunk)
            self.size += len(chunk)
            yield chunk
