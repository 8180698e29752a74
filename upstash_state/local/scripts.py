"""Commands as Redis gets them, which differ from the client's above all for scripts. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import TypeAlias

from .protocol import Command, Failure, Reply
from .refusals import UNAVAILABLE

#: Turns the reply of Redis into the client's.
Shape: TypeAlias = Callable[[Reply], Reply]

# This comes before a script, on its first line, so that the lines keep their numbers. It replaces
# `redis` by one that refuses what the endpoint refuses, and hides the names that lead to the other.
_TEXT = Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
_PRELUDE = " ".join(_TEXT.replace("REFUSED", " ".join(sorted(UNAVAILABLE))).split()).encode() + b" "
# https://redis.io/docs/latest/develop/programmability/lua-api/, "Script flags"; the last one is
# Upstash's (features/key-locking). Only no-writes has an effect here.
_FLAG = b"no-writes|allow-oom|allow-stale|no-cluster|allow-cross-slot-keys|allow-key-locking|,"
_SHEBANG = re.compile(rb"#!lua(?: +flags=(?:%s)*)? *\r?(?=\n|\Z)" % _FLAG)
# Redis adds the SHA1 of the script that it got, which is not the client's.
_PLACE = re.compile(r" script: [^,]+, on .*")
# SET and DELEX with a condition: Redis has them since 8.4, fakeredis only has some of them.
_IF = b"""
local stored = redis.call(ARGV[1], KEYS[1])
if (stored == ARGV[2]) == (ARGV[3] == "=") then
  return redis.call(ARGV[4], KEYS[1], unpack(ARGV, 5))
end
return ARGV[4] == "DEL" and 0
"""
_CONDITIONS = (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE")


class Scripts:
    """The scripts of one endpoint: for the SHA1 of each the one of what Redis got."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[bytes, bool]] = {}

    def rewritten(self, command: Command) -> tuple[Command, Shape]:
        """Return the command for Redis, and what turns its reply into the client's."""
        name, words = command[0].upper(), command[1:]
        if name in (b"EVAL", b"EVAL_RO") and words:
            _, text, read_only = self._script(words[0])
            return [b"EVAL_RO" if read_only else name, text, *words[1:]], _without_place
        if name in (b"EVALSHA", b"EVALSHA_RO") and words:
            sha, read_only = self._lookup(words[0])
            return [b"EVALSHA_RO" if read_only else name, sha, *words[1:]], _without_place
        if name == b"SCRIPT" and len(words) > 1:
            if words[0].upper() == b"EXISTS":
                return [name, b"EXISTS", *(self._lookup(sha)[0] for sha in words[1:])], unchanged
            if words[0].upper() == b"LOAD":
                sha, text, _ = self._script(words[1])
                load = [name, b"LOAD", text, *words[2:]]
                return load, lambda reply: reply if isinstance(reply, Failure) else sha
        if name == b"FUNCTION":
            if len(words) > 1 and words[0].upper() == b"LOAD":
                shebang, newline, code = words[-1].partition(b"\n")
                words[-1] = shebang + newline + _PRELUDE + code
            return [name, *words], _without_prelude
        if name in (b"SET", b"DELEX"):
            return _conditional(name, words) or command, _without_place
        # The other databases of a Redis server are not the endpoint's.
        return [b"FLUSHDB", *words] if name == b"FLUSHALL" else command, unchanged

    def _script(self, text: bytes) -> tuple[bytes, bytes, bool]:
        sha = sha1(text).hexdigest().encode()
        shebang = _SHEBANG.match(text)
        flags = shebang[0] if shebang else b""
        text, read_only = _PRELUDE + text[len(flags) :], b"no-writes" in flags
        self._known[sha] = sha1(text).hexdigest().encode(), read_only
        return sha, text, read_only

    def _lookup(self, sha: bytes) -> tuple[bytes, bool]:
        return self._known.get(sha.lower(), (sha, False))


def unchanged(reply: Reply) -> Reply:
    """Return the reply as it is."""
    return reply


def _without_place(reply: Reply) -> Reply:
    return Failure(_PLACE.sub("", reply.text)) if isinstance(reply, Failure) else reply


def _without_prelude(reply: Reply) -> Reply:
    if isinstance(reply, list):
        return list(map(_without_prelude, reply))
    return reply.replace(_PRELUDE, b"") if isinstance(reply, bytes) else reply


def _conditional(name: bytes, words: Command) -> Command | None:
    fixed = 2 if name == b"SET" else 1
    places = (at for at in range(fixed, len(words) - 1) if words[at].upper() in _CONDITIONS)
    at = next(places, None)
    if at is None:
        return None
    condition, operand = words[at].upper(), words[at + 1]
    read = b"DIGEST" if b"D" in condition else b"GET"
    equal = b"=" if b"EQ" in condition else b"~"
    command = [b"SET" if name == b"SET" else b"DEL", *words[1:at], *words[at + 2 :]]
    return [b"EVAL", _IF, b"1", words[0], read, operand, equal, *command]
