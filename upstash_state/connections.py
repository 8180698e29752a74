"""Kept connections that respect a deadline, beneath `requests`.

A timeout given to requests or urllib3 bounds each single read, so an endpoint that sends a byte
every second holds a caller for as long as it likes (psf/requests documents this under "Timeouts").
Here every read, write and handshake of a connection gets what is left of the exchange's time.

What cannot be bounded: the platform's name lookup has no timeout. It runs in a daemon thread that
the call stops waiting for in time, and that ends when the platform's resolver gives up.
"""

from __future__ import annotations

import os
import socket
import ssl
from threading import Event, Lock, Thread, local
from time import monotonic, time
from typing import Any

from requests import Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import parse_url
from urllib3.util.ssl_ import create_urllib3_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from requests import PreparedRequest
    from typing_extensions import Buffer

    AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]

# Load balancers drop idle connections after 60 s (AWS ALB's default) or more, some without telling
# the client; below that, a kept connection can be expected to live.
IDLE_LIMIT = 50.0
# Connections kept for threads that call at the same time; more are opened when needed.
KEPT = 32


class Attempt:
    """What a connection must know of the exchange that it is used for, and what it tells of it.

    Args:
        deadline: When the attempt must have ended, on `time.monotonic()`'s clock.
        fresh_only: Whether to use no kept connection.
        hedged: Whether to wait on a kept connection for half of the time only, so that there is
            time for a fresh one if the other side has forgotten it.
    """

    __slots__ = (
        "_deadline",
        "answered",
        "fresh_only",
        "hedged",
        "kept",
        "limit",
        "may_have_run",
    )

    def __init__(self, deadline: float, *, fresh_only: bool, hedged: bool) -> None:
        self._deadline = self.limit = deadline
        self.fresh_only = fresh_only
        self.hedged = hedged
        #: Whether a kept connection was used for it.
        self.kept = False
        #: Whether an answer began to come through a connection.
        self.answered = False
        #: Whether the request may have reached the endpoint.
        self.may_have_run = True

    def __enter__(self) -> Attempt:
        _using.attempt = self
        return self

    def __exit__(self, *_: object) -> None:
        _using.attempt = None

    def time_left(self) -> float:
        left = self.limit - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def awaits_answer(self) -> None:
        if self.hedged and self.kept:
            now = monotonic()
            self.limit = now + (self._deadline - now) / 2

    def has_answer(self) -> None:
        self.answered = True
        self.limit = self._deadline


class _Using(local):
    attempt: Attempt | None = None


_using = _Using()


def _limit(sock: socket.socket) -> None:
    if _using.attempt is not None:
        sock.settimeout(_using.attempt.time_left())


class _Socket(socket.socket):
    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        _limit(self)
        return super().recv_into(buffer, nbytes, flags)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        _limit(self)
        return super().recv(bufsize, flags)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        _limit(self)
        super().sendall(data, flags)


class _TLSSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        _limit(self)
        super().do_handshake(block)

    def recv_into(self, buffer: Buffer, nbytes: int | None = None, flags: int = 0) -> int:
        _limit(self)
        return super().recv_into(buffer, nbytes, flags)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        _limit(self)
        return super().recv(buflen, flags)

    # sendall() calls this in a loop.
    def send(self, data: Buffer, flags: int = 0) -> int:
        _limit(self)
        return super().send(data, flags)


class _Connection(HTTPConnection):
    # http.client's own debugging prints headers, and with them the token.
    debuglevel = 0
    last_used = 0.0
    _pieces: list[bytes] | None = None

    def connect(self) -> None:
        attempt = _using.attempt
        if attempt is not None:
            attempt.may_have_run = False
        super().connect()
        if attempt is not None:
            attempt.may_have_run = True

    def request(self, *args: Any, **kwargs: Any) -> None:
        # In one piece. http.client sends head and body apart: two system calls, two packets, and
        # an endpoint that is woken twice.
        self._pieces = []
        try:
            super().request(*args, **kwargs)
            whole = b"".join(self._pieces)
        finally:
            self._pieces = None
        self.send(whole)

    def send(self, data: Any) -> None:
        if self._pieces is None:
            super().send(data)
        else:
            self._pieces.append(data)

    def getresponse(self, **_: Any) -> Any:
        # Before 2.0, urllib3 passes an argument of Python 2's, and a TypeError would become the
        # context, so the told cause, of what fails here.
        attempt = _using.attempt
        if attempt is not None:
            attempt.awaits_answer()
        response = super().getresponse()
        if attempt is not None:
            attempt.has_answer()
        # Wall-clock time: it goes on, or is put right, while a serverless process is frozen.
        self.last_used = time()
        return response

    def _new_conn(self) -> socket.socket:
        try:
            return connect(self._dns_host, self.port)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"not connected to {self.host} in time") from error
        except OSError as error:
            raise NewConnectionError(self, f"{self.host}: {error}") from error


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _KeepsConnections:
    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        attempt = _using.attempt
        # Negative when the clock was set back: nothing is known of how long it was idle.
        expired = not 0 <= time() - connection.last_used < IDLE_LIMIT
        if expired or (attempt is not None and attempt.fresh_only):
            connection.close()
        if attempt is not None:
            attempt.kept = connection.sock is not None
        return connection


