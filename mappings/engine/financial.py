"""What a table of rows cannot say of charges and referrals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mappings.engine.keys import text_of
from mappings.engine.primitives import number
from mappings.engine.protocols import Components, Segment
from mappings.engine.registry import composite, segment
from mappings.engine.run import Node

if TYPE_CHECKING:
    from mappings.engine.run import Run


@composite("money", "Money")
def money(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """CP or MO: an amount and its currency, which may stand in the first component or in the second."""
    amount, currency = text_of(c, 1), text_of(c, 1, 2) or text_of(c, 2)
    if not amount:
        return None
    value = number(amount)
    if value is None:
        return run.find("not-a-number", at)
    return {"value": value, **({"currency": currency} if len(currency) == 3 and currency.isupper() else {})}


def _coded(c: Components, run: Run, at: str, known: dict[str, str], table: str) -> str | None:
    code = text_of(c, 1)
    found = known.get(code.upper())
    if code and found is None:
        run.unmapped(table, "", code, at)
    return found


@composite("referral-status", "code")
def referral_status(c: Components, run: Run, at: str, table: Any = None) -> str | None:
    """RF1-1 (HL7 table 0283): accepted, pending, rejected, expired."""
    known = {"A": "active", "P": "draft", "R": "revoked", "E": "completed"}
    return _coded(c, run, at, known, "ReferralStatus")


@composite("referral-priority", "code")
def referral_priority(c: Components, run: Run, at: str, table: Any = None) -> str | None:
    """RF1-2 (HL7 table 0280): stat, asap, routine."""
    return _coded(c, run, at, {"S": "stat", "A": "asap", "R": "routine"}, "ReferralPriority")


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
