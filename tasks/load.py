"""Loads FHIR files into a destination without a pipeline: what `sluice load` does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.deliver.port import Destination, Item, Outcome
from tasks.errors import Transient
from tasks.http import Retry
from tasks.load_input import Unreadable, files_of, read
from tasks.load_spool import Spool

PART = 5_000
"""Things that are sent and held in memory at a time."""
_PLACES = 100
_SECOND_TRIES = 10_000


@dataclass(slots=True)
class LoadSummary:
    """What became of everything that was read.

    - `outcomes` counts by status; `duplicate` are things that stand again later in the same input.
    - `refusals` counts by finding code, location and the transport's word; `unreadable` are the first places.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    ids_given: int = 0
    files: int = 0

    @property
    def complete(self) -> bool:
        """Whether the destination has everything."""
        return not self.outcomes["refused"] and not self.outcomes["retry"]

    def as_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        statuses = ("sent", "unchanged", "duplicate", "refused", "retry")
        refusals = [
            {"code": code, "location": location, "answer": answer, "count": count}
            for (code, location, answer), count in self.refusals.most_common()
        ]
        counts = {status: self.outcomes[status] for status in statuses}
        rest = {"ids_given": self.ids_given, "files": self.files, "refusals": refusals, "unreadable": self.unreadable}
        return {**counts, **rest}


class Loader:
    """Loads files; `retry` says how often and how patiently what is not taken now is offered again."""

    def __init__(
        self,
        destination: Destination,
        *,
        part: int = PART,
        retry: Retry | None = None,
        moved: Callable[[Counter[str], int], None] = lambda _counts, _of: None,
    ) -> None:
        self._destination = destination
        self._part = part
        self._retry = retry or Retry(attempts=8, base=0.5, ceiling=30.0)
        self._moved = moved
        self._summary = LoadSummary()
        self._second: list[Item] = []
        self._given_up = False

    def load(self, paths: list[Path]) -> LoadSummary:
        """Read `paths` whole, order what they hold, and send it; raises `ConfigError` where a path cannot be read."""
        spool = Spool()
        try:
            self._read(files_of(paths), spool)
            for part, again in spool.parts(self._part):
                if self._given_up:
                    self._leave(part)
                else:
                    self._send(part, again, spool.count)
            # What refers to something in a later part may get in now that all parts were sent.
            for start in range(0, len(self._second), self._part):
                self._send(self._second[start : start + self._part], False, spool.count)
        except OSError as error:
            raise Transient(
                f"the temporary folder cannot be written ({error.strerror}): free space, load again"
            ) from None
        finally:
            spool.close()
        return self._summary

    def _read(self, files: list[Path], spool: Spool) -> None:
        for path in files:
            self._summary.files += 1
            for thing in read(path):
                if isinstance(thing, Unreadable):
                    self._unreadable(thing)
                else:
                    self._summary.ids_given += thing.given
                    spool.add(thing)

    def _unreadable(self, thing: Unreadable) -> None:
        self._summary.outcomes["refused"] += 1
        self._summary.refusals[thing.finding.code, "input", "not-sent"] += 1
        if len(self._summary.unreadable) < _PLACES:
            where = {"file": thing.file, "place": thing.place, "code": thing.finding.code}
            self._summary.unreadable.append(where)

    def _send(self, part: list[Item], again: bool, total: int) -> None:
        # The last of several is the one that counts, as it would be if they were sent one after another.
        items = list({(item.resource_type, item.id): item for item in part}.values())
        self._summary.outcomes["duplicate"] += len(part) - len(items)
        for attempt in range(1, self._retry.attempts + 1):
            last = attempt == self._retry.attempts
            before = self._summary.outcomes["retry"]
            later, wait = self._once(items, again, last, total)
            # A destination that took nothing of a whole part after all attempts will not take the next ones.
            self._given_up = self._summary.outcomes["retry"] - before == len(part)
            if not later:
                return
            items = later
            time.sleep(self._retry.delay(attempt, wait))

    def _leave(self, part: list[Item]) -> None:
        for item in part:
            self._count(Outcome(item, "retry", "not-sent"))

    def _once(self, items: list[Item], again: bool, last: bool, total: int) -> tuple[list[Item], float | None]:
        later: list[Item] = []
        wait: float | None = None
        for outcome in self._outcomes(items):
            if outcome.status == "retry" and not last:
                later.append(outcome.item)
                wait = max(wait or 0.0, outcome.retry_after) if outcome.retry_after is not None else wait
            elif outcome.status == "refused" and again and len(self._second) < _SECOND_TRIES:
                self._second.append(outcome.item)
            else:
                self._count(outcome)
        self._moved(self._summary.outcomes, total)
        return later, wait

    def _outcomes(self, items: list[Item]) -> Iterable[Outcome]:
        try:
            return list(self._destination.send(items))
        except Transient as error:
            return [Outcome(item, "retry", "no-answer", retry_after=error.retry_after) for item in items]

    def _count(self, outcome: Outcome) -> None:
        self._summary.outcomes[outcome.status] += 1
        if outcome.status in {"refused", "retry"}:
            found = outcome.finding
            code, location = (found.code, found.location) if found else ("not-now", outcome.item.resource_type)
            self._summary.refusals[code, location, outcome.code] += 1
