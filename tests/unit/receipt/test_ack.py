"""The batch of acknowledgements: one a message, its code, its control id, and where it was wrong."""

from __future__ import annotations

from mappings.engine.model import Profile
from tasks.parse.hl7v2 import Hl7v2Format
from tasks.receipt import ack
from tasks.receipt.make import frames
from tasks.receipt.model import Receipt, Stopped

AT = "2026-03-09T14:00:00+00:00"


def message(control: str, version: str = "2.5.1", marks: str = "|^~\\&") -> bytes:
    bar, hat = marks[0], marks[1]
    head = [
        "MSH",
        marks[1:],
        "LAB",
        "EAST",
        "SLUICE",
        "HUB",
        "20260309",
        "",
        f"ORU{hat}R01{hat}ORU_R01",
        control,
        "P",
        version,
    ]
    return (bar.join(head) + "\rPID" + bar * 3 + "SECRET\r").encode()


def receipt(*stopped: Stopped) -> Receipt:
    return Receipt("f.x", 7, "day.hl7", "read", "", 0, AT, AT, 0, 0, 0, 0, 0, refused_records=stopped)


def answers(data: bytes, *stopped: Stopped) -> list[list[list[str]]]:
    """The acknowledgements as segments as fields."""
    text = b"".join(ack.batch(receipt(*stopped), frames(Hl7v2Format(Profile("f")), [data]))).decode()
    assert "SECRET" not in text
    lines = [line.split("|") for line in text.split("\r")[:-1]]
    assert [line[0] for line in lines[:2] + lines[-2:]] == ["FHS", "BHS", "BTS", "FTS"]
    found: list[list[list[str]]] = []
    for line in lines[2:-2]:
        found = [*found, [line]] if line[0] == "MSH" else [*found[:-1], [*found[-1], line]]
    assert lines[-2][1] == str(len(found))
    return found


def test_each_message_is_answered_under_its_own_control_id():
    said = answers(message("A1") + message("B2") + message("C3"))
    assert [(one[1][1], one[1][2]) for one in said] == [("AA", "A1"), ("AA", "B2"), ("AA", "C3")]
    assert said[0][0][2:6] == ["SLUICE", "HUB", "LAB", "EAST"], "sender and receiver change places"
    assert said[0][0][8] == "ACK^R01^ACK"
    assert len({one[0][9] for one in said}) == 3


def test_what_was_refused_names_its_places():
    stopped = Stopped(2, "message 2", (("fhir-type", "PID-3[2].4"), ("missing-value", "OBX[3]-5")))
    _, bad, _ = answers(message("A1") + message("B2") + message("C3"), stopped)
    assert bad[1][:3] == ["MSA", "AE", "B2"]
    assert [line[2] for line in bad[2:]] == ["PID^1^3^2^4", "OBX^3^5"]
    assert [line[3].split("^")[0] for line in bad[2:]] == ["102", "101"]
    assert [line[5].split("^")[0] for line in bad[2:]] == ["fhir-type", "missing-value"]


def test_a_message_of_a_kind_that_is_not_taken_is_rejected():
    [bad] = answers(message("A1"), Stopped(1, "message 1", (("not-hl7v2", "MSH-9"),), header=True))
    assert (bad[1][1], bad[2][2]) == ("AR", "MSH^1^9")


def test_before_version_2_5_the_place_stands_in_the_first_field():
    [bad] = answers(message("A1", "2.3"), Stopped(1, "message 1", (("missing-value", "PID-3"),)))
    assert bad[2] == ["ERR", "PID^1^3^101&missing-value&L"]


def test_a_place_that_is_no_segments_stands_as_diagnostic_information():
    [bad] = answers(message("A1"), Stopped(1, "message 1", (("fhir-type", "Observation.status"),)))
    assert (bad[2][2], bad[2][7]) == ("", "Observation.status")


def test_an_answer_speaks_with_its_senders_separators():
    data = b"".join(ack.batch(receipt(), frames(Hl7v2Format(Profile("f")), [message("A1", marks="!$~\\&")])))
    assert b"\rMSA!AA!A1\r" in data


def test_what_stands_between_messages_is_not_answered():
    assert len(answers(message("A1") + b"\r\rsome words that are no segment\r" + message("B2"))) == 2


def test_a_file_that_is_no_hl7_at_all_gets_an_empty_batch():
    assert answers(b"not a message at all") == []
