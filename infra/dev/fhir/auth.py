"""Who may do what: bearer and basic credentials, and access tokens with SMART scopes.

Source: SMART App Launch 2.2 (scopes v1 `system/Patient.read` and v2 `system/Patient.rs`), RFC 6750, RFC 7617.
"""

from __future__ import annotations

import hmac
import json
import re
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from fastapi import Request

from infra.dev.fhir.definitions import RESOURCE_TYPES
from infra.dev.fhir.outcome import Refusal
from tasks.errors import ConfigError

ALL = "system/*.cruds"
_SCOPE = re.compile(r"system/(\*|[A-Z][A-Za-z]+)\.(read|write|\*|c?r?u?d?s?)")
_LETTERS = {"read": "rs", "write": "cud", "*": "cruds"}


@dataclass(frozen=True, slots=True)
class Auth:
    """Who the server knows; nobody else gets in.

    - `jwks` are the public keys of SMART backend services by client id, `secrets` those of clients with a secret.
    - `bearer` are tokens that are always good, `basic` passwords by user name; both may do everything.
    - `scope` is what a token can be had for; `lifetime` is how many seconds it is good for.
    - `clock` gives the seconds since 1970.
    """

    jwks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    bearer: Collection[str] = field(default=(), repr=False)
    basic: Mapping[str, str] = field(default_factory=dict, repr=False)
    scope: str = ALL
    lifetime: int = 300
    clock: Callable[[], float] = time.time


def read_auth(path: Path) -> Auth:
    """Return the `Auth` of a JSON file with its fields' names; raise `ConfigError` where it is none."""
    try:
        return Auth(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        raise ConfigError(f"{path}: not a JSON object with jwks, secrets, bearer, basic, scope, lifetime") from None


@dataclass(frozen=True, slots=True)
class Rights:
    """What a request may do: scopes of SMART."""

    scopes: tuple[str, ...]

    def allow(self, kind: str, letter: str) -> bool:
        """Return whether `letter` (c, r, u, d, s) is allowed on resource type `kind`, `*` being all of them."""
        found = (_SCOPE.fullmatch(scope) for scope in self.scopes)
        return any(m and m[1] in ("*", kind) and letter in _LETTERS.get(m[2], m[2]) for m in found)

    def require(self, kind: str, letter: str) -> None:
        """Raise `Refusal` 403 where that is not allowed."""
        if not self.allow(kind, letter):
            raise Refusal(403, "the token's scopes do not cover this")

    def types(self, asked: list[str]) -> list[str]:
        """Return the types of `asked` (empty: all) to export; raise `Refusal` 403 where one may not be read."""
        if asked or not self.allow("*", "r"):
            for kind in asked:
                self.require(kind, "r")
            return asked or sorted(kind for kind in RESOURCE_TYPES if self.allow(kind, "r"))
        return []


EVERYTHING = Rights((ALL,))


class Keeper:
    """Gives out tokens and knows them again; they end with the server."""

    def __init__(self, auth: Auth) -> None:
        self.auth = auth
        self._lock = threading.Lock()
        self._tokens: dict[bytes, tuple[float, Rights]] = {}

    def grant(self, scopes: tuple[str, ...]) -> str:
        """Return a new token for `scopes`."""
        token, now = token_urlsafe(32), self.auth.clock()
        with self._lock:
            self._tokens = {digest: kept for digest, kept in self._tokens.items() if kept[0] > now}
            self._tokens[_digest(token)] = (now + self.auth.lifetime, Rights(scopes))
        return token

    def rights(self, request: Request) -> Rights:
        """Return what `request` may do; raise `Refusal` 401 where it does not say who it is."""
        scheme, _, said = request.headers.get("authorization", "").partition(" ")
        known = {"bearer": self._bearer, "basic": self._basic}.get(scheme.lower())
        rights = known(said.strip()) if known else None
        if rights is None:
            headers = {"WWW-Authenticate": 'Bearer realm="fhir"'}
            raise Refusal(401, "no valid credentials: ask the token endpoint for a token", headers=headers)
        return rights

    def _bearer(self, token: str) -> Rights | None:
        if any(hmac.compare_digest(known.encode(), token.encode()) for known in self.auth.bearer):
            return EVERYTHING
        with self._lock:
            until, rights = self._tokens.get(_digest(token), (0.0, None))
        return rights if self.auth.clock() < until else None

    def _basic(self, said: str) -> Rights | None:
        try:
            user, _, password = b64decode(said, validate=True).decode().partition(":")
        except ValueError:
            return None
        known = self.auth.basic.get(user)
        good = known is not None and hmac.compare_digest(known.encode(), password.encode())
        return EVERYTHING if good else None


def granted(asked: str, allowed: str) -> tuple[str, ...]:
    """Return those of the `asked` scopes that `allowed` covers wholly."""
    limit = Rights(tuple(allowed.split()))
    scopes = [(scope, _SCOPE.fullmatch(scope)) for scope in asked.split()]
    return tuple(s for s, m in scopes if m and m[2] and all(limit.allow(m[1], x) for x in _LETTERS.get(m[2], m[2])))


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
