"""eastlab, a laboratory, puts CSV results and a roster of its patients into S3."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from infra.dev.partners import vocabulary as words
from infra.dev.partners.model import MARKER_NAME, MARKER_NUMBER, Broken, Counts, Delivery, DroppedFile, dice, latest
from infra.dev.partners.northside import LAST_MOMENT, TWIN_MRN
from infra.dev.partners.people import Person, later, measure, moment, person

RESULTS_FEED, ROSTER_FEED = "eastlab.results", "eastlab.roster"
FIRST_MRN = 100_100
PATIENTS = 1_000
ORDERS = 790
HEADER = (
    "accession", "patient_id", "last_name", "first_name", "birth_date", "sex", "member_number", "order_number",
    "panel_code", "panel_name", "collected_at", "resulted_at", "loinc", "test_name", "value", "unit", "ref_low",
    "ref_high", "flag", "status", "performing_site", "comment",
)  # fmt: skip
ROSTER_HEADER = (
    "patient_id", "last_name", "first_name", "middle_name", "birth_date", "sex", "street", "city", "state", "zip",
    "home_phone", "mobile_phone", "email", "language", "member_number", "active", "updated_at",
)  # fmt: skip
COMMENT = 'Specimen slightly hemolyzed,\nresult "confirmed" by repeat'
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Eastlab:
    """The laboratory's part of a day."""

    files: list[DroppedFile]
    deliveries: list[Delivery]
    broken: Broken
    retracted: tuple[str, str]
    store: dict[str, int]
    reported: Counter[str]
    latest: dict[tuple[str, str, str], frozenset[str]]


