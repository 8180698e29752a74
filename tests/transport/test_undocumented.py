"""The names of urllib3 that the wire replaces: `pool` is not documented, `ConnectionCls` hardly."""

from __future__ import annotations

import inspect
import queue

import urllib3
from urllib3.connection import HTTPConnection

from upstash_state import UpstashRedis
from upstash_state.local import LocalEndpoint


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


def test_a_simple_queue_has_what_a_pool_asks_of_its_queue(endpoint: LocalEndpoint) -> None:
    asked: set[str] = set()

    class Watched(queue.LifoQueue[object]):
        def __getattribute__(self, name: str) -> object:
            if name in vars(queue.Queue):
                asked.add(name)
            return super().__getattribute__(name)

    pool = urllib3.connection_from_url(endpoint.url)
    pool.pool = Watched(1)  # type: ignore[assignment, attr-defined]
    for _ in range(3):
        pool.urlopen("GET", "/", headers={"Authorization": f"Bearer {endpoint.token}"})
    pool.close()
    public = {name for name in asked if not name.startswith("_")}
    # `empty` is what vcrpy asks for, too.
    assert {"get", "put"} <= public <= {"get", "put", "qsize", "empty"}
    assert public <= set(dir(queue.SimpleQueue))
    for name in ("get", "put"):
        ours, theirs = (
            inspect.signature(getattr(kind, name)).parameters
            for kind in (queue.SimpleQueue, queue.LifoQueue)
        )
        assert list(ours) == list(theirs)


def test_a_client_keeps_its_connection_there(endpoint: LocalEndpoint) -> None:
    redis = UpstashRedis(endpoint.url, endpoint.token)
    for _ in range(2):
        redis.ping()
    [channel] = redis._http._idle  # type: ignore[union-attr]
    assert channel._pool.num_connections == 1
    connection = channel._pool.pool.get(block=False)
    assert isinstance(connection, channel._pool.ConnectionCls)
    assert connection.sock is channel._sock
    connection.close()
