"""Search, its parameters and its pages."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

Json = dict[str, Any]
LOINC = "http://loinc.org"


def patient(id_: str, *identifiers: tuple[str | None, str]) -> Json:
    items = [{"value": value} | ({"system": system} if system else {}) for system, value in identifiers]
    return {"resourceType": "Patient", "id": id_} | ({"identifier": items} if items else {})


def observation(id_: str, subject: str, code: str = "2345-7", system: str | None = LOINC) -> Json:
    coding = {"code": code} | ({"system": system} if system else {})
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [coding]},
        "subject": {"reference": subject},
    }


def load(fhir: httpx.Client, *resources: Json) -> None:
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in resources
    ]
    assert fhir.post("/", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).status_code == 200


def ids(page: Json) -> list[str]:
    return [e["resource"]["id"] for e in page.get("entry", [])]


def found(fhir: httpx.Client, kind: str, *pairs: tuple[str, str]) -> list[str]:
    by_get = fhir.get(f"/{kind}", params=list(pairs))
    assert by_get.status_code == 200, by_get.text
    by_post = fhir.post(f"/{kind}/_search", data=dict(pairs)) if len(dict(pairs)) == len(pairs) else by_get
    assert by_post.json() == by_get.json()
    assert by_get.json()["total"] == len(ids(by_get.json()))
    return ids(by_get.json())


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("urn:a|1", ["a"]),
        ("urn:b|1", ["b"]),
        ("1", ["a", "b", "c"]),
        ("|1", ["c"]),
        ("urn:a|", ["a", "d"]),
        ("urn:a|1,urn:b|1", ["a", "b"]),
        ("urn:a|x\\,y\\|z", ["d"]),
        ("x\\,y\\|z", ["d"]),
        ("urn:a|9", []),
        ("", []),
    ],
)
def test_identifiers_are_found_by_system_and_value(fhir: httpx.Client, value: str, wanted: list[str]) -> None:
    load(fhir, patient("a", ("urn:a", "1")), patient("b", ("urn:b", "1")), patient("c", (None, "1")))
    load(fhir, patient("d", ("urn:a", "x,y|z"), ("urn:c", "2")), patient("e"))
    assert found(fhir, "Patient", ("identifier", value)) == wanted


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("patient", "1", ["a", "b"]),
        ("patient", "Patient/1", ["a", "b"]),
        ("patient", "Patient/1,Patient/2", ["a", "b", "c"]),
        ("subject", "Patient/1", ["a", "b"]),
        ("subject", "1", ["a", "b", "g"]),
        ("subject:Patient", "1", ["a", "b"]),
        ("subject", "Group/1", ["g"]),
        ("subject", "http://elsewhere/Patient/1", ["x"]),
        ("code", "2345-7", ["a", "c", "g", "n"]),
        ("code", f"{LOINC}|2345-7", ["a", "c", "g"]),
        ("code", "|2345-7", ["n"]),
        ("_id", "a,c,zz", ["a", "c"]),
    ],
)
def test_facts_are_found_by_whom_and_what_they_are_about(
    fhir: httpx.Client, name: str, value: str, wanted: list[str]
) -> None:
    load(
        fhir,
        observation("a", "Patient/1"),
        observation("b", f"{str(fhir.base_url).rstrip('/')}/Patient/1", "1-8"),
        observation("c", "Patient/2/_history/4"),
        observation("g", "Group/1"),
        observation("n", "Patient/3", system=None),
        observation("x", "http://elsewhere/Patient/1", "1-8"),
    )
    assert found(fhir, "Observation", (name, value)) == wanted


def test_parameters_given_together_must_all_hold(fhir: httpx.Client) -> None:
    load(fhir, observation("a", "Patient/1"), observation("b", "Patient/1", "1-8"), observation("c", "Patient/2"))
    assert found(fhir, "Observation", ("patient", "1"), ("code", "2345-7")) == ["a"]
    assert found(fhir, "Observation", ("_id", "a,b"), ("_id", "b,c")) == ["b"]


def test_an_old_version_is_not_found(fhir: httpx.Client) -> None:
    load(fhir, patient("a", ("urn:a", "1")))
    load(fhir, patient("a", ("urn:a", "2")))
    assert found(fhir, "Patient", ("identifier", "1")) == []
    assert found(fhir, "Patient", ("identifier", "2")) == ["a"]


def test_last_updated_takes_every_prefix_and_precision(fhir: httpx.Client) -> None:
    load(fhir, patient("a"))
    load(fhir, patient("b"))
    load(fhir, patient("c"))
    times = {i: fhir.get(f"/Patient/{i}").json()["meta"]["lastUpdated"] for i in "abc"}
    b = times["b"]
    offset = b.replace("Z", "+00:00")
    for prefix, wanted in {
        "": ["b"],
        "eq": ["b"],
        "ne": ["a", "c"],
        "gt": ["c"],
        "sa": ["c"],
        "lt": ["a"],
        "eb": ["a"],
        "ge": ["b", "c"],
        "le": ["a", "b"],
    }.items():
        assert found(fhir, "Patient", ("_lastUpdated", prefix + b)) == wanted, prefix
        assert found(fhir, "Patient", ("_lastUpdated", prefix + offset)) == wanted, prefix
    assert found(fhir, "Patient", ("_lastUpdated", f"gt{times['a']}"), ("_lastUpdated", f"lt{times['c']}")) == ["b"]
    assert found(fhir, "Patient", ("_lastUpdated", b[:4])) == ["a", "b", "c"]
    assert found(fhir, "Patient", ("_lastUpdated", f"gt{b[:4]}")) == []
    assert found(fhir, "Patient", ("_lastUpdated", f"lt{b[:7]}")) == []
    assert found(fhir, "Patient", ("_lastUpdated", f"ap{b[:10]}")) == ["a", "b", "c"]


def every_page(fhir: httpx.Client, place: str, between: Any = lambda: None) -> tuple[list[str], list[Json]]:
    pages = [fhir.get(place).json()]
    while following := [link["url"] for link in pages[-1]["link"] if link["relation"] == "next"]:
        between()
        pages.append(fhir.get(following[0]).json())
    return [i for page in pages for i in ids(page)], pages


@pytest.mark.parametrize("sort", ["", "&_sort=_lastUpdated", "&_sort=-_lastUpdated"])
def test_pages_skip_and_double_nothing_while_others_write(fhir: httpx.Client, sort: str) -> None:
    load(fhir, *(observation(f"o{n:02}", "Patient/1") for n in range(20)))
    written = iter(range(100))

    def disturb() -> None:
        n = next(written)
        load(fhir, observation(f"o{n:02}", "Patient/1", f"new-{n}"), observation(f"o{19 - n:02}", "Patient/2"))
        load(fhir, observation(f"late{n}", "Patient/1"))
        fhir.delete(f"/Observation/o{10 + n}")

    seen, pages = every_page(fhir, f"/Observation?patient=1&_count=3{sort}", disturb)
    assert sorted(seen) == [f"o{n:02}" for n in range(20)]
    assert seen == sorted(seen, reverse="-" in sort)
    assert {page["total"] for page in pages} == {20}
    assert all(e["resource"]["code"]["coding"][0]["code"] == "2345-7" for p in pages for e in p["entry"])


def test_the_links_of_a_posted_search_can_be_followed(fhir: httpx.Client) -> None:
    load(fhir, *(patient(f"p{n}", ("urn:a", "1")) for n in range(5)))
    page = fhir.post("/Patient/_search", data={"identifier": "urn:a|1", "_count": "2"}).json()
    following = next(link["url"] for link in page["link"] if link["relation"] == "next")
    assert ids(fhir.get(following).json()) == ["p2", "p3"]


def test_counts_can_be_had_alone_or_left_out(fhir: httpx.Client) -> None:
    load(fhir, *(patient(f"p{n}") for n in range(5)))
    for alone in ("_summary=count", "_count=0"):
        page = fhir.get(f"/Patient?{alone}").json()
        assert page["total"] == 5
        assert "entry" not in page
    assert "total" not in fhir.get("/Patient?_total=none").json()
    assert fhir.get("/Patient?_total=accurate").json()["total"] == 5


@pytest.mark.parametrize("unknown", ["name=x", "_sort=birthDate", "_summary=text", "_include=*", "patient=1", "x"])
def test_what_is_unknown_is_left_out_or_refused_where_that_was_asked_for(fhir: httpx.Client, unknown: str) -> None:
    load(fhir, patient("a"), patient("b"))
    lenient = fhir.get(f"/Patient?{unknown}&_id=a").json()
    assert ids(lenient) == ["a"]
    assert lenient["link"] == [{"relation": "self", "url": f"{str(fhir.base_url).rstrip('/')}/Patient?_id=a"}]
    strict = fhir.get(f"/Patient?{unknown}&_id=a", headers={"prefer": "handling=strict"})
    assert strict.status_code == 400


def test_a_modifier_that_is_not_supported_is_refused(fhir: httpx.Client) -> None:
    assert fhir.get("/Patient?identifier:not=1").status_code == 400
    assert fhir.get("/Observation?subject:identifier=1").status_code == 400


def test_the_base_of_links_can_be_set(serve: Any) -> None:
    fhir = serve(base_url="https://proxy.example/fhir")
    load(fhir, patient("a"))
    page = fhir.get("/Patient").json()
    assert page["entry"][0]["fullUrl"] == "https://proxy.example/fhir/Patient/a"
    assert page["link"][0]["url"] == "https://proxy.example/fhir/Patient"
