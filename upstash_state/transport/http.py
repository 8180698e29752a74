"""HTTP: one attempt is one POST by requests, and gives an answer or the reason for its failure.

Only documented names of requests and urllib3 are used, but for one: `pool`, the queue of a pool's
kept connections (tests/transport/test_undocumented.py).
"""

from __future__ import annotations

import math
import os
import queue
import socket
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from ..errors import AnswerError, EndpointTimeoutError, UnavailableError, UpstashError
from ..settings import Secret, ca_bundle, proxy_of
from .deadline import MAX_ANSWER_BYTES, Attempt, Limited, in_time, too_large
from .failures import failure_of
from .seam import Answer, checks

try:
    import ssl
except ImportError:
    # Pyodide: the browser does TLS.
    ssl = None  # type: ignore[assignment]

# Before 2.6, urllib3 decompresses a piece as a whole, and gzip can make 1,032 bytes of one.
CHUNK = 32 * 1024
ENCODINGS = frozenset({"identity", "gzip", "x-gzip", "deflate"})

LONGEST_SYNC_TOKEN = 1000

# Load balancers drop connections that were idle for 60 s (AWS ALB's default) or more, some of them
# without telling the client.
IDLE_LIMIT = 50.0
# Connections kept for threads that call at the same time; more are opened when needed.
KEPT = 32
# Whether a connection is a call of JavaScript's `fetch`, as in Pyodide.
FETCH = "urllib3.contrib.emscripten" in sys.modules
# Whether connections have no socket whose reads and writes can be limited: those of `fetch`, and
# those of urllib3-future, which niquests installs. An attempt is made in a thread that the call
# stops waiting for.
OPAQUE = FETCH or hasattr(urllib3, "AsyncHTTPConnectionPool")
# The part of the time left that one step of connecting may take (each address, TLS), so that an
# address that swallows packets leaves time for the next. A `fetch` is a single step.
STEP = 1 if FETCH else 2 / 3


class Http:
    """Makes attempts at one endpoint, and keeps the connections for the next.

    Args:
        url: The endpoint's address, checked.
        token: The REST token, checked.
    """

    def __init__(self, url: str, token: Secret) -> None:
        self.url, self.token = url, token
        #: The last Upstash-Sync-Token. A request with it sees on a replicated database all that
        #: this client wrote before (docs: redis/howto/readyourwrites).
        self.sync_token = ""
        self.request = requests.Request("POST", url).prepare()
        self.request.headers = _Headers(
            {
                "Authorization": "Bearer " + token.reveal(),
                "Content-Type": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": "upstash-state",
            }
        )
        # The last used one at the end. Appending and removing are atomic, so it needs no lock.
        self._idle: list[Channel] = []
        # Not at exit, where finalizers may run before pending writes are sent.
        weakref.finalize(self, _close, self._idle).atexit = False

    def close(self) -> None:
        """Close the kept connections. The next attempt opens a new one."""
        _close(self._idle)

    def send(self, attempt: Attempt, path: str, body: bytes, deadline: float) -> Answer:
        """Make an attempt of an exchange. The other arguments are those of `seam.Send`.

        Args:
            attempt: Its repetitions share it; afterwards, it says what happened.
        """
        attempt.deadline = attempt.limit = deadline
        attempt.kept, attempt.received, attempt.may_have_executed = None, 0, True
        channel = None
        request = self.request.copy()
        request.url = self.url + path
        request.prepare_body(body, None)
        if self.sync_token:
            request.headers["Upstash-Sync-Token"] = self.sync_token
        try:
            channel = self._take(deadline)
            post = partial(channel.post, request, attempt)
            response, data = in_time(deadline, post) if OPAQUE else post()
        except BaseException as error:
            if channel is not None:
                channel.close()
            if isinstance(error, UpstashError) or not isinstance(error, Exception):
                raise
            failure = failure_of(error, attempt.may_have_executed, body, self.token)
        else:
            self._keep(channel, response.headers.get("Upstash-Sync-Token", ""))
            return Answer(response.status_code, response.headers, data)
        if isinstance(failure, EndpointTimeoutError) and attempt.kept is not None:
            attempt.unspent += attempt.limit - time.monotonic()
        stale = attempt.kept and not attempt.received
        if stale and (failure.transient or not attempt.may_have_executed):
            # The other kept connections are as old.
            self.close()
            failure.transient = True
            failure.retry_after = 0.0
        raise failure

    def _take(self, deadline: float) -> Channel:
        """Return a channel that no other attempt uses."""
        # IndexError: the list is empty. Another thread may empty it at any moment.
        with suppress(IndexError):
            while True:
                channel = self._idle.pop()
                if channel.usable():
                    return channel
                channel.close()
        # In a thread, because macOS may send a query to the name server.
        proxy = in_time(deadline, partial(proxy_of, self.url))
        return Channel(self.url, proxy)

    def _keep(self, channel: Channel, sync_token: str) -> None:
        """Keep a channel whose answer was read, and the answer's Upstash-Sync-Token."""
        self._idle.append(channel)
        if len(self._idle) > KEPT:
            with suppress(IndexError):
                self._idle.pop(0).close()
        # Servers refuse a header that is odd or long (nginx: 8 KB in a line).
        usual = sync_token.isascii() and sync_token.isprintable()
        if usual and 0 < len(sync_token) <= LONGEST_SYNC_TOKEN:
            self.sync_token = sync_token


