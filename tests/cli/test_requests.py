"""Requests respect the limits of time and size."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from upstash_state import (
    AnswerTooLargeError,
    EndpointTimeoutError,
    KeyTooLargeError,
    NoPermissionError,
    RequestTooLargeError,
)
from upstash_state.cli.requests import FIRST, in_requests
from upstash_state.writes import MAX_WRITES


class Sent:
    """Squares numbers, and records how many numbers each call had."""

    def __init__(self, most: int = 10**6, bad: int = -1, error: Exception | None = None) -> None:
        self.counts: list[int] = []
        self._most, self._bad, self._error = most, bad, error

    def __call__(self, part: Sequence[int]) -> list[int]:
        self.counts.append(len(part))
        if len(part) > self._most or self._bad in part:
            raise self._error or EndpointTimeoutError("too slow")
        return [number * number for number in part]


def test_requests_grow_up_to_500() -> None:
    send = Sent()
    assert list(in_requests(range(2000), send)) == [(n, n * n) for n in range(2000)]
    assert send.counts == [FIRST, 2 * FIRST, 4 * FIRST, MAX_WRITES, MAX_WRITES, 300]


def test_without_items_nothing_is_sent() -> None:
    send = Sent()
    assert list(in_requests([], send)) == []
    assert send.counts == []


def test_after_a_request_that_took_too_long_requests_stay_small() -> None:
    send = Sent(most=30)
    assert list(in_requests(range(100), send)) == [(n, n * n) for n in range(100)]
    assert send.counts == [100, 25, 25, 25, 25]


def test_a_single_item_that_takes_too_long_ends_it() -> None:
    with pytest.raises(EndpointTimeoutError):
        list(in_requests(range(100), Sent(most=0)))


@pytest.mark.parametrize("kind", [RequestTooLargeError, AnswerTooLargeError, KeyTooLargeError])
def test_one_item_that_is_too_large_is_named_and_the_others_are_sent(kind: type[Exception]) -> None:
    error = kind("too large")
    results = dict(in_requests(range(1000), Sent(bad=600, error=error)))
    assert results.pop(600) is error
    assert results == {n: n * n for n in range(1000) if n != 600}


def test_other_errors_are_raised() -> None:
    with pytest.raises(NoPermissionError):
        list(in_requests(range(100), Sent(bad=1, error=NoPermissionError("no"))))


def test_a_request_is_sent_when_the_results_of_the_last_one_are_taken() -> None:
    send = Sent()
    results = in_requests(range(1000), send)
    assert send.counts == []
    for _ in range(FIRST):
        next(results)
    assert send.counts == [FIRST]


def test_no_request_is_larger_than_4_mb() -> None:
    send = Sent()
    sizes = {0: 3_000_000, 1: 1_000_000, 2: 1, 3: 9_000_000, 4: 1}
    assert len(list(in_requests(range(5), send, sizes.__getitem__))) == 5
    assert send.counts == [2, 1, 1, 1]
