"""The Vercel example in Vercel's own runtime, and in a WSGI server that checks what it is given."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest
import redis

from tests.support.processes import Process
from upstash_state.local import LocalEndpoint

from .shop import (
    EXAMPLES,
    assert_no_failure,
    credentials,
    expected,
    order,
    put_into,
    request,
    stored,
)
from .vercel_platform import VercelPlatform

APP = EXAMPLES / "vercel" / "api" / "index.py"

WSGI_SERVER = """
from wsgiref.simple_server import make_server
from wsgiref.validate import validator
from index import app
server = make_server("127.0.0.1", 0, validator(app))
print("port", server.server_port)
server.serve_forever()
"""


class Instance:
    """A running app: where it listens, and what it has logged when all is over."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.log = ""


def variables(endpoint: LocalEndpoint) -> dict[str, str]:
    """The names that Vercel's integration gives the credentials."""
    url, token = credentials(endpoint).values()
    return {"KV_REST_API_URL": url, "KV_REST_API_TOKEN": token}


@contextmanager
def wsgi_server(endpoint: LocalEndpoint) -> Iterator[Instance]:
    with Process(["-c", WSGI_SERVER], APP.parent, variables(endpoint)) as process:
        instance = Instance(int(process.wait_for(r"port (\d+)")[1]))
        yield instance
    instance.log = process.output


@contextmanager
def vercel_runtime(endpoint: LocalEndpoint) -> Iterator[Instance]:
    if sys.version_info < (3, 12):
        pytest.skip("vercel-runtime needs Python 3.12")
    if importlib.util.find_spec("vercel_runtime") is None:
        pytest.skip("vercel-runtime is not installed: requirements.txt here")
    with VercelPlatform() as platform:
        environment = {
            **variables(endpoint),
            "VERCEL_IPC_PATH": platform.path,
            "__VC_HANDLER_ENTRYPOINT": "api/index.py",
            "__VC_HANDLER_ENTRYPOINT_ABS": str(APP),
            "__VC_HANDLER_MODULE_NAME": "index",
            "__VC_HANDLER_VARIABLE_NAME": "app",
        }
        command = ["-c", "import vercel_runtime.vc_init"]
        with Process(command, APP.parents[1], environment) as process:
            instance = Instance(platform.port())
            yield instance
    instance.log = "\n".join([process.output, *platform.log])


Start = Callable[[LocalEndpoint], AbstractContextManager[Instance]]
each_server = pytest.mark.parametrize("start", [wsgi_server, vercel_runtime])


@each_server
def test_orders_that_come_at_once_are_in_redis_when_they_are_answered(
    start: Start, real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    put_into(tcp, 0)
    with start(real_endpoint) as instance, ThreadPoolExecutor(8) as shop:

        def post(number: int) -> int:
            return request(instance.port, "POST", "/", order(number))[0]

        assert set(shop.map(post, range(1, 41))) == {200}
        assert request(instance.port, "POST", "/", order(0)) == (200, {"orders": 41})
        assert stored(tcp) == expected(*range(41))
    assert_no_failure(instance.log, real_endpoint)


@each_server
def test_a_cold_start_restores_what_another_instance_saved(
    start: Start, real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    for number in (1, 2):
        with start(real_endpoint) as instance:
            assert request(instance.port, "POST", "/", order(number)) == (200, {"orders": number})
        assert_no_failure(instance.log, real_endpoint)


@each_server
def test_an_order_that_could_not_be_backed_up_is_refused(
    start: Start, real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    with start(real_endpoint) as instance:
        tcp.config_set("maxmemory", "1")
        try:
            assert request(instance.port, "POST", "/", order(1)) == (503, {"orders": 1})
        finally:
            tcp.config_set("maxmemory", "0")
    assert "Failed to save order" in instance.log
    assert stored(tcp) == {}
