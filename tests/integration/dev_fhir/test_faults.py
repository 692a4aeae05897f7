"""Faults that are asked for, and loading without a server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from infra.dev.fhir import Fault, Faults, Seeded, seed

Json = dict[str, Any]


def patient(id_: str, **more: Any) -> Json:
    return {"resourceType": "Patient", "id": id_, **more}


def test_without_faults_nothing_goes_wrong(serve: Any) -> None:
    faults = Faults(Fault("answer", "GET /Patient/b", times=None))
    fhir = serve(faults=faults)
    assert fhir.put("/Patient/a", json=patient("a")).status_code == 201
    assert faults.seen == 0


def test_an_answer_comes_instead_of_the_work_as_often_as_was_asked(serve: Any) -> None:
    throttled = Fault("answer", "PUT", times=2, skip=1, status=429, headers={"Retry-After": "7"})
    fhir = serve(faults=Faults(throttled))
    answers = [fhir.put(f"/Patient/p{n}", json=patient(f"p{n}")) for n in range(4)]
    assert [a.status_code for a in answers] == [201, 429, 429, 201]
    assert answers[1].headers["retry-after"] == "7"
    assert answers[1].json()["issue"][0]["code"] == "throttled"
    assert fhir.get("/Patient").json()["total"] == 2


def test_a_dropped_request_has_done_nothing_and_one_dropped_after_the_commit_everything(serve: Any) -> None:
    fhir = serve(faults=Faults(Fault("drop", "PUT"), Fault("commit-then-drop", "PUT")))
    with pytest.raises(httpx.RemoteProtocolError):
        fhir.put("/Patient/a", json=patient("a"))
    assert fhir.get("/Patient/a").status_code == 404
    with pytest.raises(httpx.RemoteProtocolError):
        fhir.put("/Patient/a", json=patient("a"))
    assert fhir.get("/Patient/a").status_code == 200


def test_an_answer_that_comes_too_late_comes_after_the_commit(serve: Any) -> None:
    fhir = serve(faults=Faults(Fault("commit-then-delay", "PUT", seconds=2)))
    with pytest.raises(httpx.ReadTimeout):
        fhir.put("/Patient/a", json=patient("a"), timeout=0.5)
    assert fhir.get("/Patient/a").status_code == 200


def test_a_truncated_body_is_seen_as_truncated(serve: Any) -> None:
    faults = Faults()
    fhir = serve(faults=faults)
    fhir.put("/Patient/a", json=patient("a"))
    faults.add(Fault("truncate", "GET", size=20))
    with pytest.raises(httpx.RemoteProtocolError):
        fhir.get("/Patient/a")
    assert fhir.get("/Patient/a").status_code == 200


def test_a_trickle_is_slow_and_whole(serve: Any) -> None:
    faults = Faults()
    fhir = serve(faults=faults)
    whole = fhir.put("/Patient/a", json=patient("a")).content
    faults.add(Fault("trickle", "GET", size=30))
    assert fhir.get("/Patient/a").content == whole
    assert faults.seen == 1


def test_seeding_again_changes_nothing(serve: Any, database_url: str, schema: str) -> None:
    resources = [patient(f"p{n}", birthDate="2001-02-03") for n in range(2500)]
    assert seed(database_url, schema, resources) == Seeded(created=2500)
    resources[7] = patient("p7", birthDate="2001-02-04")
    assert seed(database_url, schema, iter(resources)) == Seeded(updated=1, unchanged=2499)
    fhir = serve()
    assert fhir.get("/Patient?_summary=count").json()["total"] == 2500
    assert fhir.get("/Patient/p7/_history").json()["total"] == 2


def test_seeding_takes_resources_that_violate_their_schema_in_their_order(
    serve: Any, database_url: str, schema: str
) -> None:
    odd = {"identifier": 7, "meta": "x", "code": [1], "subject": {"reference": 5}, "birthDate": "yesterday"}
    resources = [patient("a", **odd), {**odd, "resourceType": "Observation", "id": "o"}, patient("a", gender="other")]
    assert seed(database_url, schema, resources) == Seeded(created=2, updated=1)
    fhir = serve()
    assert fhir.get("/Patient/a").json()["gender"] == "other"
    assert fhir.get("/Observation/o").json()["birthDate"] == "yesterday"
