from collections.abc import Callable
from typing import Any

import pytest

from mappings.engine.model import Profile
from tasks.errors import ConfigError
from tasks.feed import Rule
from tasks.model import BEGIN, Frame
from tasks.parse.hl7v2 import Hl7v2Format
from tasks.route.rules import Decision, RouteMistake, compile_rules

MESSAGE = b"""MSH|^~\\&|LAB|NMC|HUB|HUB|20260309||ORU^R01^ORU_R01|1|P|2.5.1
PID|1||100482^^^NORTHSIDE^MR~R284001^^^RIVERSIDE^PI||Doe^Jane||19800101|F
OBX|1|NM|2345-7^Glucose||5.1
OBX|2|ST|6690-2^WBC||""
""".replace(b"\n", b"\r")
ROWS = [{"status": "F", "site": "EASTLAB CENTRAL", "flag": ""}, {"status": "P", "site": None, "count": 3}]
RESOURCE = {
    "resourceType": "Patient",
    "active": True,
    "name": [{"family": "Doe", "given": ["Jane", "Q"]}, {"family": "Roe"}],
    "managingOrganization": {"reference": "Organization/1"},
}


@pytest.fixture(scope="module")
def message() -> Any:
    return Hl7v2Format(Profile("some", "v2", "UTC")).parse(Frame(1, "message 1", MESSAGE, BEGIN)).content


def holds(when: str, content: Any) -> bool:
    return compile_rules([Rule(when=when, to=("there",))])(content) == Decision(("there",))


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("MSH-9.1 = ORU", True),
        ("MSH-9.1 = ADT", False),
        ("MSH-9.2 = R01", True),
        ("MSH-9 = ORU", True),
        ("MSH-9.1 != ADT", True),
        ("MSH-9.1 != ORU", False),
        ("MSH-9.1 in ADT, ORU", True),
        ("MSH-9.1 in ADT,ORU", True),
        ("MSH-9.1 in 'ADT', \"ORU\"", True),
        ("MSH-9.1 in ADT, SIU", False),
        ("MSH-9.1 = 'ORU'", True),
        ("MSH-9.1=ORU", True),
        ("PID-8 valued", True),
        ("PID-30 valued", False),
        ("PV1-2 valued", False),
        ("PV1-2 = I", False),
        ("PV1-2 != I", True),
        ("OBX-3.1 = 6690-2", True),
        ("OBX[1]-3.1 = 6690-2", False),
        ("OBX[2]-3.1 = 6690-2", True),
        ("OBX[3]-3.1 valued", False),
        ("PID-3[2].4 = RIVERSIDE", True),
        ("PID-3.4 = RIVERSIDE", False),
        ("MSH-9.1 = ORU and PID-8 = F", True),
        ("MSH-9.1 = ORU and PID-8 = M", False),
        ("MSH-9.1 = ORU  and  PID-8 valued", True),
    ],
)
def test_a_condition_on_an_hl7_message(message: Any, when: str, expected: bool) -> None:
    assert holds(when, message) is expected


@pytest.mark.parametrize(
    ("when", "content", "expected"),
    [
        ("status = P", ROWS, True),
        ("status = X", ROWS, False),
        ("site = EASTLAB CENTRAL", ROWS, True),
        ("site = 'EASTLAB CENTRAL'", ROWS, True),
        ("flag valued", ROWS, False),
        ("count = 3", ROWS, True),
        ("no_such_column valued", ROWS, False),
        ("no_such_column != x", ROWS, True),
        ("resourceType = Patient", RESOURCE, True),
        ("name.family = Roe", RESOURCE, True),
        ("name.given = Q", RESOURCE, True),
        ("managingOrganization.reference = Organization/1", RESOURCE, True),
        ("name.family.deeper valued", RESOURCE, False),
        ("meta.source valued", RESOURCE, False),
    ],
)
def test_a_condition_on_rows_and_resources(when: str, content: Any, expected: bool) -> None:
    assert holds(when, content) is expected


def decide(*rules: Rule) -> Callable[[Any], Decision]:
    return compile_rules(rules)


def test_the_first_rule_that_holds_decides() -> None:
    decided = decide(
        Rule(when="status = X", to=("never",)),
        Rule(when="status = P", drop="preliminary"),
        Rule(to=("warehouse", "ehr")),
    )
    assert decided([{"status": "P"}]) == Decision((), "preliminary")
    assert decided([{"status": "F"}]) == Decision(("warehouse", "ehr"))


def test_what_no_rule_takes_is_dropped_with_a_reason() -> None:
    assert decide(Rule(when="status = P", to=("ehr",)))([{"status": "F"}]) == Decision((), "no-route")
    assert decide()([]) == Decision((), "no-route")


@pytest.mark.parametrize("when", ["", "MSH-9.1", "MSH-9.1 ~ X", "MSH-9.1 =", "= ORU", "a = b and", "MSH-9.1 is ORU"])
def test_what_is_no_condition_is_told_with_the_forms_that_there_are(when: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a condition; write `MSH-9\.1 = ORU`"):
        decide(Rule(when=when, to=("ehr",)))


@pytest.mark.parametrize(
    ("format_name", "when", "said"),
    [
        ("fhir-ndjson", "PID-3 valued", "`PID-3` is a field of HL7 v2, and the feed's format is fhir-ndjson"),
        ("fhir-bundle", "status = final and OBX[2]-5.1 = x", "write elements of the resource"),
        ("hl7v2", "Patient.gender = male", "`Patient.gender` is not a field of HL7 v2: write `MSH-9.1`"),
        ("hl7v2", "Observation: status = 'final'", "is not a"),
    ],
)
def test_a_reference_that_the_format_cannot_have_is_refused_before_a_record_comes(
    format_name: str, when: str, said: str
) -> None:
    rules = [Rule(to=("warehouse",)), Rule(when=when, to=("ehr",))]
    with pytest.raises(RouteMistake) as caught:
        compile_rules(rules, None, format_name)
    assert caught.value.rules == (1,)
    assert said in caught.value.problems[0]
