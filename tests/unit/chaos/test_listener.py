"""The port of a listener that is killed and begun again."""

import errno
import socket

import pytest

from infra.chaos.listener import Listener


def test_a_listeners_port_is_nobody_elses_while_the_listener_is_dead() -> None:
    one, other = Listener("mllp", "northside.hl7", {}), Listener("mllp", "northside.hl7", {})
    try:
        assert one.port != other.port, "two harnesses at once do not meet"
        with socket.socket() as foreign, pytest.raises(OSError) as refused:
            foreign.bind(("127.0.0.1", one.port))
        assert refused.value.errno == errno.EADDRINUSE
        for _ in range(2):
            with socket.create_server(("127.0.0.1", one.port)):
                socket.create_connection(("127.0.0.1", one.port)).close()
    finally:
        one.end()
        other.end()
