"""Which segment belongs to which."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tasks.parse.v2_message import Message, Segment
from tasks.parse.v2_read import read_message

Tree = dict[str, list[str]]


def message(kind: str, segments: str, version: str = "2.5.1") -> Message:
    lines = (f"MSH|^~\\&|A|B|||2020||{kind}|1|P|{version}", *(f"{name}|" for name in segments.split()))
    return read_message("\r".join(lines).encode())


def label(segment: Segment | None) -> str:
    return "" if segment is None else f"{segment.name}{segment.ordinal}"


def labels(segments: list[Segment]) -> str:
    return " ".join(map(label, segments))


def parents(found: Message) -> str:
    return " ".join(label(segment.parent) or "-" for segment in found.segments)


def displaced(found: Message) -> dict[str, str]:
    return {one.location: one.severity for one in found.findings if one.code == "segment-out-of-place"}


@pytest.mark.parametrize(
    ("kind", "segments", "wanted"),
    [
        (
            "ORU^R01^ORU_R01",
            "PID NTE PV1 ORC OBR NTE TQ1 OBX NTE NTE OBX SPM OBX NTE OBR OBX",
            "MSH1 PID1 PID1 MSH1 MSH1 OBR1 OBR1 OBR1 OBX1 OBX1 OBR1 OBR1 SPM1 OBX3 MSH1 OBR2",
        ),
        (
            "OML^O21^OML_O21",
            "PID PV1 ORC TQ1 OBR OBX SPM SAC ORC OBR",
            "MSH1 PID1 MSH1 ORC1 ORC1 OBR1 OBR1 SPM1 MSH1 ORC2",
        ),
        ("OUL^R22^OUL_R22", "PID SPM OBX SAC OBR ORC OBX SPM OBR", "MSH1 MSH1 SPM1 SPM1 SPM1 OBR1 OBR1 MSH1 SPM2"),
        (
            "VXU^V04^VXU_V04",
            "PID PD1 NK1 ORC RXA NTE RXR OBX NTE ORC RXA",
            "MSH1 MSH1 MSH1 MSH1 ORC1 RXA1 ORC1 ORC1 OBX1 MSH1 ORC2",
        ),
        ("RDE^O11^RDE_O11", "PID AL1 ORC RXO RXR RXE TQ1 RXR RXC", "MSH1 PID1 MSH1 ORC1 RXO1 ORC1 ORC1 ORC1 ORC1"),
        (
            "ADT^A01",
            "EVN PID NTE PV1 OBX NTE OBX AL1 DG1 PR1 ROL IN1 IN2 IN1",
            "MSH1 MSH1 PID1 MSH1 MSH1 OBX1 MSH1 MSH1 MSH1 MSH1 PR11 MSH1 IN11 MSH1",
        ),
        ("ADT^A40", "EVN PID MRG PID MRG", "MSH1 MSH1 PID1 MSH1 PID2"),
        ("SIU^S12", "SCH NTE PID PV1 RGS AIS NTE AIL RGS AIP", "MSH1 SCH1 MSH1 PID1 MSH1 RGS1 AIS1 RGS1 MSH1 RGS2"),
        ("PPR^PC1", "PID PV1 PRB NTE OBX ORC OBR PRB", "MSH1 MSH1 MSH1 PRB1 PRB1 PRB1 ORC1 MSH1"),
        ("DFT^P03", "EVN PID FT1 PR1 FT1 IN1 IN2", "MSH1 MSH1 MSH1 FT11 MSH1 MSH1 IN11"),
        ("MDM^T02", "EVN PID PV1 TXA OBX NTE OBX", "MSH1 MSH1 MSH1 MSH1 MSH1 OBX1 MSH1"),
        ("ORM^O01", "PID ORC RXO NTE ORC OBR OBX", "MSH1 MSH1 ORC1 RXO1 MSH1 ORC2 OBR1"),
    ],
)
def test_segments_belong_where_their_structure_has_them(kind: str, segments: str, wanted: str) -> None:
    found = message(kind, segments)
    assert parents(found) == f"- {wanted}"
    assert found.findings == ()


def test_parents_and_children_say_the_same() -> None:
    found = message("ORU^R01", "PID NTE ORC OBR OBX NTE SPM OBX ZAB PV1")
    for segment in found.segments:
        assert all(child.parent is segment for child in segment.children)
        assert segment.parent is None or segment in segment.parent.children
    assert [label(one) for one in found.segments if one.parent is None] == ["MSH1"]


def test_nearest_looks_at_itself_its_group_and_upwards() -> None:
    found = message("ORU^R01", "PID PV1 ORC OBR OBX NTE OBX SPM OBX OBR OBX PID OBR OBX")
    one, two, specimen, other, last = found.all("OBX")
    assert label(one.nearest("OBX")) == "OBX1"
    assert [label(one.nearest(name)) for name in ("OBR", "ORC", "PV1", "PID", "MSH")] == [
        "OBR1",
        "ORC1",
        "PV11",
        "PID1",
        "MSH1",
    ]
    assert label(specimen.nearest("SPM")) == "SPM1"
    assert [label(two.nearest(name)) for name in ("SPM", "NTE", "ZZZ")] == ["", "", ""]
    assert [label(other.nearest(name)) for name in ("OBR", "ORC", "SPM")] == ["OBR2", "", ""]
    assert [label(last.nearest(name)) for name in ("PID", "PV1", "OBR")] == ["PID2", "", "OBR3"]


def test_below_gives_what_a_segment_stands_for() -> None:
    found = message("ORU^R01", "PID NTE NK1 PV1 ORC OBR OBX NTE OBX SPM OBX OBR OBX")
    patient, order, request, specimen = (found.first(name) for name in ("PID", "ORC", "OBR", "SPM"))
    assert patient
    assert order
    assert request
    assert specimen
    assert [labels(patient.below(name)) for name in ("NTE", "NK1", "PV1", "OBR")] == ["NTE1", "NK11", "PV11", ""]
    assert [labels(one.below("OBX")) for one in (order, request, specimen)] == [
        "OBX1 OBX2 OBX3",
        "OBX1 OBX2 OBX3",
        "OBX3",
    ]
    assert labels(found.all("OBR")[1].below("OBX")) == "OBX4"
    assert labels(found.all("OBX")[0].below("NTE")) == "NTE2"
    assert labels(found.all("OBX")[1].below("NTE")) == ""
    assert labels(found.segments[0].below("OBX")) == "OBX1 OBX2 OBX3 OBX4"


def test_the_two_patients_of_a_swap_keep_apart() -> None:
    found = message("ADT^A17", "EVN PID PV1 PID PV1", "2.5")
    assert [labels(one.below("PV1")) for one in found.all("PID")] == ["PV11", "PV12"]
    assert [label(one.nearest("PID")) for one in found.all("PV1")] == ["PID1", "PID2"]


def test_a_prior_result_does_not_borrow_from_the_order_around_it() -> None:
    found = message("OML^O21", "PID PV1 ORC OBR OBX PID OBR OBX ORC OBR")
    request, prior, following = found.all("OBR")
    assert [one.group for one in (request, prior, following)] == [
        "OBSERVATION_REQUEST",
        "ORDER_PRIOR",
        "OBSERVATION_REQUEST",
    ]
    assert [label(prior.nearest(name)) for name in ("ORC", "PID")] == ["", "PID2"]
    assert labels(request.below("OBX")) == "OBX1"
    assert labels(prior.below("OBX")) == "OBX2"
    assert label(following.nearest("ORC")) == "ORC2"


def test_a_prior_result_may_open_with_its_visit() -> None:
    found = message("OMG^O19", "PID PV1 ORC OBR OBX PV1 ORC OBR OBX ORC OBR", "2.8")
    assert [one.group for one in found.all("PV1")] == ["PATIENT_VISIT", "PATIENT_VISIT_PRIOR"]
    assert found.all("OBR")[1].group == "ORDER_PRIOR"
    assert displaced(found) == {}


def test_observations_after_a_specimen_are_the_specimens_in_versions_without_one() -> None:
    found = message("ORU^R01", "PID OBR OBX SPM OBX NTE SPM OBX OBR OBX", "2.3.1")
    assert parents(found) == "- MSH1 MSH1 OBR1 OBR1 SPM1 OBX2 OBR1 SPM2 MSH1 OBR2"
    assert labels(found.all("SPM")[0].below("OBX")) == "OBX2"
    assert label(found.all("OBX")[1].nearest("SPM")) == "SPM1"
    assert displaced(found) == {"SPM": "warning", "SPM[2]": "warning"}


def test_a_segment_after_its_turn_goes_where_its_structure_has_it() -> None:
    found = message("ORU^R01", "PID OBR OBX PV1")
    visit = found.all("PV1")[0]
    assert label(visit.parent) == "PID1"
    assert label(found.all("OBX")[0].parent) == "OBR1"
    assert displaced(found) == {"PV1": "information"}
    assert labels(found.all("PID")[0].below("PV1")) == "PV11"


def test_the_order_of_independent_segments_loses_none() -> None:
    found = message("ADT^A01", "EVN PV1 PID AL1 NK1 NK1 DG1 PV2")
    assert parents(found) == "- MSH1 MSH1 MSH1 MSH1 MSH1 MSH1 MSH1 MSH1"
    assert displaced(found) == dict.fromkeys(("PID", "NK1", "PV2"), "information")


def test_a_late_insurance_is_an_insurance_of_its_own() -> None:
    found = message("ADT^A01", "EVN PID PV1 IN1 IN2 ACC IN1 IN2", "2.3")
    assert [label(one.nearest("IN1")) for one in found.all("IN2")] == ["IN11", "IN12"]
    assert displaced(found) == {"IN1[2]": "information"}


def test_a_second_request_without_its_order_shares_it() -> None:
    found = message("ORM^O01", "PID ORC OBR NTE OBX OBR OBX", "2.3")
    assert [label(one.nearest("OBR")) for one in found.all("OBX")] == ["OBR1", "OBR2"]
    assert [label(one.nearest("ORC")) for one in found.all("OBR")] == ["ORC1", "ORC1"]
    assert [labels(one.below("OBX")) for one in found.all("OBR")] == ["OBX1", "OBX2"]
    assert displaced(found) == {"OBR[2]": "information"}


def test_a_message_of_an_unknown_structure_is_grouped_all_the_same() -> None:
    found = message("QQQ^R01", "PID PD1 PV1 OBR OBX NTE SPM OBX OBR OBX IN1 IN2")
    assert parents(found) == "- MSH1 PID1 PID1 MSH1 OBR1 OBX1 OBR1 SPM1 MSH1 OBR2 PID1 IN11"
    assert [(one.code, one.location, one.severity) for one in found.findings] == [
        ("structure-unknown", "MSH-9", "information")
    ]


def test_a_structure_of_another_version_is_better_than_none() -> None:
    assert message("OML^O21", "PID ORC OBR OBX", "2.3.1").findings == ()


def test_an_unknown_segment_is_kept_and_follows_the_one_before_it() -> None:
    found = message("ORU^R01", "PID OBR OBX QQQ OBX")
    assert displaced(found) == {"QQQ": "warning"}
    assert labels(found.all("OBX")) == "OBX1 OBX2"
    assert [label(one.parent) for one in found.all("OBX")] == ["OBR1", "OBR1"]


def test_a_local_segment_belongs_to_the_one_that_it_follows_and_changes_nothing_else() -> None:
    names = "PID NTE PV1 ORC OBR OBX NTE OBX SPM OBX OBR OBX"
    plain = message("ORU^R01", names)
    local = message("ORU^R01", names.replace(" ", " ZAB ") + " ZAB ZAC")
    kept = [one for one in local.segments if not one.name.startswith("Z")]
    assert [label(one.parent) for one in kept] == [label(one.parent) for one in plain.segments]
    assert [label(one.nearest("OBR")) for one in kept] == [label(one.nearest("OBR")) for one in plain.segments]
    assert [labels(one.below("OBX")) for one in kept] == [labels(one.below("OBX")) for one in plain.segments]
    assert local.findings == plain.findings
    for before, after in pairwise(local.segments):
        if after.name == "ZAB" and before.name not in ("NTE", "ZAB"):
            assert after.parent is before


def test_the_tree_of_a_very_long_message_takes_linear_time() -> None:
    found = message("ORU^R01", "PID OBR " + "OBX NTE " * 20_000)
    order = found.all("OBR")[0]
    assert len(order.below("OBX")) == 20_000
    assert {label(one.nearest("OBR")) for one in found.all("OBX")} == {"OBR1"}
    assert {label(one.nearest("SPM")) for one in found.all("NTE")} == {""}
