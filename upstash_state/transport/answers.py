"""An answer's status, headers and bytes -> results or an error. Pure, no I/O.

The error texts are those of Upstash's documentation (`redis/troubleshooting`) and of Redis; a few
are of other servers that speak the same protocol.
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import Any

from .. import errors
from ..errors import AnswerError, RequestTooLargeError, ResponseError, UnavailableError
from ..settings import Secret
from .failures import TRANSIENT, retry_after, shown
from .seam import Answer

# Statuses that say that the request was not executed (RFC 9110, section 15.5.9; RFC 6585,
# section 4).
NOT_EXECUTED = frozenset({408, 429})

_REFUSALS: tuple[tuple[str, type[ResponseError]], ...] = (
    ("WRONGPASS", errors.AuthenticationError),
    ("NOAUTH", errors.AuthenticationError),
    ("Unauthorized", errors.AuthenticationError),
    ("Invalid token", errors.AuthenticationError),
    ("Missing/Invalid authorization", errors.AuthenticationError),
    ("NOPERM", errors.NoPermissionError),
    ("ERR max daily request limit exceeded", errors.QuotaExceededError),
    ("ERR max requests limit exceeded", errors.QuotaExceededError),
    ("ERR max request size exceeded", RequestTooLargeError),
    ("ERR max single record size exceeded", errors.RecordTooLargeError),
    ("ERR max key size exceeded", errors.KeyTooLargeError),
    ("ERR DB capacity quota exceeded", errors.CapacityExceededError),
    ("WRONGTYPE", errors.WrongTypeError),
)
# Of Go's MaxBytesReader, with whatever a server writes before it.
_BODY_TOO_LARGE = "request body too large"
_REFUSING_STATUS: dict[int, tuple[type[ResponseError], str]] = {
    401: (errors.AuthenticationError, "the token was not accepted"),
    413: (RequestTooLargeError, "the request is too large"),
}
# Lists and objects in an answer, outside of its strings, that no command brings; a million of them
# take 0.3 s to read.
MOST_VALUES = 1_000_000


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = JSONDecoder(parse_constant=_not_json).decode


def parse(data: bytes) -> Any:
    """Read JSON in UTF-8, as `json.loads` would, but without NaN and Infinity.

    Args:
        data: The text.

    Raises:
        ValueError: It is not JSON in UTF-8, or holds more lists and objects than an answer can.
        RecursionError: It is nested too deeply.
    """
    if data.count(b"[") + data.count(b"{") > MOST_VALUES:
        bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data)
        if bare.count(b"[") + bare.count(b"{") > MOST_VALUES:
            raise ValueError("too many values")
    return _decode(data.decode())


def interpret(answer: Answer, expected: int | None, *, secret: Secret) -> Any:
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
        kind = errors.SlowDownError if status == 429 else UnavailableError
        raise kind(
            f"the endpoint answered with HTTP status {status}{_words(said, secret)}",
            reason="status",
            transient=True,
            may_have_executed=status not in NOT_EXECUTED,
            retry_after=retry_after(headers.get("Retry-After")),
        )
    if status in _REFUSING_STATUS:
        refusing, text = _REFUSING_STATUS[status]
        raise refusing(f"{text} (HTTP status {status})")
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


def _words(said: Any, secret: Secret) -> str:
    # The endpoint's own, up to where it repeats what it was sent.
    names = ("error", "message", "detail")
    texts = [said.get(name) for name in names] if isinstance(said, dict) else []
    text = next((text for text in texts if isinstance(text, str)), "")
    words = shown(re.split(r"[\[{]", text)[0], secret).strip()
    return words and f": {words}"


def _refusal(text: str, status: int, secret: Secret) -> ResponseError:
    said = shown(text, secret) or f"refused without a reason (HTTP status {status})"
    for beginning, kind in _REFUSALS:
        if text.startswith(beginning):
            return kind(said)
    if text.endswith(_BODY_TOO_LARGE):
        return RequestTooLargeError(said)
    kind, _ = _REFUSING_STATUS.get(status, (ResponseError, ""))
    return kind(said)


def _result(item: dict[str, Any], secret: Secret) -> Any:
    if isinstance(item.get("error"), str):
        return _refusal(item["error"], 200, secret)
    if "result" in item:
        return item["result"]
    raise AnswerError("an answer holds neither result nor error")
