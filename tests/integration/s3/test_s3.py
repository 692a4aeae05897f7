"""The S3 source against the embedded server, and against what S3 and networks do."""

from __future__ import annotations

import base64
import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest

from infra.dev.s3 import S3Server
from tasks.errors import ConfigError, Permanent, SluiceError, Transient
from tasks.model import Offer
from tasks.source.memory import MemoryState
from tasks.source.s3 import S3Options, S3Source

_numbers = itertools.count(1)


def build(server: S3Server, bucket: str, connection: dict[str, str] | None = None, **options: Any) -> S3Source:
    values = {"kind": "s3", "path": "out", **options}
    return S3Source(S3Options.model_validate(values), {**server.connection(bucket), **(connection or {})})


def put(server: S3Server, bucket: str, key: str, data: bytes) -> None:
    server.client().put_object(Bucket=bucket, Key=key, Body=data)


def land(source: S3Source, state: MemoryState) -> dict[str, bytes]:
    taken = {}
    for offer in source.poll(state):
        taken[offer.name] = b"".join(source.read(offer))
        state.land(offer)
        source.finish(offer, state)
    source.done(state)
    return taken


def refusal(make: Callable[[], object], kind: type[SluiceError]) -> str:
    with pytest.raises(kind) as raised:
        make()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.slow
def test_a_listing_of_several_pages_is_whole(server: S3Server, bucket: str) -> None:
    client = server.client()
    for number in range(1100):
        client.put_object(Bucket=bucket, Key=f"out/{number:05}.csv", Body=b"")
    assert len(list(build(server, bucket).poll(MemoryState()))) == 1100


def test_a_key_that_sorts_before_all_that_was_landed_is_still_seen(server: S3Server, bucket: str) -> None:
    source, state = build(server, bucket), MemoryState()
    put(server, bucket, "out/m.csv", b"m")
    assert land(source, state) == {"m.csv": b"m"}
    put(server, bucket, "out/a.csv", b"a")
    assert land(source, state) == {"a.csv": b"a"}


def test_prefix_and_suffix_and_folders_are_told_apart(server: S3Server, bucket: str) -> None:
    for key in (
        "out/lab-1.csv",
        "out/lab-2.txt",
        "out/other.csv",
        "out/in/lab-3.csv",
        "out/in/",
        "outside/lab-4.csv",
        "lab-5.csv",
    ):
        put(server, bucket, key, b"x")
    assert set(land(build(server, bucket, match="lab-*.csv"), MemoryState())) == {"lab-1.csv"}
    assert set(land(build(server, bucket, match="**/lab-*.csv"), MemoryState())) == {"lab-1.csv", "in/lab-3.csv"}
    assert set(land(build(server, bucket, path="", match="*.csv"), MemoryState())) == {"lab-5.csv"}


def test_an_object_deleted_while_the_listing_goes_on_is_transient_and_the_rest_is_taken(
    server: S3Server, bucket: str
) -> None:
    for name in "abc":
        put(server, bucket, f"out/{name}", name.encode())
    source, state = build(server, bucket), MemoryState()
    taken, gone = {}, []
    for offer in source.poll(state):
        server.client().delete_object(Bucket=bucket, Key="out/b")
        try:
            taken[offer.name] = b"".join(source.read(offer))
        except Transient:
            gone.append(offer.name)
    assert (set(taken), gone) == ({"a", "c"}, ["b"])


def test_a_multipart_objects_etag_is_not_taken_for_a_checksum(server: S3Server, bucket: str) -> None:
    parts = [os.urandom(5 * 1024 * 1024), b"the rest"]
    client = server.client()
    upload = client.create_multipart_upload(Bucket=bucket, Key="out/big")["UploadId"]
    done = [
        {
            "PartNumber": n,
            "ETag": client.upload_part(Bucket=bucket, Key="out/big", UploadId=upload, PartNumber=n, Body=part)["ETag"],
        }
        for n, part in enumerate(parts, 1)
    ]
    client.complete_multipart_upload(Bucket=bucket, Key="out/big", UploadId=upload, MultipartUpload={"Parts": done})
    source, state = build(server, bucket, after="archive"), MemoryState()
    assert land(source, state) == {"big": b"".join(parts)}
    assert land(source, state) == {}


def test_a_versioned_bucket_keeps_what_is_deleted_and_corrections_are_offered(server: S3Server, bucket: str) -> None:
    client = server.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    source, state = build(server, bucket, after="delete"), MemoryState()
    for data in (b"first", b"corrected"):
        put(server, bucket, "out/a", data)
        assert land(source, state) == {"a": data}
    assert land(source, state) == {}
    assert len(client.list_object_versions(Bucket=bucket)["Versions"]) == 2


def test_an_archive_that_was_copied_before_a_crash_is_not_copied_again(server: S3Server, bucket: str) -> None:
    put(server, bucket, "out/a", b"x")
    put(server, bucket, "out/archive/a", b"x")
    source, state = build(server, bucket, after="archive"), MemoryState()
    assert land(source, state) == {"a": b"x"}
    assert [each["Key"] for each in server.client().list_objects_v2(Bucket=bucket)["Contents"]] == ["out/archive/a"]


