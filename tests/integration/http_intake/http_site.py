"""A feed over HTTP on a real socket, an OpenID provider, and the stages behind it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
from joserfc import jwt
from joserfc.jwk import ECKey

from tasks import work
from tasks.feed import load
from tasks.ledger import claims, counts
from tasks.ledger.db import connect
from tasks.listen.run import http
from tasks.process.stage import Stager
from tasks.publish.store import publish
from tasks.publish.tables import refresh

AUDIENCE = "sluice-intake"


class Provider:
    """An OpenID provider in Keycloak's form: a configuration, keys that can be turned, tokens."""

    def __init__(self) -> None:
        self.asked = 0
        self.key: Any = self.turn("first")
        self.away = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}/realms/hospital"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def turn(self, kid: str) -> Any:
        self.key = ECKey.generate_key("P-256", {"kid": kid, "alg": "ES256", "use": "sig"})
        return self.key

    def token(self, scope: str, *, key: Any = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        said = {
            "iss": self.issuer, "aud": [AUDIENCE, "account"], "azp": "northside", "typ": "Bearer", "scope": scope,
            "iat": int(time.time()), "exp": int(time.time()) + 300, **claims,
        }  # fmt: skip
        key = key or self.key
        header = header or {"alg": "ES256", "kid": key.kid, "typ": "JWT"}
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(header, said, key, algorithms=["ES256", "HS256", "none"])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                configuration = {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/certs"}
                keys = {"keys": [provider.key.as_dict(private=False)]}
                provider.asked += self.path.endswith("/certs")
                body = json.dumps(keys if self.path.endswith("/certs") else configuration).encode()
                self.send_response(503 if provider.away else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@dataclass
class Site:
    """Feeds over HTTP."""

    url: str
    feeds: Path
    provider: Provider
    loops: list[tuple[Any, threading.Thread, asyncio.Event]] = field(default_factory=list)
    clients: list[httpx.Client] = field(default_factory=list)

    def configure(self, name: str, more: str = "", form: str = "fhir-bundle", rest: str = "") -> None:
        access = more if "open" in more else f"issuer: '{self.provider.issuer}', audience: {AUDIENCE}{more}"
        text = f"source: {{kind: http, {access}}}\nformat: {form}\n{rest}"
        (self.feeds / f"{name}.yaml").write_text(text)
        work.pipeline.cache_clear()

    def listen(self, *names: str) -> httpx.Client:
        """Serve feeds; return a client without any token."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        stop = asyncio.Event()
        ready = threading.Event()
        lines: list[str] = []

        def tell(line: str) -> None:
            lines.append(line)
            ready.set()

        feeds = [load(name) for name in names]
        future = asyncio.run_coroutine_threadsafe(http(feeds, "127.0.0.1", 0, tell, lambda: _wait(stop)), loop)
        while not ready.wait(0.05):
            if future.done():
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
                loop.close()
                future.result()
        self.loops.append((future, thread, stop))
        base = lines[0].partition(" on ")[2].rpartition("/")[0]
        self.clients.append(httpx.Client(base_url=base, timeout=30, trust_env=False))
        return self.clients[-1]

    def take(self, feed: str) -> dict[str, int]:
        stager = Stager(load(feed), work.landing(), work.pipeline(feed))
        with (
            claims.claim(self.url, f"feed:{feed}", "run", 60) as token,
            connect(self.url) as one,
            connect(self.url) as two,
        ):
            while (staged := stager.stage(one, two, token, 10_000, "run")).read:
                if staged.batch_id is not None:
                    publish(two, staged.batch_id, token, refresh, "run")
            return counts.total(counts.of_feed(one))

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode(), params).fetchall()

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        for future, thread, stop in self.loops:
            _LOOPS[id(stop)].call_soon_threadsafe(stop.set)
            future.result(60)
            running = _LOOPS.pop(id(stop))
            running.call_soon_threadsafe(running.stop)
            thread.join()
            running.close()


_LOOPS: dict[int, asyncio.AbstractEventLoop] = {}


async def _wait(stop: asyncio.Event) -> None:
    _LOOPS[id(stop)] = asyncio.get_running_loop()
    await stop.wait()
