"""HL7 v2.5.1 segments as the hospital's systems write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from infra.dev.partners.model import ZONE
from infra.dev.partners.people import Person, later


@dataclass(frozen=True, slots=True)
class Facility:
    """A house of the hospital; each runs another vendor's system, and it shows.

    - `offset` says whether its times carry one; where not, the feed's zone is meant.
    - `charset` is MSH-18 and the codec of its files; `newline` ends its segments.
    """

    code: str
    offset: bool
    charset: tuple[str, str]
    newline: str
    batch: bool

    def writes(self, text: str) -> bool:
        """Say whether the facility's character set has all of `text`."""
        return text.encode(self.charset[1], "ignore").decode(self.charset[1]) == text

    def time(self, when: datetime) -> str:
        """Return `when` as HL7 DTM; the hour that a clock shows twice always carries its offset."""
        local = when.astimezone(ZONE)
        twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
        return local.strftime("%Y%m%d%H%M%S%z" if self.offset or twice else "%Y%m%d%H%M%S")


MAIN = Facility("NMC", True, ("UNICODE UTF-8", "utf-8"), "\r", True)
WEST = Facility("NWC", False, ("UNICODE UTF-8", "utf-8"), "\r\n", False)
RIVERSIDE = Facility("NRH", True, ("8859/1", "latin-1"), "\n", True)
FACILITIES = (MAIN, WEST, RIVERSIDE)


@dataclass(frozen=True, slots=True)
class Visit:
    """A stay or a clinic visit: who, where, with whom, from when to when."""

    number: str
    patient_class: str
    location: str
    doctor: tuple[str, str, str, str]
    service: str
    admitted: datetime
    discharged: datetime | None = None


def segment(name: str, fields: Mapping[int, str]) -> str:
    """Return the segment whose fields stand at the numbers of `fields`."""
    return "|".join([name, *(fields.get(number, "") for number in range(1, max(fields) + 1))]).rstrip("|")


def escaped(text: str) -> str:
    """Return `text` with the separators escaped (chapter 2.7)."""
    for plain, escape in (("\\", "\\E\\"), ("|", "\\F\\"), ("^", "\\S\\"), ("&", "\\T\\"), ("~", "\\R\\")):
        text = text.replace(plain, escape)
    return text


def doctor_xcn(doctor: tuple[str, str, str, str]) -> str:
    """Return the doctor as XCN with the national provider identifier."""
    npi, family, given, degree = doctor
    return f"{npi}^{family}^{given}^^^^{degree}^^NPI&2.16.840.1.113883.4.6&ISO^L^^^NPI"


def phone_xtn(number: str, use: str, equipment: str) -> str:
    """Return a North American number as XTN."""
    return f"({number[:3]}){number[3:6]}-{number[6:]}^{use}^{equipment}^^1^{number[:3]}^{number[3:]}"


def pid(one: Person, account: str = "") -> str:
    """Return PID: identifiers of two authorities (for one in five the same value), names, addresses, phones."""
    again = one.number if int(one.number) % 5 == 0 else f"R{one.number[::-1]}"
    names = [f"{one.family}^{one.given}^{one.middle}^^^^L"]
    if int(one.number) % 4 == 0:
        names.append(f"{one.family}^{one.given[:3]}^^^^^N")
    city, state, code = one.city
    addresses = [f"{escaped(one.street)}^^{city}^{state}^{code}^USA^H"]
    if int(one.number) % 3 == 0:
        addresses.append(f"PO Box {one.number}^^{city}^{state}^{code}^USA^M")
    phones = (phone_xtn(one.phone, "PRN", "PH"), phone_xtn(one.mobile, "PRN", "CP"), f"^NET^Internet^{one.email}")
    return segment(
        "PID",
        {
            1: "1",
            3: f"{one.number}^^^NORTHSIDE^MR~{again}^^^RIVERSIDE&2.16.840.1.113883.19.4.7&ISO^PI",
            5: "~".join(names),
            7: one.born.strftime("%Y%m%d"),
            8: one.sex,
            10: f"{one.race[0]}^{one.race[1]}^HL70005",
            11: "~".join(addresses),
            13: "~".join(phones),
            15: f"{one.language[0]}^{one.language[1]}^HL70296",
            16: "MSUW"[int(one.number) % 4],
            18: f"{account}^^^NORTHSIDE^AN" if account else "",
            19: one.ssn,
        },
    )


def pv1(visit: Visit, facility: Facility) -> str:
    """Return PV1 with the visit number in PV1-19."""
    return segment(
        "PV1",
        {
            1: "1",
            2: visit.patient_class,
            3: f"{visit.location}^{facility.code}",
            4: "E" if visit.patient_class == "I" else "R",
            7: doctor_xcn(visit.doctor),
            10: visit.service,
            14: "1",
            19: f"{visit.number}^^^NORTHSIDE^VN",
            36: "01" if visit.discharged else "",
            44: facility.time(visit.admitted),
            45: facility.time(visit.discharged) if visit.discharged else "",
        },
    )


def msh(facility: Facility, kind: str, control: str, when: datetime) -> str:
    """Return MSH; `kind` is MSH-9 and MSH-10 is `control`."""
    system = "LIS" if kind.startswith("ORU") else "ADT"
    fields = f"{system}{facility.code}|{facility.code}|SLUICE|HUB|{facility.time(later(when, 1 / 15))}"
    return f"MSH|^~\\&|{fields}||{kind}|{control}|P|2.5.1|||AL|NE|USA|{facility.charset[0]}"
