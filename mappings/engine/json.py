"""JSON as FHIR means it: decimals keep their digits, bytes in, bytes out."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(decimal_format="number")
_sorted = msgspec.json.Encoder(decimal_format="number", order="deterministic")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def dumps(value: Any) -> bytes:
    """Return `value` as compact UTF-8 JSON; a `Decimal` is written with the digits it has."""
    return _encoder.encode(value)


def loads(data: bytes | str) -> Any:
    """Return the value of a JSON text; a number with a fraction becomes `Decimal`.

    Raises `ValueError` without any of the text where it is not JSON, or nested some hundred levels deep.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("not a JSON text") from None


def canonical(value: Any) -> bytes:
    """Return `value` as JSON like `dumps`, its keys sorted: equal values give equal bytes."""
    return _sorted.encode(value)


def digest(value: Any) -> bytes:
    """Return the 16-byte hash by which a value counts as unchanged: of its canonical JSON."""
    return digest_of(canonical(value))


def digest_of(text: bytes) -> bytes:
    """Return the same of what is canonical JSON already."""
    return hashlib.blake2b(text, digest_size=16).digest()
