"""What each piece of work costs: HTTP requests, billed commands, bytes. Exact; nothing is timed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import upstash_redis

from tests.benchmarks.month import (
    APPS,
    CHECKED,
    DAY,
    GOAL,
    MAX_AGE,
    ORIGINAL,
    SETTINGS,
    SWAPPED,
    App,
    commands,
    table,
)
from tests.support.environ import Environ
from tests.support.paths import ROOT, STORED_ORDERS
from upstash_state import (
    OrderStore,
    UpstashRedis,
    deserialize_order,
    get_redis_client,
    redis_delete_order,
    redis_get_all_orders,
    redis_get_order,
    redis_get_order_count,
    redis_save_order,
    redis_save_orders,
    serialize_order,
)
from upstash_state.local import LocalEndpoint, Usage

TTL = 604_800
TEXT = json.loads(STORED_ORDERS.read_text(encoding="utf-8").splitlines()[0])["stored"]
ORDER = deserialize_order(TEXT)
STATE = {str(number): ORDER for number in range(500)}

Cost = Callable[[Callable[[], object]], Usage]


def cost_at(endpoint: LocalEndpoint) -> Cost:
    def cost(work: Callable[[], object]) -> Usage:
        before = endpoint.usage()
        work()
        return Usage(*(now - then for now, then in zip(endpoint.usage(), before)))

    return cost


def counted(usage: Usage) -> tuple[int, int]:
    return usage.requests, usage.commands


@pytest.fixture
def cost(endpoint: LocalEndpoint) -> Cost:
    """What a piece of work costs at the endpoint."""
    return cost_at(endpoint)


@pytest.fixture
def sdk(endpoint: LocalEndpoint) -> Iterator[upstash_redis.Redis]:
    """Upstash's own client, at the same endpoint."""
    with upstash_redis.Redis(endpoint.url, endpoint.token) as sdk:
        yield sdk


@pytest.fixture
def credentials(endpoint: LocalEndpoint, environ: Environ) -> None:
    """The environment names the endpoint, and no client is made yet."""
    environ.use(endpoint.url, endpoint.token)


@pytest.fixture
def client(credentials: None) -> UpstashRedis:
    """The process's client, after its first use."""
    client = get_redis_client()
    assert client is not None
    return client


@pytest.mark.usefixtures("credentials")
def test_the_first_use_costs_a_ping(cost: Cost) -> None:
    assert counted(cost(get_redis_client)) == (1, 1)
    assert counted(cost(get_redis_client)) == (0, 0)


@pytest.mark.usefixtures("client")
def test_every_function_costs_one_command_and_a_restore_two(cost: Cost) -> None:
    assert cost(lambda: redis_save_order("1", ORDER)) == Usage(1, 1, 2222, 120)
    assert cost(lambda: redis_get_order("1")) == Usage(1, 1, 262, 2061)
    assert cost(redis_get_order_count) == Usage(1, 1, 307, 133)
    assert cost(redis_get_all_orders) == Usage(2, 2, 553, 2196)
    assert cost(lambda: redis_delete_order("1")) == Usage(1, 1, 262, 117)


@pytest.mark.usefixtures("client")
def test_the_bytes_of_a_save_are_these(endpoint: LocalEndpoint, cost: Cost) -> None:
    port = endpoint.url.rpartition(":")[2]
    body = json.dumps(["SET", "order:1", TEXT, "EX", str(TTL)], ensure_ascii=False)
    body = body.replace('", "', '","')
    head = [
        "POST / HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Length: {len(body.encode())}",
        "Authorization: Bearer " + endpoint.token,
        "Content-Type: application/json",
        "Accept-Encoding: gzip",
        "User-Agent: upstash-state",
        "Upstash-Sync-Token: 000000000001",
    ]
    request = "\r\n".join([*head, "", body]).encode()
    assert cost(lambda: redis_save_order("1", ORDER)).bytes_received == len(request)


