"""One SSH connection to a partner and the SFTP channels on it, lent to one caller each.

The host key is checked against the pinned one before anything is sent that a stranger should not have. Paramiko's
own prefetch and listing are not used: the one keeps what it read until somebody asks and falls back to single
requests when the answers are quick, the other fails at a name that is not UTF-8.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import paramiko
from paramiko.auth_handler import AuthOnlyHandler
from paramiko.sftp import CMD_CLOSE, CMD_DATA, CMD_HANDLE, CMD_NAME, CMD_OPENDIR, CMD_READ, CMD_READDIR, CMD_STATUS
from paramiko.sftp import int64 as _int64

from tasks.errors import ConfigError, Permanent, Transient

TIMEOUT = 60.0
"""Seconds without an answer after which a connection counts as broken."""
CHANNELS = 8
"""Channels at once over one connection; OpenSSH's default allows 10."""
BLOCK = 32768
WINDOW = 128
"""Read requests under way for one file, of BLOCK bytes each."""
_SERVICE_REQUEST = bytes([5])
"""SSH_MSG_SERVICE_REQUEST, RFC 4253 section 10."""
_LOST = (paramiko.SSHException, EOFError, ConnectionError, TimeoutError)
_KINDS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}

# Paramiko's log lines hold the names of files, and its errors come as exceptions anyway.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


