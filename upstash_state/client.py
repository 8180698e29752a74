"""UpstashRedis: Redis commands over Upstash's REST API, named and shaped as in redis-py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Concatenate, ParamSpec, TypeVar

from . import commands
from .commands import Argument, Command
from .pipeline import Pipeline
from .settings import Secret, Settings, check_token, check_url, own_variables
from .transport import COMMAND, Transport

P = ParamSpec("P")
T = TypeVar("T")


def _sent(command: Callable[P, Command[T]]) -> Callable[Concatenate[UpstashRedis, P], T]:
    """The method of the client that sends this command."""

    def method(self: UpstashRedis, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = self.exchange([command(*args, **kwargs)], path=COMMAND).results[0]
        return result

    return commands.as_method(command, method, None)


class UpstashRedis(Transport):
    """A client for one database. Safe to share between threads, and across a fork.

    Every method sends one request and raises an `UpstashError` when that brings no result:
    `ResponseError` or a child of it when the endpoint refused, `UnavailableError` or a child when
    it could not be reached or did not work, `DataError` for an argument that cannot be sent.
    Transient failures are retried within the time budget, of a command that may have been executed
    only if executing it twice does no harm.

    Args:
        url: UPSTASH_REDIS_REST_URL as the database's page shows it, `https://…`.
        token: UPSTASH_REDIS_REST_TOKEN, or the read-only token.
        timeout: Seconds that one request may take in all, connecting, retries and pauses included.
            Only a name lookup by the platform can go on longer; it is then left to a daemon
            thread, and the call returns in time.
        allow_http: Whether plain http may go to hosts other than loopback, token in clear.

    Raises:
        SettingsError: The URL or the token cannot be used.
    """

    def __init__(
        self, url: str, token: str | Secret, *, timeout: float = 5.0, allow_http: bool = False
    ) -> None:
        # So that no traceback with local variables shows them.
        given_url, given_token = Secret(url), Secret(token)
        del url, token
        secret = check_token(given_token)
        url = check_url(given_url, allow_http=allow_http)
        super().__init__(url, secret, timeout=timeout)
        #: What tells one database from another.
        self.database = (self.url, secret)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> UpstashRedis:
        """A client as the environment's UPSTASH_REDIS_REST_URL and …_TOKEN say.

        Args:
            environ: The variables; `os.environ` when left out.

        Raises:
            MissingCredentialsError: The environment names no database.
            SettingsError: What it names cannot be used.
        """
        # So that no traceback with local variables shows them.
        own, environ = own_variables(environ), None
        return cls.from_settings(Settings(own))

    @classmethod
    def from_settings(cls, settings: Settings) -> UpstashRedis:
        """A client as settings say that have been read and checked."""
        url, token = settings.url, settings.token
        return cls(url, token, timeout=settings.timeout, allow_http=settings.allow_http)

    def __repr__(self) -> str:
        return f"<UpstashRedis {getattr(self, 'url', 'without a URL')}>"

    def __enter__(self) -> UpstashRedis:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    execute_command = _sent(commands.execute_command)
    ping = _sent(commands.ping)
    set = _sent(commands.set)
    msetex = _sent(commands.msetex)
    get = _sent(commands.get)
    mget = _sent(commands.mget)
    delete = _sent(commands.delete)
    exists = _sent(commands.exists)
    expire = _sent(commands.expire)
    ttl = _sent(commands.ttl)
    pttl = _sent(commands.pttl)
    keys = _sent(commands.keys)
    scan = _sent(commands.scan)
    dbsize = _sent(commands.dbsize)

    def scan_iter(
        self, match: Argument | None = None, count: int | None = None, _type: str | None = None
    ) -> Iterator[str]:
        """All keys, page by page; arguments as for `scan`. A key may come twice."""
        cursors = commands.Cursors(count)
        cursor, page = self.scan(0, match, count, _type)
        yield from page
        while cursors.lead_on(cursor, page):
            cursor, page = self.scan(cursor, match, count, _type)
            yield from page

    def pipeline(self, transaction: bool = True) -> Pipeline:
        """Collect commands to be sent in one request.

        Args:
            transaction: Whether they run as one, with no other client's in between
                (`/multi-exec`), or merely in order (`/pipeline`).
        """
        return Pipeline(self, transaction=transaction)
