"""Messages that name no patient: what is missing is said once and plainly, and not resource by resource.

A sender forgets PID, or the structure allows a message without one: a control's results, an empty bed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mappings.engine.model import Finding, Severity

if TYPE_CHECKING:
    from mappings.engine.run import Run

_REQUIRED = {
    "AllergyIntolerance": "patient", "CarePlan": "subject", "ChargeItem": "subject", "Condition": "subject",
    "Coverage": "beneficiary", "Goal": "subject", "Immunization": "patient", "MedicationAdministration": "subject",
    "MedicationRequest": "subject", "Procedure": "subject", "RelatedPerson": "patient", "ServiceRequest": "subject",
}  # fmt: skip
"""The types that are somebody's in FHIR, and the element that says whose."""
_USUAL = frozenset({
    "Account", "CareTeam", "DiagnosticReport", "DocumentReference", "Encounter", "EpisodeOfCare", "MedicationDispense",
    "Observation", "Specimen",
})  # fmt: skip
"""The types that nearly always are."""
_UNKNOWN = {
    "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
}


def without_patient(run: Run) -> None:
    """Note that there is no PID where something in the message is a patient's.

    It is an error where FHIR requires the patient; a control's or another thing's specimen (SPM-11) has none.
    """
    severity: Severity | None = None
    other = any(seg.name == "SPM" and seg.value(11).strip() not in {"", '""', "P"} for seg in run.message.segments)
    for node in run.order:
        path = _REQUIRED.get(node.type)
        if path is None:
            severity = severity or ("warning" if node.type in _USUAL else None)
            continue
        if node.slots is None:
            node.resource.setdefault(path, _UNKNOWN)
        else:
            node.say("~~", path, _UNKNOWN)
        severity = "error"
    if severity is not None:
        run.conversion.findings.append(Finding("no-patient", "PID", "information" if other else severity))
