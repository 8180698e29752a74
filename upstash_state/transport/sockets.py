"""Sockets whose every read, write and handshake must be done before a deadline.

A timeout given to requests or urllib3 bounds each single read, so an endpoint that sends a byte
every second holds a caller for as long as it likes (psf/requests documents this under "Timeouts").
Here each gets what is left of the exchange's time.
"""

from __future__ import annotations

import os
import socket
import ssl
from threading import local
from time import monotonic

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from .names import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer


class Attempt:
    """What a connection must know of the exchange that it is used for, and what it tells of it.

    Args:
        deadline: When the attempt must have ended, on `time.monotonic()`'s clock.
        fresh_only: Whether to use no kept connection.
        may_be_stale: Whether to wait on a kept connection for half of the time only, so that
            there is time for a fresh one if the other side has forgotten it.
    """

    __slots__ = (
        "_deadline",
        "answered",
        "fresh_only",
        "kept",
        "limit",
        "may_be_stale",
        "may_have_executed",
    )

    def __init__(self, deadline: float, *, fresh_only: bool, may_be_stale: bool) -> None:
        self._deadline = self.limit = deadline
        self.fresh_only = fresh_only
        self.may_be_stale = may_be_stale
        #: Whether a kept connection was used for it.
        self.kept = False
        #: Whether an answer began to come through a connection.
        self.answered = False
        #: Whether the request may have reached the endpoint.
        self.may_have_executed = True

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
        if self.may_be_stale and self.kept:
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
    deadline = monotonic() + 60 if _using.attempt is None else _using.attempt.limit
    addresses = resolve(host, port, deadline)
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
