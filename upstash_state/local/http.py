"""The HTTP half of the embedded endpoint: connections and threads, requests in, answers out."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from socketserver import ThreadingTCPServer
from typing import Any, NamedTuple, Protocol

logger = logging.getLogger(__name__)

# Threads are waited for, this long each, so that after close() nothing of a server is left.
_JOIN_SECONDS = 5.0


class Request(NamedTuple):
    """One request.

    Attributes:
        method: As it was sent.
        target: Path and query, as they were sent.
        headers: Looked up in any case.
        body: None when it was longer than allowed, and thrown away.
        body_bytes: Length of the body.
        bytes_received: Length of all of it.
        keep_alive: Whether the connection stays open.
    """

    method: str
    target: bytes
    headers: Message
    body: bytes | None
    body_bytes: int
    bytes_received: int
    keep_alive: bool


class Application(Protocol):
    """What answers the requests of a server. Called from many threads."""

    #: A longer body is read and dropped, so that the answer gets through.
    max_request_bytes: int

    def respond(self, request: Request) -> bytes: ...

    def respond_to_garbage(self, status: HTTPStatus, text: str) -> bytes: ...


def response(
    status: HTTPStatus,
    body: bytes,
    headers: Mapping[str, str],
    *,
    content_type: str = "application/json",
    keep_alive: bool = True,
    send_body: bool = True,
) -> bytes:
    """An answer in one piece: two small packets would wait for each other (Nagle, delayed ACK)."""
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if not keep_alive:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head + body if send_body else head


class Server(ThreadingTCPServer):
    """Listens, and has a daemon thread for each connection."""

    allow_reuse_address = True
    request_queue_size = 128
    # Seconds after which the accepting thread looks whether it should end.
    timeout = 1.0

    def __init__(
        self, host: str, port: int, application: Application, tls: ssl.SSLContext | None
    ) -> None:
        """Start to listen.

        Args:
            host: The address to bind to.
            port: The port, 0 for a free one.
            application: What answers.
            tls: What to speak TLS with, None for plain HTTP.

        Raises:
            OSError: The address cannot be used.
        """
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.application = application
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__((host, port), _Handler)
        #: The port that is listened on.
        self.port: int = self.socket.getsockname()[1]
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="upstash-local", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, cut every connection, wait for the threads."""
        self._closing = True
        with suppress(OSError):  # Wakes the accepting thread at once, instead of at its next look.
            socket.create_connection(self.socket.getsockname()[:2], timeout=1.0).close()
        self._thread.join(_JOIN_SECONDS)
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for thread, connection in connections.items():
            with suppress(OSError):  # It may have just ended by itself.
                # Not SSLSocket's own, which would have the thread go on in plain text.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            thread.join(_JOIN_SECONDS)

    def _accept(self) -> None:
        # Not serve_forever, which cannot be woken up: it would poll, or make every close() wait.
        while not self._closing:
            self.handle_request()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            # The handshake is left to the connection's thread: a silent client must not stop all.
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._lock:
            self._connections[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._connections[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that goes away, or does not speak our TLS, is no error of this side.
        if not isinstance(sys.exc_info()[1], OSError):
            logger.exception("the embedded endpoint failed to serve a connection")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # A kept connection that says nothing for so long is closed; so is one that stops mid-request.
    timeout = 120.0
    server: Server

    def _respond(self) -> None:
        application = self.server.application
        length_text = self.headers.get("Content-Length", "0")
        readable = length_text.isdecimal() and len(length_text) < 16
        if "Transfer-Encoding" in self.headers or not readable:
            self.send_error(HTTPStatus.LENGTH_REQUIRED, "the body needs a Content-Length")
            return
        length = int(length_text)
        body: bytes | None = None
        if length <= application.max_request_bytes:
            body = self.rfile.read(length)
            complete = len(body) == length
        else:
            complete = _skip(self.rfile, length)
        if not complete:
            self.close_connection = True
            return
        head = sum(len(f"{name}: {value}\r\n") for name, value in self.headers.items())
        answer = application.respond(
            Request(
                method=self.command,
                # http.server has decoded it as Latin-1.
                target=self.path.encode("latin-1"),
                headers=self.headers,
                body=body,
                body_bytes=length,
                bytes_received=len(self.requestline) + 2 + head + 2 + length,
                keep_alive=not self.close_connection,
            )
        )
        self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = _respond
    # Not served, but answered like the others, with the body read and the connection kept.
    do_DELETE = do_OPTIONS = do_PATCH = _respond

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code = HTTPStatus.METHOD_NOT_ALLOWED  # A method that even http.server never heard of.
        status = HTTPStatus(code)
        text = f"ERR {message or status.phrase}"
        self.wfile.write(self.server.application.respond_to_garbage(status, text))

    def log_message(self, format: str, *args: object) -> None:
        pass


def _skip(stream: BufferedIOBase, length: int) -> bool:
    while length:
        chunk = stream.read(min(length, 65_536))
        if not chunk:
            return False
        length -= len(chunk)
    return True
