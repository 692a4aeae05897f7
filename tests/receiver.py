"""An HL7 v2 receiver on a real socket: it keeps what it was sent, acknowledges, and can be told to misbehave."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

VT, FS = b"\x0b", b"\x1c\r"
Act = Callable[[bytes], list[bytes] | None]


def control_of(message: bytes) -> bytes:
    return message.split(b"\r")[0].split(b"|")[9]


def ack(message: bytes, code: bytes = b"AA", more: bytes = b"", control: bytes | None = None) -> bytes:
    said = control_of(message) if control is None else control
    return b"MSH|^~\\&|THEM||US||20260309||ACK|1|P|2.5.1\rMSA|" + code + b"|" + said + b"\r" + more


class Receiver:
    """Keeps what it was sent; `script` says what it does with the next messages: answers, or None to hang up."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.messages: list[bytes] = []
        self.script: list[Act] = []
        self.connections = 0
        self.under_way = self.most = 0
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._accepting.join()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        with plain:
            try:
                with self._tls.wrap_socket(plain, server_side=True) if self._tls else plain as connection:
                    self._talk(connection)
            except OSError:
                return

    def _talk(self, connection: socket.socket) -> None:
        data = b""
        while more := connection.recv(65536):
            data += more
            self.most = max(self.most, data.count(VT))
            while FS in data:
                block, _, data = data.partition(FS)
                message = block.removeprefix(VT)
                self.messages.append(message)
                answers = (self.script.pop(0) if self.script else lambda one: [ack(one)])(message)
                if answers is None:
                    return
                for answer in answers:
                    connection.sendall(VT + answer + FS)
