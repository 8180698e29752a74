"""Commands that the embedded endpoint refuses, and the error texts. No I/O."""

from __future__ import annotations

import re

from .protocol import Command


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAX_KEY_BYTES = 32 * 1024

# "Blocking commands are not supported", "WATCH/UNWATCH/DISCARD are not supported", "Only PUBLISH
# and PUBSUB are supported", "Only PING and ECHO are supported" (features/restapi, last section).
# MULTI and EXEC have /multi-exec; MONITOR and SUBSCRIBE are event streams.
_NOT_OVER_REST = _names(
    """
    WAIT WAITAOF MULTI EXEC DISCARD WATCH UNWATCH
    MONITOR SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE
    AUTH CLIENT HELLO QUIT RESET SELECT
    """
)
# BLPOP, BRPOP, BZMPOP and the like; no other command begins so.
_BLOCKING = ("BL", "BR", "BZ")
# Commands for the operator of a server, and for other databases than the endpoint's. Some of them
# never reply, or reply without being asked.
_NOT_FOR_USERS = _names(
    """
    ACL ASKING BGREWRITEAOF BGSAVE CLUSTER CONFIG DEBUG FAILOVER LASTSAVE LATENCY MIGRATE
    MODULE MOVE PFDEBUG PFSELFTEST PSYNC READONLY READWRITE REPLCONF REPLICAOF RESTORE-ASKING ROLE
    SAVE SHUTDOWN SLAVEOF SLOWLOG SWAPDB SYNC
    """
)
#: Scripts must not call these either.
UNAVAILABLE = _NOT_OVER_REST | _NOT_FOR_USERS
# Redis' category @read without SCAN and KEYS ("Some powerful read commands (e.g. SCAN, KEYS) are
# also restricted") and without Redis' category @dangerous; PING and ECHO touch no data.
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
# The others need a connection of their own, such as SCRIPT DEBUG, or are for the operator.
_SUBCOMMANDS = {
    "FUNCTION": _names("DELETE FLUSH LIST LOAD STATS"),
    "MEMORY": _names("USAGE"),
    "SCRIPT": _names("EXISTS FLUSH LOAD"),
}
_ONLY_KEYS = _names("MGET DEL UNLINK EXISTS TOUCH RENAME RENAMENX SDIFF SINTER SUNION PFCOUNT")
_FIRST_IS_NO_KEY = _names("PING ECHO EVAL EVALSHA EVAL_RO EVALSHA_RO PUBLISH SPUBLISH")

# A name with a space is in none of the lists above, but fakeredis may find its command.
_NAME = re.compile(r"[A-Z0-9._-]+")


def why_refused(command: Command, *, read_only: bool) -> str | None:
    """Return the error text for a command that must not reach Redis, None for any other.

    Args:
        command: The command.
        read_only: Whether the request has the read-only token.
    """
    if not command:
        return "ERR empty command"
    name = command[0].decode("latin-1").upper()
    if not _NAME.fullmatch(name):
        return f"ERR unknown command '{name}', with args beginning with: "
    if "." in name and not name.startswith("JSON."):
        # Modules that Upstash does not have.
        return f"ERR unknown command '{name}', with args beginning with: "
    subcommand = command[1].decode("latin-1").upper() if len(command) > 1 else ""
    if (
        name in UNAVAILABLE
        or name.startswith(_BLOCKING)
        or subcommand not in _SUBCOMMANDS.get(name, {subcommand})
        or (name in ("XREAD", "XREADGROUP") and _blocks(command))
        or (name == "COPY" and b"DB" in map(bytes.upper, command[3:]))
    ):
        return (
            f"ERR Command is not available: '{name}'. "
            "See https://upstash.com/docs/redis/features/restapi for details"
        )
    if read_only and name not in _READ_ONLY:
        return no_permission(name)
    longest = max(map(len, _keys(name, command)), default=0)
    if longest > MAX_KEY_BYTES:
        return f"ERR max key size exceeded. Limit: {MAX_KEY_BYTES} bytes, Actual: {longest} bytes"
    return None


def no_permission(name: str) -> str:
    """Return the error text for a command that the read-only token may not run."""
    return (
        f"NOPERM this user has no permissions to run the '{name.lower()}' command or its subcommand"
    )


def _blocks(command: Command) -> bool:
    # Names follow GROUP and STREAMS, and a stream may be called "block".
    position = 1
    while position < len(command):
        word = command[position].upper()
        if word in (b"BLOCK", b"STREAMS"):
            return word == b"BLOCK"
        position += {b"GROUP": 3, b"COUNT": 2}.get(word, 1)
    return False


def _keys(name: str, command: Command) -> Command:
    if name in _ONLY_KEYS:
        return command[1:]
    if name in ("MSET", "MSETNX"):
        return command[1::2]
    if name == "MSETEX":
        return command[2 : 2 + 2 * _whole(command[1:2]) : 2]
    return [] if name in _FIRST_IS_NO_KEY else command[1:2]


def _whole(argument: Command) -> int:
    return int(argument[0]) if argument and argument[0].isdigit() else 0
