"""How fast a bulk export comes in, beside a plain streaming loop: `python tests/bench/bulk.py [MB]` prints JSON.

The server is a process of its own that sends files from memory. The plain loop streams the same files into a folder
with httpx, as many at once, and looks at nothing; the export checks every line and can be resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import httpx

from tasks import http
from tasks.source.bulk_export import Exporter
from tasks.source.bulk_folder import ExportFolder
from tasks.source.bulk_request import ExportRequest

FILES = 8
PARALLEL = 4
LINE = json.dumps(
    {
        "resourceType": "Observation",
        "id": "ID",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin"}]},
        "subject": {"reference": "Patient/1"},
        "effectiveDateTime": "2025-03-14T07:00:00-05:00",
        "valueQuantity": {"value": 14.2, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
        "note": [{"text": "x" * 700}],
    }
)


class Server(asyncio.Protocol):
    """Kick-off, a manifest that is ready at once, and the files."""

    port = 0
    body = b""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.data = transport, bytearray()

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            path = bytes(self.data[:end]).split(b" ", 2)[1].decode()
            del self.data[: end + 4]
            self.answer(path, f"http://127.0.0.1:{self.port}")

    def answer(self, path: str, base: str) -> None:
        if path.endswith("$export"):
            self.transport.write(
                f"HTTP/1.1 202 Accepted\r\nContent-Location: {base}/status\r\nContent-Length: 0\r\n\r\n".encode()
            )
        elif path.startswith("/file"):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.body))
            self.transport.write(self.body)
        else:
            files = [{"type": "Observation", "url": f"{base}/file{n}"} for n in range(FILES)]
            body = json.dumps({"transactionTime": "2024-01-01T00:00:00Z", "output": files}).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def serve(size: int) -> None:
    """Run the server with files of `size` bytes and print its port."""
    lines = (LINE.replace("ID", f"o{n}") + "\n" for n in range(size // len(LINE)))
    Server.body = "".join(lines).encode()
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    Server.port = server.sockets[0].getsockname()[1]
    print(Server.port, flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def server(size: int) -> Iterator[str]:
    """Yield the base URL of a server in a process of its own."""
    process = subprocess.Popen([sys.executable, __file__, "--serve", str(size)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def plain(base: str, folder: Path) -> float:
    """Return the bytes a second of a loop that only streams."""

    def one(number: int, client: httpx.Client) -> int:
        path = folder / str(number)
        with client.stream("GET", f"{base}/file{number}") as answer, path.open("wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)
        return path.stat().st_size

    with httpx.Client() as client, ThreadPoolExecutor(PARALLEL) as pool:
        began = time.perf_counter()
        size = sum(pool.map(lambda number: one(number, client), range(FILES)))
        return size / (time.perf_counter() - began)


def exported(base: str, path: Path) -> float:
    """Return the bytes a second of the export, from the kick-off to the last file being durable."""
    request = ExportRequest(base)
    folder = ExportFolder(path, request.fingerprint())
    with http.client(base, connections=PARALLEL + 1, follow_redirects=True) as client:
        began = time.perf_counter()
        summary = Exporter(client, request, folder, parallel=PARALLEL).run()
        took = time.perf_counter() - began
    folder.close()
    assert not summary.partial
    return summary.size / took


def cpu() -> float:
    """Return the CPU seconds of this process and of those it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measured(work: Callable[[], float]) -> dict[str, float]:
    """Return bytes a second and CPU seconds."""
    spent = cpu()
    rate = work()
    return {"rate": rate, "cpu": cpu() - spent}


def main(megabytes: int = 400, rounds: int = 5) -> dict[str, Any]:
    """Return the medians of alternating rounds: megabytes a second of both, their share, CPU seconds of both."""
    turns: dict[str, list[dict[str, float]]] = {"plain": [], "export": []}
    with server(megabytes * 1_000_000 // FILES) as base:
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                turns["plain"].append(measured(lambda: plain(base, Path(folder))))
            with tempfile.TemporaryDirectory() as folder:
                turns["export"].append(measured(lambda: exported(base, Path(folder) / "out")))
    shares = [ours["rate"] / bare["rate"] for bare, ours in zip(turns["plain"], turns["export"], strict=True)]
    figures = {
        f"{name}_{unit}": round(statistics.median(turn[value] for turn in taken) / scale, 2)
        for name, taken in turns.items()
        for value, unit, scale in (("rate", "mb_s", 1e6), ("cpu", "cpu_s", 1))
    }
    share = statistics.median(shares)
    return {**figures, "share": round(share, 3), "best_share": round(max(shares), 3), "met": share >= 0.8}


if __name__ == "__main__":
    if "--serve" in sys.argv:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(int(sys.argv[-1])))
    else:
        print(json.dumps(main(*map(int, sys.argv[1:])), indent=2))
