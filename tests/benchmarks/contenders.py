"""The contenders: each does the same work on the same orders, in the way it is used.

All of them write and read orders with `serialize_order` and `deserialize_order`, so that what
differs is the way to the database.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

import redis
import upstash_redis
import urllib3

from upstash_state import (
    OrderStore,
    UpstashRedis,
    deserialize_order,
    redis_get_all_orders,
    redis_get_order,
    redis_save_order,
    redis_save_orders,
    reset_client,
    serialize_order,
)

Order = dict[str, Any]
Orders = dict[str, Order]
TTL = 604_800
PAGE = 1000


class Module:
    """upstash_state: the functions that an app calls."""

    name = "upstash_state"

    def __init__(self, url: str, token: str) -> None:
        os.environ["UPSTASH_REDIS_REST_URL"] = url
        os.environ["UPSTASH_REDIS_REST_TOKEN"] = token
        reset_client()

    def save(self, order_id: str, order: Order) -> None:
        assert redis_save_order(order_id, order)

    def get(self, order_id: str) -> None:
        assert redis_get_order(order_id)

    def save_all(self, orders: Orders) -> None:
        assert redis_save_orders(orders) == len(orders)

    def restore(self) -> Orders:
        return redis_get_all_orders()

    def close(self) -> None:
        reset_client()


class ModuleInLoop(Module):
    """upstash_state in an app whose import line is all that was changed."""

    name = "one by one"

    def save_all(self, orders: Orders) -> None:
        for order_id, order in orders.items():
            self.save(order_id, order)


class ModuleSkipping:
    """upstash_state with UPSTASH_STATE_SKIP_UNCHANGED, beside one without in the same process."""

    name = "skip unchanged"

    def __init__(self, url: str, token: str) -> None:
        self._client = UpstashRedis(url, token)
        self._store = OrderStore(self._client, skip_unchanged=3600)

    def save_all(self, orders: Orders) -> None:
        assert len(self._store.save_many(orders)) == len(orders)

    def close(self) -> None:
        self._client.close()


class Sdk:
    """upstash-redis, used well: one command an order, pipelines, SCAN + MGET."""

    name = "upstash-redis"

    def __init__(self, url: str, token: str) -> None:
        self._redis = upstash_redis.Redis(url, token)

    def save(self, order_id: str, order: Order) -> None:
        self._redis.set(f"order:{order_id}", serialize_order(order), ex=TTL)

    def get(self, order_id: str) -> None:
        text = self._redis.get(f"order:{order_id}")
        assert isinstance(text, str)
        deserialize_order(text)

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

    def get(self, order_id: str) -> None:
        text = self._redis.get(f"order:{order_id}")
        assert isinstance(text, str)
        deserialize_order(text)

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


class Floor:
    """urllib3 alone: no retries, no time budget, no errors told apart, no proxies."""

    name = "urllib3 alone"

    def __init__(self, url: str, token: str) -> None:
        self._pool = urllib3.connection_from_url(url)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def _post(self, path: str, payload: Any) -> Any:
        response = self._pool.urlopen(
            "POST", path, json.dumps(payload).encode(), self._headers, retries=False
        )
        return json.loads(response.data)

    def save(self, order_id: str, order: Order) -> None:
        text = serialize_order(order)
        answer = self._post("/", ["SET", f"order:{order_id}", text, "EX", str(TTL)])
        assert answer["result"] == "OK"

    def get(self, order_id: str) -> None:
        deserialize_order(self._post("/", ["GET", f"order:{order_id}"])["result"])

    def save_all(self, orders: Orders) -> None:
        commands = [
            ["SET", f"order:{order_id}", serialize_order(order), "EX", str(TTL)]
            for order_id, order in orders.items()
        ]
        assert all(answer["result"] == "OK" for answer in self._post("/pipeline", commands))

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
        self._pool.close()
