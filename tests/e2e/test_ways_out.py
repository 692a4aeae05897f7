"""One feed, its route, its table and two destinations of its own, through Prefect: files, and HL7 v2 to a receiver."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.receiver import Receiver

pytestmark = pytest.mark.slow

FEED = "southgate.routed"
HEAD = "MSH|^~\\&|LAB|SOUTHGATE|||20260309{0}-0500||{1}|{2}|P|2.5.1"
PERSON = "PID|1||77^^^SOUTHGATE^MR||Routed^Rita||19800101|F"
VISIT = "PV1|1|I|{0}^1^1||||||||||||||||V77^^^SOUTHGATE^VN"
MESSAGES = (
    [HEAD.format("0800", "ADT^A01^ADT_A01", "1"), "EVN|A01|202603090800-0500", PERSON, VISIT.format("MED")],
    [
        HEAD.format("0900", "ORU^R01^ORU_R01", "2"),
        PERSON,
        VISIT.format("MED"),
        "OBR|1|P1^LAB|F1^LAB|GLU^Glucose^L|||202603090830-0500|||||||||||||||202603090900-0500||CH|F",
        "OBX|1|NM|GLU^Glucose^L||5.10|mmol/L^^UCUM|||||F|||202603090830-0500",
    ],
    [HEAD.format("1000", "ADT^A01^ADT_A01", "3"), "EVN|A01|202603091000-0500", PERSON, VISIT.format("TEST")],
)


def test_a_routed_and_enriched_feed_reaches_files_and_an_hl7_receiver_once(site: Any, clinic: Receiver) -> None:
    (site.drop / "routed" / "day.hl7").write_text("".join("\r".join(one) + "\r" for one in MESSAGES))
    assert "can be retried" in site.sluice("run", FEED, "--here", code=1), "the files' folder is not there"
    told = list(clinic.messages)
    assert [message.split(b"|")[8] for message in told].count(b"ORU^R01^ORU_R01") == 1, "the others go on"
    [report] = [message for message in told if b"ORU^R01" in message]
    assert b"^2345-7^Glucose^LN|" in report
    assert b"|CLINIC|" in report
    (site.home.parent / "given").mkdir()
    site.sluice("run", FEED, "--here")
    assert clinic.messages == told
    written = given(site)
    loinc = {"system": "http://loinc.org", "code": "2345-7", "display": "Glucose"}
    assert [loinc in one["code"]["coding"] for one in written["Observation"]] == [True]
    assert len(written["Patient"]) == len(written["Encounter"]) == len(written["DiagnosticReport"]) == 1
    counted = "select received, published, filtered, in_flight from ops.delivery where feed = %s"
    assert site.rows(counted, FEED) == [(3, 2, 1, 0)]
    filtered = "select f.location from ledger.finding f join ledger.batch b on b.id = f.batch_id where b.feed = %s"
    assert ("test ward",) in site.rows(f"{filtered} and f.code = 'filtered'", FEED)


def given(site: Any) -> dict[str, list[dict[str, Any]]]:
    """What stands in the files that were written, by type."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((site.home.parent / "given" / "given").glob("*.ndjson")):
        for line in file.read_text().splitlines():
            one = json.loads(line)
            found.setdefault(one["resourceType"], []).append(one)
    return found
