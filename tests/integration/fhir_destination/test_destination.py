"""The FHIR destination against a server that misbehaves, on real sockets."""

from __future__ import annotations

import json
from collections import Counter
from email.utils import formatdate
from time import monotonic, time

import pytest

from tasks.deliver.port import Item
from tasks.errors import ConfigError, Transient


def item(resource_type: str, id_: str, **content) -> Item:
    return Item(resource_type, id_, 1, {"resourceType": resource_type, "id": id_, **content})


def gone(resource_type: str, id_: str) -> Item:
    return Item(resource_type, id_, 2, None)


def to(key: str) -> dict:
    return {"reference": key}


def send(destination, items) -> dict[str, str]:
    outcomes = list(destination.send(items))
    assert sorted(f"{o.item.resource_type}/{o.item.id}" for o in outcomes) == sorted(
        f"{i.resource_type}/{i.id}" for i in items
    )
    return {f"{o.item.resource_type}/{o.item.id}": o.status for o in outcomes}


def findings(destination, items) -> set[tuple]:
    found = destination.send(items)
    return {(o.status, o.code, o.finding.code, o.finding.location) for o in found if o.finding}


def patients(count: int) -> list[Item]:
    return [item("Patient", f"p{n}") for n in range(count)]


def test_what_others_refer_to_goes_first_and_an_id_stands_once_in_a_bundle(stub, destination):
    stub.integrity = True
    items = [
        item("Observation", "o", subject=to("Patient/p"), performer=[to("Practitioner/d")]),
        item("Encounter", "e", subject=to("Patient/p"), serviceProvider=to("Organization/h")),
        item("Patient", "p", managingOrganization=to("Organization/h")),
        item("Practitioner", "d"),
        item("Organization", "h"),
    ]
    assert set(send(destination(max_entries=2), items).values()) == {"sent"}
    at = {key: n for n, key in enumerate(stub.order)}
    assert at["Organization/h"] < at["Patient/p"] < min(at["Observation/o"], at["Encounter/e"])
    assert all(len(urls) == len(set(urls)) for urls in stub.bundles)


def test_a_cycle_goes_in_one_bundle(stub, destination):
    stub.integrity = True
    around = [item("Encounter", "e", diagnosis=[{"condition": to("Condition/c")}])]
    around.append(item("Condition", "c", encounter=to("Encounter/e")))
    assert send(destination(), around) == {"Encounter/e": "sent", "Condition/c": "sent"}
    assert sorted(stub.bundles[0]) == ["Condition/c", "Encounter/e"]


def test_cycles_stay_whole_at_the_ends_of_bundles_and_when_a_bundle_is_divided(stub, destination, refused):
    def judge(resource):
        if resource["id"] == "s40":
            raise refused(422, "value", "Specimen.type")

    stub.integrity, stub.judge, stub.max_entries = True, judge, 25
    orders = [item("ServiceRequest", f"r{n}", specimen=[to(f"Specimen/s{n}")]) for n in range(50)]
    tubes = [item("Specimen", f"s{n}", request=[to(f"ServiceRequest/r{n}")]) for n in range(50)]
    found = send(destination(parallel=1, max_entries=75), [*orders, *tubes])
    assert {key for key, status in found.items() if status != "sent"} == {"ServiceRequest/r40", "Specimen/s40"}
    assert set(stub.writes.values()) == {1}


def test_deletions_go_last_and_what_is_gone_already_is_unchanged(stub, destination):
    stub.store = {key: {"meta": {"versionId": "1"}} for key in ("Patient/p", "Observation/o")}
    items = [gone("Patient", "p"), gone("Observation", "o"), gone("Patient", "never"), item("Patient", "new")]
    assert send(destination(), items) == {
        "Patient/p": "sent",
        "Observation/o": "sent",
        "Patient/never": "unchanged",
        "Patient/new": "sent",
    }
    urls = [url for bundle in stub.bundles for url in bundle]
    assert urls.index("Patient/new") < urls.index("Observation/o") < urls.index("Patient/p")


