"""The contenders: each does the same work on the same orders, in the usual way.

All of them write and read orders with `serialize_order` and `deserialize_order`, so they differ
only in the way to the database.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import redis
import requests
import upstash_redis

from upstash_state import (
    OrderStore,
    UpstashRedis,
    deserialize_order,
    process,
    redis_flush,
    redis_get_all_orders,
    redis_get_order,
    redis_save_order,
    redis_save_orders,
    serialize_order,
)

Order = dict[str, Any]
Orders = dict[str, Order]
TTL = 604_800
PAGE = 1000


class Module:
    """upstash_state: the functions that an app calls, as if each contender had the process."""

    name = "upstash_state"
    settings: ClassVar[Mapping[str, str]] = {}

    def __init__(self, url: str, token: str) -> None:
        # The outbox belongs to URL and token, so two contenders must not share both.
        token = f"{token}-{type(self).__name__}"
        credentials = {"UPSTASH_REDIS_REST_URL": url, "UPSTASH_REDIS_REST_TOKEN": token}
        self._store = OrderStore.from_env({**credentials, **self.settings})

    def _enter(self) -> None:
        process._stores["store"] = self._store

    def save(self, order_id: str, order: Order) -> None:
        self._enter()
        redis_save_order(order_id, order)

    def save_all(self, orders: Orders) -> None:
        self._enter()
        redis_save_orders(orders)

    def read_one(self) -> None:
        self._enter()
        assert redis_get_order("0")

    def restore(self) -> Orders:
        self._enter()
        return redis_get_all_orders()

    def settle(self) -> None:
        """Send pending saves."""
        self._enter()
        redis_flush(0.5)

    def close(self) -> None:
        self._store.client.close()


class ModuleInBackground(Module):
    name = "background"
    # Short, so that the worker sends while the caller goes on saving.
    settings: ClassVar[Mapping[str, str]] = {
        "UPSTASH_STATE_BACKGROUND": "0.02",
        "UPSTASH_STATE_SKIP_UNCHANGED": "302400",
    }


class Sdk:
    """upstash-redis, used well: one command an order, pipelines, SCAN + MGET."""

    name = "upstash-redis"

    def __init__(self, url: str, token: str) -> None:
        self._redis = upstash_redis.Redis(url, token)

    def save(self, order_id: str, order: Order) -> None:
        self._redis.set(f"order:{order_id}", serialize_order(order), ex=TTL)

    def read_one(self) -> None:
        assert self._redis.get("order:0")

    def settle(self) -> None:
        pass

    def save_all(self, orders: Orders) -> None:
        pipeline = self._redis.pipeline()
        for order_id, order in orders.items():
            pipeline.set(f"order:{order_id}", serialize_order(order), ex=TTL)
        assert all(pipeline.exec())

    def restore(self) -> Orders:
        orders: Orders = {}
        cursor = 0
        while True:
            cursor, keys = self._redis.scan(cursor, match="order:*", count=PAGE)
            for key, text in zip(keys, self._redis.mget(*keys)):
                if text is not None:
                    orders[key.removeprefix("order:")] = deserialize_order(text)
            if cursor == 0:
                return orders

    def close(self) -> None:
        self._redis.close()


class SdkAsOriginal(Sdk):
    """upstash-redis, used as the TCP module uses Redis: SET and EXPIRE, KEYS and a GET each."""

    name = "upstash-redis, as original"

    def save(self, order_id: str, order: Order) -> None:
        key = f"order:{order_id}"
        self._redis.set(key, serialize_order(order))
        self._redis.expire(key, TTL)

    def save_all(self, orders: Orders) -> None:
        for order_id, order in orders.items():
            self.save(order_id, order)

    def keys(self) -> list[str]:
        return self._redis.keys("order:*")

    def read(self, keys: Iterable[str]) -> Orders:
        orders: Orders = {}
        for key in keys:
            text = self._redis.get(key)
            if text is not None:
                orders[key.removeprefix("order:")] = deserialize_order(text)
        return orders

    def restore(self) -> Orders:
        return self.read(self.keys())


class RedisPy:
    """redis-py over TCP to a real Redis, used as the TCP module uses it."""

    name = "redis-py over TCP, as original"

    def __init__(self, port: int, database: int) -> None:
        self._redis = redis.Redis(port=port, db=database, decode_responses=True)

    def save(self, order_id: str, order: Order) -> None:
        key = f"order:{order_id}"
        self._redis.set(key, serialize_order(order))
        self._redis.expire(key, TTL)

    def read_one(self) -> None:
        assert self._redis.get("order:0")

    def settle(self) -> None:
        pass

    def save_all(self, orders: Orders) -> None:
        for order_id, order in orders.items():
            self.save(order_id, order)

    def keys(self) -> list[str]:
        keys: list[str] = self._redis.keys("order:*")  # type: ignore[assignment]
        return keys

    def read(self, keys: Iterable[str]) -> Orders:
        orders: Orders = {}
        for key in keys:
            text = self._redis.get(key)
            if isinstance(text, str):
                orders[key.removeprefix("order:")] = deserialize_order(text)
        return orders

    def restore(self) -> Orders:
        return self.read(self.keys())

    def close(self) -> None:
        self._redis.close()


class ClientSet:
    """upstash_state's client: a SET without the outbox."""

    name = "`UpstashRedis.set`"

    def __init__(self, url: str, token: str) -> None:
        self._client = UpstashRedis(url, token)

    def save(self, order_id: str, order: Order) -> None:
        self._client.set(f"order:{order_id}", serialize_order(order), ex=TTL)

    def settle(self) -> None:
        pass

    def close(self) -> None:
        self._client.close()


