"""What must not matter to a conversion, and what must not change anything else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.engine.json import dumps
from tasks.convert.bundle import bundle
from tests.property.test_v2_nothing_lost import STRUCTURES
from tests.v2_marks import Marked
from tests.v2_messages import convert, message, one, seg
from tests.v2_separators import rewritten

CASES = Path(__file__).parent.parent / "golden" / "v2"
INPUTS = sorted(path.parent.name for path in CASES.glob("*/input.hl7"))


def text_of(name: str) -> str:
    return (CASES / name / "input.hl7").read_bytes().decode().replace("\r\n", "\r").replace("\n", "\r")


TRIMMINGS = (
    "", r"\F\k", "!", r"\S\@", r"a\T\b", "%", r"\R\.br", r"\E\F\E\ ", r"k\.br\k", r"\X4142\x", r"\H\b\N\.", r"\Zq1\.",
    "/F/", r"\.in2\x", "+.sp+", r"\P\x", "=", r"\XC3\\XA9\e", "$$",
)  # fmt: skip
"""What follows a marker: every escape, and the other separators as letters."""


MARKS = [
    *((structure, "$!/@+|") for structure in STRUCTURES),
    *((structure, marks) for structure in ("ADT_A39", "ORU_R30") for marks in ("!@+/%=", "#&~^|\\")),
]


@pytest.mark.parametrize(("structure", "marks"), MARKS)
def test_all_six_separators_changed_give_the_same_for_every_structure(structure: str, marks: str) -> None:
    text = Marked(structure, "2.7", trimmings=TRIMMINGS).text.replace("^~\\&|", "^~\\&#|", 1)
    plain, other = one(text), one(rewritten(text, marks))
    assert dumps(bundle(other)) == dumps(bundle(plain))
    escapes = {"escape-kept", "escape-unknown"}
    assert [f for f in other.findings if f.code not in escapes] == [f for f in plain.findings if f.code not in escapes]


@pytest.mark.parametrize("name", INPUTS)
def test_a_z_segment_changes_nothing_else(name: str) -> None:
    text = text_of(name)
    with_z = text.rstrip("\r") + "\rZZ9|1|x^y~z\r"
    before, after = convert(text), convert(with_z)
    assert [dumps(bundle(c)) for c in before] == [dumps(bundle(c)) for c in after]
    assert len(after[-1].findings) == len(before[-1].findings) + 1


@pytest.mark.parametrize("name", [name for name in INPUTS if name.startswith("full-")])
def test_a_z_segment_anywhere_and_the_ends_of_lines_change_nothing(name: str) -> None:
    text = text_of(name)
    plain = [dumps(bundle(c)) for c in convert(text)]
    within = re.sub(r"\r(?!MSH|$)", "\rZZ9|1|x^y~z\r", text)
    others = (within, text.replace("\r", "\r\n"), "\ufeff" + text.replace("\r", "\n"), text.replace("\r", "\r\r"))
    assert [[dumps(bundle(c)) for c in convert(other)] for other in others] == [plain] * 4


@pytest.mark.parametrize("name", [name for name in INPUTS if name.startswith("full-")])
def test_a_separator_with_nothing_behind_it_changes_nothing(name: str) -> None:
    text = text_of(name)
    texts = (re.sub(r"(?<=[^|^~&\r\\])(?=\||\r|$)", end, text) for end in ("^^", "~", "^&~"))
    lines = ("\r".join(_headed(text, other)) for other in texts)
    wide = [*lines, "\r".join(f"{line}||" for line in text.rstrip("\r").split("\r"))]
    plain = [dumps(bundle(c)) for c in convert(text)]
    assert [[dumps(bundle(c)) for c in convert(one)] for one in wide] == [plain] * 4


def _headed(text: str, other: str) -> Iterator[str]:
    """Yield the lines of `other` with their names, and the headers, as they are in `text`."""
    for line, changed in zip(text.rstrip("\r").split("\r"), other.split("\r"), strict=False):
        name = changed.partition("|")[0]
        yield line if line.startswith("MSH") else changed.replace(name, line.partition("|")[0], 1)


@pytest.mark.parametrize("name", INPUTS)
def test_a_batch_of_n_equals_n_singles(name: str) -> None:
    text = text_of(name)
    singles = [f"MSH{part}" for part in text.split("MSH") if part]
    batch = "FHS|^~\\&\rBHS|^~\\&\r" + "".join(s.rstrip("\r") + "\r" for s in singles) + f"BTS|{len(singles)}\rFTS|1\r"
    assert [dumps(bundle(c)) for c in convert(batch)] == [dumps(bundle(one(s))) for s in singles]


def test_latin_1_declared_as_such_equals_its_utf_8_twin() -> None:
    def sent(charset: str) -> str:
        head = rf"MSH|^~\&|APP|NS|EHR|W|20240301101500-0500||ADT^A08^ADT_A01|M1|P|2.5.1||||||{charset}"
        return f"{head}\rPID|||1^^^A^MR||Müller^Zoë\r"

    latin, utf8 = one(sent("8859/1").encode("latin-1")), one(sent("UNICODE UTF-8").encode())
    assert dumps(bundle(latin)) == dumps(bundle(utf8))


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters='|^~\\&"'), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_every_repetition_is_a_name_and_the_order_of_identifiers_plays_no_part(
    names: list[str], random: object
) -> None:
    identifiers = [f"{number}^^^AUTH{number}^MR" for number in range(4)]
    shuffled = list(identifiers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = []
    for order in (identifiers, shuffled):
        text = message("ADT^A08^ADT_A01", seg("PID", {3: "~".join(order), 5: "~".join(f"{name}^x" for name in names)}))
        patient = next(e.resource for e in one(text).entries if e.resource["resourceType"] == "Patient")
        assert [name["family"] for name in patient["name"]] == list(dict.fromkeys(names))
        assert {identifier["value"] for identifier in patient["identifier"]} == {"0", "1", "2", "3"}
        found.append(patient["id"])
    assert found[0] == found[1]


@settings(max_examples=40, deadline=None)
@given(
    st.permutations(["AL1|1|DA|P^Nuts^L", "DG1|1||I10^H^I10C", "NK1|1|Kin^Next|SPO", "PV1|1|I|W^1||||||||||||||||V1"])
)
def test_the_order_of_independent_segments_loses_none(segments: list[str]) -> None:
    conversion = one(message("ADT^A01^ADT_A01", seg("PID", {3: "1^^^A^MR"}), *segments))
    kinds = {entry.resource["resourceType"] for entry in conversion.entries}
    assert {"AllergyIntolerance", "Condition", "RelatedPerson", "Encounter", "Patient"} <= kinds
    patient = next(e.resource["id"] for e in conversion.entries if e.resource["resourceType"] == "Patient")
    encounter = next(e.resource for e in conversion.entries if e.resource["resourceType"] == "Encounter")
    assert encounter["subject"] == {"reference": f"Patient/{patient}"}
    assert encounter["diagnosis"]