@pytest.mark.parametrize("bundle", ["transaction", "batch", "none"])
def test_what_is_referred_to_yet_is_deleted_later(stub, destination, bundle):
    stub.store = {"Patient/p": {"meta": {"versionId": "1"}}, "Patient/q": {"meta": {"versionId": "1"}}}
    stub.store["Specimen/s"] = {"subject": to("Patient/p"), "meta": {"versionId": "1"}}
    stub.integrity = True
    where = destination(bundle=bundle)
    assert send(where, [gone("Patient", "p"), gone("Patient", "q")]) == {"Patient/p": "retry", "Patient/q": "sent"}
    assert send(where, [gone("Specimen", "s"), gone("Patient", "p")]) == {"Specimen/s": "sent", "Patient/p": "sent"}
    assert stub.store == {}


@pytest.mark.parametrize("bundle", ["transaction", "batch", "none"])
def test_one_bad_resource_stops_itself_alone_in_every_mode(stub, destination, refused, bundle):
    def judge(resource):
        if resource["id"] == "p37":
            raise refused(422, "value", "Patient.birthDate")

    stub.judge = judge
    outcomes = list(destination(bundle=bundle).send(patients(100)))
    bad = [outcome for outcome in outcomes if outcome.status != "sent"]
    assert [(o.item.id, o.status, o.code) for o in bad] == [("p37", "refused", "422")]
    assert (bad[0].finding.code, bad[0].finding.location) == ("value", "Patient.birthDate")
    assert "1953" not in repr(outcomes)
    assert len(stub.store) == 99
    assert set(stub.writes.values()) == {1}


def test_an_entry_that_the_outcome_names_is_isolated_with_three_requests(stub, destination, refused):
    def judge(resource):
        if resource["id"] == "p5":
            raise refused(400, "invalid", "Bundle.entry[5].resource.name[0].where(family='Secret')")

    stub.judge = judge
    assert findings(destination(parallel=1), patients(64)) == {("refused", "400", "invalid", "Patient.name[0]")}
    assert len(stub.requests) == 3


def test_the_size_of_bundles_is_found_by_halving_and_kept(stub, destination):
    stub.max_entries = 10
    where = destination(parallel=1)
    assert set(send(where, patients(100)).values()) == {"sent"}
    assert max(map(len, stub.bundles)) <= 10
    before = len(stub.requests)
    send(where, patients(60))
    assert max(map(len, stub.bundles)) <= 10
    assert len(stub.requests) - before == 10


def test_a_413_about_the_number_of_entries_says_nothing_about_their_bytes(stub, destination):
    stub.max_entries, stub.counts_with_413 = 40, True
    where = destination(parallel=1)
    send(where, patients(100))
    before = len(stub.requests)
    send(where, [item("Patient", f"long{n}", text={"div": "x" * 2000}) for n in range(50)])
    assert len(stub.requests) - before == 2


def test_a_413_halves_the_bytes_and_one_that_is_too_large_alone_is_refused(stub, destination):
    stub.max_bytes = 20_000
    items = [item("Patient", f"p{n}", text={"div": "x" * 1000}) for n in range(50)]
    items.append(item("Patient", "giant", text={"div": "x" * 30_000}))
    outcomes = Counter(send(destination(parallel=1), items).values())
    assert outcomes == {"sent": 50, "refused": 1}


@pytest.mark.parametrize(
    "wait",
    ["0", "soon", str(int(time() * 1000)), formatdate(0, usegmt=True)],
    ids=["seconds", "nonsense", "epoch milliseconds", "date"],
)
def test_too_many_requests_slow_the_writers_down_and_nothing_is_lost(stub, destination, reply, wait):
    stub.script = [reply(429, {"Retry-After": wait}), reply(503, {"Retry-After": wait})]
    assert set(send(destination(max_entries=10), patients(100)).values()) == {"sent"}
    assert set(stub.writes.values()) == {1}


def test_a_long_retry_after_is_handed_on(stub, destination, reply):
    stub.script = [reply(503, {"Retry-After": "90"})]
    (outcome,) = destination().send(patients(1))
    assert (outcome.status, outcome.code, outcome.retry_after) == ("retry", "503", 90)


def test_a_bad_gateway_with_html_is_tried_again(stub, destination, reply):
    stub.script = [reply(502, {"Content-Type": "text/html"}, b"<html>1953</html>")]
    assert send(destination(), patients(3)) == {"Patient/p0": "sent", "Patient/p1": "sent", "Patient/p2": "sent"}


