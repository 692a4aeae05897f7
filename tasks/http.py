"""The one HTTP client: TLS verified, authenticated, quiet in logs, careful with redirects.

What it never does: put a query, a header or a body into a log or an exception, or hand the authorization to a host
that a redirect names.
"""

from __future__ import annotations

import contextlib
import logging
import random
import ssl
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.request import getproxies

import httpx

from tasks.errors import ConfigError, Permanent, SluiceError, Transient
from tasks.http_auth import Auth, Basic, Bearer, ClientCredentials, NoAuth, SmartBackend
from tasks.http_token import Tokens
from tasks.http_transport import Transport

TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_ORIGIN = "sluice.origin"
_EPOCH_SECONDS = 10**9
_EPOCH_MILLISECONDS = 10**11


@dataclass(frozen=True, slots=True)
class Retry:
    """How patiently a request is repeated: `attempts` in all, `base` seconds apart, then double, up to `ceiling`."""

    attempts: int = 9
    base: float = 0.25
    ceiling: float = 120.0

    def delay(self, attempt: int, asked: float | None = None) -> float:
        """Return the seconds to wait after the `attempt`-th failure; what the server asked for goes before."""
        if asked is not None:
            # A server that says 0 again and again is not asked again and again without a pause.
            least = min(self.base, 0.05) * 2.0 ** (attempt - 1)
            return min(max(asked, least), self.ceiling)
        grown = min(self.base * 2.0 ** (attempt - 1), self.ceiling / 4)
        return grown * random.uniform(0.75, 1.25)  # noqa: S311 - spreads clients, hides nothing


def client(
    base_url: str,
    auth: Auth | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    connections: int = 8,
    follow_redirects: bool = False,
    whole: float | None = None,
) -> httpx.Client:
    """Return a client for the server at `base_url`; `timeout` is in seconds for connecting, reading and writing each.

    `whole` is in seconds for a request and its whole answer, however slowly that trickles in.
    `headers` are treated as secrets: like the authorization they do not follow a redirect to another host.
    Raises `ConfigError` where the URL, a certificate or a key cannot be used.
    """
    auth = auth or NoAuth()
    base = check_url(base_url)
    _quiet()
    login = _Login(auth, base, dict(headers or {}), timeout)
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    tls = _tls(auth)
    return _Client(
        login,
        base_url=base,
        auth=login,
        verify=tls,
        timeout=httpx.Timeout(timeout, connect=min(timeout, 15.0), pool=None),
        limits=limits,
        # httpx's own transport knows the way through a proxy that the environment names
        transport=None if whole is None and getproxies() else Transport(tls, limits, whole),
        follow_redirects=follow_redirects,
        event_hooks={"request": [login.guard]},
        headers={"User-Agent": "sluice"},
    )


