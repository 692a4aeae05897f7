"""Drugs and vaccinations where a message leaves open, clears or garbles what FHIR requires."""

from __future__ import annotations

from typing import Any

import pytest

from mappings.engine.json import dumps
from mappings.engine.model import Profile
from tasks.convert.hl7v2 import Hl7v2Converter
from tasks.parse.hl7v2 import Hl7v2Format
from tasks.validate import validator

PROFILE = Profile("northside", timezone="America/New_York")


def _convert(event: str, *segments: str) -> tuple[list[dict[str, Any]], set[str]]:
    head = f"MSH|^~\\&|P|N|E|N|20240101000000-0500||{event}|1|P|2.5.1"
    form, converter = Hl7v2Format(PROFILE), Hl7v2Converter(PROFILE)
    (frame,) = form.split(["\r".join((head, "PID|1||1^^^N^MR", *segments)).encode()])
    conversion = converter.convert(form.parse(frame))
    return [e.resource for e in conversion.entries], {f"{f.code} {f.location}" for f in conversion.findings}


def _of(resources: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in resources if one["resourceType"] == kind]


@pytest.mark.parametrize("when", ["", '""', "soon", "20"])
@pytest.mark.parametrize("event", ["VXU^V04^VXU_V04", "RAS^O17^RAS_O17"])
def test_an_administration_at_no_known_time_is_valid(event: str, when: str) -> None:
    resources, findings = _convert(event, "ORC|RE||F1^N", f"RXA|0|1|{when}||08^Hep B^CVX|1|mL^^UCUM|||||||||||||CP")
    check = validator("4.0.1").check
    assert [f for one in resources for f in check(one) if f.severity == "error"] == []
    assert ("not-a-date RXA-3" in findings) == (when in {"soon", "20"})


def test_cleared_words_are_no_text() -> None:
    resources, _ = _convert(
        "RDE^O11^RDE_O11",
        "ORC|NW|P1^N",
        'RXE||A^Drug^L|1||mg||""',
        'TQ1|1||BID|||||||""|""',
        'RXC|""|B^Base^L|1|mL',
        'RXD|1|A^Drug^L|20240101|1||||||||||||||""|""|""',
    )
    assert b'\\"\\"' not in dumps(resources)


def test_vaccinations_under_one_filler_number_are_told_apart_by_patient_and_date() -> None:
    row = "RXA|0|1|{}||08^Hep B^CVX|999"
    one, _ = _convert("VXU^V04^VXU_V04", "ORC|RE||9999^N", row.format("20200101"), "ORC|RE||9999^N", row.format(""))
    assert len({found["id"] for found in _of(one, "Immunization")}) == 2


def test_another_lot_is_another_medication() -> None:
    row = "RXA|0|{}|2024010{}||A^Drug^L|1|mg||||||||LOT-{}"
    resources, _ = _convert("RAS^O17^RAS_O17", "ORC|RE|P1^N", *(row.format(n, n, n) for n in (1, 2)))
    assert sorted(one["batch"]["lotNumber"] for one in _of(resources, "Medication")) == ["LOT-1", "LOT-2"]
