"""From a parsed HL7 v2 message to a conversion."""

from __future__ import annotations

from typing import Any

from mappings.engine import messages, times
from mappings.engine.compiled import Maps
from mappings.engine.model import Conversion, Profile
from mappings.engine.nodes import said_twice
from mappings.engine.patientless import without_patient
from mappings.engine.protocols import CLEAR, Message, Segment
from mappings.engine.recall import Memory
from mappings.engine.run import Run

_CONTEXTS = 64
"""Time zones, and sets of separators and charset, whose memories are kept at a time."""


class Memories:
    """What one profile's values have become before; each with all that decides what they become."""

    def __init__(self) -> None:
        self._caches: dict[Any, dict[Any, Any]] = {}
        self._memories: dict[Any, Memory] = {}

    def lend(self, run: Run, maps: Maps) -> None:
        """Give a run what it may remember.

        A time without an offset means another moment in another zone, a text something else between other separators.
        """
        zone = run.timezone
        context = (zone, run.message.context)
        memory = self._memories.get(context)
        if memory is None:
            if len(self._memories) >= _CONTEXTS:
                self._memories.clear()
                self._caches.clear()
            memory = self._memories[context] = Memory(maps.groups)
        run.recall = memory
        run.cache = self._caches.setdefault(zone, {})


def convert_message(maps: Maps, message: Message, profile: Profile, memories: Memories) -> Conversion:
    """Return what `message` says; a structure without a map of its own is read by the map `any`, with a finding.

    `memories` are kept between calls for one profile and one set of maps.
    """
    run = Run(message, profile, maps)
    memories.lend(run, maps)
    plan = maps.plan(message.structure, message.code, message.trigger)
    if plan is None:
        plan = maps.plans["any"]
        run.find("unmapped-structure", "MSH-9")
    messages.walk(plan, run, maps.make)
    messages.finish(plan, run)
    if run.message.first("PID") is None:
        without_patient(run)
    run.seg = None
    _said_twice(run)
    _stamp(run)
    run.conversion.entries = [node.entry() for node in run.order]
    # Several rows may read one field (each OBX the time of its OBR), and find the same.
    run.conversion.findings = list(dict.fromkeys(run.conversion.findings))
    run.close()
    return run.conversion


def _said_twice(run: Run) -> None:
    """Note what one field said twice of an element that holds one value: the last one stands."""
    for node in run.order:
        if node.slots is not None:
            for slot in node.shared.twice() if node.shared else said_twice(node.slots):
                run.find("repetition-not-carried", slot, "information")


def _stamp(run: Run) -> None:
    """Set identifier, timestamp and event time from MSH-10, MSH-7 and EVN-2."""
    header = run.message.first("MSH")
    if header is None:
        return
    conversion = run.conversion
    control = header.value(10).strip()
    if control and control != CLEAR:
        conversion.identifier = {"system": run.local_system(header.value(3).strip() or "message"), "value": control}
    conversion.timestamp = _time_of(run, header, 7)
    event = run.message.first("EVN")
    when = (_time_of(run, event, 2) if event is not None else None) or conversion.timestamp
    # Python's clocks, by which the store orders events, have no leap second.
    conversion.event_time = when and when.replace(":60", ":59", 1)


def _time_of(run: Run, segment: Segment, number: int) -> str | None:
    text = segment.value(number).strip()
    if not text or text == CLEAR:
        return None
    return run.moment(times.read_instant(text, run.timezone), f"{segment.name}-{number}")
