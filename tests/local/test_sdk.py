"""Upstash's own SDK for Python against the embedded endpoint: base64, telemetry, sync token."""

from __future__ import annotations

import pytest
import redis
import upstash_redis
from upstash_redis.errors import UpstashError as SdkError

from upstash_state.local import LocalEndpoint


def sdk(endpoint: LocalEndpoint, token: str | None = None) -> upstash_redis.Redis:
    return upstash_redis.Redis(
        url=endpoint.url, token=token or endpoint.token, rest_retries=0, allow_telemetry=True
    )


class TestUpstashsOwnSdk:
    """upstash-redis as it comes: base64, telemetry headers, sync token."""

    def test_commands(self, either_endpoint: LocalEndpoint) -> None:
        with sdk(either_endpoint) as client:
            assert client.ping() == "PONG"
            assert client.set("k", "Jürgen 🍕", ex=100) is True
            assert client.get("k") == "Jürgen 🍕"
            assert client.get("none") is None
            assert client.ttl("k") in range(1, 101)
            assert client.set("ok", "OK")
            assert client.mget("k", "none", "ok") == ["Jürgen 🍕", None, "OK"]
            assert client.exists("k", "none") == 1
            assert client.hset("hash", "field", "value") == 1
            assert client.hgetall("hash") == {"field": "value"}
            assert client.zadd("z", {"a": 1.5}) == 1
            assert client.zrange("z", 0, -1, withscores=True) == [("a", 1.5)]
            assert client.set("n", 41)
            assert client.incr("n") == 42
            assert client.set("json", {"a": [1, None]})
            assert client.get("json") == '{"a": [1, null]}'
            assert sorted(client.keys("*")) == ["hash", "json", "k", "n", "ok", "z"]
            assert client.dbsize() == 6
            assert client.delete("k", "none") == 1

    def test_scan_walks_over_all_keys(self, either_endpoint: LocalEndpoint) -> None:
        with sdk(either_endpoint) as client:
            client.mset({f"order:{number}": "x" for number in range(500)})
            client.hset("order:hash", "field", "value")
            found: list[str] = []
            cursor: int | str = 0
            while True:
                cursor, page = client.scan(cursor, match="order:*", count=50, type="string")
                found += page
                if int(cursor) == 0:
                    break
        assert set(found) == {f"order:{number}" for number in range(500)}

    def test_pipelines_and_transactions(self, either_endpoint: LocalEndpoint) -> None:
        with sdk(either_endpoint) as client:
            for batch in (client.pipeline(), client.multi()):
                batch.set("k", "ü")
                batch.get("k")
                batch.mget("k", "none")
                batch.delete("k")
                assert batch.exec() == [True, "ü", ["ü", None], 1]

    def test_errors(self, either_endpoint: LocalEndpoint) -> None:
        with sdk(either_endpoint) as client:
            client.hset("hash", "field", "value")
            with pytest.raises(SdkError, match="WRONGTYPE"):
                client.get("hash")
        with sdk(either_endpoint, "wrong") as client, pytest.raises(SdkError, match="WRONGPASS"):
            client.get("k")
        with (
            sdk(either_endpoint, either_endpoint.read_only_token) as client,
            pytest.raises(SdkError, match="NOPERM"),
        ):
            client.set("k", "v")

    def test_the_sync_token_is_kept(self, either_endpoint: LocalEndpoint) -> None:
        with sdk(either_endpoint) as client:
            client.set("k", "v")
            first = client._sync_token
            client.get("k")
            assert first < client._sync_token

    def test_with_redis_py_on_the_same_data(
        self, real_endpoint: LocalEndpoint, tcp: redis.Redis
    ) -> None:
        with sdk(real_endpoint) as client:
            client.set("order:1", '{"name": "Jürgen"}', ex=604_800)
            assert tcp.get("order:1") == '{"name": "Jürgen"}'.encode()
            tcp.set("order:2", b"from TCP")
            assert client.get("order:2") == "from TCP"
