"""Logs: one event a line with ids and counts, JSON outside a terminal; no value of a record is ever a field of one."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog

LOGGER = "sluice"
FROM_PREFECT = ("flow_run_name", "flow_run_id", "task_run_name", "task_run_id")


def get_logger(**ids: Any) -> Any:
    """Return a logger bound to ids (run, feed, delivery, batch, record)."""
    return structlog.get_logger(LOGGER).bind(**ids)


def configure() -> None:
    """Send structured events through the standard logger `sluice`; a handler of its own only where it has none."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _as_record],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(Formatter())
        logger.addHandler(handler)


def _as_record(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    """The fields stand in the text, which Prefect's pages show, and beside it, for the JSON line."""
    text = str(event.pop("event"))
    fields = " ".join(f"{name}={value}" for name, value in event.items() if name not in {"feed", "run"})
    return (f"{text} {fields}".rstrip(),), {"extra": {"sluice": {"event": text, **event}}}


class Formatter(logging.Formatter):
    """A readable line on a terminal, one JSON object a line elsewhere; Prefect's own records too."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; of an exception its type and text, never locals."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        if sys.stderr.isatty():
            return f"{when} {record.levelname.lower():7} {text}"
        fields = {name: getattr(record, name) for name in FROM_PREFECT if getattr(record, name, None)}
        line = {"time": when, "level": record.levelname.lower(), "logger": record.name, "message": text, **fields}
        return json.dumps({**line, **getattr(record, "sluice", {})}, default=str)
