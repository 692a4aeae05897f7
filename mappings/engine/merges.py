"""MRG: patients, accounts and visits that turn out to be another one (HL7 v2.9 chapter 3.4.9, 3.6.2).

The retired thing keeps its id and says what replaces it, the surviving one says what it replaces. What was said of
either stays where it was said: a store that follows `Patient.link` sees both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mappings.engine.helpers import valued
from mappings.engine.identifiers import visit_number
from mappings.engine.keys import choose_patient, typed
from mappings.engine.nodes import Node
from mappings.engine.protocols import CLEAR, Repetitions, Segment
from mappings.engine.registry import action, segment

if TYPE_CHECKING:
    from mappings.engine.run import Run

PATIENTS = frozenset({"A18", "A30", "A34", "A36", "A39", "A40", "A46", "A47", "A48"})
ACCOUNTS = frozenset({"A06", "A07", "A35", "A36", "A41", "A49"})
VISITS = frozenset({"A06", "A07", "A42", "A50", "A51"})


@segment("merge")
def merge(seg: Segment, run: Run) -> None:
    """Do what the event says with the identifiers of MRG."""
    event = run.message.trigger
    for number in _READ:
        if number not in _USED.get(event, _READ) and valued(seg, number) and not _known(seg.field(number), run):
            run.find("unmapped-field", str(number))
    if event in PATIENTS:
        _patients(seg, run)
    if event in ACCOUNTS:
        _numbered(seg, run, 3, "Account", "inactive")
    if event in VISITS:
        _numbered(seg, run, 6 if event == "A51" else 5, "Encounter", "entered-in-error")
    if event == "A43":
        _move_identifiers(seg, run)
    if event == "A44":
        _move(seg, run, 3, "Account")
    if event == "A45":
        _move(seg, run, 5, "Encounter")


_READ = frozenset({1, 2, 3, 4, 5, 6, 7})
_PERSON = frozenset({1, 2, 4, 7})
_USED = {
    **dict.fromkeys(PATIENTS, _PERSON), **dict.fromkeys(ACCOUNTS, frozenset({3})), "A36": _PERSON | {3},
    **dict.fromkeys(VISITS, frozenset({5})), "A51": frozenset({6}), "A43": _PERSON, "A44": _PERSON | {3},
    "A45": _PERSON | {5}, "A06": frozenset({3, 5}), "A07": frozenset({3, 5}),
}  # fmt: skip
"""The fields of MRG that an event speaks of; the others are noted."""


def _known(field: Repetitions, run: Run) -> bool:
    """Say whether a prior identifier is one that the patient has: the standard wants MRG-1, whatever the event is."""
    patient = run.scope.segment("PID")
    return patient is not None and all(one in patient.field(3) for one in field)


def _prior(seg: Segment, run: Run) -> Repetitions:
    """Return the field that names the prior patient: MRG-1, else MRG-4, else MRG-2."""
    return next((field for at in (1, 4, 2) if choose_patient(run, field := seg.field(at))), ())


def prior(run: Run, label: str, type_name: str, found: tuple[bool, list[str]]) -> Node:
    """Return the thing of an earlier message that an identifier names, of which this one says something."""
    universal, parts = found
    shared = universal or (len(parts) > 1 and parts[1] in run.shared)
    node_id = run.identity(type_name, "" if shared else run.partner, parts)
    have = run.nodes.get((type_name, node_id))
    return have or run.add(Node(label, type_name, node_id, run.scope, True))


def _prior_patient(seg: Segment, run: Run) -> Node | None:
    found = choose_patient(run, _prior(seg, run))
    if found is None:
        return run.find("nothing-to-merge", "1")
    node = prior(run, "Patient:prior", "Patient", found)
    for at in (1, 2, 4):
        _identifiers(node, f"MRG-{at}", seg.field(at), run, str(at))
    name = seg.field(7)
    names = [value for c in name if (value := run.maps["XPN[HumanName]"](c, run, "7"))]
    if names:
        node.say("MRG-7", "name", names)
    return node


def _identifiers(node: Node, slot: str, field: Repetitions, run: Run, at: str) -> None:
    read = visit_number if at == "5" else run.maps["CX[Identifier]"]
    values = [value for c in field if (value := read(c, run, at)) and value != {"value": CLEAR}]
    if values:
        node.say(slot, "identifier", values)


def _patients(seg: Segment, run: Run) -> None:
    survivor, retired = run.scope.find("Patient"), _prior_patient(seg, run)
    if survivor is None or retired is None:
        return
    if survivor is retired:
        run.find("merged-with-itself", "1")
        return
    survivor.say(f"MRG:{retired.id}", "link", [{"other": retired.pointer(), "type": "replaces"}])
    retired.say("MRG", "active", False)
    retired.say("MRG", "link", [{"other": survivor.pointer(), "type": "replaced-by"}])


def _numbered(seg: Segment, run: Run, number: int, type_name: str, status: str) -> None:
    """Retire an account or a visit: its status says so, and it is part of the one that goes on."""
    field = seg.field(number)
    found = typed("CX", field[0]) if field else None
    survivor = run.scope.find(type_name)
    if found is None:
        run.find("nothing-to-merge", str(number))
        return
    retired = prior(run, f"{type_name}:prior", type_name, found)
    if retired is survivor:
        run.find("merged-with-itself", str(number))
        return
    _identifiers(retired, f"MRG-{number}", field, run, str(number))
    retired.say("MRG", "status", status)
    _required(retired)
    _subject(retired, run)
    if survivor is not None:
        retired.say("MRG", "partOf", survivor.pointer())


def _required(node: Node) -> None:
    if node.type == "Encounter":
        node.say("~~", "class", {"system": "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "code": "UNK"})
        node.say("~~", "status", "unknown")
    else:
        node.say("~~", "status", "active")


def _subject(node: Node, run: Run) -> None:
    patient = run.scope.find("Patient")
    if patient is not None:
        pointer: Any = patient.pointer()
        node.say("PID", "subject", [pointer] if node.type == "Account" else pointer)


def _move_identifiers(seg: Segment, run: Run) -> None:
    """A43: the identifiers of MRG-1 now belong to the patient in PID."""
    target, source = run.scope.find("Patient"), _prior_patient(seg, run)
    if target is None or source is None or target is source:
        return
    _identifiers(target, f"MRG-1:{source.id}", seg.field(1), run, "1")
    target.say(f"MRG:{source.id}", "link", [{"other": source.pointer(), "type": "seealso"}])
    source.say("MRG", "link", [{"other": target.pointer(), "type": "refer"}])


def _move(seg: Segment, run: Run, number: int, type_name: str) -> None:
    """A44, A45: the account or the visit now belongs to the patient in PID."""
    _prior_patient(seg, run)
    field = seg.field(number)
    found = typed("CX", field[0]) if field else None
    if found is None:
        return
    node = prior(run, type_name, type_name, found)
    _identifiers(node, f"MRG-{number}", field, run, str(number))
    _required(node)
    _subject(node, run)


@segment("link")
def link(seg: Segment, run: Run) -> None:
    """A24: the patients of the message are one person; A37: they are not (any more)."""
    patients = [node for node in run.order if node.label == "Patient"]
    for one in patients:
        for other in patients:
            if one is other:
                continue
            if run.message.trigger == "A37":
                one.clear(f"A24:{other.id}", "link")
            else:
                one.say(f"A24:{other.id}", "link", [{"other": other.pointer(), "type": "seealso"}])


@segment("take-back")
def take_back(seg: Segment, run: Run, target: Node) -> None:
    """A cancellation: what the event that it takes back has said of the visit is cleared, beside status and place.

    A13 clears when and whereto the visit ended; A12 and A26 the place that came to nothing, and note it where they
    say it. A32 and A33 clear the temporary place that they do not say anew.
    """
    event = run.message.trigger
    for slot, path in _TAKEN_BACK[event]:
        if target.slots and target.slots.get(slot):
            if event in _SAID_ANEW:
                continue
            run.find("outranked", slot.partition("-")[2], "information")
        target.replace(slot, [])
        if path:
            target.clear(slot, path)


_TAKEN_BACK = {
    "A12": (("PV1-6", ""),),
    "A13": (
        ("PV1-36", "hospitalization.dischargeDisposition"),
        ("PV1-37", "hospitalization.destination"),
        ("PV1-45", "period.end"),
    ),
    "A25": (("EVN-3", ""),),
    "A26": (("PV1-42", ""), ("PV2-1", "")),
    "A32": (("PV1-11", ""),),
    "A33": (("PV1-11", ""),),
    "A52": (("PV2-47", ""),),
}
_SAID_ANEW = frozenset({"A32", "A33"})


@action("withdraw-visit")
def withdraw_visit(seg: Segment, run: Run) -> None:
    """A23: the visit is withdrawn."""
    _withdraw(run, "Encounter")


@action("withdraw-person")
def withdraw_person(seg: Segment, run: Run) -> None:
    """A29: the person is withdrawn."""
    _withdraw(run, "Patient")


def _withdraw(run: Run, label: str) -> None:
    node = run.scope.find(label)
    if node is not None:
        node.deleted = True


@action("nothing")
def nothing(seg: Segment, run: Run) -> None:
    """For fields that are read where they are wanted, not where they stand."""
