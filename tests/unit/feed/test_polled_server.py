"""Mistakes in the feed of a FHIR server that is polled, each explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.feed_check import check_feed

GOOD = "source: {kind: fhir-rest, base_url: 'https://ehr.example.org/r4', types: [Patient]%s}\nformat: fhir-bundle\n"


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("feeds", "destinations"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path / "feeds"))
    monkeypatch.setenv("SLUICE_DESTINATIONS", str(tmp_path / "destinations"))
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path / "home"))
    ehr = {"base_url": "https://ehr.example.org/r4/"}
    monkeypatch.setenv("SLUICE_CONNECTION_EHR", json.dumps(ehr))

    def run(source: str = "", rest: str = "", text: str = "", destination: str = "") -> list[str]:
        if destination:
            (tmp_path / "destinations" / "ehr.yaml").write_text(destination)
        (tmp_path / "feeds" / "ward.fhir.yaml").write_text(text or GOOD % source + rest)
        return check_feed("ward.fhir")

    return run


def test_a_good_feed_has_no_mistake(check) -> None:
    assert check() == []
    there = "endpoint: 'https://sluice.example.org/ward.fhir/notify'"
    assert check(f", subscribe: {{{there}}}", "schedule: {every: 1h}\n") == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (", types: [patient]", "patient is no FHIR resource type"),
        (", types: [Pateint]", "Pateint is no resource type of FHIR 4.0.1 (did you mean Patient?)"),
        (", types: []", "at least 1 item"),
        (", types: [Patient, Patient]", "stands there twice"),
        (", search: {Observation: 'code=1'}", "`search` has Observation, and `types` has not"),
        (", search: {Patient: '_count=5'}", "_count is set by the poll itself"),
        (", include: [Patient]", "an include is Type:parameter"),
        (", include: ['Observation:subject']", "`include` has Observation"),
        (", since: '2026-01-01T00:00:00'", "with an offset"),
        (", overlap: 5 minutes", "a duration is a number and one of s, m, h, d"),
        (", peer: nobody", "nobody is not a destination"),
        (", copies: taek, peer: ehr", "`ignore` or `take` is needed"),
        (", copies: take", "needs `peer`"),
        (", subscribe: {endpoint: 'https://x/ward.fhir/notify'}", "needs a `schedule:`"),
        (", subscribe: {endpoint: 'x'}", "not an http(s) URL"),
        (", subscribe: {endpoint: 'https://x/other/notify'}", "…/ward.fhir/notify"),
        (", subscribe: {endpoint: 'https://x/ward.fhir/notify', form: topic}", "needs `topic`"),
        (", subscribe: {endpoint: 'https://x/ward.fhir/notify', content: id-only}", "the whole resource"),
        (", polls: 5", "`polls` is not a key here"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_to_write(check, source: str, said: str) -> None:
    head = GOOD.replace(", types: [Patient]", "") if ", types:" in source else GOOD
    rest = "" if "needs a `schedule" in said else "schedule: {every: 1h}\n"
    problems = check(text=head % source + rest, destination="kind: fhir\nbase_url: 'https://other.example.org'\n")
    assert any(said in problem for problem in problems), problems
    assert all(problem.startswith("ward.fhir.yaml") for problem in problems)


def test_another_format_than_bundles_is_told(check) -> None:
    (problem,) = check(text=GOOD.replace("fhir-bundle", "fhir-ndjson") % "")
    assert "write `format: fhir-bundle`" in problem
    assert problem.startswith("ward.fhir.yaml:2")


def test_a_destination_that_is_the_same_server_has_to_be_named(check) -> None:
    (problem,) = check(destination="kind: fhir\nconnection: ehr\n")
    assert "write `peer: ehr`" in problem
    assert check(", peer: ehr") == []


def test_a_peer_at_another_address_is_told(check) -> None:
    (problem,) = check(", peer: ehr", destination="kind: fhir\nbase_url: 'https://other.example.org'\n")
    assert "another address" in problem
