"""Nothing silent: what a message says is in the bundle, or the field is in a finding, or there is a reason here."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mappings.engine.compiled import compile_maps
from mappings.engine.fields import ways
from mappings.engine.json import dumps
from mappings.engine.model import Conversion, Profile
from mappings.engine.source import files
from tasks.convert.bundle import bundle
from tasks.pipeline import Pipeline
from tests.v2_marks import CODES, Marked, Overfull, Repeated
from tests.v2_messages import ZONE, one

STRUCTURES = [
    "ADT_A01", "ADT_A03", "ADT_A06", "ADT_A17", "ADT_A24", "ADT_A39", "ADT_A43", "BAR_P01", "DFT_P03", "DFT_P11",
    "MDM_T02", "OMG_O19", "OML_O21", "OML_O33", "OMP_O09", "ORM_O01", "ORU_R01", "ORU_R30", "OUL_R22", "OUL_R24",
    "PGL_PC6", "PPP_PCB", "PPR_PC1", "RAS_O17", "RDE_O11", "RDS_O13", "REF_I12", "SIU_S12", "VXU_V04",
]  # fmt: skip
_TOKEN = re.compile(r"M\d+x|\d{4}-\d\d-\d\d|7\d{6}|\d\d:\d\d")
_KEPT_AS_TEXT = {
    r"PID-6\.(7|11)|GOL-21\.(7|11)": "a name in one line: its type is its element, its order that of the line",
    r"OBR-5": "an unknown priority gives way to the timing's own, which stands in the same element",
    r"UAC-.*": "credentials do not leave the transport",
}


def _dropped() -> set[str]:
    """Return the fields that a map leaves out for good, with its reason."""
    return {way.place for unit in compile_maps(files()).units.values() for way in ways(unit) if way.dropped}


def _tokens(conversion: Conversion) -> set[str]:
    text = dumps(bundle(conversion)).decode()
    packed = " ".join(map(_unpacked, re.findall(r'"data":"([^"]+)"', text)))
    return set(_TOKEN.findall(f"{text} {packed}"))


def landed(marked: Marked) -> list[str]:
    """Return the places of the values that are in the bundle."""
    tokens = _tokens(one(marked.text))
    return [place for place, mark in marked.marks if mark in tokens]


def _lost(marked: Marked) -> list[str]:
    conversion = one(marked.text)
    tokens = _tokens(conversion)
    found = {finding.location for finding in conversion.findings if finding.code != "unmapped-code"}
    found |= {around for location in found for around in _around(location) if "-" in around}
    return [place for place, mark in marked.marks if mark not in tokens and not found & set(_around(place))]


def _unpacked(data: str) -> str:
    return base64.b64decode(data).decode("utf-8", "replace")


def _around(place: str) -> list[str]:
    """Return a place and all that it stands in: `OBX[2]-3.1`, `OBX[2]-3`, `OBX[2]`."""
    around = [place]
    while "." in place:
        place = place.rsplit(".", 1)[0]
        around.append(place)
    return [*around, place.partition("-")[0]]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_value_is_in_the_bundle_or_its_field_in_a_finding(structure: str) -> None:
    dropped = _dropped()
    lost = [re.sub(r"\[\d+\]", "", place) for place in _lost(Marked(structure, "2.5.1"))]
    silent = [place for place in lost if not set(_around(place)) & dropped and not _excused(place)]
    assert sorted(set(silent)) == []


def _excused(place: str) -> bool:
    return any(re.fullmatch(pattern, place) for pattern in _KEPT_AS_TEXT)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_no_finding_says_that_a_component_is_lost_which_is_in_the_bundle(structure: str) -> None:
    marked = Marked(structure, "2.5.1")
    conversion = one(marked.text)
    tokens, marks = _tokens(conversion), defaultdict(list)
    for place, mark in marked.marks:
        for around in _around(place):
            marks[around].append(mark)
    lost = {f.location for f in conversion.findings if f.code in {"unmapped-field", "component-not-carried"}}
    assert sorted(at for at in lost if "." in at and at in marks and tokens.issuperset(marks[at])) == []


@pytest.mark.parametrize("version", ["2.3", "2.4", "2.6", "2.7", "2.8.2"])
@pytest.mark.parametrize("structure", ["ADT_A01", "ORU_R01"])
def test_of_other_versions_too(structure: str, version: str) -> None:
    dropped = _dropped()
    lost = [re.sub(r"\[\d+\]", "", place) for place in _lost(Marked(structure, version))]
    assert sorted({p for p in lost if not set(_around(p)) & dropped and not _excused(p)}) == []


@pytest.mark.parametrize("structure", ["ADT_A01", "ORU_R01", "DFT_P03", "SIU_S12", "VXU_V04", "MDM_T02"])
def test_every_repetition_too(structure: str) -> None:
    dropped = _dropped()
    lost = [re.sub(r"\[\d+\]", "", place) for place in _lost(Marked(structure, "2.5.1", 3))]
    assert sorted({p for p in lost if not set(_around(p)) & dropped and not _excused(p)}) == []


@pytest.mark.parametrize("marked", [Overfull, Repeated])
@pytest.mark.parametrize("structure", ["ADT_A01", "DFT_P03", "MDM_T02", "OUL_R22", "PPR_PC1", "RAS_O17", "SIU_S12"])
def test_what_is_more_than_a_field_holds_too(structure: str, marked: type[Marked]) -> None:
    dropped = _dropped()
    lost = [re.sub(r"\[\d+\]", "", place) for place in _lost(marked(structure, "2.5.1"))]
    assert sorted({p for p in lost if not set(_around(p)) & dropped and not _excused(p)}) == []


_BEFORE = {"SIU_S12": ["SCH|1|2"], "REF_I12": ["RF1"], "MDM_T02": ["TXA|1|HP"]}


def _alone() -> Iterator[str]:
    """Yield a message for each field of each segment, in which that one field is valued beside a patient's number."""
    seen = set()
    for structure in STRUCTURES:
        header, *lines = Marked(structure, "2.5.1").text.rstrip("\r").split("\r")
        for line in lines:
            name, *fields = line.split("|")
            before = [one for one in _BEFORE.get(structure, []) if not one.startswith(name)]
            patient = [] if name == "PID" else ["PID|1||P1"]
            for at in [0, *(at for at, text in enumerate(fields, 1) if text)]:
                if (name, at) not in seen:
                    seen.add((name, at))
                    own = "|".join([name, *(text if at == number else "" for number, text in enumerate(fields, 1))])
                    yield "\r".join([header, *before, *patient, own])


