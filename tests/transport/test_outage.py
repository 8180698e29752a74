"""A thousand calls while Redis is down: three of them notice."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import responses

from tests.support.clock import Stopwatch
from tests.support.environ import TOKEN, URL, Environ
from tests.support.faults import FAULTS, FaultServer
from upstash_state import redis_delete_order, redis_get_order, redis_save_order, reset_client
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


def test_a_firewall_that_refuses_one_order_costs_no_other_order(
    environ: Environ, caplog: pytest.LogCaptureFixture
) -> None:
    refused, stored = 0, 0

    def firewall(request: Any) -> tuple[int, dict[str, str], str]:
        nonlocal refused, stored
        if b"<script>" in request.body:
            refused += 1
            return 403, {}, "<html>Request blocked</html>"
        command = json.loads(request.body)
        if request.path_url != "/":
            return 200, {}, json.dumps([{"result": "OK"} for _ in command])
        stored += command[0] == "SET"
        return 200, {}, json.dumps({"result": {"SET": "OK", "DEL": 1}.get(command[0])})

    environ.use(URL, TOKEN)
    reset_client(flush=False)
    with responses.RequestsMock() as mock:
        for path in ("", "/pipeline"):
            mock.add_callback(responses.POST, URL + path, firewall)
        mock.assert_all_requests_are_fired = False
        for _ in range(5):
            assert redis_save_order("1", {"note": "<script>"}) is False
        assert refused >= 5
        for number in range(5):
            assert redis_save_order("2", {"n": number}) is True
            assert redis_save_order("1", {"note": "<script>"}) is False
            assert redis_get_order("3") is None
        assert stored == 5
        assert redis_delete_order("1") is True
    assert "calls in a row" not in caplog.text
    assert "403" in caplog.text
    reset_client(flush=False)
