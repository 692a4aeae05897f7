"""northside, a hospital of three houses, drops HL7 v2 files on SFTP."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from infra.dev.partners import vocabulary as words
from infra.dev.partners.journeys import Event, Journey, Told, adt, merge
from infra.dev.partners.model import (
    MARKER_NAME,
    MARKER_NUMBER,
    Broken,
    Counts,
    Delivery,
    DroppedFile,
    EarlyUpdate,
    dice,
    latest,
)
from infra.dev.partners.people import moment, person
from infra.dev.partners.segments import FACILITIES, MAIN, Facility, Visit, msh

FEED = "northside.hl7"
TWIN_MRN = "100482"
PATIENTS = 300
FIRST_MRN = 100_400
LAST_MOMENT = 3
BROKEN_VISIT = "V000000"


@dataclass(frozen=True, slots=True)
class Northside:
    """The hospital's part of a day."""

    files: list[DroppedFile]
    deliveries: list[Delivery]
    broken: Broken
    early: EarlyUpdate
    store: dict[str, int]
    reported: Counter[str]
    latest: dict[tuple[str, str, str], frozenset[str]]


def northside(seed: int, day: date) -> Northside:
    """Return the hospital's files of `day` and what must become of them."""
    rng = dice(seed, "northside", day)
    people = [person(rng, str(FIRST_MRN + number)) for number in range(PATIENTS)]
    people[7] = replace(people[7], family=MARKER_NAME, ssn=MARKER_NUMBER)
    journeys = [Journey(rng, day, number, one) for number, one in enumerate(people)]
    events = [event for journey in journeys for event in journey.events()]
    told = [journey.told() for journey in journeys]
    for number in range(6):
        gone = replace(people[20 + number], number=str(FIRST_MRN + 500 + number), middle="")
        visit = replace(journeys[20 + number].visit, number=f"V{day:%y%m%d}{900 + number:04d}", discharged=None)
        facility = journeys[20 + number].facility
        events.append(adt("A04", moment(day, 10 + number), facility, gone, visit))
        events.append(merge(moment(day, 1320 + number), facility, people[20 + number], gone))
        told.append(Told(frozenset((gone.number,)), frozenset((visit.number,)), frozenset(), frozenset()))
    events.append(adt("A08", moment(day, 600), MAIN, people[7], replace(journeys[7].visit, number=BROKEN_VISIT)))
    early, update, admission = _early(seed, day)
    told.append(Told(frozenset((early.mrn,)), frozenset((early.visit,)), frozenset(), frozenset()))
    files, broken = _pack(day, events, update, admission)
    deliveries = [_delivery(file, broken) for file in files]
    reported = Counter(order.code[0] for journey in journeys for order in journey.orders)
    newest = latest("northside", [taken for journey in journeys for taken in journey.taken()])
    return Northside(files, deliveries, broken, early, _store(told), reported, newest)


def _early(seed: int, day: date) -> tuple[EarlyUpdate, Event, Event]:
    """Return the visit whose A08 (a married name) is dropped hours before its A01; event times tell the order."""
    rng = dice(seed, "early", day)
    before = replace(person(rng, str(FIRST_MRN + 700)), family="Delacroix")
    after = replace(before, family="Delacroix-Nguyễn")
    number = f"V{day:%y%m%d}0990"
    visit = Visit(number, "I", "4W^409^B", words.DOCTORS[0], "MED", moment(day, 480))
    update = adt("A08", moment(day, 615), MAIN, after, replace(visit, location="ICU^01^1"))
    admission = adt("A01", moment(day, 480), MAIN, before, visit)
    return EarlyUpdate(before.number, number, after.family, before.family), update, admission


def _store(told: Sequence[Told]) -> dict[str, int]:
    return {
        "Patient": len(frozenset[str]().union(*(one.mrns for one in told))),
        "Encounter": len(frozenset[str]().union(*(one.visits for one in told))),
        "DiagnosticReport": len(frozenset[str]().union(*(one.reports for one in told))),
        "Observation": len(frozenset[tuple[str, str]]().union(*(one.observations for one in told))),
    }


