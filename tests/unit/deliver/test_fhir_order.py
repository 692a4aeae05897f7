"""The order of a delivery: waves, cycles, lanes, bundles."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mappings.engine import json
from tasks.deliver.fhir_order import Entry, bundles, cycles, halves, lane, lanes, references, waves
from tasks.deliver.port import Item


def entry(key: str, *refers: str, of: str = "") -> Entry:
    kind, _, ident = key.partition("/")
    return Entry(Item(kind, ident, 1, {}), key, b"x" * 100, refers, of or key)


def keys(found: list[list[list[Entry]]]) -> list[list[list[str]]]:
    return [sorted(sorted(one.key for one in group) for group in wave) for wave in found]


def test_what_is_referred_to_is_in_an_earlier_wave_and_a_cycle_is_one_group():
    found = waves(
        [entry("A/1", "B/1"), entry("B/1", "C/1"), entry("C/1", "B/1", "D/1"), entry("D/1"), entry("E/1", "Z/9", "E/1")]
    )
    assert keys(found) == [[["D/1"], ["E/1"]], [["B/1", "C/1"]], [["A/1"]]]


def test_a_chain_of_many_thousands_does_not_end_the_program():
    chain = [entry(f"A/{n}", f"A/{n + 1}") for n in range(20_000)]
    assert len(waves(chain)) == 20_000


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=60), st.randoms())
def test_components_come_in_order_whatever_the_graph(pairs, rng: random.Random):
    edges: dict[str, list[str]] = {str(n): [] for n in range(13)}
    for here, there in pairs:
        edges[str(here)].append(str(there))
    shuffled = list(edges.items())
    rng.shuffle(shuffled)
    found = cycles(dict(shuffled))
    assert sorted(key for group in found for key in group) == sorted(edges)
    at = {key: number for number, group in enumerate(found) for key in group}
    assert all(at[there] <= at[here] for here in edges for there in edges[here])
    reach = {key: _reachable(key, edges) for key in edges}
    for one in edges:
        for other in edges:
            assert (at[one] == at[other]) == (one == other or (other in reach[one] and one in reach[other]))


def _reachable(start: str, edges: dict[str, list[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for there in edges[todo.pop()]:
            if there not in seen:
                seen.add(there)
                todo.append(there)
    return seen


def test_references_are_found_in_bytes_and_only_those_to_this_server():
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "Patient/1/_history/2"},
        "performer": [{"reference": "http://here/fhir/Practitioner/2"}, {"reference": "http://there/Practitioner/3"}],
        "specimen": {"reference": "#inside"},
        "note": [{"text": 'not a "reference": "Patient/9" at all'}],
        "device": {"reference": "Device/a\\/b"},
    }
    body = json.dumps(resource) + rb' {"reference" : "Location\/7"}'
    assert set(references(body, "http://here/fhir")) == {"Patient/1", "Practitioner/2", "Location/7"}


def test_a_lane_is_the_patient_that_a_resource_belongs_to():
    assert lane({"subject": {"reference": "Patient/1"}}, "Observation/2") == "Patient/1"
    assert lane({"patient": {"reference": "Patient/1"}}, "AllergyIntolerance/2") == "Patient/1"
    assert lane({}, "Patient/1") == "Patient/1"


def test_lanes_keep_a_patient_together_and_are_about_equal():
    groups = [[entry(f"Observation/{n}", of=f"Patient/{n % 10}")] for n in range(100)]
    found = lanes(groups, 4)
    assert sorted(map(len, found)) == [20, 20, 30, 30]
    owners = [{one.lane for one in part} for part in found]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 10


def cut(entries: list[Entry], most: int, size: int) -> list[list[Entry]]:
    return list(bundles(entries, lambda: (most, size)))


def test_bundles_are_cut_by_entries_and_by_bytes():
    entries = [entry(f"A/{n}") for n in range(10)]
    assert [len(part) for part in cut(entries, 4, 10_000)] == [4, 4, 2]
    assert [len(part) for part in cut(entries, 100, 250)] == [2] * 5
    assert [len(part) for part in cut(entries, 100, 1)] == [1] * 10


def test_a_cycle_is_never_cut_by_the_size_of_bundles():
    [wave] = waves(entry(f"{name}/{n}", f"{other}/{n}") for n in range(6) for name, other in ("AB", "BA"))
    [line] = lanes(wave, 1)
    for parts in (cut(line, 5, 10_000), cut(line, 100, 250), cut(line, 1, 1), halves(line), halves(line[:6])):
        found = [cycle for part in parts for cycle in {one.cycle for one in part}]
        assert len(found) == len(set(found))
    assert [len(part) for part in cut(line, 5, 10_000)] == [4, 4, 4]
    assert [len(part) for part in halves(line[:2])] == [1, 1]
