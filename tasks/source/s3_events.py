"""Notifications of a bucket through SQS: a hint which objects to look at between two whole listings.

They come at least once and in any order, and one may be lost: an object is asked for before it is believed, a queue
is emptied only after the landing, and the whole listing is still taken every so often.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import structlog

from mappings.engine.json import loads
from tasks.errors import ConfigError
from tasks.s3 import client, typed
from tasks.source.port import SourceState

log = structlog.get_logger(__name__)
ROUNDS = 1000
"""Receives of ten messages in one poll; what is left waits for the next."""


class Hints:
    """What a queue says about objects below a path of one bucket."""

    def __init__(self, options: Any, values: Mapping[str, str], bucket: str, path: str) -> None:
        """Take an `S3Options`; rules that look at several objects or polls need the whole listing, hints or not."""
        self._url, self._bucket, self._path = values["sqs_queue_url"], bucket, path
        parts = urlsplit(self._url)
        if not parts.scheme or not parts.netloc:
            raise ConfigError("the S3 connection's `sqs_queue_url` is no URL")
        self._sqs = client("sqs", values, f"{parts.scheme}://{parts.netloc}")
        self._rescan = options.rescan
        self._alone = options.ready.stable_polls == 1 or options.ready.rename_from is not None
        self._receipts: list[str] = []
        self._names: list[str] | None = None
        self._listed: float | None = None

    def receive(self, state: SourceState) -> None:
        """Take what is in the queue and decide whether this poll needs the whole listing."""
        self._receipts, names = [], {}
        for message in self._messages():
            self._receipts.append(message["ReceiptHandle"])
            names.update(dict.fromkeys(self._told(message["Body"])))
        listed = float(state.cursor().get("listed", 0))
        whole = not self._alone or time.time() - listed >= self._rescan
        self._names, self._listed = (None, time.time()) if whole else (list(names), None)

    def names(self) -> list[str] | None:
        """Return the names that this poll looks at, None for all."""
        return self._names

    def done(self, state: SourceState) -> None:
        """Delete the messages, and keep the time of a whole listing."""
        with typed("the queue of notifications"):
            for start in range(0, len(self._receipts), 10):
                batch = enumerate(self._receipts[start : start + 10])
                entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in batch]
                self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
        self._receipts = []
        if self._listed is not None:
            state.save({**state.cursor(), "listed": self._listed})

    def close(self) -> None:
        """Give up connections."""
        self._sqs.close()

    def _messages(self) -> Iterator[dict[str, Any]]:
        for _ in range(ROUNDS):
            with typed("the queue of notifications"):
                found = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", [])
            if not found:
                return
            yield from found

    def _told(self, body: str) -> Iterator[str]:
        try:
            keys = list(_keys(loads(body), self._bucket))
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("notification-not-understood", bucket=self._bucket)
            return
        yield from (key[len(self._path) :] for key in keys if key.startswith(self._path))


def _keys(event: Any, bucket: str) -> Iterator[str]:
    """Yield the keys that an event says were created: S3's own form, SNS around it, or EventBridge's."""
    if "Message" in event and "Records" not in event:
        yield from _keys(loads(event["Message"]), bucket)
        return
    for record in event.get("Records", ()):
        if record["eventName"].startswith("ObjectCreated:") and record["s3"]["bucket"]["name"] == bucket:
            yield unquote_plus(record["s3"]["object"]["key"])
    if event.get("detail-type") == "Object Created" and event["detail"]["bucket"]["name"] == bucket:
        yield event["detail"]["object"]["key"]
