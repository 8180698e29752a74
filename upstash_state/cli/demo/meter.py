"""What the demo's requests cost, counted where every attempt of this package passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...transport import Answer, Endpoint, Send, intercepting


@dataclass
class Cost:
    """What has been spent.

    Attributes:
        requests: HTTP requests sent, repeated ones included.
        commands: Commands in them: what Upstash bills.
        bytes_sent: Bytes of JSON in the requests, without the HTTP headers.
        bytes_received: Bytes of JSON in the answers, likewise, and unpacked.
    """

    requests: int = 0
    commands: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests, {self.commands:,} billed commands, "
            f"{self.bytes_sent:,} bytes sent, {self.bytes_received:,} received"
        )


@contextmanager
def metered() -> Iterator[Cost]:
    """Count all requests of this process while the block runs. What is given grows meanwhile."""
    cost = Cost()

    def counting(wire: Endpoint, send: Send) -> Send:
        def counted(path: str, body: bytes, deadline: float) -> Answer:
            command = json.loads(body)
            cost.requests += 1
            cost.commands += len(command) if isinstance(command[0], list) else 1
            cost.bytes_sent += len(body)
            answer = send(path, body, deadline)
            cost.bytes_received += len(answer.body)
            return answer

        return counted

    with intercepting(counting):
        yield cost