class Connection:
    """Lends SFTP clients; connects when first asked, and again after a break.

    Values: `host`, `port`, `user`, `host_key` (one or several lines, for a partner that is about to change it), and
    `key` (PEM), `key_file` (with `passphrase`), `password` or `agent`. Raises `ConfigError` for what is missing.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._host, self._user = values.get("host", ""), values.get("user", "")
        if not self._host or not self._user:
            raise ConfigError("the SFTP connection needs `host` and `user`")
        self._port = _port(values.get("port", "22"))
        self._pinned = _pinned(values.get("host_key", ""), self._host)
        self._password, self._agent = values.get("password"), values.get("agent", "").lower() in ("1", "true", "yes")
        self._key = _key(values)
        if not (self._key or self._password or self._agent):
            raise ConfigError(f"the SFTP connection to {self._host} needs `key`, `key_file`, `password` or `agent`")
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(CHANNELS)
        self._transport: paramiko.Transport | None = None
        self._idle: list[paramiko.SFTPClient] = []

    @contextlib.contextmanager
    def client(self) -> Iterator[paramiko.SFTPClient]:
        """Lend a client to this caller alone.

        `FileNotFoundError` passes; what else goes wrong becomes `Transient`, or `Permanent` for a refusal. A client
        that was left in the middle of something is closed, for there are answers on the way that nobody expects.
        """
        with self._slots:
            client = self._typed_borrow()
            try:
                yield client
            except (FileNotFoundError, FileExistsError):
                self._give_back(client)
                raise
            except PermissionError:
                self._give_back(client)
                raise Permanent(f"{self.where} refuses this to the user: have the partner grant the right") from None
            except (paramiko.SSHException, EOFError, OSError, UnicodeError) as error:
                self._broken(client, error)
                raise self._transient(error) from None
            except BaseException:
                _drop(client)
                raise
            self._give_back(client)

    @property
    def where(self) -> str:
        """The server, as messages name it."""
        return f"sftp://{self._host}:{self._port}"

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            transport, self._transport, self._idle = self._transport, None, []
        if transport is not None:
            transport.close()

    def _typed_borrow(self) -> paramiko.SFTPClient:
        try:
            return self._borrow()
        except paramiko.AuthenticationException:
            self.close()
            raise Permanent(
                f"{self.where} does not accept the user or its key: check `user`, and the key with the partner"
            ) from None
        except paramiko.ssh_exception.IncompatiblePeer:
            self.close()
            raise Permanent(
                f"{self.where} has no algorithm in common with us, or no host key of the pinned type: "
                "compare `host_key` with the partner"
            ) from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            self.close()
            raise self._transient(error) from None

    def _borrow(self) -> paramiko.SFTPClient:
        with self._lock:
            if self._transport is None or not self._transport.is_active():
                self._transport, self._idle = self._connect(), []
            if self._idle:
                return self._idle.pop()
            transport = self._transport
        channel = transport.open_session(timeout=TIMEOUT)
        channel.settimeout(TIMEOUT)
        channel.invoke_subsystem("sftp")
        return paramiko.SFTPClient(channel)

    def _give_back(self, client: paramiko.SFTPClient) -> None:
        with self._lock:
            channel = client.get_channel()
            if channel is not None and channel.get_transport() is self._transport and not channel.closed:
                self._idle.append(client)

    def _broken(self, client: paramiko.SFTPClient, error: BaseException) -> None:
        """Give up the client, and with it the connection where that is what broke: it may not know that yet."""
        channel = client.get_channel()
        lost = isinstance(error, _LOST) or channel is None or channel.closed
        _drop(client)
        with self._lock:
            mine = channel is None or channel.get_transport() is self._transport
            if lost and mine and self._transport is not None:
                self._transport.close()
                self._transport, self._idle = None, []

    def _connect(self) -> paramiko.Transport:
        transport = _Transport(socket.create_connection((self._host, self._port), timeout=TIMEOUT))
        try:
            transport.banner_timeout = transport.auth_timeout = TIMEOUT
            security = transport.get_security_options()
            security.key_types = _algorithms(self._pinned)
            security.ciphers = sorted(security.ciphers, key=lambda name: "gcm" not in name)
            transport.start_client(timeout=TIMEOUT)
            self._recognise(transport.get_remote_server_key())
            self._authenticate(transport)
            transport.set_keepalive(30)
        except BaseException:
            transport.close()
            raise
        return transport

    def _recognise(self, key: paramiko.PKey) -> None:
        if key.asbytes() not in self._pinned:
            print_ = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
            raise Permanent(
                f"{self.where} shows a host key that is not the pinned one (SHA256:{print_}): nothing was sent. "
                "Ask the partner; only if they changed it, set the connection's `host_key` to the new one"
            )

    def _authenticate(self, transport: paramiko.Transport) -> None:
        agent = paramiko.Agent() if self._agent else None
        try:
            for key in [self._key] if self._key else agent.get_keys() if agent else ():
                with contextlib.suppress(paramiko.AuthenticationException):
                    transport.auth_publickey(self._user, key)
                    break
        finally:
            if agent is not None:
                agent.close()
        if not transport.is_authenticated() and self._password is not None:
            with contextlib.suppress(paramiko.AuthenticationException):
                transport.auth_password(self._user, self._password)
        if not transport.is_authenticated():
            # A connection that broke meanwhile says nothing about the key.
            raise paramiko.AuthenticationException if transport.is_active() else paramiko.SSHException

    def _transient(self, error: BaseException) -> Transient:
        return Transient(
            f"{self.where} broke off, did not answer or failed ({type(error).__name__}): it is tried again"
        )


class _Transport(paramiko.ServiceRequestingTransport):  # type: ignore[name-defined, misc]
    """Asks for the authentication service once, as some servers insist on, and notices when the answer cannot come.

    Paramiko's own waits without end if the connection breaks between the question and the answer.
    """

    def ensure_session(self) -> None:
        transport: Any = self
        if not self.is_active():
            raise paramiko.SSHException("no session")
        if transport._service_userauth_accepted:
            return
        question = paramiko.Message()
        question.add_byte(_SERVICE_REQUEST)
        question.add_string("ssh-userauth")
        transport._send_message(question)
        until = time.monotonic() + TIMEOUT
        while not transport._service_userauth_accepted:
            if not self.is_active() or time.monotonic() > until:
                raise paramiko.SSHException("no answer to the service request")
            time.sleep(0.005)
        self.auth_handler = self.get_auth_handler()

    def get_auth_handler(self) -> Any:
        """Return the handler that cannot miss an answer."""
        return _AuthHandler(self)


class _AuthHandler(AuthOnlyHandler):
    """Waits on one event from before the request is sent.

    Paramiko's own makes the event after sending: an answer that is quicker than that is missed, and a login that has
    long succeeded waits for its whole time-out.
    """

    def __init__(self, transport: Any) -> None:
        self._answered = threading.Event()
        super().__init__(transport)

    @property
    def auth_event(self) -> threading.Event:
        """The event that an answer sets; always the same one."""
        return self._answered

    @auth_event.setter
    def auth_event(self, event: object) -> None:
        """Keep the event: the one that is there may have been set already."""

    def send_auth_request(self, *arguments: Any, **named: Any) -> Any:
        """Send a request and wait for its answer."""
        self._answered.clear()
        return super().send_auth_request(*arguments, **named)


class Inbox:
    """Collects the answers to requests that are under way on one client, in whatever order they come."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._answers: dict[int, tuple[int, Any]] = {}

    def ask(self, command: int, *arguments: Any) -> int:
        """Send a request and return its number."""
        number: int = self._client._async_request(self, command, *arguments)
        return number

    def take(self, number: int, expected: int) -> Any:
        """Wait for an answer of the kind `expected`; raises what a status says: `EOFError` at an end, `OSError`."""
        while number not in self._answers:
            self._client._read_response()
        kind, message = self._answers.pop(number)
        if kind == CMD_STATUS:
            self._client._convert_status(message)
        if kind != expected:
            raise paramiko.SSHException("an answer of another kind")
        return message

    def _async_response(self, kind: int, message: Any, number: int) -> None:
        self._answers[number] = (kind, message)


