"""The embedded endpoint: Upstash's REST API on loopback, for tests, demos and development.

    with LocalEndpoint() as endpoint:
        client = UpstashRedis(endpoint.url, endpoint.token)

It runs over fakeredis, in memory, or over a real Redis server. Both come with the extra `local`.
What it does not have of the real one: quotas, several regions, `/monitor` and `/subscribe`.
"""

from __future__ import annotations

import secrets
import ssl
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from ..errors import UpstashError
from ..settings import check_token, is_loopback
from .api import Api, Usage
from .http import Server
from .redis import Backend

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["LocalEndpoint", "Usage", "serve"]


class LocalEndpoint:
    """Upstash's REST API, served by this process.

    Use it as a context manager, or call `start` and `close`. After `close` it can be started again,
    on the same port and with the same data, like an endpoint that was down for a while.

    Attributes:
        token: The token that may do everything.
        read_only_token: The token that may only read, and not SCAN or KEYS.
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
    ) -> None:
        """Prepare an endpoint. Nothing is opened before `start`.

        Args:
            port: The port to listen on, 0 for a free one.
            host: The address to listen on.
            token: The token that may do everything, None for a random one.
            read_only_token: The token that may only read, None for a random one.
            redis_url: A Redis server to work on (redis://, rediss:// or unix://), None for one in
                memory (fakeredis).
            max_request_bytes: Size limit in bytes of a request's body, and of what one command
                answers. The default is that of Upstash's free and pay-as-you-go plans.
            tls: Paths of a certificate and its key, or a context, to speak HTTPS.

        Raises:
            SettingsError: A token is none that a header can hold.
        """
        self.token = check_token(secrets.token_urlsafe(32) if token is None else token)
        self.read_only_token = check_token(
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
        """Where it listens, or will, as in `http://127.0.0.1:54321`.

        Raises:
            RuntimeError: The port was left open, and it has not been started yet.
        """
        if not self._port:
            raise RuntimeError("the endpoint has no address before it is started")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self._port}"

    @property
    def backend(self) -> str:
        """What holds the data, for people. Has no password in it."""
        return "nothing yet" if self._backend is None else self._backend.name

    def usage(self) -> Usage:
        """What it has been asked to do so far."""
        return Usage() if self._api is None else self._api.usage()

    def start(self) -> None:
        """Start to listen, in threads of its own. Does nothing if it already does.

        Raises:
            ImportError: fakeredis or redis is not installed.
            SettingsError: The Redis URL is none.
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
            )
        try:
            self._server = Server(self._host, self._port, self._api, self._tls)
        except BaseException:
            self._backend.disconnect()
            raise
        self._port = self._server.port
        self._closed.clear()

    def close(self) -> None:
        """Stop listening and cut every connection. Does nothing if it is closed."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        if self._backend is not None:
            self._backend.disconnect()
        self._closed.set()

    def serve_forever(self) -> None:
        """Start if need be, and return when `close` is called in another thread."""
        self.start()
        self._closed.wait()


def serve(
    port: int,
    token: str | None,
    redis_url: str | None,
    host: str = "127.0.0.1",
    out: TextIO | None = None,
) -> int:
    """Run an endpoint for a person at a terminal, until Ctrl-C.

    Args:
        port: The port to listen on, 0 for a free one.
        token: The token to accept, None for a random one.
        redis_url: A Redis server to work on, None for one in memory.
        host: The address to listen on.
        out: Where to print to, None for standard output.

    Returns:
        The exit status: 0 when it was stopped, 1 when it could not be started.
    """
    out = sys.stdout if out is None else out
    try:
        endpoint = LocalEndpoint(port=port, host=host, token=token, redis_url=redis_url)
        endpoint.start()
    except (OSError, OverflowError) as error:
        print(f"Cannot listen on {host}, port {port}: {error}", file=out)
        return 1
    except (ImportError, UpstashError) as error:
        print(f"Cannot start: {error}", file=out)
        return 1
    try:
        with endpoint:
            print(f"Upstash's REST API at {endpoint.url}, over {endpoint.backend}.\n", file=out)
            print(f"export UPSTASH_REDIS_REST_URL={endpoint.url}", file=out)
            print(f"export UPSTASH_REDIS_REST_TOKEN={endpoint.token}\n", file=out)
            if not is_loopback(host):
                print(
                    f"Warning: {host} is not a loopback address. This is plain HTTP: whoever can\n"
                    "see the traffic can read the token, and with it all the data.\n",
                    file=out,
                )
            print("Ctrl-C ends it.", file=out, flush=True)
            endpoint.serve_forever()
    except KeyboardInterrupt:
        print(file=out)
    return 0


def _tls_context(files: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context
