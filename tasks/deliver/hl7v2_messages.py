"""HL7 v2.5.1 messages about what changed in the store, with what goes with it looked up there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, get_args

from mappings.engine import json
from mappings.engine.outbound import Message, Unwritable, compile_messages, encode
from mappings.engine.outbound_types import flat
from tasks.deliver.fhir_order import rank, references
from tasks.deliver.port import Item, Outcome, Part, Store
from tasks.model import Finding, Resource

Kind = Literal[
    "ADT_A04", "ADT_A08", "ADT_A23", "ADT_A29", "ADT_A40", "ORM_O01", "OML_O21", "ORU_R01", "SIU_S12", "SIU_S17",
    "MDM_T02", "MDM_T11",
]  # fmt: skip
MESSAGES: tuple[Kind, ...] = tuple(one for one in get_args(Kind) if one != "ORM_O01")
"""What a receiver is told without a word of its own: orders as OML."""
Charset = Literal["utf-8", "latin-1", "ascii"]
CHARSETS = {"utf-8": "UNICODE UTF-8", "latin-1": "8859/1", "ascii": "ASCII"}
WITHDRAWN: Mapping[str, str] = {
    "Patient": "ADT_A29", "Encounter": "ADT_A23", "Appointment": "SIU_S17", "DocumentReference": "MDM_T11",
}  # fmt: skip
"""Messages by which a thing is taken back; of orders and results it is the same message with another status."""
TAKEN_BACK: Mapping[str, Resource] = {
    "ServiceRequest": {"extension": [{"url": "urn:sluice:order-control", "valueCoding": {"code": "CA"}}]},
    "DiagnosticReport": {"status": "cancelled"},
    "Observation": {"status": "entered-in-error"},
    "Appointment": {"status": "entered-in-error"},
}
"""What such a message says of it: ORC-1 CA, OBR-25 X, OBX-11 D, SCH-25 Deleted."""
DEEP = 6
"""How many references away from a resource a message looks: a bed's building is four."""


class Header(Part):
    """What stands in MSH: who sends to whom (MSH-3 to MSH-6), MSH-11 and the version."""

    application: str = "SLUICE"
    facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    processing: Literal["P", "T", "D"] = "P"

    def ends(self) -> list[str]:
        """Return who sends to whom, escaped, as it stands in MSH-3 to MSH-6."""
        ends = (self.application, self.facility, self.receiving_application, self.receiving_facility)
        return [encode(flat(one)) for one in ends]


@dataclass(frozen=True, slots=True)
class Told:
    """One message to be sent for an item, or the outcome where there is none; `control` is MSH-10."""

    item: Item
    data: bytes = b""
    control: str = ""
    outcome: Outcome | None = None


