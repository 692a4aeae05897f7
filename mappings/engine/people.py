"""Practitioners in a role, and the parties of a message who are not the patient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mappings.engine import times
from mappings.engine.keys import text_of, typed
from mappings.engine.protocols import Components, Segment
from mappings.engine.registry import composite, segment

if TYPE_CHECKING:
    from mappings.engine.nodes import Node
    from mappings.engine.run import Run

ROLE = "http://terminology.hl7.org/CodeSystem/practitioner-role"
V3_PART = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
V2_0912 = "http://terminology.hl7.org/CodeSystem/v2-0912"
V2_0443 = "http://terminology.hl7.org/CodeSystem/v2-0443"


def role_of(  # noqa: PLR0917
    c: Components, run: Run, at: str, system: str, code: str, organization: Any = None
) -> dict[str, str] | None:
    """Return a reference to the PractitionerRole of an XCN: the practitioner, in this role, for this organization."""
    practitioner = run.maps["XCN[Practitioner]"](c, run, at)
    if practitioner is None:
        return None
    key = [practitioner["reference"].split("/")[1], code, (organization or {}).get("reference", "")]
    found = typed("XCN", c)
    node = run.mention("PractitionerRole", (bool(found and found[0]), key))
    node.mention("XCN", "practitioner", practitioner)
    node.mention("role", "code", [{"coding": [{"system": system, "code": code}]}])
    if organization is not None:
        node.mention("organization", "organization", organization)
    return node.pointer()


def _role(system: str, code: str) -> Callable[..., Any]:
    def convert(c: Components, run: Run, at: str, table: Any = None) -> dict[str, str] | None:
        return role_of(c, run, at, system, code)

    return convert


for _name, _system, _code in (
    ("role-observer", ROLE, "responsibleObserver"),
    ("role-requester", V2_0443, "OP"),
    ("role-administrator", V2_0443, "AP"),
):
    composite(_name, "Reference")(_role(_system, _code))


def _signing(run: Run, practitioner: dict[str, str]) -> Node:
    node = run.mention("PractitionerRole", (False, [practitioner["reference"].split("/")[1], "NDL"]))
    node.mention("NDL.1", "practitioner", practitioner)
    return node


@composite("cnn-role", "Reference")
def cnn_role(c: Components, run: Run, at: str, table: Any = None) -> dict[str, str] | None:
    """NDL as PractitionerRole: who (NDL.1), when (2, 3), where (4 to 11)."""
    if not c or not c[0]:
        return None
    if len(c) > 1 and len(c[0]) == 1 and text_of(c, 2) and times.date_time(text_of(c, 2), None) is None:
        # Before 2.3 a CN, and an XCN from many senders since: the name stands in the field's own components.
        signer = run.maps["XCN[Practitioner]"](c, run, at)
        return _signing(run, signer).pointer() if signer else None
    person = [[part] for part in c[0]]
    practitioner = run.maps["CNN[Practitioner]"](person, run, f"{at}.1")
    if practitioner is None:
        return None
    node = _signing(run, practitioner)
    for comp, name in ((2, "start"), (3, "end")):
        moment = run.date_time(text_of(c, comp), f"{at}.{comp}")
        if moment:
            node.mention(f"NDL.{comp}", f"period.{name}", moment)
    place: list[Any] = [[] for _ in range(11)]
    if text_of(c, 8):
        run.find("component-not-carried", f"{at}.8")
    for comp, target in ((4, 1), (5, 2), (6, 3), (7, 4), (9, 6), (10, 7), (11, 8)):
        if len(c) >= comp and c[comp - 1]:
            place[target - 1] = c[comp - 1]
    where = run.maps["PL[Location]"](place, run, at)
    if where:
        node.mention("NDL.4", "location", [where])
    return node.pointer()


@segment("performing-organization")
def performing_organization(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """OBX-23 with its address in OBX-24 and its director in OBX-25.

    With a director the performer is the director's role for the organization, otherwise the organization.
    """
    if len(seg.texts) <= 23:
        return
    names, directors = seg.field(23), seg.field(25)
    for number in (23, 24, 25):
        if len(seg.field(number)) > 1:
            run.find("repetition-not-carried", str(number))
    organization = run.maps["XON[Organization]"](names[0], run, "23") if names else None
    if organization is not None:
        for components in seg.field(24)[:1]:
            address = run.maps["XAD[Address]"](components, run, "24")
            if address:
                run.nodes["Organization", organization["reference"].split("/")[1]].mention(
                    "OBX-24", "address", [address]
                )
    pointer = organization
    for components in directors[:1]:
        pointer = role_of(components, run, "25", V2_0912, "MDIR", organization) or organization
    if pointer is not None and pointer not in target.get("performer", []):
        target.setdefault("performer", []).append(pointer)


def _practitioner(seg: Segment, run: Run, number: int) -> Any:
    field = seg.field(number)
    pointer = run.maps["XCN[Practitioner]"](field[0], run, str(number)) if field else None
    return run.nodes["Practitioner", pointer["reference"].split("/")[1]] if pointer else None


@segment("role-address")
def role_address(seg: Segment, run: Run, target: Any) -> None:
    """ROL-11, PRT-14: an office's or a mail's address is the practitioner's all the same; R4's role has none."""
    person, address = (4, 11) if seg.name == "ROL" else (5, 14)
    node = _practitioner(seg, run, person)
    found = [value for c in seg.field(address) if (value := run.maps["XAD[Address]"](c, run, str(address)))]
    if found and node is not None:
        node.mention(f"{seg.name}-{address}", "address", found)
    elif found:
        run.find("address-of-nobody", str(address))


def withdraw_slot(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """Leave out the element that a segment's action (D, DE) withdraws; of the only one the slot is cleared."""
    target.clear()
    node = run.node
    if node is not None and node.slots is not None and seg.name not in node.slots:
        node.replace(seg.name, [])


