"""Validation of FHIR resources: `validator("4.0.1").check(resource)`."""

from tasks.validate.check import FhirVersion, Validator, validator

__all__ = ["FhirVersion", "Validator", "validator"]
