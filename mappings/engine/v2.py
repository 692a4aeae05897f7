"""From a parsed HL7 v2 message to a conversion."""

from __future__ import annotations

from typing import Any

from mappings.engine import messages, times
from mappings.engine.compiled import Maps
from mappings.engine.model import Conversion, Profile
from mappings.engine.protocols import CLEAR, Message
from mappings.engine.run import Run


def convert_message(
    maps: Maps, message: Message, profile: Profile, caches: dict[str | None, dict[Any, Any]] | None = None
) -> Conversion:
    """Return what `message` says; a structure without a map of its own is read by the map `any`, with a finding.

    `caches` keeps, between calls for one profile, what values that come again and again have become.
    """
    run = Run(message, profile, maps, {})
    if caches is not None:
        # A time without an offset means another moment in another zone, so each zone has a cache of its own.
        run.cache = caches.setdefault(run.timezone, {})
    plan = maps.plan(message.structure, message.code, message.trigger)
    if plan is None:
        plan = maps.plans["any"]
        run.find("unmapped-structure", "MSH-9")
    messages.walk(plan, run, maps.make)
    messages.finish(plan, run)
    run.seg = None
    _stamp(run)
    run.conversion.entries = [node.entry() for node in run.order]
    return run.conversion


def _stamp(run: Run) -> None:
    """Set identifier, timestamp and event time from MSH-10, MSH-7 and EVN-2."""
    header = run.message.first("MSH")
    if header is None:
        return
    conversion = run.conversion
    control = header.value(10).strip()
    if control and control != CLEAR:
        conversion.identifier = {"system": run.local_system(header.value(3).strip() or "message"), "value": control}
    sent = header.value(7).strip()
    conversion.timestamp = times.instant(sent, run.timezone) if sent else None
    event = run.message.first("EVN")
    when = event.value(2).strip() if event is not None else ""
    conversion.event_time = (times.instant(when, run.timezone) if when else None) or conversion.timestamp