@pytest.mark.parametrize(
    ("values", "word"),
    [({"bucket": ""}, "`bucket`"), ({"sse_customer_key": "c2hvcnQ="}, "32 bytes"), ({"sqs_queue_url": "q"}, "no URL")],
)
def test_what_is_wrong_in_the_connection_is_named(
    server: S3Server, bucket: str, values: dict[str, str], word: str
) -> None:
    assert word in refusal(lambda: build(server, bucket, values), ConfigError)


def test_no_credentials_anywhere_is_a_mistake_of_configuration(
    server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    source = S3Source(
        S3Options(kind="s3"), {"endpoint_url": server.endpoint_url, "bucket": bucket, "region": "us-east-1"}
    )
    assert "`access_key`" in refusal(lambda: land(source, MemoryState()), ConfigError)


def test_a_bucket_that_is_not_there_is_permanent(server: S3Server) -> None:
    assert "`bucket`" in refusal(lambda: land(build(server, "nowhere"), MemoryState()), Permanent)


def test_a_server_that_is_not_there_is_transient(server: S3Server, bucket: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = build(server, bucket, {"endpoint_url": f"http://127.0.0.1:{port}"})
    refusal(lambda: land(source, MemoryState()), Transient)


def queue(server: S3Server) -> str:
    made: str = server.client("sqs").create_queue(QueueName=f"events-{next(_numbers)}")["QueueUrl"]
    return f"{server.endpoint_url}{urlsplit(made).path}"


def tell(server: S3Server, url: str, bucket: str, *keys: str, form: str = "s3") -> None:
    records = [
        {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}}
        for key in keys
    ]
    body: Any = {"Records": records}
    if form == "sns":
        body = {"Type": "Notification", "Message": json.dumps(body)}
    if form == "eventbridge":
        body = {"detail-type": "Object Created", "detail": {"bucket": {"name": bucket}, "object": {"key": keys[0]}}}
    server.client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps(body))


def waiting(server: S3Server, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = server.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def test_between_two_listings_only_what_notifications_name_is_looked_at(server: S3Server, bucket: str) -> None:
    url, state = queue(server), MemoryState()
    source = build(server, bucket, {"sqs_queue_url": url}, match="*.csv", after="archive")
    put(server, bucket, "out/before.csv", b"0")
    assert set(land(source, state)) == {"before.csv"}
    for name in ("größe & co.csv", "b.csv", "untold.csv", "archive/old.csv"):
        put(server, bucket, f"out/{name}", b"1")
    tell(server, url, bucket, "out/b.csv")
    tell(server, url, bucket, "out/größe & co.csv", "out/b.csv", "elsewhere/c.csv", form="sns")
    tell(server, url, bucket, "out/b.csv", form="eventbridge")
    tell(server, url, bucket, "out/deleted.csv", "out/archive/old.csv")
    server.client("sqs").send_message(QueueUrl=url, MessageBody='{"Event": "s3:TestEvent"}')
    server.client("sqs").send_message(QueueUrl=url, MessageBody="nonsense")
    assert set(land(source, state)) == {"größe & co.csv", "b.csv"}
    assert waiting(server, url) == 0
    assert land(source, state) == {}


def test_the_listing_finds_what_no_notification_named(server: S3Server, bucket: str) -> None:
    url, state = queue(server), MemoryState()
    source = build(server, bucket, {"sqs_queue_url": url}, rescan=0)
    assert land(source, state) == {}
    put(server, bucket, "out/untold.csv", b"1")
    assert set(land(source, state)) == {"untold.csv"}


def test_notifications_are_kept_until_their_objects_are_landed(server: S3Server, bucket: str) -> None:
    url, state = queue(server), MemoryState()
    state.save({"listed": 4_000_000_000})
    put(server, bucket, "out/a.csv", b"1")
    tell(server, url, bucket, "out/a.csv")
    source = build(server, bucket, {"sqs_queue_url": url})
    assert [offer.name for offer in source.poll(state)] == ["a.csv"]
    assert waiting(server, url) == 1
    source.done(state)
    assert waiting(server, url) == 0


class Scripted(BaseHTTPRequestHandler):
    """Answers as the test says: what moto does not do."""

    protocol_version = "HTTP/1.1"
    answer: Callable[[BaseHTTPRequestHandler], None]

    def do_GET(self) -> None:
        type(self).answer(self)

    do_HEAD = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@pytest.fixture
def scripted() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], dict[str, str]]]:
    servers = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> dict[str, str]:
        handler = type("Handler", (Scripted,), {"answer": staticmethod(answer)})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return {"endpoint_url": f"http://127.0.0.1:{server.server_port}"}

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def failure(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>MARKER-NAME</Message></Error>".encode()


@pytest.mark.parametrize(
    "case",
    [
        (503, "SlowDown", Transient),
        (500, "InternalError", Transient),
        (429, "TooManyRequests", Transient),
        (403, "AccessDenied", Permanent),
        (403, "SignatureDoesNotMatch", Permanent),
        (400, "AuthorizationHeaderMalformed", Permanent),
    ],
)
def test_refusals_are_typed_by_whether_they_pass(
    server: S3Server, scripted: Any, caplog: pytest.LogCaptureFixture, case: tuple[int, str, type[SluiceError]]
) -> None:
    status, code, kind = case
    caplog.set_level(logging.DEBUG)
    connection = scripted(lambda handler: send(handler, status, failure(code)))
    text = refusal(lambda: land(build(server, "b", connection), MemoryState()), kind)
    assert code in text
    assert "MARKER" not in text + caplog.text


def listing(keys: list[str], token: str | None) -> bytes:
    rows = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"e"</ETag><Size>5</Size></Contents>'
        for key in keys
    )
    following = (
        f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    )
    return f"<?xml version='1.0'?><ListBucketResult>{rows}{following}</ListBucketResult>".encode()


