"""The package against two more servers that speak Upstash's protocol, recorded over Redis 7.0.15.

`up-redis` 3bfe070 (Bun) keeps to the protocol, with at most 1,000 commands in a pipeline.
`upstash-redis-server` 1.0.0 (npm: @humanwhocodes/upstash-redis-server) answers what Redis refuses
with status 500, has no transactions, and asks for the token on `/` alone.
"""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from tests.support.saving import save_in_one_pipeline
from upstash_state import (
    AuthenticationError,
    ResponseError,
    UnavailableError,
    UpstashError,
    UpstashRedis,
    WrongTypeError,
    get_redis_client,
    redis_delete_order,
    redis_get_all_orders,
    redis_get_order,
    redis_get_order_count,
)

pytestmark = pytest.mark.upstash_recording
on_each = pytest.mark.parametrize("server", ["up-redis", "upstash-redis-server"])

ORDER = {
    "name": "dishbee #26",
    "customer": {"name": "Jürgen Müller", "address": "Hauptstraße 5, 94032 Passau"},
    "created_at": datetime(2024, 12, 6, 14, 30, tzinfo=timezone.utc),
    "status_history": [{"type": "new", "at": datetime(2024, 12, 6, 14, 25, tzinfo=timezone.utc)}],
}


@pytest.fixture
def client(upstash_recording: object) -> UpstashRedis:
    return UpstashRedis.from_env()


@on_each
def test_a_backup_is_restored(server: str) -> None:
    client = get_redis_client()
    assert client is not None
    orders = {"5866": ORDER, "a/b?*": {"note": "Tisch T5 🔴"}}
    assert save_in_one_pipeline(client, orders) == 2
    assert 604_790 <= client.ttl("order:5866") <= 604_800
    assert redis_get_all_orders() == orders
    assert redis_get_order("a/b?*") == orders["a/b?*"]
    assert redis_get_order_count() == 2
    assert redis_delete_order("5866") is True
    assert redis_get_order("5866") is None
    assert client.delete("order:a/b?*", "order:5866") == 1
    assert redis_get_all_orders() == {}


@on_each
def test_any_text_is_a_key_and_a_value(server: str, client: UpstashRedis) -> None:
    text = '{"note": "Tür 🍕 \\u0000", "n": 1000000}'
    assert client.set("ü-🍕/?#% *", text, ex=60) is True
    assert client.get("ü-🍕/?#% *") == text
    assert client.mget("ü-🍕/?#% *", "nope") == [text, None]
    assert client.scan(0, match="ü-*", count=1000, _type="string") == (0, ["ü-🍕/?#% *"])
    assert client.delete("ü-🍕/?#% *") == 1


@on_each
def test_items_of_a_pipeline_fail_one_by_one(server: str, client: UpstashRedis) -> None:
    pipeline = client.pipeline(transaction=False)
    pipeline.set("k", "v", ex=60).execute_command("INCR", "k").get("k")
    was_set, error, value = pipeline.execute(raise_on_error=False)
    assert (was_set, value) == (True, "v")
    assert type(error) is ResponseError
    assert str(error) == "ERR value is not an integer or out of range"


@on_each
def test_what_redis_refuses(server: str, client: UpstashRedis) -> None:
    # The answer of the second has status 500, with which proxies report an outage.
    refused = ResponseError if server == "up-redis" else UnavailableError
    with pytest.raises(refused):
        client.execute_command("NOSUCHCOMMAND")
    assert client.execute_command("HSET", "hash", "field", "value") == 1
    if server == "up-redis":
        with pytest.raises(WrongTypeError):
            client.get("hash")
    assert client.mget("hash") == [None]
    assert client.delete("hash") == 1


@on_each
def test_a_transaction(server: str, client: UpstashRedis) -> None:
    transaction = client.pipeline().set("t", "a", ex=60).get("t")
    if server == "up-redis":
        assert transaction.execute() == [True, "a"]
    else:
        with pytest.raises(UpstashError, match="404"):
            transaction.execute()


@on_each
def test_a_wrong_token(server: str, client: UpstashRedis) -> None:
    with pytest.raises(AuthenticationError):
        client.ping()


def test_a_pipeline_that_is_too_long(client: UpstashRedis) -> None:
    """Recorded with up-redis, whose limit was set to 3 commands for it (it is 1,000)."""
    pipeline = client.pipeline(transaction=False)
    pipeline.ping().ping().ping().ping()
    with pytest.raises(ResponseError, match="Pipeline exceeds maximum of 3 commands"):
        pipeline.execute()
