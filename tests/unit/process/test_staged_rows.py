"""The rows of the staging table: what was written once is written again, and says the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mappings.engine.json import digest, loads
from mappings.engine.model import Profile
from tasks.model import Conversion, Entry
from tasks.pipeline import Pipeline
from tasks.process.stage import Written, staged_rows
from tasks.route.rules import Decision

TEXT = (
    "MSH|^~\\&|ADT|NORTHSIDE|EHR|WEST|20240310103000-0500||ADT^{event}^ADT_A01|M1|P|2.5.1\r"
    "PID|1||7^^^NORTHSIDE^MR||{name}^Jane\rPV1|1|I|MED^1^A^NORTHSIDE||||1000^Adams^Ada||||||||||||V7^^^NORTHSIDE^VN\r"
)
LANDED = datetime(2024, 3, 10, tzinfo=UTC)


def rows(pipeline: Pipeline, written: Written, **words: str) -> list[Any]:
    text = TEXT.format(**words).encode()
    done = [pipeline.run(frame).conversion for frame in pipeline.format.split([text])]
    return [row for one in done for row in staged_rows(1, LANDED, one, Decision(("warehouse",)), written)]


def test_rows_say_the_same_however_often_their_words_came_before() -> None:
    said = [{"event": "A01", "name": "Doe"}, {"event": "A03", "name": "Doe"}, {"event": "A01", "name": "Roe"}]
    pipeline, written = Pipeline(Profile("northside"), "hl7v2"), Written()
    fresh = [rows(Pipeline(Profile("northside"), "hl7v2"), Written(), **words) for words in said]
    for _ in range(3):
        assert [rows(pipeline, written, **words) for words in said] == fresh


def test_a_row_has_the_digest_of_its_resource() -> None:
    for row in rows(Pipeline(Profile("northside"), "hl7v2"), Written(), event="A01", name="Doe"):
        assert row[7] == digest(loads(row[8]))


def test_what_is_withdrawn_is_not_taken_for_what_stood() -> None:
    written, resource = Written(), {"resourceType": "Patient", "id": "p"}
    slots: Any = {"PID-8": [("gender", "female")]}
    both = [Entry(resource, slots, deleted=deleted, shared=True) for deleted in (False, True, False)]
    found = list(staged_rows(1, LANDED, Conversion(both), Decision(("warehouse",)), written))
    assert found[0] == found[2] != found[1]
