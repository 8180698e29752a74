"""Redis as the embedded endpoint uses it: commands in, replies out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError, UnavailableError
from .protocol import Command, Failure, Refusal, Reply
from .scripts import Scripts, Shape

if TYPE_CHECKING:
    from redis import ConnectionPool

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
# `listen` yields at least so often, so that its caller can check whether the client is there.
_LISTEN_SECONDS = 0.1
# Each thread uses one during a request, and each client has a thread.
MAX_CONNECTIONS = 10_000
_CODE = re.compile("[A-Z]{3,} ")
# redis-py removes these codes from the text (redis/_parsers/base.py, EXCEPTION_CLASSES).
_CODES = {
    "NoScriptError": "NOSCRIPT",
    "ReadOnlyError": "READONLY",
    "ExecAbortError": "EXECABORT",
    "NoPermissionError": "NOPERM",
    "BusyLoadingError": "LOADING",
}


class Backend:
    """A Redis server.

    It uses redis-py's connections and not its client, which turns replies into other objects,
    command by command.
    """

    def __init__(self, pool: ConnectionPool, name: str) -> None:
        self._pool = pool
        #: For people. It contains no password.
        self.name = name
        self._scripts = Scripts()

    @classmethod
    def connect(cls, redis_url: str | None) -> Backend:
        """Connect to a server, or make one in memory.

        Args:
            redis_url: Its URL, None for one in memory.

        Raises:
            ImportError: fakeredis or redis is not installed.
            SettingsError: The URL is invalid.
            UnavailableError: The server does not answer, or refuses to.
        """
        try:
            import redis

            if redis_url is None:
                from .fake import FakeBackend

                return FakeBackend()
        except ImportError as error:
            raise ImportError(
                f"{error.name} is missing for the embedded endpoint: "
                "pip install 'upstash-state[local]'"
            ) from None
        try:
            pool = redis.ConnectionPool.from_url(
                redis_url,
                protocol=2,
                max_connections=MAX_CONNECTIONS,
                socket_connect_timeout=_CONNECT_SECONDS,
                socket_timeout=_ANSWER_SECONDS,
            )
        except ValueError:
            # Its text may hold a piece of the password.
            raise SettingsError("the Redis URL should look like redis://127.0.0.1:6379/0") from None
        at = pool.connection_kwargs
        name = f"Redis at {at.get('path') or at.get('host', 'localhost')}"
        if "path" not in at:
            name += f":{at.get('port', 6379)}"
        backend = cls(pool, f"{name}/{at.get('db', 0)}")
        backend.check()
        return backend

    def check(self) -> None:
        """Send PING.

        Raises:
            UnavailableError: The server does not answer, or refuses this user.
        """
        try:
            (answer,) = self.run([[b"PING"]], atomic=False)
        except Refusal as refusal:
            raise UnavailableError(refusal.text.removeprefix("ERR ")) from None
        if isinstance(answer, Failure):
            self.disconnect()
            raise UnavailableError(f"{self.name} refused PING: {answer.text}")

    def disconnect(self) -> None:
        """Close all connections. Further commands open new ones."""
        self._pool.disconnect()

    def run(self, commands: list[Command], *, atomic: bool) -> list[Reply]:
        """Run commands in order, in one round trip.

        Args:
            commands: At least one, none of them empty.
            atomic: Whether to run them as a transaction.

        Returns:
            A reply for each command.

        Raises:
            Refusal: The server is gone or failed (the commands may have been executed anyway), or
                it discarded the transaction.
        """
        commands, shapes = map(list, zip(*map(self._prepared, commands), strict=True))
        with self._lent() as connection:
            if atomic:
                commands = [[b"MULTI"], *commands, [b"EXEC"]]
            connection.send_packed_command(connection.pack_commands(commands))
            replies = [_read(connection) for _ in commands]
        if atomic:
            executed = replies[-1]
            if not isinstance(executed, list):
                failure = next(reply for reply in replies if isinstance(reply, Failure))
                raise Refusal(failure.text)
            replies = executed
        return [shape(reply) for shape, reply in zip(shapes, replies)]

    def _prepared(self, command: Command) -> tuple[Command, Shape]:
        return self._scripts.rewritten(command)

    def listen(self, command: Command) -> Iterator[Reply]:
        """Subscribe or monitor, and yield the messages.

        Args:
            command: SUBSCRIBE, PSUBSCRIBE or MONITOR, with its arguments.

        Yields:
            Each message; None if there is none at the moment.

        Raises:
            Refusal: The server is gone.
        """
        command, _ = self._prepared(command)
        with self._lent() as connection:
            connection.send_packed_command(connection.pack_commands([command]))
            while True:
                yield _read(connection) if connection.can_read(_LISTEN_SECONDS) else None

    @contextmanager
    def _lent(self) -> Iterator[Any]:
        from redis.exceptions import RedisError

        connection: Any = None
        try:
            connection = self._pool.get_connection()
            yield connection
        except BaseException as error:
            if connection is not None:
                # The next request must not get the replies that were not read.
                connection.disconnect()
            if isinstance(error, RedisError):
                text = f"ERR {self.name} is not available: {error}"
                raise Refusal(text, HTTPStatus.SERVICE_UNAVAILABLE) from None
            if isinstance(error, RecursionError):
                raise Refusal("ERR the reply is nested too deeply") from None
            raise
        finally:
            if connection is not None:
                self._pool.release(connection)


def _read(connection: Any) -> Reply:
    from redis.exceptions import ResponseError

    try:
        return _reply(connection.read_response(disable_decoding=True))
    except ResponseError as error:
        return _failure(error)


def _reply(raw: Any) -> Reply:
    if isinstance(raw, (list, tuple, set)):
        return [_reply(item) for item in raw]
    if isinstance(raw, Exception):
        return _failure(raw)
    if raw is None or isinstance(raw, (int, bytes)):
        # fakeredis answers some commands with a bool; RESP2 has integers only.
        return int(raw) if isinstance(raw, bool) else raw
    # fakeredis answers some commands with a float or a str.
    return str(raw).encode()


def _failure(error: Exception) -> Failure:
    # redis-py removes the code from some errors (ERR, NOSCRIPT) and keeps that of others
    # (WRONGTYPE). Since 7.2 it says which one it removed.
    text = str(error)
    code = getattr(error, "status_code", None) or _CODES.get(type(error).__name__)
    if code is None and not _CODE.match(text):
        code = "ERR"
    return Failure(f"{code} {text}" if code else text)
