"""An answer's status, headers and bytes -> results or an error. Pure, no I/O.

The error texts are those of Upstash's documentation (`redis/troubleshooting`) and of Redis; a few
are of other servers that speak the same protocol.
"""

from __future__ import annotations

from json import JSONDecoder
from typing import Any

from ..errors import (
    AnswerError,
    AuthenticationError,
    CapacityExceededError,
    KeyTooLargeError,
    NoPermissionError,
    QuotaExceededError,
    RecordTooLargeError,
    RequestTooLargeError,
    ResponseError,
    UnavailableError,
    WrongTypeError,
)
from .failures import TRANSIENT, retry_after
from .seam import Answer

# Statuses that say that the request was not executed (RFC 9110, section 15.5.9; RFC 6585,
# section 4).
NOT_EXECUTED = frozenset({408, 429})

_REFUSALS: tuple[tuple[str, type[ResponseError]], ...] = (
    ("WRONGPASS", AuthenticationError),
    ("NOAUTH", AuthenticationError),
    ("Unauthorized", AuthenticationError),
    ("Invalid token", AuthenticationError),
    ("Missing/Invalid authorization", AuthenticationError),
    ("NOPERM", NoPermissionError),
    ("ERR max daily request limit exceeded", QuotaExceededError),
    ("ERR max requests limit exceeded", QuotaExceededError),
    ("ERR max request size exceeded", RequestTooLargeError),
    ("ERR max single record size exceeded", RecordTooLargeError),
    ("ERR max key size exceeded", KeyTooLargeError),
    ("ERR DB capacity quota exceeded", CapacityExceededError),
    ("WRONGTYPE", WrongTypeError),
)
_REFUSING_STATUS: dict[int, tuple[type[ResponseError], str]] = {
    401: (AuthenticationError, "the token was not accepted"),
    413: (RequestTooLargeError, "the request is too large"),
}
# Servers put what they were sent into their error texts; an order in a log line is too much.
LONGEST_TEXT = 500


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = JSONDecoder(parse_constant=_not_json).decode


def parse(data: bytes) -> Any:
    """Read JSON in UTF-8, as `json.loads` would, but without NaN and Infinity.

    Python holds text with one emoji in it at four bytes a character, and takes its time over that.
    A page of orders is therefore read as Latin-1, in which characters are bytes, and each string
    in it is decoded by itself.

    Args:
        data: The text.

    Raises:
        ValueError: It is not JSON in UTF-8.
        RecursionError: It is nested too deeply.
    """
    # An escape stands for a character, which may be none of Latin-1, or not a byte.
    if data.isascii() or b"\\u" in data:
        return _decode(data.decode())
    return _in_utf8(_decode(data.decode("latin-1")))


def _in_utf8(value: Any) -> Any:
    if type(value) is str:
        return value if value.isascii() else value.encode("latin-1").decode()
    if type(value) is list:
        return [_in_utf8(item) for item in value]
    if type(value) is dict:
        return {_in_utf8(key): _in_utf8(item) for key, item in value.items()}
    return value


def interpret(answer: Answer, expected: int | None, *, secret: str) -> Any:
    """What an answer says.

    Args:
        answer: The answer.
        expected: The number of items of a pipeline or transaction, None for a single command.
        secret: What an error text must not repeat.

    Returns:
        A single command's result; or a list with each item's result or `ResponseError`.

    Raises:
        ResponseError: The request was refused.
        UnavailableError: It is not an answer that Upstash's REST API gives when it works.
    """
    status, headers, data = answer
    try:
        said = parse(data)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict) and isinstance(said.get("error"), str):
        refused = _refusal(said["error"], status, secret)
        if type(refused) is not ResponseError or status not in TRANSIENT:
            raise refused
    if status in TRANSIENT:
        raise UnavailableError(
            f"the endpoint answered with HTTP status {status}",
            reason="status",
            transient=True,
            may_have_executed=status not in NOT_EXECUTED,
            retry_after=retry_after(headers.get("Retry-After")),
        )
    if status in _REFUSING_STATUS:
        kind, text = _REFUSING_STATUS[status]
        raise kind(f"{text} (HTTP status {status})")
    if not 200 <= status < 300:
        hint = ", a redirect: the token goes to no other address" if 300 <= status < 400 else ""
        raise AnswerError(
            f"HTTP status {status}{hint}, not an answer of the REST API", reason="status"
        )
    items = [said] if expected is None else said
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        # To http.client, headers end where the connection does, so of an answer that ended among
        # them a status is left, and a body of nothing that nobody announced.
        cut = not data and not {"Content-Length", "Transfer-Encoding"}.intersection(headers)
        raise AnswerError("what came back is not an answer of Upstash's REST API", transient=cut)
    if expected is not None and len(items) != expected:
        raise AnswerError(f"{expected} commands were answered with {len(items)} results")
    results = [_result(item, secret) for item in items]
    return results[0] if expected is None else results


def _refusal(text: str, status: int, secret: str) -> ResponseError:
    shown = text.replace(secret, "***") or f"refused without a reason (HTTP status {status})"
    if len(shown) > LONGEST_TEXT:
        shown = shown[:LONGEST_TEXT] + "…"
    # A line break would let a text write log lines of its own.
    shown = "".join(char if char.isprintable() else " " for char in shown)
    for beginning, kind in _REFUSALS:
        if text.startswith(beginning):
            return kind(shown)
    kind, _ = _REFUSING_STATUS.get(status, (ResponseError, ""))
    return kind(shown)


def _result(item: dict[str, Any], secret: str) -> Any:
    if isinstance(item.get("error"), str):
        return _refusal(item["error"], 200, secret)
    if "result" in item:
        return item["result"]
    raise AnswerError("an answer holds neither result nor error")
