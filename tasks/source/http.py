"""FHIR and files over HTTP (`kind: http`): a listener lands what is posted, so a poll finds nothing to fetch."""

from __future__ import annotations

from pydantic import Field

from tasks.source.pushed import PushedSource, PushOptions


class HttpOptions(PushOptions):
    """What a feed says of those who post to it.

    - `issuer`, `audience`: whose bearer tokens are taken and what they must be made for; `jwks_url` where the issuer
      does not publish it in its OpenID configuration. The connection may hold all three instead.
    - `clients`: which client ids (`azp` or `client_id` of a token) post to this feed; nothing named is everyone whom
      the issuer knows.
    - `open`: takes posts without any token; for a network that lets nobody else in.
    - `max_body` in bytes of a FHIR request, `max_file` of an uploaded file, `per_minute` requests of one client.
    """

    issuer: str | None = None
    audience: str | None = None
    jwks_url: str | None = None
    clients: tuple[str, ...] = ()
    open: bool = False
    max_body: int = Field(default=16 << 20, ge=1024, le=50 << 20)
    max_file: int = Field(default=20 << 30, ge=1024)
    per_minute: int = Field(default=6000, ge=1)


class HttpSource(PushedSource):
    """The polling side of an HTTP feed: there is nothing to poll."""

    Options = HttpOptions
