"""What a request to Upstash's REST API means, and how its answer is written. No I/O.

Sources: Upstash's documentation (features/restapi, troubleshooting/*) and, where that is silent,
two independent servers that speak the same protocol.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

#: A command's name and its arguments, as Redis gets them.
Command: TypeAlias = list[bytes]
Form: TypeAlias = Literal["command", "pipeline", "multi-exec"]


class Failure:
    """A command's error, in the words of whoever refused it."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


#: What RESP2 can say (https://redis.io/docs/latest/develop/reference/protocol-spec/).
Reply: TypeAlias = "int | bytes | Failure | Sequence[Reply] | None"


class Refusal(Exception):
    """Raised for a request that is answered with one error, and none of its commands is run."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAX_KEY_BYTES = 32 * 1024

# "Blocking commands are not supported", "WATCH/UNWATCH/DISCARD are not supported", "Only PUBLISH
# and PUBSUB are supported", "Only PING and ECHO are supported" (features/restapi, last section).
# MULTI and EXEC have /multi-exec. MONITOR and SUBSCRIBE exist there as event streams, not here.
_NOT_OVER_REST = _names(
    """
    BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN WAIT WAITAOF
    MULTI EXEC DISCARD WATCH UNWATCH
    MONITOR SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE
    AUTH CLIENT HELLO QUIT RESET SELECT
    """
)
# What a hosted database keeps for its operator. A Redis server behind this endpoint should be as
# safe from its users; some of these also never answer, or answer without being asked.
_NOT_FOR_USERS = _names(
    """
    ACL ASKING BGREWRITEAOF BGSAVE CLUSTER CONFIG DEBUG FAILOVER LASTSAVE LATENCY MEMORY MIGRATE
    MODULE MOVE PFDEBUG PFSELFTEST PSYNC READONLY READWRITE REPLCONF REPLICAOF RESTORE-ASKING ROLE
    SAVE SHUTDOWN SLAVEOF SLOWLOG SWAPDB SYNC
    """
)
# Redis' category @read without SCAN and KEYS ("Some powerful read commands (e.g. SCAN, KEYS) are
# also restricted") and without what Redis calls @dangerous; PING and ECHO touch no data.
_READ_ONLY = _names(
    """
    PING ECHO BITCOUNT BITFIELD_RO BITPOS DBSIZE DUMP EXISTS EXPIRETIME GEODIST GEOHASH GEOPOS
    GEORADIUS_RO GEORADIUSBYMEMBER_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HEXPIRETIME HGET HGETALL
    HKEYS HLEN HMGET HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSTRLEN HTTL HVALS LCS LINDEX LLEN LPOS
    LRANGE MGET PEXPIRETIME PFCOUNT PTTL RANDOMKEY SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS
    SMISMEMBER SRANDMEMBER SSCAN STRLEN SUBSTR SUNION TOUCH TTL TYPE XINFO XLEN XPENDING XRANGE
    XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE
    ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE
    ZUNION JSON.ARRINDEX JSON.ARRLEN JSON.GET JSON.MGET JSON.OBJKEYS JSON.OBJLEN JSON.STRLEN
    JSON.TYPE
    """
)
_ONLY_KEYS = _names("MGET DEL UNLINK EXISTS TOUCH RENAME RENAMENX SDIFF SINTER SUNION PFCOUNT")
_FIRST_IS_NO_KEY = _names("PING ECHO EVAL EVALSHA EVAL_RO EVALSHA_RO PUBLISH SPUBLISH")

# Spaces must not get past the lists above: fakeredis, for one, looks a name up without them.
_NAME = re.compile(r"[A-Z0-9._-]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def read_commands(target: bytes, body: bytes) -> tuple[Form, list[Command]]:
    """The commands of a request.

    Args:
        target: The request's path and query.
        body: The request's body.

    Raises:
        Refusal: It cannot be understood.
    """
    path, _, query = target.partition(b"?")
    if path in (b"", b"/"):
        return "command", [_command(_parse(body, "command"), "command")]
    if path == b"/pipeline":
        return "pipeline", _commands(body, "pipeline")
    if path == b"/multi-exec":
        return "multi-exec", _commands(body, "multi-exec")
    command = [unquote_to_bytes(part) for part in path[1:].split(b"/")]
    if body:
        command.append(body)
    for pair in query.split(b"&"):
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        if name and name != b"_token":
            command += [unquote_to_bytes(part) for part in (name, value) if part]
    return "command", [command]


def token_in_query(target: bytes) -> bytes | None:
    """The token of `?_token=`, the form for clients that cannot set headers."""
    for pair in target.partition(b"?")[2].split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == b"_token":
            return unquote_to_bytes(value)
    return None


def why_refused(command: Command, *, read_only: bool) -> str | None:
    """The error text for a command that must not reach Redis, None for one that may.

    Args:
        command: What was asked for.
        read_only: Whether it was asked with the read-only token.
    """
    if not command:
        return "ERR empty command"
    name = command[0].decode("latin-1").upper()
    if not _NAME.fullmatch(name):
        return f"ERR unknown command '{name}', with args beginning with: "
    blocking_read = name in ("XREAD", "XREADGROUP") and any(
        argument.upper() == b"BLOCK" for argument in command[1:]
    )
    if name in _NOT_OVER_REST or name in _NOT_FOR_USERS or blocking_read:
        return (
            f"ERR Command is not available: '{name}'. "
            "See https://upstash.com/docs/redis/features/restapi for details"
        )
    if read_only and name not in _READ_ONLY:
        return (
            f"NOPERM this user has no permissions to run the '{name.lower()}' command "
            "or its subcommand"
        )
    longest = max(map(len, _keys(name, command)), default=0)
    if longest > MAX_KEY_BYTES:
        return f"ERR max key size exceeded. Limit: {MAX_KEY_BYTES} bytes, Actual: {longest} bytes"
    return None


def too_large(limit: int, actual: int) -> str:
    """The error text for a request, or an answer, over the plan's size limit (in bytes)."""
    return f"ERR max request size exceeded. Limit: {limit} bytes, Actual: {actual} bytes"


