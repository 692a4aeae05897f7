"""A document and what becomes of it: T02, its status, its addenda, its replacement, its cancellation."""

from __future__ import annotations

import base64
from typing import Any

from mappings.engine.model import Conversion
from mappings.engine.slots import assemble
from tests.v2_messages import message, one, only, resources, seg

PATIENT = seg("PID", {3: "1^^^NS^MR", 5: "Doe^Jane"})


def mdm(event: str, txa: dict[int, str], *obx: str) -> Conversion:
    return one(message(f"MDM^{event}", PATIENT, seg("TXA", {2: "DI", 3: "TX", 12: "D1^NS", **txa}), *obx))


def line(text: str, number: int = 1) -> str:
    return f"OBX|{number}|TX|18782-3^Study^LN||{text}||||||F"


def folded(*conversions: Conversion) -> dict[str, Any]:
    """Return what the store makes of document D1 of which messages speak one after the other."""
    slots: dict[str, Any] = {}
    for conversion in conversions:
        for entry in conversion.entries:
            number = entry.resource.get("masterIdentifier", {}).get("value")
            slots |= (entry.slots or {}) if number == "D1" else {}
    return assemble("DocumentReference", "x", slots)


def texts(document: dict[str, Any]) -> list[str]:
    return [base64.b64decode(part["attachment"].get("data", "")).decode() for part in document["content"]]


def test_a_notification_of_a_status_leaves_the_content_that_was_sent() -> None:
    sent, signed = mdm("T02", {17: "IP"}, line("Lungs clear."), line("Heart normal.")), mdm("T03", {17: "LA"})
    assert texts(folded(sent)) == ["Lungs clear.\nHeart normal."]
    assert texts(folded(sent, signed)) == ["Lungs clear.\nHeart normal."]
    assert folded(sent, signed)["docStatus"] == "final"
    assert only(signed, "DocumentReference")["content"] == [
        {"attachment": {"contentType": "text/plain", "title": "document"}}
    ]


def test_an_edited_document_has_its_new_content_alone() -> None:
    assert texts(folded(mdm("T02", {}, line("Old.")), mdm("T08", {}, line("New.")))) == ["New."]


def test_a_document_that_is_cancelled_was_an_error_and_keeps_what_it_said() -> None:
    document = folded(mdm("T02", {19: "AV"}, line("Wrong patient.")), mdm("T11", {19: "AV"}))
    assert document["status"] == "entered-in-error"
    assert texts(document) == ["Wrong patient."]


def test_a_replacement_supersedes_the_document_that_it_names() -> None:
    sent = mdm("T02", {19: "AV"}, line("Old."))
    replaced = mdm("T10", {12: "D2^NS", 13: "D1^NS"}, line("New."))
    newer, older = resources(replaced, "DocumentReference")
    assert newer["relatesTo"][0]["code"] == "replaces"
    assert newer["relatesTo"][0]["target"]["reference"] == f"DocumentReference/{older['id']}"
    assert older["id"] == only(sent, "DocumentReference")["id"]
    assert folded(sent, replaced)["status"] == "superseded"
    assert texts(folded(sent, replaced)) == ["Old."]


def test_a_replacement_that_names_itself_is_current() -> None:
    (document,) = resources(mdm("T10", {13: "D1^NS"}, line("New.")), "DocumentReference")
    assert document["status"] == "current"


def test_an_addendum_appends_to_the_document_that_it_names() -> None:
    (document,) = resources(mdm("T06", {12: "D2^NS", 13: "D1^NS"}, line("Compare prior.")), "DocumentReference")
    (related,) = document["relatesTo"]
    assert (related["code"], related["target"]["identifier"]["value"]) == ("appends", "D1")


def test_a_document_number_in_its_third_component_names_the_document() -> None:
    first, second = (mdm("T02", {12: "^^778899", 17: status}, line("Text.")) for status in ("IP", "LA"))
    assert only(first, "DocumentReference")["masterIdentifier"] == {"value": "778899"}
    assert only(first, "DocumentReference")["id"] == only(second, "DocumentReference")["id"]
    assert not [f for f in first.findings if f.code in {"no-natural-key", "component-not-carried"}]
    oid = only(mdm("T02", {12: "^^1.2.3.77^ISO"}, line("Text.")), "DocumentReference")
    assert oid["masterIdentifier"] == {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.77"}
