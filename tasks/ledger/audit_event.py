"""The audit trail as FHIR AuditEvents (R4, AuditEvent; types from ISO 21089's record lifecycle events)."""

from __future__ import annotations

from datetime import UTC

from tasks.ledger.audit import Act
from tasks.model import Resource

LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"

OTHER = ("access", "Access/View Record Lifecycle Event", "R")
KINDS = {
    "gate-release": ("unhold", "Remove Legal Hold Record Lifecycle Event", "U"),
    "gate-reject": ("destroy", "Destroy/Delete Record Lifecycle Event", "D"),
    "quarantine-release": ("reactivate", "Re-activate Record Lifecycle Event", "U"),
    "quarantine-discard": ("deprecate", "Deprecate Record Lifecycle Event", "U"),
    "decrypt": ("decrypt", "Decrypt Record Lifecycle Event", "R"),
    "unmapped-codes": OTHER,
    "replay": ("restore", "Restore Record Lifecycle Event", "U"),
    "requeue": ("transmit", "Transmit Record Lifecycle Event", "E"),
    "erase": ("destroy", "Destroy/Delete Record Lifecycle Event", "D"),
    "landing-rewrap": ("encrypt", "Encrypt Record Lifecycle Event", "U"),
    "configure": ("amend", "Amend (Update) Record Lifecycle Event", "U"),
}


def audit_event(act: Act) -> Resource:
    """Return an act as an AuditEvent; the chain's hashes stand in the entity's details."""
    code, display, action = KINDS.get(act.action, OTHER)
    details = {**{name: str(count) for name, count in act.counts.items()}, "hash": act.hash.hex()}
    return {
        "resourceType": "AuditEvent",
        "id": f"sluice-audit-{act.number}",
        "type": {"system": LIFECYCLE, "code": code, "display": display},
        "subtype": [{"system": "urn:sluice:action", "code": act.action}],
        "action": action,
        "recorded": act.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "outcome": "0",
        "purposeOfEvent": [{"text": act.reason}],
        "agent": [{"altId": act.actor, "name": act.actor, "requestor": True}],
        "source": {"observer": {"display": "Sluice"}},
        "entity": [
            {
                "what": {"identifier": {"system": "urn:sluice:subject", "value": act.subject}},
                "name": act.subject,
                "detail": [{"type": name, "valueString": value} for name, value in details.items()],
            }
        ],
    }
