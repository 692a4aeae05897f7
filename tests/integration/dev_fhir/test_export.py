"""Bulk exports."""

from __future__ import annotations

from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from infra.dev.fhir import ExportOptions, Fault, Faults
from mappings.engine.json import loads

Json = dict[str, Any]
ASK = {"prefer": "respond-async", "accept": "application/fhir+json"}


def patient(id_: str, **more: Any) -> Json:
    return {"resourceType": "Patient", "id": id_, **more}


def observation(id_: str, subject: str, **more: Any) -> Json:
    found = {"resourceType": "Observation", "id": id_, "status": "final", "code": {"text": "x"}, **more}
    return found | {"subject": {"reference": subject}}


def group(*members: str, **more: Any) -> Json:
    entities = [{"entity": {"reference": member}} for member in members]
    return {"resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": entities, **more}


def load(fhir: httpx.Client, *resources: Json) -> None:
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in resources
    ]
    sent = fhir.post("/", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert sent.status_code == 200, sent.text


def kick_off(fhir: httpx.Client, place: str = "/$export", **params: str) -> str:
    started = fhir.get(place, params=params, headers=ASK)
    assert started.status_code == 202, started.text
    return started.headers["content-location"]


def manifest(fhir: httpx.Client, status: str) -> Json:
    while (answer := fhir.get(status)).status_code == 202:
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-progress"]
    assert answer.status_code == 200, answer.text
    return answer.json()


def export(fhir: httpx.Client, place: str = "/$export", **params: str) -> list[str]:
    return lines(fhir, manifest(fhir, kick_off(fhir, place, **params)))


def lines(fhir: httpx.Client, found: Json, kind: str = "output") -> list[str]:
    """Return `Type/id` of every line; the counts and types that the manifest names are those of the files."""
    names = []
    for file in found[kind]:
        answer = fhir.get(file["url"])
        assert answer.headers["content-type"].startswith("application/fhir+ndjson")
        resources = [loads(line) for line in answer.content.splitlines()]
        assert len(resources) == file["count"]
        assert {r["resourceType"] for r in resources} == {file["type"]}
        names += [f"{r['resourceType']}/{r['id']}" for r in resources] if kind == "output" else resources
    return names


def test_a_system_export_holds_every_current_resource_once(serve: Any) -> None:
    fhir = serve(exports=ExportOptions(per_file=3))
    load(fhir, *(patient(f"p{n}") for n in range(7)), *(observation(f"o{n}", "Patient/p1") for n in range(3)))
    load(fhir, patient("p3", gender="other"))
    fhir.delete("/Patient/p4")
    found = manifest(fhir, kick_off(fhir))
    assert [(f["type"], f["count"]) for f in found["output"]] == [("Observation", 3), ("Patient", 3), ("Patient", 3)]
    assert sorted(lines(fhir, found)) == sorted(
        [f"Patient/p{n}" for n in (0, 1, 2, 3, 5, 6)] + [f"Observation/o{n}" for n in range(3)]
    )
    assert found["request"] == f"{str(fhir.base_url).rstrip('/')}/$export"
    assert (found["requiresAccessToken"], found["deleted"], found["error"]) == (False, [], [])


def test_an_export_is_as_of_its_kick_off_whatever_is_written_later(serve: Any) -> None:
    fhir = serve(exports=ExportOptions(per_file=2))
    load(fhir, *(patient(f"p{n}") for n in range(5)))
    status = kick_off(fhir)
    load(fhir, patient("p0", gender="other"), patient("late"))
    fhir.delete("/Patient/p1")
    found = manifest(fhir, status)
    assert sorted(lines(fhir, found)) == [f"Patient/p{n}" for n in range(5)]
    assert "gender" not in fhir.get(found["output"][0]["url"]).text
    newest = fhir.get("/Patient/p4").json()["meta"]["lastUpdated"]
    assert found["transactionTime"] == newest


def test_an_export_since_the_last_one_holds_exactly_what_came_after(fhir: httpx.Client) -> None:
    load(fhir, *(patient(f"p{n}") for n in range(5)), *(observation(f"o{n}", "Patient/p0") for n in range(12)))
    since = manifest(fhir, kick_off(fhir))["transactionTime"]
    load(fhir, patient("p3", gender="other"), patient("new"), patient("p4"))
    for n in range(12):
        fhir.delete(f"/Observation/o{n}")
    found = manifest(fhir, kick_off(fhir, _since=since))
    assert sorted(lines(fhir, found)) == ["Patient/new", "Patient/p3"]
    bundles = lines(fhir, found, "deleted")
    assert {b["type"] for b in bundles} == {"transaction"}  # type: ignore[index]
    gone = [e["request"] for b in bundles for e in b["entry"]]  # type: ignore[index]
    assert gone == [{"method": "DELETE", "url": f"Observation/o{n}"} for n in range(12)]
    later = manifest(fhir, kick_off(fhir, _since=found["transactionTime"]))
    assert (later["output"], later["deleted"]) == ([], [])


def test_types_and_an_end_can_be_asked_for(fhir: httpx.Client) -> None:
    load(fhir, patient("a"), observation("o", "Patient/a"), group("Patient/a"))
    last = fhir.get("/Patient/a").json()["meta"]["lastUpdated"]
    load(fhir, patient("b"))
    assert sorted(export(fhir, _type="Patient,Group")) == ["Group/g", "Patient/a", "Patient/b"]
    assert sorted(export(fhir, _type="Patient", _until=last)) == []
    after = fhir.get("/Patient/b").json()["meta"]["lastUpdated"]
    assert sorted(export(fhir, _type="Patient", _until=after)) == ["Patient/a"]


def test_an_export_of_all_patients_leaves_out_what_is_no_patients(fhir: httpx.Client) -> None:
    organization = {"resourceType": "Organization", "id": "org", "name": "x"}
    load(fhir, patient("a"), observation("o", "Patient/a"), observation("d", "Device/1"), organization)
    assert sorted(export(fhir, "/Patient/$export")) == ["Observation/o", "Patient/a"]


def test_an_export_of_a_group_holds_its_members_alone_and_their_deletions(fhir: httpx.Client) -> None:
    load(fhir, patient("a"), patient("b"), patient("c"), group("Patient/a", "Patient/b"))
    load(fhir, *(observation(f"o{p}", f"Patient/{p}") for p in "abc"))
    assert sorted(export(fhir, "/Group/g/$export", _type="Patient,Observation")) == [
        "Observation/oa",
        "Observation/ob",
        "Patient/a",
        "Patient/b",
    ]
    since = fhir.get("/Observation/oc").json()["meta"]["lastUpdated"]
    fhir.delete("/Observation/oa")
    fhir.delete("/Observation/oc")
    found = manifest(fhir, kick_off(fhir, "/Group/g/$export", _since=since))
    gone = [e["request"]["url"] for b in lines(fhir, found, "deleted") for e in b["entry"]]  # type: ignore[index]
    assert gone == ["Observation/oa"]
    assert fhir.get("/Group/none/$export", headers=ASK).status_code == 404


def test_an_inactive_member_is_not_exported(fhir: httpx.Client) -> None:
    members = group("Patient/a", "Patient/b")
    members["member"][0]["inactive"] = True
    load(fhir, patient("a"), patient("b"), members)
    assert export(fhir, "/Group/g/$export", _type="Patient") == ["Patient/b"]


def test_an_export_can_be_started_by_post(fhir: httpx.Client) -> None:
    load(fhir, patient("a"), patient("b"), observation("o", "Patient/a"))
    asked = [
        {"name": "_type", "valueString": "Patient"},
        {"name": "patient", "valueReference": {"reference": "Patient/b"}},
    ]
    started = fhir.post("/Patient/$export", json={"resourceType": "Parameters", "parameter": asked}, headers=ASK)
    assert started.status_code == 202
    assert lines(fhir, manifest(fhir, started.headers["content-location"])) == ["Patient/b"]


def test_status_is_answered_202_as_often_as_was_asked(serve: Any) -> None:
    fhir = serve(exports=ExportOptions(polls=2))
    status = kick_off(fhir)
    assert [fhir.get(status).status_code for _ in range(2)] == [202, 202]
    manifest(fhir, status)


def test_a_cancelled_export_is_gone_with_its_files(fhir: httpx.Client) -> None:
    load(fhir, patient("a"))
    status = kick_off(fhir)
    file = manifest(fhir, status)["output"][0]["url"]
    assert fhir.delete(status).status_code == 202
    assert [fhir.get(place).status_code for place in (status, file)] == [404, 404]
    assert fhir.delete(status).status_code == 404
    assert fhir.get("/$export/nonsense").status_code == 404


def test_an_export_whose_time_is_up_is_gone(fhir: httpx.Client, database_url: str, schema: str) -> None:
    load(fhir, patient("a"))
    status = kick_off(fhir)
    file = manifest(fhir, status)["output"][0]["url"]
    with psycopg.connect(database_url) as db:
        db.execute(sql.SQL("UPDATE {}.export SET expires = now()").format(sql.Identifier(schema)))
    assert [fhir.get(place).status_code for place in (status, file)] == [404, 404]


def test_an_export_that_a_stopped_server_left_is_made_by_the_next(serve: Any, database_url: str, schema: str) -> None:
    first = serve()
    load(first, patient("a"))
    status = kick_off(first)
    manifest(first, status)
    with psycopg.connect(database_url) as db:
        db.execute(sql.SQL("DELETE FROM {}.export_file").format(sql.Identifier(schema)))
        db.execute(sql.SQL("UPDATE {}.export SET state = 'accepted'").format(sql.Identifier(schema)))
    second = serve()
    assert lines(second, manifest(second, httpx.URL(status).path)) == ["Patient/a"]


@pytest.mark.parametrize(
    ("params", "headers", "status"),
    [
        ({}, {"accept": "application/fhir+json"}, 400),
        ({}, {"prefer": "respond-async"}, 406),
        ({"_type": "Patient,Nonsense"}, ASK, 400),
        ({"_since": "yesterday"}, ASK, 400),
        ({"_typeFilter": "Patient?x=1"}, ASK, 400),
        ({"_outputFormat": "text/csv"}, ASK, 400),
        ({"_typeFilter": "Patient?x=1"}, ASK | {"prefer": "respond-async, handling=lenient"}, 202),
        ({"_outputFormat": "application/fhir+ndjson"}, ASK, 202),
    ],
)
def test_a_kick_off_is_checked(fhir: httpx.Client, params: Json, headers: dict[str, str], status: int) -> None:
    answer = fhir.get("/$export", params=params, headers=headers)
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_download_can_be_cut_short_and_had_again(serve: Any) -> None:
    faults = Faults()
    fhir = serve(faults=faults)
    load(fhir, *(patient(f"p{n:04}") for n in range(1500)))
    file = manifest(fhir, kick_off(fhir))["output"][0]["url"]
    faults.add(Fault("truncate", r"/\$export/.*/Patient", size=100_000))
    with pytest.raises(httpx.RemoteProtocolError):
        fhir.get(file)
    assert len(fhir.get(file).content.splitlines()) == 1500


def test_status_and_files_can_fail_as_servers_do(serve: Any) -> None:
    faults = Faults(Fault("answer", r"GET /\$export/[^/]+$", status=500), Fault("answer", r"ndjson$", status=410))
    fhir = serve(faults=faults)
    load(fhir, patient("a"))
    status = kick_off(fhir)
    assert fhir.get(status).status_code == 500
    file = manifest(fhir, status)["output"][0]["url"]
    assert [fhir.get(file).status_code for _ in range(2)] == [410, 200]