class Channel(HTTPAdapter):
    """A session of requests with one connection, for one attempt at a time.

    It does not override `send`, which mocks replace. No two attempts share a lock, so a lock that
    an interruption leaves locked does no harm: the channel is not used again.

    Args:
        url: The endpoint's address.
        proxy: The URL of the proxy, None to connect without one.
    """

    #: The attempt that is being made.
    attempt: Attempt

    def __init__(self, url: str, proxy: str | None) -> None:
        address = urlsplit(url)
        self._host = address.hostname or ""
        self._proxies = {"all": proxy} if proxy else {}
        self._bundle = (ca_bundle() or ("", DEFAULT_CA_BUNDLE_PATH))[1]
        secure_proxy = (proxy or "").startswith("https://")
        self._context = None
        if ssl and address.scheme == "https" and not secure_proxy and not OPAQUE:
            self._context = _tls_context(ssl.SSLContext, urllib3.util.SSLContext, self._bundle)
        self._socket_class = socket.socket
        self._sock: Limited | None = None
        self._pool: Any = None
        super().__init__(pool_connections=1, pool_maxsize=1)
        self._session = session = requests.Session()
        session.trust_env = False
        session.cookies.extract_cookies = lambda *_: None  # type: ignore[method-assign]
        # The token is sent to no other address, and a redirect's body is not read.
        session.get_redirect_target = lambda _: None  # type: ignore[method-assign, assignment]
        session.mount(f"{address.scheme}://", self)

    def usable(self) -> bool:
        """Return whether another attempt can be made on it."""
        if self._socket_class is not socket.socket:
            # gevent, eventlet or a mock has replaced it since, or was removed.
            return False
        sock = self._sock
        if sock is None or sock.gone:
            return True
        idle = time.time() - sock.last_used
        # Negative after the clock was set back, when nobody knows how long it was idle. A second
        # answer that came with the last one would be read as that of the next request.
        return 0 <= idle < IDLE_LIMIT and sock.clean and not getattr(sock, "pending", int)()

    def post(
        self, request: requests.PreparedRequest, attempt: Attempt
    ) -> tuple[requests.Response, bytes]:
        """Send a request, and read the answer.

        Args:
            request: The request.
            attempt: Its time limit; afterwards, what happened.
        """
        self.attempt = attempt
        if self._sock is not None:
            self._sock.attempt = attempt
        left = attempt.time_left()
        # With `stream`, requests leaves the body to be read here, with a limit.
        with self._session.send(
            request,
            stream=True,
            timeout=(left * STEP, left),
            proxies=self._proxies,
            verify=self._bundle,
        ) as response:
            read = _read_in_time if FETCH else _read
            return response, read(response, attempt)

    def close(self) -> None:
        """Close the connection."""
        if self._pool is not None:
            self._pool.close()
        if self._sock is not None:
            self._sock.close()

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        host, keys = super().build_connection_pool_key_attributes(*args, **kwargs)
        return host, {"ssl_context": self._context} if self._context else keys

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        # The context has read the bundle. urllib3 would read it again for each connection.
        if self._context is None:
            super().cert_verify(*args, **kwargs)  # type: ignore[no-untyped-call]

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        for check in checks:
            check(self._host)
        # One endpoint has one pool, which requests would look up for each request.
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
            if not OPAQUE:
                # Instead of a LifoQueue, whose lock an interruption can leave locked for good.
                self._pool.pool = queue.SimpleQueue()
                self._pool.ConnectionCls = self
        kept = self._sock is not None and not self._sock.gone
        self.attempt.kept, self.attempt.may_have_executed = kept, not kept
        return self._pool

    # With these methods, the channel takes the place of the pool's class of connections. It looks
    # that class up each time, because vcrpy replaces it for a while.

    def __instancecheck__(self, connection: object) -> bool:
        return isinstance(connection, type(self._pool).ConnectionCls)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        connection = type(self._pool).ConnectionCls(*args, **kwargs)
        # Not with setattr: vcrpy also sets attributes on the connection that it wraps.
        vars(connection)["connect"] = partial(self._connect, connection, connection.connect)
        # http.client's own debugging prints headers, and with them the token.
        connection.debuglevel = 0
        return connection

    def _connect(self, connection: Any, connect: Callable[[], None]) -> None:
        attempt = self.attempt
        attempt.kept = attempt.may_have_executed = False
        deadline = attempt.deadline

        def work() -> None:
            connect()
            if time.monotonic() >= deadline:
                # The call has stopped waiting.
                connection.close()
                raise TimeoutError("connected too late")

        in_time(deadline, work)
        if getattr(connection, "sock", None) is None:
            # vcrpy has no socket when it replays.
            attempt.may_have_executed = True
        else:
            self._sock = connection.sock = Limited(connection.sock, attempt)


