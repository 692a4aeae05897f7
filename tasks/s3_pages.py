"""Pages of listings, read fast: botocore's own parser takes 200 µs a key, so that a large bucket would take minutes.

Requests, signatures, retries and errors stay botocore's; only the XML of a page that came is read here
(ListObjectsV2 in the S3 API reference).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from xml.etree import ElementTree as ET

from botocore.parsers import ResponseParserError, ResponseParserFactory, RestXMLParser


class PageParserFactory(ResponseParserFactory):  # type: ignore[misc, unused-ignore]
    """Gives clients the parser that reads pages fast; everything else is botocore's."""

    def create_parser(self, protocol_name: str) -> Any:
        """Return the parser of a protocol."""
        if protocol_name == "rest-xml":
            return _PageParser()
        return super().create_parser(protocol_name)


class _PageParser(RestXMLParser):  # type: ignore[misc, unused-ignore]
    def parse(self, response: Any, shape: Any) -> Any:
        if shape is not None and shape.name == "ListObjectsV2Output" and response["status_code"] == 200:
            return {**page(response["body"]), "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}
        return super().parse(response, shape)


def page(body: bytes) -> dict[str, Any]:
    """Return a page's `Contents` (`Key`, `ETag`, `LastModified`, `Size`), `IsTruncated` and what goes on from it.

    Raises botocore's `ResponseParserError` where it is no whole page.
    """
    try:
        # The same parser, of the same bytes, as botocore's.
        root = ET.fromstring(body)  # noqa: S314
        space = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
        found = {name: root.findtext(space + name) for name in ("EncodingType", "NextContinuationToken")}
        wanted = tuple(space + name for name in ("Key", "ETag", "LastModified", "Size"))
        return {
            **{name: text for name, text in found.items() if text},
            "IsTruncated": root.findtext(f"{space}IsTruncated") == "true",
            "Contents": [_object(element, wanted) for element in root.iterfind(f"{space}Contents")],
        }
    except (ET.ParseError, ValueError, TypeError):
        raise ResponseParserError("a page of a listing is not whole") from None


def _object(element: ET.Element, wanted: tuple[str, ...]) -> dict[str, Any]:
    key, etag, modified, size = (element.findtext(name) for name in wanted)
    if key is None or modified is None or size is None:
        raise ValueError("an object without key, time or size")
    return {"Key": key, "ETag": etag or "", "LastModified": datetime.fromisoformat(modified), "Size": int(size)}
