"""What a converter remembers between messages: it saves time and changes nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from mappings.engine import recall
from mappings.engine.json import dumps
from mappings.engine.model import Profile
from tasks.convert.hl7v2 import Hl7v2Converter
from tasks.errors import BadRecord
from tasks.parse.hl7v2 import Hl7v2Format
from tests.golden.write import CASES

PROFILE = Profile("northside", timezone="America/New_York")
HEAD = r"MSH|^~\&|LAB|NORTHSIDE|EHR|WEST|20240310103000-0500||{kind}|M1|P|2.5.1"


def messages() -> Iterator[Any]:
    form = Hl7v2Format(PROFILE)
    for path in sorted(CASES.glob("*/input*")):
        try:
            for frame in form.split([path.read_bytes()]):
                yield form.parse(frame)
        except BadRecord:
            continue


def said(converter: Hl7v2Converter, parsed: Any) -> bytes:
    conversion = converter.convert(parsed)
    entries = [(entry.resource, entry.slots, entry.cleared, entry.deleted) for entry in conversion.entries]
    return dumps([entries, conversion.findings, conversion.unmapped])


def parsed(kind: str, *segments: str) -> Any:
    form = Hl7v2Format(PROFILE)
    return form.parse(next(iter(form.split(["\r".join((HEAD.replace("{kind}", kind), *segments)).encode()]))))


def test_a_message_says_the_same_however_many_came_before() -> None:
    converter, all_messages = Hl7v2Converter(PROFILE), list(messages())
    assert len(all_messages) > 50
    fresh = [said(Hl7v2Converter(PROFILE), message) for message in all_messages]
    for _ in range(3):
        assert [said(converter, message) for message in all_messages] == fresh


def swapped(number: int) -> Iterator[Any]:
    """Yield messages in which fields are those of others: what is remembered by too little comes out wrong."""
    chance, form = random.Random(7), Hl7v2Format(PROFILE)
    texts = [[seg.text for seg in message.content.segments] for message in messages()]
    pool: dict[str, list[list[str]]] = {}
    for line in (line for text in texts for line in text):
        pool.setdefault(line[:3], []).append(line.split("|"))
    for _ in range(number):
        lines = [*chance.choice(texts)]
        for _ in range(3):
            at = chance.randrange(len(lines))
            fields, others = lines[at].split("|"), chance.choice(pool[lines[at][:3]])
            place = chance.randrange(2 if at else 6, max(len(fields), len(others), 8))
            fields += [""] * (place + 1 - len(fields))
            fields[place] = chance.choice((others[place] if place < len(others) else "", fields[place], '""'))
            lines[at] = "|".join(fields)
        with suppress(BadRecord):
            yield form.parse(next(iter(form.split(["\r".join(lines).encode()]))))


def test_a_message_says_the_same_whatever_others_said_with_some_of_its_fields() -> None:
    converter, some = Hl7v2Converter(PROFILE), list(swapped(80))
    assert len(some) > 50
    fresh = [said(Hl7v2Converter(PROFILE), message) for message in some]
    for _ in range(2):
        assert [said(converter, message) for message in some] == fresh


def test_a_visit_that_comes_again_with_another_event_has_another_status() -> None:
    converter = Hl7v2Converter(PROFILE)
    segments = ("PID|1||7^^^NORTHSIDE^MR||Doe^Jane", "PV1|1|I|MED^1^A^NORTHSIDE||||||||||||||||V7^^^NORTHSIDE^VN")
    both = [parsed(f"ADT^{event}^ADT_{event}", *segments) for event in ("A01", "A03")]
    for _ in range(3):
        found = [
            entry.resource["status"]
            for message in both
            for entry in converter.convert(message).entries
            if entry.resource["resourceType"] == "Encounter"
        ]
        assert found == ["in-progress", "finished"]


def test_a_merge_does_not_change_what_the_next_message_says_of_the_patient() -> None:
    converter = Hl7v2Converter(PROFILE)
    pid = "PID|1||7^^^NORTHSIDE^MR||Doe^Jane"
    plain, merge = parsed("ADT^A08^ADT_A01", pid), parsed("ADT^A40^ADT_A39", pid, "MRG|8^^^NORTHSIDE^MR")
    before = said(Hl7v2Converter(PROFILE), plain)
    for _ in range(3):
        assert said(converter, plain) == before
        converter.convert(merge)


def test_segments_that_never_come_again_are_not_learned_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "_TRIED", 2)
    converter = Hl7v2Converter(PROFILE)
    for number in range(9):
        message = parsed("ADT^A08^ADT_A01", f"PID|1||{number}^^^NORTHSIDE^MR||Doe^Jane")
        assert said(converter, message) == said(Hl7v2Converter(PROFILE), message)


def test_a_full_memory_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST", 3)
    monkeypatch.setattr(recall, "_AWAITED", 3)
    monkeypatch.setattr(recall, "_WORDS", 1)
    converter, some = Hl7v2Converter(PROFILE), list(messages())[:8]
    fresh = [said(Hl7v2Converter(PROFILE), message) for message in some]
    for _ in range(2):
        assert [said(converter, message) for message in some] == fresh


def test_what_one_row_adds_to_a_code_does_not_reach_the_next_message() -> None:
    charge = "FT1|1|||20240310|20240310|CG|71045^Chest^C4||||1||||||||||||||71046^Chest two views^C4"
    message = parsed("DFT^P03^DFT_P03", "EVN|P03|20240310", "PID|1||7^^^NORTHSIDE^MR", charge)
    converter = Hl7v2Converter(PROFILE)
    assert len({said(converter, message) for _ in range(4)}) == 1


def test_the_same_text_means_something_else_between_other_separators() -> None:
    converter = Hl7v2Converter(PROFILE)
    usual = parsed("ADT^A01^ADT_A01", "PID|1||7^^^NORTHSIDE^MR||Doe^Jane*X")
    other = parsed("ADT^A01^ADT_A01", "PID|1||7^^^NORTHSIDE^MR||Doe^Jane*X")
    form = Hl7v2Format(PROFILE)
    text = "\r".join((HEAD.replace("{kind}", "ADT*A01*ADT_A01").replace("^~", "*~"), "PID|1||7||Doe^Jane*X"))
    star = form.parse(next(iter(form.split([text.encode()]))))
    for _ in range(3):
        assert said(converter, usual) == said(Hl7v2Converter(PROFILE), other)
        assert said(converter, star) == said(Hl7v2Converter(PROFILE), star)
    patient = next(e.resource for e in converter.convert(star).entries if e.resource["resourceType"] == "Patient")
    assert patient["name"] == [{"family": "Doe^Jane", "given": ["X"]}]


def test_a_time_without_an_offset_is_not_remembered_across_zones() -> None:
    converter = Hl7v2Converter(Profile("northside"))
    one = parsed("ADT^A01^ADT_A01", "PID|1||7^^^NORTHSIDE^MR", "PV1|1|I" + "|" * 42 + "20240309120000")
    form = Hl7v2Format(PROFILE)
    texts = [one.frame.data, one.frame.data.replace(b"103000-0500", b"103000+0100")]
    both = [form.parse(next(iter(form.split([text])))) for text in texts]
    for _ in range(3):
        starts = [
            entry.resource["period"]["start"]
            for message in both
            for entry in converter.convert(message).entries
            if entry.resource["resourceType"] == "Encounter"
        ]
        assert starts == ["2024-03-09T12:00:00-05:00", "2024-03-09T12:00:00+01:00"]


def test_a_finding_comes_again_with_the_text_that_caused_it() -> None:
    converter = Hl7v2Converter(PROFILE)
    message = parsed("ADT^A01^ADT_A01", "PID|1||7^^^NORTHSIDE^MR|||||||||||||QQQ", "PV1|1|I")
    found = [[(f.code, f.location) for f in converter.convert(message).findings] for _ in range(4)]
    assert ("unmapped-code", "PID-16.1") in found[0] or ("unmapped-code", "PID-16") in found[0]
    assert found == [found[0]] * 4


def test_what_a_field_holds_too_much_is_noted_the_first_time_as_the_second() -> None:
    converter = Hl7v2Converter(PROFILE)
    line = "OBX|1|NM|1^x^L||5|L||||F|||20240101||||x|||LARM^x^L|||||||||RSLT|NUM^x^L"
    message = parsed("ORU^R01", "PID|||1^^^NS^MR", "OBR|1||F1|A", line)
    first, second = (converter.convert(message).findings for _ in range(2))
    assert [f.location for f in first if f.location.startswith("OBX-30")] == ["OBX-30.2", "OBX-30.3"]
    assert first == second