class _Desk:
    """Writes messages and files; numbers the messages of each facility."""

    def __init__(self, day: date) -> None:
        self.day = day
        self.controls: Counter[str] = Counter()

    def message(self, event: Event) -> str:
        facility = event.facility
        self.controls[facility.code] += 1
        control = f"{facility.code}{self.day:%y%m%d}{self.controls[facility.code]:06d}"
        lines = (msh(facility, event.kind, control, event.when), *event.body)
        return "".join(line + facility.newline for line in lines)

    def batch(self, facility: Facility, kind: str, when: datetime, messages: Sequence[str]) -> bytes:
        end, codec = facility.newline, facility.charset[1]
        text = "".join(messages)
        if facility.batch:
            time = facility.time(when)
            head = f"|^~\\&|{kind}{facility.code}|{facility.code}|SLUICE|HUB|{time}"
            text = f"FHS{head}{end}BHS{head}{end}{text}BTS|{len(messages)}{end}FTS|1{end}"
        return text.encode(codec)


def _pack(day: date, events: list[Event], update: Event, admission: Event) -> tuple[list[DroppedFile], Broken]:
    desk = _Desk(day)
    windows: dict[tuple[str, int, str], list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda one: (one.when, one.body)):
        quarter = event.when.hour // 6 * 6
        windows[event.facility.code, quarter, event.file].append(event)
    files: list[DroppedFile] = []
    for facility in FACILITIES:
        for window, members in sorted(windows.items(), key=lambda item: item[0]):
            if window[0] == facility.code:
                files.extend(_files(desk, window, members))
    files.append(_single(desk, update, f"NMC_ADT_{day:%Y%m%d}_early_0001.hl7", 0))
    files.append(_single(desk, admission, f"NMC_ADT_{day:%Y%m%d}_late_0002.hl7", 2))
    return _mischief(day, files)


def _files(desk: _Desk, window: tuple[str, int, str], events: list[Event]) -> list[DroppedFile]:
    """Return a window's file, or one file a message for merges."""
    code, quarter, kind = window
    name = f"{code}_{kind}_{desk.day:%Y%m%d}_{quarter:02d}"
    if kind == "A40":
        return [_single(desk, event, f"{name}_{number:04d}.hl7", 0) for number, event in enumerate(events, 1)]
    messages = [desk.message(event) for event in events]
    return [DroppedFile(f"{name}.hl7", desk.batch(events[-1].facility, kind, events[-1].when, messages))]


def _single(desk: _Desk, event: Event, name: str, at: int) -> DroppedFile:
    return DroppedFile(name, desk.message(event).encode(event.facility.charset[1]), at)


def _mischief(day: date, files: list[DroppedFile]) -> tuple[list[DroppedFile], Broken]:
    """Break one message, let one file grow while it is polled, and drop one file twice more."""
    by_name = {file.name: file for file in files}
    victim = by_name[f"NMC_ADT_{day:%Y%m%d}_06.hl7"]
    by_name[victim.name], ordinal = _break(victim)
    slow = by_name[f"NMC_ORU_{day:%Y%m%d}_12.hl7"]
    size = len(slow.data)
    by_name[slow.name] = replace(slow, moment=2, growing=(size // 3 + 17, size * 2 // 3 + 5))
    twice = by_name[f"NWC_ADT_{day:%Y%m%d}_06.hl7"]
    again = replace(twice, moment=LAST_MOMENT, kind="duplicate")
    dropped = [*by_name.values(), again, replace(again, name=f"resend_{twice.name}")]
    return dropped, Broken(FEED, victim.name, ordinal, f"message {ordinal}", "MSH-9")


def _break(file: DroppedFile) -> tuple[DroppedFile, int]:
    """Cut off the header of the message that is there to be broken, in the middle of its separators."""
    parts = file.data.split(b"MSH|")
    ordinal = next(number for number, part in enumerate(parts) if BROKEN_VISIT.encode() in part)
    _header, _, rest = parts[ordinal].partition(b"\r")
    parts[ordinal] = b"^~\r" + rest
    return replace(file, data=b"MSH|".join(parts)), ordinal


def _delivery(file: DroppedFile, broken: Broken) -> Delivery:
    received = file.data.count(b"MSH|")
    bad = int(file.name == broken.delivery)
    counts = Counts(received, received - bad, bad)
    if file.kind == "duplicate":
        counts = Counts(received, duplicate=received)
    return Delivery(FEED, file.name, file.moment, file.kind, counts)
