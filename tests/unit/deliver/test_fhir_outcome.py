"""What answers mean, and what of them is kept."""

from __future__ import annotations

import pytest

from tasks.deliver.fhir_limits import Breaker, BundleSize
from tasks.deliver.fhir_order import Entry
from tasks.deliver.fhir_outcome import about_size, finding, remote_id, same, suspects, verdict, version
from tasks.deliver.port import Item

ENTRY = Entry(Item("Patient", "p", 1, {}), "Patient/p", b"x" * 10, (), "Patient/p")
GONE = Entry(Item("Patient", "p", 1, None), "Patient/p", b"", (), "Patient/p")


def outcome(code="value", *places, severity="error", text="1953-02-01 is secret"):
    issue = {"severity": severity, "code": code, "diagnostics": text, "expression": list(places)}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


@pytest.mark.parametrize(
    ("said", "location"),
    [
        ("Patient.birthDate", "Patient.birthDate"),
        ("Patient.name[0].where(use='SECRET').family", "Patient.name[0]"),
        ("Bundle.entry[3].resource.name[1].given", "Patient.name[1].given"),
        ("Bundle.entry[3].resource.ofType(Patient).name", "Patient.name"),
        ("Bundle.entry[3]", "Patient"),
        ("Bundle.entry[3].resource/*Patient/p*/.telecom[2].use", "Patient.telecom[2].use"),
        ("Line[1] Col[1965]", "Patient"),
        ("birthDate = '1953-02-01'", "Patient.birthDate"),
        ("'SECRET'", "Patient"),
        ("/f:Patient/f:name", "Patient"),
    ],
)
def test_a_finding_holds_the_code_and_the_element_and_no_text(said, location):
    assert (finding(outcome("value", said), ENTRY, "422").location) == location


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "HAPI-1094: Resource Patient/SECRET not found, specified in path: Patient.link.other.where(resolve() is X)",
            ("hapi-1094", "Patient.link.other"),
        ),
        (
            'HAPI-0450: Failed to parse request body. Error was: HAPI-1821: [element="gender"] Invalid value "SECRET"',
            ("hapi-1821", "Patient.gender"),
        ),
        ("HAPI-0960: Can not create resource with ID[123], no resource with this ID exists", ("hapi-0960", "Patient")),
        ("the name is HAPI-0960", ("processing", "Patient")),
    ],
)
def test_what_hapi_says_in_words_is_kept_as_its_number_and_the_element(text, expected):
    found = finding(outcome("processing", text=text), ENTRY, "400")
    assert (found.code, found.location) == expected


def test_the_validators_own_name_of_a_message_is_the_code():
    body = outcome("processing", "Patient.telecom[2].use")
    coding = {"system": "http://hl7.org/fhir/java-core-messageId", "code": "Terminology_TX_Code_ValueSet_MISSING"}
    body["issue"][0]["details"] = {"coding": [{"system": "urn:partner", "code": "SECRET"}, coding]}
    assert finding(body, ENTRY, "422").code == "terminology-tx-code-valueset-missing"


def test_a_code_that_is_none_becomes_the_status():
    assert finding(outcome("Value 1953!"), ENTRY, "422").code == "http-422"
    assert finding({}, ENTRY, "400").code == "http-400"


def test_the_entries_that_an_outcome_names_are_suspects_and_warnings_are_not():
    assert suspects(outcome("value", "Bundle.entry[3].resource.x", "Bundle.entry[12]")) == {3, 12}
    assert suspects(outcome("value", "Bundle.entry[3]", severity="warning")) == set()


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (400, "Transaction contains more than 50 entries", "entries"),
        (400, "The number of entries in the bundle exceeds the configured limit of 500", "entries"),
        (400, "Request payload is too large", "entries"),
        (400, "birthDate is not a date", ""),
        (413, "Request payload is too large", "bytes"),
        (413, "Transaction Bundle Too large.  Transaction bundle contains 100 which exceedes 40", "entries"),
    ],
)
def test_a_refusal_for_size_is_told_from_others(status, text, expected):
    assert about_size(status, outcome("invalid", text=text), 100) == expected


