"""Sockets whose every read, write and handshake must be done before a deadline.

A timeout given to requests or urllib3 bounds each single read, so an endpoint that sends a byte
every second holds a caller for as long as it likes (psf/requests documents this under "Timeouts").
Here each gets what is left of the exchange's time.

What cannot be bounded: the platform's name lookup has no timeout. It runs in a daemon thread that
the call stops waiting for in time, and that ends when the platform's resolver gives up.
"""

from __future__ import annotations

import os
import socket
import ssl
from threading import Event, Lock, Thread, local
from time import monotonic

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from typing_extensions import Buffer

    AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


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


def current_attempt() -> Attempt | None:
    """The attempt that this thread is making."""
    return _using.attempt


def _limit(sock: socket.socket) -> None:
    if _using.attempt is not None:
        sock.settimeout(_using.attempt.time_left())


class Socket(socket.socket):
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
        sock = Socket(family, kind, protocol)
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
        under_way = _lookups.get(key)
        lookup = under_way or _Lookup(host, port)
        _lookups[key] = lookup
    if not under_way:
        try:
            Thread(target=lookup.run, name="upstash_state name lookup", daemon=True).start()
        except RuntimeError:
            # At the end of the interpreter, where apps save for the last time, no thread starts.
            lookup.run()
    return lookup.result(None if _using.attempt is None else _using.attempt.time_left())
