"""What the README's table says of other clients, asked of them."""

from __future__ import annotations

import httpx
import pytest
import redis
import responses
import upstash_redis

from upstash_state import ResponseError, UpstashRedis
from upstash_state.local import LocalEndpoint


def test_upstash_redis_has_no_time_limit() -> None:
    with upstash_redis.Redis("http://127.0.0.1:1", "token") as sdk:
        assert sdk._http._client.timeout == httpx.Timeout(None)


def test_upstash_redis_pauses_three_seconds_before_its_one_retry() -> None:
    with upstash_redis.Redis("http://127.0.0.1:1", "token") as sdk:
        assert (sdk._http._retries, sdk._http._retry_interval) == (1, 3)


def test_one_failed_item_loses_upstash_rediss_pipeline_and_not_ours(
    endpoint: LocalEndpoint,
) -> None:
    with upstash_redis.Redis(endpoint.url, endpoint.token) as sdk:
        pipeline = sdk.pipeline()
        pipeline.set("k", "v")
        pipeline.incr("k")
        with pytest.raises(upstash_redis.errors.UpstashError):
            pipeline.exec()
    ours = UpstashRedis(endpoint.url, endpoint.token).pipeline(transaction=False)
    ok, error = ours.set("k", "v").execute_command("INCR", "k").execute(raise_on_error=False)
    assert ok is True
    assert isinstance(error, ResponseError)


def test_a_pipeline_of_redis_py_keeps_its_items_apart(tcp: redis.Redis) -> None:
    ok, error = tcp.pipeline(transaction=False).set("k", "v").incr("k").execute(False)
    assert ok is True
    assert isinstance(error, redis.ResponseError)


def test_upstash_redis_is_recorded_by_none_of_the_mocks_for_requests(
    endpoint: LocalEndpoint,
) -> None:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.post(endpoint.url, json={"result": "mocked"})
        with upstash_redis.Redis(endpoint.url, endpoint.token) as sdk:
            assert sdk.ping() == "PONG"
        assert UpstashRedis(endpoint.url, endpoint.token).get("k") == "mocked"
