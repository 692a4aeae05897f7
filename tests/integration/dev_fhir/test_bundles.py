"""Transactions and batches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

Json = dict[str, Any]


def patient(id_: str | None = None, mrn: str = "1", **more: Any) -> Json:
    found: Json = {"resourceType": "Patient", "identifier": [{"system": "urn:oid:1.2.3", "value": mrn}], **more}
    return found | ({"id": id_} if id_ else {})


def observation(subject: str, **more: Any) -> Json:
    code = {"coding": [{"system": "http://loinc.org", "code": "2345-7"}]}
    return {"resourceType": "Observation", "status": "final", "code": code, "subject": {"reference": subject}, **more}


def entry(method: str, url: str, resource: Json | None = None, full_url: str | None = None, **request: str) -> Json:
    found: Json = {"request": {"method": method, "url": url, **request}}
    return found | ({"resource": resource} if resource else {}) | ({"fullUrl": full_url} if full_url else {})


def bundle(*entries: Json, kind: str = "transaction") -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def post(
    fhir: httpx.Client, *entries: Json, kind: str = "transaction", prefer: str = "return=minimal"
) -> httpx.Response:
    return fhir.post("/", json=bundle(*entries, kind=kind), headers={"prefer": prefer})


URN = "urn:uuid:0f5c1a52-6f4a-4d6c-9a57-0a2c1d1b2c3d"


def test_a_transaction_tells_of_each_entry_what_became_of_it(fhir: httpx.Client) -> None:
    fhir.put("/Patient/old", json=patient("old"))
    fhir.put("/Patient/gone", json=patient("gone"))
    done = post(
        fhir,
        entry("GET", "Patient/new"),
        entry("PUT", "Patient/new", patient("new")),
        entry("PUT", "Patient/old", patient("old", birthDate="2001-02-03")),
        entry("DELETE", "Patient/gone"),
        entry("POST", "Observation", observation("Patient/new")),
    )
    assert done.status_code == 200
    answers = [e["response"] for e in done.json()["entry"]]
    assert [a["status"] for a in answers] == ["200 OK", "201 Created", "200 OK", "204 No Content", "201 Created"]
    assert [a["etag"] for a in answers] == ['W/"1"', 'W/"1"', 'W/"2"', 'W/"2"', 'W/"1"']
    assert done.json()["entry"][0]["resource"]["id"] == "new"
    assert all("resource" not in e for e in done.json()["entry"][1:])
    assert fhir.get(answers[4]["location"]).json()["subject"] == {"reference": "Patient/new"}
    assert fhir.get("/Patient/old").json()["meta"]["lastUpdated"] == answers[2]["lastModified"]


def test_references_to_full_urls_are_rewritten_wherever_they_stand(fhir: httpx.Client) -> None:
    group = {
        "resourceType": "Group",
        "type": "person",
        "actual": True,
        "member": [{"entity": {"reference": URN}}],
    }
    done = post(
        fhir,
        entry("POST", "Group", group),
        entry("POST", "Patient", patient(mrn=URN), URN),
    ).json()["entry"]
    kept = fhir.get(done[0]["response"]["location"]).json()
    place = done[1]["response"]["location"]
    assert place.endswith(kept["member"][0]["entity"]["reference"] + "/_history/1")
    assert fhir.get(place).json()["identifier"][0]["value"] == URN


def test_a_reference_to_a_creation_that_finds_its_match_names_the_match(fhir: httpx.Client) -> None:
    fhir.put("/Patient/there", json=patient("there"))
    done = post(
        fhir,
        entry("POST", "Patient", patient(), URN, ifNoneExist="identifier=urn:oid:1.2.3|1"),
        entry("PUT", "Observation/o", observation(URN, id="o")),
    ).json()["entry"]
    assert [e["response"]["status"] for e in done] == ["200 OK", "201 Created"]
    assert fhir.get("/Observation/o").json()["subject"]["reference"] == "Patient/there"
    assert fhir.get("/Patient").json()["total"] == 1


def test_a_conditional_reference_finds_what_is_stored_and_what_comes_beside_it(fhir: httpx.Client) -> None:
    fhir.put("/Patient/stored", json=patient("stored", "8"))
    done = post(
        fhir,
        entry("PUT", "Observation/a", observation("Patient?identifier=8", id="a")),
        entry("PUT", "Observation/b", observation("Patient?identifier=urn:oid:1.2.3|9", id="b")),
        entry("PUT", "Patient/beside", patient("beside", "9")),
    )
    assert done.status_code == 200
    assert fhir.get("/Observation/a").json()["subject"]["reference"] == "Patient/stored"
    assert fhir.get("/Observation/b").json()["subject"]["reference"] == "Patient/beside"
    assert fhir.get("/Observation?subject=Patient/beside").json()["total"] == 1


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (entry("PUT", "Patient/b", patient("b", birthDate="2001-13-45")), 422),
        (entry("PUT", "Patient/a", patient("a", birthDate="2001-01-01")), 400),
        (entry("DELETE", "Patient/a"), 400),
        (entry("DELETE", "Patient?identifier=7"), 400),
        (entry("PUT", "Patient/stored", patient("stored"), ifMatch='W/"9"'), 412),
        (entry("PUT", "Patient/b", patient("c")), 400),
        (entry("PATCH", "Patient/b", patient("b")), 405),
        (entry("GET", "Patient/none"), 404),
        (entry("POST", "Observation", observation(URN)), 400),
        (entry("POST", "Observation", observation("Patient?identifier=none")), 412),
        (entry("POST", "Observation"), 400),
        ({"resource": patient("b")}, 400),
    ],
)
def test_a_transaction_with_one_bad_entry_changes_nothing_and_names_it(
    fhir: httpx.Client, bad: Json, status: int
) -> None:
    fhir.put("/Patient/stored", json=patient("stored", "7"))
    fhir.put("/Patient/x", json=patient("x"))
    if "identifier=7" in str(bad):
        good = entry("PUT", "Patient/stored", patient("stored", "7", birthDate="2002-02-02"))
    else:
        good = entry("PUT", "Patient/a", patient("a"))
    refused = post(fhir, entry("DELETE", "Patient/x"), good, bad)
    assert refused.status_code == status
    issue = refused.json()["issue"][0]
    assert issue["expression"][0].startswith("Bundle.entry[2]") or status == 400
    assert fhir.get("/_history").json()["total"] == 2
    assert fhir.get("/Patient/x").status_code == 200


def test_deletions_come_before_creations(fhir: httpx.Client) -> None:
    fhir.put("/Patient/old", json=patient("old"))
    done = post(
        fhir,
        entry("POST", "Patient", patient(), ifNoneExist="identifier=1"),
        entry("DELETE", "Patient/old"),
    ).json()["entry"]
    assert [e["response"]["status"] for e in done] == ["201 Created", "204 No Content"]


def test_a_batch_carries_out_what_it_can(fhir: httpx.Client) -> None:
    done = post(
        fhir,
        entry("PUT", "Patient/a", patient("a")),
        entry("PUT", "Patient/b", patient("b", birthDate="2001-13-45")),
        entry("GET", "Patient/a"),
        entry("DELETE", "Patient/none"),
        entry("GET", "Patient/none"),
        {"request": {}},
        kind="batch",
    ).json()
    assert done["type"] == "batch-response"
    statuses = [e["response"]["status"][:3] for e in done["entry"]]
    assert statuses == ["201", "422", "200", "204", "404", "400"]
    assert done["entry"][1]["response"]["outcome"]["issue"][0]["expression"][0].endswith("Patient.birthDate")
    assert fhir.get("/_history").json()["total"] == 1


def test_prefer_rules_what_a_bundles_entries_return(fhir: httpx.Client) -> None:
    put = entry("PUT", "Patient/a", patient("a"))
    assert "resource" not in post(fhir, put).json()["entry"][0]
    full = post(fhir, put, prefer="return=representation").json()["entry"][0]
    assert full["resource"]["id"] == "a"
    told = post(fhir, put, prefer="return=OperationOutcome").json()["entry"][0]
    assert told["response"]["outcome"]["resourceType"] == "OperationOutcome"


def test_a_reader_sees_a_transaction_whole_or_not_at_all(fhir: httpx.Client, database_url: str, schema: str) -> None:
    fhir.put("/Patient/p0", json=patient("p0"))
    with psycopg.connect(database_url) as holder:
        holder.execute(sql.SQL("SELECT * FROM {}.clock FOR UPDATE").format(sql.Identifier(schema)))
        with pytest.raises(httpx.ReadTimeout):
            fhir.post("/", json=bundle(entry("PUT", "Patient/p1", patient("p1"))), timeout=0.3)
        assert fhir.get("/Patient").json()["total"] == 1
        holder.rollback()
    fhir.put("/Patient/p2", json=patient("p2"))
    assert fhir.get("/Patient").json()["total"] == 3


def test_concurrent_transactions_over_the_same_resources_all_come_through(fhir: httpx.Client) -> None:
    def turn(n: int) -> int:
        entries = [entry("PUT", f"Patient/p{i}", patient(f"p{i}", f"{n}")) for i in range(20)]
        return post(fhir, *(entries if n % 2 else reversed(entries))).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(turn, range(32))) == {200}
    found = fhir.get("/Patient").json()["entry"]
    assert len({e["resource"]["identifier"][0]["value"] for e in found}) == 1
    assert {e["resource"]["meta"]["versionId"] for e in found} == {"32"}


def test_an_empty_bundle_answers_an_empty_bundle(fhir: httpx.Client) -> None:
    assert post(fhir).json() == {"resourceType": "Bundle", "type": "transaction-response"}
