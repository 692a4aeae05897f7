"""What a table of rows cannot say of orders: quantity and timing, parents, who ordered on whose behalf."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mappings.engine import times
from mappings.engine.helpers import valued
from mappings.engine.keys import text_of
from mappings.engine.nodes import Node
from mappings.engine.people import V2_0443, role_of
from mappings.engine.primitives import counted, number
from mappings.engine.protocols import Components, Segment
from mappings.engine.registry import composite, finish, segment, text
from mappings.engine.run import ALTERNATE

if TYPE_CHECKING:
    from mappings.engine.run import Run

_V2 = "http://terminology.hl7.org/CodeSystem/v2-"
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_UNITS = {"S": "s", "M": "min", "H": "h", "D": "d", "W": "wk", "L": "mo", "MO": "mo", "Y": "a"}
_PERIOD = re.compile(r"([SMHDWL])(\d+)")
_INTERVAL = re.compile(r"Q(\d+)([SMHDWL])")
_DAY = re.compile(r"Q(\d*)J([1-7]+)")
_TIMES = {"BID": 2, "TID": 3, "QID": 4, "QD": 1, "DAILY": 1, "QHS": 1, "QAM": 1, "QPM": 1}


def repeat_of(pattern: str) -> dict[str, Any]:
    """Return Timing.repeat of a repeat pattern (HL7 table 0335); empty where it is not one that can be read."""
    word = pattern.strip().upper()
    found = _INTERVAL.fullmatch(word)
    if found:
        return {"frequency": 1, "period": int(found.group(1)), "periodUnit": _UNITS[found.group(2)]}
    found = _DAY.fullmatch(word)
    if found:
        days = [_DAYS[int(day) - 1] for day in found.group(2)]
        return {"frequency": 1, "period": int(found.group(1) or 1), "periodUnit": "wk", "dayOfWeek": days}
    found = re.fullmatch(r"X(\d+)", word)
    count = int(found.group(1)) if found else _TIMES.get(word, 0)
    return {"frequency": count, "period": 1, "periodUnit": "d"} if count else {}


def duration_of(value: str) -> dict[str, Any] | None:
    """Return TQ.3's duration (S, M, H, D, W, L and a number) as a Duration; None for INDEF and what is not one."""
    found = _PERIOD.fullmatch(value.strip().upper())
    if found is None:
        return None
    unit = _UNITS[found.group(1)]
    return {"value": int(found.group(2)), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}


def bounds(start: str | None, end: str | None, duration: dict[str, Any] | None) -> dict[str, Any]:
    """Return the bounds of Timing.repeat: a period where there is a start or an end, else a duration.

    A start and a duration are a period too: its end is worked out.
    """
    if start and not end and duration:
        end = _after(start, duration)
    if start or end:
        return {"boundsPeriod": {name: value for name, value in (("start", start), ("end", end)) if value}}
    return {"boundsDuration": duration} if duration else {}


def _after(start: str, duration: dict[str, Any]) -> str | None:
    """Return the moment (or the day, where `start` is one) a duration later; None where that cannot be said."""
    minutes = _MINUTES.get(duration.get("code", ""))
    if minutes is None or len(start) < 10:
        return None
    return times.later(start, float(minutes * duration["value"]))


@composite("quantity-timing-of", "Timing")
def timing_of(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """The timing in a TQ: interval (2), duration (3), start (4), end (5), occurrences (12)."""
    pattern = text_of(c, 2)
    repeat = repeat_of(pattern)
    start, end = (run.date_time(text_of(c, comp), f"{at}.{comp}") for comp in (4, 5))
    duration = duration_of(text_of(c, 3))
    if text_of(c, 3) and duration is None and text_of(c, 3).upper() != "INDEF":
        run.find("component-not-carried", f"{at}.3")
    repeat.update(bounds(start, end, duration))
    parts = [part for part in text_of(c, 2, 2).split(",") if part]
    clock = [found for part in parts if (found := run.moment(times.clock(part), f"{at}.2.2", "not-a-time"))]
    if clock:
        repeat["timeOfDay"] = clock
    count = counted(text_of(c, 12))
    if count:
        repeat["count"] = count
    elif text_of(c, 12):
        run.find("not-a-number", f"{at}.12")
    timing: dict[str, Any] = {}
    if repeat:
        timing["repeat"] = repeat
    if pattern:
        timing["code"] = {"coding": [{"system": f"{_V2}0335", "code": pattern}]}
    return timing or None


_PRIORITIES = {
    "S": "stat",
    "A": "asap",
    "R": "routine",
    "P": "routine",
    "C": "routine",
    "T": "urgent",
    "PRN": "routine",
}


_TIMED = re.compile(r"T[SMHDWL]\d+|[SAR].")
"""A priority with its time (TH2: within two hours)."""
OF_TQ = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 12})
"""The components of a TQ that an order carries."""


