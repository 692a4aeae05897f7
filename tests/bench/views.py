"""Measures the views: Observations a second in process, and what a refresh costs beside a full build. Prints JSON.

Run as `python -m tests.bench.views [OBSERVATIONS]`. Goals: at least 25,000 Observations a second on one core with a
LOINC forEach; a refresh after 1 % changed costs at most 3 % of a full build.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from infra.dev.scratch import scratch_postgres
from mappings.engine.json import dumps, loads
from mappings.engine.views import View, compile_view
from tasks.publish.views import ensure_tables, refresh

VIEWS = Path(__file__).parents[2] / "mappings" / "views"
STORE = """
CREATE SCHEMA fhir;
CREATE TABLE fhir.resource (
    resource_type text NOT NULL, id text COLLATE "C" NOT NULL, version_id int NOT NULL DEFAULT 1,
    record_id bigint NOT NULL DEFAULT 1, deleted boolean NOT NULL DEFAULT false, resource jsonb NOT NULL,
    PRIMARY KEY (resource_type, id)) PARTITION BY LIST (resource_type);
CREATE TABLE fhir.resource_observation PARTITION OF fhir.resource FOR VALUES IN ('Observation');
CREATE TABLE fhir.resource_other PARTITION OF fhir.resource DEFAULT;
"""
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "b1f6d6a2-6a2f-5a53-9d70-1f6a7a0e0001",
    "meta": {"lastUpdated": "2026-01-05T10:00:00+01:00", "source": "urn:partner:lab"},
    "identifier": [{"system": "urn:oid:1.2.3.4", "value": "A-100-1"}],
    "status": "final",
    "category": [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}
    ],
    "code": {
        "coding": [
            {"system": "urn:local", "code": "GLU", "display": "Glucose"},
            {"system": "http://loinc.org", "code": "2345-7", "display": "Glucose [Mass/volume] in Serum or Plasma"},
        ],
        "text": "Glucose",
    },
    "subject": {"reference": "Patient/6d0f3a4e-0000-5000-8000-000000000001"},
    "encounter": {"reference": "Encounter/6d0f3a4e-0000-5000-8000-000000000002"},
    "effectiveDateTime": "2026-01-05T08:30:00+01:00",
    "issued": "2026-01-05T09:45:10.120+01:00",
    "valueQuantity": {"value": 5.10, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"},
    "interpretation": [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "code": "N"}]}
    ],
    "referenceRange": [{"low": {"value": 3.9, "unit": "mmol/L"}, "high": {"value": 5.6, "unit": "mmol/L"}}],
}
LOINC: dict[str, Any] = {
    "resource": "Observation",
    "select": [
        {
            "column": [
                {"name": "id", "path": "getResourceKey()", "type": "id"},
                {"name": "patient_id", "path": "subject.getReferenceKey(Patient)", "type": "string"},
                {"name": "status", "path": "status", "type": "code"},
                {"name": "effective", "path": "effective.ofType(dateTime)", "type": "dateTime"},
                {"name": "value", "path": "value.ofType(Quantity).value", "type": "decimal"},
                {"name": "unit", "path": "value.ofType(Quantity).code", "type": "code"},
            ]
        },
        {
            "forEach": "code.coding.where(system = 'http://loinc.org')",
            "column": [
                {"name": "loinc", "path": "code", "type": "code"},
                {"name": "display", "path": "display", "type": "string"},
            ],
        },
    ],
}


def in_process(view: View, count: int = 50_000) -> dict[str, int]:
    """Return Observations a second of one core, with and without reading their JSON."""
    line = dumps(OBSERVATION)
    resources = [loads(line)] * count
    rates = {}
    for name, source in (("rows", iter(resources)), ("read_and_rows", (loads(line) for _ in range(count)))):
        started = time.process_time()
        found = sum(1 for _ in view.rows(source))
        rates[name] = round(count / (time.process_time() - started))
        if found != count:
            raise SystemExit(f"{found} rows instead of {count}")
    return rates


def in_postgres(count: int) -> dict[str, float]:
    """Return the seconds of a full build of the core tables over `count` Observations, and of refreshes."""
    views = [compile_view(loads(path.read_bytes())) for path in sorted(VIEWS.glob("*.json"))]
    with scratch_postgres() as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute(STORE.encode())
        _fill(connection, count)
        started = time.perf_counter()
        ensure_tables(connection, views)
        build = time.perf_counter() - started
        seconds = {"build": build}
        for name, share in (("refresh_1_percent", 100), ("refresh_nothing_of_it", count + 1)):
            seconds[name] = _refresh(connection, share)
        seconds["refresh_1_percent_of_build"] = seconds["refresh_1_percent"] / build
        return {key: round(value, 4) for key, value in seconds.items()}


def _fill(connection: psycopg.Connection[Any], count: int) -> None:
    line = dumps(OBSERVATION).decode()
    with connection.cursor().copy("COPY fhir.resource (resource_type, id, resource) FROM STDIN") as copy:
        for number in range(count):
            key = f"{number:08x}-6a2f-5a53-9d70-1f6a7a0e0001"
            copy.write_row(("Observation", key, line.replace(OBSERVATION["id"], key)))
    connection.execute(b"ANALYZE fhir.resource")


def _refresh(connection: psycopg.Connection[Any], share: int) -> float:
    best = float("inf")
    for turn in range(3):
        with connection.transaction():
            connection.execute(
                b"CREATE TEMP TABLE changed ON COMMIT DROP AS "
                b"SELECT resource_type, id, 1 AS old_version FROM fhir.resource "
                b"WHERE ('x' || substr(id, 1, 8))::bit(32)::int %% %s = %s",
                (share, turn),
            )
            started = time.perf_counter()
            refresh(connection, "changed")
            best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    """Run everything."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    result = {
        "observations_per_second_in_process": {
            "loinc_for_each": in_process(compile_view(LOINC)),
            "core_observation": in_process(compile_view(loads((VIEWS / "observation.json").read_bytes())), 10_000),
        },
        "seconds_in_postgres": {"observations": count, **in_postgres(count)},
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
