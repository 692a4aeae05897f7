"""Pages of a listing as S3 and its likes write them."""

from __future__ import annotations

import pytest
from botocore.parsers import ResponseParserError

from tasks.s3_pages import page

OBJECT = (
    "<Contents><Size>5</Size><Key>in/a&amp;b.csv</Key><ETag>&quot;e-2&quot;</ETag>"
    "<LastModified>2026-01-02T03:04:05.678Z</LastModified></Contents>"
)
TRUNCATED = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"


@pytest.mark.parametrize("space", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
def test_a_page_is_read_with_and_without_a_namespace(space: str) -> None:
    more = f"{TRUNCATED}<EncodingType>url</EncodingType>"
    read = page(f"<ListBucketResult{space}>{more}{OBJECT}</ListBucketResult>".encode())
    (found,) = read["Contents"]
    assert (read["IsTruncated"], read["NextContinuationToken"], read["EncodingType"]) == (True, "t", "url")
    assert (found["Key"], found["ETag"], found["Size"]) == ("in/a&b.csv", '"e-2"', 5)
    assert found["LastModified"].timestamp() == 1767323045.678


def test_the_last_page_ends_the_listing() -> None:
    assert page(b"<ListBucketResult/>") == {"IsTruncated": False, "Contents": []}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<ListBucketResult>",
        f"<L>{OBJECT.replace('<Size>5</Size>', '')}</L>".encode(),
        f"<L>{OBJECT.replace('2026', 'x')}</L>".encode(),
    ],
)
def test_half_a_page_is_an_error_and_not_the_end(body: bytes) -> None:
    with pytest.raises(ResponseParserError):
        page(body)
