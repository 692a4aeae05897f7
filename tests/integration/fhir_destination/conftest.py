"""A small FHIR server on a real socket that can be told to misbehave."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

REFERENCE = re.compile(r'"reference": ?"([A-Z][A-Za-z]+/[^"/]+)"')


@dataclass
class Reply:
    """One scripted answer to a bundle or request; with `commit` it is given after the work was done."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    commit: bool = False
    drop: bool = False
    trickle: float = 0.0


class Refused(Exception):
    """A resource is not taken; the text stands for a server's chatter with a value in it."""

    def __init__(self, status: int, code: str, expression: str = "") -> None:
        self.status, self.code, self.expression = status, code, expression


class FhirStub:
    """Keeps resources in memory; `judge(resource)` may raise `Refused`, `script` goes before everything."""

    def __init__(self) -> None:
        self.store: dict[str, dict[str, Any]] = {}
        self.writes: dict[str, int] = defaultdict(int)
        self.order: list[str] = []
        self.bundles: list[list[str]] = []
        self.requests: list[tuple[str, str]] = []
        self.script: list[Reply] = []
        self.judge: Callable[[dict[str, Any]], None] = lambda _: None
        self.integrity = False
        self.max_entries: int | None = None
        self.max_bytes: int | None = None
        self.counts_with_413 = False
        self.assigns_ids = False
        self.takes_bundles = True
        self.conflicts: dict[str, int] = {}
        self.delay = 0.0
        self.busiest = 0
        self.overlaps: list[str] = []
        self._at_work: list[str] = []
        self._lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"stub": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/fhir"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, body: bytes) -> Reply:
        with self._lock:
            self.requests.append((method, path))
            scripted = self.script.pop(0) if self.script and method != "GET" else None
        if scripted is not None and not scripted.commit:
            return scripted
        work = self._bundle(body) if method == "POST" and path == "" else self._single(method, path, body)
        return scripted or work

    def _bundle(self, body: bytes) -> Reply:
        bundle = json.loads(body)
        entries = bundle["entry"]
        if not self.takes_bundles:
            return _outcome(405, "not-supported")
        if self.max_entries and len(entries) > self.max_entries:
            if self.counts_with_413:
                text = f"HAPI-0528: Transaction Bundle Too large.  Transaction bundle contains {len(entries)}"
                return _outcome(413, "processing", text=f"{text} which exceedes the maximum of {self.max_entries}")
            return _outcome(400, "invalid", text=f"Bundle contains more than {self.max_entries} entries")
        if self.max_bytes and len(body) > self.max_bytes:
            return Reply(413, {}, b"<html>too large</html>")
        if entries[0]["request"]["method"] == "GET":
            return _bundle_of([self._read_entry(entry["request"]["url"]) for entry in entries])
        self._begin(entries)
        try:
            time.sleep(self.delay)
            return self._transaction(entries) if bundle["type"] == "transaction" else self._batch(entries)
        finally:
            self._end(entries)

    def _begin(self, entries: list[dict[str, Any]]) -> None:
        patients = {_patient(entry["resource"]) for entry in entries if "resource" in entry} - {""}
        with self._lock:
            self.bundles.append([entry["request"]["url"] for entry in entries])
            self.overlaps += [patient for patient in patients if patient in self._at_work]
            self._at_work += list(patients)
            self._busy = getattr(self, "_busy", 0) + 1
            self.busiest = max(self.busiest, self._busy)

    def _end(self, entries: list[dict[str, Any]]) -> None:
        with self._lock:
            self._busy -= 1
            for patient in {_patient(entry["resource"]) for entry in entries if "resource" in entry} - {""}:
                self._at_work.remove(patient)

    def _transaction(self, entries: list[dict[str, Any]]) -> Reply:
        with self._lock:
            held, writes, order = dict(self.store), dict(self.writes), list(self.order)
            together = {entry["request"]["url"] for entry in entries} | {entry["fullUrl"] for entry in entries}
            try:
                return _bundle_of([self._write_entry(entry, together) for entry in entries])
            except Refused as refusal:
                self.store, self.writes, self.order = held, defaultdict(int, writes), order
                return _outcome(refusal.status, refusal.code, refusal.expression)

    def _batch(self, entries: list[dict[str, Any]]) -> Reply:
        out = []
        for entry in entries:
            try:
                with self._lock:
                    out.append(self._write_entry(entry, set()))
            except Refused as refusal:
                body = json.loads(_outcome(0, refusal.code, refusal.expression).body)
                out.append({"response": {"status": f"{refusal.status} No", "outcome": body}})
        return _bundle_of(out)

    def _write_entry(self, entry: dict[str, Any], together: set[str]) -> dict[str, Any]:
        request = entry["request"]
        status, key, version = self._write(request["method"], request["url"], entry.get("resource"), together, entry)
        location = f"{key}/_history/{version}"
        return {"response": {"status": f"{status} x", "etag": f'W/"{version}"', "location": location}}

    def _write(
        self, method: str, url: str, resource: Any, together: set[str], entry: Any = None
    ) -> tuple[int, str, int]:
        key = self._key(url)
        if method == "DELETE":
            if self.integrity and any(key in REFERENCE.findall(json.dumps(held)) for held in self.store.values()):
                raise Refused(409, "conflict")
            found = self.store.pop(key, None)
            return (204 if found else 404), key, 0
        self.judge(resource)
        if self.conflicts.get(key, 0) > 0:
            self.conflicts[key] -= 1
            raise Refused(409, "conflict")
        if self.integrity:
            for reference in REFERENCE.findall(json.dumps(resource)):
                if reference not in self.store and reference not in together:
                    raise Refused(422, "not-found", "Observation.subject.reference")
        old = self.store.get(key)
        version = int(old["meta"]["versionId"]) + 1 if old else 1
        new = {**resource, "id": key.partition("/")[2]}
        self.store[key] = {**new, "meta": {**resource.get("meta", {}), "versionId": str(version)}}
        self.writes[key] += 1
        self.order.append(key)
        return (200 if old else 201), key, version

    def _key(self, url: str) -> str:
        if "?" not in url:
            return url
        kind, _, query = url.partition("?")
        system, _, value = parse_qs(query).popitem()[1][0].partition("|")
        for key, held in self.store.items():
            coded = [*held.get("identifier", []), *held["meta"].get("tag", [])]
            if key.startswith(f"{kind}/") and any(
                one.get("system") == system and value in {one.get("value"), one.get("code")} for one in coded
            ):
                return key
        return f"{kind}/remote-{len(self.order) + 1}"

    def _read_entry(self, url: str) -> dict[str, Any]:
        reply = self._single("GET", url, b"")
        body = json.loads(reply.body) if reply.status == 200 else None
        return {"response": {"status": str(reply.status)}} | ({"resource": body} if body else {})

    def _single(self, method: str, path: str, body: bytes) -> Reply:
        with self._lock:
            if method == "GET":
                return self._get(path)
            try:
                resource = json.loads(body) if body else None
                status, key, version = self._write(method, path, resource, set())
            except Refused as refusal:
                return _outcome(refusal.status, refusal.code, refusal.expression)
            return Reply(status, {"ETag": f'W/"{version}"', "Location": f"{self.url}/{key}/_history/{version}"})

    def _get(self, path: str) -> Reply:
        held = self.store.get(self._key(path))
        if "?" in path:
            entries = [{"resource": held}] if held else []
            return _json({"resourceType": "Bundle", "type": "searchset", "entry": entries})
        return _json(held) if held else _outcome(404, "not-found")


