"""An endpoint that is down is left alone, and found again."""

from __future__ import annotations

import contextlib
import logging
import threading

import pytest

from upstash_state.errors import CircuitOpenError
from upstash_state.transport.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker

DOWN = ConnectionError("refused")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(DOWN, probe=breaker.enter())


def test_it_opens_after_three_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.enter()
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.enter() is False
    fail(breaker)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter()
    assert caught.value.retry_in == FIRST_PAUSE


def test_one_probe_is_let_through_while_the_others_keep_falling_back(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += FIRST_PAUSE
    assert breaker.enter() is True
    with pytest.raises(CircuitOpenError):
        breaker.enter()
    breaker.succeeded()
    assert breaker.enter() is False


def test_the_pause_doubles_to_a_minute_and_starts_anew_after_success(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    pauses = []
    for _ in range(6):
        with pytest.raises(CircuitOpenError) as caught:
            breaker.enter()
        pauses.append(caught.value.retry_in)
        clock.now += caught.value.retry_in
        fail(breaker)
    assert pauses == [5, 10, 20, 40, LONGEST_PAUSE, LONGEST_PAUSE]
    clock.now += LONGEST_PAUSE
    assert breaker.enter() is True
    breaker.succeeded()
    fail(breaker, 3)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter()
    assert caught.value.retry_in == FIRST_PAUSE


def test_a_probe_that_brings_no_news_makes_way_for_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += FIRST_PAUSE
    breaker.abandoned(probe=breaker.enter())
    assert breaker.enter() is True


def test_a_call_from_before_does_not_end_the_probe(breaker: Breaker, clock: Clock) -> None:
    straggler = breaker.enter()
    fail(breaker, 3)
    clock.now += FIRST_PAUSE
    assert breaker.enter() is True
    breaker.failed(DOWN, probe=straggler)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter()
    assert caught.value.retry_in == 0


def test_it_says_once_that_it_opened_and_once_that_it_closed(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fail(breaker, 3)
    for _ in range(3):
        with pytest.raises(CircuitOpenError):
            breaker.enter()
        clock.now += LONGEST_PAUSE
        fail(breaker)
    clock.now += LONGEST_PAUSE
    breaker.enter()
    breaker.succeeded()
    breaker.succeeded()
    opened, closed = caplog.records
    assert opened.getMessage() == (
        "Redis endpoint failed 3 calls in a row - not asked again for 5 s: refused"
    )
    assert closed.getMessage() == "Redis endpoint works again - calls are sent as before"


def test_only_one_of_many_threads_probes(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += FIRST_PAUSE
    start = threading.Barrier(16)
    let_through = []

    def call() -> None:
        start.wait(timeout=5)
        with contextlib.suppress(CircuitOpenError):
            let_through.append(breaker.enter())

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=5)
    assert let_through == [True]
