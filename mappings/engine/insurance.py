"""What a table of rows cannot say of IN1 to IN3: who insures, who is insured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mappings.engine.composites import mapped_alternate
from mappings.engine.helpers import cleared, valued, whole
from mappings.engine.keys import text_of, typed
from mappings.engine.nodes import Node
from mappings.engine.protocols import Components, Segment
from mappings.engine.registry import action, composite, segment, text

if TYPE_CHECKING:
    from mappings.engine.run import Run


@segment("insured-plan")
def insured_plan(seg: Segment, run: Run, target: Node) -> None:
    """IN1-2: number and name of the plan; what they are by themselves is the row's that makes an identifier of it."""
    plans = seg.field(2)
    if cleared(plans):
        target.clear("IN1-2", "class")
    number, name = (text_of(plans[0], comp) for comp in (1, 2)) if plans else ("", "")
    if number or name:
        named = {"name": name} if name else {}
        target.say("IN1-2", "class", [{"type": _PLAN, "value": number or name, **named}])


@segment("insured-group")
def insured_group(seg: Segment, run: Run, target: Node) -> None:
    """IN1-8 and IN1-9: number and name of the group; FHIR wants a value, be it for a name alone."""
    numbers, names = seg.field(8), seg.field(9)
    if cleared(numbers):
        target.clear("IN1-8", "class")
    number = whole(numbers[0]).strip() if numbers else ""
    name = run.maps["XON[string]"](names[0], run, "9") if names else None
    if len(names) > 1:
        run.find("repetition-not-carried", "9")
    if number or name:
        named = {"name": name} if name else {}
        target.say("IN1-8", "class", [{"type": _GROUP, "value": number or "group", **named}])


_PLAN, _GROUP = (
    {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/coverage-class", "code": code}]}
    for code in ("plan", "group")
)


@text("member-number", "Identifier")
def member_number(value: str, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """IN2-6 and IN2-8: the number of Medicare or Medicaid."""
    kind = {"6": ("MC", "Patient's Medicare number"), "8": ("MA", "Patient Medicaid number")}.get(
        at.split(".", maxsplit=1)[0]
    )
    found: dict[str, Any] = {"value": value.strip()}
    if kind:
        system = "http://terminology.hl7.org/CodeSystem/v2-0203"
        found["type"] = {"coding": [{"system": system, "code": kind[0], "display": kind[1]}]}
    return found if found["value"] else None


@composite("case-manager", "CodeableConcept")
def case_manager(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """IN3-21 names a case manager: SNOMED CT has the role."""
    if not text_of(c, 1):
        return None
    return {"coding": [{"system": "http://snomed.info/sct", "code": "768832004"}], "text": "case manager"}


@segment("insurer")
def insurer(seg: Segment, run: Run, target: Node) -> None:
    """IN1-3 and IN1-5 to IN1-7: identifiers, address, contact and telephone of the insurer in IN1-4.

    Without a name (IN1-4) the first identifier names the insurer.
    """
    node = _insurer(seg, run, target)
    if node is None:
        return
    for number, path, found in (
        (3, "identifier", _all(seg, run, 3, "CX[Identifier]")),
        (5, "address", _all(seg, run, 5, "XAD[Address]")),
        (6, "contact", [{"name": name} for name in _all(seg, run, 6, "XPN[HumanName]")]),
        (7, "telecom", _all(seg, run, 7, "XTN[ContactPoint]")),
    ):
        if found:
            node.mention(f"IN1-{number}", path, found)


def _insurer(seg: Segment, run: Run, target: Node) -> Node | None:
    names, numbers = seg.field(4), seg.field(3)
    pointer = run.maps["XON[Organization]"](names[0], run, "4") if names else None
    if pointer is not None:
        return run.nodes["Organization", pointer["reference"].split("/")[1]]
    key = typed("CX", numbers[0]) if numbers else None
    if key is None:
        return None
    node = run.mention("Organization", key)
    target.say("IN1-3", "payor", [node.pointer()])
    return node


def _all(seg: Segment, run: Run, number: int, data_type: str) -> list[dict[str, Any]]:
    """Return what the data type's map makes of each repetition of a field."""
    call = run.maps[data_type]
    return [value for c in seg.field(number) if (value := call(c, run, str(number)))]


_SELF = {"SEL", "SELF", "01", "18", "S", "PATIENT"}


@segment("subscriber")
def subscriber(seg: Segment, run: Run, target: Node) -> None:
    """IN1-16 to IN1-19, 43, 49: the insured is the patient (IN1-17 says self) or a related person."""
    patient = run.scope.find("Patient")
    names = seg.field(16)
    if patient is not None and seg.value(17).strip().upper() in _SELF:
        target.say("IN1-16", "subscriber", patient.pointer())
        _told(seg, run)
        return
    number = seg.field(49)
    found = typed("CX", number[0]) if number else None
    key = [patient.id if patient else "", *(found[1] if found else [repr(names[:1])])]
    if not names and found is None:
        _told(seg, run)
        return
    node = run.mention("RelatedPerson", (False, key))
    _person(node, seg, run)
    if patient is not None:
        node.mention("PID", "patient", patient.pointer())
    target.say("IN1-16", "subscriber", node.pointer())


def _told(seg: Segment, run: Run) -> None:
    """Note what IN1 says of the insured where that is the patient (of whom PID speaks), or nobody."""
    for number in (16, 18, 19, 43, 49):
        if valued(seg, number):
            run.find("outranked", str(number), "information")


def _person(node: Node, seg: Segment, run: Run) -> None:
    for number, name, path in (
        (16, "XPN[HumanName]", "name"), (19, "XAD[Address]", "address"), (49, "CX[Identifier]", "identifier"),
    ):  # fmt: skip
        if found := _all(seg, run, number, name):
            node.mention(f"IN1-{number}", path, found)
    born = run.date_time(seg.value(18).strip(), "18")
    if born:
        node.mention("IN1-18", "birthDate", born[:10])
    sexes = seg.field(43)
    sex = mapped_alternate(sexes[0], run, "43", run.tables["AdministrativeSex"]) if sexes else None
    if sex is not None:
        node.mention("IN1-43", "gender", sex)
    elif sexes and run.lost:
        node.mention("IN1-43", "_gender", run.take_lost())


@action("payor-required")
def payor_required(seg: Segment, run: Run) -> None:
    """Coverage.payor is required: who pays for a coverage of which the message does not say it is unknown."""
    for node in run.order:
        if node.type == "Coverage" and node.slots is not None:
            node.say("~~", "payor", [{"display": "unknown"}])


@action("further-financial-classes")
def further_financial_classes(seg: Segment, run: Run) -> None:
    """The repetitions of PV1-20 after the first: a Coverage each, named as the first one is."""
    patient = run.scope.find("Patient")
    for c in seg.field(20)[1:] if patient is not None else ():
        if not text_of(c, 1) or patient is None:
            continue
        text = "^".join("&".join(subs) for subs in c)
        key = run.identity("Coverage", run.partner, ["Coverage:visit", patient.id, text])
        node = run.add(Node("Coverage:visit", "Coverage", key, run.scope, True))
        kind = run.maps["CWE[CodeableConcept]"]([[sub] for sub in c[0]], run, "20.1", run.tables["FinancialClass"])
        start = run.date_time(text_of(c, 2), "20.2")
        said = {"type": kind, "period": {"start": start} if start else None, "beneficiary": patient.pointer()}
        for path, value in {**said, "payor": [patient.pointer()]}.items():
            if value:
                node.say("PV1-20" if path in {"type", "period"} else "PV1", path, value)
        node.say("~PV1", "status", "active")
