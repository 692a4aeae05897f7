"""The error tree, named by what happens next.

SluiceError
├── ConfigError    a person mends a file, a setting or the environment; exit code 2
├── Transient      the same call may succeed later: it is retried
├── Permanent      the same call will fail again: it is not retried
├── BadRecord      one record is quarantined, its neighbours go on
├── GateFailed     the batch is held until an operator decides
└── LeaseLost      another worker has taken over: this one stops and publishes nothing

A message says what, where, in what state the data is and what to do. It never holds a record's value.
"""

from __future__ import annotations

from mappings.engine.model import Finding


class SluiceError(Exception):
    """The root of everything that Sluice raises on purpose."""


class ConfigError(SluiceError):
    """A feed file, mapping, setting or environment is wrong; `problems` holds one line per mistake."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems or (message,)


class Transient(SluiceError):
    """The same call may succeed later; `retry_after` is in seconds where the other side said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Permanent(SluiceError):
    """The same call will fail again."""


class BadRecord(SluiceError):
    """One record cannot go on; `findings` say why."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__(", ".join(f"{f.code} at {f.location}" for f in findings))
        self.findings = findings


class GateFailed(SluiceError):
    """A quality gate holds a batch."""


class LeaseLost(SluiceError):
    """A claim's token is no longer the newest."""