def test_200_with_an_operation_outcome_inside_is_a_refusal(stub, destination, reply):
    body = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "business-rule"}]}
    stub.script = [reply(200, {}, json.dumps(body).encode())]
    assert findings(destination(bundle="none", parallel=1), patients(1)) == {
        ("refused", "200", "business-rule", "Patient")
    }
    stub.script = [reply(200, {}, json.dumps(body).encode())]
    assert set(send(destination(), patients(4)).values()) == {"sent"}


def test_an_answer_lost_after_the_commit_is_resolved_by_reading_back(stub, destination, reply):
    stub.script = [reply(drop=True, commit=True)]
    outcomes = list(destination().send(patients(5)))
    assert {(o.status, o.code) for o in outcomes} == {("sent", "read-back")}
    assert set(stub.writes.values()) == {1}


def test_an_answer_lost_before_the_commit_is_told_as_not_sent(stub, destination, reply):
    stub.script = [reply(drop=True)]
    assert set(send(destination(), patients(5)).values()) == {"retry"}
    assert set(send(destination(), patients(5)).values()) == {"sent"}


def test_an_answer_that_trickles_is_given_up_and_read_back(stub, destination, reply):
    stub.script = [reply(commit=True, trickle=0.05)]
    began = monotonic()
    outcomes = list(destination(timeout=1.0).send(patients(5)))
    assert {(o.status, o.code) for o in outcomes} == {("sent", "read-back")}
    assert monotonic() - began < 30
    assert set(stub.writes.values()) == {1}


def test_a_transaction_that_meets_another_writer_is_sent_again_whole(stub, destination, reply):
    stub.script = [reply(409), reply(409)]
    assert set(send(destination(parallel=1), patients(40)).values()) == {"sent"}
    assert len(stub.requests) == 3
    stub.script = [reply(409)] * 8
    assert set(send(destination(parallel=1), patients(40)).values()) <= {"sent", "unchanged"}


def test_a_server_that_commits_late_is_looked_at_again_before_anything_is_sent_twice(stub, destination, reply):
    stub.script = [reply(drop=True)]
    late = [item("Patient", "late")]
    real = stub.answer

    def answer(method, path, body):
        if method == "GET" and len(stub.requests) == 2:
            stub.store["Patient/late"] = {**late[0].resource, "meta": {"versionId": "1"}}
        return real(method, path, body)

    stub.answer = answer
    outcomes = list(destination().send(late))
    assert [(o.status, o.code) for o in outcomes] == [("sent", "read-back")]
    assert stub.writes == {}


def test_references_by_search_become_references_to_what_they_find(stub, destination):
    stub.integrity = True
    npi = "http://hl7.org/fhir/sid/us-npi"
    stub.store["Organization/there"] = {
        "resourceType": "Organization", "id": "there", "meta": {"versionId": "1"},
        "identifier": [{"system": npi, "value": "77"}],
    }  # fmt: skip
    items = [
        item("Encounter", "e", serviceProvider=to(f"Organization?identifier={npi}|77"), subject=to("Patient/p"),
             participant=[{"individual": to(f"Practitioner?identifier={npi}%7C9")}]),
        item("Practitioner", "d", identifier=[{"system": npi, "value": "9"}]),
        item("Patient", "p", managingOrganization=to(f"Organization?identifier={npi}|unknown")),
    ]  # fmt: skip
    assert set(send(destination(bundle="batch"), items).values()) == {"sent"}
    assert stub.store["Encounter/e"]["serviceProvider"] == to("Organization/there")
    assert stub.store["Encounter/e"]["participant"] == [{"individual": to("Practitioner/d")}]
    assert stub.store["Patient/p"]["managingOrganization"] == to(f"Organization?identifier={npi}|unknown")
    assert stub.order.index("Practitioner/d") < stub.order.index("Encounter/e")


def test_what_the_server_knows_by_an_identifier_of_its_own_is_updated_there(stub, destination):
    stub.integrity = True
    mrn = "urn:oid:1.2.3"
    stub.store["Patient/theirs"] = {
        "resourceType": "Patient", "id": "theirs", "meta": {"versionId": "3"},
        "identifier": [{"system": mrn, "value": "100482"}],
    }  # fmt: skip
    items = [
        item("Patient", "p", identifier=[{"system": mrn, "value": "100482"}], active=True),
        item("Patient", "unnumbered", active=True),
        item("Observation", "o", subject=to("Patient/p")),
    ]
    outcomes = {o.item.id: o for o in destination(match={"Patient": mrn}).send(items)}
    assert {o.status for o in outcomes.values()} == {"sent"}
    assert outcomes["p"].remote_id == "theirs"
    assert stub.store["Patient/theirs"]["identifier"] == [{"system": mrn, "value": "100482"}]
    assert stub.store["Observation/o"]["subject"] == to("Patient/theirs")
    assert outcomes["unnumbered"].remote_id != "unnumbered"


