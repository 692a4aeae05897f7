"""Subscriptions at a server that is polled: made, looked after and renewed, so that it tells of changes at once.

A notification only says that something has changed (`tasks.listen.notify`): the poll that it starts reads the resource
again. What a notification misses, the watermark finds. Source: FHIR R4, "Subscription" (rest-hook); Subscriptions R5
Backport IG 1.1 (topics on R4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from mappings.engine import json
from tasks.errors import ConfigError, Permanent, Transient
from tasks.http import check_url
from tasks.log import get_logger
from tasks.source.fhir_rest_pages import Asker, instant, parse_instant
from tasks.source.port import SourceState
from tasks.source.pushed import Duration, duration_seconds

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
SHORTEST_SECRET = 16


class Subscribe(BaseModel):
    """`source.subscribe`: what a server is asked to tell of, and where.

    - `endpoint` is where it reaches this feed's listener (`sluice listen http`): `https://…/<feed>/notify`.
    - `form` is `rest-hook` (R4, one subscription a type) or `topic` (R5 backport, one for `topic`, with `filters`).
    - `content` is what a notification carries: `empty`, `id-only` (topics alone) or `full-resource`. Whatever it
      carries, the resource is read again.
    - `lifetime` is how long a subscription lasts; it is renewed when half of it is over.
    - `heartbeat` is how often a topic's server shows that it is alive.

    The connection's `notify_token` is the secret that the server shows with every notification.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    endpoint: str
    form: Literal["rest-hook", "topic"] = "rest-hook"
    topic: str | None = None
    filters: tuple[str, ...] = ()
    content: Literal["empty", "id-only", "full-resource"] | None = None
    lifetime: Duration = "1d"
    heartbeat: Duration = "1h"

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, endpoint: str) -> str:
        try:
            return check_url(endpoint, "endpoint")
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _of_its_form(self) -> Subscribe:
        if self.form == "topic" and not self.topic:
            raise ValueError("`form: topic` needs `topic`: the canonical URL of a topic that the server has")
        if self.form == "rest-hook" and (self.topic or self.filters):
            raise ValueError("`topic` and `filters` belong to `form: topic`")
        if self.form == "rest-hook" and self.content == "id-only":
            raise ValueError("a rest-hook carries nothing or the whole resource: `empty` or `full-resource`")
        return self


def secret(connection: Mapping[str, str]) -> str:
    """Return what a server shows with its notifications; raises `ConfigError` where the connection has no such."""
    token = connection.get("notify_token", "")
    if len(token) < SHORTEST_SECRET or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"`subscribe` needs notify_token in the connection: {SHORTEST_SECRET} or more printable characters,"
            " by which notifications are known to come from the server"
        )
    return token


