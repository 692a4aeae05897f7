"""Which records had a finding, as ranges of their ids."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mappings.engine.model import Finding
from tasks.ledger.batches import Found, Members


@pytest.mark.parametrize(
    ("records", "ranges"),
    [
        ((5,), "{[5,6)}"),
        ((5, 5, 6, 7), "{[5,8)}"),
        ((5, 7, 8, 1 << 40), f"{{[5,6),[7,9),[{1 << 40},{(1 << 40) + 1})}}"),
        ((9, 5, 6), "{[9,10),[5,7)}"),
    ],
)
def test_neighbours_are_one_range_and_no_record_is_forgotten(records: Sequence[int], ranges: str) -> None:
    found = Found(records[0])
    for record in records:
        found.note(record)
    assert found.count == len(records)
    assert found.ranges() == ranges


def test_a_batch_keeps_each_finding_apart() -> None:
    members = Members()
    for record, code in ((1, "a"), (2, "b"), (3, "a")):
        members.note(record, "convert", [Finding(code, "PID-8", "warning")])
    assert {key[1]: found.ranges() for key, found in members.findings.items()} == {
        "a": "{[1,2),[3,4)}",
        "b": "{[2,3)}",
    }