def test_a_segment_of_which_one_field_is_valued_stops_no_message() -> None:
    pipeline = Pipeline(Profile("northside", timezone=ZONE), "hl7v2")
    done = [pipeline.run(frame) for text in _alone() for frame in pipeline.format.split([text.encode()])]
    assert len(done) > 1000
    errors = {(f.code, f.location) for one in done for f in one.conversion.findings if f.severity == "error"}
    assert errors == set()


@pytest.mark.parametrize("odd", [" ", "^^", "~A", "&B", r"\.br\\", "99999999999999999999", '""^""', "20240230"])
def test_odd_values_everywhere_stop_no_message(odd: str) -> None:
    pipeline = Pipeline(Profile("northside", timezone=ZONE), "hl7v2")
    for structure in ("ADT_A01", "OML_O21", "RAS_O17", "RDS_O13", "SIU_S12", "VXU_V04"):
        header, *lines = Marked(structure, "2.5.1").text.rstrip("\r").split("\r")
        odds = ["|".join([line[:3], *(odd if text else "" for text in line.split("|")[1:])]) for line in lines]
        text = "\r".join([header, "PID|1||P1", *(line for line in odds if line[:3] != "PID")])
        for frame in pipeline.format.split([text.encode()]):
            assert [f for f in pipeline.run(frame).conversion.findings if f.severity == "error"] == []


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


_NAMES = {("PID", 3), ("PV1", 19), ("OBR", 2), ("OBR", 3), ("OBR", 4), ("ORC", 2), ("ORC", 3), ("OBX", 3)}
_NULLS = {
    "the field": lambda text: '""',
    "each component": lambda text: "^".join('""' for _ in text.split("^")),
    "each subcomponent": lambda text: re.sub(r"[^\^&]+", '""', text),
    "a repetition beside": lambda text: f'""~{text}~""',
}


def _nulled(text: str, null: Callable[[str], str]) -> str:
    lines = []
    for line in text.split("\r"):
        fields = line.split("|")
        kept = {0} | {number for name, number in {*_NAMES, *CODES} if name == fields[0]}
        changed = [null(f) if f and at not in kept and fields[0] != "MSH" else f for at, f in enumerate(fields)]
        lines.append("|".join(changed))
    return "\r".join(lines)


@pytest.mark.parametrize("null", _NULLS)
@pytest.mark.parametrize("structure", ["ADT_A01", "DFT_P03", "ORU_R01", "PPR_PC1", "RAS_O17", "SIU_S12", "VXU_V04"])
def test_the_null_is_nowhere_a_text(structure: str, null: str) -> None:
    conversion = one(_nulled(Marked(structure, "2.5.1").text, _NULLS[null]))
    assert [text for text in _texts(bundle(conversion)) if '""' in text] == []


@pytest.mark.parametrize("null", ["the field", "each component"])
def test_the_null_of_a_field_is_a_clear(null: str) -> None:
    conversion = one(_nulled(Marked("ADT_A01", "2.5.1").text, _NULLS[null]))
    cleared = {path for entry in conversion.entries for path in entry.cleared}
    assert {
        "Patient.name",
        "Patient.birthDate",
        "Patient.address",
        "Patient.telecom",
        "Patient.maritalStatus",
    } <= cleared
    assert {"Encounter.period.start", "Encounter.participant", "Encounter.hospitalization.admitSource"} <= cleared
    assert {"AllergyIntolerance.reaction", "Observation.value"} <= cleared


@pytest.mark.parametrize("structure", STRUCTURES)
def test_no_text_is_empty_padded_or_the_null(structure: str) -> None:
    texts = _texts(bundle(one(Marked(structure, "2.5.1").text)))
    assert [text for text in texts if not text or text != text.strip() or text == '""'] == []
