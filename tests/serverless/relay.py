"""A TCP relay on loopback that can forget its connections, as NAT gateways do, or delay them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from queue import SimpleQueue

_CHUNK = 65_536


class Relay:
    """Passes bytes on between its clients and one port of 127.0.0.1.

    Args:
        port: Where it passes them on to.
        delay: Seconds that bytes are on their way, in each direction. On loopback, connecting
            takes no time, and cannot be delayed from outside; so a client's first bytes set out
            no sooner than the round trip for that would have ended.
    """

    def __init__(self, port: int, *, delay: float = 0.0) -> None:
        self._target = port
        self._delay = delay
        self._forgotten = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        #: Whether to forget new connections at once.
        self.swallow = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        #: Where it listens.
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for sock in sockets:
            sock.close()

    def forget(self) -> None:
        """Pass on nothing more over the connections of now, and let nobody know."""
        self._forgotten.set()
        self._forgotten = threading.Event()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            forgotten = self._forgotten
            if self.swallow:
                forgotten = threading.Event()
                forgotten.set()
            with self._lock:
                self._sockets |= {client, server}
            for source, sink in ((client, server), (server, client)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                queue: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
                connected = time.monotonic() + (2 * self._delay if source is client else 0.0)
                self._spawn(self._take, source, queue, connected)
                self._spawn(self._give, sink, queue, forgotten)

    def _take(
        self, source: socket.socket, queue: SimpleQueue[tuple[float, bytes]], connected: float
    ) -> None:
        while True:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            queue.put((max(time.monotonic(), connected) + self._delay, data))
            if not data:
                return

    def _give(
        self,
        sink: socket.socket,
        queue: SimpleQueue[tuple[float, bytes]],
        forgotten: threading.Event,
    ) -> None:
        while True:
            due, data = queue.get()
            # Not before its time; returns at once, and for good, when all is forgotten.
            forgotten.wait(max(0.0, due - time.monotonic()))
            with suppress(OSError):
                if data and not forgotten.is_set():
                    sink.sendall(data)
                elif not forgotten.is_set():
                    sink.shutdown(socket.SHUT_WR)
            if not data:
                return

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()