def size(reply: Reply) -> int:
    """Bytes of text in a reply."""
    if isinstance(reply, bytes):
        return len(reply)
    return sum(map(size, reply)) if isinstance(reply, list) else 0


def to_json(replies: Sequence[Reply], *, single: bool, base64: bool) -> bytes:
    """The body of an answer: `{"result": ...}` or `{"error": ...}`, or an array of those.

    Args:
        replies: One for each command.
        single: Whether the request was one command.
        base64: Whether strings are to be encoded, so that any bytes survive.
    """
    items = [
        {"error": reply.text}
        if isinstance(reply, Failure)
        else {"result": _plain(reply, base64=base64)}
        for reply in replies
    ]
    body = json.dumps(items[0] if single else items, ensure_ascii=False, separators=(",", ":"))
    return body.encode()


def to_resp2(reply: Reply) -> bytes:
    """A reply as a Redis server sends it over TCP, for `Upstash-Response-Format: resp2`.

    Whether Redis sent a simple or a bulk string is not known here; clients treat both alike.
    """
    if isinstance(reply, Failure):
        return b"-%s\r\n" % reply.text.encode()
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        if reply in (b"OK", b"PONG"):
            return b"+%s\r\n" % reply
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    return b"*%d\r\n%s" % (len(reply), b"".join(map(to_resp2, reply)))


def _commands(body: bytes, what: Form) -> list[Command]:
    commands = [_command(item, what) for item in _parse(body, what)]
    if not commands:
        raise Refusal(f"ERR empty {what} request")
    return commands


def _parse(body: bytes, what: Form) -> list[Any]:
    try:
        # Numbers keep the digits they were sent with. NaN and its like are not JSON.
        parsed = json.loads(
            body.decode("utf-8", "replace"), parse_int=str, parse_float=str, parse_constant=_refuse
        )
    except (ValueError, RecursionError):
        raise _unreadable(what) from None
    if not isinstance(parsed, list):
        raise _unreadable(what)
    return parsed


def _command(parsed: object, what: Form) -> Command:
    if not isinstance(parsed, list):
        raise _unreadable(what)
    return [_argument(item, what) for item in parsed]


def _argument(item: object, what: Form) -> bytes:
    if isinstance(item, bool):
        return b"true" if item else b"false"
    if not isinstance(item, str):
        raise _unreadable(what)
    try:
        return item.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("\ufffd", item).encode()


def _unreadable(what: Form) -> Refusal:
    return Refusal(f"ERR failed to parse {what}" + ("" if what == "command" else " request"))


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _keys(name: str, command: Command) -> Command:
    if name in _ONLY_KEYS:
        return command[1:]
    if name in ("MSET", "MSETNX"):
        return command[1::2]
    return [] if name in _FIRST_IS_NO_KEY else command[1:2]


def _plain(reply: Reply, *, base64: bool) -> object:
    if isinstance(reply, bytes):
        # "all strings in the response will be base64 encoded, except for the "OK" response"
        if base64 and reply != b"OK":
            return b2a_base64(reply, newline=False).decode()
        return reply.decode("utf-8", "replace")
    if isinstance(reply, Failure):
        return reply.text
    if reply is None or isinstance(reply, int):
        return reply
    return [_plain(item, base64=base64) for item in reply]
