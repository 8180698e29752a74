"""Turn an answer's status, headers and body into results or an error. No I/O.

The error texts are those of Upstash's documentation (`redis/troubleshooting`) and of Redis; a few
are of other servers that speak the same protocol.
"""

from __future__ import annotations

import math
from json import JSONDecoder
from typing import Any

from .. import errors
from ..errors import (
    AnswerError,
    RequestTooLargeError,
    ResponseError,
    UnavailableError,
)
from ..settings import Secret
from .failures import TRANSIENT, retry_after
from .seam import Answer
from .sent import SentRequest

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
# The end of the error text of Go's MaxBytesReader. Servers may put other text before it.
_BODY_TOO_LARGE = "request body too large"
_REFUSING_STATUS: dict[int, tuple[type[ResponseError], str]] = {
    401: (errors.AuthenticationError, "the token was not accepted"),
    413: (RequestTooLargeError, "the request is too large"),
}
_NO_RESULT = object()
# The keys under which gateways put their error text, perhaps in nested objects and lists.
_WORDS = ("error", "errors", "message", "msg", "detail", "description", "title")


def _finite(text: str) -> float:
    number = float(text)
    if math.isfinite(number):
        return number
    raise ValueError(f"{text[:20]} is not a number that JSON can hold")


# Reads JSON as `json.loads` does, but without NaN and infinite numbers.
_decode = JSONDecoder(parse_constant=_finite, parse_float=_finite).decode


def interpret(answer: Answer, expected: int | None, body: bytes, token: Secret) -> list[Any]:
    """Return the results that an answer holds.

    Args:
        answer: The answer.
        expected: The number of items of a pipeline or transaction, None for a single command.
        body: The body of the request, which no error text repeats.
        token: The token of the request, which no error text repeats.

    Returns:
        The result or the `ResponseError` of each command.

    Raises:
        ResponseError: The request was refused.
        UnavailableError: The endpoint did not work, or the answer does not follow the REST API.
    """
    status, headers, data = answer
    try:
        said = _decode(data.decode())
    except (ValueError, RecursionError):
        said = None
    sent = SentRequest(body, token)
    items = [said] if expected is None else said
    if 200 <= status < 300 and isinstance(items, list):
        results = [_result(item, sent) for item in items]
        if expected not in (None, len(results)):
            raise AnswerError(f"the number of results is {len(results)} instead of {expected}")
        if _NO_RESULT not in results:
            return results
    refused = _result(said, sent, status)
    known = type(refused) is not ResponseError
    if isinstance(refused, ResponseError) and (known or status not in TRANSIENT):
        raise refused
    if said is None and b"<" not in data and data.isascii():
        # Neither JSON nor HTML: some gateways send their error text as plain text.
        said = data[:1000].decode()
    words = sent.own_words(_words_in(said)).strip()
    words = words and f": {words}"
    if status in TRANSIENT or status >= 500:
        kind = errors.SlowDownError if status == 429 else UnavailableError
        raise kind(
            f"the endpoint answered with HTTP status {status}{words}",
            reason="status",
            transient=status in TRANSIENT,
            may_have_executed=status not in NOT_EXECUTED,
            retry_after=retry_after(headers.get("Retry-After")),
        )
    if status in _REFUSING_STATUS:
        refusing, text = _REFUSING_STATUS[status]
        raise refusing(f"{text} (HTTP status {status}){words}")
    if not 200 <= status < 300:
        hint = ", a redirect: the token goes to no other address" if 300 <= status < 400 else ""
        text = f"HTTP status {status}{hint}, not an answer of the REST API{words}"
        raise AnswerError(text, reason="status" if status >= 400 else "answer")
    # If a connection closes inside the headers, http.client takes them as complete. Such an answer
    # has an empty body, and no header that gives its length.
    cut = not data and not {"Content-Length", "Transfer-Encoding"}.intersection(headers)
    text = f"what came back is not an answer of Upstash's REST API{words}"
    raise AnswerError(text, transient=cut)


def _result(item: Any, sent: SentRequest, status: int = 200) -> Any:
    if not isinstance(item, dict):
        return _NO_RESULT
    text = item.get("error")
    if not isinstance(text, str):
        return item.get("result", _NO_RESULT)
    kind, _ = _REFUSING_STATUS.get(status, (ResponseError, ""))
    if text.endswith(_BODY_TOO_LARGE):
        kind = RequestTooLargeError
    known = ((start, kind) for start, kind in _REFUSALS if text.startswith(start))
    start, kind = next(known, ("", kind))
    # An order may have the words of a known text.
    own = max(sent.own_words(text), start, key=len)
    return kind(own or f"refused without a reason (HTTP status {status})")


def _words_in(said: Any, depth: int = 4) -> str:
    if isinstance(said, str) or not depth:
        return said if isinstance(said, str) else ""
    inside = [said.get(name) for name in _WORDS] if isinstance(said, dict) else []
    inside += said[:1] if isinstance(said, list) else []
    return next(filter(None, (_words_in(one, depth - 1) for one in inside)), "")