def _patient(resource: dict[str, Any]) -> str:
    if resource["resourceType"] == "Patient":
        return f"Patient/{resource.get('id')}"
    subject = resource.get("subject")
    return subject.get("reference", "") if isinstance(subject, dict) else ""


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, {"Content-Type": "application/fhir+json"}, json.dumps(value).encode())


def _bundle_of(entries: list[dict[str, Any]]) -> Reply:
    return _json({"resourceType": "Bundle", "type": "transaction-response", "entry": entries})


def _outcome(status: int, code: str, expression: str = "", text: str = "the value 1953-02-01 is secret") -> Reply:
    issue: dict[str, Any] = {"severity": "error", "code": code, "diagnostics": text}
    if expression:
        issue["expression"] = [expression]
    return _json({"resourceType": "OperationOutcome", "issue": [issue]}, status)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stub: FhirStub

    def do_GET(self) -> None:
        self._take()

    def do_PUT(self) -> None:
        self._take()

    def do_POST(self) -> None:
        self._take()

    def do_DELETE(self) -> None:
        self._take()

    def log_message(self, *_: Any) -> None:
        return

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/fhir").lstrip("/") + (f"?{unquote(parts.query)}" if parts.query else "")
        reply = self.stub.answer(self.command, path, body)
        if reply.drop:
            self.close_connection = True
            return
        if reply.trickle:
            self._trickle(reply)
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def _trickle(self, reply: Reply) -> None:
        """Send a byte now and then until the client has had enough."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b" " * 100_000:
                self.wfile.write(bytes([byte]))
                time.sleep(reply.trickle)


@pytest.fixture
def stub() -> Iterator[FhirStub]:
    running = FhirStub()
    yield running
    running.stop()


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def refused() -> type[Refused]:
    return Refused


@pytest.fixture
def destination(stub: FhirStub) -> Iterator[Callable[..., Any]]:
    """Make a destination for the stub, with short pauses."""
    from tasks.deliver.fhir import FhirDestination, FhirOptions

    made: list[FhirDestination] = []

    def make(**options: Any) -> FhirDestination:
        given = {"kind": "fhir", "base_url": stub.url, "backoff": 0.01, **options}
        made.append(FhirDestination(FhirOptions(**given), {}))
        return made[-1]

    yield make
    for one in made:
        one.close()
