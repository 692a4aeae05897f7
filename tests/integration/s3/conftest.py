"""The embedded S3 and SQS, and an empty bucket."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from infra.dev.s3 import S3Server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server) -> str:
    name = f"eastlab-{next(_numbers)}"
    server.client().create_bucket(Bucket=name)
    return name
