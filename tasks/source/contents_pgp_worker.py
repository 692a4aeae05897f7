"""The process behind `contents_pgp`: keys and then the message on stdin, plaintext on stdout, a verdict on stderr.

Imports nothing of Sluice, so that it starts quickly and isolated.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from datetime import UTC, datetime
from typing import Any

os.environ["RUST_BACKTRACE"] = os.environ["RUST_LIB_BACKTRACE"] = "0"

from pysequoia import Cert, Tsk, decrypt_file
from pysequoia.packet import PacketPile


def main() -> str:
    """Decrypt stdin to stdout and return the verdict: `good`, a finding's code, or what is wrong with our keys."""
    # A core dump would hold the key and the plaintext.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    told = json.loads(_exactly(int.from_bytes(_exactly(4), "big")))
    try:
        decryptor = Tsk.from_bytes(bytes.fromhex(told["secret_key"])).decryptor(told["passphrase"])
    except Exception:
        return "our-key"
    try:
        signers = Cert.split_bytes(bytes.fromhex(told["signers"])) if told["signers"] else []
    except Exception:
        return "signers"
    seen: list[list[str]] = []

    def store(wanted: list[str]) -> list[Cert]:
        seen.append(wanted)
        return signers

    try:
        decrypt_file("/dev/stdin", "/dev/stdout", decryptor=decryptor, store=store if signers else None)
    except Exception as error:
        return _verdict(str(error).partition("\n")[0], seen, signers)
    return "good"


def _exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _verdict(text: str, seen: list[list[str]], signers: list[Any]) -> str:
    """Return the code for what Sequoia said; only the beginnings of its sentences are told apart."""
    if text.startswith("Signature verification failed"):
        return _signature(seen[-1] if seen else [], signers)
    if text.startswith("No key to decrypt"):
        return "pgp-wrong-key"
    if text.startswith(
        ("Malformed Message", "unexpected EOF", "Malformed packet", "Unexpected", "Reading ", "Invalid ASCII")
    ):
        return "pgp-malformed"
    return "pgp-tampered"


def _signature(wanted: list[str], signers: list[Any]) -> str:
    if not wanted:
        return "pgp-unsigned"
    known = [cert for cert in signers if any(_names(cert, each) for each in wanted)]
    if not known:
        return "pgp-unknown-signer"
    if any(cert.is_revoked for cert in known):
        return "pgp-revoked-key"
    now = datetime.now(UTC)
    if any(cert.expiration is not None and cert.expiration <= now for cert in known):
        return "pgp-expired-key"
    return "pgp-tampered"


def _names(cert: Any, wanted: str) -> bool:
    """Say whether a fingerprint or key id is that of one of the certificate's keys."""
    ids = (each.fingerprint for each in PacketPile.from_bytes(bytes(cert)))
    return any(known.lower().endswith(wanted.lower()) for known in ids if known)


if __name__ == "__main__":
    sys.stderr.write(json.dumps({"verdict": main()}) + "\n")