class Subscriptions:
    """The subscriptions of one feed; what is known of them stands in the source's cursor."""

    def __init__(
        self,
        asker: Asker,
        options: Subscribe,
        types: Sequence[str],
        search: Mapping[str, str],
        connection: Mapping[str, str],
    ) -> None:
        self._asker, self._options, self._types, self._search = asker, options, types, search
        self._token = secret(connection)
        self._lifetime = timedelta(seconds=duration_seconds(options.lifetime))

    def keep(self, state: SourceState) -> None:
        """Make what is missing, renew what ends, mend what the server gave up.

        A server that refuses stops no poll: it is logged, noted in the cursor, and tried again with the next poll.
        """
        for criteria in self._criteria():
            known = state.cursor().get("subscriptions", {})
            before = known.get(criteria, {})
            try:
                after = self._kept(criteria, before)
            except (Permanent, Transient) as error:
                get_logger().warning("subscription not kept, polls go on", why=str(error))
                after = {**before, "problem": str(error)}
            if after != before:
                state.save({**state.cursor(), "subscriptions": {**known, criteria: after}})

    def _criteria(self) -> Iterator[str]:
        if self._options.topic:
            yield self._options.topic
            return
        for kind in self._types:
            yield f"{kind}?{self._search.get(kind, '').lstrip('?')}"

    def _kept(self, criteria: str, known: Mapping[str, str]) -> dict[str, str]:
        now = datetime.now(UTC)
        body = self._body(criteria, now + self._lifetime)
        form = hashlib.sha256(json.dumps({**body, "end": ""})).hexdigest()[:16]
        ident = known.get("id") or self._found(criteria)
        there = self._there(ident) if ident else {}
        if not there:
            ident = self._made(body)
        else:
            ends = parse_instant(there.get("end"))
            sound = there.get("status") in ("requested", "active") and known.get("form") == form
            if sound and (ends is None or ends - now > self._lifetime / 2):
                return {"id": str(ident), "form": form}
            if there.get("status") in ("error", "off"):
                get_logger().warning("the server gave a subscription up: it is asked for again")
            url = f"{self._asker.base}/Subscription/{ident}"
            self._asker.send("PUT", url, "renewing the subscription", {**body, "id": ident}, (200, 201))
        return {"id": str(ident), "form": form}

    def _there(self, ident: str) -> dict[str, Any]:
        """Return the subscription as it stands at the server; empty where it is there no more."""
        url = f"{self._asker.base}/Subscription/{ident}"
        response = self._asker.get(url, "looking after the subscription", (200, 404, 410))
        return _object(response) if response.status_code == 200 else {}

    def _found(self, criteria: str) -> str | None:
        """Return the id of one that was made before and not noted; None where there is none, or no such search."""
        url = f"{self._asker.base}/Subscription?{httpx.QueryParams({'url': self._options.endpoint})}"
        try:
            entries = _object(self._asker.get(url, "looking for the subscription")).get("entry", [])
        except Permanent:
            return None
        found = [each.get("resource", {}) for each in entries if isinstance(each, dict)]
        same = [one for one in found if one.get("criteria") == criteria and _endpoint(one) == self._options.endpoint]
        return next((one["id"] for one in same if isinstance(one.get("id"), str)), None)

    def _made(self, body: dict[str, Any]) -> str:
        url = f"{self._asker.base}/Subscription"
        response = self._asker.send("POST", url, "making the subscription", body, (200, 201))
        ident = response.headers.get("location", "").partition("/_history/")[0].rstrip("/").rpartition("/")[2]
        ident = ident or str(_object(response).get("id", ""))
        if not ident:
            raise Permanent("making the subscription: the server does not say under which id it keeps it")
        return ident

    def _body(self, criteria: str, end: datetime) -> dict[str, Any]:
        options = self._options
        channel: dict[str, Any] = {
            "type": "rest-hook",
            "endpoint": options.endpoint,
            "header": [f"Authorization: Bearer {self._token}"],
        }
        body: dict[str, Any] = {
            "resourceType": "Subscription",
            "status": "requested",
            "reason": "Sluice reads again what has changed",
            "criteria": criteria,
            "end": instant(end),
        }
        if options.form == "topic":
            body["meta"] = {"profile": [f"{BACKPORT}/backport-subscription"]}
            channel |= self._backport()
            if options.filters:
                filters = [_extension("backport-filter-criteria", valueString=one) for one in options.filters]
                body["_criteria"] = {"extension": filters}
        elif options.content == "full-resource":
            channel["payload"] = "application/fhir+json"
        return {**body, "channel": channel}

    def _backport(self) -> dict[str, Any]:
        options = self._options
        seconds = int(duration_seconds(options.heartbeat))
        content = options.content or "id-only"
        return {
            "extension": [_extension("backport-heartbeat-period", valueUnsignedInt=seconds)],
            "payload": "application/fhir+json",
            "_payload": {"extension": [_extension("backport-payload-content", valueCode=content)]},
        }


def _extension(name: str, **value: Any) -> dict[str, Any]:
    return {"url": f"{BACKPORT}/{name}", **value}


def _endpoint(subscription: Mapping[str, Any]) -> str:
    channel = subscription.get("channel")
    return str(channel.get("endpoint", "")) if isinstance(channel, dict) else ""


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        value = json.loads(response.content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