def alternate(system: str, code: str) -> dict[str, Any]:
    """Return the element without a value that keeps a code for which there is none."""
    concept = {"coding": [{"system": system, "code": code}]}
    return {"extension": [{"url": ALTERNATE, "valueCodeableConcept": concept}]}


@segment("quantity-timing")
def quantity_timing(seg: Segment, run: Run, target: Node) -> None:
    """ORC-7, or OBR-27 where it is not valued: quantity, timing, priority and text of an order before TQ1."""
    number_, field = (7, seg.field(7)) if seg.name == "ORC" else (27, seg.field(27))
    if not field:
        return
    if run.scope.segment("TQ1") is not None:
        if valued(seg, number_):
            run.find("outranked", str(number_), "information")
        return
    if len(field) > 1:
        run.find("repetition-not-carried", str(number_))
    c, slot, at = field[0], f"{seg.name}-{number_}", str(number_)
    timing = timing_of(c, run, at)
    if timing:
        target.say(slot, "occurrenceTiming", timing)
    amount = number(text_of(c, 1)) if text_of(c, 1) else None
    if amount is None and text_of(c, 1):
        run.find("not-a-number", f"{at}.1")
    if amount is not None:
        unit = text_of(c, 1, 2)
        target.say(slot, "quantityQuantity", {"value": amount, **({"unit": unit} if unit else {})})
    timing_priority(c, run, target, slot)
    run.rest(c, OF_TQ, at)
    note = "; ".join(part for part in (text_of(c, 7), text_of(c, 8)) if part)
    if note:
        target.say(slot, "note", [{"text": note}])


def timing_priority(c: Components, run: Run, target: Node, slot: str) -> None:
    """Say the priority in TQ.6; one with a time (TH2) is its letter, an unknown one is kept beside the element."""
    code = text_of(c, 6) if text_of(c, 6) in _PRIORITIES or not _TIMED.fullmatch(text_of(c, 6)) else text_of(c, 6)[:1]
    if code in _PRIORITIES:
        target.say(slot, "priority", _PRIORITIES[code])
    elif code:
        run.unmapped("ExtendedPriorityCodes", f"{_V2}0485", code, f"{slot.partition('-')[2]}.6")
        target.say(slot, "_priority", alternate(f"{_V2}0485", code))