def test_what_was_never_sent_from_here_is_deleted_and_referred_to_by_the_identifier_that_it_had(stub, destination):
    mrn = "urn:oid:1.2.3"
    known = {key: [{"system": mrn, "value": key}] for key in ("100482", "200")}
    for key, value in known.items():
        stub.store[f"Patient/theirs-{key}"] = {
            "resourceType": "Patient", "id": f"theirs-{key}", "meta": {"versionId": "3"}, "identifier": value,
        }  # fmt: skip

    class Said:
        def last(self, keys):
            said = {"Patient/gone": known["100482"], "Patient/p": known["200"]}
            return {key: {"resourceType": "Patient", "identifier": said[key]} for key in keys}

    where = destination(match={"Patient": mrn})
    where.use(Said())
    send(where, [gone("Patient", "gone"), item("Observation", "o", subject=to("Patient/p"))])
    assert not {"Patient/gone", "Patient/theirs-100482"} & stub.store.keys()
    assert "Patient/theirs-200" in stub.store
    assert stub.store["Observation/o"]["subject"] == to("Patient/theirs-200")


def test_an_id_that_the_server_does_not_know_any_more_is_asked_for_anew(stub, destination, refused):
    where = destination(ids="server")
    where.remember({"Patient/p": "lost"})
    real = stub._write

    def write(method, url, *rest):
        if url == "Patient/lost":
            raise refused(405, "not-supported")
        return real(method, url, *rest)

    stub._write = write
    (outcome,) = where.send([item("Patient", "p")])
    assert outcome.status == "sent"
    assert outcome.remote_id.startswith("remote-")


def test_a_rate_limit_is_kept_to_and_everything_arrives(stub, destination, reply):
    real, times = stub.answer, []

    def answer(method, path, body):
        now = monotonic()
        if len([one for one in times if now - one < 0.2]) >= 4:
            return reply(429, {"Retry-After": "0.2"})
        times.append(now)
        return real(method, path, body)

    stub.answer = answer
    where = destination(max_entries=5, attempts=10)
    assert set(send(where, patients(150)).values()) == {"sent"}
    assert set(stub.writes.values()) == {1}


def test_a_success_page_of_a_proxy_is_not_believed(stub, destination, reply):
    stub.script = [reply(200, {"Content-Type": "text/html"}, b"<html>welcome</html>")]
    assert set(send(destination(), patients(2)).values()) == {"retry"}


def test_a_conflict_is_resolved_by_reading_again(stub, destination):
    stub.conflicts = {"Patient/p1": 2}
    assert set(send(destination(bundle="batch"), patients(3)).values()) == {"sent"}
    stub.conflicts = {"Patient/p1": 2}
    changed = [item("Patient", f"p{n}", active=False) for n in range(3)]
    assert set(send(destination(), changed).values()) == {"sent"}
    assert stub.store["Patient/p1"]["active"] is False


def test_a_storm_of_conflicts_ends_in_a_later_try(stub, destination):
    stub.conflicts = {"Patient/p1": 1000}
    assert send(destination(bundle="batch"), patients(2)) == {"Patient/p0": "sent", "Patient/p1": "retry"}


def test_what_refers_to_a_refused_resource_is_refused_with_the_place(stub, destination, refused):
    def judge(resource):
        if resource["id"] == "bad":
            raise refused(422, "structure")

    stub.judge = judge
    items = [
        item("Patient", "bad"),
        item("Patient", "good"),
        item("Observation", "o1", subject=to("Patient/bad")),
        item("Observation", "o2", subject=to("Patient/good")),
        item("Provenance", "pr", target=[to("Observation/o1")]),
    ]
    assert findings(destination(), items) == {
        ("refused", "422", "structure", "Patient"),
        ("refused", "dependency", "dependency-refused", "Observation.subject"),
        ("refused", "dependency", "dependency-refused", "Provenance.target"),
    }
    assert set(stub.store) == {"Patient/good", "Observation/o2"}


