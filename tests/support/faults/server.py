"""A REST endpoint on loopback that misbehaves on demand, over plain TCP or over TLS.

By default it speaks the protocol correctly, over a dict. What it can do wrong is in the catalogues.
Raw sockets, since a server that was made to keep the rules of HTTP cannot be told to break them.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.support.servers import port_of, reserve_port

from .certificates import Certificates
from .connection import Connection, Request
from .fault import Fault, Stage
from .redis import TinyRedis

# Nothing waits longer than this, so that a mistake ends a test and not the run.
LIMIT = 30.0


class FaultServer:
    """The endpoint. A thread for each connection; `close` ends them all.

    Args:
        certificates: To speak TLS with. None: plain TCP.
    """

    token = "fault-server-token-0123456789"

    def __init__(self, certificates: Certificates | None = None) -> None:
        self.certificates = certificates
        self.redis = TinyRedis()
        #: The last requests that were read. Not all, since a soak sends a great many.
        self.requests: deque[Request] = deque(maxlen=100)
        #: How often each fault struck, by name.
        self.struck: Counter[str] = Counter()
        #: Decides on each connection and request that no plan is made for.
        self.choose: Callable[[Stage], Fault | None] = lambda stage: None
        #: Seconds between the bytes of what trickles.
        self.pace = 0.5
        #: Where redirects lead.
        self.elsewhere = "http://localhost:9/"
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._plan: deque[Fault | None] = deque()
        self._for_good: Fault | None = None
        self._threads: dict[Connection, threading.Thread] = {}
        self._failures: list[Exception] = []
        # While nobody listens, the port stays ours.
        self._reserved = reserve_port()
        self._port = port_of(self._reserved)
        self._listener: socket.socket | None = None
        self._listen()

    @property
    def url(self) -> str:
        scheme = "https" if self.certificates else "http"
        return f"{scheme}://localhost:{self._port}"

    def __enter__(self) -> FaultServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection and thread, and raise what went wrong in the server itself."""
        self.closing.set()
        self._stop_listening()
        self._reserved.close()
        self._drop_connections()
        if self._failures:
            raise self._failures[0]

    def plan(self, fault: Fault, times: int | None = 1, *, after: int = 0) -> None:
        """Misbehave from now on, on the next occasions that the fault fits.

        Connections that are open are ended when the fault strikes new ones only, as they are when
        an endpoint goes down.

        Args:
            fault: What to do.
            times: How often. None: until `clear`.
            after: How many requests to answer well before.
        """
        with self._lock:
            self._plan.extend([None] * after)
            if times is None:
                self._for_good = fault
            else:
                self._plan.extend([fault] * times)
        if fault.stage is Stage.LISTENING:
            self._stop_listening()
        if fault.stage is not Stage.ANSWERING:
            self._drop_connections()

    def clear(self) -> None:
        """Forget all plans and behave."""
        with self._lock:
            self._plan.clear()
            self._for_good = None
            self.struck.clear()
        if self._listener is None:
            self._listen()

    def answer(self, request: Request) -> tuple[int, Any]:
        """The status and the JSON value that the protocol asks for."""
        # nginx's limit, for one (large_client_header_buffers).
        if any(len(value) > 8000 for value in request.headers.values()):
            return 431, {"error": "ERR header too large"}
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"error": "WRONGPASS invalid or missing auth token"}
        # One of the real servers refuses any other, even with a charset.
        if request.headers.get("content-type") != "application/json":
            return 400, {"error": "ERR content type is not application/json"}
        commands = json.loads(request.body)
        if request.path == "/":
            answer = self.redis.run(commands)
            return 400 if "error" in answer else 200, answer
        if request.path in ("/pipeline", "/multi-exec"):
            return 200, [self.redis.run(command) for command in commands]
        return 404, {"error": "ERR no such path"}

    def _listen(self) -> None:
        # `create_server` sets SO_REUSEADDR.
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._acceptor = threading.Thread(target=self._accept, args=[self._listener], daemon=True)
        self._acceptor.start()

    def _stop_listening(self) -> None:
        if self._listener is None:
            return
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(LIMIT)
        self._listener.close()
        self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(LIMIT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock)
            thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
            with self._lock:
                self._threads[connection] = thread
            thread.start()

    def _drop_connections(self) -> None:
        with self._lock:
            threads = dict(self._threads)
        for connection in threads:
            connection.interrupt()
        for thread in threads.values():
            thread.join(LIMIT)

    def _serve(self, connection: Connection) -> None:
        try:
            self._serve_requests(connection)
        except OSError:
            # The client or `interrupt` ended the connection, which is what faults are made for.
            pass
        except Exception as error:
            self._failures.append(error)
        finally:
            with suppress(OSError):
                connection.close()
            with self._lock:
                del self._threads[connection]

    def _serve_requests(self, connection: Connection) -> None:
        fault = self._next_fault(connection, Stage.ACCEPTING)
        if fault is not None:
            fault.act(connection)
        elif self.certificates is not None:
            connection.secure(self.certificates.right)
        while connection.open and connection.wait():
            fault = self._next_fault(connection, Stage.ANSWERING)
            if fault is None:
                connection.reply()
            else:
                fault.act(connection)
            if connection.open:
                # What the fault left unread is not to be taken for the next request.
                connection.read()
                connection.served += 1

    def _next_fault(self, connection: Connection, stage: Stage) -> Fault | None:
        # Held while `fits` reads the request: the next in the plan is for the one that comes first.
        with self._lock:
            fault = self._plan[0] if self._plan else self._for_good or self.choose(stage)
            if fault is None:
                if self._plan and stage is Stage.ANSWERING:
                    self._plan.popleft()
                return None
            if fault.stage is not stage or not fault.fits(connection):
                return None
            if self._plan:
                self._plan.popleft()
            self.struck[fault.name] += 1
            return fault
