"""The names of urllib3 that the wire uses without their being documented."""

from __future__ import annotations

import inspect
import queue

import urllib3
from urllib3.connection import HTTPConnection

from upstash_state import UpstashRedis
from upstash_state.local import LocalEndpoint
from upstash_state.transport import wire


def test_connection_cls_makes_the_connections_of_a_pool(endpoint: LocalEndpoint) -> None:
    made = []

    def make(*args: object, **kwargs: object) -> HTTPConnection:
        made.append(kwargs)
        return HTTPConnection(*args, **kwargs)  # type: ignore[arg-type]

    pool = urllib3.connection_from_url(endpoint.url)
    pool.ConnectionCls = make  # type: ignore[assignment, attr-defined]
    pool.urlopen("GET", "/", headers={"Authorization": f"Bearer {endpoint.token}"})
    pool.close()
    assert [kwargs["host"] for kwargs in made] == ["127.0.0.1"]


def test_pool_holds_the_kept_connections_as_a_queue_does(endpoint: LocalEndpoint) -> None:
    class Watched(queue.LifoQueue[object]):
        calls: set[str] = set()  # noqa: RUF012

        def __getattribute__(self, name: str) -> object:
            if name in vars(queue.Queue):
                Watched.calls.add(name)
            return super().__getattribute__(name)

    pool = urllib3.connection_from_url(endpoint.url)
    pool.pool = Watched(1)  # type: ignore[assignment, attr-defined]
    headers = {"Authorization": f"Bearer {endpoint.token}"}
    Watched.calls.clear()
    for _ in range(3):
        pool.urlopen("GET", "/", headers=headers)
    pool.close()
    used = {name for name in Watched.calls if not name.startswith("_")} - {"get", "put"}
    # `qsize` and `empty` are what vcrpy asks for, too.
    assert used <= {"qsize", "empty"}
    assert set(inspect.signature(wire._Kept.get).parameters) == {"self", "block", "timeout"}


def test_a_pool_of_the_wire_uses_both(endpoint: LocalEndpoint) -> None:
    redis = UpstashRedis(endpoint.url, endpoint.token)
    redis.ping()
    adapter = redis._transport._wire._session.get_adapter(endpoint.url)  # type: ignore[union-attr]
    pool = adapter._pool  # type: ignore[attr-defined]
    assert isinstance(pool.pool, wire._Kept)
    [connection] = pool.pool._stack
    assert isinstance(connection, pool.ConnectionCls)
    redis.ping()
    assert pool.num_connections == 1
