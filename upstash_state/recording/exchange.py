"""What a recording holds: requests and their answers, reduced to what matters on replay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import UpstashError
from ..serialization import escape_surrogates
from ..transport import Answer

# The one header that changes what a client does next. Content-Type is kept beside it only for an
# answer that is not the protocol's, such as a gateway's HTML page.
KEPT_HEADERS = ("Retry-After", "Content-Type")

#: What JSON leaves as it is and YAML does not: unprintable characters and its own line breaks.
UNFIT_FOR_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff\U0010ffff]")


class RecordingError(UpstashError):
    """Raised for a recording that cannot be used or made. The text says what to do."""


@dataclass(frozen=True)
class Request:
    """What was asked: `path` is one of the REST API's three, and "/" has exactly one command."""

    path: str
    commands: tuple[tuple[str, ...], ...]

    @property
    def shape(self) -> tuple[str, list[tuple[str, int]]]:
        """All but its arguments: its path, and each command's name and length."""
        return self.path, [(command[0], len(command)) for command in self.commands]

    def __str__(self) -> str:
        texts = []
        for command in self.commands[:3]:
            text = " ".join(arg if len(arg) < 40 else arg[:30] + "…" for arg in command[:9])
            texts.append(" ".join(text.split()) + (" …" if len(command) > 9 else ""))
        more = f" and {len(self.commands) - 3} more" if len(self.commands) > 3 else ""
        return f"POST {self.path} {', '.join(texts)}{more}"


@dataclass(frozen=True)
class Exchange:
    """A request and its answer.

    Attributes:
        request: What was asked.
        status: The answer's HTTP status.
        body: The answer's body, decompressed.
        headers: Those of the answer's headers that are in `KEPT_HEADERS`.
        in_teardown: Whether the request was made after the test itself, by a fixture's clean-up.
    """

    request: Request
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    in_teardown: bool = False

    @classmethod
    def reduced(cls, request: Request, given: Answer, in_teardown: bool = False) -> Exchange:
        """An exchange with only what is kept of an answer.

        The test that records is given this, too, so that it sees what replay will give it.
        """
        answer = _protocol_answer(given.body)
        body = given.body if answer is None else encode(answer)
        names = KEPT_HEADERS if answer is None else KEPT_HEADERS[:1]
        kept = {name: given.headers[name] for name in names if name in given.headers}
        return cls(request, given.status, body, kept, in_teardown)

    @property
    def answer(self) -> Any:
        """The answer as data, or None if it is not one of the REST protocol."""
        return _protocol_answer(self.body)

    def with_answer(self, answer: Any) -> Exchange:
        """The same exchange with another answer."""
        return replace(self, body=encode(answer))


def encode(answer: Any) -> bytes:
    """An answer as the body of a response."""
    return json.dumps(answer, separators=(",", ":")).encode()


def text_of(value: Any) -> str:
    """JSON text as this package stores it, with surrogates escaped that UTF-8 cannot carry."""
    return escape_surrogates(json.dumps(value, ensure_ascii=False))


def indented(text: str) -> str | None:
    """Stored JSON text for reading, or None where it would not come back the same."""
    if not text.startswith(("{", "[")):
        return None
    try:
        value = json.loads(text)
        if text_of(value) != text:
            return None
        block = json.dumps(value, ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return None
    return UNFIT_FOR_YAML.sub(lambda unfit: json.dumps(unfit[0])[1:-1], block)


def is_item(item: Any) -> bool:
    """Whether it is a `{"result": …}` or `{"error": …}` of the REST protocol."""
    if not isinstance(item, dict) or item.keys() not in ({"result"}, {"error"}):
        return False
    return _is_result(item["result"]) if "result" in item else _is_text(item["error"])


def _protocol_answer(body: bytes) -> Any:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    items = answer if isinstance(answer, list) else [answer]
    return answer if all(is_item(item) for item in items) else None


def _is_result(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_result(item) for item in value)
    return value is None or _is_text(value) or type(value) is int


def _is_text(value: Any) -> bool:
    # YAML cannot hold lone surrogates, not even escaped.
    return isinstance(value, str) and escape_surrogates(value) == value
