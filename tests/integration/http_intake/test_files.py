"""Files over HTTP: streamed into landing, known again, refused with a reason."""

from __future__ import annotations

import hashlib
import socket
import time

import pytest

FEED = "eastlab.files"
CSV = "source: {{kind: http, open: true{more}}}\nformat: hl7v2\ntimezone: America/New_York\n"
MESSAGE = (
    b"MSH|^~\\&|ADT|NORTH|SLUICE|HUB|20260309100000-0500||ADT^A01^ADT_A01|C1|P|2.5.1\r"
    b"PID|1||1001^^^NORTHSIDE^MR||Okafor^Ada||19800101|F\r"
)


@pytest.fixture
def client(site):
    (site.feeds / f"{FEED}.yaml").write_text(CSV.format(more=""))
    return site.listen(FEED)


def test_an_uploaded_file_is_kept_with_its_checksum_and_becomes_records(site, client) -> None:
    answer = client.post(f"/{FEED}/files", files={"file": ("day.hl7", MESSAGE)})
    assert answer.status_code == 202
    assert answer.json() == [
        {"delivery": 1, "verdict": "landed", "size": len(MESSAGE), "sha256": hashlib.sha256(MESSAGE).hexdigest()}
    ]
    assert site.take(FEED)["published"] == 1
    assert site.rows("select name, state from ledger.delivery") == [("day.hl7", "read")]


def test_the_same_bytes_again_are_a_duplicate_and_others_under_the_name_a_correction(client) -> None:
    verdicts = []
    for data in (MESSAGE, MESSAGE, MESSAGE.replace(b"Ada", b"Eve")):
        [said] = client.post(f"/{FEED}/files", files={"file": ("day.hl7", data)}).json()
        verdicts.append(said["verdict"])
    assert verdicts == ["landed", "duplicate", "correction"]


def test_several_files_in_one_upload_are_deliveries_of_their_own(site, client) -> None:
    parts = [("file", (f"{n}.hl7", MESSAGE.replace(b"C1", b"C%d" % n))) for n in range(3)]
    answer = client.post(f"/{FEED}/files", files=parts, data={"note": "not a file"})
    assert [said["verdict"] for said in answer.json()] == ["landed"] * 3
    assert site.rows("select name from ledger.delivery order by id") == [("0.hl7",), ("1.hl7",), ("2.hl7",)]


def test_a_large_file_is_streamed(site, client) -> None:
    data = bytes(range(256)) * (64 << 12)
    [said] = client.post(f"/{FEED}/files", files={"file": ("big.hl7", data)}).json()
    assert (said["size"], said["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("said", "kept"),
    [("../../etc/passwd", "passwd"), ("C:\\drop\\day.hl7", "day.hl7"), ("größe.hl7", "größe.hl7"), ("a\x01b", "ab")],
)
def test_of_a_name_the_last_part_counts(site, client, said: str, kept: str) -> None:
    name = said.replace("\\", "\\\\")
    disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    body = f"--b\r\n{disposition}\r\n\r\nx\r\n--b--\r\n"
    head = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post(f"/{FEED}/files", content=body.encode(), headers=head).status_code == 202
    assert site.rows("select name from ledger.delivery") == [(kept,)]


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"x", "text/plain", 415),
        (b"x", "multipart/form-data", 415),
        (b"nonsense", "multipart/form-data; boundary=b", 400),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 400),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut',
            "multipart/form-data; boundary=b",
            400,
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            400,
        ),
    ],
)
def test_what_is_no_whole_upload_is_refused_and_nothing_is_kept(site, client, body, media, status) -> None:
    answer = client.post(f"/{FEED}/files", content=body, headers={"Content-Type": media})
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")
    assert site.rows("select from ledger.delivery") == []


def test_a_file_above_the_limit_is_refused(site) -> None:
    (site.feeds / f"{FEED}.yaml").write_text(CSV.format(more=", max_file: 4096"))
    answer = site.listen(FEED).post(f"/{FEED}/files", files={"file": ("big.hl7", b"x" * 100_000)})
    assert answer.status_code == 413
    assert site.rows("select from ledger.delivery") == []


def test_an_upload_that_is_cut_off_leaves_nothing(site, client) -> None:
    head = f"POST /{FEED}/files HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.hl7"\r\n\r\n' + MESSAGE
    with socket.create_connection((client.base_url.host, client.base_url.port)) as sender:
        sender.sendall(head.encode() + start)
        until = time.monotonic() + 30
        while not site.rows("select from ledger.delivery where state = 'landing'"):
            assert time.monotonic() < until
    until = time.monotonic() + 30
    while site.rows("select from ledger.delivery"):
        assert time.monotonic() < until


def test_a_token_needs_the_scope_of_files(site) -> None:
    site.configure(FEED, form="hl7v2", rest="timezone: UTC\n")
    client = site.listen(FEED)
    for scope, status in (("system/Patient.c", 403), ("system/Binary.c", 202), ("system/*.write", 202)):
        head = {"Authorization": f"Bearer {site.provider.token(scope)}"}
        assert client.post(f"/{FEED}/files", files={"f": ("a", MESSAGE)}, headers=head).status_code == status


def test_the_fhir_endpoint_is_not_there_for_a_feed_of_files(client) -> None:
    assert client.post(f"/{FEED}/fhir/Patient", json={}).status_code == 404
