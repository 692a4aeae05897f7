"""A FHIR R4 server for development and tests, over Postgres."""

from infra.dev.fhir.app import FhirServer, create_app
from infra.dev.fhir.auth import Auth
from infra.dev.fhir.export import ExportOptions
from infra.dev.fhir.faults import Fault, Faults
from infra.dev.fhir.seed import Seeded, seed

__all__ = ["Auth", "ExportOptions", "Fault", "Faults", "FhirServer", "Seeded", "create_app", "seed"]
