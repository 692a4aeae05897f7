"""The SFTP source against a server that speaks real SSH, and against what networks and strangers do."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh
import paramiko
import pytest

from infra.dev.sftp import SftpServer
from tasks.errors import ConfigError, Permanent, SluiceError, Transient
from tasks.model import Offer
from tasks.source.memory import MemoryState
from tasks.source.port import FileOptions, Ready
from tasks.source.sftp import SftpSource

ONE = Ready(stable_polls=1)
OTHER_KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


@pytest.fixture
def source(server: SftpServer, zone: Path) -> Iterator[SftpSource]:
    made = build(server, zone)
    yield made
    made.close()


def build(server: SftpServer, zone: Path, connection: dict[str, str] | None = None, **options: object) -> SftpSource:
    values = {"kind": "sftp", "path": f"/{zone.name}", "ready": ONE, **options}
    return SftpSource(FileOptions.model_validate(values), {**server.connection("northside"), **(connection or {})})


def take(source: SftpSource) -> dict[str, bytes]:
    return {offer.name: b"".join(source.read(offer)) for offer in source.poll(MemoryState())}


def refusal(make: Callable[[], object], kind: type[SluiceError]) -> str:
    with pytest.raises(kind) as raised:
        make()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_connection_without_a_pinned_host_key_is_refused_before_anything_is_sent(
    server: SftpServer, zone: Path
) -> None:
    text = refusal(lambda: build(server, zone, {"host_key": ""}), ConfigError)
    assert "ssh-keyscan" in text
    assert "host_key" in text


def test_a_changed_host_key_is_refused_and_the_message_says_what_to_do(server: SftpServer, zone: Path) -> None:
    text = refusal(lambda: take(build(server, zone, {"host_key": OTHER_KEY})), Permanent)
    assert "not the pinned one (SHA256:" in text
    assert "Ask the partner" in text


def test_a_host_key_of_another_type_than_the_pinned_is_refused(server: SftpServer, zone: Path) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    assert "pinned type" in refusal(lambda: take(build(server, zone, {"host_key": other})), Permanent)


def test_two_pinned_keys_carry_a_partner_over_its_change_of_key(server: SftpServer, zone: Path) -> None:
    (zone / "a.hl7").write_bytes(b"x")
    source = build(server, zone, {"host_key": f"{OTHER_KEY}\n{server.host_key}"})
    assert take(source) == {"a.hl7": b"x"}
    source.close()


def test_a_line_of_known_hosts_can_be_pinned_as_it_is(server: SftpServer, zone: Path) -> None:
    source = build(server, zone, {"host_key": f"[127.0.0.1]:{server.port} {server.host_key} comment"})
    assert take(source) == {}
    source.close()


def test_an_unknown_user_and_a_wrong_key_are_refused_without_saying_which(server: SftpServer, zone: Path) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    for values in ({"user": "nobody"}, {"key": stranger}, {"user": "../northside"}):
        text = refusal(lambda values=values: take(build(server, zone, values)), Permanent)
        assert "does not accept the user or its key" in text


def test_a_password_is_not_accepted_by_the_embedded_server(server: SftpServer, zone: Path) -> None:
    refusal(lambda: take(build(server, zone, {"key": "", "password": "secret"})), Permanent)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"host": ""}, "`host`"),
        ({"user": ""}, "`user`"),
        ({"port": "ssh"}, "`port`"),
        ({"key": ""}, "`key`"),
        ({"key": "nonsense"}, "no private key"),
        ({"key": "", "key_file": "/nowhere"}, "`key_file`"),
        ({"host_key": "ssh-ed25519 ???"}, "host_key"),
    ],
)
def test_what_is_missing_or_wrong_in_the_connection_is_named(
    server: SftpServer, zone: Path, values: dict[str, str], word: str
) -> None:
    assert word in refusal(lambda: build(server, zone, values), ConfigError)


def test_a_protected_key_file_needs_its_passphrase(server: SftpServer, zone: Path, tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    server.partner("northside", key.export_public_key().decode())
    path = tmp_path / "key"
    path.write_bytes(key.export_private_key(passphrase="open sesame"))
    values = {"key": "", "key_file": str(path)}
    assert "`passphrase`" in refusal(lambda: build(server, zone, values), ConfigError)
    assert "wrong" in refusal(lambda: build(server, zone, {**values, "passphrase": "no"}), ConfigError)
    source = build(server, zone, {**values, "passphrase": "open sesame"})
    assert take(source) == {}
    source.close()


def test_an_agents_keys_are_tried(
    server: SftpServer, zone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("ssh-agent"):
        pytest.skip("ssh-agent is not installed")
    where = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(where)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(where))
        # its socket is there before it listens; 2 says that no agent answers
        while subprocess.run(["ssh-add", "-l"], check=False, capture_output=True).returncode == 2:
            assert agent.poll() is None
        stranger = tmp_path / "stranger"
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(stranger))
        stranger.chmod(0o600)
        for key in (stranger, server.state / "clients" / "northside"):
            subprocess.run(["ssh-add", "-q", str(key)], check=True)
        source = build(server, zone, {"key": "", "agent": "true"})
        assert take(source) == {}
        source.close()
    finally:
        agent.terminate()
        agent.wait()


def test_a_server_that_is_not_there_is_transient(server: SftpServer, zone: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    refusal(lambda: take(build(server, zone, {"port": str(port)})), Transient)


def test_a_path_that_is_absent_or_a_file_is_said_in_one_line(server: SftpServer, zone: Path) -> None:
    (zone / "file").write_bytes(b"")
    assert "does not exist" in refusal(lambda: take(build(server, zone, path="/nowhere")), Permanent)
    assert "no folder" in refusal(lambda: take(build(server, zone, path=f"/{zone.name}/file")), Permanent)


def test_links_pipes_and_folders_are_no_deliveries(source: SftpSource, zone: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"outside")
    (zone / "regular").write_bytes(b"x")
    (zone / "link").symlink_to(secret)
    (zone / "inner").symlink_to(zone / "regular")
    (zone / "folder").mkdir()
    os.mkfifo(zone / "pipe")
    with socket.socket(socket.AF_UNIX) as special:
        special.bind(os.path.relpath(zone / "s"))
        assert take(source) == {"regular": b"x"}


@pytest.mark.parametrize("how", ["link", "pipe", "folder"])
def test_a_file_that_becomes_something_else_after_the_poll_is_not_opened(
    source: SftpSource, zone: Path, tmp_path: Path, how: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    os.utime(secret, (1, 1))
    path = zone / "a"
    path.write_bytes(b"x")
    os.utime(path, (1, 1))
    (offer,) = source.poll(MemoryState())
    path.unlink()
    {"link": lambda: path.symlink_to(secret), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[how]()
    assert "no regular file" in refusal(lambda: b"".join(source.read(offer)), Permanent)


def test_a_folder_that_becomes_a_link_after_the_poll_is_not_followed(server: SftpServer, zone: Path) -> None:
    (zone / "in").mkdir()
    (zone / "in" / "a").write_bytes(b"x")
    other = zone.parent / f"{zone.name}-other"
    other.mkdir()
    shutil.copy2(zone / "in" / "a", other / "a")
    source = build(server, zone, match="**/*")
    (offer,) = source.poll(MemoryState())
    shutil.rmtree(zone / "in")
    (zone / "in").symlink_to(other)
    assert "behind a link" in refusal(lambda: b"".join(source.read(offer)), Permanent)
    assert take(source) == {}
    source.close()


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "a/../../b", "a\0b", ""])
def test_a_name_that_leads_out_of_the_path_is_neither_read_nor_finished(
    server: SftpServer, zone: Path, name: str
) -> None:
    source = build(server, zone, after="delete")
    offer = Offer(name, "1-1", 1)
    assert "leads out" in refusal(lambda: b"".join(source.read(offer)), Permanent)
    assert "leads out" in refusal(lambda: source.finish(offer, MemoryState()), Permanent)
    source.close()


def test_a_server_that_lists_names_of_other_folders_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "homes" / "northside" / "zone").mkdir(parents=True)
    server = SftpServer(tmp_path)
    server.partner("northside")

    async def scandir(self: asyncssh.SFTPServer, path: bytes):
        attributes = asyncssh.SFTPAttrs(size=1, permissions=stat.S_IFREG | 0o644, atime=1, mtime=1)
        for name in (b"..", b"../../etc/passwd", b"/etc/passwd", b"a/b", b"", b"good"):
            yield asyncssh.SFTPName(name, attrs=attributes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncssh.SFTPServer, "scandir", scandir)
        with server:
            source = build(server, tmp_path / "zone")
            assert [offer.name for offer in source.poll(MemoryState())] == ["good"]
            source.close()


def test_a_name_that_is_not_utf_8_is_taken_and_archived_under_its_own_bytes(server: SftpServer, zone: Path) -> None:
    raw = "Größe.hl7".encode("cp1252")
    (zone / os.fsdecode(raw)).write_bytes(b"x")
    source, state = build(server, zone, after="archive"), MemoryState()
    (offer,) = source.poll(state)
    assert offer.name == "Größe.hl7"
    assert b"".join(source.read(offer)) == b"x"
    source.finish(offer, state)
    assert [os.fsencode(path.name) for path in (zone / "archive").iterdir()] == [raw]
    source.close()


def test_a_connection_cut_at_any_byte_is_transient_and_the_next_try_goes_on(
    server: SftpServer, zone: Path, wire: Callable[[int], object]
) -> None:
    files = {"a": os.urandom(200_000), "b": os.urandom(50_000)}
    for name, data in files.items():
        (zone / name).write_bytes(data)
    relay = wire(server.port)
    source = build(server, zone, {"port": str(relay.port)}, after="archive")
    assert take(source) == files
    whole = relay.passed
    early = [0, 1, 20, 200, 900, 1500, 2000, 2500, 3000, 3500, 4000]
    for limit in [*early, *range(4500, whole, whole // 12)]:
        source.close()
        relay.limit = limit
        with pytest.raises(Transient):
            take(source)
        assert take(source) == files
    source.close()


def test_a_download_that_was_cut_is_resumed_where_it_was(server: SftpServer, zone: Path) -> None:
    data = os.urandom(6_000_000)
    (zone / "a").write_bytes(data)
    source = build(server, zone)
    (offer,) = source.poll(MemoryState())
    chunks, got = source.read(offer), b""
    while len(got) < 1_000_000:
        got += next(chunks)
    server.cut()
    rest: list[bytes] = []
    with pytest.raises(Transient):
        rest.extend(chunks)
    got += b"".join(rest)
    assert len(got) < len(data)
    assert got + b"".join(source.read(offer, len(got))) == data
    source.close()


def test_finishing_after_a_break_connects_again(server: SftpServer, zone: Path) -> None:
    (zone / "a").write_bytes(b"x")
    source, state = build(server, zone, after="archive"), MemoryState()
    (offer,) = source.poll(state)
    server.cut()
    for _ in range(2):
        try:
            source.finish(offer, state)
        except Transient:
            continue
    assert (zone / "archive" / "a").read_bytes() == b"x"
    source.close()


def test_a_refused_archive_says_so_and_the_other_files_are_offered(server: SftpServer, zone: Path) -> None:
    if os.geteuid() == 0:
        (zone / "archive").write_bytes(b"a file where the folder should be")
    else:
        zone.chmod(0o500)
    (zone / "a").write_bytes(b"x")
    source, state = build(server, zone, after="archive", match="[ab]"), MemoryState()
    (offer,) = source.poll(state)
    state.land(offer)
    (zone / "b").write_bytes(b"y")
    offered: list[Offer] = []
    with pytest.raises(SluiceError):
        offered.extend(source.poll(state))
    assert [each.name for each in offered] == ["b"]
    source.close()


def test_more_readers_than_channels_wait_for_their_turn(server: SftpServer, zone: Path) -> None:
    files = {f"{n}": os.urandom(300_000) for n in range(24)}
    for name, data in files.items():
        (zone / name).write_bytes(data)
    source, got = build(server, zone), {}
    found = list(source.poll(MemoryState()))
    threads = [
        threading.Thread(target=lambda o=offer: got.__setitem__(o.name, b"".join(source.read(o)))) for offer in found
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == files
    source.close()


@pytest.mark.slow
def test_a_folder_of_100000_files_is_listed_in_constant_memory(server: SftpServer, zone: Path) -> None:
    for number in range(100_000):
        (zone / f"message-{number:06}.hl7").touch()
    source, count = build(server, zone), 0
    tracemalloc.start()
    for _ in source.poll(MemoryState()):
        count += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    source.close()
    assert count == 100_000
    assert peak < 40_000_000, resource.getpagesize()


def test_partners_do_not_see_each_other(server: SftpServer) -> None:
    (server.partner("eastlab") / "secret").write_bytes(b"x")
    outside = server.partner("northside") / "outside"
    if not outside.is_symlink():
        outside.symlink_to(server.partner("eastlab"))
    transport = paramiko.Transport(("127.0.0.1", server.port))
    key = paramiko.Ed25519Key.from_private_key_file(str(server.state / "clients" / "northside"))
    transport.connect(username="northside", pkey=key)
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    for path in ("../eastlab/secret", "/homes/eastlab/secret", "outside/secret", "/etc/passwd"):
        with pytest.raises(OSError):
            client.open(path)
    transport.close()


def test_an_openssh_client_can_drop_a_file_and_the_source_takes_it(
    server: SftpServer, zone: Path, source: SftpSource, tmp_path: Path
) -> None:
    if not shutil.which("sftp"):
        pytest.skip("OpenSSH's sftp client is not installed")
    (tmp_path / "a.hl7").write_bytes(b"from OpenSSH")
    (tmp_path / "known").write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    (tmp_path / "batch").write_text(
        f"put {tmp_path}/a.hl7 /{zone.name}/a.hl7.part\nrename /{zone.name}/a.hl7.part /{zone.name}/a.hl7\n"
    )
    options = ["-oStrictHostKeyChecking=yes", f"-oUserKnownHostsFile={tmp_path}/known", "-oIdentitiesOnly=yes"]
    key = server.state / "clients" / "northside"
    subprocess.run(
        [
            "sftp",
            "-q",
            "-F",
            "none",
            *options,
            "-i",
            str(key),
            "-P",
            str(server.port),
            "-b",
            str(tmp_path / "batch"),
            "northside@127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )
    assert take(source) == {"a.hl7": b"from OpenSSH"}


def test_the_server_keeps_its_host_key_and_ends_cleanly_when_it_is_told_to(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "infra.dev.sftp",
        "--state",
        str(tmp_path),
        "--port",
        "0",
        "--partner",
        "northside",
    ]
    keys = set()
    for _ in range(2):
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        _, where, *key = running.stdout.readline().split()
        host, port = where.split(":")
        socket.create_connection((host, int(port))).close()
        running.terminate()
        assert running.wait() == 0
        running.stdout.close()
        keys.add(tuple(key))
    assert keys == {tuple((tmp_path / "host_key.pub").read_text().split())}
    assert stat.S_IMODE((tmp_path / "host_key").stat().st_mode) == 0o600


@pytest.mark.parametrize("how", ["renamed over", "written into"])
def test_a_file_replaced_while_it_is_read_is_transient(server: SftpServer, zone: Path, how: str) -> None:
    path = zone / "a"
    path.write_bytes(b"x" * 6_000_000)
    source = build(server, zone)
    (offer,) = source.poll(MemoryState())
    chunks = source.read(offer)
    next(chunks)
    if how == "renamed over":
        (zone / ".new").write_bytes(b"y" * 5_000_000)
        (zone / ".new").rename(path)
    else:
        with path.open("ab") as more:
            more.write(b"y")
    with pytest.raises(Transient):
        b"".join(chunks)
    source.close()
