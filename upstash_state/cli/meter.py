"""Count the requests of this process, where every attempt of the package passes."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..transport import Answer, Endpoint, Send, intercepting


@dataclass
class Cost:
    """What has been sent and received.

    Attributes:
        requests: HTTP requests sent, repeated ones included.
        commands: Commands in them, which Upstash bills.
        bytes_sent: Bytes of JSON in the requests, without the HTTP headers.
        bytes_received: Bytes of JSON in the answers, likewise, unpacked.
        statuses: How many answers had which HTTP status.
    """

    requests: int = 0
    commands: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    statuses: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests, {self.commands:,} billed commands, "
            f"{self.bytes_sent:,} bytes sent, {self.bytes_received:,} received"
        )


@contextmanager
def metered() -> Iterator[Cost]:
    """Count all requests of this process while the block runs."""
    cost = Cost()

    def counting(wire: Endpoint, send: Send) -> Send:
        def counted(path: str, body: bytes, deadline: float) -> Answer:
            command = json.loads(body)
            cost.requests += 1
            cost.commands += len(command) if isinstance(command[0], list) else 1
            cost.bytes_sent += len(body)
            answer = send(path, body, deadline)
            cost.bytes_received += len(answer.body)
            cost.statuses[answer.status] += 1
            return answer

        return counted

    with intercepting(counting):
        yield cost
