"""Subscriptions: what is told to whom after a write (FHIR R4, Subscription, rest-hook; Subscriptions R5 Backport 1.1).

One thread tells, in the order of the commits. A topic's canonical ends in `/<Type>` or is taken for every type; its
filters are searches. A receiver that does not answer is told again a few times, then the subscription is in error.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import httpx
import psycopg
from psycopg_pool import PoolTimeout

from infra.dev.fhir.criteria import criteria
from infra.dev.fhir.definitions import RESOURCE_TYPES
from infra.dev.fhir.outcome import Refusal
from infra.dev.fhir.protocol import Answer, Asking
from infra.dev.fhir.search import find
from infra.dev.fhir.store import Db, Version, instant
from infra.dev.fhir.when import moment
from infra.dev.fhir.writing import Entry
from mappings.engine.json import dumps, loads
from tasks.model import Resource

TRIES = 3
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
_LIVE = "SELECT content::text FROM version WHERE type = 'Subscription' AND superseded = 'infinity' AND NOT deleted"
_log = logging.getLogger(__name__)

Write = Callable[[list[Entry], Asking], list[Answer]]
Read = Callable[[Callable[[Db], Any]], Any]


class Notifier:
    """Tells subscribers of what is written; `write` and `read` are the server's own."""

    def __init__(self, write: Write, read: Read) -> None:
        self._write, self._read = write, read
        self._queue: queue.SimpleQueue[tuple[list[Version], Asking] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="subscriptions", daemon=True)
        self._numbers: dict[str, int] = {}
        self._live: list[Resource] | None = None
        self._http = httpx.Client(timeout=10, trust_env=False)
        self._thread.start()

    def wrote(self, answers: Sequence[Answer], ask: Asking) -> None:
        """Take note of what was just committed."""
        versions = [answer.version for answer in answers if answer.written and answer.version is not None]
        if versions:
            self._queue.put((versions, ask))

    def close(self) -> None:
        """Tell what is left, then stop."""
        self._queue.put(None)
        self._thread.join(20)
        self._http.close()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                self._tell(*work)
            except (psycopg.Error, PoolTimeout, Refusal, LookupError, TypeError, AttributeError) as error:
                _log.error("telling subscribers: %s", type(error).__name__)

    def _tell(self, versions: list[Version], ask: Asking) -> None:
        for version in versions:
            if version.type == "Subscription":
                self._live = None
                if version.content:
                    self._activate(loads(version.content), ask)
        others = [version for version in versions if version.type != "Subscription"]
        for subscription in self._subscriptions() if others else ():
            told = self._matching(subscription, others, ask)
            if told and not self._send(subscription, told, ask, "event-notification"):
                self._set(subscription, "error", ask)

    def _subscriptions(self) -> list[Resource]:
        """Return those that are active now."""
        if self._live is None:
            rows = self._read(lambda db: db.execute(_LIVE).fetchall())
            self._live = [loads(content) for (content,) in rows]
        return [one for one in self._live if one.get("status") == "active" and not _is_over(one)]

    def _matching(self, subscription: Resource, versions: Sequence[Version], ask: Asking) -> list[Version]:
        def matching(db: Db) -> list[Version]:
            return [version for version in versions if _matches(db, subscription, version, ask)]

        return list(self._read(matching))

    def _activate(self, subscription: Resource, ask: Asking) -> None:
        if subscription.get("status") != "requested":
            return
        sound = not _is_topic(subscription) or self._send(subscription, [], ask, "handshake")
        self._set(subscription, "active" if sound else "error", ask)

    def _set(self, subscription: Resource, status: str, ask: Asking) -> None:
        path = f"Subscription/{subscription['id']}"
        self._live = None
        self._write([Entry("PUT", path, resource={**subscription, "status": status})], ask)

    def _send(self, subscription: Resource, told: list[Version], ask: Asking, kind: str) -> bool:
        channel = subscription["channel"]
        headers = {"Content-Type": "application/fhir+json"}
        for line in channel.get("header", ()):
            name, _, value = line.partition(":")
            headers[name.strip()] = value.strip()
        if _is_topic(subscription):
            number = self._numbers[subscription["id"]] = self._numbers.get(subscription["id"], 0) + len(told)
            requests = [("POST", channel["endpoint"], dumps(_notification(subscription, told, ask, kind, number)))]
        elif channel.get("payload"):
            requests = [
                (version.method, f"{channel['endpoint']}/{version.type}/{version.id}", (version.content or "").encode())
                for version in told
            ]
            requests = [("PUT" if method == "POST" else method, url, body) for method, url, body in requests]
        else:
            requests = [("POST", channel["endpoint"], b"")]
        return all(self._try(method, url, body, headers) for method, url, body in requests)

    def _try(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> bool:
        for _ in range(TRIES):
            try:
                if self._http.request(method, url, content=body, headers=headers).is_success:
                    return True
            except httpx.HTTPError:
                continue
        return False


def _is_topic(subscription: Resource) -> bool:
    profiles = subscription.get("meta", {}).get("profile", [])
    return f"{BACKPORT}/backport-subscription" in profiles


def _is_over(subscription: Resource) -> bool:
    end = subscription.get("end")
    return isinstance(end, str) and moment(end) <= datetime.now(UTC)


def _matches(db: Db, subscription: Resource, version: Version, ask: Asking) -> bool:
    """Say whether a version is what a subscription asks for; of a deletion only the type is looked at."""
    for wanted in _searches(subscription):
        kind, _, query = wanted.partition("?")
        if kind != version.type:
            continue
        pairs = [*parse_qsl(query, keep_blank_values=True), ("_id", version.id)]
        try:
            if version.deleted or find(db, criteria(kind, pairs, ask), 1):
                return True
        except Refusal:
            continue
    return False


def _searches(subscription: Resource) -> list[str]:
    said = str(subscription.get("criteria", ""))
    if not _is_topic(subscription):
        return [said]
    extensions = subscription.get("_criteria", {}).get("extension", [])
    filters = [one["valueString"] for one in extensions if one.get("url", "").endswith("backport-filter-criteria")]
    last = said.rpartition("/")[2]
    return filters or ([last] if last in RESOURCE_TYPES else sorted(RESOURCE_TYPES - {"Subscription"}))


def _notification(
    subscription: Resource, told: Sequence[Version], ask: Asking, kind: str, number: int
) -> dict[str, Any]:
    """Return the Bundle of a notification (Backport, "Notifications"): R4 writes the status as Parameters."""
    content = _content(subscription)
    events = []
    for offset, version in enumerate(told):
        parts: list[dict[str, Any]] = [{"name": "event-number", "valueString": str(number - len(told) + offset + 1)}]
        if content != "empty":
            parts.append({"name": "focus", "valueReference": {"reference": f"{ask.base}/{version.type}/{version.id}"}})
        events.append({"name": "notification-event", "part": parts})
    status = {
        "resourceType": "Parameters",
        "id": str(uuid4()),
        "meta": {"profile": [f"{BACKPORT}/backport-subscription-status-r4"]},
        "parameter": [
            {
                "name": "subscription",
                "valueReference": {"reference": f"{ask.base}/Subscription/{subscription['id']}"},
            },
            {"name": "topic", "valueCanonical": subscription["criteria"]},
            {"name": "status", "valueCode": "active"},
            {"name": "type", "valueCode": kind},
            {"name": "events-since-subscription-start", "valueString": str(number)},
            *events,
        ],
    }
    entries: list[dict[str, Any]] = [{"fullUrl": f"urn:uuid:{status['id']}", "resource": status}]
    if content == "full-resource":
        entries += [{"resource": loads(version.content)} for version in told if version.content]
    return {"resourceType": "Bundle", "type": "history", "timestamp": instant(datetime.now(UTC)), "entry": entries}


def _content(subscription: Resource) -> str:
    extensions = subscription["channel"].get("_payload", {}).get("extension", [])
    return next((one["valueCode"] for one in extensions if one["url"].endswith("backport-payload-content")), "empty")
