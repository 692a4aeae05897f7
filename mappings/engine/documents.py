"""What a table of rows cannot say of TXA and of the OBX that are a document's content."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mappings.engine.attachments import attachment_of, media_type, pointer_of
from mappings.engine.helpers import whole
from mappings.engine.keys import text_of, typed
from mappings.engine.merges import prior
from mappings.engine.nodes import Node
from mappings.engine.protocols import CLEAR, Components, Segment
from mappings.engine.registry import action, composite, segment

if TYPE_CHECKING:
    from mappings.engine.run import Run


def _identified(c: Components, run: Run, at: str, kind: str) -> dict[str, Any] | None:
    identifier = run.maps["EI[Identifier]"](c, run, at)
    return {"type": kind, "identifier": identifier} if identifier else None


@composite("document-pointer", "Reference")
def document_pointer(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """TXA-13: the document that this one belongs to; as what is said by the event."""
    return _identified(c, run, at, "DocumentReference")


@composite("order-pointer-placer", "Reference")
def order_pointer_placer(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    return _identified(c, run, at, "ServiceRequest")


@composite("order-pointer-filler", "Reference")
def order_pointer_filler(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    return _identified(c, run, at, "ServiceRequest")


@composite("authentication", "Extension")
def authentication(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """TXA-22 (PPN): who authenticated the document and when (PPN.15); the other components are those of an XCN."""
    before = len(run.conversion.findings)
    who = run.maps["XCN[Practitioner]"]([*c[:14], *c[15:]], run, at)
    place = run.location(at)
    for number, found in enumerate(run.conversion.findings[before:], before):
        comp = int(found.location.removeprefix(f"{place}.").partition(".")[0])
        if comp > 14:
            run.conversion.findings[number] = replace(found, location=f"{place}.{comp + 1}")
    when = run.date_time(text_of(c, 15), f"{at}.15")
    inner = [{"url": "who", "valueReference": who}] if who else []
    inner += [{"url": "when", "valueDateTime": when}] if when else []
    return {"url": "urn:sluice:authentication", "extension": inner} if inner else None


@segment("document-section")
def document_section(seg: Segment, run: Run, target: Node) -> None:
    """An OBX as content: ED and RP as they are; the lines of text that follow each other become one attachment."""
    title = seg.value(3, 1, 2) or seg.value(3)
    kind = seg.value(2).strip().upper()
    parts = _parts(run, target)
    if kind in {"ED", "RP"}:
        convert = attachment_of if kind == "ED" else pointer_of
        for c in seg.field(5):
            attachment = convert(c, run, "5")
            if attachment:
                parts.append(Part(title, attachment))
    else:
        _lines(seg, parts, title)
    if not parts:
        parts.append(Part(title or "document", {}))
    _about(seg, run, parts[-1])


@segment("document-note")
def document_note(seg: Segment, run: Run, target: Node) -> None:
    """NTE-3 as an attachment of its own."""
    lines = [line for c in seg.field(3) if (line := whole(c).strip()) and line != CLEAR]
    if lines:
        _parts(run, target).append(Part("note", {"contentType": "text/plain"}, lines))


@dataclass(slots=True)
class Part:
    """One content of a document while the message is read; its lines are joined at the end."""

    title: str
    attachment: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    codes: list[dict[str, Any]] = field(default_factory=list)

    def content(self) -> dict[str, Any]:
        """Return the content as DocumentReference has it."""
        attachment = dict(self.attachment)
        if self.lines:
            attachment["data"] = base64.b64encode("\n".join(self.lines).encode()).decode()
        if self.title:
            attachment["title"] = self.title
        return {"attachment": attachment, **({"extension": self.codes} if self.codes else {})}


def _parts(run: Run, document: Node) -> list[Part]:
    parts: list[Part] = run.memory.setdefault(("document", document.id), [])
    return parts


def _lines(seg: Segment, parts: list[Part], title: str) -> None:
    lines = [line for c in seg.field(5) if (line := whole(c).rstrip()) and line != CLEAR]
    if not lines:
        return
    if parts and parts[-1].lines and parts[-1].title == title:
        parts[-1].lines += lines
        return
    parts[:] = [part for part in parts if part.lines or part.attachment]
    parts.append(Part(title, {"contentType": "text/plain"}, lines))


def _about(seg: Segment, run: Run, part: Part) -> None:
    """OBX-3 and OBX-14: what the section is, and when it was made."""
    code = seg.field(3)
    concept = run.maps["CWE[CodeableConcept]"](code[0], run, "3") if code else None
    extension = {"url": "urn:sluice:section-code", "valueCodeableConcept": concept}
    if concept and extension not in part.codes:
        part.codes.append(extension)
    made = run.date_time(seg.value(14).strip().replace(CLEAR, ""), "14")
    if made:
        part.attachment["creation"] = made


@action("document-content")
def document_content(seg: Segment, run: Run) -> None:
    """Say the whole content at once; a notification without any (T01, T03, T11 …) leaves what was said before.

    What stands for a content that nobody has sent yet gives way to it. T09 and T10 replace the document in TXA-13.
    """
    document = run.scope.find("DocumentReference")
    if document is None:
        return
    parts = run.memory.get(("document", document.id), ())
    if parts:
        document.replace("OBX", [("content", [part.content() for part in parts])])
    else:
        kind = media_type(seg.value(3), "")
        title = seg.value(16) or seg.value(25)
        titled = {"title": title if title and title != CLEAR else "document"}
        attachment = {**({"contentType": kind} if kind else {}), **titled}
        document.say("~TXA", "content", [{"attachment": attachment}])
    if run.message.trigger in {"T09", "T10"} and seg.field(13):
        _replaced(seg.field(13)[0], run, document)


def _replaced(c: Components, run: Run, document: Node) -> None:
    """Let the document in TXA-13 be superseded, and point at it."""
    found, identifier = typed("EI", c), run.maps["EI[Identifier]"](c, run, "13")
    if found is None or not identifier:
        return
    older = prior(run, "DocumentReference:prior", "DocumentReference", found)
    if older is document:
        return
    older.say("TXA-12", "masterIdentifier", identifier)
    older.say("TXA-19", "status", "superseded")
    older.say("~TXA", "content", [{"attachment": {"title": "document"}}])
    patient = run.scope.find("Patient")
    if patient is not None:
        older.say("TXA", "subject", patient.pointer())
    target = {**older.pointer(), "type": "DocumentReference", "identifier": identifier}
    document.replace("TXA-13", [("relatesTo", [{"code": "replaces", "target": target}])])
