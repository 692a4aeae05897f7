"""Messages for tests, written field by field."""

from __future__ import annotations

from typing import Any

from mappings.engine.model import Conversion, Profile, Resource
from tasks.convert.hl7v2 import Hl7v2Converter
from tasks.parse.hl7v2 import Hl7v2Format

ZONE = "America/New_York"


def seg(name: str, fields: dict[int, str]) -> str:
    """Return a segment with the given fields."""
    top = max(fields, default=0)
    return "|".join([name, *(fields.get(number, "") for number in range(1, top + 1))]).rstrip("|")


def message(kind: str, *segments: str, control: str = "M1", sent: str = "20240301101500-0500") -> str:
    """Return a message of `ADT^A01^ADT_A01` or the like."""
    return "\r".join([rf"MSH|^~\&|APP|NORTHSIDE|EHR|WEST|{sent}||{kind}|{control}|P|2.5.1", *segments]) + "\r"


def convert(text: str | bytes, **profile: Any) -> list[Conversion]:
    """Return what becomes of the messages in `text`."""
    made = Profile(**{"partner": "northside", "timezone": ZONE, **profile})
    form, converter = Hl7v2Format(made), Hl7v2Converter(made)
    data = text.encode() if isinstance(text, str) else text
    return [converter.convert(form.parse(frame)) for frame in form.split([data])]


def one(text: str | bytes, **profile: Any) -> Conversion:
    """Return what becomes of the one message in `text`."""
    (conversion,) = convert(text, **profile)
    return conversion


def resources(conversion: Conversion, kind: str) -> list[Resource]:
    """Return the resources of one type."""
    return [entry.resource for entry in conversion.entries if entry.resource["resourceType"] == kind]


def only(conversion: Conversion, kind: str) -> Resource:
    """Return the one resource of a type."""
    (found,) = resources(conversion, kind)
    return found