def eastlab(seed: int, day: date) -> Eastlab:
    """Return the laboratory's files of `day` and what must become of them."""
    rng = dice(seed, "eastlab", day)
    people = [person(rng, str(FIRST_MRN + number)) for number in range(PATIENTS)]
    people[3] = replace(people[3], family=MARKER_NAME)
    windows = _results(rng, day, people)
    windows[2].insert(len(windows[2]) // 2, _impossible(day, people[3]))
    names = [f"results/results_{day:%Y%m%d}_{6 + 4 * number:02d}00.csv" for number in range(len(windows))]
    files = [DroppedFile(name, _csv(HEADER, rows)) for name, rows in zip(names, windows, strict=True)]
    corrected, retracted = _correct(windows, 1)
    files.append(DroppedFile(names[1], _csv(HEADER, corrected), LAST_MOMENT, "correction"))
    roster = DroppedFile(f"roster/roster_{day:%Y%m%d}.csv", _roster(rng, day, people))
    bad = next(number for number, row in enumerate(windows[2], 1) if row[0] == "X0000001")
    line = 1 + _csv(HEADER, windows[2][: bad - 1]).count(b"\n")
    broken = Broken(RESULTS_FEED, names[2], bad, f"line {line}", "collected_at")
    received = [len(rows) for rows in windows] + [len(corrected)]
    deliveries = [_delivery(file, count, broken) for file, count in zip(files, received, strict=True)]
    deliveries.append(Delivery(ROSTER_FEED, roster.name, 0, "new", Counts(PATIENTS, PATIENTS)))
    results = {(row[0], row[12]) for rows in windows for row in rows if row[0] != "X0000001"} - {retracted}
    store = {"Patient": PATIENTS, "Observation": len(results)}
    rows = [row for number, some in enumerate(windows) for row in (corrected if number == 1 else some)]
    final = [row for row in rows if row[19] != "P" and row[0] != "X0000001"]
    reported = Counter(panel for _, panel in {(row[7], row[8]) for row in final})
    newest = latest("eastlab", [(row[1], row[12], datetime.fromisoformat(row[10]), row[14]) for row in final])
    return Eastlab([*files, roster], deliveries, broken, retracted, store, reported, newest)


def _delivery(file: DroppedFile, count: int, broken: Broken) -> Delivery:
    bad = int(file.name == broken.delivery)
    return Delivery(RESULTS_FEED, file.name, file.moment, file.kind, Counts(count, count - bad, bad))


def _results(rng: random.Random, day: date, people: Sequence[Person]) -> list[list[Row]]:
    """Return the rows of each four-hour window; a preliminary result comes again as final in the next one."""
    windows: list[list[Row]] = [[] for _ in range(5)]
    order_of = [*range(8), *(rng.randrange(PATIENTS) for _ in range(ORDERS - 9)), int(TWIN_MRN) - FIRST_MRN]
    for number, who in enumerate(order_of):
        window = rng.randrange(4)
        code, tests = rng.choice([*words.PANELS.items(), *(((t.loinc, t.name), (t,)) for t in words.SINGLE_TESTS)])
        taken = moment(day, 300 + window * 240 + rng.randrange(100))
        order = _Order(day, people[who], number, code, taken)
        final = [_row(rng, order, test) for test in tests]
        if rng.random() < 0.2:
            early = later(taken, 40).isoformat()
            windows[window].extend((*row[:11], early, *row[12:19], "P", *row[20:]) for row in final)
            window += 1
        windows[window].extend(final)
    return windows


@dataclass(frozen=True, slots=True)
class _Order:
    day: date
    patient: Person
    number: int
    panel: tuple[str, str]
    taken: datetime


def _row(rng: random.Random, order: _Order, test: words.Test) -> Row:
    value, flag = measure(rng, test)
    if rng.random() < 0.02:
        value, flag = f"<{test.low:g}", "L"
    comment = COMMENT if rng.random() < 0.01 else ""
    one, number = order.patient, f"{order.day:%y%m%d}{order.number:04d}"
    resulted = later(order.taken, 95).isoformat()
    return (
        f"E{number}", one.number, one.family, one.given, f"{one.born:%m/%d/%Y}", one.sex, _member(one), f"EO{number}",
        *order.panel, f"{order.taken:%Y-%m-%d %H:%M}", resulted, test.loinc, test.name, value,
        test.unit, f"{test.low:g}", f"{test.high:g}", flag, "F", "EASTLAB CENTRAL", comment,
    )  # fmt: skip


def _impossible(day: date, one: Person) -> Row:
    """Return the row whose specimen was taken on the 30th of February."""
    test = words.SINGLE_TESTS[0]
    return (
        "X0000001", one.number, one.family, one.given, f"{one.born:%m/%d/%Y}", one.sex, MARKER_NUMBER, "XO0000001",
        test.loinc, test.name, f"{day:%Y}-02-30 07:45", moment(day, 500).isoformat(), test.loinc, test.name, "5.10",
        test.unit, "4", "5.6", "N", "F", "EASTLAB CENTRAL", "",
    )  # fmt: skip


def _correct(windows: Sequence[list[Row]], which: int) -> tuple[list[Row], tuple[str, str]]:
    """Return a window's rows with one value mended and one row, booked to the wrong patient, left out."""
    others = {(row[0], row[12]) for number, rows in enumerate(windows) if number != which for row in rows}
    final = [number for number, row in enumerate(windows[which]) if row[19] == "F" and (row[0], row[12]) not in others]
    gone, mended = final[4], final[9]
    rows = [
        (*row[:14], "6.07", *row[15:19], "C", *row[20:]) if number == mended else row
        for number, row in enumerate(windows[which])
        if number != gone
    ]
    return rows, (windows[which][gone][0], windows[which][gone][12])


def _member(one: Person) -> str:
    return MARKER_NUMBER if one.family == MARKER_NAME else f"M{one.ssn}"


def _csv(header: Row, rows: Iterable[Row], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def _roster(rng: random.Random, day: date, people: Sequence[Person]) -> bytes:
    """Return the whole roster, with semicolons, in UTF-8 with a byte-order mark and a trailer that counts."""
    rows = [
        (one.number, one.family, one.given, one.middle, f"{one.born:%m/%d/%Y}", one.sex, one.street, *one.city,
         one.phone, one.mobile, one.email, one.language[0], _member(one), "Y" if rng.random() < 0.97 else "N",
         moment(day, 5).isoformat())
        for one in people
    ]  # fmt: skip
    body = _csv(ROSTER_HEADER, rows, ";")
    return b"\xef\xbb\xbf" + body + f"#END;{len(rows)}\n".encode()
