"""The HTTP server of the embedded endpoint: connections, threads, framing."""

from __future__ import annotations

import logging
import re
import selectors
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, NamedTuple, Protocol

logger = logging.getLogger(__name__)

# close() waits so long for each thread, so that nothing of a server is left after it.
_JOIN_SECONDS = 5.0
# Above this size of a request and its answer, freed memory is returned to the system.
_LARGE_BYTES = 1_000_000
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?\r?\n")
# "https://host/path": RFC 9112, section 3.2.2, has every server accept it.
_ORIGIN = re.compile(rb"https?://[^/?]*", re.I)


class HttpRequest(NamedTuple):
    """One request.

    Attributes:
        method: The method, as it was sent.
        target: Path and query, as they were sent.
        headers: The headers; names are found in any case.
        body: The body, None if it was longer than the limit.
        body_bytes: Length of the body.
        bytes_received: Length of the whole request.
        connection: Value of the answer's header Connection, "" for none.
    """

    method: str
    target: bytes
    headers: Message
    body: bytes | None
    body_bytes: int
    bytes_received: int
    connection: str


class Application(Protocol):
    """Answers the requests of a server. Threads share it."""

    #: A longer body is read and dropped, so that the client can read the answer.
    max_request_bytes: int

    def respond(self, request: HttpRequest) -> bytes | Iterator[bytes]: ...

    def respond_to_garbage(self, status: HTTPStatus, text: str) -> bytes: ...


def head(status: HTTPStatus, headers: Mapping[str, str]) -> bytes:
    """Return the part of an answer before its body."""
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def response(
    status: HTTPStatus, headers: Mapping[str, str], body: bytes, *, send_body: bool = True
) -> bytes:
    """Return an answer in one piece: two packets would wait for each other (Nagle, delayed ACK)."""
    before = head(status, {**headers, "Content-Length": str(len(body))})
    return before + body if send_body else before


