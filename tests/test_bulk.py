"""Work is cut into requests that the endpoint can do, and one item to blame costs no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from upstash_state import (
    CircuitOpenError,
    EndpointTimeoutError,
    RequestTooLargeError,
    UnavailableError,
    UpstashError,
)
from upstash_state.bulk import Requests

Send = Callable[[list[int]], list[str]]


class Endpoint:
    """Fails when asked for more than it can do, or for what it cannot do at all."""

    def __init__(self, error: Callable[[list[int]], UpstashError | None]) -> None:
        self._error = error
        self.requests: list[int] = []
        self.in_a_row = 0

    def __call__(self, part: list[int]) -> list[str]:
        self.requests.append(len(part))
        error = self._error(part)
        if error is None:
            self.in_a_row = 0
            return ["done"] * len(part)
        self.in_a_row += isinstance(error, UnavailableError)
        # As the circuit does.
        if self.in_a_row > 3:
            raise CircuitOpenError(5.0)
        raise error


def slow(most: int) -> Callable[[list[int]], UpstashError | None]:
    return lambda part: EndpointTimeoutError("slow") if len(part) > most else None


def broken(culprits: set[int]) -> Callable[[list[int]], UpstashError | None]:
    error = UnavailableError("HTTP status 500", reason="status", transient=True)
    return lambda part: error if culprits & set(part) else None


def run(requests: Requests[int], items: range, send: Send) -> tuple[int, int]:
    """How many items were done, and how many were not."""
    results = dict(requests.run(items, send))
    assert sorted(results) == list(items)
    done = sum(result == "done" for result in results.values())
    return done, len(results) - done


@pytest.mark.parametrize("culprit", [0, 1, 249, 250, 373, 498, 499])
def test_a_single_item_to_blame_for_a_500_does_not_lose_the_others(culprit: int) -> None:
    endpoint = Endpoint(broken({culprit}))
    assert run(Requests(500), range(500), endpoint) == (499, 1)
    assert endpoint.in_a_row <= 3
    assert len(endpoint.requests) < 25


def test_an_endpoint_that_is_down_is_not_asked_for_every_part() -> None:
    endpoint = Endpoint(broken(set(range(2000))))
    assert run(Requests(500), range(2000), endpoint) == (0, 2000)
    assert len(endpoint.requests) <= 3


def test_an_endpoint_that_hangs_is_asked_twice() -> None:
    endpoint = Endpoint(slow(0))
    assert run(Requests(500), range(2000), endpoint) == (0, 2000)
    assert len(endpoint.requests) == 2


def test_a_slow_endpoint_gets_smaller_requests_and_later_larger_ones_again() -> None:
    requests: Requests[int] = Requests(500)
    endpoint = Endpoint(slow(300))
    assert run(requests, range(2000), endpoint) == (2000, 0)
    assert endpoint.requests[0] == 500
    assert set(endpoint.requests[1:]) <= {250}
    healthy = Endpoint(slow(500))
    run(requests, range(2000), healthy)
    assert healthy.requests == [500] * 4


def test_what_is_refused_for_its_size_is_halved_down_to_the_culprit() -> None:
    error = RequestTooLargeError("too large")
    endpoint = Endpoint(lambda part: error if 3 in part else None)
    results = dict(Requests[int](8).run(range(8), endpoint))
    assert [item for item, result in results.items() if result != "done"] == [3]


def test_after_a_refusal_nothing_more_is_sent() -> None:
    endpoint = Endpoint(lambda part: UpstashError("WRONGPASS"))
    assert run(Requests(10), range(100), endpoint) == (0, 100)
    assert endpoint.requests == [10]
