"""Seals files with OpenPGP (RFC 9580) for those who may read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import IO

from tasks.errors import ConfigError


def sealer(values: Mapping[str, str]) -> Callable[[IO[bytes], IO[bytes]], None]:
    """Return what encrypts a file into another, both open, for the connection's `recipients`.

    It is signed with the connection's `secret_key`, if there is one.
    Raises `ConfigError` where the keys are none, or none of a recipient's can encrypt.
    """
    from pysequoia import Cert, Tsk, encrypt, encrypt_file

    if not values.get("recipients"):
        raise ConfigError("the encryption's `recipients` are not set: set them to armored OpenPGP certificates")
    try:
        certificates = Cert.split_bytes(_bytes(values["recipients"]))
    except Exception:
        raise ConfigError("the encryption's `recipients` are no OpenPGP certificates") from None
    signer = None
    if values.get("secret_key"):
        try:
            signer = Tsk.from_bytes(_bytes(values["secret_key"])).signer(values.get("passphrase"))
        except Exception:
            raise ConfigError("the encryption's `secret_key` is no OpenPGP key that can sign") from None

    def seal(plain: IO[bytes], sealed: IO[bytes]) -> None:
        plain.flush()
        # the library opens paths: a file without a name has one while it is open
        here, there = (f"/dev/fd/{file.fileno()}" for file in (plain, sealed))
        encrypt_file(here, there, recipients=certificates, signer=signer, armor=False)

    try:
        encrypt(b"", recipients=certificates, signer=signer, armor=False)
    except Exception:
        raise ConfigError("the encryption's `recipients` cannot be encrypted for: expired, revoked or no key") from None
    return seal


def _bytes(text: str) -> bytes:
    return text.replace("\\n", "\n").encode()
