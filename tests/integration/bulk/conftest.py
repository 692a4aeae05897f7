"""A bulk export server that can be told to misbehave, and `sluice export` in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from joserfc import jwk

from tests.integration.bulk.bulk_server import BulkServer, Reply


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def server() -> Iterator[BulkServer]:
    running = BulkServer()
    yield running
    running.stop()


@pytest.fixture
def other_server() -> Iterator[BulkServer]:
    running = BulkServer()
    yield running
    running.stop()


@pytest.fixture
def smart_file(server: BulkServer, tmp_path: Path) -> Path:
    """An auth file for the server, which from now on wants tokens."""
    key = jwk.ECKey.generate_key("P-384", {"kid": "key-1", "alg": "ES384"}, private=True)
    server.public_key = jwk.ECKey.import_key(key.as_dict(private=False))
    server.requires_token = True
    path = tmp_path / "auth.json"
    body = {"type": "smart-backend", "client_id": "c", "token_url": f"{server.url}/token", "scope": "system/*.read"}
    path.write_text(json.dumps(body | {"private_key_jwk": key.as_dict(private=True)}))
    return path


COMMAND = "from deployments.cli.main import main; main()"


@pytest.fixture
def run_export() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `sluice export` in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "export", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        with process:
            pass
