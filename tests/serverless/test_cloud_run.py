"""The Cloud Run example in Google's functions-framework, which serves every Python function."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tests.support.clock import Stopwatch
from tests.support.processes import Process
from upstash_state.local import LocalEndpoint

from .relay import Relay
from .shop import (
    EXAMPLES,
    assert_no_failure,
    credentials,
    expected,
    order,
    order_id,
    port_of,
    put_into,
    request,
    start_command,
    stored,
)

pytest.importorskip(
    "functions_framework", reason="functions-framework is not installed: requirements.txt here"
)


def function(endpoint: LocalEndpoint, port: int | None = None, timeout: int = 60) -> Process:
    """Start an instance."""
    command = start_command("cloud_run/main.py", "functions-framework")
    return Process(
        ["-m", "functions_framework", *command, "--host", "127.0.0.1", "--port", "0"],
        EXAMPLES / "cloud_run",
        {
            **credentials(endpoint, port),
            "CLOUD_RUN_TIMEOUT_SECONDS": str(timeout),
            "GUNICORN_LOG_LEVEL": "info",
        },
    )


def listening(process: Process) -> int:
    """The port that it has told, once it has."""
    return int(process.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")[1])


def test_orders_that_come_at_once_are_in_redis_when_they_are_answered(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    put_into(tcp, 0)
    with function(real_endpoint) as process, ThreadPoolExecutor(8) as shop:
        port = listening(process)

        def post(number: int) -> int:
            return request(port, "POST", "/", order(number))[0]

        assert set(shop.map(post, range(1, 41))) == {200}
        assert request(port, "POST", "/", order(0)) == (200, {"orders": 41})
        assert stored(tcp) == expected(*range(41))
    assert_no_failure(process.output, real_endpoint)


def test_a_cold_start_restores_what_another_instance_saved(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    for number in (1, 2):
        with function(real_endpoint) as process:
            assert request(listening(process), "POST", "/", order(number))[1] == {"orders": number}
    assert_no_failure(process.output, real_endpoint)


def test_the_backup_ends_before_the_requests_time_is_up(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    with (
        Relay(port_of(real_endpoint)) as relay,
        function(real_endpoint, relay.port, timeout=2) as process,
    ):
        port = listening(process)
        relay.swallow = True
        relay.forget()
        with Stopwatch() as watch:
            assert request(port, "POST", "/", order(1)) == (503, {"orders": 1})
        assert watch.seconds < 2
        process.wait_for(f"Failed to save order {order_id(1)} to Redis: no answer")