def test_a_request_leaves_in_one_piece(
    client: UpstashRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[bytes] = []
    send = socket.socket.send

    def spy(sock: socket.socket, data: Any, *flags: int) -> int:
        pieces.append(bytes(data))
        return send(sock, data, *flags)

    monkeypatch.setattr(socket.socket, "send", spy)
    client.set("order:1", "x")
    sent = [piece for piece in pieces if not piece.startswith(b"HTTP/")]
    assert len(sent) == 1
    assert sent[0].startswith(b"POST / HTTP/1.1\r\n")
    assert sent[0].endswith(b'\r\n\r\n["SET","order:1","x"]')


def test_a_restore_of_ten_thousand(either_endpoint: LocalEndpoint) -> None:
    with UpstashRedis(either_endpoint.url, either_endpoint.token) as client:
        store = OrderStore(client)
        store.save_many({str(number): {"number": number} for number in range(10_000)})
        cost = cost_at(either_endpoint)
        restored: list[int] = []
        assert counted(cost(lambda: restored.append(len(store.get_all())))) <= (12, 22)
    assert restored == [10_000]


@pytest.mark.usefixtures("client")
def test_a_restore_of_a_week_costs_two_commands_and_keys_and_get_a_hundred(
    cost: Cost, sdk: upstash_redis.Redis
) -> None:
    redis_save_orders({str(number): ORDER for number in range(105)})
    assert counted(cost(redis_get_all_orders)) == (2, 2)
    assert counted(cost(lambda: list(map(sdk.get, sdk.keys("order:*"))))) == (106, 106)


def test_a_state_with_one_change(
    client: UpstashRedis, cost: Cost, sdk: upstash_redis.Redis
) -> None:
    def as_the_original() -> None:
        for order_id, order in STATE.items():
            sdk.set(f"order:{order_id}", serialize_order(order))
            sdk.expire(f"order:{order_id}", TTL)

    assert counted(cost(as_the_original)) == (1000, 1000)

    store = OrderStore(client, skip_unchanged=DAY)
    assert counted(cost(lambda: store.save_many(STATE))) == (1, 1)
    changed = {**STATE, "7": {**ORDER, "note": "a change"}}
    assert counted(cost(lambda: store.save_many(changed))) == (1, 1)
    assert counted(cost(lambda: store.save_many(changed))) == (0, 0)


@pytest.mark.usefixtures("client")
def test_a_state_saved_one_by_one_costs_a_command_each(cost: Cost) -> None:
    def one_by_one() -> None:
        for order_id in list(STATE)[:20]:
            assert redis_save_order(order_id, ORDER)

    assert counted(cost(one_by_one)) == (20, 20)


def test_a_few_days_cost_what_changed_and_little_else() -> None:
    """The month of the README, in small."""
    app = App(orders=3, changes=4, kept=1, days=3)
    changes, checks = app.orders * app.changes * app.days, 1440 * app.days
    billed = {way: commands(app, way) for way in (ORIGINAL, SWAPPED, SETTINGS, CHECKED)}
    # Each restart: SCAN, MGET, and MSETEX instead of a SET. Each pruning: SCAN, MGET, DEL.
    rest = (2 * 2 + 3) * app.days
    assert billed[SETTINGS] <= changes + checks + rest
    assert billed[CHECKED] <= changes + DAY // MAX_AGE * app.days + rest
    assert billed[ORIGINAL] > billed[SWAPPED] > billed[SETTINGS] > billed[CHECKED] > changes


@pytest.mark.slow
def test_a_month_costs_less_than_the_goal_and_as_the_readme_says() -> None:
    readme = (ROOT / "tests" / "benchmarks" / "README.md").read_text(encoding="utf-8")
    row = table(APPS, (CHECKED,)).splitlines()[-1]
    assert row in readme
    assert all(int(cell.replace(",", "")) < GOAL for cell in row.split(" | ")[1:-1])
