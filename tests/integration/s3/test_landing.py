"""Landing in a bucket: the same store over S3, large objects in parts, nothing visible that was given up."""

from __future__ import annotations

import os
import uuid

import pytest

from infra.dev.s3 import S3Server
from tasks.errors import Permanent, Transient
from tasks.landing.objects import PART, S3Objects
from tasks.landing.store import CHUNK, Landing

KEYS = {"one": b"k" * 32}


@pytest.fixture(scope="module")
def server():
    with S3Server() as running:
        yield running


@pytest.fixture
def bucket(server):
    name = f"landing-{uuid.uuid4().hex[:8]}"
    client = server.client()
    client.create_bucket(Bucket=name)
    return client, name, S3Objects(name, "land/ed", server.connection(name))


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, PART + 3 * CHUNK + 5])
def test_what_is_written_is_read_back_from_any_offset(bucket, tmp_path, size):
    landing = Landing(tmp_path, KEYS, bucket[2])
    data = os.urandom(size)
    kept = landing.write("a.feed", "1", (data[at : at + 100_000] for at in range(0, size, 100_000)))
    assert kept.size == size
    assert b"".join(landing.read(kept.object)) == data
    for offset in {0, size // 2, max(0, size - 3)}:
        assert b"".join(landing.read(kept.object, offset, 10)) == data[offset : offset + 10]
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_the_plain_bytes_stands_in_the_bucket(bucket, tmp_path):
    client, name, objects = bucket
    kept = Landing(tmp_path, KEYS, objects).write("a.feed", "1", [b"a patient's name " * 10])
    stored = client.get_object(Bucket=name, Key=f"land/ed/{kept.object}")["Body"].read()
    assert b"patient" not in stored


def test_an_upload_that_breaks_off_leaves_no_object_and_no_parts(bucket, tmp_path):
    client, name, objects = bucket

    def broken():
        yield b"x" * (2 * PART)
        raise Transient("the source broke off")

    with pytest.raises(Transient):
        Landing(tmp_path, KEYS, objects).write("a.feed", "1", broken())
    assert client.list_objects_v2(Bucket=name).get("KeyCount") == 0
    assert client.list_multipart_uploads(Bucket=name).get("Uploads", []) == []


def test_an_object_that_is_not_there_says_so_and_removing_it_is_no_error(bucket, tmp_path):
    landing = Landing(tmp_path, KEYS, bucket[2])
    landing.remove("no/such")
    with pytest.raises(Permanent, match="not in the bucket"):
        list(landing.read("no/such"))


def test_a_rewrite_leaves_no_older_version_in_a_bucket_that_keeps_them(bucket, tmp_path):
    client, name, objects = bucket
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    landing = Landing(tmp_path, KEYS, objects)
    kept = landing.write("a.feed", "1", [b"gone" + b"stays"])
    neighbour = landing.write("a.feed", "2", [b"another"])
    landing.rewrite(kept.object, [(0, 4)])
    assert b"".join(landing.read(kept.object)) == bytes(4) + b"stays"
    versions = client.list_object_versions(Bucket=name)["Versions"]
    assert sorted(one["Key"] for one in versions) == sorted(f"land/ed/{one.object}" for one in (kept, neighbour))
