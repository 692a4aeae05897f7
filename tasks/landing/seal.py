"""The seal that landing's files share: a header line that wraps the file's own key, and AES-256-GCM under it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tasks.errors import ConfigError, Permanent

TAG = 16
WRAPPED = 12 + 32 + TAG
"""Bytes of a wrapped key: its nonce, the key, the tag."""
MIDDLE, LAST, APPENDED = b"\x00", b"\x01", b"\x02"
"""The last byte of a nonce: what kind of piece it seals."""

_WRAPPED = b"sluice object key"


@dataclass(frozen=True, slots=True)
class Seal:
    """A file's header, which every piece has as associated data, what it says, and the key."""

    header: bytes
    said: Mapping[str, Any]
    box: AESGCM

    def close(self, number: int, kind: bytes, plain: bytes) -> bytes:
        """Return `plain` sealed; a number and kind may be used once in a file."""
        return self.box.encrypt(_nonce(number, kind), plain, self.header)

    def open(self, number: int, kind: bytes, sealed: bytes) -> bytes:
        """Return what was sealed; raises `InvalidTag` where it is not this piece of this file."""
        return self.box.decrypt(_nonce(number, kind), sealed, self.header)


def new_seal(key_id: str, wrapper: bytes, **says: Any) -> Seal:
    """Return the seal of a new file, its own key wrapped by the key `wrapper` with the id `key_id`."""
    key, nonce = AESGCM.generate_key(256), os.urandom(12)
    wrapped = nonce + AESGCM(wrapper).encrypt(nonce, key, _WRAPPED)
    said = {"sluice": 1, "key": key_id, "wrapped": base64.b64encode(wrapped).decode(), **says}
    return Seal(json.dumps(said).encode() + b"\n", said, AESGCM(key))


def read_seal(file: BinaryIO, name: str, keys: Mapping[str, bytes]) -> Seal:
    """Read the header of an open file; raises `Permanent` where it is damaged, `ConfigError` where its key is gone."""
    header = file.readline(4096)
    try:
        said: dict[str, Any] = json.loads(header)
        wrapper = keys.get(said["key"])
        wrapped = base64.b64decode(said["wrapped"])
        readable = len(wrapped) == WRAPPED
    except (ValueError, KeyError, TypeError):
        readable = False
    if not readable:
        raise Permanent(f"landing: object {name[:24]}… has no readable header; restore it") from None
    if wrapper is None:
        raise ConfigError(f"landing: key {said['key']} wrapped an older delivery; add it to SLUICE_LANDING_KEY")
    try:
        key = AESGCM(wrapper).decrypt(wrapped[:12], wrapped[12:], _WRAPPED)
    except InvalidTag:
        raise ConfigError(f"landing: key {said['key']} is not the one that wrapped this object") from None
    return Seal(header, said, AESGCM(key))


def damaged(name: str, place: str) -> Permanent:
    """Return the error of a piece that is not what was sealed."""
    return Permanent(f"landing: object {name[:24]}… is damaged at {place}; restore it")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _nonce(number: int, kind: bytes) -> bytes:
    return number.to_bytes(11, "big") + kind
