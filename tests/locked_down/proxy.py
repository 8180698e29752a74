"""An HTTP proxy that knows CONNECT only (RFC 9110, section 9.3.6), and may open what it tunnels."""

from __future__ import annotations

import base64
import select
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

LIMIT = 30.0
_CHUNK = 65_536


@dataclass(frozen=True)
class Interception:
    """How a proxy opens TLS: with a certificate of its own to the client, as a client beyond.

    Attributes:
        as_server: What it shows to the client.
        as_client: What it trusts beyond.
    """

    as_server: ssl.SSLContext
    as_client: ssl.SSLContext


class Proxy:
    """Listens on one address; a thread for each connection.

    Attributes:
        established: What tells a client that it may go on.

    Args:
        ports: The ports of 127.0.0.1 that hosts stand for, by `name:port`. The proxy alone
            knows them, as it would be with a firewall that lets no name lookup through.
        host: The address to listen on.
        port: The port to listen on, 0 for a free one.
        credentials: `user:password` that clients must give, None for none.
        interception: How to open what is tunnelled, None for not at all.
        tls: The context for clients that reach the proxy itself over TLS, None for plain TCP.
    """

    established = b"HTTP/1.1 200 Connection established\r\n\r\n"

    def __init__(
        self,
        ports: Mapping[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        credentials: str | None = None,
        interception: Interception | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        #: What it was asked for: `name:port` for each CONNECT, in order.
        self.asked: list[str] = []
        #: What it saw of requests that it opened.
        self.seen = b""
        #: How many requests it will not be able to serve.
        self.trouble = 0
        self._ports = ports
        self._expected = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
        self._interception = interception
        self._tls = tls
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server((host, port))
        #: Where it listens.
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            with suppress(OSError):
                # Not SSLSocket's own, which would have the thread go on in plain text.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(LIMIT)
            self._sockets.append(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        if self._tls is not None:
            try:
                client = self._tls.wrap_socket(client, server_side=True)
            except OSError:
                return
            self._sockets.append(client)
        with client, suppress(OSError):
            target, port = self._admit(client)
            if port is None:
                return
            with socket.create_connection(("127.0.0.1", port), LIMIT) as server:
                self._sockets.append(server)
                client.sendall(self.established)
                if self._interception is None:
                    self._pass_on(client, server)
                    return
                name = target.rpartition(":")[0]
                with (
                    self._interception.as_server.wrap_socket(client, server_side=True) as inner,
                    self._interception.as_client.wrap_socket(server, server_hostname=name) as outer,
                ):
                    self._sockets += [inner, outer]
                    self._pass_on(inner, outer)

    def _admit(self, client: socket.socket) -> tuple[str, int | None]:
        """Read the head of a request. Gives what it asks for, and the port if it may have it."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(_CHUNK)
        request, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = request.split(" ")
        self.asked.append(target)
        headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
        if self._expected and headers.get("proxy-authorization") != self._expected:
            answer = "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic"
        elif method != "CONNECT" or target not in self._ports:
            answer = "403 Forbidden"
        elif self.trouble:
            self.trouble -= 1
            answer = "503 Service Unavailable"
        else:
            return target, self._ports[target]
        client.sendall(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())
        return target, None

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        others = {client: server, server: client}
        while True:
            ready = [s for s in others if isinstance(s, ssl.SSLSocket) and s.pending()]
            for sock in ready or select.select(list(others), [], [], LIMIT)[0]:
                data = sock.recv(_CHUNK)
                if not data:
                    return
                if self._interception is not None and sock is client:
                    self.seen += data
                others[sock].sendall(data)
