"""county, a registry, is read by FHIR bulk export: R4 resources that refer to each other."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from infra.dev.partners import vocabulary as words
from infra.dev.partners.model import MARKER_NAME, MARKER_NUMBER, Broken, Counts, Delivery, dice
from infra.dev.partners.people import Person, later, measure, moment, person

FEED = "county.registry"
PATIENTS = 700
SYSTEM = "urn:oid:2.16.840.1.113883.19.9"
HL7 = "http://terminology.hl7.org/CodeSystem"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class County:
    """The registry's part of a day."""

    resources: list[Json]
    deliveries: list[Delivery]
    broken: Broken
    store: dict[str, int]


def county(seed: int, day: date) -> County:
    """Return the registry's resources and what must become of them; the one that is broken lacks its status."""
    registry = _Registry(dice(seed, "county", day), day)
    resources = registry.resources()
    bad = next(one for one in reversed(resources) if one["resourceType"] == "Observation")
    del bad["status"]
    bad["note"] = [{"text": f"Seen with {MARKER_NAME}, {MARKER_NUMBER}"}]
    broken = Broken(FEED, "Observation", None, f"Observation/{bad['id']}", "Observation.status")
    received = Counter(str(one["resourceType"]) for one in resources)
    deliveries = []
    for name, count in sorted(received.items()):
        lost = int(name == "Observation")
        deliveries.append(Delivery(FEED, name, 0, "new", Counts(count, count - lost, lost)))
    store = {delivery.name: delivery.counts.published for delivery in deliveries}
    return County(resources, deliveries, broken, store)


def coding(system: str, code: str, display: str) -> Json:
    """Return a CodeableConcept of one coding."""
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


