"""The embedded stack: everything that the product needs, on 127.0.0.1, from Python packages alone.

State lies in one folder (`.sluice`): what runs (`stack.json`), what others must know of it (`environment.json`,
readable by its owner alone), logs, and each service's own files.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from infra.dev import postgres
from infra.dev.process import Running, free_port, free_ports, listens, spawn, stop, wait_until
from infra.migrations import upgrade
from tasks.errors import ConfigError
from tasks.ledger.db import connect
from tasks.publish.tables import apply
from tasks.settings import PROJECT, state_folder

PORTS = {"postgres": 15432, "sftp": 12022, "s3": 15000, "fhir-ehr": 18080, "fhir-county": 18081, "prefect": 14200}
LOADER = "sluice_runtime"
"""The login of flows, listeners and commands."""

RUNS_AT_ONCE = 6
"""What the worker starts at once: when the server was away, what it missed is due at one moment when it is back."""

PARTNERS_ON_SFTP = ("northside",)
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
}
"""Nobody is told that this runs: a hospital's firewall would ask."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the stack: how it is started on a port, and how it shows that it answers."""

    name: str
    command: Callable[[int], list[str]]
    answers: Callable[[int], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    env_at: Callable[[int], Mapping[str, str]] = lambda _port: {}
    port: int = 0
    user: str | None = None
    end: signal.Signals = signal.SIGTERM
    show: Callable[[int], str] = str


class Stack:
    """Starts, ends and describes the services of one state folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or state_folder()
        self.running: dict[str, Running] = {}
        self.secrets: dict[str, str] = {}

    def up(self, tell: Callable[[str], None]) -> None:
        """Start what does not run yet; a second call changes nothing. Raises `ConfigError` where something fails."""
        with self._locked():
            self._load()
            # before anything is made: a cluster takes its time
            for name in PORTS:
                _wanted_port(name)
            if not self._known("postgres"):
                postgres.prepare(self.folder / "postgres", self._secret("postgres"))
            self._start(self._postgres(), tell)
            self._databases()
            services = self._services()
            for service in services:
                self._start(service, tell, wait=False)
            for service in services:
                self._await(service)
            self._write_environment()
            self._start(self._worker(), tell)

    def down(self, tell: Callable[[str], None]) -> None:
        """End every service, the last one first; nothing of them is left but their files."""
        with self._locked():
            self._load()
            for name in reversed(list(self.running)):
                tell(f"{name}: ending")
                first = signal.SIGINT if name == "postgres" else signal.SIGTERM
                stop(self.running.pop(name), first)
                self._save()
            (self.folder / "environment.json").unlink(missing_ok=True)

    def status(self) -> list[dict[str, Any]]:
        """Return name, address and whether it answers, of every service; nothing where the stack never ran."""
        self._load()
        if "postgres" not in self.running:
            raise ConfigError("the embedded stack does not run; start it with `sluice up`")
        everything = [self._postgres(), *self._services(), self._worker()]
        return [self._describe(service) for service in everything]

    def _describe(self, service: Service) -> dict[str, Any]:
        running = self.running.get(service.name)
        alive = running is not None and running.process() is not None
        port = running.port if running else 0
        answers = alive and service.answers(port)
        return {
            "service": service.name,
            "address": service.show(port) if alive else "",
            "pid": running.pid if running and alive else None,
            "answers": answers,
        }

    def _start(self, service: Service, tell: Callable[[str], None], *, wait: bool = True) -> None:
        known = self.running.get(service.name)
        if known is None or known.process() is None:
            wanted = _wanted_port(service.name) if service.port else 0
            before = known.port if known else wanted
            port = free_port(before) if service.port else 0
            log = self.folder / "logs" / f"{service.name}.log"
            env = {**os.environ, **QUIET, **service.env, **service.env_at(port)}
            self.running[service.name] = spawn(service.command(port), port, env, log, service.user)
            self._save()
            moved = f" (port {wanted} is taken)" if service.port and port != wanted else ""
            tell(f"{service.name}: starting{f' on 127.0.0.1:{port}' if port else ''}{moved}")
        if wait:
            self._await(service)

    def _await(self, service: Service) -> None:
        running = self.running[service.name]
        if not wait_until(lambda: service.answers(running.port), running, 120):
            log = self.folder / "logs" / f"{service.name}.log"
            raise ConfigError(f"{service.name} does not answer; see {log}, then `sluice down` and `sluice up`")

    # -- what there is ------------------------------------------------------------------------------------------

    def _postgres(self) -> Service:
        data = self.folder / "postgres"
        return Service(
            "postgres",
            lambda port: postgres.command(data, port),
            lambda port: postgres.answers(postgres.url(port, self._secret("postgres"), "postgres")),
            port=PORTS["postgres"],
            user=postgres.system_user(),
            end=signal.SIGINT,
            show=lambda port: f"psql {postgres.url(port, self._secret('postgres'), 'sluice')}",
        )

    def _databases(self) -> None:
        for name in ("sluice", "fhir"):
            postgres.ensure_database(self.database("postgres"), name)
        upgrade(self._owner())
        with connect(self._owner()) as connection:
            apply(connection)
        if "SLUICE_WAREHOUSE_URL" not in os.environ:
            postgres.ensure_login(self._owner(), LOADER, self._secret("loader"), "sluice_loader")

    def _services(self) -> list[Service]:
        sftp = [*_module("infra.dev.sftp"), "--state", str(self.folder / "sftp")]
        partners = [part for name in PARTNERS_ON_SFTP for part in ("--partner", name)]
        fhir = {"SLUICE_DEV_FHIR_DATABASE": self.database("fhir")}
        prefect = {"PREFECT_HOME": str(self.folder / "prefect")}
        return [
            Service(
                "sftp",
                lambda port: [*sftp, *partners, "--port", str(port)],
                listens,
                port=PORTS["sftp"],
                show=lambda port: f"sftp://127.0.0.1:{port}",
            ),
            Service(
                "s3",
                # it keeps nothing when it ends: a feed that polls after the next `up` must find its bucket
                lambda port: [*_module("infra.dev.s3"), "--port", str(port), "--bucket", "eastlab"],
                listens,
                port=PORTS["s3"],
                show=_http,
            ),
            self._fhir("fhir-ehr", "ehr", fhir),
            self._fhir("fhir-county", "county", fhir),
            Service(
                "prefect",
                lambda port: [*_module("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)],
                lambda port: _get(f"http://127.0.0.1:{port}/api/health"),
                env=prefect,
                # the pages ask this address, which would be Prefect's usual port otherwise
                env_at=lambda port: {"PREFECT_UI_API_URL": f"{_http(port)}/api"},
                port=PORTS["prefect"],
                show=_http,
            ),
        ]

    def _fhir(self, name: str, schema: str, env: Mapping[str, str]) -> Service:
        def command(port: int) -> list[str]:
            where = ["--database-url-env", "SLUICE_DEV_FHIR_DATABASE", "--schema", schema]
            return [*_module("infra.dev.fhir"), *where, "--port", str(port)]

        def answers(port: int) -> bool:
            return _get(f"http://127.0.0.1:{port}/metadata")

        return Service(name, command, answers, env=env, port=PORTS[name], show=_http)

    def _worker(self) -> Service:
        def command(_port: int) -> list[str]:
            return [
                *_module("prefect"),
                "worker",
                "start",
                "--pool",
                "sluice",
                "--type",
                "process",
                "--name",
                "embedded",
                "--limit",
                str(RUNS_AT_ONCE),
            ]

        env = {**self._environment(), "PREFECT_WORKER_QUERY_SECONDS": "2"} if "prefect" in self.running else {}
        return Service("worker", command, lambda _port: True, env=env, show=lambda _port: "work pool sluice")

    # -- what others must know ----------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        port = {name: running.port for name, running in self.running.items()}
        key = self.folder / "sftp" / "clients"
        connections: dict[str, dict[str, str]] = {
            "eastlab": {
                "endpoint_url": f"http://127.0.0.1:{port['s3']}",
                "region": "us-east-1",
                "bucket": "eastlab",
                "access_key": "embedded",
                "secret_key": "embedded",
            },
            "county": {"base_url": f"http://127.0.0.1:{port['fhir-county']}"},
            "ehr": {"base_url": f"http://127.0.0.1:{port['fhir-ehr']}"},
        }
        for name in PARTNERS_ON_SFTP:
            connections[name] = {
                "host": "127.0.0.1",
                "port": str(port["sftp"]),
                "user": name,
                "key": (key / name).read_text(),
                "host_key": (self.folder / "sftp" / "host_key.pub").read_text().strip(),
            }
        return {
            **QUIET,
            "SLUICE_WAREHOUSE_URL": self._warehouse(),
            "SLUICE_WAREHOUSE_OWNER_URL": self._owner(),
            "SLUICE_LANDING_KEY": f"embedded:{self._secret('landing')}",
            "PREFECT_API_URL": f"http://127.0.0.1:{port['prefect']}/api",
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_LOGGING_SETTINGS_PATH": str(PROJECT / "deployments" / "logging.yml"),
            **{f"SLUICE_CONNECTION_{name.upper()}": json.dumps(value) for name, value in connections.items()},
        }

    def _write_environment(self) -> None:
        _write(self.folder / "environment.json", self._environment())

    def _owner(self) -> str:
        named = os.environ.get("SLUICE_WAREHOUSE_OWNER_URL") or os.environ.get("SLUICE_WAREHOUSE_URL")
        return named or self.database("sluice")

    def _warehouse(self) -> str:
        """Return the URL by which flows connect: they load, they do not own."""
        named = os.environ.get("SLUICE_WAREHOUSE_URL")
        return named or postgres.url(self.running["postgres"].port, self._secret("loader"), "sluice", LOADER)

    def database(self, name: str) -> str:
        """Return the URL of a database of the embedded Postgres."""
        if "postgres" not in self.running:
            self._load()
        return postgres.url(self.running["postgres"].port, self._secret("postgres"), name)

    def _secret(self, name: str) -> str:
        if name not in self.secrets:
            made = (
                base64.b64encode(secrets.token_bytes(32)).decode() if name == "landing" else secrets.token_urlsafe(24)
            )
            self.secrets[name] = made
            _write(self.folder / "secrets.json", self.secrets)
        return self.secrets[name]

    # -- what is kept between commands --------------------------------------------------------------------------

    def _known(self, name: str) -> bool:
        running = self.running.get(name)
        return running is not None and running.process() is not None

    def _load(self) -> None:
        kept = self.folder / "secrets.json"
        self.secrets = json.loads(kept.read_text()) if kept.is_file() else {}
        path = self.folder / "stack.json"
        said: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        self.running = {name: Running(**value) for name, value in said.items()}

    def _save(self) -> None:
        _write(self.folder / "stack.json", {name: one.json() for name, one in self.running.items()})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder}: it cannot be written (errno {error.errno}); set SLUICE_HOME") from None
        try:
            with FileLock(self.folder / "stack.lock", timeout=180):
                yield
        except Timeout:
            raise ConfigError("another `sluice up` or `down` is at work in this folder; wait for it") from None


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def apart() -> dict[str, str]:
    """Return the variables that give a stack ports of its own, which no other stack on this machine looks for."""
    return {_variable(name): str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}


def _variable(service: str) -> str:
    return "SLUICE_PORT_" + service.upper().replace("-", "_")


def _wanted_port(service: str) -> int:
    text = os.environ.get(_variable(service), str(PORTS[service]))
    if not text.isdigit() or not int(text) <= 65535:
        raise ConfigError(f"{_variable(service)}: a port's number, at most 65535, is needed")
    return int(text)


def _http(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _get(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _write(path: Path, value: Mapping[str, Any]) -> None:
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file, indent=1)
    part.replace(path)
