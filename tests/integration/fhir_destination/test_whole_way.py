"""Loading into and exporting from the development server: secured and with faults, through a real Postgres."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc import jwk

from infra.dev.fhir import Auth
from infra.dev.fhir.export import ExportOptions
from infra.dev.fhir.faults import Fault
from tasks import http
from tasks.deliver.fhir import FhirDestination, FhirOptions
from tasks.deliver.port import Item
from tasks.http import Retry
from tasks.http_auth import parse_auth
from tasks.load import Loader
from tasks.source.bulk_export import Exporter
from tasks.source.bulk_folder import ExportFolder
from tasks.source.bulk_job import Watch
from tasks.source.bulk_request import ExportRequest
from tests.serving import FhirServer

QUICK = Retry(8, 0.02, 1.0)
KEY = jwk.RSAKey.generate_key(2048, {"kid": "one", "alg": "RS384"}, private=True)
SMART = {
    "type": "smart-backend",
    "client_id": "us",
    "scope": "system/*.cruds",
    "private_key_jwk": KEY.as_dict(private=True),
}
WAYS = {
    "none": {"type": "none"},
    "basic": {"type": "basic", "username": "user", "password": "p3"},
    "bearer": {"type": "bearer", "token": "b3"},
    "client-credentials": {"type": "client-credentials", "client_id": "app", "client_secret": "s3"},
    "smart-backend": SMART,
}


@pytest.fixture
def serve(postgres_url):
    running: list[FhirServer] = []

    def start(**options: Any) -> FhirServer:
        running.append(FhirServer(postgres_url, **options))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def known() -> Auth:
    return Auth(
        jwks={"us": {"keys": [KEY.as_dict(private=False)]}},
        secrets={"app": "s3"},
        bearer=["b3"],
        basic={"user": "p3"},
        lifetime=2,
    )


def people(count: int) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for n in range(count):
        subject = {"reference": f"Patient/p{n}"}
        code = {"coding": [{"system": "http://loinc.org", "code": "718-7"}]}
        out.append({"resourceType": "Observation", "id": f"o{n}", "status": "final", "code": code, "subject": subject})
        out.append({"resourceType": "Patient", "id": f"p{n}", "birthDate": "1972-08-31"})
    return out


def write(path, resources):
    path.write_text("".join(json.dumps(resource) + "\n" for resource in resources))
    return path


def loaded(server, auth, path, **options):
    connection = {k: v if isinstance(v, str) else json.dumps(v) for k, v in WAYS[auth].items()}
    given = {"kind": "fhir", "base_url": server.url, "backoff": 0.02, "max_entries": 20, "parallel": 3, **options}
    destination = FhirDestination(FhirOptions(**given), connection)
    try:
        return Loader(destination, retry=QUICK).load([path]).as_json()
    finally:
        destination.close()


def exported(server, auth, folder):
    request = ExportRequest(server.url)
    kept = ExportFolder(folder, request.fingerprint())
    with http.client(request.base, parse_auth(WAYS[auth], "x"), follow_redirects=True) as client:
        try:
            watch = Watch(interval=0.05)
            return Exporter(client, request, kept, parallel=3, retry=QUICK, watch=watch).run()
        finally:
            kept.close()


def ids(folder) -> list[str]:
    return sorted(json.loads(line)["id"] for path in folder.glob("*.ndjson") for line in path.read_text().splitlines())


@pytest.mark.parametrize("auth", WAYS)
def test_what_was_loaded_comes_back_by_export_with_every_kind_of_auth(serve, auth, tmp_path):
    server = serve(auth=None if auth == "none" else known(), exports=ExportOptions(per_file=7, polls=2, retry_after=0))
    resources = people(30)
    assert loaded(server, auth, write(tmp_path / "in.ndjson", resources))["sent"] == 60
    summary = exported(server, auth, tmp_path / "out")
    assert (summary.partial, summary.resources) == (False, {"Patient": 30, "Observation": 30})
    assert ids(tmp_path / "out") == sorted(one["id"] for one in resources)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("answer", "POST /$", times=3, status=429, headers={"Retry-After": "0"}),
        Fault("answer", "POST /$", times=2, status=503),
        Fault("answer", "POST /$", times=2, status=502),
        Fault("drop", "POST /$", times=2),
        Fault("commit-then-drop", "POST /$", times=2),
        Fault("truncate", "POST /$", times=2, size=30),
        Fault("answer", "POST /$", times=2, status=200),
        Fault("answer", "POST /$", times=2, status=500),
        Fault("answer", "POST /$", times=2, status=409),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_a_load_through_a_fault_ends_with_everything_once(serve, fault, tmp_path):
    server = serve()
    server.faults.add(fault)
    said = loaded(server, "none", write(tmp_path / "in.ndjson", people(40)))
    assert server.faults.seen > 0
    assert (said["sent"] + said["unchanged"], said["refused"], said["retry"]) == (80, 0, 0)
    assert exported(server, "none", tmp_path / "out").resources == {"Patient": 40, "Observation": 40}


def test_a_slow_answer_that_times_out_after_the_commit_is_read_back(serve):
    server = serve()
    server.faults.add(Fault("commit-then-delay", "POST /$", seconds=2))
    options = FhirOptions(kind="fhir", base_url=server.url, timeout=0.5, backoff=0.02)
    destination = FhirDestination(options, {})
    items = [Item(one["resourceType"], one["id"], 1, one) for one in people(5)]
    outcomes = list(destination.send(items))
    destination.close()
    assert {outcome.status for outcome in outcomes} == {"sent"}
    assert {"read-back"} < {outcome.code for outcome in outcomes}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("answer", "GET /export|status", status=500),
        Fault("answer", "ndjson", times=3, status=429, headers={"Retry-After": "0"}),
        Fault("answer", "ndjson", times=1, status=410),
        Fault("truncate", "ndjson", times=2, size=100),
        Fault("drop", "ndjson", times=2),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_an_export_through_a_fault_is_complete(serve, fault, tmp_path):
    server = serve(exports=ExportOptions(per_file=10, polls=1, retry_after=0))
    loaded(server, "none", write(tmp_path / "in.ndjson", people(30)))
    server.faults.add(fault)
    summary = exported(server, "none", tmp_path / "out")
    assert (summary.partial, summary.resources) == (False, {"Patient": 30, "Observation": 30})


def test_a_resource_that_the_server_finds_wrong_is_refused_alone(serve, tmp_path):
    resources = people(10)
    resources[3]["birthDate"] = "SECRET"
    said = loaded(serve(), "none", write(tmp_path / "in.ndjson", resources))
    assert said["refused"] == 2
    assert {refusal["code"] for refusal in said["refusals"]} >= {"dependency-refused"}
    assert "SECRET" not in json.dumps(said)


def test_a_server_that_assigns_ids_holds_each_thing_once_however_often_it_is_loaded(serve, tmp_path):
    server = serve()
    path = write(tmp_path / "in.ndjson", people(6))
    for _ in range(2):
        said = loaded(server, "none", path, ids="server")
        assert (said["refused"], said["retry"]) == (0, 0), said
    summary = exported(server, "none", tmp_path / "out")
    assert summary.resources == {"Patient": 6, "Observation": 6}
    lines = [json.loads(line) for line in (tmp_path / "out/Observation.000.ndjson").read_text().splitlines()]
    people_ids = {json.loads(line)["id"] for line in (tmp_path / "out/Patient.000.ndjson").read_text().splitlines()}
    assert {line["subject"]["reference"].removeprefix("Patient/") for line in lines} == people_ids
    assert not people_ids & {f"p{n}" for n in range(6)}