class _Pool(_KeepsConnections, HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(_KeepsConnections, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class Adapter(HTTPAdapter):
    """The adapter for one endpoint: proxy, CA bundle and pool are chosen once, not per request.

    `send` is that of requests, untouched, since it is what `responses` and other mocks replace.

    Args:
        url: The endpoint's address.
        use_proxies: Whether to go through the proxies named in the environment.

    Raises:
        OSError: The CA bundle named in the environment cannot be read.
    """

    def __init__(self, url: str, *, use_proxies: bool) -> None:
        super().__init__(pool_maxsize=KEPT)
        self.proxies = get_environ_proxies(url) if use_proxies else {}
        self._targets: dict[str, str] = {}
        self._pool = self._make_pool(url)

    def _make_pool(self, url: str) -> HTTPConnectionPool:
        classes: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _TLSPool}
        address = parse_url(url)
        tls: dict[str, Any] = {}
        if address.scheme == "https":
            tls = {"ssl_context": tls_context(), "cert_reqs": "CERT_REQUIRED"}
        proxy = select_proxy(url, self.proxies)
        if not proxy:
            return classes[str(address.scheme)](
                str(address.host), address.port, maxsize=KEPT, **tls
            )
        if "://" not in proxy:
            proxy = "http://" + proxy
        if proxy.lower().startswith("https:"):
            tls["proxy_ssl_context"] = tls_context()
        manager = self.proxy_manager_for(proxy, **tls)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = classes
        pool: HTTPConnectionPool = manager.connection_from_url(url)
        return pool

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        return self._pool

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        # There are three of them, and what a proxy must be sent takes time to work out.
        url = str(request.url)
        if url not in self._targets:
            self._targets[url] = super().request_url(request, proxies)
        return self._targets[url]

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        # As in requests, but without a cookie jar and a guess at the charset: nobody asks for them.
        response = Response()
        response.status_code = resp.status
        response.headers = CaseInsensitiveDict(resp.headers)
        response.reason = resp.reason
        response.raw = resp
        response.url = str(req.url)
        response.request = req
        return response

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        # The context holds the CA bundle already; urllib3 would load it again for each connection.
        pass

    def close(self) -> None:
        self._pool.close()
        super().close()


def tls_context() -> ssl.SSLContext:
    """A context whose sockets respect the deadline, with the CA bundle that requests would use.

    Raises:
        OSError: The bundle cannot be read.
    """
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    # Before 2.0, urllib3 turns it off to compare names itself, with a log line of its own.
    context.check_hostname = True
    context.sslsocket_class = _TLSSocket
    # The two variables that requests reads, in its order.
    bundle = (
        os.environ.get("REQUESTS_CA_BUNDLE")
        or os.environ.get("CURL_CA_BUNDLE")
        or DEFAULT_CA_BUNDLE_PATH
    )
    if os.path.isdir(bundle):
        context.load_verify_locations(capath=bundle)
    else:
        context.load_verify_locations(cafile=bundle)
    return context


def connect(host: str, port: int) -> socket.socket:
    """A connection to the first of a host's addresses that takes one, before the deadline.

    Raises:
        OSError: None does, or the name is not known.
    """
    addresses = resolve(host, port)
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = _Socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if _using.attempt is not None:
                # An address that swallows everything must leave time for those after it.
                sock.settimeout(_using.attempt.time_left() / (len(addresses) - index))
            sock.connect(address)
            return sock
        except OSError:
            sock.close()
            if index == len(addresses) - 1:
                raise
    raise OSError(f"no address for {host}")


class _Lookup:
    """One name lookup under way, shared by all who wait for the same name."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._done = Event()
        self._error: OSError | None = None
        self._addresses: Sequence[AddressInfo] = []

    def run(self) -> None:
        try:
            self._addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._error = error if isinstance(error, OSError) else OSError(str(error))
        with _lookups_lock:
            _lookups.pop((self._host, self._port), None)
        self._done.set()

    def result(self, seconds: float | None) -> Sequence[AddressInfo]:
        if not self._done.wait(seconds):
            raise TimeoutError(f"{self._host} was not resolved in time")
        if self._error is not None:
            raise type(self._error)(*self._error.args)
        return self._addresses


_lookups: dict[tuple[str, int], _Lookup] = {}
_lookups_lock = Lock()


def _forget_lookups() -> None:
    global _lookups_lock
    _lookups_lock = Lock()
    _lookups.clear()


if hasattr(os, "register_at_fork"):
    # The threads that would finish them stay in the parent.
    os.register_at_fork(after_in_child=_forget_lookups)


def resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """The addresses of a host, as `socket.getaddrinfo` gives them, before the deadline.

    Raises:
        OSError: The name is not known, or was not looked up in time.
    """
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        pass
    key = (host, port)
    with _lookups_lock:
        lookup = _lookups.get(key)
        if lookup is None:
            lookup = _lookups[key] = _Lookup(host, port)
            Thread(target=lookup.run, name="upstash_state name lookup", daemon=True).start()
    return lookup.result(None if _using.attempt is None else _using.attempt.time_left())
