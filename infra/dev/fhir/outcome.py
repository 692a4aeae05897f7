"""OperationOutcome, and the refusal that carries one (FHIR R4, OperationOutcome)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CODES = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    409: "conflict",
    410: "deleted",
    412: "conflict",
    413: "too-long",
    415: "not-supported",
    422: "processing",
    429: "throttled",
    501: "not-supported",
}


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue of an OperationOutcome: words, a code and a place, never a value of a resource."""

    diagnostics: str
    code: str
    severity: str = "error"
    expression: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the issue as OperationOutcome.issue."""
        issue: dict[str, Any] = {"severity": self.severity, "code": self.code, "diagnostics": self.diagnostics}
        if self.expression:
            issue["expression"] = [self.expression]
        return issue


class Refusal(Exception):
    """A request is refused: the HTTP status, what to tell the client, and headers that go with it."""

    def __init__(
        self,
        status: int,
        diagnostics: str,
        *,
        code: str | None = None,
        expression: str | None = None,
        issues: Sequence[Issue] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status}: {diagnostics}")
        self.status = status
        self.issues = tuple(issues) or (
            Issue(diagnostics, code or CODES.get(status, "exception"), "error", expression),
        )
        self.headers = dict(headers or {})

    def at(self, index: int) -> Refusal:
        """Return this refusal as one of a bundle's entry `index`."""
        place = f"Bundle.entry[{index}]"
        issues = [
            Issue(i.diagnostics, i.code, i.severity, f"{place}.resource.{i.expression}" if i.expression else place)
            for i in self.issues
        ]
        return Refusal(self.status, "entry refused", issues=issues, headers=self.headers)


def outcome(*issues: Issue) -> dict[str, Any]:
    """Return an OperationOutcome of `issues`."""
    return {"resourceType": "OperationOutcome", "issue": [issue.as_json() for issue in issues]}


def all_ok(diagnostics: str) -> dict[str, Any]:
    """Return the OperationOutcome that says that nothing was wrong."""
    return outcome(Issue(diagnostics, "informational", "information"))
