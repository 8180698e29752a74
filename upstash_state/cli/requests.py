"""Send many items in requests that respect the limits of time and size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import TypeVar

from .. import AnswerTooLargeError, EndpointTimeoutError, UpstashError, writes

Item = TypeVar("Item")
Result = TypeVar("Result")

# An endpoint that takes 40 ms for each command executes this many in the default time.
FIRST = 100
#: Errors that a smaller request can avoid, or that a single item causes.
TOO_LARGE = (AnswerTooLargeError, *writes.TOO_LARGE)


def in_requests(
    items: Iterable[Item],
    send: Callable[[Sequence[Item]], Sequence[Result]],
    size: Callable[[Item], int] = lambda item: 0,
) -> Iterator[tuple[Item, Result | UpstashError]]:
    """Send items. The next request is sent after the results of the last one were taken.

    Args:
        items: The items. Only as many are read as the next request needs.
        send: Sends some items and returns the result of each. It is called again with fewer items
            after a request that was too large or took too long.
        size: Returns how many bytes an item takes in a request.

    Yields:
        Each item with its result, or with the error that says that it is too large.

    Raises:
        UpstashError: A request failed, and a smaller one cannot help.
    """
    count, most = FIRST, writes.MAX_WRITES
    source = iter(items)
    waiting: list[Item] = []
    while waiting := waiting + list(islice(source, max(count - len(waiting), 0))):
        fitting = sum(total <= writes.MAX_BYTES for total in accumulate(map(size, waiting[:count])))
        part = waiting[: max(fitting, 1)]
        results: Sequence[Result | UpstashError]
        try:
            results = send(part)
        except (EndpointTimeoutError, *TOO_LARGE) as error:
            slow = isinstance(error, EndpointTimeoutError)
            if len(part) > 1:
                count = max(len(part) // 4, 1)
                most = count if slow else most
                continue
            if slow:
                raise
            results = [error]
        count = min(count * 2, most)
        waiting = waiting[len(part) :]
        yield from zip(part, results)
