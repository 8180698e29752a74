"""UpstashRedis: Redis commands over Upstash's REST API, named and shaped as in redis-py."""

from __future__ import annotations

import os

from . import commands
from .pipeline import Pipeline
from .settings import Settings, check_token, check_url
from .transport import Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, TypeVar

    from .commands import Argument, Command

    T = TypeVar("T")


class UpstashRedis:
    """A client for one database. Safe to share between threads, and across a fork.

    Every method sends one request and raises an `UpstashError` when that brings no result:
    `ResponseError` or a child of it when the endpoint refused, `UnavailableError` or a child when
    it could not be reached or did not work, `DataError` for an argument that cannot be sent.
    Trouble that passes by itself is retried within the time budget, a command that may have been
    run only if running it twice does no harm.

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
        self, url: str, token: str, *, timeout: float = 5.0, allow_http: bool = False
    ) -> None:
        # First, so that no traceback with local variables shows it.
        token = secret = check_token(token)
        #: Where the endpoint is.
        self.url = check_url(url, allow_http=allow_http)
        #: Seconds that one request may take in all.
        self.timeout = timeout
        self._transport = Transport(self.url, secret, timeout=timeout)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> UpstashRedis:
        """A client as the environment's UPSTASH_REDIS_REST_URL and …_TOKEN say.

        Args:
            environ: The variables; `os.environ` when left out.

        Raises:
            MissingCredentialsError: The environment names no database.
            SettingsError: What it names cannot be used.
        """
        settings = Settings(os.environ if environ is None else environ)
        return cls(
            settings.url,
            settings.token,
            timeout=settings.timeout,
            allow_http=settings.allow_http,
        )

    def __repr__(self) -> str:
        return f"<UpstashRedis {self.url}>"

    def __enter__(self) -> UpstashRedis:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections. A later call opens new ones."""
        self._transport.close()

    def execute_command(self, *args: Argument) -> Any:
        """Run any command, such as `execute_command("INCR", "visits")`.

        Args:
            args: The command's name and its arguments; each is sent as text.

        Returns:
            The result as the endpoint gives it: text, int, None or a list of these.
        """
        return self._run(commands.any_command(*args))

    def ping(self) -> bool:
        """True when the endpoint answers and accepts the token."""
        return self._run(commands.ping())

    def set(
        self,
        name: Argument,
        value: Argument,
        ex: int | timedelta | None = None,
        px: int | timedelta | None = None,
        nx: bool = False,
        xx: bool = False,
    ) -> bool | None:
        """Set a key to a value.

        Args:
            name: The key.
            value: The value.
            ex: Expiry in seconds.
            px: Expiry in milliseconds.
            nx: Only if the key does not exist. Not retried once it may have been run.
            xx: Only if the key exists.

        Returns:
            True, or None where `nx` or `xx` kept it from being set.
        """
        return self._run(commands.set_(name, value, ex, px, nx, xx))

    def get(self, name: Argument) -> str | None:
        """The value of a key, None if there is none."""
        return self._run(commands.get(name))

    def mget(self, keys: Argument | Iterable[Argument], *args: Argument) -> list[str | None]:
        """The values of keys, in their order, None for each that is missing or no string."""
        return self._run(commands.mget(keys, *args))

    def delete(self, *names: Argument) -> int:
        """Delete keys.

        Returns:
            How many there were; a count of 0 may mean that a retried request had deleted them.
        """
        return self._run(commands.delete(*names))

    def exists(self, *names: Argument) -> int:
        """How many of the keys exist."""
        return self._run(commands.exists(*names))

    def expire(self, name: Argument, time: int | timedelta) -> bool:
        """Let a key expire after so many seconds. False if there is no such key."""
        return self._run(commands.expire(name, time))

    def ttl(self, name: Argument) -> int:
        """Seconds until a key expires; -1 if it never does, -2 if there is no such key."""
        return self._run(commands.ttl(name))

    def keys(self, pattern: Argument = "*") -> list[str]:
        """All keys that match a glob. One command, but slow on a large database: see `scan`."""
        return self._run(commands.keys(pattern))

    def scan(
        self,
        cursor: int = 0,
        match: Argument | None = None,
        count: int | None = None,
        _type: str | None = None,
    ) -> tuple[int, list[str]]:
        """One page of the keys.

        Args:
            cursor: 0 to begin, then what the page before gave.
            match: A glob that the keys must match; `\\*?[]` in plain text need a backslash.
            count: About how many keys to look at.
            _type: The type that the values must have, such as "string".

        Returns:
            The next cursor, 0 at the end, and the keys. A page may be empty before the end, and
            a key may come twice (Redis's documentation of SCAN).
        """
        return self._run(commands.scan(cursor, match, count, _type))

    def scan_iter(
        self,
        match: Argument | None = None,
        count: int | None = None,
        _type: str | None = None,
    ) -> Iterator[str]:
        """All keys, page by page; arguments as for `scan`. A key may come twice."""
        cursors = commands.Cursors()
        cursor, page = self.scan(0, match, count, _type)
        yield from page
        while cursors.lead_on(cursor):
            cursor, page = self.scan(cursor, match, count, _type)
            yield from page

    def dbsize(self) -> int:
        """How many keys the database holds, of whatever kind."""
        return self._run(commands.dbsize())

    def pipeline(self, transaction: bool = True) -> Pipeline:
        """Collect commands to be sent in one request.

        Args:
            transaction: Whether they run as one, with no other client's in between
                (`/multi-exec`), or merely in order (`/pipeline`).
        """
        return Pipeline(self._transport, transaction=transaction)

    def _run(self, command: Command[T]) -> T:
        return command.read(self._transport.run(command.args, repeatable=command.repeatable))