def test_what_refers_to_a_resource_of_which_an_earlier_version_stands_is_sent(stub, destination, refused):
    def judge(resource):
        if resource["resourceType"] == "Patient":
            raise refused(422, "structure")

    send(destination(), [item("Patient", "p")])
    stub.judge = judge
    items = [item("Patient", "p", active=1), item("Observation", "o", subject=to("Patient/p"))]
    assert send(destination(), items) == {"Patient/p": "refused", "Observation/o": "sent"}


def test_a_server_that_fails_for_everybody_is_left_alone_for_a_while(stub, destination, reply):
    stub.script = [reply(503)] * 50
    where = destination(max_entries=1)
    assert set(send(where, patients(20)).values()) == {"retry"}
    assert len(stub.requests) < 20
    with pytest.raises(Transient) as raised:
        list(where.send(patients(1)))
    assert raised.value.retry_after > 0


def test_a_server_that_is_not_there_gives_later_for_everything(destination):
    where = destination(base_url="http://127.0.0.1:9/fhir")
    assert set(send(where, patients(3)).values()) == {"retry"}


def test_a_500_over_one_resource_does_not_hold_its_neighbours(stub, destination, refused):
    def judge(resource):
        if resource["id"] == "p9":
            raise refused(500, "exception")

    stub.judge = judge
    assert Counter(send(destination(parallel=1), patients(40)).values()) == {"sent": 39, "retry": 1}


def test_one_writer_a_patient_and_many_patients_at_once(stub, destination):
    stub.delay = 0.02
    items = patients(40) + [
        item("Observation", f"o{n}-{m}", subject=to(f"Patient/p{n}")) for n in range(40) for m in range(10)
    ]
    assert set(send(destination(max_entries=7, parallel=4), items).values()) == {"sent"}
    assert stub.overlaps == []
    assert stub.busiest > 1


def test_a_server_without_bundles_still_takes_everything(stub, destination):
    stub.takes_bundles = False
    assert set(send(destination(parallel=1), patients(4)).values()) == {"sent"}


def test_a_server_that_assigns_ids_is_updated_by_identifier_and_references_follow(stub, destination):
    stub.assigns_ids = stub.integrity = True
    items = [
        item("Observation", "o", subject=to("Patient/p"), encounter=to("Encounter/e")),
        item("Patient", "p"),
        item("Encounter", "e", subject=to("Patient/p"), diagnosis=[{"condition": to("Condition/c")}]),
        item("Condition", "c", subject=to("Patient/p"), encounter=to("Encounter/e")),
        item("Provenance", "v", target=[to("Observation/o")]),
    ]
    outcomes = {o.item.id: o for o in destination(ids="server").send(items)}
    assert {o.status for o in outcomes.values()} == {"sent"}
    patient = f"Patient/{outcomes['p'].remote_id}"
    assert patient.startswith("Patient/remote-")
    assert stub.store[f"Observation/{outcomes['o'].remote_id}"]["subject"] == {"reference": patient}
    count = len(stub.store)
    later = [item("Observation", "o", subject=to("Patient/p"), status="final")]
    assert set(send(destination(ids="server"), later).values()) == {"sent"}
    assert len(stub.store) == count
    withdrawn = [gone("Observation", "o"), gone("Provenance", "v")]
    assert set(send(destination(ids="server"), withdrawn).values()) == {"sent"}


def test_notes_of_our_own_are_taken_off_before_sending(stub, destination):
    marks = [{"url": "urn:sluice:cleared", "valueString": "Patient.name"}, {"url": "http://x.org", "valueString": "y"}]
    send(destination(), [item("Patient", "p", extension=marks), item("Patient", "q", extension=marks[:1])])
    assert stub.store["Patient/p"]["extension"] == marks[1:]
    assert "extension" not in stub.store["Patient/q"]


def test_an_id_that_is_none_is_refused_before_anything_is_sent(stub, destination):
    items = [item("Patient", "../Practitioner/1"), Item("Patient", "x", 1, {"resourceType": "Patient", "id": "y"})]
    assert findings(destination(), items) == {
        ("refused", "not-sent", "invalid-id", "Resource.id"),
        ("refused", "not-sent", "invalid-id", "Patient.id"),
    }
    assert stub.requests == []


def test_a_destination_without_an_address_is_a_mistake_of_its_file(destination):
    with pytest.raises(ConfigError, match="base_url"):
        destination(base_url=None)
