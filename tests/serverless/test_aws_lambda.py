"""The Lambda example in AWS's runtime interface client, which runs in every Lambda instance."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import redis

from tests.support.clock import Stopwatch
from tests.support.processes import Process
from upstash_state.local import LocalEndpoint
from upstash_state.transport.deadline import SUSPECT_AFTER

from .relay import Relay
from .runtime_api import RuntimeApi
from .shop import (
    EXAMPLES,
    assert_no_failure,
    credentials,
    expected,
    order,
    order_id,
    port_of,
    put_into,
    stored,
)

pytest.importorskip("awslambdaric", reason="awslambdaric is not installed: requirements.txt here")


class Instance:
    """A Lambda instance: the runtime, and the API that gives it events."""

    def __init__(self, process: Process, api: RuntimeApi) -> None:
        self.process = process
        self._api = api

    def invoke(self, number: int, seconds: float = 3.0) -> tuple[int, int]:
        """Post an order. Gives the status and how many orders are in memory."""
        self._api.wait_until_idle()
        self._api.send({"body": json.dumps(order(number))}, seconds)
        result = self._api.result()
        return result["statusCode"], json.loads(result["body"])["orders"]

    def freeze(self) -> None:
        self._api.wait_until_idle()
        self.process.freeze()

    def thaw_and_invoke(self, number: int) -> tuple[int, int]:
        self.process.thaw()
        self._api.send({"body": json.dumps(order(number))})
        result = self._api.result()
        return result["statusCode"], json.loads(result["body"])["orders"]


@contextmanager
def instance(endpoint: LocalEndpoint, port: int | None = None) -> Iterator[Instance]:
    with ExitStack() as stack:
        api = stack.enter_context(RuntimeApi())
        folder = EXAMPLES / "aws_lambda"
        process = Process(
            ["-m", "awslambdaric", "lambda_function.lambda_handler"],
            folder,
            {
                **credentials(endpoint, port),
                "AWS_LAMBDA_RUNTIME_API": api.address,
                "LAMBDA_TASK_ROOT": str(folder),
            },
        )
        yield Instance(stack.enter_context(process), api)


def test_each_order_is_in_redis_when_the_function_has_answered(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    with instance(real_endpoint) as function:
        for number in (1, 2, 3):
            assert function.invoke(number) == (200, number)
            assert stored(tcp) == expected(*range(1, number + 1))
    assert_no_failure(function.process.output, real_endpoint)


def test_a_cold_start_restores_what_another_instance_saved(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    with instance(real_endpoint) as function:
        function.invoke(1)
        function.invoke(2)
    with instance(real_endpoint) as function:
        assert function.invoke(3) == (200, 3)
    assert_no_failure(function.process.output, real_endpoint)


def test_an_instance_that_wakes_to_closed_connections_saves_at_once(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    with instance(real_endpoint) as function:
        assert function.invoke(1) == (200, 1)
        for number in (2, 3):
            function.freeze()
            real_endpoint.close()
            real_endpoint.start()
            assert function.thaw_and_invoke(number) == (200, number)
        assert stored(tcp) == expected(1, 2, 3)
    assert_no_failure(function.process.output, real_endpoint)


def test_an_instance_that_wakes_to_silently_dropped_connections_saves_within_the_event(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    with Relay(port_of(real_endpoint)) as relay, instance(real_endpoint, relay.port) as function:
        assert function.invoke(1) == (200, 1)
        function.freeze()
        relay.forget()
        # Used just now, a connection is trusted; the function's clock is another process's.
        time.sleep(SUSPECT_AFTER)
        assert function.thaw_and_invoke(2) == (200, 2)
        assert stored(tcp) == expected(1, 2)
    assert_no_failure(function.process.output, real_endpoint)


def test_the_backup_ends_before_the_events_time_is_up(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    with Relay(port_of(real_endpoint)) as relay, instance(real_endpoint, relay.port) as function:
        assert function.invoke(1) == (200, 1)
        relay.swallow = True
        relay.forget()
        with Stopwatch() as watch:
            assert function.invoke(2, seconds=1.5) == (503, 2)
        assert watch.seconds < 1.5
        assert stored(tcp) == expected(1)
        function.process.wait_for(f"Failed to save order {order_id(2)} to Redis")
    assert real_endpoint.token not in function.process.output


def test_an_endpoint_that_is_down_at_the_cold_start_is_used_when_it_is_back(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    put_into(tcp, 7)
    real_endpoint.close()
    with instance(real_endpoint) as function:
        function.process.wait_for("Failed to get all orders from Redis")
        real_endpoint.start()
        assert function.invoke(1) == (200, 1)
