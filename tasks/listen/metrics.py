"""What long-running processes tell a monitor: counts by feed and code, ages, never a value of a record."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)

RECEIVED = Counter("sluice_received", "Messages, resources or files that came in", ["feed", "via"], registry=REGISTRY)
ACKNOWLEDGED = Counter(
    "sluice_acknowledged", "Answers by code (AA, CA, AE, AR, CE, CR, HTTP status)", ["feed", "code"], registry=REGISTRY
)
REFUSED = Counter("sluice_refused", "What was not taken, by reason", ["feed", "reason"], registry=REGISTRY)
IN_FLIGHT = Gauge("sluice_in_flight", "Messages that came and wait for their commit", ["feed"], registry=REGISTRY)
CONNECTIONS = Gauge("sluice_connections", "Open connections", ["feed"], registry=REGISTRY)
COMMIT_SECONDS = Histogram(
    "sluice_landing_seconds",
    "From the last byte of a message to its durable landing",
    ["feed"],
    registry=REGISTRY,
    buckets=_FAST,
)
LAG_SECONDS = Gauge("sluice_lag_seconds", "Age of the oldest landed and unread message", ["feed"], registry=REGISTRY)
BATCH_SECONDS = Histogram(
    "sluice_batch_seconds", "From reading a batch to its publication", ["feed"], registry=REGISTRY, buckets=_SLOW
)
RECORDS = Counter("sluice_records", "Records by outcome", ["feed", "outcome"], registry=REGISTRY)
HELD = Gauge("sluice_held_batches", "Batches that a gate holds", ["feed"], registry=REGISTRY)
POLLS = Counter("sluice_polls", "Polls: nothing, something, error", ["feed", "found"], registry=REGISTRY)
STARTED = Counter("sluice_runs_started", "Runs that the watcher started", ["feed"], registry=REGISTRY)
