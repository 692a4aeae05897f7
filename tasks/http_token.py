"""Access tokens: asked for with a signed assertion or a secret, kept, and renewed before they expire.

Source: SMART App Launch 2.2, Backend Services; RFC 6749 (4.4), RFC 7523.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from joserfc import jwk, jwt
from joserfc.errors import JoseError

from tasks.errors import ConfigError, Permanent, Transient
from tasks.http_auth import ClientCredentials, SmartBackend

ASSERTION_SECONDS = 240
"""An assertion may live five minutes; the fifth is left to the clocks."""
ALGORITHMS = ("ES384", "RS384", "ES256", "RS256", "ES512", "RS512")
_DEFAULT_SECONDS = 300.0
_OAUTH_ERRORS = {
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
}


class SigningKey:
    """A client's private key, ready to sign assertions.

    Raises `ConfigError` where the key is not a private JWK with `kid` and one of `ALGORITHMS`.
    """

    def __init__(self, options: SmartBackend) -> None:
        self.client_id = options.client_id
        key = _pick(_load(options))
        self.algorithm = str(key.get("alg") or _algorithm(key))
        self.header = {"typ": "JWT", "alg": self.algorithm, "kid": str(key["kid"])}
        if options.jwks_url:
            self.header["jku"] = options.jwks_url
        try:
            self._key = jwk.import_key({k: v for k, v in key.items() if k not in {"key_ops", "use"}})
        except (JoseError, ValueError, TypeError, KeyError):
            raise ConfigError("private_key_jwk: the key cannot be read as a JWK") from None

    def assertion(self, audience: str, now: float) -> str:
        """Return a signed assertion for the token endpoint `audience`, good once and for four minutes from `now`."""
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience,
            "iat": int(now),
            "exp": int(now) + ASSERTION_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(self.header, claims, self._key, algorithms=[self.algorithm])


def _load(options: SmartBackend) -> Any:
    held = options.private_key_jwk
    if options.private_key_file is not None:
        try:
            held = options.private_key_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"private_key_file: {options.private_key_file} cannot be read") from None
    if not isinstance(held, str):
        return held
    try:
        return json.loads(held)
    except json.JSONDecodeError:
        raise ConfigError("private_key_jwk: not a JSON object") from None


def _pick(held: Any) -> dict[str, Any]:
    keys = held.get("keys") if isinstance(held, dict) and "keys" in held else [held]
    private = [key for key in keys if isinstance(key, dict) and "d" in key] if isinstance(keys, list) else []
    if not private:
        raise ConfigError('private_key_jwk: holds no private key (a JWK with "d")')
    if not private[0].get("kid"):
        raise ConfigError("private_key_jwk: kid is missing; it is the name under which the server knows the public key")
    algorithm = private[0].get("alg")
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise ConfigError(f"private_key_jwk: alg is not one of {', '.join(ALGORITHMS)}")
    return private[0]


def _algorithm(key: Mapping[str, Any]) -> str:
    curves = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
    return "RS384" if key.get("kty") == "RSA" else curves.get(str(key.get("crv")), "ES384")


class Tokens:
    """One client's access token, shared by all threads.

    - `http` talks to the token endpoint and carries no authorization of its own.
    - `discover` returns the token endpoint where the options do not name it.
    """

    def __init__(
        self,
        options: ClientCredentials | SmartBackend,
        http: httpx.Client,
        discover: Callable[[], str],
        *,
        attempts: int = 5,
        backoff: float = 0.5,
    ) -> None:
        self._options = options
        self._http = http
        self._discover = discover
        self._attempts = attempts
        self._backoff = backoff
        self._key = SigningKey(options) if isinstance(options, SmartBackend) else None
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0
        self._url = options.token_url
        self._secret_in_body = False

    def current(self) -> str:
        """Return a token that is good for a while yet; raises `ConfigError`, `Permanent` or `Transient`."""
        with self._lock:
            if not self._token or time.monotonic() >= self._until:
                self._fetch()
            return self._token

    def renewed(self, refused: str) -> str:
        """Return another token than `refused`, which the server no longer takes."""
        with self._lock:
            if self._token == refused:
                self._fetch()
            return self._token

    def _fetch(self) -> None:
        self._url = self._url or self._discover()
        asked = time.monotonic()
        answer = self._ask(self._url)
        token, seconds = answer.get("access_token"), _seconds(answer.get("expires_in"))
        if not isinstance(token, str) or not token or not token.isprintable():
            raise Permanent(f"{_host(self._url)}: the token endpoint's answer holds no access_token")
        self._token = token
        self._until = asked + seconds - min(30.0, seconds / 5)

    def _ask(self, url: str) -> dict[str, Any]:
        for attempt in range(1, self._attempts + 1):
            response = self._post(url)
            if response is not None and response.status_code < 500 and response.status_code not in {408, 429}:
                return self._read(response, url)
            if attempt < self._attempts:
                time.sleep(self._backoff * 2 ** (attempt - 1))
        raise Transient(f"{_host(url)}: the token endpoint did not answer after {self._attempts} attempts")

    def _post(self, url: str) -> httpx.Response | None:
        form = {"grant_type": "client_credentials"} | ({"scope": self._options.scope} if self._options.scope else {})
        try:
            if isinstance(self._options, ClientCredentials):
                return self._post_secret(url, form, self._options)
            assert self._key is not None  # noqa: S101 - the other kind of options always has one
            form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            form["client_assertion"] = self._key.assertion(url, time.time())
            return self._http.post(url, data=form, headers={"Accept": "application/json"})
        except httpx.TransportError:
            return None

    def _post_secret(self, url: str, form: dict[str, str], options: ClientCredentials) -> httpx.Response:
        secret = options.client_secret.get_secret_value()
        if not self._secret_in_body:
            basic = httpx.BasicAuth(options.client_id, secret)
            response = self._http.post(url, data=form, auth=basic, headers={"Accept": "application/json"})
            if response.status_code not in {400, 401}:
                return response
        body = form | {"client_id": options.client_id, "client_secret": secret}
        response = self._http.post(url, data=body, headers={"Accept": "application/json"})
        # A server that takes the secret in the body alone is asked that way from now on.
        self._secret_in_body = response.is_success
        return response

    def _read(self, response: httpx.Response, url: str) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = {}
        answer = answer if isinstance(answer, dict) else {}
        if response.is_success:
            return answer
        said = answer.get("error")
        word = said if isinstance(said, str) and said in _OAUTH_ERRORS else "no reason given"
        raise ConfigError(
            f"{_host(url)}: the token endpoint refused client {self._options.client_id} "
            f"({response.status_code}, {word}); check client_id, key or secret, and scope in the auth file"
        )


def _seconds(said: Any) -> float:
    try:
        seconds = float(said)
    except (TypeError, ValueError):
        return _DEFAULT_SECONDS
    return seconds if 0 < seconds < 7 * 86400 else _DEFAULT_SECONDS


def _host(url: str) -> str:
    return httpx.URL(url).host
