"""Seals files with OpenPGP (RFC 9580) for those who may read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tasks.errors import ConfigError


def sealer(values: Mapping[str, str]) -> Callable[[bytes], bytes]:
    """Return what encrypts a file for the connection's `recipients` and signs it with its `secret_key`, if any.

    Raises `ConfigError` where the keys are none, or none of a recipient's can encrypt.
    """
    from pysequoia import Cert, Tsk, encrypt

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

    def seal(data: bytes) -> bytes:
        return bytes(encrypt(data, recipients=certificates, signer=signer, armor=False))

    try:
        seal(b"")
    except Exception:
        raise ConfigError("the encryption's `recipients` cannot be encrypted for: expired, revoked or no key") from None
    return seal


def _bytes(text: str) -> bytes:
    return text.replace("\\n", "\n").encode()
