"""How fast resources go to FHIR servers, beside a plain parallel loop: `python tests/bench/load.py` prints JSON.

Against a stub that answers at once, and against the development server over a scratch Postgres, both in processes of
their own. The plain loop posts the same bundles, encoded beforehand, from as many threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import httpx

from infra.dev.scratch import scratch_postgres
from mappings.engine.json import dumps
from tasks.deliver.fhir import FhirDestination, FhirOptions
from tasks.deliver.port import Item
from tasks.load import Loader

PARALLEL = 8
ENTRIES = 100
PER_PATIENT = 19
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def resources(count: int) -> list[dict[str, Any]]:
    """Return patients with 19 laboratory results each, about 1 KB a resource."""
    out: list[dict[str, Any]] = []
    for n in range(count // (PER_PATIENT + 1)):
        name = [{"family": f"Okonkwo{n}", "given": ["Ada", "Ngozi"]}]
        out.append({"resourceType": "Patient", "id": f"p{n}", "name": name, "gender": "female"})
        out += [observation(n, m) for m in range(PER_PATIENT)]
    return out


def observation(n: int, m: int) -> dict[str, Any]:
    """Return one result of patient `n`."""
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "id": f"o{n}-{m}",
        "identifier": [{"system": "urn:oid:1.2.840.99.1", "value": f"F{n:08d}-{m}"}],
        "status": "final",
        "category": [{"coding": [{"system": system, "code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": f"{2000 + m}-1", "display": "Analyte in Serum"}]},
        "subject": {"reference": f"Patient/p{n}"},
        "effectiveDateTime": "2025-03-14T07:00:00-05:00",
        "valueQuantity": {"value": 4 + m, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        "referenceRange": [{"text": "3.5-5.1"}],
        "note": [{"text": "x" * 300}],
    }


class Stub(asyncio.Protocol):
    """Takes every bundle at once: it counts the entries and says 201 for each."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.data = transport, bytearray()

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self.data, 0, end)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self.data) < size:
                return
            entries = self.data.count(b'"request":', end, size)
            del self.data[:size]
            answer = b",".join([b'{"response":{"status":"201 Created","etag":"W/\\"1\\""}}'] * entries)
            body = b'{"resourceType":"Bundle","type":"transaction-response","entry":[' + answer + b"]}"
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def serve_stub() -> None:
    """Run the stub and print its port."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def stub() -> Iterator[str]:
    """Yield the base URL of a stub in a process of its own."""
    process = subprocess.Popen([sys.executable, __file__, "--stub"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def development_server(database_url: str, schema: str) -> Iterator[str]:
    """Yield the base URL of a development server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "BENCH_DATABASE_URL": database_url}
    command = ["-m", "infra.dev.fhir", "--database-url-env", "BENCH_DATABASE_URL", "--schema", schema]
    process = subprocess.Popen([sys.executable, *command, "--port", str(port)], env=environment)
    base = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{base}/metadata")
                break
            assert process.poll() is None
            time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.wait()


def send(base: str, items: list[Item]) -> float:
    """Return resources a second through the destination."""
    destination = FhirDestination(FhirOptions(kind="fhir", base_url=base, parallel=PARALLEL, max_entries=ENTRIES), {})
    began = time.perf_counter()
    outcomes: Counter[str] = Counter()
    for start in range(0, len(items), 5000):
        outcomes.update(outcome.status for outcome in destination.send(items[start : start + 5000]))
    took = time.perf_counter() - began
    destination.close()
    assert outcomes == {"sent": len(items)}, outcomes
    return len(items) / took


def load(base: str, file: Path, count: int) -> float:
    """Return resources a second through `sluice load`'s code, from a file of NDJSON in no good order."""
    destination = FhirDestination(FhirOptions(kind="fhir", base_url=base, parallel=PARALLEL, max_entries=ENTRIES), {})
    began = time.perf_counter()
    summary = Loader(destination).load([file])
    took = time.perf_counter() - began
    destination.close()
    assert summary.outcomes["sent"] == count, summary.outcomes
    return count / took


def plain(base: str, bundles: list[bytes], count: int) -> float:
    """Return resources a second of a loop that posts bundles that are ready."""
    headers = {"Content-Type": "application/fhir+json", "Prefer": "return=minimal"}
    limits = httpx.Limits(max_connections=PARALLEL)
    with httpx.Client(limits=limits, timeout=60) as http, ThreadPoolExecutor(PARALLEL) as pool:
        began = time.perf_counter()
        answers = list(pool.map(lambda body: http.post(base, content=body, headers=headers), bundles))
        took = time.perf_counter() - began
    assert all(answer.status_code == 200 for answer in answers)
    return count / took


def bundles_of(found: list[dict[str, Any]]) -> list[bytes]:
    """Return the resources as transactions, those of a patient together."""
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}} for one in found
    ]
    parts = [entries[start : start + ENTRIES] for start in range(0, len(entries), ENTRIES)]
    return [dumps({"resourceType": "Bundle", "type": "transaction", "entry": part}) for part in parts]


def against_stub(count: int) -> dict[str, Any]:
    """Measure against the stub: the destination by itself, the whole of `sluice load`, the plain loop."""
    found = resources(count)
    items = [Item(one["resourceType"], one["id"], 1, one) for one in found]
    bundles = bundles_of(found)
    with stub() as base, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.ndjson"
        file.write_bytes(b"".join(dumps(one) + b"\n" for one in reversed(found)))
        rates = {"plain": plain(base, bundles, len(items)), "destination": send(base, items)}
        rates["load"] = load(base, file, len(items))
    return {name: round(rate) for name, rate in rates.items()} | {"goal": 5000, "met": rates["load"] >= 5000}


def against_server(count: int) -> dict[str, Any]:
    """Measure against the development server: alternating, each round into an empty schema, best of two."""
    found = resources(count)
    items = [Item(one["resourceType"], one["id"], 1, one) for one in found]
    bundles = bundles_of(found)
    rates: dict[str, float] = {"plain": 0.0, "destination": 0.0}
    with scratch_postgres() as database:
        for number in range(2):
            with development_server(database, f"plain{number}") as base:
                rates["plain"] = max(rates["plain"], plain(base, bundles, len(items)))
            with development_server(database, f"ours{number}") as base:
                rates["destination"] = max(rates["destination"], send(base, items))
    share = rates["destination"] / rates["plain"]
    return {**{name: round(rate) for name, rate in rates.items()}, "share": round(share, 3), "met": share >= 0.9}


def main(count: int = 40_000) -> dict[str, Any]:
    """Return the figures, in resources a second."""
    return {"stub": against_stub(count), "development_server": against_server(count // 4)}


if __name__ == "__main__":
    if "--stub" in sys.argv:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve_stub())
    else:
        print(json.dumps(main(*map(int, sys.argv[1:])), indent=2))
