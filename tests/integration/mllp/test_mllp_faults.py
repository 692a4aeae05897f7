"""The MLLP listener under faults: kills, cuts, slow and idle peers, TLS."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mllp_process import process
from mllp_site import Site, block, message, msa

from tasks.errors import ConfigError


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_killed_between_landing_and_acknowledgement_the_sender_sends_again_and_one_record_results(site: Site) -> None:
    with process() as (running, port, _):
        sender = site.sender(port)
        sender.write(block(message("C1")))
        wait_for(lambda: site.rows("select from ledger.arrival"))
        running.send_signal(signal.SIGKILL)
        running.wait()
        sender.close()
    with process() as (running, port, _):
        assert msa(site.sender(port).ask(message("C1"))) == ("AA", "C1")
        assert msa(site.sender(port).ask(message("C2", mrn="2"))) == ("AA", "C2")
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    counts = site.take()
    assert (counts["received"], counts["published"], counts["duplicate"]) == (2, 2, 0)
    assert site.rows("select distinct state from ledger.delivery") == [("read",)]


def test_killed_at_any_moment_every_acknowledged_message_is_one_record(site: Site) -> None:
    acknowledged: set[str] = set()
    number = 0
    for _ in range(4):
        with process() as (running, port, _):
            killer = threading.Timer(0.4, running.kill)
            killer.start()
            with suppress(ConnectionError, OSError):
                sender = site.sender(port)
                while True:
                    assert msa(sender.ask(message(f"C{number}", mrn=str(number)))) == ("AA", f"C{number}")
                    acknowledged.add(f"C{number}")
                    number += 1
            killer.join()
    assert acknowledged
    with process() as (_, port, _):
        # the one that was under way is sent again: its answer was lost
        assert msa(site.sender(port).ask(message(f"C{number}", mrn=str(number))))[0] == "AA"
    counts = site.take()
    assert (counts["received"], counts["published"], counts["duplicate"]) == (number + 1, number + 1, 0)


def test_what_a_crash_left_behind_the_ledgers_size_is_not_read(site: Site, tmp_path: Path) -> None:
    running = site.listen()
    running.sender().ask(message("C1"))
    [file] = [path for path in (tmp_path / "home" / "landing").rglob("*") if path.is_file()]
    with file.open("ab") as torn:
        torn.write((500).to_bytes(4, "big") + os.urandom(100))
    running.stop()
    counts = site.take()
    assert (counts["received"], counts["published"]) == (1, 1)


def test_a_clean_stop_loses_nothing_of_what_was_acknowledged(site: Site) -> None:
    with process() as (running, port, _):
        acknowledged = [0] * 5

        def send(place: int) -> None:
            sender = site.sender(port)
            with suppress(ConnectionError):
                while True:
                    control = f"{place}-{acknowledged[place]}"
                    assert msa(sender.ask(message(control, mrn=control))) == ("AA", control)
                    acknowledged[place] += 1

        threads = [threading.Thread(target=send, args=(place,)) for place in range(5)]
        for thread in threads:
            thread.start()
        wait_for(lambda: min(acknowledged) > 3)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
        for thread in threads:
            thread.join()
    received = site.take()["received"]
    assert received >= sum(acknowledged)
    assert received - sum(acknowledged) <= 5, "at most the one that each sender was waiting for"
    assert site.rows("select count(*) from ledger.segment where closed_at is null") == [(0,)]


def test_a_connection_cut_inside_a_block_leaves_nothing(site: Site) -> None:
    running = site.listen()
    sender = running.sender()
    sender.write(b"\x0b" + message("C1")[:80])
    sender.close()
    assert msa(running.sender().ask(message("C1"))) == ("AA", "C1")
    assert site.take()["received"] == 1


def test_a_connection_cut_before_the_answer_is_made_good_when_the_sender_sends_again(site: Site) -> None:
    running = site.listen()
    sender = running.sender()
    sender.write(block(message("C1")))
    sender.close()
    wait_for(lambda: site.rows("select from ledger.arrival"))
    assert msa(running.sender().ask(message("C1"))) == ("AA", "C1")
    assert site.take()["received"] == 1


def test_a_connection_cut_inside_the_answer_is_made_good_when_the_sender_sends_again(site: Site) -> None:
    running = site.listen()
    sender = running.sender()
    sender.write(block(message("C1")))
    assert sender.socket.recv(6) == b"\x0bMSH|^"
    # a reset, not a farewell: what is still under way is thrown away
    sender.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sender.close()
    again = running.sender()
    assert msa(again.ask(message("C1"))) == ("AA", "C1")
    assert msa(again.ask(message("C2", mrn="2"))) == ("AA", "C2")
    counts = site.take()
    assert (counts["received"], counts["duplicate"]) == (2, 0)


def test_a_thousand_idle_connections_leave_room_for_a_message(site: Site) -> None:
    running = site.listen()
    idle = [running.sender() for _ in range(1000)]
    assert msa(running.sender().ask(message("C1"))) == ("AA", "C1")
    assert msa(idle[999].ask(message("C2"))) == ("AA", "C2")


def test_above_its_connections_a_feed_turns_away(site: Site) -> None:
    site.configure("max_connections: 2")
    running = site.listen()
    first, second = running.sender(), running.sender()
    assert msa(first.ask(message("C1")))[0] == msa(second.ask(message("C2")))[0] == "AA"
    assert running.sender().is_closed()
    first.close()
    wait_for(lambda: len(running.listener.connections) == 1)
    assert msa(running.sender().ask(message("C3"))) == ("AA", "C3")


def test_a_silent_connection_is_closed_and_so_is_one_that_takes_too_long_over_a_message(site: Site) -> None:
    site.configure("idle: 1s, frame: 1s")
    running = site.listen()
    slow, silent = running.sender(), running.sender()
    slow.write(b"\x0b" + message("C1")[:40])
    assert slow.is_closed()
    assert silent.is_closed()


def test_a_sender_that_does_not_read_its_answers_is_not_read_on(site: Site) -> None:
    running = site.listen()
    sender = running.sender()
    bad = block(b"MSH|^~\\&|" + b"A" * 3000 + b"|B|C|D|||ADT^A01||P|2.5.1\r")
    sender.socket.settimeout(2)
    with pytest.raises(TimeoutError):
        sender.socket.sendall(bad * 40_000)
    [connection] = running.listener.connections
    assert connection.transport is not None
    assert connection.transport.get_write_buffer_size() < 8 << 20
    assert msa(running.sender().ask(message("C1"))) == ("AA", "C1")


def test_without_postgres_nothing_is_acknowledged_and_with_it_all_goes_on(site: Site, postgres_url: str) -> None:
    sender = site.listen().sender()
    assert msa(sender.ask(message("C1", mrn="1")))[0] == "AA"
    name = site.url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"alter database {name} with allow_connections false")
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        answer = sender.ask(message("C2", mrn="2"))
        assert msa(answer) == ("AR", "C2")
        assert b"207" in answer
        admin.execute(f"alter database {name} with allow_connections true")
    assert msa(sender.ask(message("C2", mrn="2"))) == ("AA", "C2")
    counts = site.take()
    assert (counts["received"], counts["published"]) == (2, 2)


def test_a_disk_that_takes_nothing_is_answered_with_a_reject(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = site.listen().sender()
    assert msa(sender.ask(message("C1", mrn="1")))[0] == "AA"

    def full(_file: int) -> None:
        raise OSError(28, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)
        assert msa(sender.ask(message("C2", mrn="2"))) == ("AR", "C2")
    assert msa(sender.ask(message("C2", mrn="2"))) == ("AA", "C2")
    counts = site.take()
    assert (counts["received"], counts["published"], counts["duplicate"]) == (2, 2, 0)


# -- TLS ----------------------------------------------------------------------------------------------------------


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and certificates of the server (localhost), of the partners and of a stranger."""
    folder = tmp_path_factory.mktemp("keys")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for authority in ("ca", "other-ca"):
        openssl(folder, "req", "-x509", *curve, "-keyout", f"{authority}.key", "-out", f"{authority}.pem",
                "-days", "30", "-subj", f"/CN={authority}", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    for name, authority in (("localhost", "ca"), ("north", "ca"), ("east", "ca"), ("who", "ca"), ("bad", "other-ca")):
        openssl(folder, "req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "30",
                "-subj", f"/CN={name}.example", "-addext", f"subjectAltName=DNS:{name}",
                "-addext", "authorityKeyIdentifier=keyid,issuer",
                "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key")  # fmt: skip
    return folder


def client(keys: Path, name: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    if name:
        context.load_cert_chain(keys / f"{name}.pem", keys / f"{name}.key")
    return context


@pytest.fixture
def two_partners(site: Site, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    import json

    values = {"certificate": str(keys / "localhost.pem"), "key": (keys / "localhost.key").read_text()}
    monkeypatch.setenv("SLUICE_CONNECTION_PORT", json.dumps({**values, "client_ca": str(keys / "ca.pem")}))
    fingerprint = subprocess.run(
        ["openssl", "x509", "-in", str(keys / "east.pem"), "-noout", "-fingerprint", "-sha256"],
        check=True, capture_output=True, text=True,
    ).stdout.strip().partition("=")[2]  # fmt: skip
    site.configure("connection: port, tls: true, certificates: [north.example]")
    site.configure(f'connection: port, tls: true, certificates: ["sha256:{fingerprint}"]', feed="eastside.adt")
    return site


def test_a_clients_certificate_says_which_partner_it_is(two_partners: Site, keys: Path) -> None:
    running = two_partners.listen("northside.adt", "eastside.adt")
    for name in ("north", "east"):
        assert msa(running.sender(client(keys, name)).ask(message(name))) == ("AA", name)
    feeds = two_partners.rows("select feed from ledger.delivery order by id")
    assert feeds == [("northside.adt",), ("eastside.adt",)]


@pytest.mark.parametrize("name", [None, "who", "bad"])
def test_without_a_partners_certificate_nothing_is_taken(two_partners: Site, keys: Path, name: str | None) -> None:
    running = two_partners.listen("northside.adt", "eastside.adt")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        running.sender(client(keys, name)).ask(message("C1"))
    assert two_partners.rows("select from ledger.segment") == []


def test_tls_without_a_key_is_a_clear_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CONNECTION_PORT", '{"certificate": "nowhere.pem"}')
    site.configure("connection: port, tls: true")
    with pytest.raises(ConfigError, match="`key`"):
        site.listen()
