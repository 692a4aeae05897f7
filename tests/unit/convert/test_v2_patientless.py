"""A message without a patient says so once; what has none by its nature is taken."""

from __future__ import annotations

import pytest

from mappings.engine.model import Profile
from tasks.pipeline import Done, Pipeline
from tests.v2_messages import ZONE, message, resources, seg

REPORT = [seg("OBR", {2: "P1", 3: "F1", 4: "A^CBC^L", 25: "F"}), "OBX|1|NM|B||1|g|||||F"]


def done(kind: str, *segments: str) -> Done:
    pipeline = Pipeline(Profile("northside", timezone=ZONE), "hl7v2")
    (frame,) = pipeline.format.split([message(kind, *segments).encode()])
    return pipeline.run(frame)


@pytest.mark.parametrize(
    ("kind", "segments"),
    [
        ("ORU^R01^ORU_R01", REPORT),
        ("ADT^A08^ADT_A01", ["PV1||I", "DG1|1||I10^x^I10", "AL1|1|DA|P", "IN1|1|P1|C1", "NK1|1|Doe^J|SPO"]),
        ("RDE^O11^RDE_O11", ["ORC|NW|P1", "RXE||A^b^L"]),
        ("VXU^V04^VXU_V04", ["ORC|RE||F1", "RXA|0|1|20240601||208^C^CVX|1"]),
        ("DFT^P03^DFT_P03", [seg("FT1", {4: "20240601", 6: "CG", 7: "A"}), "PR1|1||A^b"]),
        ("PPR^PC1^PPR_PC1", ["PRB|AD|20240601|A^b|1", "GOL|AD|20240601|A^b|1", "PTH|AD|A^b|1"]),
        ("RAS^O17^RAS_O17", ["ORC|RE|P1", "RXA|0|1|20240601||A^b|1"]),
        ("REF^I12^REF_I12", ["RF1|A|||||1"]),
        ("BAR^P01^BAR_P01", ["PV1||I", "GT1|1||Doe^J"]),
    ],
)
def test_what_is_missing_is_said_once_and_plainly(kind: str, segments: list[str]) -> None:
    findings = done(kind, *segments).conversion.findings
    assert [(f.code, f.location) for f in findings if f.severity == "error"] == [("no-patient", "PID")]


def test_a_control_s_results_have_no_patient() -> None:
    conversion = done("OUL^R22^OUL_R22", seg("SPM", {2: "S1", 4: "BLD", 11: "Q"}), *REPORT).conversion
    assert [(f.severity, f.location) for f in conversion.findings if f.code == "no-patient"] == [("information", "PID")]
    (order,) = resources(conversion, "ServiceRequest")
    assert order["subject"]["extension"][0]["valueCode"] == "unknown"


@pytest.mark.parametrize(
    ("kind", "segments", "severity"),
    [
        ("ADT^A08^ADT_A01", ["PV1||I|||||||||||||||||V1"], ["warning"]),
        ("MDM^T02^MDM_T02", ["TXA|1|DI|TX|||||||||D1", "OBX|1|TX|A||text"], ["warning"]),
        ("ADT^A20^ADT_A20", ["NPU|W4^401^A|H"], []),
        ("SIU^S12^SIU_S12", ["SCH|A1|A2|||||||||^^30^20240601080000^20240601083000", "AIL|1||W4"], []),
    ],
)
def test_what_may_be_nobody_s_is_taken(kind: str, segments: list[str], severity: list[str]) -> None:
    findings = done(kind, *segments).conversion.findings
    assert [f.severity for f in findings if f.code == "no-patient"] == severity
    assert not [f for f in findings if f.severity == "error"]
