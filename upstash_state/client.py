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
    """Return the client's method that sends a command."""

    def method(self: UpstashRedis, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = self.exchange([command(*args, **kwargs)], path=COMMAND).results[0]
        return result

    return commands.as_method(command, method, None)


class UpstashRedis(Transport):
    """A client for one database. Threads can share it, and it works on both sides of a fork.

    Each command's method sends one request. On failure, it raises an `UpstashError`: a
    `ResponseError` when the endpoint refused, an `UnavailableError` when it could not be reached or
    did not work, a `DataError` for an argument that cannot be sent. Transient failures are retried
    within the time budget. A command that may have been executed is retried only if executing it
    twice does no harm.

    Args:
        url: UPSTASH_REDIS_REST_URL as the database's page shows it, `https://…`.
        token: UPSTASH_REDIS_REST_TOKEN, or the read-only token.
        timeout: Seconds that one request may take in all, including connection, retries and pauses.
        allow_http: Whether plain http, which sends the token in clear text, may be used to hosts
            other than loopback.

    Raises:
        SettingsError: The URL, the token or the timeout cannot be used.
    """

    def __init__(
        self, url: str, token: str | Secret, *, timeout: float = 5.0, allow_http: bool = False
    ) -> None:
        # No traceback with local variables may show the URL or the token.
        given_url, given_token = Secret(url), Secret(token)
        del url, token
        secret = check_token(given_token)
        url = check_url(given_url, allow_http=allow_http)
        super().__init__(url, secret, timeout=timeout)
        #: The URL and the token, which are equal for clients of the same database.
        self.database = (self.url, secret)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> UpstashRedis:
        """Create a client for the database that the environment names.

        Args:
            environ: The variables, None for `os.environ`.

        Raises:
            MissingCredentialsError: UPSTASH_REDIS_REST_URL or …_TOKEN is not set.
            SettingsError: The URL or the token cannot be used.
        """
        # No traceback with local variables may show the variables.
        own, environ = own_variables(environ), None
        return cls.from_settings(Settings(own))

    @classmethod
    def from_settings(cls, settings: Settings) -> UpstashRedis:
        """Create a client from settings that were read and checked."""
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
        """Yield all keys, page by page. The arguments are those of `scan`. A key may come twice."""
        cursors = commands.Cursors(count)
        cursor, page = self.scan(0, match, count, _type)
        yield from page
        while cursors.lead_on(cursor, page):
            cursor, page = self.scan(cursor, match, count, _type)
            yield from page

    def pipeline(self, transaction: bool = True) -> Pipeline:
        """Collect commands to be sent in one request.

        Args:
            transaction: Whether to execute them as one (`/multi-exec`), with no command of another
                client in between, or one after the other (`/pipeline`).
        """
        return Pipeline(self, transaction=transaction)
