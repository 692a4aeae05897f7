"""TLS of listeners: a server's context from a connection's values, and which feed a client's certificate is."""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError


def server_context(values: Mapping[str, str], where: str, *, mutual: bool) -> ssl.SSLContext:
    """Return a context of TLS 1.2 or later from `certificate`, `key` and, for mutual TLS, `client_ca`.

    Each is PEM or a path to it. Raises `ConfigError` that names what is missing or cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name in ("certificate", "key", *(["client_ca"] if mutual else [])):
        if not values.get(name):
            raise ConfigError(f"{where}: TLS needs `{name}` (PEM, or a path to it) among the connection's values")
    try:
        load_chain(context, pem(values["certificate"]), pem(values["key"]))
        if mutual:
            context.load_verify_locations(cadata=pem(values["client_ca"]))
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError):
        raise ConfigError(f"{where}: certificate, key or client_ca cannot be read or do not fit together") from None
    return context


def names(certificate: Mapping[str, Any] | None, der: bytes | None) -> set[str]:
    """Return the names by which a feed file may know a client: CNs, DNS names, `sha256:` fingerprint."""
    if not certificate or not der:
        return set()
    common = {value for rdn in certificate.get("subject", ()) for key, value in rdn if key == "commonName"}
    dns = {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}
    return common | dns | {"sha256:" + hashlib.sha256(der).hexdigest()}


def wanted(said: Iterable[str]) -> set[str]:
    """Return the names of a feed file in the form of `names`."""
    return {
        "sha256:" + name[7:].replace(":", "").lower() if name.lower().startswith("sha256:") else name for name in said
    }


def pem(value: str) -> str:
    return value if "-----BEGIN" in value else Path(value).read_text()


def load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """The ssl module reads keys from files alone: one that only the owner can read, gone at once."""
    handle, name = tempfile.mkstemp(prefix="sluice-", suffix=".pem")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(key.rstrip() + "\n" + certificate)
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()
