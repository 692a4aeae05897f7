"""Puts the partners' files where their feeds look for them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from infra.dev.partners.model import DroppedFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OUTBOUND = "outbound"


def drop_sftp(home: Path, files: Iterable[DroppedFile]) -> None:
    """Write `files` to `outbound` in a partner's SFTP home, over what has the same name there.

    The time of change goes on by at least a second: SFTP sees nothing finer.
    """
    folder = home / OUTBOUND
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        place = folder / file.name
        before = int(place.stat().st_mtime) if place.exists() else 0
        place.write_bytes(file.data)
        changed = max(int(time.time()), before + 1)
        os.utime(place, (changed, changed))


def drop_s3(client: S3Client, bucket: str, files: Iterable[DroppedFile]) -> None:
    """Put `files` into `bucket` under their names, which are whole keys; makes the bucket where it is missing."""
    if bucket not in {found["Name"] for found in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)
    for file in files:
        client.put_object(Bucket=bucket, Key=file.name, Body=file.data)
