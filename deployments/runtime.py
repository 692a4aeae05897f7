"""Puts the stack's environment in place before Prefect is imported, which reads it once."""

from __future__ import annotations

import os

from tasks.errors import ConfigError, Transient
from tasks.settings import environment


def use_prefect() -> None:
    """Let Prefect talk to the server that the environment or the embedded stack names.

    Raises `ConfigError` where none is named, `Transient` where it does not answer.
    """
    values = environment()
    url = values.get("PREFECT_API_URL")
    if not url:
        raise ConfigError("no Prefect server: run `sluice up`, or set PREFECT_API_URL")
    if not _answers(url):
        raise Transient("Prefect's server does not answer: see `sluice status`, or mend PREFECT_API_URL")
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
    for name, value in values.items():
        if name.startswith(("PREFECT_", "DO_NOT_TRACK")):
            os.environ.setdefault(name, value)


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{url}/health", timeout=30).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
