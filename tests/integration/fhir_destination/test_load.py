"""`sluice load` as a process, into a server on a real socket."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

WITHDRAWN = {"url": "urn:sluice:deleted", "valueBoolean": True}
COMMAND = "from deployments.cli.main import main; main()"


@pytest.fixture
def run_load(stub, tmp_path):
    file = tmp_path / "there.yaml"
    file.write_text(f"kind: fhir\nbase_url: {stub.url}\nbackoff: 0.01\n")

    def run(*arguments: object, code: int = 0, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "load", "--to", str(file), *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout or done.stderr

    return run


def to(key):
    return {"reference": key}


def write(path, resources):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(resource) + "\n" for resource in resources))
    return path


def resource(kind, id_, **content):
    return {"resourceType": kind, "id": id_, **content}


def entry(full_url, body, method="POST", url=None):
    return {"fullUrl": full_url, "resource": body, "request": {"method": method, "url": url or body["resourceType"]}}


def test_what_convert_prints_is_loaded_from_standard_input(stub, run_load):
    found = [
        {"resource": resource("Observation", "o", subject=to("Patient/p"), note=[{"text": "x" * 70_000}])},
        {"resource": resource("Patient", "p")},
    ]
    line = {
        "source": "a",
        "index": 1,
        "findings": [],
        "bundle": {"resourceType": "Bundle", "type": "collection", "entry": found},
    }
    assert "sent: 2" in run_load("-", stdin=json.dumps(line, separators=(",", ":")) + "\n")
    assert stub.order == ["Patient/p", "Observation/o"]
    assert "standard-input: not-json" in run_load("-", stdin="x\n", code=1)
    assert "standard input is empty" in run_load("-", code=2)


def test_files_in_the_wrong_order_are_loaded_in_the_right_one(stub, run_load, tmp_path):
    stub.integrity = True
    write(
        tmp_path / "x/A.ndjson", [resource("Observation", f"o{n}", subject=to(f"Patient/p{n % 9}")) for n in range(90)]
    )
    write(
        tmp_path / "x/B.ndjson",
        [resource("Patient", f"p{n}", managingOrganization=to("Organization/h")) for n in range(9)],
    )
    write(tmp_path / "x/C.ndjson", [resource("Organization", "h", partOf=to("Organization/top"))])
    write(tmp_path / "x/D.ndjson", [resource("Organization", "top")])
    assert json.loads(run_load("--json", tmp_path / "x"))["sent"] == 101
    assert set(stub.writes.values()) == {1}


def test_types_that_refer_to_each_other_are_loaded_through_parts_of_any_size(stub, destination, tmp_path):
    from tasks.load import Loader

    stub.integrity = True
    around = []
    for n in range(60):
        subject = to(f"Patient/p{n % 7}")
        around.append(resource("Encounter", f"e{n}", subject=subject, diagnosis=[{"condition": to(f"Condition/c{n}")}]))
        around.append(resource("Condition", f"c{n}", subject=subject, encounter=to(f"Encounter/e{n}")))
    files = [
        write(tmp_path / "x/a.ndjson", around),
        write(tmp_path / "x/b.ndjson", [resource("Patient", f"p{n}") for n in range(7)]),
    ]
    summary = Loader(destination(max_entries=10), part=25).load(files)
    assert summary.as_json() | {"files": 0} == {
        "sent": 127, "unchanged": 0, "duplicate": 0, "refused": 0, "retry": 0,
        "ids_given": 0, "files": 0, "refusals": [], "unreadable": [],
    }  # fmt: skip


def test_the_same_thing_loaded_twice_is_there_once(stub, run_load, tmp_path):
    path = write(tmp_path / "x.ndjson", [resource("Patient", "p"), resource("Patient", "p", active=True)])
    assert json.loads(run_load("--json", path))["duplicate"] == 1
    run_load(path)
    assert stub.store["Patient/p"]["active"] is True
    assert len(stub.store) == 1


@pytest.mark.parametrize("kind", ["transaction", "batch", "collection", "message"])
def test_bundles_are_taken_apart_and_their_urns_become_ids(stub, run_load, tmp_path, kind):
    stub.integrity = True
    urn = "urn:uuid:0b2cd5a4-0d7e-4f6e-8d43-26f3a2b9a111"
    marked = resource("Observation", "o", subject=to(urn), identifier=[{"value": urn}])
    bundle = {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [
            {
                **entry("urn:uuid:1", marked),
                "extension": [{"url": "urn:sluice:cleared", "valueString": "Observation.note"}],
            },
            entry(urn, {"resourceType": "Patient", "active": True}),
            entry(
                "http://a.org/fhir/Encounter/e", resource("Encounter", "e", subject=to("http://a.org/fhir/Patient/q"))
            ),
            entry("http://a.org/fhir/Patient/q", resource("Patient", "q")),
        ],
    }
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(bundle, indent=1))
    said = json.loads(run_load("--json", path))
    assert (said["sent"], said["ids_given"]) == (4, 1)
    assert stub.store["Observation/o"]["subject"] == to(f"Patient/{urn[9:]}")
    assert stub.store["Observation/o"]["identifier"] == [{"value": urn}]
    assert stub.store["Encounter/e"]["subject"] == to("Patient/q")
    run_load(path)
    assert len(stub.store) == 4


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_a_conversion_marked_as_withdrawn_is_deleted_and_never_put(stub, run_load, tmp_path, wrapped):
    stub.store["Patient/gone"] = resource("Patient", "gone", active=True)
    gone = {**entry("urn:uuid:1", resource("Patient", "gone")), "extension": [WITHDRAWN]}
    del gone["request"]
    bundle = {"resourceType": "Bundle", "type": "message", "entry": [gone, entry("urn:uuid:2", resource("Basic", "b"))]}
    path = tmp_path / "converted.ndjson"
    path.write_text(json.dumps({"source": "x", "index": 1, "bundle": bundle} if wrapped else bundle) + "\n")
    assert json.loads(run_load("--json", path))["refused"] == 0
    assert set(stub.store) == {"Basic/b"}


def test_what_bundles_create_under_the_same_condition_is_there_once(stub, run_load, tmp_path):
    stub.integrity = True
    npi = "http://hl7.org/fhir/sid/us-npi"
    for number in range(3):
        doctor = {"resourceType": "Practitioner", "identifier": [{"system": npi, "value": "9"}]}
        condition = {"ifNoneExist": f"identifier={npi}|9"}
        visit = {
            "resourceType": "Encounter",
            "participant": [{"individual": to(f"Practitioner?identifier={npi}|9")}, {"individual": to("urn:uuid:d")}],
        }
        created = entry("urn:uuid:d", doctor)
        created["request"] |= condition
        bundle = {"resourceType": "Bundle", "type": "transaction"}
        bundle["entry"] = [entry(f"urn:uuid:visit-{number}", visit), created]
        (tmp_path / f"{number}.json").write_text(json.dumps(bundle))
    assert json.loads(run_load("--json", tmp_path))["duplicate"] == 2
    [doctor] = [key for key in stub.store if key.startswith("Practitioner/")]
    visits = [one for key, one in stub.store.items() if key.startswith("Encounter/")]
    assert [one["participant"] for one in visits] == [[{"individual": to(doctor)}] * 2] * 3


def test_an_exported_folder_is_loaded_with_its_deletions(stub, run_load, tmp_path):
    stub.store = {"Patient/old": {"meta": {"versionId": "1"}}}
    write(tmp_path / "out/Patient.000.ndjson", [resource("Patient", "new")])
    delete = {"request": {"method": "DELETE", "url": "Patient/old"}}
    write(tmp_path / "out/Bundle.ndjson", [])
    (tmp_path / "out/deleted").mkdir()
    write(
        tmp_path / "out/deleted/Bundle.000.ndjson",
        [{"resourceType": "Bundle", "type": "transaction", "entry": [delete]}],
    )
    write(tmp_path / "out/manifest.json", [{"not": "loaded"}])
    assert json.loads(run_load("--json", tmp_path / "out"))["sent"] == 2
    assert set(stub.store) == {"Patient/new"}


def test_refusals_are_grouped_by_code_and_place_without_a_value_and_the_exit_code_is_1(
    stub, run_load, refused, tmp_path
):
    def judge(body):
        if body.get("birthDate"):
            raise refused(422, "value", "Patient.birthDate")

    stub.judge = judge
    people = [resource("Patient", f"p{n}", birthDate="1953-99-99" if n % 10 == 0 else "") for n in range(30)]
    path = write(tmp_path / "x.ndjson", people)
    with path.open("a") as file:
        file.write('{"resourceType": "Patient", "id": "SECRET"\n{"no": "type"}\n')
    said = run_load(path, code=1)
    assert "3 × value at Patient.birthDate (422)" in said
    assert "line 31: not-json" in said
    assert "line 32: not-a-resource" in said
    assert "sent: 27" in said
    assert "refused: 5" in said
    assert "1953" not in said
    assert "SECRET" not in said


def test_a_resource_without_an_id_gets_the_same_one_every_time(stub, run_load, tmp_path):
    path = write(tmp_path / "x.ndjson", [{"resourceType": "Patient", "active": True}])
    assert "given one" in run_load(path)
    run_load(path)
    assert len(stub.store) == 1


def test_what_the_server_does_not_take_now_is_offered_again(stub, run_load, reply, tmp_path):
    stub.script = [reply(503, {"Retry-After": "0"})] * 4
    path = write(tmp_path / "x.ndjson", [resource("Patient", f"p{n}") for n in range(20)])
    assert json.loads(run_load("--json", path))["sent"] == 20


def test_a_path_or_a_destination_that_is_not_there_is_one_line_and_exit_code_2(run_load, tmp_path):
    assert "no such file" in run_load(tmp_path / "nowhere", code=2)
    assert "nearby" in run_load("--to", "nearby", tmp_path, code=2)


def test_a_destination_that_takes_nothing_is_not_offered_everything_again_and_again(stub, destination, reply, tmp_path):
    from tasks.http import Retry
    from tasks.load import Loader

    stub.script = [reply(503)] * 1000
    path = write(tmp_path / "x.ndjson", [resource("Patient", f"p{n}") for n in range(100)])
    summary = Loader(destination(), part=10, retry=Retry(2, 0.01, 0.02)).load([path])
    assert summary.outcomes["retry"] == 100
    assert len(stub.requests) < 20


def test_what_refers_to_a_refused_resource_of_an_earlier_part_is_refused_too(stub, destination, refused, tmp_path):
    from tasks.load import Loader

    def judge(body):
        if body["id"] == "p3":
            raise refused(422, "structure")

    stub.judge = judge
    people = [resource("Patient", f"p{n}") for n in range(10)]
    results = [resource("Observation", f"o{n}", subject=to(f"Patient/p{n}")) for n in range(10)]
    summary = Loader(destination(), part=4).load([write(tmp_path / "x.ndjson", results + people)])
    assert +summary.outcomes == {"sent": 18, "refused": 2}
    assert ("dependency-refused", "Observation.subject", "dependency") in summary.refusals


def test_a_client_that_the_destination_does_not_know_is_one_line(stub, reply, tmp_path):
    from tasks.deliver.fhir import FhirDestination, FhirOptions
    from tasks.errors import ConfigError
    from tasks.load import Loader

    stub.script = [reply(401, {}, b'{"error": "invalid_client"}')] * 4
    values = {"client_id": "c", "client_secret": "s", "token_url": f"{stub.url}/token"}
    where = FhirDestination(FhirOptions(kind="fhir", base_url=stub.url), values)
    with pytest.raises(ConfigError, match="invalid_client"):
        Loader(where).load([write(tmp_path / "x.ndjson", [resource("Patient", "p")])])
    where.close()
