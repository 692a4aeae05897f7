"""The token endpoint of SMART Backend Services, and of clients with a secret (SMART 2.2, RFC 6749 4.4, RFC 7523)."""

from __future__ import annotations

import hmac
import threading
from base64 import b64decode, urlsafe_b64decode
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from joserfc import jwk, jwt
from joserfc.errors import JoseError

from infra.dev.fhir.auth import Keeper, granted
from infra.dev.fhir.server import Server
from mappings.engine.json import loads

ALGORITHMS = ["RS384", "ES384"]
METHODS = ["private_key_jwt", "client_secret_basic", "client_secret_post"]
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST = 300
SKEW = 10


class OAuthError(Exception):
    """The token endpoint refuses, with an error code of RFC 6749 5.2."""

    def __init__(self, error: str, why: str, status: int = 400) -> None:
        super().__init__(f"{error}: {why}")
        self.error, self.why, self.status = error, why, status


class TokenEndpoint:
    """Checks who a client is; an assertion is good once."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper, self.auth = keeper, keeper.auth
        self._lock = threading.Lock()
        self._used: dict[tuple[str, str], float] = {}

    def grant(self, form: dict[str, str], authorization: str, url: str) -> dict[str, Any]:
        """Return the token response to `form`; raise `OAuthError`."""
        if form.get("grant_type") != "client_credentials":
            raise OAuthError("unsupported_grant_type", "grant_type is client_credentials here")
        if "client_assertion" in form:
            self._require_assertion(form, url)
        else:
            self._require_secret(form, authorization)
        scopes = granted(form.get("scope", self.auth.scope), self.auth.scope)
        if not scopes:
            raise OAuthError("invalid_scope", "none of the scopes can be had")
        token = self.keeper.grant(scopes)
        lifetime = self.auth.lifetime
        return {"access_token": token, "token_type": "bearer", "expires_in": lifetime, "scope": " ".join(scopes)}

    def _require_assertion(self, form: dict[str, str], url: str) -> None:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise OAuthError("invalid_request", "client_assertion_type is not the one of RFC 7523")
        claims = self._claims(form["client_assertion"])
        now, until, jti = self.auth.clock(), claims.get("exp"), claims.get("jti")
        audience = claims.get("aud")
        if claims.get("sub") != claims["iss"] or url not in (audience if isinstance(audience, list) else [audience]):
            raise OAuthError("invalid_client", "iss, sub and aud are the client twice and the token URL")
        if not isinstance(until, (int, float)) or not now - SKEW < until <= now + LONGEST + SKEW:
            raise OAuthError("invalid_client", "exp is past or more than five minutes away")
        if not isinstance(jti, str) or not self._first(claims["iss"], jti, now, until):
            raise OAuthError("invalid_client", "jti is missing or has been used")

    def _claims(self, assertion: str) -> dict[str, Any]:
        """Return the claims of an assertion that one of the keys of the client it names has signed."""
        try:
            header, payload = (loads(urlsafe_b64decode(part + "==")) for part in assertion.split(".")[:2])
            keys = [key for key in self.auth.jwks[payload["iss"]]["keys"] if key["kid"] == header["kid"]]
            return jwt.decode(assertion, jwk.import_key(dict(keys[0])), algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError, LookupError):
            raise OAuthError("invalid_client", "no registered key of the client has signed this", 401) from None

    def _first(self, client: str, jti: str, now: float, until: float) -> bool:
        with self._lock:
            self._used = {used: end for used, end in self._used.items() if end + SKEW > now}
            if (client, jti) in self._used:
                return False
            self._used[client, jti] = until
            return True

    def _require_secret(self, form: dict[str, str], authorization: str) -> None:
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        if authorization.lower().startswith("basic "):
            try:
                client, _, secret = b64decode(authorization[6:], validate=True).decode().partition(":")
            except ValueError:
                raise OAuthError("invalid_client", "the Authorization header cannot be read", 401) from None
        known = self.auth.secrets.get(client)
        if known is None or not hmac.compare_digest(known.encode(), secret.encode()):
            raise OAuthError("invalid_client", "the client is not known by this secret", 401)


def token_routes(app: FastAPI, server: Server, keeper: Keeper) -> None:
    """Add the token endpoint and the description of it to `app`."""
    endpoint = TokenEndpoint(keeper)

    @app.post("/auth/token")
    async def token(request: Request) -> Response:
        form = dict(parse_qsl((await server.body(request)).decode("utf-8", "replace")))
        url = f"{server.base(request)}/auth/token"
        plain = {"Cache-Control": "no-store"}
        try:
            found = endpoint.grant(form, request.headers.get("authorization", ""), url)
        except OAuthError as error:
            told = {"error": error.error, "error_description": error.why}
            return JSONResponse(told, error.status, plain)
        return JSONResponse(found, headers=plain)

    @app.get("/.well-known/smart-configuration")
    async def configuration(request: Request) -> Response:
        return JSONResponse(
            {
                "token_endpoint": f"{server.base(request)}/auth/token",
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": METHODS,
                "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
                "scopes_supported": keeper.auth.scope.split(),
                "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
            }
        )
