"""What a table of rows cannot say of SCH, AIS, AIG, AIL and AIP: when, how long, and whether who is asked will come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mappings.engine import times
from mappings.engine.helpers import valued
from mappings.engine.keys import text_of
from mappings.engine.nodes import Node
from mappings.engine.orders import bounds, duration_of, offset_minutes, time_unit
from mappings.engine.people import withdraw_slot
from mappings.engine.primitives import counted
from mappings.engine.protocols import CLEAR, Segment
from mappings.engine.registry import segment
from mappings.engine.run import ALTERNATE

if TYPE_CHECKING:
    from mappings.engine.run import Run


def minutes_of(amount: str, unit: str) -> int | None:
    """Return a duration in minutes; a number without a unit is minutes, as senders mean it."""
    if not amount:
        return None
    return offset_minutes(amount, unit) if unit else counted(amount)


@segment("appointment-duration")
def appointment_duration(seg: Segment, run: Run, target: Node) -> None:
    """SCH-9 in the units of SCH-10."""
    unit = seg.value(10) or seg.value(10, 1, 2)
    if unit and time_unit(unit) is None:
        run.find("unknown-unit", "10")
    found = minutes_of(seg.value(9), unit if time_unit(unit) else "")
    if found:
        target.say("SCH-9", "minutesDuration", found)
    elif seg.value(9):
        run.find("not-a-number", "9")


@segment("appointment-time")
def appointment_time(seg: Segment, run: Run, target: Node) -> None:
    """SCH-11.4 and 5 as start and end; without an end the duration says it."""
    field = seg.field(11)
    if not field:
        return
    if len(field) > 1:
        run.find("repetition-not-carried", "11")
    length = duration_of(text_of(field[0], 3)) if text_of(field[0], 3) else None
    run.rest(field[0], _TIMES | {3} if length else _TIMES, "11")
    start, end = (_instant(text_of(field[0], comp), run, f"11.{comp}") for comp in (4, 5))
    if start and not end and length:
        end = bounds(start, None, length)["boundsPeriod"].get("end")
    if start and not end:
        unit = seg.value(10) or seg.value(10, 1, 2)
        end = _later(start, minutes_of(seg.value(9), unit if time_unit(unit) else ""))
    _when(target, "SCH-11", start, end)


@segment("appointment-timing")
def appointment_timing(seg: Segment, run: Run, target: Node) -> None:
    """TQ1-7 and 8 as start and end; without an end the duration in TQ1-6 says it."""
    start, end = (_instant(seg.value(number), run, str(number)) for number in (7, 8))
    minutes = minutes_of(seg.value(6), seg.value(6, 1, 2))
    if minutes is None and seg.value(6):
        run.find("not-a-duration", "6")
    if minutes:
        target.say("SCH-9", "minutesDuration", minutes)
    _when(target, "SCH-11", start, end or _later(start, minutes))


def _when(target: Node, slot: str, start: str | None, end: str | None) -> None:
    """Say when an appointment is; an end without a start says it, too."""
    for name, moment in (("start", start), ("end", end)):
        if moment:
            target.say(slot, name, moment)


_TIMES = frozenset({4, 5})


def _instant(text: str, run: Run, at: str) -> str | None:
    if not text:
        return None
    return run.moment(times.read_instant(text, run.timezone), at)


def _later(start: str | None, minutes: int | None) -> str | None:
    if start is None or not minutes:
        return None
    return times.later(start, minutes)


def _span(seg: Segment, run: Run, first: int) -> dict[str, str]:
    """Return the period of a resource: start, start offset and its units, duration and its units from field `first` on.

    Without a start of its own it starts the offset after the appointment.
    """
    start = _instant(seg.value(first), run, str(first))
    offset, length = (_minutes(seg, run, first + step) for step in (1, 3))
    if start is None and offset is not None:
        schedule = run.scope.segment("SCH")
        base = _instant(schedule.value(11, 1, 4), run, "11.4") if schedule is not None else None
        start = _later(base, offset) or base
    elif offset:
        run.find("outranked", str(first + 1), "information")
    end = _later(start, length)
    return {name: moment for name, moment in (("start", start), ("end", end)) if moment}


def _minutes(seg: Segment, run: Run, at: int) -> int | None:
    """Return the length of time in field `at`, its unit in the next one."""
    found = minutes_of(seg.value(at), seg.value(at + 1))
    if found is None and seg.value(at):
        run.find("not-a-duration", str(at))
    if seg.value(at + 1) and time_unit(seg.value(at + 1)) is None:
        run.find("unknown-unit", str(at + 1))
    return found


@segment("service-time")
def service_time(seg: Segment, run: Run, target: Node) -> None:
    """AIS-4 to 8, where SCH-11 does not say when the appointment is."""
    schedule = run.scope.segment("SCH")
    if schedule is not None and schedule.value(11, 1, 4):
        length = _minutes(seg, run, 7) if not (schedule.value(11, 1, 5) or schedule.value(9)) else None
        if length:
            start = _instant(schedule.value(11, 1, 4), run, "SCH-11.4")
            _when(target, "AIS-7", None, _later(start, length))
        for number in (4, 5) if length else (4, 5, 7):
            if seg.value(number) and seg.value(number) not in {schedule.value(11, 1, 4), schedule.value(9), "0"}:
                run.find("outranked", str(number), "information")
                if number > 4 and valued(seg, number + 1):
                    run.find("outranked", str(number + 1), "information")
        return
    span = _span(seg, run, 4)
    if "start" in span:
        _when(target, "AIS-4", span["start"], span.get("end"))


_ACCEPTED = {
    "PENDING": "needs-action", "WAITLIST": "tentative", "DELETED": "declined", "CANCELLED": "declined",
    "BOOKED": "accepted", "COMPLETE": "accepted", "STARTED": "accepted", "OVERBOOK": "accepted",
    "BLOCKED": "accepted", "NOSHOW": "accepted", "DC": "accepted", "CONFIRMED": "accepted",
}  # fmt: skip
_FIRST = {"AIG": (8, 14), "AIL": (6, 12), "AIP": (6, 12)}


@segment("participation")
def participation(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """When a resource is needed, and its status (HL7 table 0278); what is booked has accepted."""
    if seg.value(2) == "D":
        withdraw_slot(seg, run, target)
        return
    first, status_at = _FIRST[seg.name]
    span = _span(seg, run, first)
    if span:
        target["period"] = span
    code = seg.value(status_at).strip().replace(CLEAR, "")
    target["status"] = _ACCEPTED.get(code.upper(), "accepted")
    if code and code.upper() not in _ACCEPTED:
        run.unmapped("AppointmentStatus", "http://terminology.hl7.org/CodeSystem/v2-0278", code, str(status_at))
        concept = run.maps["CWE[CodeableConcept]"](seg.field(status_at)[0], run, str(status_at))
        target["_status"] = {"extension": [{"url": ALTERNATE, "valueCodeableConcept": concept}]}
    if "actor" not in target and "type" not in target:
        target["type"] = [{"text": "unknown"}]
