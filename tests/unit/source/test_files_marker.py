"""A marker of whole seconds beside a file: whose it is, when two versions fall into one of them."""

from __future__ import annotations

from tasks.source.files_ready import Entry, rule_for
from tasks.source.memory import MemoryState
from tasks.source.port import Ready


def poll(state: MemoryState, *listed: Entry, marker: str = "{name}.done") -> list[tuple[str, str]]:
    """Return name and version of what is ready in this listing and was not landed; land it."""
    rule = rule_for(Ready(marker=marker), state, lambda entry: b"")
    for entry in listed:
        if not state.landed(entry.name, entry.version):
            list(rule.seen(entry))
    ready = list(rule.rest())
    for offer in ready:
        state.land(offer)
    return [(offer.name, offer.version) for offer in ready]


DONE = Entry("a.hl7.done", "m1", 0, 100.0)


def test_a_file_of_the_markers_second_is_ready_at_once() -> None:
    assert poll(MemoryState(), Entry("a.hl7", "v1", 1, 100.0), DONE) == [("a.hl7", "v1")]


def test_a_correction_in_the_markers_second_has_to_be_stable() -> None:
    state = MemoryState()
    poll(state, Entry("a.hl7", "v1", 1, 100.0), DONE)
    assert poll(state, Entry("a.hl7", "v2", 2, 100.0), DONE) == []
    assert poll(state, Entry("a.hl7", "v3", 3, 100.0), DONE) == []
    assert poll(state, Entry("a.hl7", "v3", 3, 100.0), DONE) == [("a.hl7", "v3")]


def test_a_correction_with_a_marker_of_its_own_is_ready_at_once() -> None:
    state = MemoryState()
    poll(state, Entry("a.hl7", "v1", 1, 100.0), DONE)
    assert poll(state, Entry("a.hl7", "v2", 2, 101.0), Entry("a.hl7.done", "m2", 0, 101.0)) == [("a.hl7", "v2")]


def test_files_that_share_a_marker_are_ready_at_once() -> None:
    files = (Entry("a.hl7", "v1", 1, 100.0), Entry("a.pdf", "v1", 1, 100.0))
    ready = poll(MemoryState(), *files, Entry("a.done", "m1", 0, 100.0), marker="{stem}.done")
    assert [name for name, _ in ready] == ["a.hl7", "a.pdf"]
