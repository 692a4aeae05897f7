"""A bulk export server that can be told to misbehave, on a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from joserfc import jwt


@dataclass
class Reply:
    """One scripted answer; `cut_after` closes the connection after that many bytes of the body."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    delay: float = 0.0


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Stored:
    """One file of the export."""

    type: str
    body: bytes
    kind: str = "output"
    count: int | None = None
    base: str | None = None


class BulkServer:
    """Exports `files`; `script[path]` holds answers that go before the regular ones, `gone` paths that answer 410.

    With a `signature` every manifest's addresses bear it, and a file answers 403 where it is another one by now.
    """

    def __init__(self) -> None:
        self.files: dict[str, Stored] = {}
        self.script: dict[str, list[Reply]] = defaultdict(list)
        self.seen: list[Seen] = []
        self.transaction_time = "2024-05-01T10:00:00Z"
        self.requires_token: bool | None = False
        self.ranges = True
        self.page_size: int | None = None
        self.jobs: dict[str, str] = {}
        self.started = 0
        self.gone: set[str] = set()
        self.signature: int | None = None
        self.before_file: Callable[[str], None] = lambda _: None
        self.before_status: Callable[[], None] = lambda: None
        self.public_key: Any = None
        self.token_seconds = 300.0
        self.tokens: dict[str, float] = {}
        self.used_jti: set[str] = set()
        self.assertions: list[dict[str, Any]] = []
        self.chunk_delay = 0.0
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"server_": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def put(self, name: str, resources: list[dict[str, Any]] | bytes, **more: Any) -> None:
        """Add a file; its type is the name's first part."""
        body = resources if isinstance(resources, bytes) else ndjson(resources)
        self.files[name] = Stored(more.pop("type", name.partition(".")[0]), body, **more)

    def asked(self, path: str, method: str = "GET") -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path and seen.method == method]

    def next_script(self, path: str) -> Reply | None:
        with self._lock:
            return self.script[path].pop(0) if self.script[path] else None

    def manifest(self, job: str, page: int) -> dict[str, Any]:
        items = list(self.files.items())
        size = self.page_size or max(1, len(items))
        shown = items[page * size : (page + 1) * size]
        signed = "" if self.signature is None else f"?signature={self.signature}"
        body: dict[str, Any] = {"transactionTime": self.transaction_time, "request": f"{self.url}/$export"}
        if self.requires_token is not None:
            body["requiresAccessToken"] = self.requires_token
        for kind in ("output", "deleted", "error"):
            body[kind] = [_item(f, f"{f.base or self.url}/files/{job}/{n}{signed}") for n, f in shown if f.kind == kind]
        if (page + 1) * size < len(items):
            body["link"] = [{"relation": "next", "url": f"{self.url}/status/{job}/page/{page + 1}"}]
        return body


def _item(file: Stored, url: str) -> dict[str, Any]:
    return {"type": file.type, "url": url} | ({} if file.count is None else {"count": file.count})


def ndjson(resources: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(resource).encode() + b"\n" for resource in resources)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_: BulkServer

    def do_GET(self) -> None:
        self._take(b"")

    def do_DELETE(self) -> None:
        self._take(b"")

    def do_POST(self) -> None:
        self._take(self.rfile.read(int(self.headers.get("content-length", 0))))

    def log_message(self, *_: Any) -> None:
        return

    def _take(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server_.seen.append(Seen(self.command, parts.path, parse_qs(parts.query), headers, body))
        reply = self.server_.next_script(parts.path)
        if reply is None and parts.path.startswith("/files/") and not self._signed(parts.query):
            reply = Reply(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
        reply = reply or self._regular(parts.path, headers, body)
        time.sleep(reply.delay)
        self._send(reply)

    def _regular(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        server = self.server_
        if path == "/token":
            return self._token(body)
        if path == "/.well-known/smart-configuration":
            return _json({"token_endpoint": f"{server.url}/token"})
        if path.startswith("/files/"):
            return self._file(path, headers)
        if server.public_key is not None and not self._authorized(headers):
            return Reply(401)
        if path.endswith("$export"):
            server.started += 1
            job = f"job{server.started}"
            server.jobs[job] = "running"
            return Reply(202, {"Content-Location": f"{server.url}/status/{job}"})
        return self._status(path)

    def _status(self, path: str) -> Reply:
        server, parts = self.server_, path.split("/")
        if len(parts) < 3 or parts[2] not in server.jobs or path in server.gone:
            return Reply(404)
        if self.command == "DELETE":
            del server.jobs[parts[2]]
            return Reply(202)
        server.before_status()
        return _json(server.manifest(parts[2], int(parts[4]) if len(parts) > 4 else 0))

    def _file(self, path: str, headers: dict[str, str]) -> Reply:
        server, name = self.server_, unquote(path.split("/", 3)[3])
        if path in server.gone:
            return Reply(410)
        if server.public_key is not None and server.requires_token and not self._authorized(headers):
            return Reply(401)
        server.before_file(name)
        body, etag = server.files[name].body, f'"{len(server.files[name].body)}"'
        wanted = headers.get("range")
        if not wanted or not server.ranges or headers.get("if-range", etag) != etag:
            return Reply(200, {"ETag": etag}, body)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            return Reply(416, {"Content-Range": f"bytes */{len(body)}"})
        extent = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return Reply(206, {"ETag": etag, "Content-Range": extent}, body[start:])

    def _signed(self, query: str) -> bool:
        now = self.server_.signature
        return now is None or parse_qs(query).get("signature") == [str(now)]

    def _authorized(self, headers: dict[str, str]) -> bool:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        return self.server_.tokens.get(token, 0) > time.monotonic()

    def _token(self, body: bytes) -> Reply:
        server = self.server_
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        token = jwt.decode(form["client_assertion"], server.public_key, algorithms=["ES384", "RS384"])
        claims = dict(token.claims)
        right = claims["aud"] == f"{server.url}/token" and claims["jti"] not in server.used_jti
        if not right or not time.time() < claims["exp"] <= time.time() + 300 or token.header["kid"] != "key-1":
            return _json({"error": "invalid_client"}, 401)
        server.used_jti.add(claims["jti"])
        server.assertions.append(claims)
        issued = f"token-{len(server.tokens) + 1}"
        server.tokens[issued] = time.monotonic() + server.token_seconds
        return _json({"access_token": issued, "token_type": "bearer", "expires_in": server.token_seconds})

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        body = reply.body if reply.cut_after is None else reply.body[: reply.cut_after]
        try:
            for start in range(0, len(body), 16384) if self.server_.chunk_delay else [0]:
                self.wfile.write(body[start : start + 16384] if self.server_.chunk_delay else body)
                time.sleep(self.server_.chunk_delay)
        except OSError:
            return
        if reply.cut_after is not None:
            self.close_connection = True


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(value).encode())
