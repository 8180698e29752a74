"""Requests and their answers, reduced to what a replay needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import UpstashError
from ..texts import shown
from ..transport import COMMAND, Answer

#: Headers that a recording may hold. Retry-After is recorded, since the client obeys it.
HEADERS = ("Retry-After", "Content-Type")

# The keys among a command's arguments, for commands whose only key is not the first argument.
_KEYS = {
    **dict.fromkeys(("MGET", "DEL", "UNLINK", "EXISTS", "TOUCH"), slice(None)),
    **dict.fromkeys(("SCAN", "KEYS", "DBSIZE", "FLUSHDB", "FLUSHALL", "PING"), slice(0)),
    "MSET": slice(None, None, 2),
    "MSETEX": slice(1, -2, 2),
}


class RecordingError(UpstashError):
    """Raised when a recording cannot be used or made. The text says what to do."""


def keys_of(command: Sequence[str]) -> Sequence[str]:
    """Return the keys that a command names."""
    name, *args = command
    if name.upper() in ("EVAL", "EVALSHA") and args[1:] and args[1].isdecimal():
        return args[2 : 2 + int(args[1])]
    return args[_KEYS.get(name.upper(), slice(1))]


@dataclass(frozen=True)
class Request:
    """A request: `path` is one of the REST API's three, and "/" has exactly one command."""

    path: str
    commands: tuple[tuple[str, ...], ...]

    @property
    def keys(self) -> list[str]:
        """The keys that its commands name."""
        return [key for command in self.commands for key in keys_of(command)]

    def __str__(self) -> str:
        """Return its commands' names and keys, or all arguments where there is no key."""
        words = [[command[0], *(keys_of(command) or command[1:])] for command in self.commands]
        text = ", ".join(" ".join(shown(word, 40) for word in some[:4]) for some in words[:3])
        kind = "" if self.path == COMMAND else f"{self.path.strip('/')} of "
        return f"{kind}{text}{'' if len(words) <= 3 else f' and {len(words) - 3} more'}"


@dataclass(frozen=True)
class Exchange:
    """A request and its answer.

    Attributes:
        request: The request.
        status: The answer's HTTP status.
        body: The answer's body, decompressed.
        headers: The answer's headers, as far as they are in `HEADERS`.
        in_teardown: Whether a fixture's clean-up made the request, after the test itself.
    """

    request: Request
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    in_teardown: bool = False

    @classmethod
    def reduced(cls, request: Request, given: Answer, in_teardown: bool = False) -> Exchange:
        """Create an exchange that holds only the parts of an answer that a recording keeps.

        The test that is recorded gets this answer too, so that it sees what a replay will return.
        """
        answer = _protocol_answer(given.body)
        body = given.body if answer is None else encode(answer)
        kept = {name: given.headers[name] for name in HEADERS[:1] if name in given.headers}
        return cls(request, given.status, body, kept, in_teardown)

    @property
    def answer(self) -> Any:
        """The answer as data, or None if it is outside the REST protocol."""
        return _protocol_answer(self.body)

    def with_answer(self, answer: Any) -> Exchange:
        """Return the same exchange with another answer."""
        return replace(self, body=encode(answer))


def encode(answer: Any) -> bytes:
    """Return an answer as the body of a response."""
    return json.dumps(answer, separators=(",", ":")).encode()


def _protocol_answer(body: bytes) -> Any:
    try:
        answer = json.loads(body)
        # YAML cannot hold lone surrogates, even escaped.
        json.dumps(answer, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    items = answer if isinstance(answer, list) else [answer]
    return answer if all(map(_is_item, items)) else None


def _is_item(item: Any) -> bool:
    """Return whether this is a `{"result": …}` or `{"error": …}` of the REST protocol."""
    if not isinstance(item, dict) or item.keys() not in ({"result"}, {"error"}):
        return False
    return _is_result(item["result"]) if "result" in item else isinstance(item["error"], str)


def _is_result(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_result, value))
    return value is None or isinstance(value, str) or type(value) is int
