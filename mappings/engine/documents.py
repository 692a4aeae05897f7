"""What a table of rows cannot say of TXA and of the OBX that are a document's content."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mappings.engine.attachments import attachment_of, media_type, pointer_of
from mappings.engine.helpers import whole
from mappings.engine.keys import text_of
from mappings.engine.protocols import CLEAR, Components, Segment
from mappings.engine.registry import composite, segment

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


_RELATION = {
    "T05": "appends",
    "T06": "appends",
    "T07": "replaces",
    "T08": "replaces",
    "T09": "replaces",
    "T10": "replaces",
}


@segment("document-content")
def document_content(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """What stands for a content that no OBX brings, and what kind of relation TXA-13 is.

    T05 and T06 append, T07 to T10 replace; T11 cancels.
    """
    for related in target.get("relatesTo", []):
        related["code"] = _RELATION.get(run.message.trigger, "appends")
    if run.message.trigger == "T11":
        target["status"] = "entered-in-error"
    if run.scope.every("OBX"):
        return
    kind = media_type(seg.value(3), "")
    attachment: dict[str, Any] = {"contentType": kind} if kind else {}
    title = seg.value(16) or seg.value(25)
    attachment["title"] = title if title and title != CLEAR else "document"
    target["content"] = [{"attachment": attachment}]


@segment("document-section")
def document_section(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """An OBX as content: ED and RP as they are; the lines of text that follow each other become one attachment."""
    field = seg.field(5)
    title = seg.value(3, 1, 2) or seg.value(3)
    kind = seg.value(2).strip().upper()
    found = []
    if kind in {"ED", "RP"}:
        convert = attachment_of if kind == "ED" else pointer_of
        for c in field:
            attachment = convert(c, run, "5")
            if attachment:
                found.append({"attachment": {**attachment, **({"title": title} if title else {})}})
    else:
        _lines(seg, target, title)
    content = target.setdefault("content", [])
    content.extend(found)
    if not content:
        content.append({"attachment": {"title": title or "document"}})
    _about(seg, run, content[-1])


def _about(seg: Segment, run: Run, part: dict[str, Any]) -> None:
    """OBX-3 and OBX-14: what the section is, and when it was made."""
    code = seg.field(3)
    concept = run.maps["CWE[CodeableConcept]"](code[0], run, "3") if code else None
    extension = {"url": "urn:sluice:section-code", "valueCodeableConcept": concept}
    if concept and extension not in part.setdefault("extension", []):
        part["extension"].append(extension)
    if not part.get("extension", True):
        del part["extension"]
    made = run.date_time(seg.value(14).strip().replace(CLEAR, ""), "14")
    if made:
        part["attachment"]["creation"] = made


def _lines(seg: Segment, target: dict[str, Any], title: str) -> None:
    text = "\n".join(line for c in seg.field(5) if (line := whole(c).rstrip()) and line != CLEAR)
    if not text:
        return
    content = target.setdefault("content", [])
    last = content[-1]["attachment"] if content else {}
    if last.get("contentType") == "text/plain" and last.get("title", "") == title:
        have = base64.b64decode(last["data"]).decode()
        last["data"] = base64.b64encode(f"{have}\n{text}".encode()).decode()
        return
    content[:] = [part for part in content if "data" in part["attachment"] or "url" in part["attachment"]]
    attachment = {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}
    content.append({"attachment": {**attachment, **({"title": title} if title else {})}})


@segment("document-note")
def document_note(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """NTE-3 as an attachment of its own."""
    text = "\n".join(line for c in seg.field(3) if (line := whole(c).strip()) and line != CLEAR)
    if text:
        attachment = {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode(), "title": "note"}
        target.setdefault("content", []).append({"attachment": attachment})
