"""A prescription's dosages: each timing, each route, and what belongs to neither."""

from __future__ import annotations

from typing import Any

from mappings.engine.model import Profile
from tasks.convert.hl7v2 import Hl7v2Converter
from tasks.parse.hl7v2 import Hl7v2Format

PROFILE = Profile("northside", timezone="America/New_York")
HEAD = ("MSH|^~\\&|P|N|E|N|20240101000000-0500||RDE^O11^RDE_O11|1|P|2.5.1", "PID|1||1^^^N^MR", "ORC|NW|P1^N")


def _request(*segments: str) -> tuple[dict[str, Any], set[str]]:
    form, converter = Hl7v2Format(PROFILE), Hl7v2Converter(PROFILE)
    (frame,) = form.split(["\r".join((*HEAD, *segments)).encode()])
    conversion = converter.convert(form.parse(frame))
    (found,) = [e.resource for e in conversion.entries if e.resource["resourceType"] == "MedicationRequest"]
    return found, {f"{one.code} {one.location}" for one in conversion.findings}


def test_each_timing_with_each_route_is_a_dosage() -> None:
    request, _ = _request(
        "RXE||A^Drug^L|1||mg^^UCUM", "TQ1|1||BID", "TQ1|2||QAM", "RXR|PO^^HL70162", "RXR|NG^^HL70162", "RXR|IV^^HL70162"
    )
    dosages = request["dosageInstruction"]
    assert [one["sequence"] for one in dosages] == [1, 1, 1, 2, 2, 2]
    assert len({repr((one["timing"], one["route"])) for one in dosages}) == 6


def test_what_stands_below_the_encoded_order_counts_before_that_of_the_requested() -> None:
    request, _ = _request(
        "TQ1|1||BID", "RXO|A^Drug^L|1||mg", "RXR|NG^^HL70162", "RXE||A^Drug^L|1||mg", "RXR|PO^^HL70162"
    )
    (dosage,) = request["dosageInstruction"]
    assert dosage["route"]["coding"][-1]["code"] == "PO"
    assert dosage["timing"]["code"]["coding"][0]["code"] == "BID"


def test_a_dose_per_time_is_a_rate_only_where_the_time_can_be_read() -> None:
    request, findings = _request("RXE||A^Drug^L|400||mg^^UCUM|||||||||||||||||H12")
    assert request["dosageInstruction"][0]["doseAndRate"][0]["rateRatio"]["denominator"]["value"] == 12
    assert "component-not-carried RXE-22" not in findings
    request, findings = _request("RXE||A^Drug^L|400||mg^^UCUM|||||||||||||||||often")
    assert "rateRatio" not in request["dosageInstruction"][0]["doseAndRate"][0]
    assert "component-not-carried RXE-22" in findings


def test_as_needed_is_said_of_a_timing_that_says_so() -> None:
    request, _ = _request("RXE||A^Drug^L|1||mg", "TQ1|1||PRNQ6H")
    assert request["dosageInstruction"][0]["asNeededBoolean"] is True
    request, _ = _request("RXE||A^Drug^L|1||mg", "TQ1|1||Q6H")
    assert "asNeededBoolean" not in request["dosageInstruction"][0]


def test_an_amount_that_is_no_number_is_a_finding() -> None:
    _, findings = _request("RXE||A^Drug^L|much||mg", "RXR|PO^^HL70162")
    assert "not-a-number RXE-3" in findings


def test_a_start_and_a_duration_that_cannot_be_added_do_not_stop_a_message() -> None:
    request, _ = _request("RXE|^BID^D99999999999^20240101000000|A^Drug^L|1||mg")
    bounds = request["dosageInstruction"][0]["timing"]["repeat"]["boundsPeriod"]
    assert bounds == {"start": "2024-01-01T00:00:00-05:00"}
