"""Who may come in: assertions, secrets, tokens that end, scopes."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwk, jwt

from infra.dev.fhir import Auth
from infra.dev.fhir.auth import Rights, granted, read_auth

Json = dict[str, Any]
ASK = {"prefer": "respond-async", "accept": "application/fhir+json"}
KEYS = {
    "ES384": jwk.ECKey.generate_key("P-384", parameters={"kid": "one"}),
    "RS384": jwk.RSAKey.generate_key(2048, parameters={"kid": "two"}),
    "other": jwk.ECKey.generate_key("P-384", parameters={"kid": "one"}),
}


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def auth(**more: Any) -> Auth:
    keys = [KEYS["ES384"].as_dict(private=False), KEYS["RS384"].as_dict(private=False)]
    jwks = {"us": {"keys": keys}, "them": {"keys": [KEYS["other"].as_dict(private=False)]}}
    return Auth(jwks=jwks, secrets={"app": "s3"}, bearer=["b3"], basic={"user": "p3"}, **more)


def assertion(fhir: httpx.Client, key: str = "ES384", alg: str | None = None, **claims: Any) -> str:
    said = {
        "iss": "us",
        "sub": "us",
        "aud": f"{str(fhir.base_url).rstrip('/')}/auth/token",
        "exp": int(time.time()) + 240,
        "jti": str(uuid.uuid4()),
    }
    header = {"alg": alg or ("RS384" if key == "RS384" else "ES384"), "kid": KEYS[key].kid}
    return jwt.encode(header, said | claims, KEYS[key], algorithms=[header["alg"]])


def ask(fhir: httpx.Client, signed: str, **form: str) -> httpx.Response:
    asked = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signed,
    }
    return fhir.post("/auth/token", data=asked | form)


def bearer(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.mark.parametrize("key", ["ES384", "RS384"])
def test_a_signed_assertion_gives_a_token_that_ends(serve: Any, key: str) -> None:
    clock = Clock()
    fhir = serve(auth=auth(clock=clock, lifetime=60))
    answer = ask(fhir, assertion(fhir, key))
    assert answer.json()["expires_in"] == 60
    assert answer.headers["cache-control"] == "no-store"
    assert fhir.get("/Patient", headers=bearer(answer)).status_code == 200
    clock.ahead = 61
    refused = fhir.get("/Patient", headers=bearer(answer))
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert refused.json()["issue"][0]["code"] == "login"


def test_an_assertion_is_good_once(serve: Any) -> None:
    fhir = serve(auth=auth())
    signed = assertion(fhir)
    assert ask(fhir, signed).status_code == 200
    assert ask(fhir, signed).json()["error"] == "invalid_client"


def test_an_assertion_that_is_not_sound_is_refused(serve: Any) -> None:
    fhir = serve(auth=auth())
    now = int(time.time())
    bad = [
        assertion(fhir, "other"),
        assertion(fhir, iss="them"),
        assertion(fhir, iss="them", sub="them"),
        assertion(fhir, iss="nobody", sub="nobody"),
        assertion(fhir, sub="else"),
        assertion(fhir, aud="https://elsewhere/token"),
        assertion(fhir, exp=now - 60),
        assertion(fhir, exp=now + 3600),
        assertion(fhir, jti=None),
        assertion(fhir)[:-8] + "AAAAAAAA",
        assertion(fhir).rpartition(".")[0] + ".",
        "nonsense",
        "a.b.c",
        "e30.e30.e30",
    ]
    answers = [ask(fhir, signed) for signed in bad]
    assert [a.status_code in (400, 401) for a in answers] == [True] * len(bad)
    assert {a.json()["error"] for a in answers} == {"invalid_client"}


def test_nobody_comes_in_unknown_but_may_read_what_the_server_is(serve: Any) -> None:
    fhir = serve(auth=auth())
    for method, place in [
        ("GET", "/Patient"),
        ("GET", "/Patient/a"),
        ("GET", "/_history"),
        ("PUT", "/Patient/a"),
        ("DELETE", "/Patient/a"),
        ("POST", "/Patient"),
        ("POST", "/Patient/_search"),
        ("POST", "/"),
        ("GET", "/$export"),
        ("GET", f"/$export/{uuid.uuid4()}"),
        ("DELETE", f"/$export/{uuid.uuid4()}"),
        ("GET", f"/$export/{uuid.uuid4()}/Patient.001.ndjson"),
    ]:
        assert fhir.request(method, place).status_code == 401, place
        assert fhir.request(method, place, headers={"authorization": "Bearer no"}).status_code == 401, place
    assert fhir.get("/metadata").status_code == 200
    found = fhir.get("/.well-known/smart-configuration").json()
    assert found["token_endpoint"] == f"{str(fhir.base_url).rstrip('/')}/auth/token"
    assert found["token_endpoint_auth_signing_alg_values_supported"] == ["RS384", "ES384"]


def test_bearer_basic_and_secrets_are_other_ways_in(serve: Any) -> None:
    fhir = serve(auth=auth())
    assert fhir.get("/Patient", headers={"authorization": "Bearer b3"}).status_code == 200
    assert fhir.get("/Patient", auth=("user", "p3")).status_code == 200
    assert fhir.get("/Patient", auth=("user", "p4")).status_code == 401
    assert fhir.get("/Patient", headers={"authorization": "Basic ?"}).status_code == 401
    form = {"grant_type": "client_credentials"}
    by_header = fhir.post("/auth/token", data=form, auth=("app", "s3"))
    by_form = fhir.post("/auth/token", data=form | {"client_id": "app", "client_secret": "s3"})
    assert [fhir.get("/Patient", headers=bearer(a)).status_code for a in (by_header, by_form)] == [200, 200]
    assert fhir.post("/auth/token", data=form, auth=("app", "s4")).status_code == 401
    assert fhir.post("/auth/token", data={"grant_type": "password"}).json()["error"] == "unsupported_grant_type"


def test_scopes_say_what_a_token_may_do(serve: Any) -> None:
    fhir = serve(auth=auth())
    answer = ask(fhir, assertion(fhir), scope="system/Patient.rs system/Observation.cud openid")
    assert answer.json()["scope"] == "system/Patient.rs system/Observation.cud"
    token = bearer(answer)
    resource = {"resourceType": "Patient", "id": "a"}
    put = {"resource": resource, "request": {"method": "PUT", "url": "Patient/a"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [put]}
    assert fhir.get("/Patient", headers=token).status_code == 200
    assert fhir.put("/Patient/a", json=resource, headers=token).status_code == 403
    assert fhir.post("/", json=bundle, headers=token).status_code == 403
    assert fhir.get("/Observation", headers=token).status_code == 403
    assert fhir.get("/_history", headers=token).status_code == 403
    assert fhir.delete("/Observation/o", headers=token).status_code == 204
    assert ask(fhir, assertion(fhir), scope="openid").json()["error"] == "invalid_scope"


def test_an_export_holds_what_the_scopes_cover(serve: Any) -> None:
    fhir = serve(auth=auth())
    for kind in ("Patient", "Group"):
        body = {"resourceType": kind, "id": "x"} | ({"type": "person", "actual": True} if kind == "Group" else {})
        assert fhir.put(f"/{kind}/x", json=body, auth=("user", "p3")).status_code == 201
    token = bearer(ask(fhir, assertion(fhir), scope="system/Patient.read"))
    assert fhir.get("/$export?_type=Group", headers=ASK | token).status_code == 403
    status = fhir.get("/$export", headers=ASK | token).headers["content-location"]
    while (answer := fhir.get(status, headers=token)).status_code == 202:
        pass
    assert answer.json()["requiresAccessToken"] is True
    assert [file["type"] for file in answer.json()["output"]] == ["Patient"]
    assert fhir.get(answer.json()["output"][0]["url"]).status_code == 401


@pytest.mark.parametrize(
    ("scope", "kind", "letters"),
    [
        ("system/*.read", "Patient", "rs"),
        ("system/*.write", "Patient", "cud"),
        ("system/*.*", "Patient", "cruds"),
        ("system/Patient.rs", "Patient", "rs"),
        ("system/Patient.rs", "Group", ""),
        ("system/Patient.sr", "Patient", ""),
        ("user/*.read", "Patient", ""),
        ("system/Patient.", "Patient", ""),
    ],
)
def test_scopes_are_read_as_smart_writes_them(scope: str, kind: str, letters: str) -> None:
    assert "".join(x for x in "cruds" if Rights((scope,)).allow(kind, x)) == letters


def test_a_scope_is_granted_only_where_it_is_covered_wholly() -> None:
    assert granted("system/Patient.rs system/Group.cruds", "system/*.read") == ("system/Patient.rs",)
    assert granted("system/*.read", "system/Patient.read") == ()


def test_a_file_says_who_may_come_in(tmp_path: Path) -> None:
    place = tmp_path / "auth.json"
    place.write_text(json.dumps({"bearer": ["b3"], "lifetime": 5}))
    assert read_auth(place) == Auth(bearer=["b3"], lifetime=5)
    place.write_text('{"bearers": []}')
    with pytest.raises(Exception, match="not a JSON object with"):
        read_auth(place)