class _Registry:
    """Draws the registry; everything is referred to after it was made."""

    def __init__(self, rng: random.Random, day: date) -> None:
        self.rng, self.day = rng, day
        self.made: list[Json] = []

    def resources(self) -> list[Json]:
        organizations = [
            self._organization(name) for name in ("County Health Department", "Valley Clinic", "Señora Hospital")
        ]
        practitioners = [self._practitioner(number, who) for number, who in enumerate(words.DOCTORS * 6)]
        locations = [self._location(number, organizations[number % 3]) for number in range(12)]
        for number in range(PATIENTS):
            one = person(self.rng, str(100_470 + number))
            if number == 5:
                one = replace(one, family=MARKER_NAME, ssn=MARKER_NUMBER)
            patient = self._patient(one, self.rng.choice(organizations))
            self._history(patient, self.rng.choice(practitioners), self.rng.choice(locations))
        return self.made

    def _add(self, kind: str, **content: Any) -> str:
        identity = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        self.made.append({"resourceType": kind, "id": identity, **content})
        return f"{kind}/{identity}"

    def _organization(self, name: str) -> str:
        return self._add(
            "Organization",
            active=True,
            name=name,
            type=[coding(f"{HL7}/organization-type", "prov", "Healthcare Provider")],
        )

    def _practitioner(self, number: int, who: tuple[str, str, str, str]) -> str:
        npi = str(int(who[0]) + number * 10)
        name = {"family": who[1], "given": [who[2]], "suffix": [who[3]]}
        return self._add(
            "Practitioner", identifier=[{"system": "http://hl7.org/fhir/sid/us-npi", "value": npi}], name=[name]
        )

    def _location(self, number: int, organization: str) -> str:
        return self._add(
            "Location",
            status="active",
            name=f"Ward {number + 1}",
            mode="instance",
            managingOrganization={"reference": organization},
        )

    def _patient(self, one: Person, organization: str) -> str:
        city, state, code = one.city
        names: list[Json] = [
            {"use": "official", "family": one.family, "given": [one.given, *([one.middle] if one.middle else [])]}
        ]
        if self.rng.random() < 0.2:
            names.append({"use": "maiden", "family": self.rng.choice(words.FAMILIES)})
        return self._add(
            "Patient",
            identifier=[
                {
                    "use": "usual",
                    "type": coding(f"{HL7}/v2-0203", "MR", "Medical record number"),
                    "system": f"{SYSTEM}.1",
                    "value": one.number,
                },
                {
                    "type": coding(f"{HL7}/v2-0203", "SS", "Social Security number"),
                    "system": "http://hl7.org/fhir/sid/us-ssn",
                    "value": one.ssn,
                },
            ],
            active=True,
            name=names,
            telecom=[
                {"system": "phone", "value": one.phone, "use": "home"},
                {"system": "phone", "value": one.mobile, "use": "mobile"},
                {"system": "email", "value": one.email},
            ],
            gender="female" if one.sex == "F" else "male",
            birthDate=one.born.isoformat(),
            address=[
                {"use": "home", "line": [one.street], "city": city, "state": state, "postalCode": code, "country": "US"}
            ],
            communication=[{"language": coding("urn:ietf:bcp:47", *one.language), "preferred": True}],
            managingOrganization={"reference": organization},
        )

    def _history(self, patient: str, practitioner: str, location: str) -> None:
        subject = {"reference": patient}
        start = moment(self.day, self.rng.randrange(400, 1000))
        encounter = self._encounter(subject, practitioner, location, start)
        context = {"reference": encounter}
        for condition in self.rng.sample(words.CONDITIONS, self.rng.randrange(1, 3)):
            self._condition(subject, context, start, condition)
        for vaccine in self.rng.sample(words.VACCINES, self.rng.randrange(0, 3)):
            self._immunization(subject, context, start, vaccine)
        for vital in self.rng.sample(words.VITALS, self.rng.randrange(2, 4)):
            self._observation(subject, context, start, vital)
        if self.rng.random() < 0.3:
            self._medication(subject, context, practitioner, start)

    def _encounter(self, subject: Json, practitioner: str, location: str, start: datetime) -> str:
        end = later(start, self.rng.randrange(15, 90))
        return self._add(
            "Encounter",
            status="finished",
            **{"class": {"system": f"{HL7}/v3-ActCode", "code": "AMB", "display": "ambulatory"}},
            type=[coding("http://snomed.info/sct", "185349003", "Encounter for check up")],
            subject=subject,
            participant=[{"individual": {"reference": practitioner}}],
            period={"start": start.isoformat(), "end": end.isoformat()},
            location=[{"location": {"reference": location}}],
        )

    def _condition(self, subject: Json, context: Json, start: datetime, condition: tuple[str, str, str, str]) -> None:
        icd, text, snomed, term = condition
        codes = [
            {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": icd, "display": text},
            {"system": "http://snomed.info/sct", "code": snomed, "display": term},
        ]
        self._add(
            "Condition",
            clinicalStatus=coding(f"{HL7}/condition-clinical", "active", "Active"),
            verificationStatus=coding(f"{HL7}/condition-ver-status", "confirmed", "Confirmed"),
            category=[coding(f"{HL7}/condition-category", "encounter-diagnosis", "Encounter Diagnosis")],
            code={"coding": codes, "text": term},
            subject=subject,
            encounter=context,
            onsetDateTime=(start - timedelta(days=self.rng.randrange(10, 3000))).date().isoformat(),
            recordedDate=start.isoformat(),
        )

    def _immunization(self, subject: Json, context: Json, start: datetime, vaccine: tuple[str, str, float]) -> None:
        code, name, dose = vaccine
        self._add(
            "Immunization",
            status="completed",
            vaccineCode=coding("http://hl7.org/fhir/sid/cvx", code, name),
            patient=subject,
            encounter=context,
            occurrenceDateTime=start.isoformat(),
            primarySource=True,
            lotNumber=f"LOT{self.rng.randrange(10**5):05d}",
            doseQuantity=_quantity(str(dose), "mL"),
        )

    def _observation(self, subject: Json, context: Json, start: datetime, vital: words.Test) -> None:
        value, _flag = measure(self.rng, vital)
        self._add(
            "Observation",
            status="final",
            category=[coding(f"{HL7}/observation-category", "vital-signs", "Vital Signs")],
            code=coding("http://loinc.org", vital.loinc, vital.name),
            subject=subject,
            encounter=context,
            effectiveDateTime=start.isoformat(),
            valueQuantity=_quantity(value, vital.unit),
        )

    def _medication(self, subject: Json, context: Json, practitioner: str, start: datetime) -> None:
        self._add(
            "MedicationRequest",
            status="active",
            intent="order",
            medicationCodeableConcept=coding(
                "http://www.nlm.nih.gov/research/umls/rxnorm", *self.rng.choice(words.DRUGS)
            ),
            subject=subject,
            encounter=context,
            authoredOn=start.isoformat(),
            requester={"reference": practitioner},
            dosageInstruction=[{"text": "One tablet daily"}],
        )


def _quantity(value: str, unit: str) -> Json:
    return {"value": Decimal(value), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
