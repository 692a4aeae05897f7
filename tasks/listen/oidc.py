"""Bearer tokens of an OpenID provider: signature, issuer, audience, lifetime; and who the client is.

OpenID Connect Discovery 1.0; RFC 9068 (JWT access tokens), with what Keycloak leaves out or adds (`azp`, `typ`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tasks.errors import ConfigError, SluiceError, Transient
from tasks.http import client
from tasks.listen.scopes import Rights

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
LEEWAY = 60
"""Seconds by which the provider's clock may differ."""
KEYS_SECONDS = 600.0
ASK_SECONDS = 10.0
"""Seconds between two questions for keys: a stranger's token must not make us ask without end."""
_NOT_ACCESS = {"ID", "Refresh", "Offline", "Logout"}


class NotKnown(SluiceError):
    """A token is not good; the text says why, without anything of the token."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who posts, and what they may."""

    name: str
    rights: Rights


class Provider:
    """One issuer and audience; keys are fetched when they are needed and kept for ten minutes."""

    def __init__(self, issuer: str, audience: str, jwks_url: str | None = None) -> None:
        self.issuer = issuer
        self.audience = audience
        self._url = jwks_url
        self._keys: KeySet | None = None
        self._fetched = self._asked = float("-inf")
        self._lock = threading.Lock()

    def client(self, token: str) -> Client:
        """Return who a token belongs to; raises `NotKnown`, or `Transient` where the keys cannot be had."""
        keys = self._current()
        claims = _decoded(token, keys)
        if claims is None and (newer := self._current(renew=True)) is not keys:
            claims = _decoded(token, newer)
        if claims is None:
            raise NotKnown("the token's signature is not by a key of the issuer, or it is no JWT")
        self._check(claims)
        name = next((claims[key] for key in ("azp", "client_id", "sub") if isinstance(claims.get(key), str)), "")
        said = claims.get("scope", claims.get("scp", ""))
        return Client(name, Rights.of(said if isinstance(said, str) else " ".join(map(str, said or ()))))

    def _check(self, claims: Mapping[str, Any]) -> None:
        now = time.time()
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        problems = {
            "it was issued by another issuer": claims.get("iss") != self.issuer,
            "it is not meant for this audience": self.audience not in audiences,
            "it is no access token": claims.get("typ") in _NOT_ACCESS,
            "it has no expiry": not isinstance(expires, (int, float)),
            "it has expired": isinstance(expires, (int, float)) and expires + LEEWAY < now,
            "it is not good yet": not isinstance(begins, (int, float)) or begins - LEEWAY > now,
        }
        for text, wrong in problems.items():
            if wrong:
                raise NotKnown(f"the token is not good: {text}")

    def _current(self, *, renew: bool = False) -> KeySet:
        with self._lock:
            now = time.monotonic()
            old = renew or now - self._fetched > KEYS_SECONDS
            if old and now - self._asked > ASK_SECONDS:
                self._asked = now
                try:
                    self._keys = self._fetch()
                    self._fetched = now
                except (SluiceError, httpx.HTTPError, JoseError, ValueError, KeyError, TypeError):
                    # the keys that are known go on being good while the provider is away
                    pass
            if self._keys is None:
                raise Transient("the issuer's keys cannot be had now", ASK_SECONDS)
            return self._keys

    def _fetch(self) -> KeySet:
        with client(self.issuer, timeout=10) as http:
            if self._url is None:
                said = http.get(self.issuer.rstrip("/") + "/.well-known/openid-configuration").raise_for_status().json()
                if said["issuer"] != self.issuer:
                    raise ConfigError("the OpenID configuration names another issuer")
                self._url = str(said["jwks_uri"])
            keys = http.get(self._url).raise_for_status().json()["keys"]
        usable = [key for key in keys if key.get("use", "sig") == "sig" and key.get("kty") in {"RSA", "EC", "OKP"}]
        return KeySet.import_key_set({"keys": usable})


def _decoded(token: str, keys: KeySet) -> Mapping[str, Any] | None:
    try:
        return dict(jwt.decode(token, keys, algorithms=ALGORITHMS).claims)
    except (JoseError, ValueError, TypeError, KeyError, UnicodeError):
        return None
