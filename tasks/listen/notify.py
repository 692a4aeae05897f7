"""What servers tell of at `/<feed>/notify`: which resources a poll has to read again.

A notification is believed as far as it says that something has changed: what has changed is read from the server.
Source: FHIR R4, "Subscription" (rest-hook: an empty POST, or the resource by PUT or POST); Subscriptions R5 Backport
IG 1.1 and FHIR R5, "Subscriptions" (a Bundle that begins with a SubscriptionStatus).
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import Request

from tasks.errors import ConfigError
from tasks.feed import Feed
from tasks.ledger import notices
from tasks.ledger.db import connect
from tasks.listen.fhir_body import Bad
from tasks.listen.intake import Rate
from tasks.settings import connection
from tasks.source.fhir_rest import FhirRestOptions
from tasks.source.fhir_subscription import secret

LARGEST = 16 << 20
"""Bytes of a notification."""
MOST = 1000
"""Resources named in one notification; of more the search finds out."""
PER_MINUTE = 6000
_TAIL = re.compile(r"(?:^|/)([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]*)?$")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")

Key = tuple[str, str]


class Notified:
    """One feed as the server that tells of changes sees it; raises `ConfigError` where it has no secret."""

    def __init__(self, feed: Feed, url: str) -> None:
        if not isinstance(feed.source, FhirRestOptions) or feed.source.subscribe is None:
            raise ConfigError(
                f"{feed.name}: `sluice listen http` needs `kind: http`, or `kind: fhir-rest` that subscribes"
            )
        self.feed = feed
        self._expected = f"Bearer {secret(connection(feed.source.connection))}".encode()
        self._url = url
        self._rate = Rate(PER_MINUTE)

    def require_known(self, request: Request) -> None:
        """Raise `Bad` (401, 429) unless the notification shows the secret."""
        shown = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(shown, self._expected):
            raise Bad(401, "login", "the secret that the subscription was made with is needed")
        if wait := self._rate.wait(""):
            raise Bad(429, "throttled", "more notifications than are taken", retry=wait)

    async def body(self, request: Request) -> bytes:
        """Return the notification's body; raises `Bad` where it is too long."""
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > LARGEST:
                raise Bad(413, "too-long", "the notification is larger than is taken: ask for id-only")
        return bytes(data)

    async def keep(self, keys: list[Key]) -> None:
        """Keep what a notification tells of, durably."""
        if keys:
            await asyncio.to_thread(self._keep, keys)

    def _keep(self, keys: list[Key]) -> None:
        with connect(self._url) as db:
            notices.add(db, self.feed.name, keys)


def told(body: bytes, kind: str | None = None, ident: str | None = None) -> list[Key]:
    """Return the (type, id) that a notification names; one of ("", "") where it does not say what has changed.

    `kind` and `ident` are those of the address. Empty for a handshake. Raises `Bad` for what is no notification.
    """
    if kind and ident:
        return [(kind, ident)]
    if not body.strip():
        return [notices.SOMETHING]
    try:
        said = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise Bad(400, "structure", "the notification is not JSON") from None
    if not isinstance(said, dict) or not isinstance(said.get("resourceType"), str):
        raise Bad(400, "structure", "the notification is no resource")
    if said["resourceType"] == "Bundle" and (status := _status(said)) is not None:
        return _of_status(status)
    own = said.get("id")
    if said["resourceType"] != "Bundle" and isinstance(own, str) and _ID.fullmatch(own):
        return [(said["resourceType"], own)]
    return [notices.SOMETHING]


def _status(bundle: dict[str, Any]) -> dict[str, Any] | None:
    entries = bundle.get("entry")
    first = entries[0] if isinstance(entries, list) and entries and isinstance(entries[0], dict) else {}
    resource = first.get("resource")
    known = isinstance(resource, dict) and resource.get("resourceType") in ("Parameters", "SubscriptionStatus")
    return resource if known else None


def _of_status(status: dict[str, Any]) -> list[Key]:
    kind, focuses = _read_parameters(status) if status["resourceType"] == "Parameters" else _read_status(status)
    if kind == "handshake":
        return []
    found = [_TAIL.search(focus) for focus in focuses]
    keys = [(match[1], match[2]) for match in found if match]
    # a heartbeat is answered by a search too: it finds what a lost notification was about
    return keys if keys and len(keys) == len(focuses) <= MOST else [notices.SOMETHING]


def _read_status(status: dict[str, Any]) -> tuple[str, list[str]]:
    events = list(_objects(status.get("notificationEvent")))
    focuses = [event["focus"].get("reference") for event in events if isinstance(event.get("focus"), dict)]
    return str(status.get("type")), [str(focus) for focus in focuses]


def _read_parameters(parameters: dict[str, Any]) -> tuple[str, list[str]]:
    kind, focuses = "", []
    for one in _objects(parameters.get("parameter")):
        if one.get("name") == "type":
            kind = str(one.get("valueCode", ""))
        if one.get("name") == "notification-event":
            values = [part.get("valueReference") for part in _objects(one.get("part")) if part.get("name") == "focus"]
            focuses += [str(value.get("reference")) for value in values if isinstance(value, dict)]
    return kind, focuses


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (one for one in value if isinstance(one, dict)) if isinstance(value, list) else iter(())
