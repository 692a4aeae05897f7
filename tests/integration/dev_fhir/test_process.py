"""The server as its own process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[3]


@contextmanager
def process(*arguments: str, database_url: str) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"FHIR_DATABASE": database_url}
    command = [sys.executable, "-m", "infra.dev.fhir", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.terminate()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(base: str, running: subprocess.Popen[str]) -> None:
    while running.poll() is None:
        try:
            httpx.get(f"{base}/metadata", timeout=30)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(running.communicate()[1])


def test_it_serves_what_it_keeps_and_prints_no_search_value(database_url: str, schema: str) -> None:
    base = f"http://127.0.0.1:{(port := free_port())}"
    arguments = ("--database-url-env", "FHIR_DATABASE", "--schema", schema, "--port", str(port))
    with process(*arguments, database_url=database_url) as running:
        wait_for(base, running)
        body = {"resourceType": "Patient", "id": "a", "identifier": [{"value": "Zzyzx"}]}
        assert httpx.put(f"{base}/Patient/a", json=body).status_code == 201
        assert httpx.get(f"{base}/Patient?identifier=Zzyzx").json()["total"] == 1
        assert httpx.head(f"{base}/Patient/a").headers["etag"] == 'W/"1"'
        running.terminate()
        said = "".join(running.communicate(timeout=30))
    assert "Zzyzx" not in said
    with process(*arguments, database_url=database_url) as running:
        wait_for(base, running)
        assert httpx.get(f"{base}/Patient/a").json()["identifier"] == body["identifier"]


def test_a_missing_or_silent_database_is_one_line_and_exit_code_2(database_url: str) -> None:
    for arguments, url in [
        (("--database-url-env", "NOT_THERE"), database_url),
        (("--database-url-env", "FHIR_DATABASE"), f"postgresql://u@127.0.0.1:{free_port()}/x"),
        (("--database-url-env", "FHIR_DATABASE", "--schema", "No-Good"), database_url),
        (("--database-url-env", "FHIR_DATABASE", "--auth", "/nowhere.json"), database_url),
    ]:
        with process(*arguments, database_url=url) as running:
            said = running.communicate(timeout=60)[1]
        assert running.returncode == 2
        assert said.startswith("error: ")
        assert said.count("\n") == 1
