"""fakeredis as the embedded endpoint uses it, with commands that it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

import fakeredis

from .protocol import Command, Failure, Refusal, Reply
from .redis import MAX_CONNECTIONS, Backend
from .scripts import Shape, unchanged

# EVAL_RO lets a script write here.
_SAME = {
    b"BITFIELD_RO": b"BITFIELD",
    b"EVALSHA_RO": b"EVALSHA",
    b"EVAL_RO": b"EVAL",
    b"TOUCH": b"EXISTS",
}
# Redis, too, says after some seconds that a script keeps it busy (busy-reply-threshold).
_BUSY_SECONDS = 6.0


class FakeBackend(Backend):
    """Redis in memory."""

    def __init__(self) -> None:
        self._server = fakeredis.FakeServer(version=(8, 4))
        # RESP2, because that is what the REST API's answers are made of.
        client = fakeredis.FakeRedis(
            server=self._server, protocol=2, max_connections=MAX_CONNECTIONS
        )
        super().__init__(client.connection_pool, "fakeredis (in memory: gone when this ends)")
        self._confined = False
        with suppress(Exception):  # There is no lupa, or this fakeredis uses it in another way.
            from .lua import confine

            confine(client)
            self._confined = True

    def disconnect(self) -> None:
        with suppress(ValueError):  # A script is running.
            super().disconnect()

    @contextmanager
    def _lent(self) -> Iterator[Any]:
        if not self._server.lock.acquire(timeout=_BUSY_SECONDS):
            text = "BUSY Redis is busy running a script"
            raise Refusal(text, HTTPStatus.SERVICE_UNAVAILABLE)
        self._server.lock.release()
        try:
            with super()._lent() as connection:
                yield connection
        except (Refusal, GeneratorExit):
            raise
        except Exception as error:
            text = f"ERR fakeredis failed: {type(error).__name__}: {error}"
            raise Refusal(text, HTTPStatus.INTERNAL_SERVER_ERROR) from error

    def _prepared(self, command: Command) -> tuple[Command, Shape]:
        command, shape = super()._prepared(command)
        command, fill = self._stand_in(command[0].upper(), command)
        return command, lambda reply: shape(fill(reply))

    def _stand_in(self, name: bytes, command: Command) -> tuple[Command, Shape]:
        """Return the command for fakeredis, and what turns its reply into that of Redis."""
        if name == b"INFO":
            return [b"DBSIZE"], _info
        if name == b"MEMORY":
            return [b"DUMP", *command[2:3]], _memory_usage
        if name == b"MONITOR":
            raise Refusal("ERR fakeredis has no MONITOR; the endpoint over a Redis server has")
        if name in (b"FUNCTION", b"FCALL", b"FCALL_RO"):
            return _refused("ERR fakeredis has no functions; the endpoint over a Redis server has")
        if name.startswith(b"EVAL") and not self._confined:
            return _refused("ERR scripts over fakeredis need fakeredis[lua]>=2.36")
        if name == b"FLUSHDB" and [*map(bytes.upper, command[1:])] == [b"SYNC"]:
            return [name], unchanged
        if name in (b"JSON.DEL", b"JSON.FORGET") and len(command) == 2:
            return [*command, b"$"], unchanged
        if name == b"BITFIELD_RO" and any(word.upper() != b"GET" for word in command[2::3]):
            return command, unchanged
        return [_SAME.get(name, command[0]), *command[1:]], unchanged


def _refused(text: str) -> tuple[Command, Shape]:
    return [b"PING"], lambda _: Failure(text)


def _info(keys: Reply) -> Reply:
    lines = ["# Server", "redis_version:8.4.0", "redis_mode:standalone", "# Keyspace"]
    return "".join(f"{line}\r\n" for line in (*lines, f"db0:keys={keys!r}")).encode()


def _memory_usage(dump: Reply) -> Reply:
    return len(dump) if isinstance(dump, bytes) else dump
