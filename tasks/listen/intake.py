"""One feed's intake over HTTP: who may post, how much, and the landing of what they post."""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator

from fastapi import Request

from tasks.errors import ConfigError, SluiceError, Transient
from tasks.feed import Feed
from tasks.landing.store import Landing
from tasks.listen import metrics
from tasks.listen.commit import GroupCommit, Item, Outcome, hashed
from tasks.listen.fhir_body import Bad, Posted
from tasks.listen.oidc import Client, NotKnown, Provider
from tasks.listen.scopes import EVERYTHING, Action
from tasks.listen.upload import Uploads
from tasks.settings import connection
from tasks.source.http import HttpOptions
from tasks.source.pushed import duration_seconds

FHIR_FORMATS = ("fhir-bundle", "fhir-ndjson")
BODY_SECONDS = 120
"""How long a FHIR request's body may take."""
_CLIENTS = 10_000


class Rate:
    """A bucket of tokens a client: so many a minute, of which a sixth may come at once."""

    def __init__(self, per_minute: int) -> None:
        self.per_second = per_minute / 60
        self.burst = max(per_minute / 6, 1.0)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str) -> float:
        """Take a token; return 0, or the seconds until there is one."""
        now = time.monotonic()
        held, when = self._buckets.pop(name, (self.burst, now))
        held = min(self.burst, held + (now - when) * self.per_second)
        taken = held >= 1
        self._buckets[name] = (held - 1 if taken else held, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - held) / self.per_second


class Intake:
    """A feed as those who post see it; raises `ConfigError` where its file does not say who they are."""

    def __init__(self, feed: Feed, commit: GroupCommit, landing: Landing, url: str) -> None:
        if not isinstance(feed.source, HttpOptions):
            raise ConfigError(f"{feed.name}: its source is `{feed.source.kind}`, and `sluice listen http` needs `http`")
        self.feed, self.options, self.commit = feed, feed.source, commit
        self.uploads = Uploads(feed, url, landing)
        self.window = duration_seconds(feed.source.window)
        self.provider = _provider(feed, feed.source)
        self.rate = Rate(feed.source.per_minute)

    async def client(self, request: Request) -> Client:
        """Return who posts; raises `Bad` with 401, 403, 429 or 503."""
        who = await self._known(request)
        if self.options.clients and who.name not in self.options.clients:
            raise Bad(403, "forbidden", "this client does not post to this feed")
        if wait := self.rate.wait(who.name):
            raise Bad(429, "throttled", "more requests than this feed takes of one client", retry=wait)
        return who

    async def _known(self, request: Request) -> Client:
        if self.provider is None:
            return Client(request.client.host if request.client else "", EVERYTHING)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Bad(401, "login", "a bearer token of the issuer is needed")
        try:
            return await asyncio.to_thread(self.provider.client, token.strip())
        except NotKnown as error:
            raise Bad(401, "login", str(error)) from None
        except Transient as error:
            raise Bad(503, "transient", str(error), retry=error.retry_after) from None

    def permit(self, who: Client, actions: tuple[Action, ...]) -> None:
        """Raise `Bad` (403) that names the scopes which the client's token does not have."""
        if missing := who.rights.missing(actions):
            raise Bad(403, "forbidden", f"the token does not have {' '.join(missing[:10])}")

    async def body(self, request: Request) -> bytes:
        """Return a FHIR request's body; raises `Bad` where it is no JSON by its media type, too long or too slow."""
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in ("application/fhir+json", "application/json", "text/json"):
            raise Bad(415, "not-supported", "application/fhir+json is needed")
        data = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    data += chunk
                    if len(data) > self.options.max_body:
                        raise Bad(413, "too-long", "the body is larger than this feed takes")
        except TimeoutError:
            raise Bad(408, "timeout", "the body took too long") from None
        return bytes(data)

    async def keep(self, posted: Posted, key: str | None) -> Outcome:
        """Return where a request is durably kept; raises `Bad` where it is not."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()
        feed = self.feed.name

        def settle(outcome: Outcome) -> None:
            if not answer.done():
                answer.set_result(outcome)

        def done(outcome: Outcome) -> None:
            loop.call_soon_threadsafe(settle, outcome)

        control = key.encode() if key else posted.control or os.urandom(16)
        began = time.monotonic()
        metrics.IN_FLIGHT.labels(feed).inc()
        try:
            digest = hashed(feed, posted.data)
            self.commit.put(Item(feed, hashed(feed, control), digest, posted.data, self.window, key is not None, done))
            outcome = await answer
        finally:
            metrics.IN_FLIGHT.labels(feed).dec()
            metrics.COMMIT_SECONDS.labels(feed).observe(time.monotonic() - began)
        if outcome.status == "conflict":
            raise Bad(409, "conflict", "this Idempotency-Key was used for another request")
        if outcome.status == "failed":
            raise Bad(503, "transient", "the request could not be kept; send it again", retry=5)
        return outcome

    def guarded(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Return an upload's chunks, without the empty one at the end."""
        return (chunk async for chunk in chunks if chunk)


def _provider(feed: Feed, options: HttpOptions) -> Provider | None:
    if options.open:
        return None
    values = connection(options.connection)
    issuer = options.issuer or values.get("issuer")
    audience = options.audience or values.get("audience")
    if not issuer or not audience:
        raise ConfigError(f"{feed.name}: `issuer` and `audience` say whose tokens are taken; or `open: true` takes all")
    return Provider(issuer, audience, options.jwks_url or values.get("jwks_url"))


def failure(error: SluiceError) -> Bad:
    """Return the refusal for something that went wrong here."""
    retry = 5.0 if isinstance(error, Transient) else None
    return Bad(503, "transient", "the upload could not be kept; send it again", retry=retry)
