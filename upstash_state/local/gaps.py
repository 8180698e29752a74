"""What Upstash has and fakeredis lacks, made from what fakeredis has."""

from __future__ import annotations

from collections.abc import Callable

from .protocol import Command, Refusal, Reply

# EVAL_RO lets a script write here.
_SAME = {
    b"BITFIELD_RO": b"BITFIELD",
    b"EVALSHA_RO": b"EVALSHA",
    b"EVAL_RO": b"EVAL",
    b"TOUCH": b"EXISTS",
}


def stand_in(command: Command) -> tuple[Command, Callable[[Reply], Reply]]:
    """What to ask fakeredis, and what makes its reply that of Redis.

    Args:
        command: What was asked for, not empty.

    Raises:
        Refusal: Nothing can stand in.
    """
    name = command[0].upper()
    if name == b"INFO":
        return [b"DBSIZE"], _info
    if name == b"MEMORY":
        return [b"DUMP", *command[2:3]], _memory_usage
    if name == b"MONITOR":
        raise Refusal("ERR fakeredis has no MONITOR; the endpoint over a Redis server has")
    if name in (b"JSON.DEL", b"JSON.FORGET") and len(command) == 2:
        return [*command, b"$"], _unchanged
    if name == b"BITFIELD_RO" and any(word.upper() != b"GET" for word in command[2::3]):
        return command, _unchanged
    return [_SAME.get(name, command[0]), *command[1:]], _unchanged


def _info(keys: Reply) -> Reply:
    lines = ["# Server", "redis_version:8.4.0", "redis_mode:standalone", "# Keyspace"]
    return "".join(f"{line}\r\n" for line in (*lines, f"db0:keys={keys!r}")).encode()


def _memory_usage(dump: Reply) -> Reply:
    return len(dump) if isinstance(dump, bytes) else dump


def _unchanged(reply: Reply) -> Reply:
    return reply
