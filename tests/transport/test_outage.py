"""A thousand calls while Redis is down: three of them notice."""

from __future__ import annotations

import logging

import pytest

from tests.support.clock import Stopwatch
from tests.support.environ import Environ
from tests.support.faults import FAULTS, FaultServer
from upstash_state import redis_save_order, reset_client
from upstash_state.transport import Answer, Endpoint, Send, intercepting

# Seconds. What fails at once has time enough for a machine that stalls.
SHORT, LONG = 0.5, 20
FAULT = {fault.name: fault for fault in FAULTS}


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        ("refused", LONG),
        ("never_answers", SHORT),
        ("headers_trickled", SHORT),
        ("body_trickled", SHORT),
        ("html_with_200", LONG),
    ],
)
def test_after_three_failures_the_network_is_left_alone(
    name: str, budget: float, environ: Environ, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    def counted(wire: Endpoint, send: Send) -> Send:
        def count(path: str, body: bytes, deadline: float) -> Answer:
            nonlocal attempts
            attempts += 1
            return send(path, body, deadline)

        return count

    with FaultServer() as server:
        environ.use(server.url, server.token)
        environ.set(UPSTASH_STATE_TIMEOUT=str(budget))
        reset_client(flush=False)
        assert redis_save_order("5866", {})
        server.plan(FAULT[name], None)
        with intercepting(counted):
            with Stopwatch() as watch:
                for _ in range(3):
                    assert redis_save_order("5866", {}) is False
            # Without a bound it would be half a minute.
            assert watch.seconds < 3 * budget * 1.1 + 1
            noticed = attempts
            for _ in range(997):
                assert redis_save_order("5866", {}) is False
        assert attempts == noticed > 0
        reset_client(flush=False)
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([record for record in errors if "Failed to save order" in record.message]) == 3
    assert len([record for record in errors if "calls in a row" in record.message]) == 1
    assert len(errors) == 4
