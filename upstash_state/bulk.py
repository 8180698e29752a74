"""Work cut into requests: below a size and a number, and in halves where that was too much."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from .errors import AnswerTooLargeError, RequestTooLargeError, UnavailableError, UpstashError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Below every plan's limit for a request, which is 10 MB or more.
MOST_BYTES = 4_000_000
# up-redis takes 1,000 commands in a pipeline; serverless-redis-http runs them one by one.
MOST_COMMANDS = 500
# Bytes of a SET in a pipeline that are neither key nor text: brackets, quotes, commas, PX, expiry.
AROUND = 60
TOO_LARGE = (RequestTooLargeError, AnswerTooLargeError)
# How many failures in a row a request may be halved after, by their reason. A slow endpoint may do
# half of it in time; one that answers 500 may do so because of a single command.
PATIENCE = {"timeout": 1, "status": 2}


class Requests(Generic[Item]):
    """Cuts work into requests, and remembers how much the endpoint could do at once.

    Args:
        most: How many items a request may have.
        size: How many bytes an item takes; None where that does not matter.
        grows: Whether to try larger ones again in the next run.
    """

    def __init__(
        self, most: int, size: Callable[[Item], int] | None = None, *, grows: bool = True
    ) -> None:
        self._most = most
        self._size = size
        self._grows = grows
        #: How many items a request has at the moment.
        self.now = most

    def run(
        self, items: Iterable[Item], send: Callable[[list[Item]], Sequence[Result]]
    ) -> Iterator[tuple[Item, Result | UpstashError]]:
        """Send all items.

        Halves are sent after the others, so that a single item to blame fails between successes.
        After a failure that halves cannot help, no further request is made.

        Args:
            items: What to send.
            send: Sends some of them and gives each one's result, or raises.

        Yields:
            Each item with its result, or with what its request failed with.
        """
        if self._grows:
            self.now = min(self._most, self.now * 2)
        waiting = deque(items)
        halves: deque[list[Item]] = deque()
        failures = 0
        ended: UpstashError | None = None
        while waiting or halves:
            part = halves.popleft() if halves else self._part(waiting)
            results: Sequence[Result | UpstashError]
            if ended is not None:
                yield from ((item, ended) for item in part)
                continue
            try:
                results = send(part)
                failures = 0
            except UpstashError as error:
                too_large = isinstance(error, TOO_LARGE)
                failures += not too_large
                patience = (
                    PATIENCE.get(error.reason, 0) if isinstance(error, UnavailableError) else 0
                )
                less_may_do = too_large or failures <= patience
                if less_may_do and len(part) > 1:
                    half = len(part) // 2
                    self.now = min(self.now, half)
                    halves.extend((part[:half], part[half:]))
                    continue
                ended = None if less_may_do else error
                results = [error] * len(part)
            yield from zip(part, results)

    def _part(self, waiting: deque[Item]) -> list[Item]:
        if len(waiting) == 1:
            return [waiting.popleft()]
        part: list[Item] = []
        size = 0
        while waiting and len(part) < self.now:
            size += self._size(waiting[0]) if self._size else 0
            if part and size > MOST_BYTES:
                break
            part.append(waiting.popleft())
        return part


def set_size(key: str, text: str) -> int:
    """At most so many bytes of a SET in the body of a pipeline."""
    return AROUND + _json_size(key) + _json_size(text)


def _json_size(text: str) -> int:
    # JSON text holds no bare control characters, so quotes and backslashes are what is escaped;
    # a key may hold some, at six bytes each.
    controls = 0 if text.isprintable() else sum(c < " " for c in text)
    return len(text.encode(errors="replace")) + text.count('"') + text.count("\\") + 5 * controls