@dataclass
class Writer:
    """Writes messages; `messages` are those that the receiver wants."""

    header: Header
    charset: Charset = "utf-8"
    messages: Sequence[Kind] = get_args(Kind)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    store: Store | None = None
    _at_hand: dict[str, Resource] = field(default_factory=dict)

    def tell(self, items: Sequence[Item]) -> Iterator[Told]:
        """Yield one `Told` for each item, what others refer to first; what is taken back last, the other way round."""
        kept = sorted((one for one in items if one.resource is not None), key=lambda one: rank(one.resource_type))
        gone = sorted((one for one in items if one.resource is None), key=lambda one: rank(one.resource_type))
        ordered = [*kept, *reversed(gone)]
        self._at_hand = self._gathered(ordered)
        reported = self._reported(ordered)
        for item in ordered:
            yield self._one(item, item.key in reported)
        self._at_hand = {}

    def _one(self, item: Item, reported: bool) -> Told:
        chosen = self._chosen(item)
        if chosen is None or reported:
            return Told(item, outcome=Outcome(item, "unchanged", "in-its-report" if reported else "not-told"))
        resource = item.resource or self._taken_back(item)
        if resource is None:
            return _refused(item, "nothing-known-of-it", item.resource_type)
        control = hashlib.sha256(f"{item.key}/{item.version}".encode()).hexdigest()[:20].upper()
        # the version's own time: said again after a crash, the message is the same
        at = (item.at or self.now()).astimezone(UTC)
        now = f"{at:%Y%m%d%H%M%S}+0000"
        facts = {"now": f"{at:%Y-%m-%dT%H:%M:%S}Z"}
        try:
            text = self._msh(chosen, control, now) + chosen.build(resource, self._find, facts)
            return Told(item, text.encode(self.charset), control)
        except Unwritable as error:
            return _refused(item, error.code, error.place)
        except UnicodeEncodeError:
            return _refused(item, "not-in-charset", "MSH-18")

    def _msh(self, message: Message, control: str, now: str) -> str:
        fields = ["MSH", "^~\\&", *self.header.ends(), now, "", message.type, control]
        return "|".join([*fields, self.header.processing, "2.5.1", *[""] * 5, CHARSETS[self.charset]]) + "\r"

    def _chosen(self, item: Item) -> Message | None:
        name = self._name(item)
        return compile_messages()[name] if _kind(name) in self.messages else None

    def _taken_back(self, item: Item) -> Resource | None:
        """Return what was last said of a thing, as a message that takes it back says it; None where nobody knows."""
        last = self._at_hand.get(f"{item.resource_type}/{item.id}", {})
        if not (last.get("identifier") or last.get("masterIdentifier")) and item.resource_type in WITHDRAWN:
            return None
        return {**last, **TAKEN_BACK.get(item.resource_type, {})} if last else None

    def _name(self, item: Item) -> str:
        kind, resource = item.resource_type, item.resource or {}
        if item.resource is None and kind in WITHDRAWN:
            return WITHDRAWN[kind]
        if kind == "Patient":
            links = resource.get("link", [])
            return "ADT_A40" if any(one.get("type") == "replaced-by" for one in links) else "ADT_A08_PATIENT"
        if kind == "Encounter":
            return "ADT_A04" if item.version <= 1 and "ADT_A04" in self.messages else "ADT_A08"
        orders = "OML_O21" if "OML_O21" in self.messages else "ORM_O01"
        names = {"ServiceRequest": orders, "DiagnosticReport": "ORU_R01", "Observation": "ORU_R01_OBSERVATION"}
        return names.get(kind) or {"Appointment": "SIU_S12", "DocumentReference": "MDM_T02"}.get(kind, "")

    def _gathered(self, items: Sequence[Item]) -> dict[str, Resource]:
        """Return what messages about these items look up: what they refer to, and what that refers to."""
        found = {item.key: item.resource for item in items if item.resource is not None}
        asked: set[str] = set(found)
        new = {key: one for key, one in found.items() if self._chosen(Item(one["resourceType"], "", 0, one))}
        gone = {f"{item.resource_type}/{item.id}" for item in items if item.resource is None and self._chosen(item)}
        look = None if self.store is None else self.store.last if gone else self.store.get
        if gone and look:
            new |= look(gone)
            found |= new
            asked |= gone
        for _ in range(DEEP):
            wanted = {key for one in new.values() for key in references(json.dumps(one))} - asked
            if not wanted or look is None:
                break
            asked |= wanted
            new = dict(look(wanted))
            found |= new
        return found

    def _reported(self, items: Sequence[Item]) -> set[str]:
        """Return the observations that a report carries: it is told of them, not of each again."""
        keys = {item.key for item in items if item.resource_type == "Observation" and item.resource is not None}
        if not keys:
            return set()
        reports = [one for one in self._at_hand.values() if one.get("resourceType") == "DiagnosticReport"]
        if self.store is not None:
            reports += [one for some in self.store.beside(keys, "DiagnosticReport").values() for one in some]
        return keys & {to.get("reference", "") for one in reports for to in one.get("result", [])}

    def _find(self, reference: str) -> Mapping[str, object] | None:
        return self._at_hand.get(reference.partition("/_history/")[0])


def _kind(name: str) -> str:
    """Return what the receiver calls a message: `ORU_R01` for that of an observation alone."""
    return "_".join(name.split("_")[:2])


def _refused(item: Item, code: str, place: str) -> Told:
    return Told(item, outcome=Outcome(item, "refused", "not-sent", Finding(code, place, "error")))
