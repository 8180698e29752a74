"""Redis as the embedded endpoint uses it: commands in, what Redis answered out, unchanged."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError, UnavailableError
from .protocol import Command, Failure, Refusal, Reply

if TYPE_CHECKING:
    from redis import ConnectionPool

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
# A thread takes one for each request that it works on, and there is a thread for each client.
_MAX_CONNECTIONS = 10_000
_CODE = re.compile("[A-Z]{3,} ")


class Backend:
    """A Redis server, real or in memory, over which lists of commands are run.

    redis-py's client is not used, only its connections: a client turns answers into Python
    objects, command by command, and an endpoint must hand on what Redis said.
    """

    def __init__(self, pool: ConnectionPool, name: str) -> None:
        self._pool = pool
        #: What a person may call it; holds no password.
        self.name = name

    @classmethod
    def connect(cls, redis_url: str | None) -> Backend:
        """Connect to a server, or make one in memory.

        Args:
            redis_url: Where it is, None for one in memory.

        Raises:
            ImportError: fakeredis or redis is not installed.
            SettingsError: The URL is none.
            UnavailableError: The server does not answer, or refuses to.
        """
        try:
            import redis

            if redis_url is None:
                import fakeredis
        except ImportError as error:
            raise ImportError(
                f"the embedded endpoint needs {error.name}: pip install 'upstash-state[local]'"
            ) from None
        if redis_url is None:
            # RESP2, because that is what the REST API's answers are made of.
            client = fakeredis.FakeRedis(
                server=fakeredis.FakeServer(version=(7,)),
                protocol=2,
                max_connections=_MAX_CONNECTIONS,
            )
            pool: ConnectionPool = client.connection_pool
            name = "fakeredis (in memory: gone when this ends)"
        else:
            try:
                pool = redis.ConnectionPool.from_url(
                    redis_url,
                    protocol=2,
                    max_connections=_MAX_CONNECTIONS,
                    socket_connect_timeout=_CONNECT_SECONDS,
                    socket_timeout=_ANSWER_SECONDS,
                )
            except ValueError:
                # Its text may hold a piece of the password.
                raise SettingsError(
                    "the Redis URL should look like redis://127.0.0.1:6379/0"
                ) from None
            at = pool.connection_kwargs
            name = f"Redis at {at.get('path') or at.get('host', 'localhost')}"
            if "path" not in at:
                name += f":{at.get('port', 6379)}"
            name += f"/{at.get('db', 0)}"
        backend = cls(pool, name)
        backend.check()
        return backend

    def check(self) -> None:
        """Find out whether the server is there.

        Raises:
            UnavailableError: It is not, or refuses this user.
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
            atomic: Whether nobody else's commands may come in between.

        Returns:
            A reply for each command.

        Raises:
            Refusal: The server is gone (the commands may have been run or not), or it discarded
                the transaction as a whole.
        """
        from redis.exceptions import RedisError

        try:
            connection: Any = self._pool.get_connection()
            try:
                if not atomic:
                    connection.send_packed_command(connection.pack_commands(commands))
                    return [_read(connection) for _ in commands]
                connection.send_packed_command(
                    connection.pack_commands([[b"MULTI"], *commands, [b"EXEC"]])
                )
                queued = [_read(connection) for _ in [b"MULTI", *commands]]
                replies = _read(connection)
            finally:
                self._pool.release(connection)
        except RedisError as error:
            text = f"ERR {self.name} is not available: {error}"
            raise Refusal(text, HTTPStatus.SERVICE_UNAVAILABLE) from None
        if isinstance(replies, list):
            return replies
        for reply in (*queued, replies):
            if isinstance(reply, Failure):
                raise Refusal(reply.text)
        raise AssertionError(f"EXEC answered {replies!r}")


def _read(connection: Any) -> Reply:
    from redis.exceptions import ResponseError

    try:
        return _reply(connection.read_response(disable_decoding=True))
    except ResponseError as error:
        return _failure(error)


def _reply(raw: Any) -> Reply:
    if isinstance(raw, list):
        return [_reply(item) for item in raw]
    if isinstance(raw, Exception):
        return _failure(raw)
    reply: Reply = raw
    return reply


def _failure(error: Exception) -> Failure:
    # redis-py takes the code off some errors (ERR, NOSCRIPT) and leaves it on others (WRONGTYPE).
    # Since 7.2 it says which one it took; before, that was ERR in all but rare cases.
    text = str(error)
    code = getattr(error, "status_code", None)
    if code is None and not _CODE.match(text):
        code = "ERR"
    return Failure(f"{code} {text}" if code else text)