def test_a_listing_is_read_page_by_page_as_it_is_asked_for(server: S3Server, scripted: Any) -> None:
    asked: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        token = parse_qs(urlsplit(handler.path).query).get("continuation-token", [None])[0]
        asked.append(token)
        number = int(token or 0)
        send(handler, 200, listing([f"out/{number}-{n}" for n in range(3)], str(number + 1) if number < 2 else None))

    polled = build(server, "b", scripted(answer)).poll(MemoryState())
    assert next(polled).name == "0-0"
    assert asked == [None]
    assert [offer.name for offer in polled][-1] == "2-2"
    assert asked == [None, "1", "2"]


def test_a_body_that_breaks_off_is_transient_and_reading_goes_on_at_the_offset(server: S3Server, scripted: Any) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        assert handler.headers["If-Match"] == '"e"'
        if handler.headers["Range"] == "bytes=2-":
            return send(handler, 206, b"cde", ETag='"e"')
        handler.send_response(200)
        handler.send_header("ETag", '"e"')
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"ab")
        handler.close_connection = True
        return None

    source = build(server, "b", scripted(answer))
    offer = Offer("a", "e-1", 5, {"etag": "e"})
    with pytest.raises(Transient):
        b"".join(source.read(offer))
    assert b"".join(source.read(offer, 2)) == b"cde"


def test_a_replaced_object_is_noticed_by_its_etag(server: S3Server, scripted: Any) -> None:
    source = build(server, "b", scripted(lambda handler: send(handler, 412, failure("PreconditionFailed"))))
    assert "changed" in refusal(lambda: b"".join(source.read(Offer("a", "e-1", 5, {"etag": "e"}))), Transient)


def test_a_store_that_heeds_no_if_match_is_noticed_by_what_it_sends(server: S3Server, scripted: Any) -> None:
    source = build(server, "b", scripted(lambda handler: send(handler, 200, b"other", ETag='"f"')))
    assert "changed" in refusal(lambda: b"".join(source.read(Offer("a", "e-1", 5, {"etag": "e"}))), Transient)


@pytest.mark.parametrize("status", [412, 501])
def test_what_comes_in_place_of_a_landed_object_at_the_last_moment_is_not_deleted_where_the_store_can_tell(
    server: S3Server, scripted: Any, status: int
) -> None:
    deletes: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "DELETE":
            deletes.append(handler.headers["If-Match"])
            code = "PreconditionFailed" if status == 412 else "NotImplemented"
            return send(handler, status, failure(code)) if deletes[-1] else send(handler, 204)
        modified = datetime(2026, 1, 1, tzinfo=UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        return send(handler, 200, b"abcde", ETag='"e"', Last_Modified=modified)

    source = build(server, "b", scripted(answer), after="delete")
    source.finish(Offer("a", "e-1767225600", 5, {"etag": "e"}), MemoryState())
    assert deletes == (['"e"'] if status == 412 else ['"e"', None])


def test_the_customers_key_goes_with_every_request_for_the_object(server: S3Server, scripted: Any) -> None:
    key, seen = os.urandom(32), []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.command, handler.headers["x-amz-server-side-encryption-customer-key"]))
        modified = datetime(2026, 1, 1, tzinfo=UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        send(handler, 200, b"abcde", ETag='"e"', Last_Modified=modified)

    source = build(server, "b", {**scripted(answer), "sse_customer_key": base64.b64encode(key).decode()})
    offer = Offer("a", "e-1767225600", 5, {"etag": "e"})
    assert b"".join(source.read(offer)) == b"abcde"
    assert b"".join(source.read(offer, 5)) == b""
    assert seen == [("GET", base64.b64encode(key).decode()), ("HEAD", base64.b64encode(key).decode())]


def test_the_server_says_where_it_listens_and_ends_when_it_is_told_to() -> None:
    command = [sys.executable, "-m", "infra.dev.s3", "--port", "0", "--bucket", "demo"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    _, url = running.stdout.readline().split()
    source = S3Source(
        S3Options(kind="s3"),
        {"endpoint_url": url, "bucket": "demo", "access_key": "a", "secret_key": "b", "region": "us-east-1"},
    )
    assert land(source, MemoryState()) == {}
    running.terminate()
    assert running.wait() == 0
    running.stdout.close()
