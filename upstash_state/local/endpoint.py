"""LocalEndpoint: the embedded endpoint as its users see it."""

from __future__ import annotations

import secrets
import ssl
import threading
from types import TracebackType

from ..settings import check_token, is_loopback
from .api import Api, Usage
from .http import Server
from .misbehaviour import Misbehaviour
from .redis import Backend

_LOOK_SECONDS = 0.5


class LocalEndpoint:
    """Upstash's REST API, served by this process.

    Use it as a context manager, or call `start` and `close`. After `close` it can be started again,
    on the same port and with the same data, like an endpoint after an outage.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        token: str | None = None,
        read_only_token: str | None = None,
        redis_url: str | None = None,
        max_request_bytes: int = 10 * 1024 * 1024,
        tls: tuple[str, str] | ssl.SSLContext | None = None,
        latency: float = 0.0,
        errors: float = 0.0,
        quota: int | None = None,
        rps: int | None = None,
    ) -> None:
        """Prepare an endpoint. `start` opens it.

        Args:
            port: The port to listen on, 0 for a free one.
            host: The address to listen on. On a loopback address, requests from pages of other
                sites are refused.
            token: The token that may do everything, None for a random one.
            read_only_token: The token that may only read, None for a random one.
            redis_url: The Redis server that holds the data (redis://, rediss:// or unix://), None
                for fakeredis, in memory.
            max_request_bytes: Size limit in bytes of a request's body and of a command's reply. The
                default is that of Upstash's free and pay-as-you-go plans.
            tls: Paths of a certificate and its key, or a context, to serve HTTPS.
            latency: Seconds that each request waits before it is executed.
            errors: Share of the requests, from 0 to 1, that get a 503 and are not executed. They
                are the same ones in each run.
            quota: Number of commands after which each further one fails, as on a plan whose quota
                is used up; None for no limit.
            rps: Requests a second; the others get a 429 with Retry-After. None for no limit.

        Raises:
            SettingsError: An HTTP header cannot hold one of the tokens.
            ValueError: One of the last four is out of its range.
        """
        self._token = check_token(secrets.token_urlsafe(32) if token is None else token)
        self._read_only_token = check_token(
            secrets.token_urlsafe(32) if read_only_token is None else read_only_token,
            "read_only_token",
        )
        self._host = host
        self._port = port
        self._redis_url = redis_url
        self._max_request_bytes = max_request_bytes
        self._tls = _tls_context(tls) if isinstance(tls, tuple) else tls
        self._backend: Backend | None = None
        self._api: Api | None = None
        self._server: Server | None = None
        self._closed = threading.Event()
        self._misbehaviour = Misbehaviour(
            latency=latency, errors=errors, quota=quota, rps=rps, wait=self._closed.wait
        )

    def __repr__(self) -> str:
        return f"<LocalEndpoint {'closed' if self._server is None else self.url}>"

    def __enter__(self) -> LocalEndpoint:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Return the URL, such as `http://127.0.0.1:54321`.

        An endpoint that listens on all addresses is named by the loopback address.

        Raises:
            RuntimeError: The port is to be a free one, and the endpoint has not been started yet.
        """
        if not self._port:
            raise RuntimeError("the endpoint has no address before it is started")
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        host = f"[{host}]" if ":" in host else host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self._port}"

    @property
    def token(self) -> str:
        """Return the token that may do everything, as plain text."""
        return self._token.reveal()

    @property
    def read_only_token(self) -> str:
        """Return the token that may only read, without SCAN and KEYS, as plain text."""
        return self._read_only_token.reveal()

    @property
    def backend(self) -> str:
        """Return a description of what holds the data. It contains no password."""
        return "nothing yet" if self._backend is None else self._backend.name

    def usage(self) -> Usage:
        """Return the number of requests, commands and bytes so far."""
        return Usage() if self._api is None else self._api.usage()

    def start(self) -> None:
        """Start to listen, in threads of its own. Do nothing if it already listens.

        Raises:
            ImportError: fakeredis or redis is not installed.
            SettingsError: The Redis URL is invalid.
            UnavailableError: The Redis server cannot be used.
            OSError: The address cannot be listened on.
        """
        if self._server is not None:
            return
        if self._backend is None or self._api is None:
            self._backend = Backend.connect(self._redis_url)
            self._api = Api(
                self._backend,
                token=self.token,
                read_only_token=self.read_only_token,
                max_request_bytes=self._max_request_bytes,
                misbehaviour=self._misbehaviour,
                guarded=is_loopback(self._host),
                any_name=self._tls is not None,
            )
        self._closed.clear()
        try:
            self._server = Server(self._host, self._port, self._api, self._tls)
        except BaseException:
            self._backend.disconnect()
            raise
        self._port = self._server.port

    def close(self) -> None:
        """Stop listening and cut every connection. Do nothing if it is closed."""
        server, self._server = self._server, None
        if server is None:
            return
        self._closed.set()
        server.close()
        if self._backend is not None:
            self._backend.disconnect()

    def serve_forever(self) -> None:
        """Start if necessary, and return when another thread calls `close`."""
        self.start()
        # On Windows, Ctrl-C does not end a wait without a timeout.
        while not self._closed.wait(_LOOK_SECONDS):
            pass


def _tls_context(files: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context
