"""The fixtures that tests share, each with one meaning."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest
import redis
import responses

from tests.support.clock import Clock
from tests.support.environ import TIMEOUT, Environ
from tests.support.servers import (
    REDIS_BINARY,
    WITHOUT_REDIS,
    port_of,
    redis_server,
    reserve_port,
)
from upstash_state import OrderStore, UpstashRedis, reset_client
from upstash_state.local import LocalEndpoint

OWN_REDIS = "UPSTASH_STATE_TEST_REDIS_URL"

# Not by the clock, which a busy machine stretches.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def _clean_environ() -> Iterator[None]:
    # Once, since a recording may have set its credentials before the fixtures of a test are made.
    with pytest.MonkeyPatch.context() as monkeypatch:
        Environ(monkeypatch).clean()
        yield


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environ]:
    """The environment, which names no database, and a process that has no client yet."""
    reset_client(flush=False)
    yield Environ(monkeypatch)
    reset_client(flush=False)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until the test changes it."""
    return Clock()


@pytest.fixture
def mocked() -> Iterator[responses.RequestsMock]:
    """In place of the network: what a test registers here answers requests, all of it is asked."""
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture(autouse=True)
def nothing_is_owed() -> Iterator[None]:
    """Let no test send what another one could not."""
    yield
    reset_client(flush=False)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis server, which the tests empty at will. A running one may be lent to them."""
    lent = os.environ.get(OWN_REDIS)
    if lent:
        yield lent
    elif REDIS_BINARY is None:
        pytest.skip(f"{WITHOUT_REDIS}, and {OWN_REDIS} is not set")
    else:
        with redis_server() as url:
            yield url


@pytest.fixture
def tcp(redis_url: str) -> Iterator[redis.Redis]:
    """redis-py, connected to the real Redis server, which is empty."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which nothing listens, and that no other process gets during the test."""
    with reserve_port() as reserved:
        yield port_of(reserved)


@pytest.fixture
def endpoint() -> Iterator[LocalEndpoint]:
    """An endpoint over fakeredis. It may be closed and started again."""
    with reserve_port() as reserved, LocalEndpoint(port=port_of(reserved)) as endpoint:
        yield endpoint


@pytest.fixture
def store(endpoint: LocalEndpoint, clock: Clock) -> OrderStore:
    """The orders of that endpoint, by that clock."""
    return OrderStore(UpstashRedis(endpoint.url, endpoint.token, timeout=TIMEOUT), clock=clock)


@pytest.fixture
def real_endpoint(redis_url: str, tcp: redis.Redis) -> Iterator[LocalEndpoint]:
    """An endpoint over the real Redis server, empty. It may be closed and started again."""
    with (
        reserve_port() as reserved,
        LocalEndpoint(port=port_of(reserved), redis_url=redis_url) as endpoint,
    ):
        yield endpoint


@pytest.fixture(params=["fakeredis", "redis"])
def either_endpoint(request: pytest.FixtureRequest) -> LocalEndpoint:
    """Both of the above, one after the other: the same must hold for either."""
    name = "endpoint" if request.param == "fakeredis" else "real_endpoint"
    chosen: LocalEndpoint = request.getfixturevalue(name)
    return chosen
