"""How fast files come in: `python tests/bench/sources.py [MB] [KEYS] [FILES]` prints JSON.

`sftp` downloads one file beside paramiko's own prefetching `get`, both from the embedded server in a process of its
own. `s3` polls a bucket of which everything is landed; its lister makes the pages from nothing, and `plain` is the
time in which a bare client takes the same pages. `listing` polls a directory and an SFTP folder of many files.
`bulk`, `mllp` and `watch` are the benchmarks of these names.
"""

from __future__ import annotations

import http.client
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).parents[2]))

import paramiko

from tasks.source.directory import DirectorySource
from tasks.source.files import FileSource
from tasks.source.memory import MemoryState
from tasks.source.port import FileOptions, Ready
from tasks.source.s3 import S3Options, S3Source
from tasks.source.sftp import SftpSource

PAGE = 1000
ONE = Ready(stable_polls=1)


class AllLanded(MemoryState):
    """Says of everything that it is landed, as the ledger does of an old bucket."""

    def landed(self, name: str, version: str) -> bool:
        return True


@contextmanager
def sftp_server(state: Path) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "infra.dev.sftp", "--state", str(state), "--partner", "bench"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert server.stdout is not None
        _, where, host_key = server.stdout.readline().strip().split(" ", 2)
        key = (state / "clients" / "bench").read_text()
        yield {"host": "127.0.0.1", "port": where.split(":")[1], "user": "bench", "key": key, "host_key": host_key}
    finally:
        server.terminate()
        server.wait()


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Nowhere(io.RawIOBase):
    """Takes what it is given."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


def sftp(megabytes: int) -> dict[str, Any]:
    """Return MB/s of the source and of paramiko's `get`, the median of three turns each."""
    with tempfile.TemporaryDirectory() as folder, sftp_server(Path(folder)) as connection:
        size = megabytes << 20
        with (Path(folder) / "homes" / "bench" / "big").open("wb") as file:
            file.truncate(size)
        source = SftpSource(FileOptions(kind="sftp", ready=ONE), connection)
        (offer,) = source.poll(MemoryState())
        client = plain_client(connection)
        turns = [
            (seconds(lambda: client.getfo("big", Nowhere())), seconds(lambda: sum(map(len, source.read(offer)))))
            for _ in range(3)
        ]
        source.close()
        client.close()
    plain, ours = (size / 1e6 / statistics.median(each) for each in zip(*turns, strict=True))
    return {"paramiko_get_mb_s": round(plain, 1), "source_mb_s": round(ours, 1), "share": round(ours / plain, 2)}


def plain_client(connection: Mapping[str, str]) -> paramiko.SFTPClient:
    transport = paramiko.Transport(("127.0.0.1", int(connection["port"])))
    key = paramiko.Ed25519Key.from_private_key_file(str(_written(connection["key"])))
    transport.connect(username="bench", pkey=key)
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    return client


def _written(key: str) -> Path:
    path = Path(tempfile.mkdtemp()) / "key"
    path.write_text(key)
    return path


class Lister(BaseHTTPRequestHandler):
    """A bucket of `keys` keys that exist only in their listing."""

    protocol_version = "HTTP/1.1"
    keys = 0

    def do_GET(self) -> None:
        start = int(parse_qs(urlsplit(self.path).query).get("continuation-token", ["0"])[0])
        rows = "".join(
            f"<Contents><Key>in/{n:09}.csv</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{n:032x}&quot;</ETag><Size>{n}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for n in range(start, min(start + PAGE, self.keys))
        )
        more = start + PAGE < self.keys
        following = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>"
        end = f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}"
        body = f"<?xml version='1.0'?><ListBucketResult>{rows}{end}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def s3(keys: int) -> dict[str, Any]:
    """Return the seconds for a poll of `keys` landed keys above those of a bare client, and the growth of memory."""
    command = [sys.executable, __file__, "lister", str(keys)]
    lister = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert lister.stdout is not None
        port = int(lister.stdout.readline())
        plain = seconds(lambda: bare(port, keys))
        values = {"endpoint_url": f"http://127.0.0.1:{port}", "bucket": "b", "region": "us-east-1"}
        source = S3Source(S3Options(kind="s3", path="in"), {**values, "access_key": "a", "secret_key": "b"})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        spent = time.process_time()
        ours = seconds(lambda: drained(source, AllLanded()))
        spent = time.process_time() - spent
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    finally:
        lister.terminate()
        lister.wait()
    times = {"plain_s": plain, "source_s": ours, "above_s": ours - plain, "source_cpu_s": spent}
    return {"keys": keys, **{name: round(took, 1) for name, took in times.items()}, "grown_kb": grown}


def bare(port: int, keys: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for start in range(0, keys, PAGE):
        connection.request("GET", f"/b?continuation-token={start}")
        connection.getresponse().read()
    connection.close()


def drained(source: FileSource, state: MemoryState) -> int:
    return sum(1 for _ in source.poll(state))


def listing(files: int) -> dict[str, Any]:
    """Return seconds and peak memory in KB of a poll of a folder of `files` landed files, by kind."""
    with tempfile.TemporaryDirectory() as folder, sftp_server(Path(folder)) as connection:
        home = Path(folder) / "homes" / "bench"
        for number in range(files):
            (home / f"message-{number:06}.hl7").touch()
        sources = {
            "directory": DirectorySource(FileOptions(kind="directory", ready=ONE), {"root": str(home)}),
            "sftp": SftpSource(FileOptions(kind="sftp", ready=ONE), connection),
        }
        return {"files": files, **{kind: measured(source) for kind, source in sources.items()}}


def measured(source: FileSource) -> dict[str, float]:
    took = seconds(lambda: drained(source, AllLanded()))
    tracemalloc.start()
    drained(source, AllLanded())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    source.close()
    return {"seconds": round(took, 2), "peak_kb": peak // 1024}


def serve_lister(keys: int) -> None:
    Lister.keys = keys
    server = ThreadingHTTPServer(("127.0.0.1", 0), Lister)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def beside(name: str) -> Any:
    """Return the figures of the benchmark of this name, in a process of its own."""
    script = Path(__file__).with_name(f"{name}.py")
    done = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def run(megabytes: int = 256, keys: int = 1_000_000, files: int = 100_000) -> dict[str, Any]:
    """Return all figures, those of the bulk export, the MLLP listener and the watcher among them."""
    figures = {"sftp": sftp(megabytes), "s3": s3(keys), "listing": listing(files)}
    return {**figures, **{name: beside(name) for name in ("bulk", "mllp", "watch")}}


if __name__ == "__main__":
    if sys.argv[1:2] == ["lister"]:
        serve_lister(int(sys.argv[2]))
    sys.stdout.write(json.dumps(run(*map(int, sys.argv[1:])), indent=2) + "\n")
