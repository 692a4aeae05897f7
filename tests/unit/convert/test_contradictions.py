"""What a message contradicts itself in is left out, told, and nothing else goes with it."""

from __future__ import annotations

from typing import Any

import pytest

from mappings.engine.model import Profile
from mappings.engine.slots import assemble
from tasks.convert.contradictions import LEFT_OUT, consistent
from tasks.model import BEGIN, Entry, Finding, Frame
from tasks.pipeline import Pipeline
from tasks.validate import validator

ENCOUNTER = {
    "resourceType": "Encounter",
    "id": "e",
    "status": "finished",
    "class": {"code": "IMP"},
    "period": {"start": "2024-02-02T10:00:00Z", "end": "2024-02-01T10:00:00Z"},
}
HOME = {"use": "home", "city": "X"}
MESSAGE = (
    b"MSH|^~\\&|A|B|C|D|20240305101500-0500||ADT^A01^ADT_A01|1|P|2.5.1\rEVN|A01|20240305101500\r"
    b"PID|1||7^^^B^MR||Doe^Jane\rPV1|1|I|3W^1^1||||||||||||||||V1" + b"|" * 25 + b"20240302101500|20240301101500\r"
)


def mended(resource: dict[str, Any], slots: Any = None) -> tuple[Entry, list[tuple[str, str]]]:
    entry, notes = consistent(Entry(resource, slots), validator("4.0.1").check(resource))
    assert all(note.severity == "warning" for note in notes)
    return entry, [(note.code, note.location) for note in notes]


@pytest.mark.parametrize(
    ("resource", "wanted", "note"),
    [
        (
            ENCOUNTER,
            {**ENCOUNTER, "period": {"start": "2024-02-02T10:00:00Z"}},
            ("left-out-per-1", "Encounter.period.end"),
        ),
        (
            {"resourceType": "Organization", "name": "x", "address": [{"city": "Y"}, HOME]},
            {"resourceType": "Organization", "name": "x", "address": [{"city": "Y"}, {"city": "X"}]},
            ("left-out-org-2", "Organization.address[1].use"),
        ),
        (
            {"resourceType": "Observation", "status": "final", "code": {"text": "a"}, "valueString": "x"}
            | {"dataAbsentReason": {"text": "y"}},
            {"resourceType": "Observation", "status": "final", "code": {"text": "a"}, "valueString": "x"},
            ("left-out-obs-6", "Observation.dataAbsentReason"),
        ),
        (
            {"resourceType": "Basic", "code": {"text": "a"}}
            | {"extension": [{"url": "http://x", "valuePeriod": {"start": "2024", "end": "2023"}}]},
            {"resourceType": "Basic", "code": {"text": "a"}}
            | {"extension": [{"url": "http://x", "valuePeriod": {"start": "2024"}}]},
            ("left-out-per-1", "Basic.extension[0].value.ofType(Period).end"),
        ),
    ],
)
def test_what_contradicts_the_rest_is_left_out_and_told(resource: Any, wanted: Any, note: tuple[str, str]) -> None:
    before = repr(resource)
    entry, notes = mended(resource)
    assert (entry.resource, notes) == (wanted, [note])
    assert validator("4.0.1").check(entry.resource) == ()
    assert repr(resource) == before


def test_the_slots_say_what_the_resource_says() -> None:
    slots: Any = {
        "PV1-44": [("period.start", "2024-02-02T10:00:00Z")],
        "PV1-45": [("period.end", "2024-02-01T10:00:00Z"), ("status", "finished")],
        "PV1-2": [("class", {"code": "IMP"})],
        "PV1-3": [("location", [{"location": {"display": "x"}, "period": {"start": "2024", "end": "2023"}}])],
    }
    resource = assemble("Encounter", "e", slots)
    entry, notes = mended(resource, slots)
    assert sorted(location for _, location in notes) == ["Encounter.location[0].period.end", "Encounter.period.end"]
    assert entry.slots is not None
    assert assemble("Encounter", "e", entry.slots) == entry.resource
    assert "end" not in entry.resource["period"]


def test_an_entry_that_is_wrong_otherwise_stays_as_it_is() -> None:
    entry = Entry({**ENCOUNTER, "status": "done"})
    found = [*validator("4.0.1").check(ENCOUNTER), Finding("fhir-binding", "Encounter.status", "error")]
    assert consistent(entry, found) == (entry, [])


def test_a_message_that_contradicts_itself_is_converted() -> None:
    pipeline = Pipeline(Profile("p", timezone="UTC"), "hl7v2")
    done = pipeline.run(Frame(1, "message 1", MESSAGE, BEGIN))
    assert not done.failed
    visit = next(e.resource for e in done.conversion.entries if e.resource["resourceType"] == "Encounter")
    assert visit["period"] == {"start": "2024-03-02T10:15:00+00:00"}
    assert ("left-out-per-1", "Encounter.period.end") in [(f.code, f.location) for f in done.conversion.findings]


def test_only_invariants_of_the_specification_are_named() -> None:
    stated = {key for place in validator("4.0.1").structure.stated().values() for key in place}
    assert stated >= LEFT_OUT.keys()
