"""The bulk export as a feed's source, against a server on a real socket."""

from __future__ import annotations

import json
from itertools import count

import pytest

from tasks.errors import ConfigError, Permanent, Transient
from tasks.http_auth import read_auth
from tasks.source.fhir_bulk import BulkOptions, FhirBulkSource


class State:
    """What the ledger keeps for a source, in memory; it outlives the source."""

    def __init__(self) -> None:
        self.kept: dict = {}
        self.have: set[tuple[str, str]] = set()

    def sighted(self, name, version):
        return 1

    def landed(self, name, version):
        return (name, version) in self.have

    def cursor(self):
        return json.loads(json.dumps(self.kept))

    def save(self, cursor):
        self.kept = json.loads(json.dumps(dict(cursor)))


@pytest.fixture
def source(server):
    made = []

    def make(connection=None, **options):
        given = {"kind": "fhir-bulk", "base_url": server.url, "backoff": 0.01, "interval": 0.01, **options}
        made.append(FhirBulkSource(BulkOptions(**given), connection or {}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def state():
    return State()


def run(source, state, stop_after=None):
    """Poll and land as a flow does; stopping after some files is a crash."""
    got = {}
    for offer in source.poll(state):
        if len(got) == stop_after:
            return got
        got[offer.name] = b"".join(source.read(offer))
        state.have.add((offer.name, offer.version))
        source.finish(offer, state)
    source.done(state)
    return got


def patient(n):
    return {"resourceType": "Patient", "id": f"p{n}"}


def test_every_file_is_an_offer_and_since_moves_on_when_all_are_landed(server, source, state):
    server.put("Patient.a", [patient(1)])
    server.put("Patient.b", [patient(2)])
    server.put("Bundle.d", [{"resourceType": "Bundle", "type": "transaction"}], kind="deleted")
    got = run(source(), state)
    assert set(got) == {
        "20240501T100000Z/Patient.000.ndjson",
        "20240501T100000Z/Patient.001.ndjson",
        "20240501T100000Z/deleted/Bundle.000.ndjson",
    }
    assert got["20240501T100000Z/Patient.001.ndjson"] == server.files["Patient.b"].body
    assert state.kept == {"since": "2024-05-01T10:00:00Z"}
    assert server.jobs == {}
    server.transaction_time = "2024-05-02T10:00:00Z"
    assert set(run(source(), state)) & set(got) == set()
    assert [seen.query.get("_since") for seen in server.asked("/$export")] == [None, ["2024-05-01T10:00:00Z"]]


def test_a_crash_between_files_goes_on_with_the_same_job_and_the_files_left(server, source, state):
    server.put("Patient.a", [patient(1)])
    server.put("Patient.b", [patient(2)])
    first = run(source(), state, stop_after=1)
    assert "since" not in state.kept
    second = run(source(), state)
    assert len(server.asked("/$export")) == 1
    assert not set(first) & set(second)
    assert state.kept["since"] == server.transaction_time


def test_a_job_that_is_not_complete_yet_is_left_to_the_next_poll(server, source, state, reply):
    server.put("Patient.a", [patient(1)])
    server.script["/status/job1"] = [reply(202, {"Retry-After": "60"})]
    assert run(source(), state) == {}
    assert "since" not in state.kept
    assert len(run(source(), state)) == 1
    assert len(server.asked("/$export")) == 1


def test_reading_goes_on_from_an_offset(server, source, state):
    server.put("Patient.a", [patient(n) for n in range(100)])
    whole = source()
    (offer,) = whole.poll(state)
    assert b"".join(whole.read(offer, 1000)) == server.files["Patient.a"].body[1000:]


def test_an_expired_file_begins_a_new_export_at_the_next_poll(server, source, state):
    server.put("Patient.a", [patient(1)])
    server.gone.add("/files/job1/Patient.a")
    with pytest.raises(Transient, match="begins a new export"):
        run(source(), state)
    assert len(run(source(), state)) == 1
    assert len(server.asked("/$export")) == 2


def test_a_signed_address_whose_time_is_up_is_asked_for_again_at_the_next_poll(server, source, state):
    server.put("Patient.a", [patient(1)])
    server.put("Patient.b", [patient(2)])
    server.signature = 1
    server.before_file = lambda name: setattr(server, "signature", 2) if name == "Patient.a" else None
    with pytest.raises(Transient, match="asks for its address again"):
        run(source(), state)
    assert set(run(source(), state)) == {"20240501T100000Z/Patient.001.ndjson"}
    assert state.kept == {"since": server.transaction_time}
    assert len(server.asked("/$export")) == 1


def test_a_file_that_is_gone_at_its_new_address_too_begins_a_new_export(server, source, state):
    server.put("Patient.a", [patient(1)])
    server.gone.add("/files/job1/Patient.a")
    server.signature, numbers = 0, count(1)
    server.before_status = lambda: setattr(server, "signature", next(numbers))
    for _ in range(2):
        with pytest.raises(Transient):
            run(source(), state)
    assert len(run(source(), state)) == 1
    assert len(server.asked("/$export")) == 2
    assert server.jobs == {}


def test_a_partial_export_is_told_and_since_stays(server, source, state):
    server.put("Patient.a", [patient(1)])
    issue = {"severity": "error", "code": "exception", "diagnostics": "SECRET"}
    server.put("OperationOutcome.e", [{"resourceType": "OperationOutcome", "issue": [issue]}], kind="error")
    with pytest.raises(Permanent, match="partial") as raised:
        run(source(), state)
    assert "SECRET" not in str(raised.value)
    assert state.kept == {}
    del server.files["OperationOutcome.e"]
    server.files["Patient.a"].count = 2
    server.transaction_time = "2024-05-03T10:00:00Z"
    with pytest.raises(Permanent, match="fewer"):
        run(source(), state)
    server.files["Patient.a"].count = 1
    server.transaction_time = "2024-05-04T10:00:00Z"
    run(source(), state)
    assert state.kept == {"since": "2024-05-04T10:00:00Z"}


def test_warnings_of_the_server_do_not_hold_since(server, source, state):
    issue = {"severity": "warning", "code": "informational"}
    server.put("OperationOutcome.e", [{"resourceType": "OperationOutcome", "issue": [issue]}], kind="error")
    run(source(), state)
    assert state.kept == {"since": server.transaction_time}


def test_an_export_of_nothing_moves_since_on(server, source, state):
    assert run(source(), state) == {}
    assert state.kept == {"since": server.transaction_time}


def test_a_server_that_names_no_time_gives_names_that_do_not_repeat(server, source, state):
    server.put("Patient.a", [patient(1)])
    server.transaction_time = ""
    first = run(source(), state)
    assert state.kept == {}
    assert not set(run(source(), state)) & set(first)


def test_a_secured_server_is_read_with_the_connection_values(server, smart_file, source, state):
    server.put("Patient.a", [patient(1)])
    held = json.loads(smart_file.read_text())
    values = {**held, "private_key_jwk": json.dumps(held["private_key_jwk"]), "base_url": server.url}
    assert len(run(source(values, base_url=None), state)) == 1
    assert read_auth(smart_file).type == "smart-backend"


def test_a_source_without_an_address_is_a_mistake(source):
    with pytest.raises(ConfigError, match="base_url"):
        source(base_url=None)