class Session:
    """The Session of requests alone: no retries, no time budget, no proxies."""

    name = "requests' Session alone"

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._session.headers["Content-Type"] = "application/json"

    def _post(self, path: str, payload: Any) -> Any:
        body = json.dumps(payload).encode()
        return json.loads(self._session.post(self._url + path, body, timeout=5).content)

    def save(self, order_id: str, order: Order) -> None:
        text = serialize_order(order)
        answer = self._post("/", ["SET", f"order:{order_id}", text, "EX", str(TTL)])
        assert answer["result"] == "OK"

    def read_one(self) -> None:
        assert self._post("/", ["GET", "order:0"])["result"]

    def settle(self) -> None:
        pass

    def save_all(self, orders: Orders) -> None:
        pairs = [
            (f"order:{order_id}", serialize_order(order)) for order_id, order in orders.items()
        ]
        command = ["MSETEX", str(len(pairs)), *(part for pair in pairs for part in pair)]
        assert self._post("/", [*command, "EX", str(TTL)])["result"] == 1

    def restore(self) -> Orders:
        orders: Orders = {}
        scan = ["SCAN", "0", "MATCH", "order:*", "COUNT", str(PAGE), "TYPE", "string"]
        cursor, keys = self._post("/", scan)["result"]
        while True:
            commands = [["MGET", *keys]]
            if cursor != "0":
                commands.append(["SCAN", cursor, *scan[2:]])
            answers = self._post("/pipeline", commands)
            for key, text in zip(keys, answers[0]["result"]):
                orders[key.removeprefix("order:")] = deserialize_order(text)
            if cursor == "0":
                return orders
            cursor, keys = answers[1]["result"]

    def close(self) -> None:
        self._session.close()


class SerializeAlone:
    """The first step of every backup, and nothing else."""

    name = "serialize_order"

    def __init__(self, url: str, token: str) -> None:
        pass

    def save(self, order_id: str, order: Order) -> None:
        serialize_order(order)

    def save_all(self, orders: Orders) -> None:
        for order_id, order in orders.items():
            self.save(order_id, order)

    def settle(self) -> None:
        pass

    def close(self) -> None:
        pass
