"""The SFTP source against Debian's own sshd, where that is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path

import asyncssh
import pytest

from tasks.source.memory import MemoryState
from tasks.source.port import FileOptions, Ready
from tasks.source.sftp import SftpSource

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
USABLE = SSHD is not None and (os.geteuid() != 0 or "sshd" in {entry.pw_name for entry in pwd.getpwall()})
pytestmark = pytest.mark.skipif(not USABLE, reason="OpenSSH's sshd is not installed (Debian: openssh-server)")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[dict[str, str]]:
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("host", "user")}
    keys["host"].write_private_key(str(tmp_path / "host_key"))
    (tmp_path / "host_key").chmod(0o600)
    (tmp_path / "authorized").write_bytes(keys["user"].export_public_key())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host_key\nAuthorizedKeysFile {tmp_path}/authorized\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(parents=True, exist_ok=True)
    server = subprocess.Popen([str(SSHD), "-D", "-f", str(tmp_path / "config")], stderr=subprocess.DEVNULL)
    try:
        _answering(port)
        yield {
            "host": "127.0.0.1",
            "port": str(port),
            "user": getuser(),
            "key": keys["user"].export_private_key().decode(),
            "host_key": keys["host"].export_public_key().decode(),
        }
    finally:
        server.terminate()
        server.wait()


def _answering(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("sshd does not listen")


def test_files_are_listed_read_resumed_archived_and_kept_apart(connection: dict[str, str], tmp_path: Path) -> None:
    drop, state = tmp_path / "drop", MemoryState()
    drop.mkdir()
    files = {f"größe {n}.hl7": os.urandom(400_000 + n) for n in range(150)}
    for name, data in files.items():
        (drop / name).write_bytes(data)
    (drop / "link").symlink_to("/etc/passwd")
    os.mkfifo(drop / "pipe")
    options = FileOptions(kind="sftp", path=str(drop), ready=Ready(stable_polls=1), after="archive")
    source, taken = SftpSource(options, connection), {}
    for _ in range(2):
        for offer in source.poll(state):
            taken[offer.name] = b"".join(source.read(offer))
            assert b"".join(source.read(offer, 5)) == taken[offer.name][5:]
            state.land(offer)
            source.finish(offer, state)
            source.finish(offer, state)
        assert [path.name for path in drop.iterdir() if path.suffix] == []
        if taken == files:
            (drop / "größe 0.hl7").write_bytes(b"corrected")
    source.close()
    assert taken == {**files, "größe 0.hl7": b"corrected"}
    assert len(list((drop / "archive").iterdir())) == len(files) + 1
