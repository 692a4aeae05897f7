"""OpenPGP (RFC 9580): decrypts what was sent to us, and verifies who signed it.

Sequoia runs in a process of its own: it takes and gives through pipes, so that no plaintext is ever in a file, and
a message from a stranger is parsed where a crash or a runaway of memory harms nobody else.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tasks.errors import ConfigError, Transient
from tasks.source.contents_limits import bad

CHUNK = 1 << 18
_WORKER = Path(__file__).with_name("contents_pgp_worker.py")


@dataclass(frozen=True, slots=True)
class PgpKeys:
    """Our secret key and the certificates of those who may sign, armored or binary; `decrypt` is what `unwrap` takes.

    Without `signers` nothing is verified. Memory is taken, in the other process, for the encrypted message whole.
    """

    secret_key: bytes = field(repr=False)
    passphrase: str | None = field(default=None, repr=False)
    signers: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, values: Mapping[str, str]) -> PgpKeys:
        """Return the keys of a connection's values `secret_key`, `passphrase` and `signers` (armored texts)."""
        if not values.get("secret_key"):
            raise ConfigError("the decryption's `secret_key` is not set: set it to our armored OpenPGP key")
        text = values["secret_key"].replace("\\n", "\n")
        return cls(text.encode(), values.get("passphrase"), values.get("signers", "").replace("\\n", "\n").encode())

    def decrypt(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the plaintext; only after its last byte has come without an error is it known to be the signer's.

        Raises `BadRecord` with `pgp-wrong-key`, `pgp-expired-key`, `pgp-revoked-key`, `pgp-unsigned`,
        `pgp-unknown-signer`, `pgp-tampered` or `pgp-malformed`; `ConfigError` where our own key cannot be used.
        """
        worker = subprocess.Popen(
            [sys.executable, "-I", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        feeder = _Feeder(worker, self._header(), chunks)
        try:
            yield from iter(lambda: _pipe(worker.stdout).read(CHUNK), b"")
            verdict = _pipe(worker.stderr).read()
            worker.wait()
            feeder.join()
        finally:
            worker.kill()
            worker.wait()
            feeder.join()
            for pipe in (worker.stdin, worker.stdout, worker.stderr):
                _quietly_closed(pipe)
        feeder.raise_again()
        _judge(verdict, worker.returncode)

    def _header(self) -> bytes:
        told = {"secret_key": self.secret_key.hex(), "passphrase": self.passphrase, "signers": self.signers.hex()}
        data = json.dumps(told).encode()
        return len(data).to_bytes(4, "big") + data


class _Feeder:
    """Writes the message to the worker while its plaintext is being read."""

    def __init__(self, worker: subprocess.Popen[bytes], header: bytes, chunks: Iterable[bytes]) -> None:
        self._pipe, self._header, self._chunks = _pipe(worker.stdin), header, chunks
        self._worker = worker
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pgp-feeder", daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def raise_again(self) -> None:
        """Raise what reading the message raised."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._pipe.write(self._header)
            for chunk in self._chunks:
                self._pipe.write(chunk)
        except BrokenPipeError:
            # The worker has ended, and says why.
            pass
        except BaseException as failure:
            self._failure = failure
            self._worker.kill()
        _quietly_closed(self._pipe)


def _judge(verdict: bytes, code: int) -> None:
    try:
        told = json.loads(verdict.decode().splitlines()[-1])
    except (ValueError, IndexError):
        raise Transient(f"the process that decrypts ended without a verdict (exit {code}): it is tried again") from None
    if told["verdict"] == "our-key":
        raise ConfigError(
            "our OpenPGP key cannot decrypt: it has expired, lacks an encryption key, or `passphrase` is wrong"
        )
    if told["verdict"] == "signers":
        raise ConfigError("the decryption's `signers` are no OpenPGP certificates")
    if told["verdict"] != "good":
        raise bad(told["verdict"], "pgp")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the worker was started without pipes")
    return pipe


def _quietly_closed(pipe: IO[bytes] | None) -> None:
    with contextlib.suppress(OSError):
        _pipe(pipe).close()