def scan(client: Any, path: bytes) -> Iterator[tuple[bytes, paramiko.SFTPAttributes]]:
    """Yield names and attributes of a folder, in constant memory."""
    inbox = Inbox(client)
    handle = inbox.take(inbox.ask(CMD_OPENDIR, path), CMD_HANDLE).get_string()
    asked = deque(inbox.ask(CMD_READDIR, handle) for _ in range(8))
    ended = False
    while asked:
        try:
            message = inbox.take(asked.popleft(), CMD_NAME)
        except EOFError:
            ended = True
            continue
        yield from _names(message)
        if not ended:
            asked.append(inbox.ask(CMD_READDIR, handle))
    with contextlib.suppress(OSError):
        inbox.take(inbox.ask(CMD_CLOSE, handle), CMD_STATUS)


def download(client: paramiko.SFTPClient, handle: paramiko.SFTPFile, offset: int, size: int) -> Iterator[bytes]:
    """Yield the bytes of an open file from `offset` to `size` with WINDOW requests under way; less where it ends."""
    inbox = Inbox(client)
    asked: deque[tuple[int, int, int]] = deque()
    while asked or offset < size:
        while offset < size and len(asked) < WINDOW:
            length = min(BLOCK, size - offset)
            asked.append((inbox.ask(CMD_READ, handle.handle, _int64(offset), length), offset, length))
            offset += length
        number, at, length = asked.popleft()
        try:
            data = inbox.take(number, CMD_DATA).get_string()
            while len(data) < length:
                rest = inbox.ask(CMD_READ, handle.handle, _int64(at + len(data)), length - len(data))
                data += inbox.take(rest, CMD_DATA).get_string()
        except EOFError:
            return
        yield data


def is_file(attributes: paramiko.SFTPAttributes) -> bool:
    """Say whether the attributes, which are the name's own and not its target's, are a regular file's."""
    return attributes.st_mode is not None and stat.S_ISREG(attributes.st_mode)


def _names(message: Any) -> Iterator[tuple[bytes, paramiko.SFTPAttributes]]:
    for _ in range(message.get_int()):
        name = message.get_string()
        message.get_string()
        attributes = paramiko.SFTPAttributes._from_msg(message)  # type: ignore[attr-defined]
        if name not in (b".", b".."):
            yield name, attributes


def _drop(client: paramiko.SFTPClient) -> None:
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        client.close()


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ConfigError("the SFTP connection's `port` is no port number")
    return int(text)


def _pinned(text: str, host: str) -> dict[bytes, str]:
    """Return the pinned keys, blob -> type; the forms of known_hosts and ssh-keyscan are understood."""
    pinned: dict[bytes, str] = {}
    for line in text.replace("\\n", "\n").splitlines():
        words = line.split()
        for kind, blob in pairwise(words):
            if kind.startswith(("ssh-", "ecdsa-sha2-")):
                with contextlib.suppress(ValueError):
                    pinned[base64.b64decode(blob, validate=True)] = kind
    if not pinned:
        raise ConfigError(
            f"the SFTP connection to {host} pins no host key, and an unknown one is not trusted: "
            f"run `ssh-keyscan -t ed25519 {host}`, compare with the partner, and set `host_key` to `ssh-ed25519 AAAA…`"
        )
    return pinned


def _algorithms(pinned: Mapping[bytes, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for kind in pinned.values() for name in _KINDS.get(kind, (kind,))))


def _key(values: Mapping[str, str]) -> paramiko.PKey | None:
    text = values.get("key", "")
    if not text and values.get("key_file"):
        try:
            text = Path(values["key_file"]).expanduser().read_text()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(
                "the SFTP connection's `key_file` cannot be read: check the path and its rights"
            ) from None
    return _read_key(text, values.get("passphrase")) if text else None


def _read_key(text: str, passphrase: str | None) -> paramiko.PKey:
    text = text.replace("\\n", "\n").strip() + "\n"
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text), passphrase)
        except paramiko.PasswordRequiredException:
            raise ConfigError("the SFTP connection's key is protected: set `passphrase`") from None
        except (paramiko.SSHException, ValueError, IndexError, TypeError):
            continue
    raise ConfigError("the SFTP connection's key is no private key in PEM or OpenSSH form, or `passphrase` is wrong")
