"""How a client proves who it is: the auth file of `sluice export` and the values of a connection.

An auth file is a JSON object with a `type` and that type's keys; every type may also say which CA bundle is trusted
and which client certificate is shown (mutual TLS). Source: SMART App Launch 2.2, Backend Services.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_validator, model_validator

from mappings.engine.yamlfile import nearest
from tasks.errors import ConfigError


class _Options(BaseModel):
    """What every type may say of TLS; paths are of PEM files."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    ca_bundle: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None

    @model_validator(mode="after")
    def _key_needs_certificate(self) -> _Options:
        if self.client_key and not self.client_certificate:
            raise ValueError("client_key is given without client_certificate")
        return self


class NoAuth(_Options):
    """Nothing is proved."""

    type: Literal["none"] = "none"


class Bearer(_Options):
    """A token that somebody else obtained; it cannot be renewed."""

    type: Literal["bearer"] = "bearer"
    token: SecretStr


class Basic(_Options):
    """A name and a password with every request."""

    type: Literal["basic"] = "basic"
    username: str
    password: SecretStr


class _TokenOptions(_Options):
    """What both grants say; without `token_url` the server's `.well-known/smart-configuration` is asked."""

    client_id: str
    token_url: str | None = None
    scope: str = ""

    @field_validator("token_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("is not an http(s) URL")
        return value


class ClientCredentials(_TokenOptions):
    """A token for a client's id and secret (RFC 6749, 4.4)."""

    type: Literal["client-credentials"] = "client-credentials"
    client_secret: SecretStr


class SmartBackend(_TokenOptions):
    """A token for an assertion that the client's private key signs.

    - `private_key_jwk` is the key itself (an object, or its JSON text) with `kid` and `alg`, or a set of keys.
    - `private_key_file` is a file that holds the same.
    - `jwks_url` is where the public keys stand, said in the assertion's header (`jku`).
    """

    type: Literal["smart-backend"] = "smart-backend"
    private_key_jwk: dict[str, Any] | str | None = None
    private_key_file: Path | None = None
    jwks_url: str | None = None

    @model_validator(mode="after")
    def _one_key(self) -> SmartBackend:
        if (self.private_key_jwk is None) == (self.private_key_file is None):
            raise ValueError("exactly one of private_key_jwk and private_key_file is needed")
        return self


Auth = NoAuth | Bearer | Basic | ClientCredentials | SmartBackend
TYPES: dict[str, type[NoAuth | Bearer | Basic | ClientCredentials | SmartBackend]] = {
    "none": NoAuth,
    "bearer": Bearer,
    "basic": Basic,
    "client-credentials": ClientCredentials,
    "smart-backend": SmartBackend,
}
_TELLING = {
    "token": "bearer",
    "password": "basic",
    "client_secret": "client-credentials",
    "private_key_jwk": "smart-backend",
    "private_key_file": "smart-backend",
}


def read_auth(path: Path) -> Auth:
    """Return what the auth file at `path` says; raises `ConfigError` that names the key and the nearest valid word."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: the auth file cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: the auth file is not JSON") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the auth file is not UTF-8") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: the auth file is not a JSON object")
    return parse_auth(values, str(path))


def connection_auth(connection: Mapping[str, str], where: str = "connection") -> Auth:
    """Return the auth among a connection's values: `auth_file`, or the keys of an auth file; none where there are none.

    `type` may be left out: the keys tell it. Other values of the connection (`base_url`) are not looked at.
    """
    if connection.get("auth_file"):
        return read_auth(Path(connection["auth_file"]))
    kind = connection.get("type") or next((kind for key, kind in _TELLING.items() if connection.get(key)), "none")
    known = {name for model in TYPES.values() for name in model.model_fields}
    return parse_auth({"type": kind} | {k: v for k, v in connection.items() if k in known and k != "type"}, where)


def parse_auth(values: Mapping[str, Any], where: str) -> Auth:
    """Return the auth that `values` describe; raises `ConfigError`, in which `where` names the file."""
    kind = values.get("type")
    if kind is None:
        raise ConfigError(f"{where}: type is missing: one of {', '.join(TYPES)}")
    model = TYPES.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise ConfigError(f"{where}: this type is not known{nearest(str(kind), TYPES)}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{where}: not an auth of type {kind}", problem_lines(error, model, where)) from None


def problem_lines(error: ValidationError, model: type[BaseModel], where: str) -> tuple[str, ...]:
    """Return one line per mistake: where it is, the key, what is wrong; unknown keys with the nearest valid word."""
    return tuple(f"{where}: {_problem(dict(detail), model)}" for detail in error.errors(include_input=False))


def _problem(detail: dict[str, Any], model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key}{nearest(key, model.model_fields)}"
    if detail["type"] == "missing":
        return f"{key} is missing"
    text = str(detail["msg"]).removeprefix("Value error, ")
    return f"{key} {text[0].lower()}{text[1:]}" if key else text