@composite("parent-order", "Reference")
def parent_order(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """EIP of a parent: the order by its placer's, else its filler's number."""
    return pointer_of_pair(c, run, at, "ServiceRequest", ("Placer", "Filler"))


def pointer_of_pair(c: Components, run: Run, at: str, kind: str, order: tuple[str, str]) -> dict[str, Any] | None:
    """Return a reference by one of an EIP's identifiers; the other stands beside it as an extension."""
    found = [(side, value) for side in order if (value := run.maps[f"EIP[Identifier-{side}]"](c, run, at))]
    if not found:
        return None
    pointer: dict[str, Any] = {"type": kind, "identifier": found[0][1]}
    for side, value in found[1:]:
        pointer["extension"] = [{"url": f"urn:sluice:{side.lower()}-identifier", "valueIdentifier": value}]
    return pointer


def _is_pair(c: Components, run: Run) -> bool:
    """Say whether ORC-4 is an EIP (since 2.9), each side an EI as subcomponents, and not the EI of before."""
    return run.message.version >= "2.9" or (len(c) <= 2 and any(len(part) > 1 for part in c))


@composite("own-number", "Identifier")
def own_number(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """OBR-2 and OBR-3: the order's number where ORC does not say the same."""
    order = run.scope.segment("ORC")
    value: dict[str, Any] | None = run.maps["EI[Identifier]"](c, run, at)
    if value and order is not None and order.value(int(at.split(".", maxsplit=1)[0])).strip() == value.get("value"):
        return None
    return value


@composite("placer-group", "Identifier")
def placer_group(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """ORC-4: the placer's group number."""
    if _is_pair(c, run):
        found: dict[str, Any] | None = run.maps["EIP[Identifier-Placer]"](c, run, at)
        return found
    value: dict[str, Any] | None = run.maps["EI[Identifier]"](c, run, at)
    coding = {"system": f"{_V2}0203", "code": "PGN", "display": "Placer Group Number"}
    return {**value, "type": {"coding": [coding]}} if value else None


@composite("filler-group", "Identifier")
def filler_group(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """ORC-4 since 2.9: the filler's group number."""
    found: dict[str, Any] | None = run.maps["EIP[Identifier-Filler]"](c, run, at) if _is_pair(c, run) else None
    return found


@composite("parent-result", "Extension")
def parent_result(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """OBR-26 (PRL): the result that this one goes on from (an isolate of its susceptibilities), by OBX-3, 4 and 5."""
    concept = run.maps["CWE[CodeableConcept]"]([[sub] for sub in c[0]], run, f"{at}.1")
    parts = [{"url": "code", "valueCodeableConcept": concept}] if concept else []
    for comp, name in ((2, "subId"), (3, "value")):
        # An ampersand that nobody escaped is one of the text.
        text = "&".join(c[comp - 1]).strip() if text_of(c, comp) else ""
        if text:
            parts.append({"url": name, "valueString": text})
    run.rest(c, _OF_PRL, at)
    return {"url": "urn:sluice:parent-result", "extension": parts} if parts else None


_OF_PRL = frozenset({1, 2, 3})


@text("order-control", "Coding")
def order_control(value: str, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """ORC-1 as it came: what the sender asked for or announced (HL7 table 0119)."""
    return {"system": f"{_V2}0119", "code": " ".join(value.split())}


@text("specimen-action", "Coding")
def specimen_action(value: str, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """OBR-11 as it came (HL7 table 0065)."""
    return {"system": f"{_V2}0065", "code": " ".join(value.split())}


@composite("comment", "markdown")
def comment(c: Components, run: Run, at: str, table: Any = None) -> str | None:
    """A CWE as text; what the text does not say is noted."""
    said = next((comp for comp in (9, 2, 1) if text_of(c, comp)), 0)
    run.rest(c, frozenset({said}), at)
    return text_of(c, said) if said else None


@segment("ordering-provider")
def ordering_provider(seg: Segment, run: Run, target: Node) -> None:
    """ORC-12 as the requester in a role, for the facility in ORC-21 with its address and telecom (22, 23, 24).

    A facility alone requests itself, unless another field names who does.
    """
    if len(seg.texts) <= _FACILITY:
        return
    people, facilities = seg.field(12), seg.field(_FACILITY)
    organization = run.maps["XON[Organization]"](facilities[0], run, "21") if facilities else None
    practitioner = run.maps["XCN[Practitioner]"](people[0], run, "12") if people else None
    _reach(seg, run, organization, "Organization", 22, 23)
    _reach(seg, run, practitioner, "Practitioner", 24, 0)
    if organization is None or target.slots is None:
        return
    role = role_of(people[0], run, "12", V2_0443, "OP", organization) if people else None
    if role is not None:
        target.replace("ORC-12", [("requester", role)])
    elif not people:
        target.say("~ORC-21", "requester", organization)


_FACILITY = 21


def _reach(seg: Segment, run: Run, pointer: dict[str, str] | None, kind: str, address: int, telecom: int) -> None:  # noqa: PLR0917
    if pointer is None:
        for at in (address, telecom):
            if at and valued(seg, at):
                run.find("address-of-nobody", str(at))
        return
    node = run.nodes[kind, pointer["reference"].split("/")[1]]
    found = [value for c in seg.field(address) if (value := run.maps["XAD[Address]"](c, run, str(address)))]
    if found:
        node.mention(f"ORC-{address}", "address", found)
    numbers = (
        [value for c in seg.field(telecom) if (value := run.maps["XTN[ContactPoint]"](c, run, str(telecom)))]
        if telecom
        else []
    )
    if numbers:
        node.mention(f"ORC-{telecom}", "telecom", numbers)


_MINUTES = {"s": Decimal(1) / 60, "min": Decimal(1), "h": Decimal(60), "d": Decimal(1440), "wk": Decimal(10080)}
_WORDS = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "mins": "min", "minute": "min", "minutes": "min",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d", "week": "wk", "weeks": "wk", "wks": "wk",
    "month": "mo", "months": "mo", "mos": "mo", "year": "a", "years": "a", "yr": "a", "yrs": "a",
}  # fmt: skip


def time_unit(code: str) -> str | None:
    """Return UCUM's unit of time for what senders write; None where it is none."""
    word = code.strip().rstrip(".")
    if word.lower() in {"s", "min", "h", "d", "wk", "mo", "a"} and word not in _UNITS:
        return word.lower()
    return _UNITS.get(word.upper()) or _WORDS.get(word.lower())


@finish("repeat-pattern")
def repeat_pattern(c: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """RPT: what the pattern in RPT.1 means, then what RPT.2 to RPT.10 say of days, period, event and offset."""
    repeat = repeat_of(text_of(c, 1))
    days = [number(text_of(c, comp)) for comp in (3, 4) if text_of(c, comp)]
    known = {1}
    if text_of(c, 2) == "DW" and days and all(day is not None and 1 <= day <= 7 for day in days):
        first, last = int(days[0] or 1), int(days[-1] or 1)
        known |= {2, 3, 4}
        repeat["dayOfWeek"] = [_DAYS[day - 1] for day in range(first, last + 1)]
    period, unit = number(text_of(c, 5)) if text_of(c, 5) else None, time_unit(text_of(c, 6))
    if period is not None and unit:
        repeat.update({"frequency": 1, "period": period, "periodUnit": unit})
        known |= {5, 6}
    when = run.tables["EventRelatedPeriod"].get(text_of(c, 8)) if text_of(c, 8) else None
    if when is not None:
        repeat["when"] = [when.code]
        known.add(8)
    minutes = offset_minutes(text_of(c, 9), text_of(c, 10))
    if minutes is not None and "when" in repeat:
        repeat["offset"] = minutes
        known |= {9, 10}
    if len(c) > 1:
        run.rest(c, frozenset(known), at)
    if repeat:
        value["repeat"] = repeat


def offset_minutes(amount: str, unit: str) -> int | None:
    """Return an amount of a unit of time in whole minutes."""
    found, factor = number(amount) if amount else None, _MINUTES.get(time_unit(unit) or "")
    return counted(str(found * factor)) if found is not None and factor else None


def timing_from_tq1(seg: Segment, run: Run) -> dict[str, Any] | None:
    """Return the Timing of a TQ1: pattern (3), clock (4), offset (5), bounds (6-8), duration (13), count (14)."""
    patterns = seg.field(3)
    if len(patterns) > 1:
        run.find("repetition-not-carried", "3")
    timing: dict[str, Any] = (run.maps["RPT[Timing]"](patterns[0], run, "3") if patterns else None) or {}
    repeat = timing.setdefault("repeat", {})
    clock = [found for c in seg.field(4) if text_of(c, 1) and (found := _clock(text_of(c, 1), run))]
    if clock:
        repeat["timeOfDay"] = clock
        if repeat.pop("when", None):
            # FHIR has either; the pattern stays in the timing's code.
            repeat.pop("offset", None)
            run.find("outranked", "3", "information")
    start, end = (run.date_time(seg.value(n).strip(), str(n)) for n in (7, 8))
    duration = _duration(seg, run, 6)
    if duration and start and end:
        run.find("outranked", "6", "information")
    repeat.update(bounds(start, end, duration))
    _lasting(seg, run, repeat)
    if not repeat:
        del timing["repeat"]
    return timing or None


def _clock(text: str, run: Run) -> str | None:
    return run.moment(times.clock(text), "4", "not-a-time")


def _duration(seg: Segment, run: Run, field: int) -> dict[str, Any] | None:
    amount, unit = number(seg.value(field)) if seg.value(field) else None, time_unit(seg.value(field, 1, 2))
    if seg.value(field) and (amount is None or (unit is None and seg.value(field, 1, 2))):
        run.find("not-a-duration", str(field))
    if amount is None:
        return None
    return {"value": amount, **({"unit": unit, "system": "http://unitsofmeasure.org", "code": unit} if unit else {})}


def _lasting(seg: Segment, run: Run, repeat: dict[str, Any]) -> None:
    amount, unit = number(seg.value(13)) if seg.value(13) else None, time_unit(seg.value(13, 1, 2))
    if amount is not None and unit:
        repeat.update({"duration": amount, "durationUnit": unit})
    elif seg.value(13):
        run.find("not-a-duration", "13")
    count = counted(seg.value(14))
    if count:
        repeat["count"] = count
    elif seg.value(14):
        run.find("not-a-number", "14")
    minutes = offset_minutes(seg.value(5), seg.value(5, 1, 2))
    if minutes is not None and "when" in repeat:
        repeat["offset"] = minutes
    elif seg.value(5):
        # FHIR has an offset only from an event (a meal, sleep); one from the order's neighbour has no element.
        run.find("component-not-carried", "5")


@segment("timing")
def timing(seg: Segment, run: Run, target: Node) -> None:
    """TQ1 of a service: when it is to happen."""
    found = timing_from_tq1(seg, run)
    if found:
        target.say("TQ1", "occurrenceTiming", found)
