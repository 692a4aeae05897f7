"""Receipts of two sites are the same where they differ in the numbers of deliveries and in times alone."""

from __future__ import annotations

from dataclasses import replace

from infra.chaos.picture import of_receipts
from mappings.engine.model import Profile
from tasks.parse.hl7v2 import Hl7v2Format
from tasks.receipt import ack
from tasks.receipt.make import frames
from tasks.receipt.model import Earlier, Receipt
from tasks.receipt.render import as_json, as_text

MORNING, NOON = "2026-03-09T08:00:00+00:00", "2026-03-09T12:00:00+00:00"
MESSAGE = b"MSH|^~\\&|LAB|EAST|SLUICE|HUB|20260309||ORU^R01^ORU_R01|8|P|2.5.1\rPID|||1\r"
RECEIPT = Receipt(
    "f.x", 8, "day.hl7", "read", "", 8, MORNING, MORNING, 8, 0, 0, 8, 0, duplicate_of=Earlier(2, "a.hl7", MORNING)
)


def given(receipt: Receipt, message: bytes = MESSAGE) -> dict[str, bytes]:
    base = f"day.hl7.{receipt.delivery}"
    answers = b"".join(ack.batch(receipt, frames(Hl7v2Format(Profile("f")), [message * 8])))
    texts = {"receipt.txt": as_text(receipt), "receipt.json": as_json(receipt), "ack.hl7": answers}
    return {f"{base}.{kind}": data for kind, data in texts.items()}


def test_a_number_that_is_also_a_count_is_no_difference():
    for number in (1, 2, 5, 9, 1234):
        earlier = Earlier(number + 1, "a.hl7", NOON)
        other = replace(RECEIPT, delivery=number, landed_at=NOON, made_at=NOON, duplicate_of=earlier)
        assert of_receipts(given(other)) == of_receipts(given(RECEIPT))


def test_a_count_a_control_id_and_a_missing_receipt_are_differences():
    wanted = of_receipts(given(RECEIPT))
    assert len(wanted) == 3
    counted = of_receipts(given(replace(RECEIPT, duplicate=7)))
    assert sorted(name for name in wanted if counted[name] != wanted[name]) == [
        "day.hl7 receipt.json",
        "day.hl7 receipt.txt",
    ]
    answered = of_receipts(given(RECEIPT, MESSAGE.replace(b"|8|P", b"|9|P")))
    assert [name for name in wanted if answered[name] != wanted[name]] == ["day.hl7 ack.hl7"]
    assert of_receipts({}) != wanted
