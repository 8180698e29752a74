"""Count the requests of this process, and the commands that Upstash bills."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..logs import plural
from ..transport import Answer, Endpoint, Send, intercepting


@dataclass
class Cost:
    """The requests of a block.

    Attributes:
        requests: HTTP requests sent, repeated ones included.
        commands: Commands in them, which Upstash bills.
        statuses: The number of answers by HTTP status.
    """

    requests: int = 0
    commands: int = 0
    statuses: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"{plural(self.requests, 'request')}, {plural(self.commands, 'billed command')}"


@contextmanager
def metered() -> Iterator[Cost]:
    """Count all requests of this process while the block runs."""
    cost = Cost()

    def counting(wire: Endpoint, send: Send) -> Send:
        def counted(path: str, body: bytes, deadline: float) -> Answer:
            command = json.loads(body)
            cost.requests += 1
            cost.commands += len(command) if isinstance(command[0], list) else 1
            answer = send(path, body, deadline)
            cost.statuses[answer.status] += 1
            return answer

        return counted

    with intercepting(counting):
        yield cost
