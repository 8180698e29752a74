"""One connection of the server's, and the means to serve it well or badly."""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .server import FaultServer


@dataclass(frozen=True)
class Request:
    """A request as it came. Header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


def response(body: bytes, *, status: int = 200, headers: Mapping[str, str | None] = {}) -> bytes:
    """An HTTP/1.1 response. A header of None leaves one out that would be there by default."""
    phrase = HTTPStatus(status).phrase
    all_headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    lines = [f"{name}: {value}\r\n" for name, value in all_headers.items() if value is not None]
    return f"HTTP/1.1 {status} {phrase}\r\n{''.join(lines)}\r\n".encode("latin-1") + body


class Connection:
    """One accepted connection, and the means to serve it well or badly."""

    def __init__(self, server: FaultServer, sock: socket.socket) -> None:
        self.server = server
        self.open = True
        #: Set when the server ends the connection, for a fault that waits without reading.
        self.interrupted = threading.Event()
        #: How many requests were answered on this connection before the present one.
        self.served = 0
        self._sock = sock
        self._reader = sock.makefile("rb")
        self._request: Request | None = None
        self._answer: tuple[int, bytes] | None = None

    def secure(self, context: ssl.SSLContext) -> None:
        """Do the server's part of a TLS handshake."""
        self._reader.close()
        self._sock = context.wrap_socket(self._sock, server_side=True)
        self._reader = self._sock.makefile("rb")

    def wait(self) -> bool:
        """Wait for the first byte of the next request. False: there will be none."""
        self._request = self._answer = None
        return bool(self._reader.peek(1))

    def read(self) -> Request:
        """The request. It is read when it is first asked for, so a fault can leave it unread."""
        if self._request is None:
            first, *lines = iter(self._line, "")
            pairs = (line.split(": ", 1) for line in lines)
            headers = {name.lower(): value for name, value in pairs}
            body = self._reader.read(int(headers.get("content-length", "0")))
            self._request = Request(first.split(" ")[1], headers, body)
            self.server.requests.append(self._request)
        return self._request

    def _line(self) -> str:
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the client went away in the middle of a request")
        return line[:-2].decode("latin-1")

    def run(self) -> bytes:
        """Run the request's commands, once, and give the body of the right answer."""
        if self._answer is None:
            request = self.read()
            if self._gone():
                # What a client gave up must not be run after what it asked for next.
                raise ConnectionError("the client has gone away")
            status, answer = self.server.answer(request)
            self._answer = status, json.dumps(answer).encode()
        return self._answer[1]

    def reply(
        self,
        body: bytes | None = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str | None] = {},
    ) -> None:
        """Send an answer in good form, in all that is not given the right one."""
        if body is None:
            body = self.run()
        if status is None:
            status = self._answer[0] if self._answer else 200
        self.send(response(body, status=status, headers=headers))

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def trickle(self, data: bytes) -> None:
        """Send one byte at a time, at the server's pace, while the client is there."""
        for byte in data:
            self.send(bytes([byte]))
            if self.server.closing.wait(self.server.pace) or self._gone():
                return

    def _gone(self) -> bool:
        readable, _, _ = select.select([self._sock], [], [], 0)
        return bool(readable) and not self._sock.recv(65536)

    def hang(self) -> None:
        """Say nothing more until the client goes away or the server closes."""
        while self._sock.recv(65536):
            pass
        self.close()

    def close(self) -> None:
        """End the connection with a FIN."""
        self.open = False
        self._reader.close()
        self._sock.close()

    def reset(self) -> None:
        """End the connection with an RST."""
        # Closing with a linger time of zero is the way to have the kernel send one.
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def interrupt(self) -> None:
        """End the connection from another thread, whatever its own is waiting for."""
        self.interrupted.set()
        with suppress(OSError):
            # Not SSLSocket's own, which takes the TLS object from under the other thread.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
