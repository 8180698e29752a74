"""An endpoint that is down is left alone, and found again."""

from __future__ import annotations

import contextlib
import logging
import threading

import pytest

from tests.support.clock import Clock
from upstash_state.errors import CircuitOpenError
from upstash_state.transport.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker

DOWN = ConnectionError("refused")
LEASE = 2.0


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(DOWN, probe=breaker.enter(LEASE))


def test_it_opens_after_three_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.enter(LEASE)
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.enter(LEASE) is False
    fail(breaker)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter(LEASE)
    assert caught.value.retry_in == FIRST_PAUSE


def test_one_probe_is_let_through_while_the_others_keep_falling_back(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += FIRST_PAUSE
    assert breaker.enter(LEASE) is True
    with pytest.raises(CircuitOpenError):
        breaker.enter(LEASE)
    breaker.succeeded()
    assert breaker.enter(LEASE) is False


def test_the_pause_doubles_to_a_minute_and_restarts_after_success(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    pauses = []
    for _ in range(6):
        with pytest.raises(CircuitOpenError) as caught:
            breaker.enter(LEASE)
        pauses.append(caught.value.retry_in)
        clock.now += caught.value.retry_in
        fail(breaker)
    assert pauses == [5, 10, 20, 40, LONGEST_PAUSE, LONGEST_PAUSE]
    clock.now += LONGEST_PAUSE
    assert breaker.enter(LEASE) is True
    breaker.succeeded()
    fail(breaker, 3)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter(LEASE)
    assert caught.value.retry_in == FIRST_PAUSE


def test_after_a_probe_without_news_comes_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += FIRST_PAUSE
    assert breaker.enter(LEASE) is True
    breaker.retry_now()
    assert breaker.enter(LEASE) is True


def test_a_call_from_before_does_not_end_the_probe(breaker: Breaker, clock: Clock) -> None:
    straggler = breaker.enter(LEASE)
    fail(breaker, 3)
    clock.now += FIRST_PAUSE
    assert breaker.enter(LEASE) is True
    breaker.failed(DOWN, probe=straggler)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter(LEASE)
    assert caught.value.retry_in == LEASE


def test_after_a_probe_that_never_ends_comes_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += FIRST_PAUSE
    assert breaker.enter(LEASE) is True
    clock.now += LEASE
    assert breaker.enter(LEASE) is True


def test_it_opens_also_when_an_interruption_kept_it_from_opening(
    breaker: Breaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(breaker, 2)
    with monkeypatch.context() as patched:
        patched.setattr(breaker, "_clock", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            breaker.failed(DOWN, probe=False)
    fail(breaker)
    with pytest.raises(CircuitOpenError):
        breaker.enter(LEASE)


def test_it_logs_once_for_how_long_it_was_open(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fail(breaker, 3)
    clock.now += FIRST_PAUSE
    fail(breaker)
    clock.now += 2 * FIRST_PAUSE
    breaker.enter(LEASE)
    caplog.clear()
    for _ in range(2):
        breaker.succeeded()
    assert [record.getMessage() for record in caplog.records] == [
        "Redis endpoint works again after 15 s - calls are sent as before"
    ]


def test_it_logs_once_that_it_opened(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fail(breaker, 3)
    for _ in range(3):
        with pytest.raises(CircuitOpenError):
            breaker.enter(LEASE)
        clock.now += LONGEST_PAUSE
        fail(breaker)
    assert [record.getMessage() for record in caplog.records] == [
        "Redis endpoint failed 3 calls in a row - not asked again for 5 s: refused"
    ]


def test_only_one_of_many_threads_probes(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += FIRST_PAUSE
    start = threading.Barrier(16)
    let_through = []

    def call() -> None:
        start.wait(timeout=5)
        with contextlib.suppress(CircuitOpenError):
            let_through.append(breaker.enter(LEASE))

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=5)
    assert let_through == [True]
