"""Read, write, versions, conditions and refusals, one resource at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest


def patient(id_: str | None = None, mrn: str = "1", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:oid:1.2.3", "value": mrn}],
        **more,
    }
    return found | ({"id": id_} if id_ else {})


def put(fhir: httpx.Client, id_: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    return fhir.put(f"/Patient/{id_}", json=patient(id_, **more), headers=headers)


def test_a_created_resource_is_read_at_the_place_that_the_answer_names(fhir: httpx.Client) -> None:
    made = fhir.post("/Patient", json=patient())
    assert made.status_code == 201
    assert made.headers["etag"] == 'W/"1"'
    assert made.headers["last-modified"].endswith("GMT")
    read = fhir.get(made.headers["location"])
    assert read.json() == made.json()
    assert read.json()["meta"]["versionId"] == "1"


def test_a_client_cannot_choose_the_id_of_a_creation(fhir: httpx.Client) -> None:
    assert fhir.post("/Patient", json=patient("mine")).json()["id"] != "mine"


def test_an_update_makes_a_resource_and_then_versions_of_it(fhir: httpx.Client) -> None:
    assert put(fhir, "a").status_code == 201
    second = put(fhir, "a", birthDate="2001-02-03")
    assert (second.status_code, second.headers["etag"]) == (200, 'W/"2"')
    assert "birthDate" not in fhir.get("/Patient/a/_history/1").json()
    assert fhir.get("/Patient/a/_history/2").json() == second.json()
    assert fhir.get("/Patient/a/_history/3").status_code == 404


def test_an_update_that_changes_nothing_makes_no_version(fhir: httpx.Client) -> None:
    first = put(fhir, "a", birthDate="2001-02-03")
    again = fhir.put("/Patient/a", json=first.json())
    assert (again.status_code, again.headers["etag"]) == (200, 'W/"1"')
    assert again.json() == first.json()
    assert fhir.get("/Patient/a/_history").json()["total"] == 1


def test_a_decimals_digits_are_kept_and_their_change_is_a_version(fhir: httpx.Client) -> None:
    head = b'{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"valueQuantity":{"value":'
    for version, digits in enumerate((b"5.1", b"5.10", b"0.000001", b"12345678901234567.50"), 1):
        sent = fhir.put(
            "/Observation/o", content=head + digits + b"}}", headers={"content-type": "application/fhir+json"}
        )
        assert sent.headers["etag"] == f'W/"{version}"'
        assert b'"value":' + digits + b"}" in fhir.get("/Observation/o").content


def test_an_update_with_another_version_than_the_current_one_is_refused(fhir: httpx.Client) -> None:
    put(fhir, "a")
    put(fhir, "a", birthDate="2001-02-03")
    assert put(fhir, "a", {"if-match": 'W/"1"'}, birthDate="2002-02-03").status_code == 412
    assert put(fhir, "new", {"if-match": 'W/"1"'}).status_code == 412
    assert fhir.get("/Patient/new").status_code == 404
    assert put(fhir, "a", {"if-match": 'W/"2"'}, birthDate="2002-02-03").headers["etag"] == 'W/"3"'


def test_of_concurrent_updates_with_one_version_exactly_one_wins(fhir: httpx.Client) -> None:
    put(fhir, "a")
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(put, fhir, "a", {"if-match": 'W/"1"'}, birthDate=f"20{n:02}-01-01") for n in range(16)]
    assert sorted(s.result().status_code for s in sent) == [200] + [412] * 15


def test_concurrent_updates_without_a_condition_all_become_versions(fhir: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(put, fhir, "a", birthDate=f"20{n:02}-01-01") for n in range(32)]
    assert sorted(int(s.result().headers["etag"][3:-1]) for s in sent) == list(range(1, 33))
    entries = fhir.get("/Patient/a/_history").json()["entry"]
    assert len({e["resource"]["birthDate"] for e in entries}) == 32
    updated = [e["response"]["lastModified"] for e in entries]
    assert updated == sorted(set(updated), reverse=True)


def test_what_is_deleted_is_gone_until_it_is_written_again(fhir: httpx.Client) -> None:
    put(fhir, "a")
    assert fhir.delete("/Patient/a").status_code == 204
    assert fhir.delete("/Patient/a").status_code == 204
    assert fhir.delete("/Patient/never").status_code == 204
    assert fhir.get("/Patient/a").status_code == 410
    assert fhir.get("/Patient/a/_history/2").status_code == 410
    assert fhir.get("/Patient/a/_history/1").status_code == 200
    assert fhir.get("/Patient").json()["total"] == 0
    back = put(fhir, "a")
    assert (back.status_code, back.headers["etag"]) == (201, 'W/"3"')


def test_a_read_of_what_is_known_is_304(fhir: httpx.Client) -> None:
    made = put(fhir, "a")
    known = fhir.get("/Patient/a", headers={"if-none-match": made.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert fhir.get("/Patient/a", headers={"if-none-match": 'W/"7"'}).status_code == 200
    since = {"if-modified-since": made.headers["last-modified"]}
    assert fhir.get("/Patient/a", headers=since).status_code == 304


def test_prefer_says_what_a_write_answers(fhir: httpx.Client) -> None:
    assert put(fhir, "a", {"prefer": "return=minimal"}).content == b""
    told = put(fhir, "b", {"prefer": "return=OperationOutcome"})
    assert (told.status_code, told.json()["resourceType"]) == (201, "OperationOutcome")
    assert put(fhir, "c", {"prefer": "return=representation"}).json()["id"] == "c"


def test_a_conditional_creation_creates_once(fhir: httpx.Client) -> None:
    condition = {"if-none-exist": "identifier=urn:oid:1.2.3|1"}
    first = fhir.post("/Patient", json=patient(), headers=condition)
    second = fhir.post("/Patient", json=patient(), headers=condition)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["location"] == first.headers["location"]
    fhir.post("/Patient", json=patient())
    assert fhir.post("/Patient", json=patient(), headers=condition).status_code == 412


def test_concurrent_conditional_creations_make_one_resource(fhir: httpx.Client) -> None:
    condition = {"if-none-exist": "identifier=urn:oid:1.2.3|1"}
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(fhir.post, "/Patient", json=patient(), headers=condition) for _ in range(16)]
    assert sorted(s.result().status_code for s in sent) == [200] * 15 + [201]


def test_a_conditional_update_creates_updates_or_refuses(fhir: httpx.Client) -> None:
    place = "/Patient?identifier=urn:oid:1.2.3%7C1"
    made = fhir.put(place, json=patient())
    assert made.status_code == 201
    changed = fhir.put(place, json=patient(birthDate="2001-02-03"))
    assert (changed.status_code, changed.json()["id"]) == (200, made.json()["id"])
    assert fhir.put(place, json=patient("other")).status_code == 400
    fhir.post("/Patient", json=patient())
    assert fhir.put(place, json=patient()).status_code == 412


def test_a_condition_that_the_server_does_not_know_never_matches_everything(fhir: httpx.Client) -> None:
    put(fhir, "a")
    assert fhir.put("/Patient?name=x", json=patient()).status_code == 400
    assert fhir.delete("/Patient?_count=1").status_code == 412
    assert fhir.delete("/Patient").status_code == 405
    assert fhir.get("/Patient/a").status_code == 200


def test_a_conditional_deletion_deletes_the_one_that_it_finds(fhir: httpx.Client) -> None:
    put(fhir, "a")
    assert fhir.delete("/Patient?identifier=2").status_code == 204
    assert fhir.delete("/Patient?identifier=1").status_code == 204
    assert fhir.get("/Patient/a").status_code == 410


def test_histories_page_as_of_their_first_page(fhir: httpx.Client) -> None:
    for n in range(5):
        put(fhir, f"p{n}")
        put(fhir, f"p{n}", birthDate="2001-02-03")
    page = fhir.get("/Patient/_history?_count=3").json()
    put(fhir, "late")
    seen = list(page["entry"])
    while following := [link["url"] for link in page["link"] if link["relation"] == "next"]:
        page = fhir.get(following[0]).json()
        seen += page["entry"]
    places = [(e["request"]["url"], e["response"]["etag"]) for e in seen]
    assert places == [(f"Patient/p{n}", f'W/"{v}"') for n in reversed(range(5)) for v in (2, 1)]
    assert page["total"] == 10


def test_a_history_since_a_moment_holds_what_changed_from_then_on(fhir: httpx.Client) -> None:
    put(fhir, "a")
    then = put(fhir, "b").json()["meta"]["lastUpdated"]
    fhir.delete("/Patient/a")
    found = fhir.get("/_history", params={"_since": then}).json()
    assert [e["request"] for e in found["entry"]] == [
        {"method": "DELETE", "url": "Patient/a"},
        {"method": "PUT", "url": "Patient/b"},
    ]
    assert "resource" not in found["entry"][0]
    assert fhir.get("/Patient/nobody/_history").status_code == 404


SECRET = "Zzyzx-Marker"


@pytest.mark.parametrize(
    ("asked", "content", "headers", "status"),
    [
        ("GET /Patient/none", "", {}, 404),
        (f"GET /{SECRET}", "", {}, 404),
        (f"GET /Patient/a/b/c/{SECRET}", "", {}, 404),
        (f"GET /Patient/{SECRET}_", "", {}, 400),
        (f"GET /Patient?_lastUpdated={SECRET}", "", {}, 400),
        (f"GET /Patient?_count={SECRET}", "", {}, 400),
        (f"GET /Patient?_page={SECRET}", "", {}, 400),
        (f"GET /Patient?identifier:{SECRET}=1", "", {}, 400),
        ("GET /Patient?_id=%00", "", {}, 400),
        ("GET /Patient", "", {"accept": "application/fhir+xml"}, 406),
        ("GET /Patient?_format=xml", "", {}, 406),
        ("PATCH /Patient/a", "{}", {}, 405),
        ("POST /Patient/a", "{}", {}, 405),
        ("POST /Patient", f'{{"name": "{SECRET}', {}, 400),
        ("POST /Patient", f'["{SECRET}"]', {}, 400),
        ("POST /Patient", f'{{"resourceType": "{SECRET}"}}', {}, 400),
        ("POST /Patient", f'{{"resourceType": "Patient", "birthDate": "{SECRET}"}}', {}, 422),
        ("POST /Patient", f'{{"resourceType": "Patient", "{SECRET}": 1}}', {}, 422),
        ("POST /Patient", f'{{"resourceType": "Patient", "meta": "{SECRET}"}}', {}, 422),
        ("POST /Patient", f"<Patient>{SECRET}</Patient>", {"content-type": "application/fhir+xml"}, 415),
        ("POST /Patient", '{"resourceType": "Patient"}' + " " * 5000, {}, 413),
        ("PUT /Patient/a", f'{{"resourceType": "Patient", "id": "{SECRET}"}}', {}, 400),
        ("PUT /Patient/a", '{"resourceType": "Patient"}', {}, 400),
        ("PUT /Patient/a", '{"resourceType": "Practitioner", "id": "a"}', {}, 400),
        ("POST /", f'{{"resourceType": "Bundle", "type": "{SECRET}"}}', {}, 400),
        ("POST /", f'{{"resourceType": "Bundle", "type": "batch", "entry": "{SECRET}"}}', {}, 400),
    ],
)
def test_a_refusal_is_an_outcome_that_repeats_nothing(
    serve: Any, asked: str, content: str, headers: dict[str, str], status: int
) -> None:
    fhir = serve(largest_body=4096)
    sent = {"content-type": "application/fhir+json"} | headers
    method, place = asked.split(" ")
    answer = fhir.request(method, place, content=content, headers=sent)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/fhir+json")
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert {"severity", "code", "diagnostics"} <= answer.json()["issue"][0].keys()
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"resourceType": "Patient", "extension": [' + '{"url": "x", "extension": [' * 3000 + "]}" * 3001,
        '{"resourceType": "Patient", "language": "\\ud800"}',
        b'{"resourceType": "Patient", "language": "\xff"}',
    ],
)
def test_a_text_that_breaks_parsers_is_refused(fhir: httpx.Client, content: str | bytes) -> None:
    answer = fhir.post("/Patient", content=content, headers={"content-type": "application/fhir+json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_an_escaped_null_and_a_huge_number_are_kept_or_refused_but_never_break(fhir: httpx.Client) -> None:
    for said in ('"identifier": [{"value": "a\\u0000b"}]', '"multipleBirthInteger": 1e999999'):
        answer = fhir.post("/Patient", content=f'{{"resourceType": "Patient", {said}}}')
        assert answer.status_code in (201, 422)


def test_an_invalid_resource_is_refused_with_the_place_of_its_fault(fhir: httpx.Client) -> None:
    issue = put(fhir, "a", birthDate="2001-13-45").json()["issue"][0]
    assert issue["expression"] == ["Patient.birthDate"]


def test_the_capability_statement_says_that_it_is_for_development_only(fhir: httpx.Client) -> None:
    found = fhir.get("/metadata").json()
    assert found["fhirVersion"] == "4.0.1"
    assert "development" in found["description"]
    assert "development" in found["software"]["name"]
    kinds = {r["type"]: r for r in found["rest"][0]["resource"]}
    assert len(kinds) == 146
    assert [p["name"] for p in kinds["Patient"]["searchParam"]] == ["_id", "_lastUpdated", "identifier"]


def test_a_database_that_went_away_is_a_503_and_heals(fhir: httpx.Client, database_url: str, schema: str) -> None:
    put(fhir, "a")
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(f"ALTER SCHEMA {schema} RENAME TO {schema}_away")
        assert fhir.get("/Patient/a").status_code == 500
        db.execute(f"ALTER SCHEMA {schema}_away RENAME TO {schema}")
        db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert {fhir.get("/Patient/a").status_code for _ in range(10)} <= {200, 503}
    assert fhir.get("/Patient/a").status_code == 200
