"""HAPI FHIR's JPA server, the one that most hospitals run, takes what the sample partners drop."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from whole_day import DOWN, WholeDay, deliver, held

PEER = Path(__file__).parents[2] / "interop" / "hapi"


@pytest.fixture
def hapi(tmp_path):
    """The base URL of a server in memory that checks references and takes 40 entries in a transaction."""
    if not os.environ.get("SLUICE_HAPI") or not all(map(shutil.which, ("mvn", "javac", "java"))):
        pytest.skip("needs a JDK, Maven and SLUICE_HAPI=1: Maven fetches HAPI FHIR, some 300 MB")
    listed = tmp_path / "classpath"
    maven = ["mvn", "-q", "-B", "-f", str(PEER / "pom.xml"), "dependency:build-classpath"]
    subprocess.run([*maven, f"-Dmdep.outputFile={listed}"], check=True)
    classes = f"{tmp_path}:{listed.read_text().strip()}"
    subprocess.run(["javac", "-cp", classes, "-d", str(tmp_path), str(PEER / "Peer.java")], check=True)
    log = (tmp_path / "log").open("w")
    server = ["java", "-Xmx2g", "-cp", classes, "Peer", "40"]
    process = subprocess.Popen(server, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if line.startswith("listening "))
        yield f"http://127.0.0.1:{int(line.split()[1])}/fhir"
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
        log.close()


@pytest.mark.slow
def test_hapi_takes_the_demos_first_files_once_and_makes_no_version_of_what_it_has(
    hapi, warehouse_url, tmp_path, monkeypatch
):
    day = WholeDay(warehouse_url, tmp_path, monkeypatch)
    day.destination(DOWN)
    day.drop(2)
    day.run()
    deliver(day)
    day.destination(f"kind: fhir\nbase_url: {hapi}\n")
    assert set(deliver(day)) == {"sent"}
    wanted = Counter(key.partition("/")[0] for key in day.store())
    assert held(hapi, wanted) == wanted
    assert versions(hapi) == wanted.total()
    day.rows("update ledger.outbox set state = 'pending', next_at = now() returning 1")
    assert set(deliver(day)) <= {"sent", "unchanged"}
    assert versions(hapi) == wanted.total()


def versions(base):
    """How many versions the server holds of all that it has."""
    return httpx.get(f"{base}/_history?_count=0", timeout=60).json()["total"]