@lru_cache(maxsize=4)
def _tls_context(now: Any, then: Any, bundle: str) -> Any:
    """Return a context with the rules of requests, which are those of urllib3.

    It is shared, since reading a bundle takes 10 to 50 ms.

    Args:
        now: `ssl.SSLContext`.
        then: `urllib3.util.SSLContext`, which was the same when urllib3 was imported.
        bundle: The file or folder of the certificates to trust.

    Returns:
        The context; None where urllib3 has to make one for each connection.
    """
    if not issubclass(now, then):
        # The class of pyOpenSSL, whose contexts cannot be shared, or of a mock.
        return None
    file, folder = (None, bundle) if os.path.isdir(bundle) else (bundle, None)
    try:
        if now is not then:
            # gevent or eventlet was activated later. It has its own TLS, and breaks the old one.
            context: Any = ssl.create_default_context(cafile=file, capath=folder)
            context.hostname_checks_common_name = False
        else:
            context = create_urllib3_context()
            context.load_verify_locations(cafile=file, capath=folder)
    except OSError as error:
        text = f"the CA bundle {bundle} cannot be used: {error.strerror or error}"
        raise UnavailableError(text, may_have_executed=False) from None
    return context


def _read_in_time(response: requests.Response, attempt: Attempt) -> bytes:
    """Read an answer from `fetch`, and close it when its attempt must end.

    urllib3 limits each read by itself. While one waits, JavaScript runs its timers, and closing the
    answer ends the read.
    """
    from pyodide.ffi.wrappers import clear_timeout, set_timeout

    timer = set_timeout(response.close, math.ceil(attempt.time_left() * 1000) + 1)
    try:
        data = _read(response, attempt)
    finally:
        clear_timeout(timer)
    # Raises TimeoutError if the timer has closed the answer before its end.
    attempt.time_left()
    return data


def _read(response: requests.Response, attempt: Attempt) -> bytes:
    if response.status_code < 200:
        # An interim answer: the real one follows, and must not be taken for the answer to the next
        # request. A connection is not kept when its answer was not read to the end.
        return b""
    if response.raw is None:
        # A mock of `Session.send` has made this response.
        return response.content
    headers = response.headers
    length = headers.get("Content-Length", "")
    encoding = headers.get("Content-Encoding", "").strip().lower() or "identity"
    if encoding not in ENCODINGS:
        # Nested encodings are refused: each can make a thousand bytes of one.
        raise AnswerError("the answer is compressed in a way that was not asked for")
    framed = length.isdecimal() and "Transfer-Encoding" not in headers
    if framed and encoding == "identity" and not OPAQUE:
        if len(length) > 15 or int(length) > MAX_ANSWER_BYTES:
            raise too_large()
        # Content-Length limits the read, so the bytes need not be counted.
        return bytes(response.raw.read())
    size, chunks = 0, []
    try:
        for chunk in response.iter_content(CHUNK):
            # The connection limits the time to receive a chunk, but not the time to decompress it.
            attempt.time_left()
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise too_large()
            chunks.append(chunk)
    except ValueError:
        # A chunk of negative size.
        raise AnswerError("what came back is not HTTP (chunks)", reason="not-http") from None
    return b"".join(chunks)


def _close(channels: list[Channel]) -> None:
    with suppress(IndexError):
        while True:
            channels.pop().close()


class _Headers(CaseInsensitiveDict[str]):
    """Headers that `repr` hides, because tracebacks may show it and one header is the token."""

    def __repr__(self) -> str:
        return "<headers>"

    def copy(self) -> _Headers:
        return _Headers(self)
