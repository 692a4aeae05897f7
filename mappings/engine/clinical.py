"""What a table of rows cannot say of allergies, diagnoses, problems and procedures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mappings.engine import times
from mappings.engine.helpers import cleared, valued, whole
from mappings.engine.keys import text_of
from mappings.engine.nodes import Node
from mappings.engine.primitives import number
from mappings.engine.protocols import CLEAR, Components, Segment
from mappings.engine.registry import composite, segment, text
from mappings.engine.run import ALTERNATE
from mappings.engine.systems import code_system

if TYPE_CHECKING:
    from mappings.engine.run import Run

_HL7 = "http://terminology.hl7.org/CodeSystem/"
_SEVERITIES = {"SV": "severe", "MO": "moderate", "MI": "mild"}


@segment("reaction")
def reaction(seg: Segment, run: Run, target: Node) -> None:
    """AL1-4 and 5, IAM-4 and 5: each manifestation, with the severity where it is not criticality's unknown.

    The guide leaves open which of the two AL1-4 is: it is carried as both, since neither loses what was said.
    """
    name = seg.name
    field = seg.field(5)
    if cleared(field):
        target.clear(f"{name}-5", "reaction")
        return
    manifestations = [value for c in field if (value := _manifestation(c, run, name))]
    if not manifestations:
        return
    said: dict[str, Any] = {"manifestation": manifestations}
    severity = _SEVERITIES.get(seg.value(4).strip())
    if severity:
        said["severity"] = severity
    target.say(f"{name}-5", "reaction", [said])


def _manifestation(c: Components, run: Run, name: str) -> dict[str, Any] | None:
    """A reaction in words; from senders who code it in AL1-5 (a text in the standard), the code and its name."""
    if name == "AL1" and len(c) > 1:
        coded: dict[str, Any] | None = run.maps["CWE[CodeableConcept]"](c, run, "5")
        return coded
    text = whole(c).strip()
    return {"text": text} if text else None


@text("allergy-type", "code")
def allergy_type(value: str, run: Run, at: str, table: Any = None) -> str | None:
    """IAM-9 (HL7 table 0436): allergy or intolerance."""
    known = {"AL": "allergy", "IN": "intolerance", "CT": "intolerance", "AD": "intolerance"}
    return known.get(value.strip().upper()) or run.find("unmapped-code", at)


@composite("allergy-status", "CodeableConcept")
def allergy_status(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """IAM-17 (HL7 table 0438) as a clinical status: a doubt leaves an allergy active."""
    known = {"E": "inactive", "I": "inactive", **dict.fromkeys("CUPSD", "active")}
    code = known.get(text_of(c, 1))
    return {"coding": [{"system": f"{_HL7}allergyintolerance-clinical", "code": code}]} if code else None


@composite("allergy-verification", "CodeableConcept")
def allergy_verification(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """IAM-17 as a verification status: unconfirmed, pending, suspect and doubt raised are all not confirmed."""
    known = {
        "c": "confirmed", "i": "confirmed", "e": "refuted",
        "u": "unconfirmed", "p": "unconfirmed", "s": "unconfirmed", "d": "unconfirmed",
    }  # fmt: skip
    return _status(known, "allergyintolerance-verification", c, run, at)


@segment("allergy-reporter")
def allergy_reporter(seg: Segment, run: Run, target: Node) -> None:
    """IAM-14 and 15: who reported it, the patient (SEL), a related person, or a practitioner when 15 is silent."""
    names = seg.field(14)
    patient = run.scope.find("Patient")
    if not names:
        return
    relation = seg.value(15).strip()
    if relation == "SEL" and patient is not None:
        target.say("IAM-14", "recorder", patient.pointer())
        return
    name = run.maps["XPN[HumanName]"](names[0], run, "14")
    if not name:
        return
    kind = "RelatedPerson" if relation else "Practitioner"
    node = run.mention(kind, (False, [patient.id if patient and relation else "", repr(names[0])]))
    node.mention("IAM-14", "name", [name])
    if relation and patient is not None:
        node.mention("PID", "patient", patient.pointer())
        concept = run.maps["CWE[CodeableConcept]"](seg.field(15)[0], run, "15", run.tables["Relationship"])
        node.mention("IAM-15", "relationship", [concept])
        target.say("IAM-14", "asserter", node.pointer())
    else:
        target.say("IAM-14", "recorder", node.pointer())


@composite("coded-by-method", "CodeableConcept")
def coded_by_method(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """DG1-3 and PR1-3; before 2.5 their coding system stands in DG1-2 and PR1-2."""
    concept: dict[str, Any] | None = run.maps["CWE[CodeableConcept]"](c, run, at)
    method = run.seg.value(2).strip() if run.seg is not None else ""
    if not concept or not method or method == CLEAR:
        return concept
    first = concept.get("coding", [{}])[0]
    uri = code_system(method) or run.local_system(method)
    if "code" not in first or "system" in first:
        if first.get("system") != uri:
            run.find("outranked", "2", "information")
        return concept
    return {**concept, "coding": [{"system": uri, **first}, *concept["coding"][1:]]}


@composite("diagnosis-category", "CodeableConcept")
def diagnosis_category(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """A diagnosis of a visit."""
    coding = {"system": f"{_HL7}condition-category", "code": "encounter-diagnosis", "display": "Encounter Diagnosis"}
    return {"coding": [coding]} if text_of(c, 1) else None


@text("rank", "positiveInt")
def rank(value: str, run: Run, at: str, table: Any = None) -> int | None:
    """DG1-15 from 1; 0 says that the diagnosis is not ranked."""
    found = number(value)
    if found is None:
        return run.find("not-a-number", at)
    return int(found) if 1 <= found < 2**31 and found == found.to_integral_value() else None


def _pointer(c: Components, run: Run, at: str, kind: str) -> dict[str, Any] | None:
    identifier = run.maps["EI[Identifier]"](c, run, at)
    return {"type": kind, "identifier": identifier} if identifier else None


@composite("condition-pointer", "Reference")
def condition_pointer(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """An EI that names a Condition of another message."""
    return _pointer(c, run, at, "Condition")


@composite("procedure-pointer", "Reference")
def procedure_pointer(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """An EI that names a Procedure of another message."""
    return _pointer(c, run, at, "Procedure")


@segment("performed")
def performed(seg: Segment, run: Run, target: Node) -> None:
    """PR1-5, and with PR1-7 in minutes its end."""
    start = run.date_time(seg.value(5).strip().replace(CLEAR, ""), "5")
    if start is None:
        if valued(seg, 7):
            run.find("component-not-carried", "7")
        return
    end = plus_minutes(start, seg.value(7))
    if end is None and valued(seg, 7):
        run.find("component-not-carried", "7")
    if end is None:
        target.say("PR1-5", "performedDateTime", start)
    else:
        target.say("PR1-5", "performedPeriod", {"start": start, "end": end})


def plus_minutes(start: str, minutes: str) -> str | None:
    """Return a dateTime `minutes` later; None where it has no time part or there are no minutes."""
    amount = number(minutes) if minutes.strip() else None
    if amount is None or "T" not in start or amount < 0 or amount > 10_000_000:
        return None
    return times.later(start, float(amount))


def _status(known: dict[str, str], system: str, c: Components, run: Run, at: str) -> dict[str, Any] | None:
    code, shown = text_of(c, 1), text_of(c, 2)
    target = known.get(code.lower()) or known.get(shown.lower())
    if target is None:
        if not code and not shown:
            return None
        run.unmapped(system, "", code or shown, at)
        return {"extension": [{"url": ALTERNATE, "valueCodeableConcept": run.maps["CWE[CodeableConcept]"](c, run, at)}]}
    return {"coding": [{"system": f"{_HL7}{system}", "code": target}], **({"text": shown} if shown else {})}


@composite("problem-status", "CodeableConcept")
def problem_status(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """PRB-14, for which HL7 has no table: what senders write, as a clinical status."""
    known = {
        "a": "active", "active": "active", "i": "inactive", "inactive": "inactive", "r": "resolved",
        "resolved": "resolved", "remission": "remission", "recurrence": "recurrence", "relapse": "relapse",
    }  # fmt: skip
    return _status(known, "condition-clinical", c, run, at)


@composite("problem-verification", "CodeableConcept")
def problem_verification(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """PRB-13, for which HL7 has no table: what senders write, as a verification status."""
    known = {
        "confirmed": "confirmed", "c": "confirmed", "provisional": "provisional", "p": "provisional",
        "differential": "differential", "d": "differential", "suspected": "provisional", "refuted": "refuted",
        "rule-out": "unconfirmed", "unconfirmed": "unconfirmed", "u": "unconfirmed",
    }  # fmt: skip
    return _status(known, "condition-ver-status", c, run, at)
