"""The embedded SFTP server, for development and tests: real SSH, one chrooted home per partner, keys only.

State folder: `host_key` and `host_key.pub` (pin the latter), `homes/<partner>/`, `authorized/<partner>` (their public
keys, one a line), `clients/<partner>` (a private key made for a partner of the demonstration).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh

from infra.dev._stop import server_stop


class SftpServer:
    """Serves the homes of a state folder on 127.0.0.1, in a thread of its own.

    `port` 0 takes a free one; after `start` the attributes `port` and `host_key` (`ssh-ed25519 AAAA…`) hold.
    """

    def __init__(self, state: Path | str, port: int = 0) -> None:
        self.state = Path(state)
        self.port = port
        key = _key(self.state / "host_key")
        self.host_key = key.export_public_key().decode().strip()
        self._key = key
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="sftp-server", daemon=True)
        self._server: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()

    def partner(self, name: str, public_key: str | None = None) -> Path:
        """Make a partner's home, allow `public_key` (or a key that is made for the partner) and return the home."""
        home = self.state / "homes" / name
        home.mkdir(parents=True, exist_ok=True)
        allowed = self.state / "authorized" / name
        allowed.parent.mkdir(parents=True, exist_ok=True)
        if public_key is None:
            public_key = _key(self.state / "clients" / name).export_public_key().decode()
        lines = allowed.read_text().splitlines() if allowed.exists() else []
        if public_key.strip() not in lines:
            allowed.write_text("\n".join([*lines, public_key.strip(), ""]))
        return home

    def connection(self, name: str) -> dict[str, str]:
        """Return the connection values with which a feed reaches this partner's home."""
        key = (self.state / "clients" / name).read_text()
        return {"host": "127.0.0.1", "port": str(self.port), "user": name, "key": key, "host_key": self.host_key}

    def start(self) -> SftpServer:
        """Listen; raises `OSError` where the port is taken."""
        self._thread.start()
        self._call(self._listen())
        return self

    def stop(self) -> None:
        """Give up the port and every connection."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break every connection, as a network does."""
        self._call(self._abort())

    def __enter__(self) -> SftpServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _listen(self) -> None:
        self._server = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=lambda: _Door(self.state, self._connections),
            server_host_keys=[self._key],
            sftp_factory=_homes(self.state),
            allow_scp=False,
            agent_forwarding=False,
            line_editor=False,
            compression_algs=None,
        )
        self.port = self._server.get_port()

    async def _close(self) -> None:
        await self._abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _abort(self) -> None:
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)


class _Door(asyncssh.SSHServer):
    """Lets in partners that have a home and one of its keys; passwords are not offered."""

    def __init__(self, state: Path, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._state, self._connections = state, connections
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        allowed = self._state / "authorized" / username
        if self._connection is not None and username == Path(username).name and allowed.is_file():
            self._connection.set_authorized_keys(str(allowed))
        return True

    def password_auth_supported(self) -> bool:
        return False


def _homes(state: Path) -> Callable[[asyncssh.SSHServerChannel[bytes]], asyncssh.SFTPServer]:
    def home(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        user = channel.get_connection().get_extra_info("username")
        return _Home(channel, chroot=os.fsencode(state / "homes" / user))

    return home


class _Home(asyncssh.SFTPServer):
    """A chroot that holds for links too: asyncssh's own follows those that were there before."""

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        self._inside(path)
        return super().open(path, pflags, attrs)

    def stat(self, path: bytes) -> Any:
        self._inside(path)
        return super().stat(path)

    def _inside(self, path: bytes) -> None:
        root = self.map_path(b"/").rstrip(b"/")
        real = os.path.realpath(self.map_path(path))
        if real != root and not real.startswith(root + b"/"):
            raise asyncssh.SFTPNoSuchFile("No such file")


def _key(path: Path) -> asyncssh.SSHKey:
    """Return the key kept at `path`, made at first use, readable by its owner alone; its public half stands beside."""
    if path.exists():
        return asyncssh.read_private_key(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    path.with_name(path.name + ".pub").write_bytes(key.export_public_key())
    return key


def main() -> None:
    """Serve until stopped: `python -m infra.dev.sftp --state DIR --port N [--partner NAME …]`."""
    parser = argparse.ArgumentParser(prog="python -m infra.dev.sftp", description=__doc__)
    parser.add_argument("--state", required=True, help="folder of host key, homes and keys")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--partner", action="append", default=[], help="make this partner's home and key")
    options = parser.parse_args()
    server = SftpServer(options.state, options.port)
    for name in options.partner:
        server.partner(name)
    stopped = server_stop()
    server.start()
    print(f"sftp 127.0.0.1:{server.port} {server.host_key}", flush=True)  # noqa: T201
    stopped.wait()
    server.stop()


if __name__ == "__main__":
    main()