class Server(ThreadingTCPServer):
    """Listens, with a daemon thread for each connection."""

    # On Windows this would let two servers listen on one port.
    allow_reuse_address = sys.platform != "win32"
    request_queue_size = 128
    # Seconds after which the accepting thread checks whether it should end.
    timeout = 1.0

    def __init__(
        self, host: str, port: int, application: Application, tls: ssl.SSLContext | None
    ) -> None:
        """Start to listen.

        Args:
            host: The address to bind to.
            port: The port, 0 for a free one.
            application: Answers the requests.
            tls: The context for TLS, None for plain HTTP.

        Raises:
            OSError: The address cannot be used.
        """
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.application = application
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__((host, port), _Handler)
        #: The port.
        self.port: int = self.socket.getsockname()[1]
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="upstash-local", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, cut every connection, and wait for the threads."""
        self._closing = True
        with suppress(OSError):  # Wakes the accepting thread, which would check later.
            socket.create_connection(self.socket.getsockname()[:2], timeout=1.0).close()
        self._thread.join(_JOIN_SECONDS)
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections.values():
            with suppress(OSError):  # It may have ended a moment ago.
                # SSLSocket.shutdown would let the thread continue in plain text.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in connections:
            thread.join(_JOIN_SECONDS)

    def _accept(self) -> None:
        # serve_forever cannot be woken up: it would poll, or close() would wait.
        while not self._closing:
            self.handle_request()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            # The connection's thread does the handshake: a silent client must not stop the others.
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
        # A client that goes away, or does not speak TLS, is not an error of the endpoint.
        if not isinstance(sys.exc_info()[1], OSError):
            logger.exception("the embedded endpoint failed to serve a connection")


class _Unreadable(Exception):
    """Raised for a body without a clear end."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Seconds of silence after which a connection is closed, between requests or within one.
    timeout = 120.0
    server: Server
    raw_requestline: bytes

    def parse_request(self) -> bool:
        # Some clients send an empty line after a body (RFC 9112, section 2.2).
        while not self.raw_requestline.strip(b"\r\n") and self.raw_requestline:
            self.raw_requestline = self.rfile.readline(65_537)
        return super().parse_request()

    def _respond(self) -> None:
        try:
            if self._serve() > _LARGE_BYTES:
                _give_memory_back()
        except _Unreadable as error:
            self.send_error(HTTPStatus.BAD_REQUEST, str(error))
        except EOFError:
            self.close_connection = True

    def _serve(self) -> int:
        """Read the rest of a request and answer it. Return the bytes of both."""
        body, length, framing = self._body()
        connection = ""
        if self.close_connection:
            connection = "close"
        elif self.request_version == "HTTP/1.0":
            connection = "keep-alive"
        lines = [self.requestline, *(f"{name}: {text}" for name, text in self.headers.items()), ""]
        received = sum(len(line) + 2 for line in lines) + length + framing
        answer = self.server.application.respond(
            HttpRequest(
                method=self.command,
                # http.server has decoded it as Latin-1.
                target=_ORIGIN.sub(b"", self.path.encode("latin-1"), 1),
                headers=self.headers,
                body=body,
                body_bytes=length,
                bytes_received=received,
                connection=connection,
            )
        )
        if isinstance(answer, bytes):
            self.wfile.write(answer)
            return received + len(answer)
        self.close_connection = True
        with closing(answer) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                self.wfile.write(piece)
                if not piece and self._client_is_gone():
                    break
        return 0

    def _body(self) -> tuple[bytes | None, int, int]:
        """Return a request's body (None if it is over the limit), its length, and the framing's."""
        if self.headers.defects:  # The parser drops the lines that follow: RFC 9112, section 5.1.
            raise _Unreadable("a header line is not a name, a colon and a value")
        lengths = {
            length.strip()
            for header in self.headers.get_all("Content-Length", ["0"])
            for length in header.split(",")
        }
        codings = self.headers.get_all("Transfer-Encoding", [])
        if codings:
            # With both, two servers may disagree about the end: RFC 9112, section 6.1.
            if [coding.lower() for coding in codings] != ["chunked"] or lengths != {"0"}:
                raise _Unreadable("chunked, or a Content-Length, but not both and nothing else")
            return self._chunks()
        (length, *more) = lengths
        if more or not length.isdecimal() or len(length) > 15:
            raise _Unreadable("the Content-Length is not one number")
        return self._read(int(length), 0), int(length), 0

    def _chunks(self) -> tuple[bytes | None, int, int]:
        pieces: list[bytes | None] = []
        total = framing = 0
        while True:
            line = self._line()
            chunk = _CHUNK.fullmatch(line)
            if chunk is None:
                raise _Unreadable("a chunk has no length")
            framing += len(line)
            length = int(chunk[1], 16)
            if not length:
                break
            pieces.append(self._read(length, total))
            total += length
            framing += len(self._line())
        while line.strip():  # Trailers are ignored.
            line = self._line()
            framing += len(line)
        whole = [piece for piece in pieces if piece is not None]
        return b"".join(whole) if len(whole) == len(pieces) else None, total, framing

    def _line(self) -> bytes:
        line = self.rfile.readline(1000)
        if not line.endswith(b"\n"):
            raise EOFError
        return line

    def _read(self, length: int, before: int) -> bytes | None:
        """Read so many bytes. Drop them and return None if the body is over the limit."""
        keep = before + length <= self.server.application.max_request_bytes
        piece: bytes | None = self.rfile.read(length) if keep else None
        while not keep and length and (dropped := self.rfile.read(min(length, 65_536))):
            length -= len(dropped)
        if length if piece is None else len(piece) < length:
            raise EOFError
        return piece

    def _client_is_gone(self) -> bool:
        # The client sends nothing more, so its socket is readable only at the end.
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            return bool(selector.select(0))

    do_GET = do_HEAD = do_POST = do_PUT = do_OPTIONS = _respond
    # Refused by the application, which leaves the connection usable.
    do_DELETE = do_PATCH = _respond

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code = HTTPStatus.METHOD_NOT_ALLOWED  # A method that http.server does not know.
        status = HTTPStatus(code)
        text = f"ERR {message or status.phrase}"
        self.wfile.write(self.server.application.respond_to_garbage(status, text))

    def log_message(self, format: str, *args: object) -> None:
        pass


def _give_memory_back() -> None:
    # glibc keeps the memory that a thread frees for the same thread, and each connection has one.
    # Other C libraries neither have nor need this function.
    with suppress(ImportError, OSError, AttributeError, TypeError):
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