@segment("role-withdrawn")
def role_withdrawn(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """ROL-2 and PRT-2: who does not take part any more."""
    if seg.value(2) in {"D", "DE"}:
        withdraw_slot(seg, run, target)


@segment("withdrawn")
def withdrawn(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """An element of a list of which the row's condition says that its segment deletes it."""
    withdraw_slot(seg, run, target)


@segment("practitioner-withdrawn")
def practitioner_withdrawn(seg: Segment, run: Run, target: Node) -> None:
    """A general practitioner who is one no more: where no other segment names one, what was said before is cleared."""
    if target.slots is not None and seg.name not in target.slots:
        target.replace(seg.name, [])


@segment("role-unit")
def role_unit(seg: Segment, run: Run, target: Any) -> None:
    """PRT-7: the type of the organization in PRT-8."""
    names, kinds = seg.field(8), seg.field(7)
    if not kinds:
        return
    pointer = run.maps["XON[Organization]"](names[0], run, "8") if names else None
    concept = run.maps["CWE[CodeableConcept]"](kinds[0], run, "7", run.tables["ParticipantOrganizationUnitType"])
    if pointer and concept:
        run.nodes["Organization", pointer["reference"].split("/")[1]].mention("PRT-7", "type", [concept])
    elif concept:
        target.say("PRT-7", "specialty", [concept])


_PREFERRED = {"B": {"pager"}, "C": {"mobile"}, "E": {"email"}, "F": {"fax"}, "H": {"home"}, "O": {"work"}}
_IS_PREFERRED = {"url": "http://hl7.org/fhir/StructureDefinition/iso21090-preferred", "valueBoolean": True}


@segment("preferred-telecom")
def preferred_telecom(seg: Segment, run: Run, target: Any) -> None:
    """PRT-15; the one that PRT-23 prefers (beeper, cell phone, e-mail, fax, home, office) is marked."""
    wanted = _PREFERRED.get(seg.value(23).strip(), set())
    found = [value for c in seg.field(15) if (value := run.maps["XTN[ContactPoint]"](c, run, "15"))]
    for value in found:
        if wanted & {value.get("system"), value.get("use")}:
            value.setdefault("extension", []).append(_IS_PREFERRED)
    if found:
        target.say("PRT-15", "telecom", found)
