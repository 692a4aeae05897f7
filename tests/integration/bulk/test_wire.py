"""What lies under an export: TLS and client certificates, tokens, compressed files."""

from __future__ import annotations

import datetime as dt
import gzip
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tasks.errors import ConfigError, Transient
from tasks.http import Retry, client, plainly
from tasks.http_auth import parse_auth, read_auth
from tasks.source.bulk_export import Exporter
from tasks.source.bulk_folder import ExportFolder
from tasks.source.bulk_request import ExportRequest


def patients(count: int) -> list[dict]:
    return [{"resourceType": "Patient", "id": f"p{n}"} for n in range(count)]


@pytest.fixture
def export(server, tmp_path):
    def run(auth=None, **options):
        request = ExportRequest(server.url)
        folder = ExportFolder(tmp_path / "out", request.fingerprint())
        with client(request.base, auth, follow_redirects=True) as http:
            try:
                return Exporter(http, request, folder, retry=Retry(8, 0.01, 1.0), **options).run()
            finally:
                folder.close()

    return run


def test_a_compressed_file_that_is_cut_goes_on_uncompressed_without_doubling_a_byte(server, export, reply, tmp_path):
    server.put("Patient.a", patients(5000))
    body = server.files["Patient.a"].body
    packed = gzip.compress(body)
    headers = {"Content-Encoding": "gzip", "ETag": '"packed"'}
    server.script["/files/job1/Patient.a"] = [reply(200, headers, packed, cut_after=len(packed) // 2)]
    assert export().resources == {"Patient": 5000}
    assert (tmp_path / "out/Patient.000.ndjson").read_bytes() == body
    again = server.asked("/files/job1/Patient.a")[1].headers
    assert (again["accept-encoding"], "if-range" in again) == ("identity", False)


def test_a_token_endpoint_is_found_by_the_servers_smart_configuration_and_asked_again_when_busy(
    server, smart_file, export, reply
):
    server.put("Patient.a", patients(1))
    held = json.loads(smart_file.read_text())
    del held["token_url"]
    server.script["/token"] = [reply(503), reply(429)]
    assert export(parse_auth(held, "x")).resources == {"Patient": 1}
    assert len(server.asked("/.well-known/smart-configuration")) == 1


def test_many_threads_ask_for_one_token(server, smart_file, export):
    for n in range(40):
        server.put(f"Patient.{n}", patients(1))
    export(read_auth(smart_file), parallel=16)
    assert len(server.asked("/token", "POST")) == 1


def test_a_server_without_smart_configuration_asks_for_the_token_url(server, smart_file, export, reply):
    held = json.loads(smart_file.read_text())
    del held["token_url"]
    server.script["/.well-known/smart-configuration"] = [reply(404)]
    with pytest.raises(ConfigError, match="name token_url"):
        export(parse_auth(held, "x"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kid": None}, "kid is missing"),
        ({"d": None}, "no private key"),
        ({"alg": "HS256"}, "alg is not one of"),
        ({"x": "!"}, "cannot be read as a JWK"),
    ],
)
def test_a_key_that_cannot_sign_is_a_mistake_without_the_key_in_it(server, smart_file, change, said):
    held = json.loads(smart_file.read_text())
    secret = held["private_key_jwk"]["d"]
    held["private_key_jwk"] = {k: v for k, v in (held["private_key_jwk"] | change).items() if v is not None}
    with pytest.raises(ConfigError, match=said) as raised:
        client(server.url, parse_auth(held, "x"))
    assert secret not in str(raised.value)


def test_a_key_from_a_file_of_keys_signs_as_well(server, smart_file, export, tmp_path):
    server.put("Patient.a", patients(1))
    held = json.loads(smart_file.read_text())
    key = held.pop("private_key_jwk")
    public = {k: v for k, v in key.items() if k != "d"}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [public, key]}))
    auth = parse_auth({**held, "private_key_file": str(tmp_path / "keys.json")}, "x")
    assert export(auth).resources == {"Patient": 1}


class Authority:
    """A CA for one test and what it signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])
        own = self._build(self._name, self._key.public_key(), ca=True)
        self.bundle = self._write("ca", own, None)[0]

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._build(subject, key.public_key(), ca=False)
        return self._write(name, certificate, key)

    def _build(self, subject, public, *, ca):
        now = dt.datetime.now(dt.UTC)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).add_extension(address, critical=False)
        builder = builder.not_valid_before(now - dt.timedelta(hours=1))
        builder = builder.not_valid_after(now + dt.timedelta(hours=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name, certificate, key) -> tuple[Path, Path]:
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        if key is not None:
            form = serialization.PrivateFormat.PKCS8
            plain = serialization.NoEncryption()
            paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        return paths


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def guarded(authority) -> Iterator[str]:
    """The URL of a server that shows a certificate and wants one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_) -> None:
            return

    class Server(HTTPServer):
        def handle_error(self, *_) -> None:
            return

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    context.load_verify_locations(authority.bundle)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def get(url: str, **auth) -> int:
    with client(url, parse_auth({"type": "none", **auth}, "x")) as http, plainly("the test", url):
        return http.get(url).status_code


def test_a_client_certificate_and_a_ca_of_ones_own_open_the_door(guarded, authority):
    certificate, key = authority.issue("client")
    shown = {"client_certificate": str(certificate), "client_key": str(key)}
    assert get(guarded, ca_bundle=str(authority.bundle), **shown) == 204


def test_a_server_of_an_unknown_ca_is_refused_with_what_to_do(guarded):
    with pytest.raises(ConfigError, match="not trusted; name its CA in ca_bundle"):
        get(guarded)


def test_a_client_without_a_certificate_is_not_let_in(guarded, authority):
    with pytest.raises(Transient):
        get(guarded, ca_bundle=str(authority.bundle))
