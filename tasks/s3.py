"""The way to S3: a client from a connection's values, and botocore's errors in the words of the error tree."""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as UnreachableError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError as TransportError

from tasks.errors import ConfigError, Permanent, Transient
from tasks.s3_pages import PageParserFactory

# Their lines hold keys of objects, addresses and, when debugging, headers.
for _name in ("boto3", "botocore", "s3transfer", "urllib3"):
    logging.getLogger(_name).setLevel(logging.ERROR)

_LATER = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException"}
_UNSET = (NoCredentialsError, PartialCredentialsError, NoRegionError, InvalidRegionError)


_BROKEN = (
    HTTPClientError,
    UnreachableError,
    IncompleteReadError,
    ResponseStreamingError,
    ResponseParserError,
    TransportError,
    OSError,
)


class Gone(Exception):
    """The object is not there, or no longer the one that was asked for."""


def client(service: str, values: Mapping[str, str], endpoint: str | None) -> Any:
    """Return a client of `service`, with the connection's keys or, without them, AWS's own chain."""
    try:
        core: Any = botocore.session.get_session()
        core.register_component("response_parser_factory", PageParserFactory())
        session: Any = boto3.session.Session(botocore_session=core)
        return session.client(
            service,
            endpoint_url=endpoint,
            region_name=values.get("region"),
            aws_access_key_id=values.get("access_key"),
            aws_secret_access_key=values.get("secret_key"),
            aws_session_token=values.get("session_token"),
            config=Config(
                connect_timeout=10,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": 4},
                max_pool_connections=32,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"} if endpoint else {},
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"the S3 connection cannot be used ({type(error).__name__}): check its values") from None


def customer_key(values: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    """Return the arguments for server-side encryption with the customer's key (SSE-C), 32 bytes in base64."""
    text = values.get("sse_customer_key")
    if not text:
        return {}
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise ConfigError("the S3 connection's `sse_customer_key` is not 32 bytes in base64")
    # Botocore writes the key's base64 and MD5 into the headers.
    return {f"{prefix}SSECustomerAlgorithm": "AES256", f"{prefix}SSECustomerKey": key}


class Unsupported(Permanent):
    """The store does not know what the request asks for."""


@contextlib.contextmanager
def typed(what: str) -> Iterator[None]:
    """Turn what botocore raises into `Gone`, `Transient`, `Permanent` or `ConfigError`; `what` is in the message."""
    try:
        yield
    except ClientError as error:
        raise _refusal(error, what) from None
    except _UNSET as error:
        raise ConfigError(
            f"{what} has no usable credentials or region ({type(error).__name__}): "
            "set `access_key`, `secret_key` and `region`"
        ) from None
    except _BROKEN as error:
        raise Transient(f"{what} broke off or does not answer ({type(error).__name__}): it is tried again") from None
    except BotoCoreError as error:
        raise Permanent(f"{what} cannot be called ({type(error).__name__}): check the connection's values") from None


def _refusal(error: ClientError, what: str) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return Permanent(f"{what} does not exist: check the connection's `bucket`")
    if status in (404, 412) or code in ("NoSuchKey", "NoSuchVersion", "PreconditionFailed"):
        return Gone()
    if status == 501 or code == "NotImplemented":
        return Unsupported(f"{what} does not know such a request ({code or status})")
    if code in _LATER or status >= 500 or status == 429:
        return Transient(f"{what} is busy ({code or status}): it is tried again")
    if status in (401, 403):
        return Permanent(f"{what} refuses ({code or status}): check the keys, their rights and `sse_customer_key`")
    return Permanent(f"{what} does not take the request ({code or status}): check the connection's values")
