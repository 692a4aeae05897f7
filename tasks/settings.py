"""The one reader of the environment.

What the embedded stack made up for itself (addresses, keys) stands in `environment.json` in the state folder and
counts as environment where the real one says nothing.
"""

from __future__ import annotations

import base64
import binascii
import getpass
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[1]
PACKAGED_FEEDS = PROJECT / "deployments" / "feeds"


def state_folder() -> Path:
    """Return where the embedded stack and landing keep their files: `SLUICE_HOME`, else `.sluice` in the project."""
    home = os.environ.get("SLUICE_HOME")
    return Path(home).resolve() if home else PROJECT / ".sluice"


def environment() -> dict[str, str]:
    """Return the environment, with what the embedded stack adds underneath."""
    path = state_folder() / "environment.json"
    stack: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    return {**stack, **os.environ}


def failpoints_folder() -> Path | None:
    """Return the folder in which tests arm failpoints (`SLUICE_FAILPOINTS`); None everywhere else."""
    folder = os.environ.get("SLUICE_FAILPOINTS")
    return Path(folder) if folder else None


def keep_days() -> int | None:
    """Return after how many days what has ended may be pruned (`SLUICE_KEEP_DAYS`); None where all of it is kept."""
    return _number(environment(), "SLUICE_KEEP_DAYS", 0, 1, 36_500) if environment().get("SLUICE_KEEP_DAYS") else None


def runs_address() -> str | None:
    """Return where Prefect's pages show flow runs; None where no server is known."""
    env = environment()
    page = env.get("PREFECT_UI_URL") or env.get("PREFECT_API_URL", "").removesuffix("/api")
    return f"{page}/runs/flow-run" if page else None


def actor() -> str:
    """Return who acts, for the audit trail: `SLUICE_ACTOR`, else who became root by sudo, else the system's user."""
    env = environment()
    named = env.get("SLUICE_ACTOR") or env.get("SUDO_USER")
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # a container may run under a number that has no name
        return f"uid {os.getuid()}"


def openlineage() -> tuple[str, str | None] | None:
    """Return where lineage events go, a file or an address (`SLUICE_OPENLINEAGE`), and the key for it.

    None where nothing is set, which is the default; raises `ConfigError` for anything but file:, http: and https:.
    """
    env = environment()
    target = env.get("SLUICE_OPENLINEAGE")
    if not target:
        return None
    if not target.startswith(("file:", "http://", "https://")):
        raise ConfigError("SLUICE_OPENLINEAGE: write file:/path/to/events.ndjson, or https://host of a server")
    return target, env.get("SLUICE_OPENLINEAGE_KEY")


def connection_variable(name: str) -> str:
    """Return the environment variable that holds a named connection."""
    return "SLUICE_CONNECTION_" + name.upper().replace("-", "_").replace(".", "_")


def connection(name: str | None) -> Mapping[str, str]:
    """Return the values of a named connection (host, user, key, …).

    They stand as one JSON object in `SLUICE_CONNECTION_<NAME>`, upper case and with `_` for `-`; flows put Prefect
    blocks there too. Raises `ConfigError` where the name is unknown or the value is not an object of strings.
    """
    if name is None:
        return {}
    variable = connection_variable(name)
    text = environment().get(variable)
    if text is None:
        raise ConfigError(
            f"connection {name}: nothing is known of it; set {variable} to a JSON object, "
            f"or make a Prefect secret block sluice-connection-{name}"
        )
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ConfigError(f"connection {name}: {variable} is not a JSON object of strings")
    return value


@dataclass(frozen=True, slots=True)
class Settings:
    """What the stages take from the environment.

    - `warehouse_url` is a libpq URL (`SLUICE_WAREHOUSE_URL`).
    - `landing_keys` are 32-byte keys by id, the first one encrypts (`SLUICE_LANDING_KEY=id:base64[,id:base64…]`).
    - `landing` is a folder or an `s3://bucket/prefix` (`SLUICE_LANDING`).
    - `batch_records` is how many records one process task takes (`SLUICE_BATCH_RECORDS`, 1,000 to 50,000).
    - `lease_seconds` is how long a worker may be silent before another takes over (`SLUICE_LEASE_SECONDS`).
    """

    warehouse_url: str = field(repr=False)
    landing_keys: Mapping[str, bytes] = field(repr=False)
    landing: str
    batch_records: int
    lease_seconds: float


def settings() -> Settings:
    """Read the environment; raises `ConfigError` with one line per thing that is missing."""
    env = environment()
    problems = []
    if not env.get("SLUICE_WAREHOUSE_URL"):
        problems.append("no Postgres: run `sluice up`, or set SLUICE_WAREHOUSE_URL to a Postgres 14 or later")
    keys: dict[str, bytes] = {}
    try:
        keys = landing_keys(env.get("SLUICE_LANDING_KEY", ""))
    except ConfigError as error:
        problems.extend(error.problems)
    if problems:
        raise ConfigError(problems[0], tuple(problems))
    return Settings(
        warehouse_url=env["SLUICE_WAREHOUSE_URL"],
        landing_keys=keys,
        landing=env.get("SLUICE_LANDING") or str(state_folder() / "landing"),
        batch_records=_number(env, "SLUICE_BATCH_RECORDS", 5_000, 1, 50_000),
        lease_seconds=_number(env, "SLUICE_LEASE_SECONDS", 60, 1, 3600),
    )


def owner_url() -> str:
    """Return the libpq URL of the schema's owner, who migrates and builds tables; flows need it never.

    It is `SLUICE_WAREHOUSE_OWNER_URL`; where one login is both, `SLUICE_WAREHOUSE_URL`. Raises `ConfigError` where
    neither is set.
    """
    return environment().get("SLUICE_WAREHOUSE_OWNER_URL") or settings().warehouse_url


def landing_keys(text: str) -> dict[str, bytes]:
    """Return the landing keys by id; raises `ConfigError` where there is none or one is not 32 bytes in base64."""
    if not text:
        raise ConfigError(
            "no landing key: run `sluice up`, or set SLUICE_LANDING_KEY to id:key with 32 random bytes in base64"
        )
    keys = {}
    for part in text.split(","):
        name, _, encoded = part.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not name or len(key) != 32:
            raise ConfigError("SLUICE_LANDING_KEY: each part is id:key with 32 bytes in base64, separated by commas")
        keys[name] = key
    return keys


def _number(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = env.get(name, str(default))
    if not text.isdigit() or not low <= int(text) <= high:
        raise ConfigError(f"{name}: a whole number from {low} to {high} is needed")
    return int(text)
