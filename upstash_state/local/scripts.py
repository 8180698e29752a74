"""What Redis is asked for instead of a command: above all for scripts. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import TypeAlias

from .protocol import Command, Failure, Reply
from .refusals import UNAVAILABLE

#: What makes the client's reply of the one from Redis.
Shape: TypeAlias = Callable[[Reply], Reply]

# It comes before a script's first line, so that lines keep their numbers. It hides `redis` behind
# one that refuses what the endpoint refuses, and the names that lead to the original.
_TEXT = Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
_PRELUDE = " ".join(_TEXT.replace("REFUSED", " ".join(sorted(UNAVAILABLE))).split()).encode() + b" "
# https://redis.io/docs/latest/develop/programmability/lua-api/, "Script flags"; the last one is
# Upstash's (features/key-locking). Only no-writes makes a difference here.
_FLAG = b"no-writes|allow-oom|allow-stale|no-cluster|allow-cross-slot-keys|allow-key-locking|,"
_SHEBANG = re.compile(rb"#!lua(?: +flags=(?:%s)*)? *\r?(?=\n|\Z)" % _FLAG)
# Redis says which script failed, and means the one that it got.
_PLACE = re.compile(r" script: [^,]+, on .*")
# For SET and DELEX with a condition, which Redis has from version 8.4 on.
_IF = b"""
local stored = redis.call(ARGV[1], KEYS[1])
if (stored == ARGV[2]) == (ARGV[3] == "=") then
  return redis.call(ARGV[4], KEYS[1], unpack(ARGV, 5))
end
return ARGV[4] == "DEL" and 0
"""
_CONDITIONS = (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE")


class Scripts:
    """The scripts of one endpoint: the SHA1 of each, and of what Redis got for it."""

    def __init__(self) -> None:
        self._shas: dict[bytes, bytes] = {}

    def rewritten(self, command: Command) -> tuple[Command, Shape]:
        """Return what to ask Redis for, and what makes the client's reply of the one to that."""
        name, words = command[0].upper(), command[1:]
        if name in (b"EVAL", b"EVAL_RO") and words:
            _, text, read_only = self._script(words[0])
            return [b"EVAL_RO" if read_only else name, text, *words[1:]], _without_place
        if name in (b"EVALSHA", b"EVALSHA_RO") and words:
            return [name, *self._known(words[:1]), *words[1:]], _without_place
        if name == b"SCRIPT" and len(words) > 1:
            if words[0].upper() == b"EXISTS":
                return [name, b"EXISTS", *self._known(words[1:])], unchanged
            if words[0].upper() == b"LOAD":
                sha, text, _ = self._script(words[1])
                load = [name, b"LOAD", text, *words[2:]]
                return load, lambda reply: reply if isinstance(reply, Failure) else sha
        if name == b"FUNCTION" and words:
            shebang, newline, code = words[-1].partition(b"\n")
            if words[0].upper() == b"LOAD":
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
        text = _PRELUDE + text[len(flags) :]
        self._shas[sha] = sha1(text).hexdigest().encode()
        return sha, text, b"no-writes" in flags

    def _known(self, shas: Command) -> Command:
        return [self._shas.get(sha.lower(), sha) for sha in shas]


def unchanged(reply: Reply) -> Reply:
    """Return the reply."""
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