def check_url(url: str, what: str = "base_url") -> str:
    """Return `url`; raises `ConfigError` unless it is an http(s) URL without credentials in it."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise ConfigError(f"{what}: not a URL") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigError(f"{what}: not an http(s) URL with a host")
    if parsed.userinfo:
        raise ConfigError(f"{what}: holds credentials; they belong into the auth file or the connection")
    return url


def place(url: str | httpx.URL) -> str:
    """Return scheme, host and port of `url`: what may be said of it in a message."""
    parsed = httpx.URL(url)
    port = f":{parsed.port}" if parsed.port else ""
    return f"{parsed.scheme}://{parsed.host}{port}"


def retry_after(headers: Mapping[str, str], ceiling: float = 120.0) -> float | None:
    """Return the seconds that `Retry-After` asks for, between 0 and `ceiling`; None where it says nothing usable.

    Takes seconds and an HTTP date (RFC 9110, 10.2.3), and the epoch seconds or milliseconds that some servers send.
    """
    said = headers.get("retry-after", "").strip()
    try:
        seconds = float(said)
    except ValueError:
        return _until_date(said, ceiling)
    if not seconds >= 0:
        return None
    if seconds >= _EPOCH_SECONDS:
        seconds = (seconds / 1000 if seconds >= _EPOCH_MILLISECONDS else seconds) - time.time()
    return min(max(seconds, 0.0), ceiling)


def _until_date(said: str, ceiling: float) -> float | None:
    try:
        seconds = parsedate_to_datetime(said).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), ceiling)


def asked_wait(response: httpx.Response | None, ceiling: float = 120.0) -> float | None:
    """Return what `retry_after` reads in an answer; None where there was no answer."""
    return None if response is None else retry_after(response.headers, ceiling)


@contextlib.contextmanager
def plainly(what: str, url: str | httpx.URL) -> Iterator[None]:
    """Turn what httpx raises into `Transient` or `Permanent` that name `what` and the host alone."""
    try:
        yield
    except httpx.HTTPError as error:
        raise translated(error, what, url) from None
    except (httpx.InvalidURL, httpx.StreamError):
        raise Permanent(f"{what}: {place(url)} sent something that is not HTTP as it should be") from None


def translated(error: httpx.HTTPError, what: str, url: str | httpx.URL) -> SluiceError:
    """Return the error to raise for what httpx raised."""
    if _certificate(error):
        return ConfigError(f"{what}: {place(url)} shows a certificate that is not trusted; name its CA in ca_bundle")
    if isinstance(error, httpx.TimeoutException):
        return Transient(f"{what}: {place(url)} did not answer in time")
    if isinstance(error, httpx.UnsupportedProtocol | httpx.TooManyRedirects):
        return Permanent(f"{what}: {place(url)} redirects to nowhere")
    if isinstance(error, httpx.ConnectError):
        return Transient(f"{what}: {place(url)} cannot be reached")
    return Transient(f"{what}: the connection to {place(url)} broke ({type(error).__name__})")


def _certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _tls(auth: Auth) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=auth.ca_bundle) if auth.ca_bundle else httpx.create_ssl_context()
    except (OSError, ssl.SSLError):
        raise ConfigError(f"ca_bundle: {auth.ca_bundle} is not a PEM file of certificates") from None
    if auth.client_certificate:
        try:
            context.load_cert_chain(auth.client_certificate, auth.client_key)
        except (OSError, ssl.SSLError):
            raise ConfigError(f"client_certificate: {auth.client_certificate} and its key cannot be used") from None
    return context


def _quiet() -> None:
    # httpx logs every URL with its query at INFO, httpcore every header at DEBUG.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


class _Client(httpx.Client):
    """A client that takes the connections of its login along when it is closed."""

    def __init__(self, login: _Login, **options: Any) -> None:
        self._login = login
        super().__init__(**options)

    def close(self) -> None:
        super().close()
        self._login.close()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._login.close()


class _Login(httpx.Auth):
    """Adds the authorization and the secret headers, and takes them off again where a redirect leaves the host."""

    def __init__(self, auth: Auth, base: str, headers: dict[str, str], timeout: float) -> None:
        self._headers = headers
        self._basic = (
            httpx.BasicAuth(auth.username, auth.password.get_secret_value()) if isinstance(auth, Basic) else None
        )
        self._bearer = auth.token.get_secret_value() if isinstance(auth, Bearer) else ""
        self._tokens: Tokens | None = None
        self._http: httpx.Client | None = None
        if isinstance(auth, ClientCredentials | SmartBackend):
            http = httpx.Client(verify=_tls(auth), timeout=timeout, headers={"User-Agent": "sluice"})
            self._http = http
            self._tokens = Tokens(auth, http, lambda: _discover(http, base))

    def close(self) -> None:
        """Give up the connections to the token endpoint."""
        if self._http is not None:
            self._http.close()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.extensions[_ORIGIN] = (request.url.scheme, request.url.host, request.url.port)
        request.headers.update(self._headers)
        if self._basic is not None:
            yield from self._basic.auth_flow(request)
            return
        token = self._tokens.current() if self._tokens else self._bearer
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        # A 401 from a host that a redirect named says nothing about the token: it was not sent there.
        if self._tokens and response.status_code == 401 and response.request.url.host == request.url.host:
            request.headers["Authorization"] = f"Bearer {self._tokens.renewed(token)}"
            yield request

    def guard(self, request: httpx.Request) -> None:
        """Take the secrets off a request that a redirect sends to another host."""
        home = request.extensions.get(_ORIGIN)
        if home is None or _same_home(home, request.url):
            return
        for name in ("Authorization", *self._headers):
            request.headers.pop(name, None)


def _same_home(home: tuple[str, str, int | None], url: httpx.URL) -> bool:
    if home == (url.scheme, url.host, url.port):
        return True
    return home[1] == url.host and home[0] == "http" and url.scheme == "https" and not home[2] and not url.port


def _discover(http: httpx.Client, base: str) -> str:
    url = base.rstrip("/") + "/.well-known/smart-configuration"
    with plainly("the token endpoint's address", url):
        response = http.get(url, headers={"Accept": "application/json"}, follow_redirects=True)
    if response.status_code in TRANSIENT_STATUS:
        raise Transient(f"{place(url)}: .well-known/smart-configuration answered {response.status_code}")
    try:
        found = response.json().get("token_endpoint") if response.is_success else None
    except (ValueError, AttributeError):
        found = None
    if not isinstance(found, str):
        raise ConfigError(f"{place(url)} does not say where its token endpoint is: name token_url in the auth file")
    return check_url(found, "token_endpoint")
