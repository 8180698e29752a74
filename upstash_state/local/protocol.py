"""Requests and answers of Upstash's REST API, as bytes. No I/O.

Sources: Upstash's documentation (features/restapi, troubleshooting/*) and, where it says nothing,
two independent servers with the same protocol.
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
Form: TypeAlias = Literal["command", "pipeline", "multi-exec", "stream"]


class Failure:
    """The error of a command, in the words of Redis."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        # In RESP a line break ends an error. Redis does the same.
        self.text = text.replace("\r", " ").replace("\n", " ")


#: The types of RESP2 (https://redis.io/docs/latest/develop/reference/protocol-spec/).
Reply: TypeAlias = "int | bytes | Failure | Sequence[Reply] | None"


class Refusal(Exception):
    """Raised for a request that gets one error, and none of whose commands is executed."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


_STREAMS = (b"MONITOR", b"PSUBSCRIBE", b"SUBSCRIBE")
_LINE_END = re.compile("\r\n|\r|\n")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def read_commands(target: bytes, body: bytes) -> tuple[Form, list[Command]]:
    """Return the commands of a request.

    Args:
        target: The request's path and query.
        body: The request's body.

    Raises:
        Refusal: The request contains no commands in any of the forms.
    """
    path, _, query = target.partition(b"?")
    if path in (b"", b"/"):
        return "command", [_command(_parse(body, "command"), "command")]
    if path in (b"/pipeline", b"/pipeline/"):
        return "pipeline", _commands(body, "pipeline")
    if path in (b"/multi-exec", b"/multi-exec/"):
        return "multi-exec", _commands(body, "multi-exec")
    command = [unquote_to_bytes(part) for part in path[1:].split(b"/")]
    if command[0].upper() in _STREAMS:
        # Upstash's SDK for JavaScript sends a body with these, which has no meaning.
        return "stream", [command]
    if body:
        command.append(body)
    for pair in query.split(b"&"):
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        if name and name != b"_token":
            command += [unquote_to_bytes(part) for part in (name, value) if part]
    return "command", [command]


def token_in_query(target: bytes) -> bytes | None:
    """Return the token in `?_token=`, which Upstash accepts instead of the header."""
    for pair in target.partition(b"?")[2].split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == b"_token":
            return unquote_to_bytes(value)
    return None


def too_large(limit: int, actual: int) -> str:
    """Return the error text for a request or a reply over the plan's size limit, in bytes."""
    return f"ERR max request size exceeded. Limit: {limit} bytes, Actual: {actual} bytes"


def size(reply: Reply) -> int:
    """Return the number of bytes of text in a reply."""
    if isinstance(reply, bytes):
        return len(reply)
    return sum(map(size, reply)) if isinstance(reply, list) else 0


def to_json(replies: Sequence[Reply], *, single: bool, base64: bool) -> bytes:
    """Return the body of an answer: `{"result": ...}` or `{"error": ...}`, or an array of those.

    Args:
        replies: One for each command.
        single: Whether the request was one command, not a list of commands.
        base64: Whether to encode strings, so that any bytes survive.
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
    """Return a reply as a Redis server sends it over TCP, for `Upstash-Response-Format: resp2`.

    It is not known here whether Redis sent a simple or a bulk string. Clients treat both alike.
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


def to_event(reply: Reply, *, first: bool) -> bytes:
    """Return a server-sent event of `/subscribe`, `/psubscribe` or `/monitor`.

    Args:
        reply: What Redis sent.
        first: Whether it is the reply to the command: `/monitor` begins with `"OK"`, in quotes.
    """
    parts = reply if isinstance(reply, list) else [reply]
    text = ",".join(str(_plain(part, base64=False)) for part in parts)
    if first and reply == b"OK":
        text = '"OK"'
    return b"".join(b"data: %s\n" % line.encode() for line in _LINE_END.split(text)) + b"\n"


def _commands(body: bytes, what: Form) -> list[Command]:
    commands = [_command(item, what) for item in _parse(body, what)]
    if not commands:
        raise Refusal(f"ERR empty {what} request")
    return commands


def _parse(body: bytes, what: Form) -> list[Any]:
    try:
        # Numbers keep their digits. NaN and Infinity are not JSON.
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
