"""Two health systems that exchange both ways: nothing comes back, nothing is doubled, and it comes to rest."""

from __future__ import annotations

from typing import Any

import pytest

TYPES = "types: [Patient, Observation]"


def patient(ident: str, family: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": ident, "name": [{"family": family}]}


def result(ident: str, subject: str, value: str = "5.10", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": ident,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": subject},
        "valueString": value,
        **more,
    }


def two(exchange, system, copies: str = "ignore"):
    """A hospital and a laboratory, a feed file each way."""
    hospital, lab = exchange.add("hospital", system()), exchange.add("lab", system())
    exchange.feed("hospital.fhir", f"{TYPES}, peer: hospital, copies: {copies}", "route: [{to: [warehouse, lab]}]\n")
    exchange.feed("lab.fhir", f"{TYPES}, peer: lab, copies: {copies}", "route: [{to: [warehouse, hospital]}]\n")
    return hospital, lab


def at_rest(exchange, rounds: int = 3) -> bool:
    """Whether nothing is written any more, nothing waits, and nothing new is landed."""
    before = {name: one.versions() for name, one in exchange.systems.items()}
    landed = exchange.counts()["deliveries"]
    for _ in range(rounds):
        exchange.round()
    after = {name: one.versions() for name, one in exchange.systems.items()}
    pending = exchange.rows("select count(*) from ledger.outbox where state = 'pending'")
    return before == after and pending == [(0,)] and exchange.counts()["deliveries"] == landed


@pytest.mark.slow
def test_what_one_system_says_arrives_at_the_other_and_does_not_come_back(exchange, system) -> None:
    hospital, lab = two(exchange, system)
    hospital.put(patient("p1", "Okafor"))
    exchange.round()
    (copy,) = lab.all("Patient")
    assert copy["name"] == [{"family": "Okafor"}]
    exchange.round()
    assert at_rest(exchange)
    assert [one["id"] for one in hospital.all("Patient")] == ["p1"]
    assert len(lab.all("Patient")) == 1
    assert exchange.counts("lab.fhir")["filtered"] == 1
    (reason,) = exchange.rows("select distinct location from ledger.finding where stage = 'route'")
    assert reason == ("echo",)


def test_a_result_about_a_copy_goes_home_with_the_home_systems_own_id(exchange, system) -> None:
    hospital, lab = two(exchange, system)
    hospital.put(patient("p1", "Okafor"))
    exchange.round()
    (copy,) = lab.all("Patient")
    lab.put(result("o1", f"Patient/{copy['id']}"))
    exchange.round()
    (home,) = hospital.all("Observation")
    assert home["subject"] == {"reference": "Patient/p1"}
    assert home["valueString"] == "5.10"
    exchange.round()
    assert at_rest(exchange)
    assert [one["id"] for one in lab.all("Observation")] == ["o1"]
    # and what the hospital says of the laboratory's result refers to the laboratory's own
    hospital.put(result("h1", "Patient/p1", derivedFrom=[{"reference": f"Observation/{home['id']}"}]))
    exchange.round()
    (derived,) = [one for one in lab.all("Observation") if one["id"] != "o1"]
    assert derived["derivedFrom"] == [{"reference": "Observation/o1"}]
    assert derived["subject"] == {"reference": f"Patient/{copy['id']}"}
    exchange.round()
    assert at_rest(exchange)


@pytest.mark.slow
def test_changes_and_deletions_of_the_owner_follow_and_come_to_rest(exchange, system) -> None:
    hospital, lab = two(exchange, system)
    for n in range(5):
        hospital.put(patient(f"p{n}", "Okafor"))
    exchange.round()
    hospital.put(patient("p0", "Okafor-Lind"))
    hospital.delete("Patient/p1")
    exchange.round()
    assert sorted(one["name"][0]["family"] for one in lab.all("Patient")) == [
        "Okafor",
        "Okafor",
        "Okafor",
        "Okafor-Lind",
    ]
    exchange.round()
    assert at_rest(exchange)
    assert len(hospital.all("Patient")) == 4


@pytest.mark.slow
def test_a_changed_copy_is_left_where_it_is_and_counted(exchange, system) -> None:
    hospital, lab = two(exchange, system)
    hospital.put(patient("p1", "Okafor"))
    exchange.round()
    (copy,) = lab.all("Patient")
    lab.put({**copy, "name": [{"family": "Wrong"}]})
    lab.put(result("o1", f"Patient/{copy['id']}"))
    for _ in range(2):
        exchange.round()
    assert hospital.get("Patient/p1")["name"] == [{"family": "Okafor"}]
    assert ("changed-copy",) in exchange.rows("select distinct location from ledger.finding where stage = 'route'")
    assert at_rest(exchange)
    # the owner's next word replaces it
    hospital.put(patient("p1", "Okafor-Lind"))
    exchange.round()
    assert lab.get(f"Patient/{copy['id']}")["name"] == [{"family": "Okafor-Lind"}]
    assert at_rest(exchange)


@pytest.mark.slow
def test_a_changed_copy_goes_home_where_the_feed_takes_it(exchange, system) -> None:
    hospital, lab = two(exchange, system, "take")
    hospital.put(patient("p1", "Okafor"))
    exchange.round()
    (copy,) = lab.all("Patient")
    lab.put({**copy, "name": [{"family": "Okafor-Lind"}]})
    for _ in range(2):
        exchange.round()
    assert hospital.get("Patient/p1")["name"] == [{"family": "Okafor-Lind"}]
    assert [one["id"] for one in hospital.all("Patient")] == ["p1"]
    assert at_rest(exchange)
    hospital.put(patient("p1", "Lind"))
    exchange.round()
    assert lab.get(f"Patient/{copy['id']}")["name"] == [{"family": "Lind"}]
    assert at_rest(exchange)
    lab.delete(f"Patient/{copy['id']}")
    exchange.round()
    assert hospital.all("Patient") == []
    exchange.round()
    assert at_rest(exchange)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["commit-then-drop", "drop"])
def test_an_echo_is_known_where_the_answer_to_the_writing_was_lost(exchange, system, lost: str) -> None:
    from infra.dev.fhir.faults import Fault

    hospital, lab = two(exchange, system)
    hospital.put(patient("p1", "Okafor"))
    exchange.poll("hospital.fhir")
    lab.faults.add(Fault(lost, "POST /$", times=5))
    exchange.deliver("lab")
    # read before anybody knows what became of the delivery
    exchange.poll("lab.fhir")
    lab.faults.clear()
    exchange.rows("update ledger.outbox set next_at = now() where state = 'pending' returning 1")
    exchange.rows("update ledger.destination set paused_until = null returning 1")
    for _ in range(3):
        exchange.round()
    assert [one["id"] for one in hospital.all("Patient")] == ["p1"]
    assert len(lab.all("Patient")) == 1
    assert at_rest(exchange)
