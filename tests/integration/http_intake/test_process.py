"""`sluice listen http` as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import httpx


def test_the_listener_serves_as_a_process_and_stops_when_it_is_told(site) -> None:
    site.configure("north.fhir", "open: true")
    command = [sys.executable, "-c", "from deployments.cli.main import main; main()", "listen", "http", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            base = running.stdout.readline().strip().partition(" on ")[2]
            body = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Findme"}]}
            head = {"Content-Type": "application/fhir+json"}
            assert httpx.put(f"{base}/fhir/Patient/p1", json=body, headers=head, trust_env=False).status_code == 202
            running.send_signal(signal.SIGTERM)
            output, errors = running.communicate(timeout=40)
            assert running.returncode == 0
            assert "Findme" not in output + errors
        finally:
            running.kill()
    assert site.rows("select count(*) from ledger.segment where closed_at is not null") == [(1,)]
    assert site.take("north.fhir")["published"] == 1
