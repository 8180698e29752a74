"""Connections that are kept, and the adapter of `requests` that keeps them."""

from __future__ import annotations

from time import time
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import parse_url

from .sockets import connect, current_attempt, tls_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

# Load balancers drop idle connections after 60 s (AWS ALB's default) or more, some without telling
# the client; below that, a kept connection can be expected to live.
IDLE_LIMIT = 50.0
# Connections kept for threads that call at the same time; more are opened when needed.
KEPT = 32


class _Connection(HTTPConnection):
    # http.client's own debugging prints headers, and with them the token.
    debuglevel = 0
    last_used = 0.0
    _pieces: list[bytes] | None = None

    def connect(self) -> None:
        attempt = current_attempt()
        if attempt is not None:
            attempt.may_have_executed = False
        super().connect()
        if attempt is not None:
            attempt.may_have_executed = True

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
        attempt = current_attempt()
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
    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        # urllib3 copies and walks them several times, which takes requests' own kind longer.
        if "headers" in kwargs:
            kwargs["headers"] = dict(kwargs["headers"])
        return super().urlopen(*args, **kwargs)  # type: ignore[misc]

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        attempt = current_attempt()
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
        headers: Those of every request.
        use_proxies: Whether to go through the proxies named in the environment.

    Raises:
        OSError: The CA bundle named in the environment cannot be read.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, use_proxies: bool) -> None:
        super().__init__(pool_maxsize=KEPT)
        self._headers = CaseInsensitiveDict(headers)
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

    def prepare(self, url: str, body: bytes) -> PreparedRequest:
        """A POST of a body, without the checks that `Request.prepare` makes of what we know."""
        request = PreparedRequest()
        request.method = "POST"
        request.url = url
        request.headers = self._headers.copy()
        request.headers["Content-Length"] = str(len(body))
        request.body = body
        return request

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
        # Of another type than requests' own, but as indifferent to case.
        response.headers = resp.headers
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
