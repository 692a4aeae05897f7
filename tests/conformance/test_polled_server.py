"""What a FHIR server that is polled keeps of the sources' promises: nothing lost, nothing twice, resumable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from infra.dev.fhir.faults import Fault
from tasks.errors import Permanent, Transient
from tasks.parse.fhir import BundleFormat
from tasks.source.fhir_rest import FhirRestOptions, FhirRestSource
from tasks.source.memory import MemoryState
from tests.serving import FhirServer


class Ward(FhirServer):
    """A development server on a real socket, and its people."""

    def __init__(self, database: str) -> None:
        super().__init__(database)
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        self.sources: list[FhirRestSource] = []

    def put(self, kind: str, ident: str, **more: Any) -> None:
        body = {"resourceType": kind, "id": ident, **more}
        assert self.http.put(f"/{kind}/{ident}", content=json.dumps(body), headers=JSON).is_success

    def source(self, **options: Any) -> FhirRestSource:
        given = {"kind": "fhir-rest", "types": ["Patient"], "attempts": 2, "backoff": 0.01, "count": 3, **options}
        self.sources.append(FhirRestSource(FhirRestOptions(**given), {"base_url": self.url}))
        return self.sources[-1]

    def stop(self) -> None:
        for source in self.sources:
            source.close()
        self.http.close()
        super().stop()


JSON = {"Content-Type": "application/fhir+json"}


@pytest.fixture(scope="module")
def servers(postgres_url: str) -> Iterator[list[Ward]]:
    made: list[Ward] = []
    yield made
    for one in made:
        one.stop()


@pytest.fixture
def ward(servers: list[Ward], postgres_url: str) -> Ward:
    servers.append(Ward(postgres_url))
    return servers[-1]


def said(data: bytes) -> list[str]:
    """What a page says, as reading it finds: `Patient/p1/3`, or `-Patient/p1` for a deletion."""
    out = []
    for frame in BundleFormat(None).split([data]):  # type: ignore[arg-type]
        resource = json.loads(frame.data)
        if "deletes" in frame.context:
            out.append(f"-{frame.context['deletes']}")
        else:
            out.append(f"{resource['resourceType']}/{resource['id']}/{resource['meta']['versionId']}")
    return out


def land(source: FhirRestSource, state: MemoryState, most: int = 1000, into: list[str] | None = None) -> list[str]:
    """One poll as the flow does it; with `most` the process dies behind so many pages."""
    taken = [] if into is None else into
    for number, offer in enumerate(source.poll(state), 1):
        taken += said(b"".join(source.read(offer)))
        assert not state.landed(offer.name, offer.version)
        state.land(offer)
        source.finish(offer, state)
        if number == most:
            return taken
    source.done(state)
    return taken


def test_every_version_is_handed_over_once_page_by_page(ward: Ward) -> None:
    for n in range(10):
        ward.put("Patient", f"p{n}")
    source, state = ward.source(), MemoryState()
    assert sorted(land(source, state)) == [f"Patient/p{n}/1" for n in range(10)]
    assert land(source, state) == []
    ward.put("Patient", "p4", active=True)
    assert land(ward.source(), state) == ["Patient/p4/2"]
    assert land(source, state) == []


def test_a_server_without_anything_offers_nothing_and_later_something(ward: Ward) -> None:
    source, state = ward.source(), MemoryState()
    assert land(source, state) == []
    ward.put("Patient", "p1")
    assert land(source, state) == ["Patient/p1/1"]


def test_a_new_process_goes_on_behind_the_last_page_that_was_landed(ward: Ward) -> None:
    for n in range(10):
        ward.put("Patient", f"p{n}")
    state = MemoryState()
    first = land(ward.source(), state, most=2)
    rest = land(ward.source(), state)
    assert sorted(first + rest) == [f"Patient/p{n}/1" for n in range(10)]


def test_what_changes_while_pages_are_walked_is_handed_over_and_pushes_nothing_out(ward: Ward) -> None:
    for n in range(9):
        ward.put("Patient", f"p{n}")
    source, state = ward.source(), MemoryState()
    taken: list[str] = []
    for number, offer in enumerate(source.poll(state)):
        taken += said(b"".join(source.read(offer)))
        source.finish(offer, state)
        if number == 0:
            ward.put("Patient", "p1", active=True)
            ward.put("Patient", "new")
    source.done(state)
    taken += land(source, state)
    assert {f"Patient/p{n}/1" for n in range(9)} | {"Patient/p1/2", "Patient/new/1"} == set(taken)
    assert len(taken) == len(set(taken))


def test_deletions_are_found_in_the_history_and_told_once(ward: Ward) -> None:
    for n in range(5):
        ward.put("Patient", f"p{n}")
    source, state = ward.source(), MemoryState()
    land(source, state)
    ward.http.delete("/Patient/p3")
    ward.http.delete("/Patient/p1")
    ward.put("Patient", "p1", active=True)
    assert sorted(land(source, state)) == ["-Patient/p1", "-Patient/p3", "Patient/p1/3"]
    assert land(ward.source(), state) == []


def test_a_deletion_while_the_first_walk_goes_on_is_not_missed(ward: Ward) -> None:
    for n in range(9):
        ward.put("Patient", f"p{n}")
    source, state = ward.source(), MemoryState()
    for number, offer in enumerate(source.poll(state)):
        list(source.read(offer))
        source.finish(offer, state)
        if number == 0:
            ward.http.delete("/Patient/p0")
    source.done(state)
    assert land(ward.source(), state) == ["-Patient/p0"]
    assert land(ward.source(), state) == []


def test_a_server_that_offers_no_history_is_not_asked_for_it(ward: Ward) -> None:
    ward.faults.add(Fault("answer", "GET /metadata", times=None, status=404))
    ward.put("Patient", "p1")
    source, state = ward.source(), MemoryState()
    land(source, state)
    ward.http.delete("/Patient/p1")
    assert land(source, state) == []
    assert land(ward.source(deletions=True), state) == []
    assert land(ward.source(deletions=True), state) == ["-Patient/p1"]


def test_includes_come_along_and_a_search_narrows(ward: Ward) -> None:
    ward.put("Patient", "p1")
    code = {"coding": [{"system": "http://loinc.org", "code": "718-7"}]}
    subject = {"reference": "Patient/p1"}
    ward.put("Observation", "o1", status="final", code=code, subject=subject)
    ward.put("Observation", "o2", status="final", code={"text": "other"}, subject=subject)
    options = {
        "types": ["Observation"],
        "include": ["Observation:subject"],
        "search": {"Observation": "code=http://loinc.org|718-7"},
    }
    source, state = ward.source(**options), MemoryState()
    assert sorted(land(source, state)) == ["Observation/o1/1", "Patient/p1/1"]
    assert land(source, state) == []


def test_large_resources_and_all_letters_arrive_whole(ward: Ward) -> None:
    name = [{"text": "Müller größe 日本語 ☃ " + "x" * 3_000_000}]
    ward.put("Patient", "p1", name=name)
    source, state = ward.source(), MemoryState()
    (offer,) = source.poll(state)
    data = b"".join(source.read(offer))
    assert json.loads(data)["entry"][0]["resource"]["name"] == name
    assert b"".join(source.read(offer, 1000)) == data[1000:]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("answer", "GET /Patient", skip=1, times=2, status=503, headers={"Retry-After": "0"}),
        Fault("drop", "GET /Patient", skip=1, times=2),
        Fault("truncate", "GET /Patient", skip=1, times=2, size=80),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_server_that_fails_between_pages_is_gone_on_with_by_the_next_poll(ward: Ward, fault: Fault) -> None:
    for n in range(9):
        ward.put("Patient", f"p{n}")
    ward.faults.add(fault)
    state = MemoryState()
    taken: list[str] = []
    source = ward.source()
    with pytest.raises(Transient):
        land(source, state, into=taken)
    assert len(taken) == 3
    taken += land(ward.source(), state)
    assert sorted(taken) == [f"Patient/p{n}/1" for n in range(9)]


def test_a_notice_is_forgotten_when_what_it_tells_of_was_landed(ward: Ward) -> None:
    ward.put("Patient", "p1")
    source, state = ward.source(), MemoryState()
    land(source, state)
    ward.put("Patient", "p1", active=True)
    state.notice("Patient", "p1")
    state.notice("Patient", "gone")
    state.notice("Basic", "of no concern")
    offer = next(iter(source.poll(state)))
    assert [one.id for one in state.notices()] == ["p1", "gone", "of no concern"]
    assert said(b"".join(source.read(offer))) == ["Patient/p1/2"]
    source.finish(offer, state)
    assert land(source, state) == []
    assert state.notices() == []


def test_a_refused_search_says_the_status_and_what_to_look_at(ward: Ward) -> None:
    source = ward.source(search={"Patient": "nonsense=1"})
    with pytest.raises(Permanent, match=r"answered 400.*source\.search"):
        next(iter(source.poll(MemoryState())))
