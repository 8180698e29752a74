"""The wire: one attempt is one POST by `requests`, and what came back or why nothing did.

All of this goes through what requests and urllib3 document, but for two attributes of urllib3's
`HTTPConnectionPool`, both used as they stand at that moment, and two of its connections
(tests/transport/test_undocumented.py, test_early.py and tests/surroundings/ fail when one of them
changes):

- `ConnectionCls` makes the pool's connections. Others replace it on the class (vcrpy, urllib3's own
  HTTP/2), so ours is put on the one pool, and asks the class.
- `pool` holds the kept connections, with the methods of a `queue.LifoQueue`.
- `is_verified` says that a certificate was checked; without it urllib3 warns.
- `is_connected` looks for what has come meanwhile, with what eventlet may have taken away since.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import ssl
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies
from urllib3.util import ssl_

from ..errors import AnswerError, AnswerTooLargeError, UnavailableError, UpstashError
from ..settings import Secret, is_loopback
from .failures import failure_of, forget_locals
from .seam import Answer, Send, check_connection
from .sockets import Attempt, Limited, current_attempt, in_time

# A request may have 10 MB (free and pay-as-you-go plans), and JSON may write a byte as six.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Before 2.6, urllib3 unpacks at once what it reads at once, and gzip can make a byte 1,032.
CHUNK = 32 * 1024
ENCODINGS = frozenset({"identity", "gzip", "x-gzip", "deflate"})

LONGEST_SYNC_TOKEN = 1000

# Load balancers drop idle connections after 60 s (AWS ALB's default) or more, some without telling
# the client; below that, a kept connection can be expected to live.
IDLE_LIMIT = 50.0
# Connections kept for threads that call at the same time; more are opened when needed.
KEPT = 32
# Whether urllib3 is urllib3-future, which niquests brings. Its reads cannot be bounded, so an
# attempt is made in a thread that the call stops waiting for.
FUTURE = hasattr(urllib3, "AsyncHTTPConnectionPool")
# How much of the time that is left one step of connecting may take (an address of several, TLS), so
# that an address that swallows everything leaves time for the next.
STEP = 2 / 3

# A call that a handler of signals or log records makes in the middle of a call is served, and so is
# one in the middle of that. A handler that saves on each record that a save makes would never end.
DEEPEST = 2


class Wire:
    """Makes attempts at one endpoint, and keeps the connections for the next.

    Args:
        url: The endpoint's address, checked.
        token: The REST token, checked.
        early: What gives a connection that was begun before, by a deadline.
    """

    def __init__(
        self, url: str, token: Secret, early: Callable[[float], Any] | None = None
    ) -> None:
        self._early = [early] if early else []
        self.url, self.token = url, token
        #: The last Upstash-Sync-Token. Sent back, it makes a replicated database show this client
        #: all that it wrote (docs: redis/howto/readyourwrites).
        self._sync_token = ""
        # Plain http to loopback through a proxy would send the token over the network.
        loopback = is_loopback(urlsplit(url).hostname or "")
        self._proxies: dict[str, str] | None = {} if loopback else None
        self._request = requests.Request("POST", url).prepare()
        self._request.headers = _Headers(
            {
                "Authorization": "Bearer " + token.reveal(),
                "Content-Type": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": "upstash-state",
            }
        )
        self._open()

    def _open(self) -> None:
        self._kind_of_socket = socket.socket
        self._session = session = requests.Session()
        session.trust_env = False
        # An interruption can leave a cookie jar locked for good.
        session.cookies.extract_cookies = lambda *_: None  # type: ignore[method-assign]
        # The token goes to no other address. Nor is the answer of a redirect read to its end.
        session.get_redirect_target = lambda _: None  # type: ignore[method-assign, assignment]
        address = urlsplit(self.url)
        adapter = _Adapter(address.hostname or "", self._early)
        session.mount(f"{address.scheme}://", adapter)

    def close(self) -> None:
        """Close the kept connections. The next attempt opens a new one."""
        self._session.close()

    def sender(self, *, repeatable: bool) -> Send:
        """What makes the attempts of one exchange.

        Args:
            repeatable: Whether the request may be sent again when it may have been executed.
        """
        fresh_only = False
        if self._kind_of_socket is not socket.socket:
            # gevent, eventlet or a mock has put another in its place since, or taken it away.
            self._open()

        def send(path: str, body: bytes, deadline: float) -> Answer:
            nonlocal fresh_only
            attempt = Attempt(deadline, fresh_only=fresh_only, repeatable=repeatable)
            try:
                return self._attempt(attempt, path, body)
            except UnavailableError as error:
                if attempt.kept and not attempt.answered and error.transient:
                    # The other kept connections are as old, so none of them is tried.
                    fresh_only = True
                    error.retry_after = 0.0
                raise

        return send

    def _attempt(self, attempt: Attempt, path: str, body: bytes) -> Answer:
        if attempt.depth() > DEEPEST:
            text = "not sent: a handler calls for what its own calls make happen"
            raise UnavailableError(text, may_have_executed=False)
        try:
            with attempt:
                if self._proxies is None:
                    # In time, since macOS asks the name server for it.
                    self._proxies = in_time(attempt.deadline, lambda: get_environ_proxies(self.url))
                request = self._request.copy()
                request.url = self.url + path
                request.prepare_body(body, None)
                if self._sync_token:
                    request.headers["Upstash-Sync-Token"] = self._sync_token

                def exchange() -> tuple[requests.Response, bytes]:
                    # With stream, requests leaves the reading, and so its bound, to us.
                    with self._session.send(
                        request,
                        stream=True,
                        timeout=attempt.time_left(),
                        proxies=self._proxies,
                        # The two variables that requests reads, in its order.
                        verify=os.environ.get("REQUESTS_CA_BUNDLE")
                        or os.environ.get("CURL_CA_BUNDLE")
                        or True,
                    ) as response:
                        return response, _read(response, attempt)

                response, data = in_time(attempt.deadline, exchange) if FUTURE else exchange()
        except BaseException as error:
            # Frames of requests, urllib3 and http.client hold the token.
            forget_locals(error)
            if isinstance(error, UpstashError) or not isinstance(error, Exception):
                raise
            failure = failure_of(error, attempt.may_have_executed, self.token)
        else:
            self._take_sync_token(response.headers.get("Upstash-Sync-Token", ""))
            return Answer(response.status_code, response.headers, data)
        raise failure

    def _take_sync_token(self, token: str) -> None:
        # It goes into the head of every request from now on, where servers refuse what is odd or
        # long (nginx: 8 KB in a line).
        if 0 < len(token) <= LONGEST_SYNC_TOKEN and token.isascii() and token.isprintable():
            self._sync_token = token


def _read(response: requests.Response, attempt: Attempt) -> bytes:
    if response.status_code < 200:
        # An interim answer: the real one follows, and must not be taken for the answer to the next
        # request. A connection is not kept when its answer was not read to the end.
        return b""
    if response.raw is None:
        # Made by hand, by what stands in the place of `Session.send`.
        return response.content
    headers = response.headers
    length = headers.get("Content-Length", "")
    encoding = headers.get("Content-Encoding", "").strip().lower() or "identity"
    if encoding not in ENCODINGS:
        # Several, one around the other, make a thousand from a byte each time.
        raise AnswerError("the answer is compressed in a way that was not asked for")
    if length.isdecimal() and encoding == "identity" and "Transfer-Encoding" not in headers:
        if len(length) > 15 or int(length) > MAX_ANSWER_BYTES:
            raise _too_large()
        # No more than that is read, so nothing needs to be counted.
        return bytes(response.raw.read())
    size, chunks = 0, []
    for chunk in response.iter_content(CHUNK):
        # What arrives is bounded by the connection; how long it takes to unpack is not.
        attempt.time_left()
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large() -> AnswerTooLargeError:
    return AnswerTooLargeError(f"an answer of more than {MAX_ANSWER_BYTES} bytes was given up")


class _Headers(CaseInsensitiveDict[str]):
    """Headers that are not shown by what walks over local variables: one holds the token."""

    def __repr__(self) -> str:
        return "<headers>"

    def copy(self) -> _Headers:
        return _Headers(self)


class _Adapter(HTTPAdapter):
    """Its `send` is that of requests, since it is what mocks replace."""

    def __init__(self, host: str, early: list[Callable[[float], Any]]) -> None:
        super().__init__()
        self._host, self._early = host, early
        self._pool: Any = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        # One endpoint, one pool: requests works out which for each request.
        if FUTURE:
            # Its connections are not ours, so this is the last place to ask.
            check_connection(self._host)
        pool: Any = self._pool
        if pool is None:
            pool = super().get_connection_with_tls_context(*args, **kwargs)
            if not FUTURE:
                pool.pool = _Kept(type(pool), self._host)
                pool.ConnectionCls = _Connections(type(pool), self._host, self._early)
            self._pool = pool
        return pool

    def close(self) -> None:
        pool, self._pool = self._pool, None
        super().close()
        if pool is not None:
            # urllib3's manager leaves it to finalizers, which have run when `atexit` saves.
            pool.close()


class _Connections:
    """Stands for the connection class that a kind of pool has at the moment."""

    def __init__(self, pool: Any, host: str, early: list[Callable[[float], Any]]) -> None:
        self._pool, self._host, self._early = pool, host, early

    def __instancecheck__(self, connection: object) -> bool:
        return isinstance(connection, self._pool.ConnectionCls)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        connection = _limited(self._pool.ConnectionCls, self._host, self._early)(*args, **kwargs)
        # http.client's own debugging prints headers, and with them the token.
        connection.set_debuglevel(0)
        return connection


def _limited(kind: Any, host: str, early: list[Callable[[float], Any]]) -> Any:
    """A connection class whose connections keep to the attempt's deadline."""

    class Connection(kind):  # type: ignore[misc]
        made_as = kind

        sock: Any

        def connect(self) -> None:
            attempt = current_attempt.get()
            if attempt is None:
                raise OSError("used outside of an attempt")
            attempt.kept = attempt.may_have_executed = False
            check_connection(host)

            def work() -> None:
                self.timeout = attempt.time_left() * STEP
                bundle = getattr(self, "ca_certs", None), getattr(self, "ca_cert_dir", None)
                secure_proxy = getattr(self.proxy, "scheme", "") == "https"
                theirs: Any = ssl_.SSLContext
                # Python's own, of gevent, eventlet or truststore; not of pyOpenSSL or a mock.
                if any(bundle) and not secure_proxy and issubclass(ssl.SSLContext, theirs):
                    self.ssl_context = _tls_context(ssl.SSLContext, *bundle)
                    self.ca_certs = self.ca_cert_dir = None
                super(Connection, self).connect()
                if attempt.deadline <= time.monotonic():
                    self.close()

            while early:
                # What went wrong, the connection that is made then says.
                with suppress(Exception):
                    self.sock = early.pop()(time.monotonic() + attempt.time_left() * STEP)
                    self.is_verified = True
            if self.sock is None:
                in_time(attempt.deadline, work)
            # vcrpy, when it replays, has none.
            if self.sock is not None:
                self.sock = Limited(self.sock)

        @property
        def is_connected(self) -> bool:
            if hasattr(select, "poll"):
                return bool(super().is_connected)
            # eventlet took it away, but urllib3 goes on with what it found at its first call.
            return self.sock is not None and not select.select([self.sock], [], [], 0)[0]

    return Connection


