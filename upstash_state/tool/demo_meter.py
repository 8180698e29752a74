"""What the demo's requests cost, counted where every request of this package passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class Cost(NamedTuple):
    """What has been spent.

    Attributes:
        requests: HTTP requests sent, repeated ones included.
        commands: Commands in them: what Upstash bills.
        bytes_sent: Bytes of JSON in the requests, without the HTTP headers.
        bytes_received: Bytes of the answers, as they came over the wire, without the headers.
    """

    requests: int
    commands: int
    bytes_sent: int
    bytes_received: int


class Meter:
    """Counts requests; `cost()` says what they came to."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        self._answers: list[Any] = []

    def count(self, body: bytes) -> None:
        """Enter a request that is about to be sent."""
        self._bodies.append(body)

    def count_answer(self, answer: Any) -> None:
        """Enter an answer of urllib3, which need not have been read yet."""
        self._answers.append(answer)

    def cost(self) -> Cost:
        """What has been spent so far."""
        commands = 0
        for body in self._bodies:
            parsed = json.loads(body)
            commands += len(parsed) if isinstance(parsed[0], list) else 1
        return Cost(
            len(self._bodies),
            commands,
            sum(map(len, self._bodies)),
            sum(answer.tell() for answer in self._answers),
        )


@contextmanager
def metered() -> Iterator[Meter]:
    """Count all requests of this process while the block runs."""
    from requests.adapters import HTTPAdapter

    meter = Meter()
    send = HTTPAdapter.send

    def counting(self: HTTPAdapter, request: Any, *args: Any, **kwargs: Any) -> Any:
        meter.count(request.body)
        response = send(self, request, *args, **kwargs)
        meter.count_answer(response.raw)
        return response

    HTTPAdapter.send = counting  # type: ignore[method-assign]
    try:
        yield meter
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]
