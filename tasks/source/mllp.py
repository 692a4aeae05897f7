"""HL7 v2 over MLLP (`kind: mllp`): a listener lands what comes, so a poll finds nothing that it must fetch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.source.pushed import Duration, PushedSource, PushOptions


class MllpOptions(PushOptions):
    """What a feed says of its MLLP senders.

    - `port`: where the listener waits for them, unless the command names a port.
    - `tls`: the connection holds `certificate` and `key` (PEM, or a path to it), and `client_ca` for mutual TLS.
    - `certificates`: which clients are this partner, by a name in the certificate (subject CN, DNS name) or by
      `sha256:` and its fingerprint in hex.
    - `control_id`: `recycled` takes the same control id with other bytes as a new record with a finding, `unique`
      refuses it; both look back for `window`, in which the same bytes get the same acknowledgement again.
    - `messages` and `processing`: what of MSH-9 and MSH-11 is taken; nothing named is everything.
    - `application_ack`: whether MSH-16 is answered too, on the same connection.
    - `max_message` in bytes; `idle`, `frame` are how long a connection may be silent and a message may take.
    """

    port: int | None = Field(default=None, ge=1, le=65535)
    tls: bool = False
    certificates: tuple[str, ...] = ()
    control_id: Literal["recycled", "unique"] = "recycled"
    messages: tuple[str, ...] = ()
    processing: tuple[Literal["P", "T", "D"], ...] = ()
    application_ack: bool = True
    max_message: int = Field(default=64 << 20, ge=1024, le=64 << 20)
    max_connections: int = Field(default=2000, ge=1)
    idle: Duration = "1d"
    frame: Duration = "2m"


class MllpSource(PushedSource):
    """The polling side of an MLLP feed: there is nothing to poll."""

    Options = MllpOptions
