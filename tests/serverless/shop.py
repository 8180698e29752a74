"""The other side of the examples: a shop that posts its orders, and what Redis then holds."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import redis

from tests.support.processes import LIMIT
from upstash_state import serialize_order
from upstash_state.local import LocalEndpoint

EXAMPLES = Path(__file__).parent
WEEK = 604_800


def order(number: int) -> dict[str, Any]:
    """An order as the shop sends it."""
    return {"id": 8191753420000 + number, "name": f"#{number}", "customer": {"name": "Zoë Groß"}}


def order_id(number: int) -> str:
    """The id that it is backed up under."""
    return str(order(number)["id"])


def credentials(endpoint: LocalEndpoint, port: int | None = None) -> dict[str, str]:
    """The environment that leads to an endpoint, by way of another port if there is one."""
    url = endpoint.url if port is None else f"http://127.0.0.1:{port}"
    return {"UPSTASH_REDIS_REST_URL": url, "UPSTASH_REDIS_REST_TOKEN": endpoint.token}


def port_of(endpoint: LocalEndpoint) -> int:
    """Where it listens."""
    return int(endpoint.url.rsplit(":", 1)[1])


def request(port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Ask an app on this port. Gives status and body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def put_into(tcp: redis.Redis, number: int) -> None:
    """Leave an order in Redis, as an instance that is no more would have."""
    tcp.set(f"order:{order_id(number)}", serialize_order(order(number)), ex=WEEK)


def stored(tcp: redis.Redis) -> dict[str, dict[str, Any]]:
    """What Redis holds, asked over TCP, without the time at which each order came.

    Checked on the way: each order has that time, in UTC, and expires in a week at most.
    """
    orders = {}
    for key in tcp.keys("*"):
        name = key.decode()
        saved = json.loads(tcp.get(name))
        received_at = datetime.fromisoformat(saved.pop("received_at"))
        assert received_at.tzinfo == timezone.utc
        assert WEEK - 60 < tcp.ttl(name) <= WEEK
        orders[name] = saved
    return orders


def expected(*numbers: int) -> dict[str, dict[str, Any]]:
    """What Redis should hold when these orders are backed up."""
    return {f"order:{order_id(number)}": order(number) for number in numbers}


def assert_no_failure(output: str, endpoint: LocalEndpoint) -> None:
    """Nothing failed, and no secret was told."""
    assert "Failed" not in output, output
    assert "Traceback" not in output, output
    assert endpoint.token not in output


def start_command(example: str, program: str) -> list[str]:
    """The arguments in the command that an example's docstring names."""
    for line in (EXAMPLES / example).read_text().splitlines():
        if line.startswith(f"{program} "):
            return line.split()[1:]
    raise AssertionError(f"{example} does not say how to start {program}")
