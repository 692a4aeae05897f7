"""How fast resources are checked, side by side with fhir.resources: `python tests/bench/validate.py`, JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from mappings.engine.json import dumps, loads
from tasks.validate import Validator, validator
from tasks.validate.structure import Structure

OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "7f3c2f04-4a8c-5a47-9d5e-6f1f5a0c3b11",
    "meta": {"lastUpdated": "2024-02-29T10:00:00Z", "source": "urn:sluice:source:northside"},
    "identifier": [{"system": "urn:oid:2.16.840.1.113883.3.1", "value": "L-1"}],
    "status": "final",
    "category": [
        {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"},
            ]
        }
    ],
    "code": {"coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin"}], "text": "Hgb"},
    "subject": {"reference": "Patient/1"},
    "encounter": {"reference": "Encounter/2"},
    "effectiveDateTime": "2024-02-29T10:00:00+01:00",
    "issued": "2024-02-29T10:00:00.123Z",
    "performer": [{"reference": "Organization/9"}],
    "valueQuantity": {
        "value": Decimal("14.20"),
        "unit": "g/dL",
        "system": "http://unitsofmeasure.org",
        "code": "g/dL",
    },
    "interpretation": [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "code": "N"}]}
    ],
    "referenceRange": [{"low": {"value": Decimal("12.0"), "unit": "g/dL"}, "text": "12.0-16.0"}],
}


def rate(call: Callable[[], Any], seconds: float = 1.0) -> float:
    """Return how often `call` runs in a second of CPU time; the best of three rounds, as others only slow it down."""
    call()
    best = 0.0
    for _ in range(3):
        count, start = 0, time.process_time()
        while (took := time.process_time() - start) < seconds / 3:
            for _ in range(50):
                call()
            count += 50
        best = max(best, count / took)
    return round(best)


def start_up() -> dict[str, float]:
    """Return the milliseconds to read the definitions and to compile ten types that an admission needs."""
    kinds = (
        "Patient Encounter Practitioner PractitionerRole Organization Location Condition Coverage Account Provenance"
    )
    begin = time.process_time()
    fresh = Validator(Structure("4.0.1"))
    read = time.process_time()
    for kind in kinds.split():
        fresh.check({"resourceType": kind})
    compiled = time.process_time()
    return {"read_ms": round((read - begin) * 1e3, 1), "compile_10_types_ms": round((compiled - read) * 1e3, 1)}


def run() -> dict[str, Any]:
    """Return the figures: resources a second of one lab Observation on one core."""
    from fhir.resources.R4B.observation import Observation

    check = validator("4.0.1").check
    if check(OBSERVATION):
        raise SystemExit("the sample Observation is not valid")
    text = dumps(OBSERVATION)
    broken = {**OBSERVATION, "status": "done"}
    ours, theirs = rate(lambda: check(OBSERVATION)), rate(lambda: Observation.model_validate(OBSERVATION))
    return {
        "benchmark": "validate",
        "sluice": ours,
        "fhir.resources": theirs,
        "ratio": round(ours / theirs, 1),
        "sluice_from_bytes": rate(lambda: check(loads(text))),
        "sluice_explaining": rate(lambda: check(broken)),
        "bytes": len(text),
        **start_up(),
    }


if __name__ == "__main__":
    sys.stdout.write(dumps(run()).decode() + "\n")
