"""What a table of rows cannot say of HL7's composite data types."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mappings.engine.keys import text_of
from mappings.engine.protocols import Components
from mappings.engine.registry import composite, finish, text
from mappings.engine.systems import code_system, universal
from mappings.engine.tables import Table

if TYPE_CHECKING:
    from mappings.engine.run import Run

V2 = "http://terminology.hl7.org/CodeSystem/v2-"


@text("mapped-code", "code")
def mapped_code(value: str, run: Run, at: str, table: Table) -> str | None:
    """A code by its table; None, with a finding, for one that is not in it."""
    run.lost = None
    target = table.codes.get(value)
    if target is not None:
        return target.code
    value = " ".join(value.split())
    target = table.get(value)
    if target is not None:
        return target.code
    coding = {"system": table.source, "code": value} if table.source else {"code": value}
    run.lost = {"coding": [coding]} if value else None
    if value and value not in table.codes:
        run.unmapped(table, table.source, value, at)
    elif value:
        run.find("code-without-counterpart", at, "information")
    return None


@composite("mapped-code-or-alternate", "code")
def mapped_alternate(components: Components, run: Run, at: str, table: Table) -> str | None:
    """CWE.1 by the table, or CWE.4 where CWE.1 is not valued (the guide's CWE[code]).

    What has no counterpart is kept whole; of what has one, its own name and system (CWE.2, 3, 7) say nothing more.
    """
    value = text_of(components, 1) or text_of(components, 4)
    run.lost = None
    found = mapped_code(value, run, at, table) if value else None
    if found is not None:
        if len(components) > 3:
            run.rest(components, _OF_CODE if text_of(components, 1) else _OF_ALTERNATE, at)
    elif len(components) > 1:
        run.lost = run.maps["CWE[CodeableConcept]"](components, run, at)
    return found


_OF_CODE, _OF_ALTERNATE = frozenset({1, 2, 3, 7, 9}), frozenset({4, 5, 6, 8, 9})


@finish("tabled", tabled=True)
def tabled(components: Components, run: Run, at: str, table: Table | None, value: dict[str, Any]) -> None:
    """Put the table's counterpart of CWE.1 first, when CWE.1 is of the table's own system or of a local one.

    The sender's coding stays behind it where it says more; a code that is not in the table stays as it came.
    """
    if table is None or not components:
        return
    code, system = text_of(components, 1), text_of(components, 3)
    known = code_system(system) if system else None
    if not code or (known is not None and known != table.source):
        return
    target = table.get(code)
    codings = value.setdefault("coding", [])
    if not system and table.source and codings:
        codings[0]["system"] = table.source
        codings[0] = {"system": table.source, **codings[0]}
    if target is None:
        if code not in table.codes:
            run.unmapped(table, known or table.source, code, at)
        return
    coding = {
        key: part
        for key, part in zip(("system", "code", "display"), (target.system, target.code, target.display), strict=True)
        if part
    }
    if codings and codings[0].get("code") == target.code and codings[0].get("system") in {target.system, None}:
        codings[0] = {**codings[0], **coding}
    else:
        codings.insert(0, coding)
    if "text" not in value and text_of(components, 2):
        value["text"] = text_of(components, 2)


@finish("system-oids")
def system_oids(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """CWE.14, 17 and 20: the coding systems' OIDs, where CWE.3, 6 and 12 say none but a local name."""
    if len(components) < 14:
        return
    for place, (comp, code, name) in enumerate(((14, 1, 3), (17, 4, 6), (20, 10, 12))):
        oid = text_of(components, comp)
        if not oid:
            continue
        codings = value.get("coding", [])
        earlier = sum(
            bool(text_of(components, other) or text_of(components, other + 1)) for other in (1, 4, 10)[:place]
        )
        named = code_system(text_of(components, name)) if text_of(components, name) else None
        if text_of(components, code) and named is None and universal(oid, "ISO"):
            codings[earlier]["system"] = universal(oid, "ISO")
        elif not universal(oid, "ISO") or named != universal(oid, "ISO"):
            run.find("component-not-carried", f"{at}.{comp}")


@finish("coding-tabled", tabled=True)
def coding_tabled(components: Components, run: Run, at: str, table: Table | None, value: dict[str, Any]) -> None:
    """Replace a Coding by the table's counterpart where there is one."""
    concept: dict[str, Any] = {"coding": [dict(value)] if value else []}
    tabled(components, run, at, table, concept)
    if concept["coding"]:
        value.clear()
        value.update(concept["coding"][0])


@composite("name-text", "string")
def name_text(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    """An XPN in one line: prefix, given names, family name, suffix; the family name first where XPN.11 is F."""
    family = text_of(components, 1)
    before = [text_of(components, comp) for comp in (5, 2, 3)]
    after = [text_of(components, comp) for comp in (4, 6)]
    order = [family, *before, *after] if text_of(components, 11) == "F" else [*before, family, *after]
    run.rest(components, _IN_TEXT, at)
    for sub in range(2, len(components[0]) + 1 if components else 0):
        if text_of(components, 1, sub) and text_of(components, 1, sub) not in family:
            run.find("component-not-carried", f"{at}.1.{sub}")
    return " ".join(part for part in order if part) or None


_IN_TEXT = frozenset({1, 2, 3, 4, 5, 6, 7, 11})
"""What a name's line says; a maiden name's type (XPN.7) is said by its element."""


def _range(components: Components, run: Run, at: str, comp: int, value: dict[str, Any]) -> None:
    for sub, name in ((1, "start"), (2, "end")):
        text = text_of(components, comp, sub)
        found = run.date_time(text, f"{at}.{comp}.{sub}") if text else None
        if found and name in value.get("period", {}):
            run.find("component-not-carried", f"{at}.{comp}.{sub}")
        elif found:
            value.setdefault("period", {})[name] = found


@finish("range-of-dates")
def range_of_dates(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """XPN.10: a DR written as subcomponents, where no dates of their own stand."""
    _range(components, run, at, 10, value)


@finish("range-of-dates-xcn")
def range_of_dates_xcn(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """XCN.17: a DR written as subcomponents, where no dates of their own stand."""
    _range(components, run, at, 17, value)


@composite("assembly-order", "Extension")
def assembly_order(components: Components, run: Run, at: str, table: Table | None = None) -> dict[str, Any] | None:
    """XPN.11 and XCN.18 as extension; a code that is not in its table is kept beside the element."""
    run.lost = None
    found = mapped_code(text_of(components), run, at, table) if table is not None and text_of(components) else None
    if found:
        return {"url": _ASSEMBLY, "valueCode": found}
    return {"url": _ASSEMBLY, "_valueCode": run.take_lost()} if table is not None and run.lost else None


_ASSEMBLY = "http://hl7.org/fhir/StructureDefinition/humanname-assembly-order"


ADDRESS, NUMBER = "urn:sluice:communication-address", "urn:sluice:telephone-number"
_NET = {"Internet", "X.400", "INTERNET", "internet"}


@finish("telecom")
def telecom(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """The value and system of an XTN, whichever of its components hold them.

    XTN.4 is an address on the net; XTN.12 the whole number; XTN.5 to 8 its parts; XTN.1 the form of before 2.3.
    """
    kind, use, address = text_of(components, 3), text_of(components, 2), text_of(components, 4)
    number = "" if kind in _NET and address else _number(components)
    if number:
        value["value"] = number
    elif address:
        value["value"] = address
    if "value" not in value:
        value.clear()
        return
    # A number and an address on the net in one XTN, as before 2.7: FHIR's ContactPoint has one value.
    for url, said in ((ADDRESS, address), (NUMBER, text_of(components, 12)), (NUMBER, text_of(components, 1))):
        if said and not _same_number(said, value["value"]):
            value.setdefault("extension", []).append({"url": url, "valueString": said})
    value["system"] = _system(value.get("system"), kind, use, value["value"])
    if kind == "CP" and value.get("use") in {None, "home"}:
        value["use"] = "mobile"


def _same_number(one: str, other: str) -> bool:
    """Say whether two ways to write a number (or an address) are of the same: with or without its country, area."""
    if one == other:
        return True
    digits, others = (re.sub(r"\D", "", text) for text in (one, other))
    return len(digits) >= 5 and (digits in others or others in digits) and len(others) >= 5


def _number(components: Components) -> str:
    country, area, local, extension = (text_of(components, comp) for comp in (5, 6, 7, 8))
    if text_of(components, 12):
        return text_of(components, 12)
    if local:
        number = f"{f'+{country.lstrip(chr(43))} ' if country else ''}{f'{area} ' if area else ''}{local}"
        return f"{number} X{extension}" if extension else number
    return text_of(components, 1)


def _system(found: str | None, kind: str, use: str, value: str) -> str:
    if found and found != "mobile":
        return found
    if "@" in value and kind != "CP":
        return "email"
    if value.lower().startswith(("http://", "https://")):
        return "url"
    if use == "NET":
        return "email"
    return "pager" if use == "BPN" else "phone"


@composite("concept-string", "string")
def concept_string(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    """A CWE in one line: its text, else its display, else its code."""
    said = next((comp for comp in (9, 2, 1) if text_of(components, comp)), 1)
    run.rest(components, frozenset({said, 1, 3} if said > 1 else {1, 3}), at)
    return text_of(components, said) or None


@composite("organization-text", "string")
def organization_text(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    """An XON in one line: its name, else its identifier."""
    named = next((comp for comp in (1, 10, 3) if text_of(components, comp)), 1)
    run.rest(components, frozenset({named}), at)
    return text_of(components, named) or None