@lru_cache(maxsize=4)
def _tls_context(kind: type, bundle: str | None, folder: str | None) -> ssl.SSLContext:
    # Once for each kind, rather than for each connection: reading a bundle takes 10 to 50 ms. And
    # not by urllib3, which goes on with the kind that there was when it was imported.
    try:
        return ssl.create_default_context(cafile=bundle, capath=folder)
    except OSError as error:
        text = f"the CA bundle {bundle or folder} cannot be used: {error.strerror}"
        raise UnavailableError(text, may_have_executed=False) from None


class _Kept:
    """The kept connections of a pool, the last one used on top.

    In place of a `queue.LifoQueue`, whose lock an interruption can leave locked for good. It gives
    out only what another request may be sent on.
    """

    def __init__(self, pool: Any, host: str) -> None:
        self._pool, self._host = pool, host
        # Appending to and removing from a list are atomic, so it needs no lock.
        self._stack: list[Any] = []
        weakref.finalize(self, _close, self._stack)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        attempt = current_attempt.get()
        if attempt is not None and self._stack:
            check_connection(self._host)
        while True:
            try:
                connection = self._stack.pop()
            except IndexError:
                raise queue.Empty from None
            if attempt is None:
                return connection
            sock = connection.sock
            # Negative when the clock was set back: nothing is known of how long it was idle.
            fresh = 0 <= time.time() - sock.last_used < IDLE_LIMIT and not attempt.fresh_only
            # vcrpy and others replace the class for a while.
            fresh = fresh and connection.made_as is self._pool.ConnectionCls
            # A second answer that came with the last would be taken for the next one's.
            if fresh and sock.clean and not getattr(sock, "pending", int)():
                attempt.kept, attempt.may_have_executed = True, False
                return connection
            connection.close()

    def put(self, connection: Any, block: bool = True, timeout: float | None = None) -> None:
        # One whose socket is not limited was interrupted while it was connecting.
        if isinstance(getattr(connection, "sock", None), Limited) and len(self._stack) < KEPT:
            self._stack.append(connection)
        elif connection is not None:
            connection.close()

    def empty(self) -> bool:
        return not self._stack

    def qsize(self) -> int:
        return len(self._stack)


def _close(stack: list[Any]) -> None:
    while stack:
        stack.pop().close()
