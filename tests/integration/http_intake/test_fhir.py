"""FHIR over HTTP on real sockets: 202 when it is kept, an OperationOutcome when it is not."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey, OctKey

from tasks.errors import ConfigError

FEED = "northside.fhir"
JSON = {"Content-Type": "application/fhir+json"}
PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Okafor"}]}


def observation(ident: str = "o1", value: str = "5.10") -> bytes:
    said = {"resourceType": "Observation", "id": ident, "status": "final", "code": {"text": "K"}}
    said |= {"subject": {"reference": "Patient/p1"}, "valueQuantity": {"value": "@", "unit": "mmol/L"}}
    return json.dumps(said).replace('"@"', value).encode()


def bundle(kind: str, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, **more, "entry": list(entries)}


def entry(resource: dict[str, Any], method: str = "PUT") -> dict[str, Any]:
    kind = resource["resourceType"]
    url = f"{kind}/{resource['id']}" if method == "PUT" else kind
    return {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource, "request": {"method": method, "url": url}}


def issue(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"].startswith("application/fhir+json")
    said = answer.json()
    assert said["resourceType"] == "OperationOutcome"
    [one] = said["issue"]
    return one


@pytest.fixture
def post(site):
    """A client whose token may do everything."""
    site.configure(FEED)
    client = site.listen(FEED)
    client.headers["Authorization"] = "Bearer " + site.provider.token("openid system/*.cruds")
    return client


def test_a_resource_is_accepted_when_it_is_kept_and_becomes_a_record(site, post) -> None:
    answer = post.put(f"/{FEED}/fhir/Patient/p1", json=PATIENT, headers=JSON)
    assert (answer.status_code, issue(answer)["severity"]) == (202, "information")
    assert site.rows("select messages from ledger.segment") == [(1,)]
    assert post.post(f"/{FEED}/fhir/Observation", content=observation(), headers=JSON).status_code == 202
    counts = site.take(FEED)
    assert (counts["received"], counts["published"]) == (2, 2)
    [(value,)] = site.rows(
        "select resource #>> '{valueQuantity,value}' from fhir.resource where resource_type = 'Observation'"
    )
    assert value == "5.10", "its digits are kept"


def test_a_bundle_is_kept_whole_and_its_entries_are_records(site, post) -> None:
    said = bundle("transaction", entry(PATIENT), entry(json.loads(observation())))
    assert post.post(f"/{FEED}/fhir", json=said, headers=JSON).status_code == 202
    assert post.post(f"/{FEED}/fhir/Bundle", json=bundle("collection", entry(PATIENT)), headers=JSON).status_code == 202
    assert site.take(FEED)["received"] == 3


def test_what_is_posted_later_is_read_on_in_the_same_segment(site, post) -> None:
    for number in range(3):
        said = bundle("batch", *(entry({**PATIENT, "id": f"p{number}-{place}"}) for place in range(2)))
        assert post.post(f"/{FEED}/fhir", json=said, headers=JSON).status_code == 202
        assert site.take(FEED)["published"] == 2 * (number + 1)
    assert site.rows("select count(*) from ledger.delivery") == [(1,)]


def test_a_message_is_kept_once_however_often_it_is_sent(site, post) -> None:
    header = {"resourceType": "MessageHeader", "id": "h", "eventCoding": {"code": "x"}, "source": {"endpoint": "urn:x"}}
    said = bundle("message", {"resource": header}, {"resource": PATIENT}, id="m1")
    answers = [post.post(f"/{FEED}/fhir/$process-message", json=said, headers=JSON) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert site.take(FEED)["received"] == 2


def test_a_delete_is_kept(site, post) -> None:
    post.put(f"/{FEED}/fhir/Patient/p1", json=PATIENT, headers=JSON)
    assert post.delete(f"/{FEED}/fhir/Patient/p1").status_code == 202
    site.take(FEED)
    assert site.rows("select deleted from fhir.resource where resource_type = 'Patient'") == [(True,)]


def test_the_same_idempotency_key_gets_the_same_answer_and_refuses_another_body(site, post) -> None:
    key = {**JSON, "Idempotency-Key": "k1"}
    first = post.put(f"/{FEED}/fhir/Patient/p1", json=PATIENT, headers=key)
    assert post.put(f"/{FEED}/fhir/Patient/p1", json=PATIENT, headers=key).json() == first.json()
    other = post.put(f"/{FEED}/fhir/Patient/p1", json={**PATIENT, "active": True}, headers=key)
    assert (other.status_code, issue(other)["code"]) == (409, "conflict")
    assert site.take(FEED)["received"] == 1


def test_a_feed_of_ndjson_takes_single_resources_line_by_line(site) -> None:
    site.configure(FEED, "open: true", form="fhir-ndjson")
    client = site.listen(FEED)
    pretty = json.dumps(PATIENT, indent=2).encode()
    for _ in range(2):
        assert client.put(f"/{FEED}/fhir/Patient/p1", content=pretty, headers=JSON).status_code == 202
    refused = client.post(f"/{FEED}/fhir", json=bundle("batch", entry(PATIENT)), headers=JSON)
    assert (refused.status_code, issue(refused)["code"]) == (422, "not-supported")
    assert site.take(FEED)["received"] == 2


@pytest.mark.parametrize(
    ("request_line", "body", "status"),
    [
        (("POST", "/fhir/Patient"), b"{nonsense", 400),
        (("POST", "/fhir/Patient"), b"[" * 100_000, 400),
        (("POST", "/fhir/Patient"), b"\xff\xfe", 400),
        (("POST", "/fhir/Patient"), b"[]", 400),
        (("POST", "/fhir/Patient"), json.dumps({"resourceType": "Observation"}).encode(), 400),
        (("PUT", "/fhir/Patient/p2"), json.dumps(PATIENT).encode(), 400),
        (("PUT", "/fhir/Patient/p 2"), json.dumps(PATIENT).encode(), 404),
        (("POST", "/fhir/Nonsense"), b"{}", 404),
        (("POST", "/fhir"), json.dumps(PATIENT).encode(), 400),
        (("POST", "/fhir"), json.dumps(bundle("searchset", entry(PATIENT))).encode(), 422),
        (("POST", "/fhir"), json.dumps({"resourceType": "Bundle", "type": "batch"}).encode(), 422),
        (("POST", "/fhir"), json.dumps(bundle("batch", {"x": 1})).encode(), 400),
        (
            ("POST", "/fhir"),
            json.dumps(bundle("batch", {"resource": PATIENT, "request": {"method": {}}})).encode(),
            422,
        ),
        (("POST", "/fhir"), json.dumps(bundle("batch", {"resource": PATIENT, "request": 1})).encode(), 400),
        (("POST", "/fhir"), json.dumps(bundle("batch", {"resource": {"id": "1"}})).encode(), 400),
        (
            ("POST", "/fhir"),
            json.dumps(bundle("batch", {"request": {"method": "PUT", "url": "Patient/1"}})).encode(),
            400,
        ),
        (("POST", "/fhir/Patient"), b'{"resourceType": "Patient", "id": null}', 400),
        (("POST", "/fhir/$process-message"), json.dumps(bundle("message", {"resource": PATIENT})).encode(), 422),
        (("PATCH", "/fhir/Patient/p1"), b"{}", 405),
        (("GET", "/fhir/Patient"), b"", 405),
        (("POST", "/nowhere"), b"", 404),
    ],
)
def test_what_cannot_be_taken_is_refused_with_an_outcome_and_keeps_nothing(
    site, post, request_line, body, status
) -> None:
    method, path = request_line
    answer = post.request(method, f"/{FEED}{path}", content=body, headers=JSON)
    assert answer.status_code == status
    assert issue(answer)["severity"] == "error"
    assert "Okafor" not in answer.text
    assert site.rows("select from ledger.segment") == []


def test_another_media_type_and_a_body_too_long_are_refused(site) -> None:
    site.configure(FEED, "open: true, max_body: 2048")
    client = site.listen(FEED)
    assert (
        client.put(f"/{FEED}/fhir/Patient/p1", content=b"<Patient/>", headers={"Content-Type": "text/xml"}).status_code
        == 415
    )
    big = json.dumps({**PATIENT, "text": {"div": "x" * 5000}}).encode()
    answer = client.put(f"/{FEED}/fhir/Patient/p1", content=big, headers=JSON)
    assert (answer.status_code, issue(answer)["code"]) == (413, "too-long")


# -- who may ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        ("system/Patient.c", "POST", "/fhir/Patient", 202),
        ("system/Patient.write", "POST", "/fhir/Patient", 202),
        ("system/*.write", "PUT", "/fhir/Patient/p1", 202),
        ("system/Patient.u", "PUT", "/fhir/Patient/p1", 202),
        ("system/Patient.cud", "DELETE", "/fhir/Patient/p1", 202),
        ("system/Patient.u", "POST", "/fhir/Patient", 403),
        ("system/Patient.c", "PUT", "/fhir/Patient/p1", 403),
        ("system/Patient.cu", "DELETE", "/fhir/Patient/p1", 403),
        ("system/Patient.rs system/Patient.read", "POST", "/fhir/Patient", 403),
        ("user/Patient.c patient/*.c", "POST", "/fhir/Patient", 403),
        ("system/Observation.cud", "POST", "/fhir/Patient", 403),
        ("system/Patient.c?category=x", "POST", "/fhir/Patient", 403),
        ("", "POST", "/fhir/Patient", 403),
    ],
)
def test_scopes_are_enforced_by_type_and_action(site, scope, method, path, status) -> None:
    site.configure(FEED)
    client = site.listen(FEED)
    token = {"Authorization": f"Bearer {site.provider.token(scope)}"}
    body = json.dumps(PATIENT).encode() if method != "DELETE" else b""
    answer = client.request(method, f"/{FEED}{path}", content=body, headers={**JSON, **token})
    assert answer.status_code == status


def test_every_entry_of_a_bundle_needs_its_own_scope(site) -> None:
    site.configure(FEED)
    client = site.listen(FEED)
    said = bundle("transaction", entry(PATIENT), entry(json.loads(observation()), "POST"))
    some = {"Authorization": f"Bearer {site.provider.token('system/Patient.u')}"}
    answer = client.post(f"/{FEED}/fhir", json=said, headers={**JSON, **some})
    assert answer.status_code == 403
    assert "system/Observation.c" in issue(answer)["diagnostics"]
    both = {"Authorization": f"Bearer {site.provider.token('system/Patient.u system/Observation.c')}"}
    assert client.post(f"/{FEED}/fhir", json=said, headers={**JSON, **both}).status_code == 202


def test_a_token_that_is_not_good_is_refused(site) -> None:
    site.configure(FEED)
    client = site.listen(FEED)
    give, scope = site.provider.token, "system/*.cud"
    stranger = ECKey.generate_key("P-256", {"kid": site.provider.key.kid, "alg": "ES256"})
    public = json.dumps(site.provider.key.as_dict(private=False)).encode()
    unsigned = ".".join(
        base64.urlsafe_b64encode(part).decode().rstrip("=")
        for part in (b'{"alg":"none"}', json.dumps({"iss": site.provider.issuer, "scope": scope}).encode(), b"")
    )
    bad = {
        "expired": give(scope, exp=1_700_000_000),
        "without expiry": give(scope, exp=None),
        "not yet": give(scope, nbf=4_000_000_000),
        "another issuer": give(scope, iss="https://elsewhere.example"),
        "another audience": give(scope, aud="account"),
        "an identity": give(scope, typ="ID"),
        "another key": give(scope, key=stranger),
        "the public key as a secret": give(scope, key=OctKey.import_key(public), header={"alg": "HS256"}),
        "unsigned": unsigned,
        "nonsense": "x.y.z",
    }
    for why, token in bad.items():
        answer = client.post(
            f"/{FEED}/fhir/Patient", json=PATIENT, headers={**JSON, "Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 401, why
        assert answer.headers["www-authenticate"].startswith("Bearer"), why
        assert token not in answer.text, why
    assert client.post(f"/{FEED}/fhir/Patient", json=PATIENT, headers=JSON).status_code == 401
    assert site.rows("select from ledger.segment") == []


def test_a_key_that_the_issuer_turned_is_fetched_and_a_stranger_does_not_make_us_ask_without_end(
    site, monkeypatch
) -> None:
    from tasks.listen import oidc

    monkeypatch.setattr(oidc, "ASK_SECONDS", 0.0)
    site.configure(FEED)
    client = site.listen(FEED)

    def status(token: str) -> int:
        head = {**JSON, "Authorization": f"Bearer {token}"}
        return client.post(f"/{FEED}/fhir/Patient", json=PATIENT, headers=head).status_code

    assert status(site.provider.token("system/*.c")) == 202
    site.provider.turn("second")
    assert status(site.provider.token("system/*.c")) == 202
    site.provider.away = True
    assert status(site.provider.token("system/*.c")) == 202, "known keys are good while the provider is away"
    monkeypatch.setattr(oidc, "ASK_SECONDS", 10.0)
    asked = site.provider.asked
    for _ in range(5):
        assert status("x.y.z") == 401
    assert site.provider.asked <= asked + 1


def test_without_the_issuers_keys_the_client_is_asked_to_come_again(site) -> None:
    site.provider.away = True
    site.configure(FEED)
    head = {**JSON, "Authorization": f"Bearer {site.provider.token('system/*.c')}"}
    answer = site.listen(FEED).post(f"/{FEED}/fhir/Patient", json=PATIENT, headers=head)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


def test_a_feed_may_name_its_clients(site) -> None:
    site.configure(FEED, ", clients: [eastside]")
    client = site.listen(FEED)
    for name, status in (("northside", 403), ("eastside", 202)):
        head = {**JSON, "Authorization": f"Bearer {site.provider.token('system/*.c', azp=name)}"}
        assert client.post(f"/{FEED}/fhir/Patient", json=PATIENT, headers=head).status_code == status


def test_a_client_that_asks_too_often_is_slowed_down_and_no_other(site) -> None:
    site.configure(FEED, ", per_minute: 12")
    client = site.listen(FEED)
    answers = []
    for name in ("a", "a", "a", "b"):
        head = {**JSON, "Authorization": f"Bearer {site.provider.token('system/*.c', azp=name)}"}
        answers.append(client.post(f"/{FEED}/fhir/Patient", json=PATIENT, headers=head))
    assert [answer.status_code for answer in answers] == [202, 202, 429, 202]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 5


def test_a_feed_that_says_nothing_of_tokens_does_not_start(site) -> None:
    (site.feeds / f"{FEED}.yaml").write_text("source: {kind: http}\nformat: fhir-bundle\n")
    with pytest.raises(ConfigError, match="issuer"):
        site.listen(FEED)


def test_health_metrics_and_the_openapi_page_need_no_token_and_tell_no_value(site, post) -> None:
    post.put(f"/{FEED}/fhir/Patient/p1", json=PATIENT, headers=JSON)
    del post.headers["Authorization"]
    assert post.get("/healthz").status_code == 200
    assert post.get("/readyz").status_code == 200
    metrics = post.get("/metrics").text
    assert f'sluice_received_total{{feed="{FEED}",via="http"}}' in metrics
    assert f'sluice_acknowledged_total{{code="202",feed="{FEED}"}}' in metrics
    assert "Okafor" not in metrics
    paths = post.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/{feed}/fhir",
        "/{feed}/fhir/$process-message",
        "/{feed}/fhir/{kind}",
        "/{feed}/fhir/{kind}/{ident}",
        "/{feed}/files",
    }


def test_a_method_that_is_not_taken_is_refused_with_all_that_are(site) -> None:
    site.configure(FEED)
    client = site.listen(FEED)
    for path, allowed in ((f"/{FEED}/fhir/Patient/1", "DELETE, PUT"), (f"/{FEED}/fhir", "POST"), ("/healthz", "GET")):
        answer = client.patch(path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == allowed
        assert answer.json()["resourceType"] == "OperationOutcome"
