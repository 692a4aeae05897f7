"""Three sample partners: seeded, synthetic, and as odd as real ones.

*northside* is a hospital that drops HL7 v2 files on SFTP, *eastlab* a laboratory that puts CSV into S3, *county* a
registry that serves FHIR bulk exports. Nobody in the data exists; codes, units and ranges are real.
"""

from __future__ import annotations

from datetime import date

from infra.dev.partners.big import big_csv, big_hl7, big_ndjson
from infra.dev.partners.county import county
from infra.dev.partners.drop import drop_s3, drop_sftp
from infra.dev.partners.eastlab import eastlab
from infra.dev.partners.model import (
    MARKER_NAME,
    MARKER_NUMBER,
    Broken,
    Counts,
    Day,
    Delivery,
    DroppedFile,
    EarlyUpdate,
    Expected,
    moments,
)
from infra.dev.partners.northside import TWIN_MRN, northside

__all__ = [
    "MARKER_NAME",
    "MARKER_NUMBER",
    "Broken",
    "Counts",
    "Day",
    "Delivery",
    "DroppedFile",
    "EarlyUpdate",
    "Expected",
    "big_csv",
    "big_hl7",
    "big_ndjson",
    "drop_s3",
    "drop_sftp",
    "generate",
    "moments",
]


def generate(seed: int, day: date) -> Day:
    """Return the day that the partners have: the same bytes for the same `seed` and `day`, everywhere."""
    hospital, laboratory, registry = northside(seed, day), eastlab(seed, day), county(seed, day)
    expected = Expected(
        deliveries=(*hospital.deliveries, *laboratory.deliveries, *registry.deliveries),
        store={"northside": hospital.store, "eastlab": laboratory.store, "county": registry.store},
        broken=(hospital.broken, laboratory.broken, registry.broken),
        early_update=hospital.early,
        twin_mrn=TWIN_MRN,
        retracted=laboratory.retracted,
        reported=hospital.reported + laboratory.reported,
        latest={**hospital.latest, **laboratory.latest},
    )
    return Day(day, hospital.files, laboratory.files, registry.resources, expected)
