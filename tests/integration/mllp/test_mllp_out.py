"""The MLLP destination against a receiver on a real socket that can be told to misbehave."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.deliver.mllp import MllpDestination
from tasks.deliver.port import Item
from tasks.errors import ConfigError
from tests.receiver import Receiver, ack, control_of


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.stop()


@pytest.fixture
def destination(receiver: Receiver) -> Iterator[Callable[..., MllpDestination]]:
    made: list[MllpDestination] = []

    def make(connection: dict[str, str] | None = None, **options: Any) -> MllpDestination:
        given = {"kind": "mllp", "send": "pass", "backoff": 0.01, "timeout": 5, **options}
        values = {"host": "127.0.0.1", "port": str(receiver.port), **(connection or {})}
        made.append(MllpDestination(MllpDestination.Options(**given), values))
        return made[-1]

    yield make
    for one in made:
        one.close()


def records(count: int) -> list[Item]:
    text = "MSH|^~\\&|A|B|C|D|20260309||ADT^A08|{0}|P|2.3||||||8859/1\rPID|1||{0}||Zzyzx\\T\\M\xfcller\rZXX|own\r"
    return [Item("!record", str(n), 1, None, content=text.format(n).encode("latin-1")) for n in range(count)]


def said(destination: MllpDestination, items: list[Item]) -> list[tuple[str, str]]:
    return [(one.status, one.code) for one in destination.send(items)]


def test_messages_are_passed_on_byte_by_byte_and_one_after_another(receiver, destination):
    items = records(20)
    assert said(destination(), items) == [("sent", "AA")] * 20
    assert receiver.messages == [item.content for item in items]
    assert (receiver.connections, receiver.most) == (1, 1)


def test_what_the_receiver_refuses_is_refused_with_codes_alone(receiver, destination):
    errors = b"ERR||PID^1^5|102^Zzyzx^HL70357|E|||Zzyzx is no name\r"
    receiver.script = [
        lambda m: [ack(m, b"AE", errors)],
        lambda m: [ack(m, b"AR", b"ERR||Zzyzx^1|Zzyzx\r")],
        lambda m: [ack(m, b"CE")],
    ]
    outcomes = list(destination().send(records(4)))
    found = [(one.status, one.code, one.finding and (one.finding.code, one.finding.location)) for one in outcomes]
    assert found == [
        ("refused", "AE", ("hl7-102", "PID-5")),
        ("refused", "AR", ("hl7-AR", "message")),
        ("refused", "CE", ("hl7-CE", "message")),
        ("sent", "AA", None),
    ]


def test_an_acknowledgement_of_another_message_is_passed_over(receiver, destination):
    receiver.script = [lambda m: [ack(m, b"AE", control=b"other"), ack(m)]]
    assert said(destination(), records(1)) == [("sent", "AA")]


def test_a_broken_connection_is_made_again_and_the_message_sent_again(receiver, destination):
    receiver.script = [lambda _m: None, lambda _m: None]
    assert said(destination(), records(3)) == [("sent", "AA")] * 3
    assert Counter(map(control_of, receiver.messages)) == {b"0": 3, b"1": 1, b"2": 1}
    assert receiver.connections == 3


def test_without_an_acknowledgement_the_queue_waits_in_order(receiver, destination):
    receiver.script = [lambda m: [ack(m)], lambda _m: [], lambda _m: []]
    outcomes = said(destination(timeout=0.2, attempts=2), records(5))
    assert outcomes == [("sent", "AA"), *[("retry", "no-acknowledgement")] * 4]
    assert said(destination(), records(5)[1:]) == [("sent", "AA")] * 4


def test_a_receiver_that_is_not_there_leaves_everything_in_the_queue(receiver, destination):
    where = destination({"port": "9"}, attempts=1)
    assert said(where, records(3)) == [("retry", "no-connection")] * 3


def test_an_accept_acknowledgement_is_enough_unless_the_application_is_waited_for(receiver, destination):
    receiver.script = [lambda m: [ack(m, b"CA")], lambda m: [ack(m, b"CA"), ack(m, b"AE")]]
    assert said(destination(), records(1)) == [("sent", "CA")]
    assert said(destination(application_ack=True), records(1)) == [("refused", "AE")]


def test_what_is_no_message_is_refused_before_anything_is_sent(receiver, destination):
    items = [
        Item("!record", "1", 1, None, content=b"id,name\r\n"),
        Item("!record", "2", 1, None, content=b"MSH|^~\\&|A\r"),
    ]
    found = [(one.status, one.finding.code) for one in destination().send(items)]
    assert found == [("refused", "not-hl7v2"), ("refused", "no-control-id")]
    assert receiver.messages == []


def test_messages_are_written_from_the_store_and_acknowledged(receiver, destination):
    patient = {"resourceType": "Patient", "id": "p", "name": [{"family": "Doe"}], "identifier": [{"value": "1"}]}
    where = destination(send="resources", header={"facility": "HUB", "receiving_application": "EHR"})
    assert said(where, [Item("Patient", "p", 3, patient)]) == [("sent", "AA")]
    head, _event, person, *_ = receiver.messages[0].decode().split("\r")
    assert head.startswith("MSH|^~\\&|SLUICE|HUB|EHR||")
    assert person == "PID|1||1||Doe"
    again = destination(send="resources")
    said(again, [Item("Patient", "p", 3, patient)])
    assert control_of(receiver.messages[1]) == control_of(receiver.messages[0])


def test_tls_checks_who_answers(destination, tmp_path):
    certificate = own_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secured = Receiver(context)
    try:
        where = {"host": "localhost", "port": str(secured.port)}
        trusting = destination({**where, "ca": certificate.read_text()}, tls=True)
        assert said(trusting, records(2)) == [("sent", "AA")] * 2
        trusting.close()
        with pytest.raises(ConfigError, match="not trusted"):
            said(destination(where, tls=True), records(1))
        with pytest.raises(ConfigError, match="cannot be read"):
            destination({**where, "ca": "/nowhere.pem"}, tls=True)
    finally:
        secured.stop()


def own_certificate(folder: Path) -> Path:
    """A key and a certificate for localhost that it signed itself, in one file."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_connection_without_host_is_told(destination):
    with pytest.raises(ConfigError, match="host"):
        destination({"host": ""})
