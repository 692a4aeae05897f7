"""What a table of rows cannot say of charges and referrals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mappings.engine.keys import text_of
from mappings.engine.nodes import Node
from mappings.engine.primitives import number
from mappings.engine.protocols import Components, Segment
from mappings.engine.registry import composite, segment

if TYPE_CHECKING:
    from mappings.engine.run import Run


@composite("money", "Money")
def money(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """CP or MO: an amount and its currency, which may stand in the first component or in the second."""
    amount = text_of(c, 1)
    place = 1 if text_of(c, 1, 2) else 2
    currency = text_of(c, 1, 2) or text_of(c, 2)
    known = len(currency) == 3 and currency.isupper()
    if not amount:
        return None
    value = number(amount)
    if value is None:
        return run.find("not-a-number", at)
    if currency and place == 1 and not known:
        run.find("component-not-carried", f"{at}.1.2")
    run.rest(c, _AMOUNT if place == 2 and known else _PRICE, at)
    return {"value": value, **({"currency": currency} if known else {})}


_AMOUNT, _PRICE = frozenset({1, 2}), frozenset({1})
"""What an MO and a CP say of a sum; a CP's other components are its type and range."""


@segment("provider")
def provider(seg: Segment, run: Run, target: Node) -> None:
    """PRD-2, 3 and 7: the provider by name, address and identifiers (PLN)."""
    names, numbers = seg.field(2), seg.field(7)
    key = [text_of(numbers[0], 1), text_of(numbers[0], 2)] if numbers and text_of(numbers[0], 1) else [repr(names[:1])]
    if not names and not numbers:
        return
    node = run.mention("Practitioner", (False, key))
    for slot, at, name, path in (
        ("PRD-2", 2, "XPN[HumanName]", "name"),
        ("PRD-3", 3, "XAD[Address]", "address"),
        ("PRD-7", 7, "PLN[Identifier]", "identifier"),
    ):
        found = [value for c in seg.field(at) if (value := run.maps[name](c, run, str(at)))]
        if found:
            node.mention(slot, path, found)
    target.say("PRD-2", "practitioner", node.pointer())


@segment("charged-procedure")
def charged_procedure(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """FT1-25: the procedure's codes beside those of the charge (FT1-7), each once."""
    for c in seg.field(25):
        concept = run.maps["CWE[CodeableConcept]"](c, run, "25") or {}
        code = {**target.get("code", {})}
        new = [one for one in concept.get("coding", ()) if one not in code.get("coding", ())]
        if new:
            code["coding"] = [*code.get("coding", ()), *new]
        if "text" in concept:
            code.setdefault("text", concept["text"])
        if code:
            target["code"] = code
