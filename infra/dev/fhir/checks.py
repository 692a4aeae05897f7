"""What a resource must be before it is stored: the product's own validator for R4, asked in one place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from infra.dev.fhir.definitions import FHIR_VERSION
from infra.dev.fhir.outcome import Issue, Refusal
from tasks.model import Finding, Resource

Check = Callable[[Resource], tuple[Finding, ...]]


@cache
def checker() -> Check:
    """Return the check of a resource against R4; it is built once, at the first write."""
    from tasks.validate import validator

    return validator(FHIR_VERSION).check


def require_valid(resource: Resource) -> None:
    """Raise `Refusal` 422 with an issue per finding where `resource` has errors."""
    findings = checker()(resource)
    if any(finding.severity == "error" for finding in findings):
        issues = [Issue(f.code, _issue_code(f.code), f.severity, f.location) for f in findings]
        raise Refusal(422, "the resource is not valid", issues=issues)


def _issue_code(code: str) -> str:
    """Return the IssueType nearest to a finding's code."""
    nearest = {
        "invariant": "invariant",
        "required": "required",
        "cardinality": "structure",
        "unknown": "structure",
        "code": "code-invalid",
    }
    return next((issue for word, issue in nearest.items() if word in code), "invalid")
