"""Writes one lane's entries: a bundle at a time, every entry's own status read, what is refused isolated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from tasks.deliver.fhir_limits import Breaker, BundleSize
from tasks.deliver.fhir_order import Entry, bundles, groups_of, halves
from tasks.deliver.fhir_outcome import RETRIED, about_size, errors, finding, suspects, verdict, version
from tasks.deliver.fhir_wire import Reply, Wire, holds
from tasks.deliver.port import Outcome
from tasks.http import Retry
from tasks.http_pace import Pace
from tasks.model import Finding

_CONFLICTS = 4
_LOOKS = 3
_LONGEST_WAIT = 30.0
"""What a server asks for beyond this is passed on to whoever keeps the queue."""


class Writer:
    """Delivers entries to one server; many threads may share it."""

    def __init__(
        self,
        wire: Wire,
        *,
        mode: Literal["transaction", "batch", "none"],
        size: BundleSize,
        pace: Pace,
        breaker: Breaker,
        retry: Retry,
    ) -> None:
        self._wire, self._mode, self._size = wire, mode, size
        self._pace, self._breaker, self._retry = pace, breaker, retry

    def lane(self, entries: Sequence[Entry]) -> Iterator[Outcome]:
        """Deliver a lane's entries one bundle after another."""
        for bundle in bundles(entries, self._limits):
            yield from self.deliver(bundle)

    def _limits(self) -> tuple[int, int]:
        return 1 if self._mode == "none" else self._size.entries, self._size.size

    def deliver(self, bundle: list[Entry]) -> list[Outcome]:
        """Deliver a bundle's entries; what is refused whole is divided until the bad ones stand alone."""
        if self._mode == "none":
            return [outcome for entry in bundle for outcome in self._single(entry)]
        reply = self._through_conflicts(bundle)
        if reply.unknown or (200 <= reply.status < 300 and not self._is_response(reply)):
            return self._after(bundle, reply)
        if 200 <= reply.status < 300 and not errors(reply.body):
            return self._entries(bundle, reply)
        if _server_trouble(reply):
            return [_later(entry, reply) for entry in bundle]
        return self._isolate(bundle, reply)

    def _through_conflicts(self, bundle: list[Entry]) -> Reply:
        """Send a bundle again that met other writers: a conflict says nothing about any of its entries."""
        reply = Reply()
        for attempt in range(1, _CONFLICTS):
            reply = self._patiently(lambda: self._wire.bundle(bundle))
            if reply.status != 409 or len(bundle) == 1 or suspects(reply.body):
                break
            self._pace.slow(self._retry.delay(attempt))
        return reply

    def _patiently(self, send: Callable[[], Reply]) -> Reply:
        reply = Reply()
        for attempt in range(1, self._retry.attempts + 1):
            pause = self._breaker.pause()
            if pause:
                return Reply(wait=pause, reason="circuit open")
            with self._pace.slot():
                reply = send()
            if not self._again(reply) or attempt == self._retry.attempts:
                return reply
            delay = self._retry.delay(attempt, reply.wait)
            if (reply.wait or 0) > _LONGEST_WAIT:
                return reply
            if reply.status in {429, 503}:
                self._pace.slow(delay)
            time.sleep(delay)
        return reply

    def _again(self, reply: Reply) -> bool:
        if 0 < reply.status < 500 and reply.status not in {401, 429}:
            self._breaker.worked()
            self._pace.fine()
            return False
        # Too much is not broken: the pace slows down, the breaker stays closed. A 500 may be about one resource.
        if reply.status not in {429, 500}:
            self._breaker.failed()
        return not reply.unknown and (reply.status in {429, 502, 503, 504} or not reply.status)

    def _is_response(self, reply: Reply) -> bool:
        return reply.body.get("resourceType") == "Bundle" or bool(errors(reply.body))

    def _entries(self, bundle: list[Entry], reply: Reply) -> list[Outcome]:
        answers = reply.body.get("entry")
        answers = answers if isinstance(answers, list) and len(answers) == len(bundle) else [{}] * len(bundle)
        out: list[Outcome] = []
        doubtful: list[Entry] = []
        for entry, answer in zip(bundle, answers, strict=True):
            response = answer.get("response") if isinstance(answer, dict) else None
            response = response if isinstance(response, dict) else {}
            status, etag, location = (response.get(name) for name in ("status", "etag", "location"))
            number = int(str(status)[:3]) if str(status)[:3].isdigit() else 0
            outcome = response.get("outcome") or answer.get("resource") if isinstance(answer, dict) else None
            found = verdict(entry, number, outcome, _text(etag), _text(location))
            if found is not None and self._is_gone(entry, number):
                out += self._single(entry)
            elif found is not None:
                out.append(self._learned(entry, found))
            elif number:
                out.append(self._conflict(entry))
            else:
                doubtful.append(entry)
        return out + (self._read_back(doubtful, reply) if doubtful else [])

    def _learned(self, entry: Entry, outcome: Outcome) -> Outcome:
        if outcome.status in {"sent", "unchanged"} and not entry.deletes:
            self._wire.ids.learn(entry, outcome.remote_id)
        return outcome

    def _after(self, bundle: list[Entry], reply: Reply) -> list[Outcome]:
        """Find out what became of a bundle whose answer was lost or cannot be read."""
        out: list[Outcome] = []
        rest = bundle
        # A server that has not committed yet when it is asked would be sent the same thing beside its own work.
        for attempt in range(1, _LOOKS + 1):
            if not rest or self._breaker.left():
                break
            found = self._read_back(rest, reply)
            out += [one for one in found if one.status != "retry"]
            there = {one.item.key for one in out}
            rest = [entry for entry in rest if entry.key not in there]
            if rest and attempt < _LOOKS:
                time.sleep(self._retry.delay(attempt))
        return [*out, *(_later(entry, reply) for entry in rest)]

    def _read_back(self, entries: list[Entry], reply: Reply) -> list[Outcome]:
        looked = self._wire.look_all(entries)
        for entry, found in zip(entries, looked, strict=True):
            if found.status == 200:
                # what refers to it within the bundle was rewritten to this id by the server
                self._wire.ids.learn(entry, found.body.get("id"))
        out = []
        for entry, found in zip(entries, looked, strict=True):
            sent = b"" if entry.deletes else self._wire.ids.body(entry, ())
            if holds(entry, found, sent):
                kept = found.body.get("meta")
                at = kept.get("versionId") if isinstance(kept, dict) else None
                read = Outcome(entry.item, "sent", "read-back", remote_id=found.body.get("id"), remote_version=at)
                out.append(self._learned(entry, read))
            else:
                out.append(_later(entry, reply))
        return out

    def _isolate(self, bundle: list[Entry], reply: Reply) -> list[Outcome]:
        too_large = about_size(reply.status, reply.body, len(bundle))
        if len(bundle) == 1:
            return self._alone(bundle[0], reply)
        if too_large:
            self._size.refused(bundle, by_bytes=too_large == "bytes")
            return self._halves(bundle)
        named = {bundle[number].group for number in suspects(reply.body) if number < len(bundle)}
        bad = [entry for entry in bundle if entry.group in named]
        if bad and len(bad) < len(bundle):
            good = [entry for entry in bundle if entry.group not in named]
            return [outcome for part in (good, *groups_of(bad)) for outcome in self.deliver(part)]
        out = self._halves(bundle)
        if all(outcome.status in {"sent", "unchanged"} for outcome in out):
            self._size.doubted(bundle)
        return out

    def _halves(self, bundle: list[Entry]) -> list[Outcome]:
        return [outcome for half in halves(bundle) for outcome in self.deliver(half)]

    def _alone(self, entry: Entry, reply: Reply) -> list[Outcome]:
        if reply.status in {404, 405, 409, 412, 501}:
            # A server that takes no bundles, or a conflict: the plain interaction says which.
            return self._single(entry)
        code = str(reply.status)
        if reply.status >= 500:
            self._breaker.failed()
            return [Outcome(entry.item, "retry", code, finding(reply.body, entry, code), reply.wait)]
        return [Outcome(entry.item, "refused", code, finding(reply.body, entry, code))]

    def _single(self, entry: Entry) -> list[Outcome]:
        reply = self._patiently(lambda: self._wire.one(entry))
        if reply.unknown:
            return self._after([entry], reply)
        if not reply.status or _server_trouble(reply):
            return [_later(entry, reply)]
        if self._is_gone(entry, reply.status):
            return self._single(entry)
        found = verdict(entry, reply.status, reply.body, reply.etag, reply.location)
        return [self._learned(entry, found) if found else self._conflict(entry)]

    def _is_gone(self, entry: Entry, status: int) -> bool:
        """Say whether an id that the server assigned once is not there any more: it is then asked for another."""
        return status in {404, 405, 410} and not entry.deletes and self._wire.ids.forget(entry)

    def _conflict(self, entry: Entry) -> Outcome:
        """Resolve a conflict by reading what the server holds and replacing that version."""
        code, reply = "409", Reply()
        for attempt in range(1, _CONFLICTS + 1):
            with self._pace.slot():
                found = self._wire.look(entry)
            sent = b"" if entry.deletes else self._wire.ids.body(entry, ())
            if holds(entry, found, sent):
                return self._learned(
                    entry, Outcome(entry.item, "unchanged", "read-back", remote_id=found.body.get("id"))
                )
            at = found.body.get("meta", {}).get("versionId") if found.status == 200 else None
            with self._pace.slot():
                reply = self._wire.one(entry, at or version(found.etag, ""))
            outcome = verdict(entry, reply.status, reply.body, reply.etag, reply.location) if reply.status else None
            if outcome is not None:
                return self._learned(entry, outcome)
            code = str(reply.status or 409)
            self._pace.slow()
            time.sleep(self._retry.delay(attempt))
        # What is to be deleted may be referred to by what is deleted later, and then goes too.
        told = finding(reply.body, entry, code) if errors(reply.body) else None
        return Outcome(entry.item, "retry", code, told or Finding("conflict", entry.item.resource_type, "error"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _server_trouble(reply: Reply) -> bool:
    """Say whether an answer is about the server or the client, not about what was sent."""
    if not reply.status or 300 <= reply.status < 400 or reply.status == 401:
        return True
    # A 500 may be one resource that the server stumbles over, and a 424 is about a neighbour: both are isolated.
    return reply.status in RETRIED - {500, 424}


def _later(entry: Entry, reply: Reply) -> Outcome:
    return Outcome(entry.item, "retry", str(reply.status or reply.reason or "unknown"), retry_after=reply.wait)