def test_a_status_or_a_code_may_be_all_that_says_that_it_is_about_size():
    assert about_size(413, {}, 100) == "bytes"
    assert about_size(422, outcome("too-costly", text=""), 100) == "entries"


@pytest.mark.parametrize(
    ("entry", "status", "body", "expected"),
    [
        (ENTRY, 200, None, "sent"),
        (ENTRY, 201, outcome(severity="warning"), "sent"),
        (ENTRY, 200, outcome(), "refused"),
        (ENTRY, 304, None, "unchanged"),
        (ENTRY, 400, None, "refused"),
        (ENTRY, 404, None, "refused"),
        (GONE, 404, None, "unchanged"),
        (GONE, 410, None, "unchanged"),
        (GONE, 204, None, "sent"),
        (ENTRY, 429, None, "retry"),
        (ENTRY, 503, None, "retry"),
        (ENTRY, 401, None, "retry"),
    ],
)
def test_every_status_of_an_entry_has_one_meaning(entry, status, body, expected):
    assert verdict(entry, status, body).status == expected


@pytest.mark.parametrize("how", ["UPDATE_NO_CHANGE", "UPDATE_WITH_CONDITIONAL_MATCH_NO_CHANGE"])
def test_an_update_that_changed_nothing_is_told_as_unchanged(how):
    system = "https://hapifhir.io/fhir/CodeSystem/hapi-fhir-storage-response-code"
    said = outcome("informational", severity="information")
    said["issue"][0]["details"] = {"coding": [{"system": system, "code": f"SUCCESSFUL_{how}"}]}
    told = verdict(ENTRY, 200, said, "3", "Patient/7/_history/3")
    assert (told.status, told.code, told.remote_id, told.remote_version) == ("unchanged", "200", "7", "3")


@pytest.mark.parametrize("status", [0, 409, 412])
def test_a_conflict_and_no_status_at_all_want_another_look(status):
    assert verdict(ENTRY, status, None) is None


def test_ids_and_versions_are_read_from_locations_and_etags():
    assert remote_id("http://h/fhir/Patient/12/_history/3") == "12"
    assert remote_id("") is None
    assert version('W/"3"', "") == "3"
    assert version("", "Patient/12/_history/4") == "4"


def test_what_a_server_adds_does_not_make_a_resource_another():
    sent = {"resourceType": "Patient", "id": "p", "meta": {"tag": [1]}, "active": True}
    kept = {**sent, "meta": {"tag": [1], "versionId": "2", "lastUpdated": "x"}}
    assert same(sent, kept)
    assert not same(sent, {**kept, "active": False})
    assert same({"id": "p"}, {"id": "q", "meta": {"versionId": "1"}})


def test_one_giant_does_not_shrink_the_number_of_entries():
    size = BundleSize(100, 10_000_000)
    giant = Entry(ENTRY.item, "Patient/g", b"x" * 1000, (), "Patient/g")
    size.refused([giant, *[ENTRY] * 9], by_bytes=True)
    assert (size.entries, size.size) == (100, 545)
    size.refused([ENTRY] * 10, by_bytes=True)
    assert (size.entries, size.size) == (5, 50)


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_try(monkeypatch):
    from tasks.deliver import fhir_limits

    now = [100.0]
    monkeypatch.setattr(fhir_limits.time, "monotonic", lambda: now[0])
    breaker = Breaker(most=3, cooldown=10, longest=40)
    for _ in range(2):
        breaker.failed()
    breaker.worked()
    for _ in range(2):
        breaker.failed()
    assert breaker.pause() == 0
    breaker.failed()
    assert breaker.pause() == 10
    now[0] += 10
    assert breaker.left() == 0
    assert breaker.pause() == 0
    assert breaker.pause() > 0
    breaker.failed()
    assert breaker.pause() == 20
    now[0] += 20
    assert breaker.pause() == 0
    breaker.worked()
    assert (breaker.pause(), breaker.pause()) == (0, 0)
