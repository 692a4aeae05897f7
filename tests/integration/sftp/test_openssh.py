"""The SFTP source against Debian's own sshd, and OpenSSH's `sftp` as the partner, where they are installed."""

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

from infra.dev.sftp import SftpServer
from tasks.source.memory import MemoryState
from tasks.source.port import FileOptions, Ready
from tasks.source.sftp import SftpSource

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
SFTP = shutil.which("sftp")
USABLE = SSHD is not None and (os.geteuid() != 0 or "sshd" in {entry.pw_name for entry in pwd.getpwall()})
needs_sshd = pytest.mark.skipif(not USABLE, reason="OpenSSH's sshd is not installed (Debian: openssh-server)")
needs_sftp = pytest.mark.skipif(SFTP is None, reason="OpenSSH's sftp is not installed (Debian: openssh-client)")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[dict[str, str]]:
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


@needs_sshd
def test_files_are_listed_read_resumed_archived_and_kept_apart(sshd: dict[str, str], tmp_path: Path) -> None:
    drop, state = tmp_path / "drop", MemoryState()
    drop.mkdir()
    files = {f"größe {n}.hl7": os.urandom(400_000 + n) for n in range(60)}
    for name, data in files.items():
        (drop / name).write_bytes(data)
    (drop / "link").symlink_to("/etc/passwd")
    os.mkfifo(drop / "pipe")
    options = FileOptions(kind="sftp", path=str(drop), ready=Ready(stable_polls=1), after="archive")
    source, taken = SftpSource(options, sshd), {}
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


class Partner:
    """A partner who uploads with `sftp` into a drop zone; Sluice reads it with the same login."""

    def __init__(self, connection: dict[str, str], drop: str, folder: Path) -> None:
        self.connection, self.drop, self.folder = connection, drop, folder
        key = folder / "partner_key"
        key.write_text(connection["key"])
        key.chmod(0o600)
        known = folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{connection['port']} {connection['host_key']}\n")
        options = ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "IdentitiesOnly=yes"]
        said = [word for option in options for word in ("-o", option)]
        self._command = [str(SFTP), "-q", "-P", connection["port"], "-i", str(key), *said]

    def starts(self, *orders: str, kilobits: int | None = None) -> subprocess.Popen[str]:
        """Begin a session of these orders, in the drop zone and with the files of this side at hand."""
        batch = self.folder / "batch"
        batch.write_text("".join(f"{order}\n" for order in (f"cd {self.drop}", f"lcd {self.folder}", *orders)))
        slow = ["-l", str(kilobits)] if kilobits else []
        host = f"{self.connection['user']}@127.0.0.1"
        return subprocess.Popen(
            [*self._command, *slow, "-b", str(batch), host], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def does(self, *orders: str) -> None:
        with self.starts(*orders) as session:
            said = session.communicate()[0]
        assert session.returncode == 0, said

    def file(self, name: str, data: bytes) -> bytes:
        (self.folder / name).write_bytes(data)
        return data

    def sees(self, name: str) -> bytes:
        self.does(f'get "{name}" seen')
        return (self.folder / "seen").read_bytes()


@pytest.fixture(params=[pytest.param("sshd", marks=needs_sshd), "embedded"])
def partner(request: pytest.FixtureRequest, tmp_path: Path) -> Partner:
    """A partner before Debian's sshd, and one before the server of the embedded stack."""
    drop, own = tmp_path / "drop", tmp_path / "own"
    own.mkdir()
    if request.param == "sshd":
        drop.mkdir()
        return Partner(request.getfixturevalue("sshd"), str(drop), own)
    server: SftpServer = request.getfixturevalue("server")
    zone: Path = request.getfixturevalue("zone")
    return Partner(server.connection("northside"), f"/{zone.name}", own)


class Reader:
    """Sluice's side: what polls have landed, by name, in their order."""

    def __init__(self, partner: Partner, **options: object) -> None:
        values = {"kind": "sftp", "path": partner.drop, "match": "*.hl7", "after": "archive", **options}
        self.source = SftpSource(FileOptions.model_validate(values), partner.connection)
        self.state = MemoryState()
        self.landed: list[tuple[str, bytes]] = []

    def poll(self, times: int = 1) -> list[tuple[str, bytes]]:
        before = len(self.landed)
        for _ in range(times):
            for offer in self.source.poll(self.state):
                self.landed.append((offer.name, b"".join(self.source.read(offer))))
                self.state.land(offer)
                self.source.finish(offer, self.state)
            self.source.done(self.state)
        return self.landed[before:]


@needs_sftp
def test_what_a_partner_uploads_with_sftp_is_taken_archived_and_answered_by_a_receipt(partner: Partner) -> None:
    reader = Reader(partner, ready={"rename_from": ".part"})
    data = partner.file("local", os.urandom(700_000))
    partner.does('put local "größe 1.hl7.part"')
    assert reader.poll(3) == []
    partner.does('rename "größe 1.hl7.part" "größe 1.hl7"')
    assert reader.poll(2) == [("größe 1.hl7", data)]
    assert partner.sees("archive/größe 1.hl7") == data
    reader.source.put(f"{partner.drop}/receipts/größe 1.json", [b'{"received": 1}'])
    reader.source.put(f"{partner.drop}/receipts/größe 1.json", [b'{"received": 2}'])
    assert partner.sees("receipts/größe 1.json") == b'{"received": 2}'
    reader.source.close()


@needs_sftp
def test_a_marker_that_comes_after_the_file_makes_it_ready(partner: Partner) -> None:
    reader = Reader(partner, ready={"marker": "{name}.done"})
    data = partner.file("local", b"MSH|one")
    partner.does("put local a.hl7")
    assert reader.poll(3) == []
    partner.file("mark", b"")
    partner.does("put mark a.hl7.done")
    assert reader.poll() == [("a.hl7", data)]
    reader.source.close()


@needs_sftp
def test_an_upload_that_pauses_for_longer_than_files_have_to_be_stable_ends_as_a_correction(partner: Partner) -> None:
    reader = Reader(partner, ready={"stable_polls": 2}, after="leave")
    data = partner.file("local", os.urandom(3_000_000))
    session = partner.starts("put local a.hl7", kilobits=8000)
    sizes: list[int] = []
    while not sizes or sizes[-1] == 0:
        assert session.poll() is None
        sizes = [entry.size for entry in reader.source._list() if entry.name == "a.hl7"]
    # while it comes, every poll sees another size or time; then the line is cut and stays so
    session.kill()
    session.communicate()
    taken: list[tuple[str, bytes]] = []
    while not taken:
        taken = reader.poll()
    assert len(taken[0][1]) < len(data)
    assert data.startswith(taken[0][1])
    partner.does("reput local a.hl7")
    while len(reader.landed) < 2:
        reader.poll()
    assert reader.landed[-1] == ("a.hl7", data)
    assert reader.poll(3) == []
    reader.source.close()
