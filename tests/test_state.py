"""The eight functions: the contract, over an endpoint in memory and over a real Redis."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pytest
import redis as redis_py
import responses
import upstash_redis

import upstash_state
from tests.support.environ import TOKEN, URL, Environ
from tests.support.paths import STORED_ORDERS
from upstash_state import (
    aio,
    get_redis_client,
    redis_delete_order,
    redis_get_all_orders,
    redis_get_order,
    redis_get_order_count,
    redis_save_order,
    redis_save_orders,
    reset_client,
    serialize_order,
)
from upstash_state.local import LocalEndpoint

ORDER = {
    "name": "dishbee #26",
    "created_at": datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc),
    "status_history": [{"type": "new", "timestamp": datetime(2026, 3, 1, 12, 30)}],
    "customer": {"name": "Zoë", "since": datetime(2020, 1, 1)},
}
IDS = ["5866", "a/b", "a?b=c#d", "50%", "*", "[x]", "\\", "🍕", "line\nbreak", "", " ", "order:1"]


@pytest.fixture
def connected(either_endpoint: LocalEndpoint, environ: Environ) -> LocalEndpoint:
    environ.use(either_endpoint.url, either_endpoint.token)
    return either_endpoint


@pytest.fixture
def mocked(mocked: responses.RequestsMock, environ: Environ) -> responses.RequestsMock:
    """The same, for the database that the environment names, whether all is asked or not."""
    environ.use(URL, TOKEN)
    mocked.assert_all_requests_are_fired = False
    return mocked


def test_a_record_has_the_id_as_text_of_bounded_length(
    mocked: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    mocked.post(URL, status=500)
    for order_id in ("5866", 5866, "x" * 1_000_000, {"card": "4111"}):
        redis_get_order(order_id)  # type: ignore[arg-type]
        redis_save_order(order_id, {})  # type: ignore[arg-type]
    ids = [getattr(record, "order_id", None) for record in caplog.records]
    assert all(order_id is None or isinstance(order_id, str) for order_id in ids)
    assert "5866" in ids
    assert max(len(order_id or "") for order_id in ids) < 300
    assert "4111" not in str(ids)


@pytest.mark.parametrize("order_id", IDS)
def test_an_order_is_found_again_under_exactly_its_id(
    connected: LocalEndpoint, order_id: str
) -> None:
    assert redis_save_order(order_id, ORDER) is True
    assert redis_get_order(order_id) == ORDER
    assert redis_get_all_orders() == {order_id: ORDER}
    assert redis_get_order_count() == 1
    assert redis_delete_order(order_id) is True
    assert redis_get_order(order_id) is None
    assert redis_get_all_orders() == {}
    assert redis_get_order_count() == 0
    assert redis_delete_order(order_id) is True


def test_an_int_id_is_its_digits(connected: LocalEndpoint) -> None:
    order_id: Any = 5866
    assert redis_save_order(order_id, ORDER)
    assert redis_get_order("5866") == ORDER == redis_get_order(order_id)
    assert list(redis_get_all_orders()) == ["5866"]


def test_a_save_is_one_request_and_one_command_with_an_expiry(connected: LocalEndpoint) -> None:
    client = get_redis_client()
    assert client is not None
    before = connected.usage()
    assert redis_save_order("5866", ORDER)
    after = connected.usage()
    assert (after.requests - before.requests, after.commands - before.commands) == (1, 1)
    assert client.get("order:5866") == serialize_order(ORDER)
    assert 604_790 < client.ttl("order:5866") <= 604_800


def test_all_the_orders_of_the_tcp_module_come_back(connected: LocalEndpoint) -> None:
    lines = [json.loads(line) for line in STORED_ORDERS.read_text(encoding="utf-8").splitlines()]
    client = get_redis_client()
    assert client is not None
    pipeline = client.pipeline(transaction=False)
    for line in lines:
        pipeline.set(f"order:{line['id']}", line["stored"])
    pipeline.execute()
    restored = redis_get_all_orders()
    assert len(lines) == 160
    assert {order_id: _tagged(order) for order_id, order in restored.items()} == {
        line["id"]: line["restored"] for line in lines
    }
    assert redis_save_orders(restored) == 160
    assert redis_get_all_orders() == restored


def _tagged(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"$date": value.isoformat()}
    if isinstance(value, dict):
        return {key: _tagged(item) for key, item in value.items()}
    return [_tagged(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 1001, 2500])
def test_a_restore_takes_few_requests(connected: LocalEndpoint, number: int) -> None:
    orders = {str(n): {"n": n} for n in range(number)}
    assert redis_save_orders(orders) == number
    before = connected.usage()
    assert redis_get_all_orders() == orders
    after = connected.usage()
    assert after.requests - before.requests <= number / 1000 + 2
    assert after.commands - before.commands <= 2 * (number / 1000 + 1)


def test_other_keys_are_left_alone(connected: LocalEndpoint) -> None:
    client = get_redis_client()
    assert client is not None
    client.execute_command("HSET", "order:hash", "f", "v")
    client.set("orders", "v")
    redis_save_order("1", {})
    assert redis_get_all_orders() == {"1": {}}
    assert redis_get_order_count() == 1
    assert redis_get_order("hash") is None


def test_saving_many(connected: LocalEndpoint) -> None:
    assert redis_save_orders({}) == 0
    assert redis_save_orders({"1": ORDER, "2": {}}) == 2
    assert redis_get_all_orders() == {"1": ORDER, "2": {}}


def test_what_one_client_writes_the_others_read(
    real_endpoint: LocalEndpoint, tcp: redis_py.Redis, environ: Environ
) -> None:
    environ.use(real_endpoint.url, real_endpoint.token)
    text = serialize_order(ORDER)
    with upstash_redis.Redis(real_endpoint.url, real_endpoint.token) as sdk:
        redis_save_order("ours", ORDER)
        sdk.set("order:sdk", text, ex=60)
        tcp.set("order:tcp", text, ex=60)
        assert redis_get_all_orders() == {"ours": ORDER, "sdk": ORDER, "tcp": ORDER}
        for order_id in ("ours", "sdk", "tcp"):
            assert sdk.get(f"order:{order_id}") == text
            assert tcp.get(f"order:{order_id}") == text.encode()
        assert redis_delete_order("sdk")
        assert tcp.keys("order:sdk") == []


CALLS = [
    ("get_redis_client", lambda: get_redis_client(), None),
    ("redis_save_order", lambda: redis_save_order("5866", ORDER), False),
    ("redis_get_order", lambda: redis_get_order("5866"), None),
    ("redis_delete_order", lambda: redis_delete_order("5866"), False),
    ("redis_get_all_orders", lambda: redis_get_all_orders(), {}),
    ("redis_get_order_count", lambda: redis_get_order_count(), 0),
    ("redis_save_orders", lambda: redis_save_orders({"5866": ORDER, "5867": ORDER}), 0),
]
MESSAGES = {
    "get_redis_client": "Failed to connect to Redis: ",
    "redis_save_order": "Failed to save order 5866 to Redis: ",
    "redis_get_order": "Failed to get order 5866 from Redis: ",
    "redis_delete_order": "Failed to delete order 5866 from Redis: ",
    "redis_get_all_orders": "Failed to get all orders from Redis: ",
    "redis_get_order_count": "Failed to get order count from Redis: ",
    "redis_save_orders": "Failed to save 2 orders to Redis: ",
}
each_call = pytest.mark.parametrize(
    ("name", "call", "fallback"), CALLS, ids=[name for name, _, _ in CALLS]
)


@each_call
def test_without_credentials_there_is_one_warning(
    name: str, call: Any, fallback: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert call() == fallback
    (record,) = caplog.records
    assert record.getMessage().startswith("Redis credentials not found - persistence disabled: ")
    assert (record.levelno, record.name) == (logging.WARNING, "upstash_state")


@each_call
def test_an_unusable_url_is_one_warning_too(
    name: str,
    call: Any,
    fallback: Any,
    caplog: pytest.LogCaptureFixture,
    environ: Environ,
) -> None:
    environ.use("rediss://default:s3cret@x.upstash.io:6379", TOKEN)
    for _ in range(3):
        assert call() == fallback
    (record,) = caplog.records
    assert "UPSTASH_REDIS_REST_URL is the address for Redis over TCP" in record.getMessage()
    assert " - persistence disabled: orders are not backed up. " in record.getMessage()
    assert "s3cret" not in caplog.text


def test_credentials_that_appear_later_are_used(endpoint: LocalEndpoint, environ: Environ) -> None:
    assert redis_save_order("1", {}) is False
    environ.use(endpoint.url, endpoint.token)
    assert redis_save_order("1", {}) is True


def test_a_bad_setting_is_complained_about_once(
    endpoint: LocalEndpoint, environ: Environ, caplog: pytest.LogCaptureFixture
) -> None:
    environ.use(endpoint.url, endpoint.token)
    environ.set(UPSTASH_STATE_TTL="7d")
    assert redis_save_order("1", {})
    assert redis_save_order("2", {})
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage().startswith("UPSTASH_STATE_TTL is not a whole number of seconds")


def test_a_bad_setting_is_complained_about_once_by_all_threads(
    endpoint: LocalEndpoint, environ: Environ, caplog: pytest.LogCaptureFixture
) -> None:
    environ.use(endpoint.url, endpoint.token)
    environ.set(UPSTASH_STATE_TTL="7d")
    start = threading.Barrier(8)

    def first_use(number: int) -> bool:
        start.wait(timeout=10)
        return redis_save_order(str(number), {})

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(first_use, range(8)))
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_settings_are_respected(endpoint: LocalEndpoint, environ: Environ) -> None:
    environ.use(endpoint.url, endpoint.token)
    environ.set(UPSTASH_STATE_TTL="60")
    environ.set(UPSTASH_STATE_PREFIX="shop:")
    assert redis_save_order("1", {})
    client = get_redis_client()
    assert client is not None
    assert client.keys() == ["shop:1"]
    assert 50 < client.ttl("shop:1") <= 60


@each_call
def test_a_refusal_falls_back_and_is_logged_once(
    mocked: Any, name: str, call: Any, fallback: Any, caplog: pytest.LogCaptureFixture
) -> None:
    mocked.post(URL, status=401, json={"error": "WRONGPASS invalid token"})
    mocked.post(URL + "/pipeline", status=401, json={"error": "WRONGPASS invalid token"})
    assert call() == fallback
    (record,) = caplog.records
    assert record.getMessage().startswith(MESSAGES[name] + "WRONGPASS invalid token")
    assert (record.levelno, record.name) == (logging.ERROR, "upstash_state")
    assert record.operation == name  # type: ignore[attr-defined]
    assert record.order_id == ("5866" if "_order" in name and name[-1] == "r" else None)  # type: ignore[attr-defined]


@each_call
def test_an_exception_that_nobody_expects_does_not_leave(
    name: str, call: Any, fallback: Any, mocked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(upstash_state.transport.Transport, "exchange", explode)  # type: ignore[attr-defined]
    assert call() == fallback


@each_call
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_does_leave(
    name: str, call: Any, fallback: Any, mocked: Any, interruption: type[BaseException]
) -> None:
    def interrupt(request: Any) -> Any:
        raise interruption

    mocked.add_callback(responses.POST, URL, interrupt)
    mocked.add_callback(responses.POST, URL + "/pipeline", interrupt)
    with pytest.raises(interruption):
        call()


@pytest.mark.parametrize(
    ("order", "culprit"),
    [
        ({"tags": {"a"}}, "tags: set"),
        (
            {"status_history": [{}, {}, {"price": {1}}]},
            "status_history[2].price: set",
        ),
        ({"raw": b"x"}, "raw: bytes"),
        ({"a": {"b": object()}}, "a.b: object"),
    ],
)
def test_an_order_that_json_cannot_hold_is_named_and_nothing_is_stored(
    connected: LocalEndpoint, order: Any, culprit: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert redis_save_order("5866", order) is False
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("Failed to save order 5866 to Redis: ")
    assert f": {culprit} - convert it to" in record.getMessage()
    assert redis_get_order_count() == 0


def test_a_missing_order_deletes_nothing(
    connected: LocalEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    missing: Any = None
    assert redis_save_order("1", {"n": 1})
    assert redis_save_order("1", missing) is False
    assert redis_save_orders({"1": missing, "2": {}}) == 1
    assert asyncio.run(aio.redis_save_order("1", missing)) is False
    assert redis_get_all_orders() == {"1": {"n": 1}, "2": {}}
    text = "Failed to save order 1 to Redis: an order is a dict, not NoneType"
    assert [record.getMessage() for record in caplog.records] == [text] * 3


def test_an_order_with_a_circle_is_refused(connected: LocalEndpoint) -> None:
    order: dict[str, Any] = {}
    order["self"] = order
    assert redis_save_order("5866", order) is False


class Unwritable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("order_id", "shown"),
    [
        ("two\nlines", r"two\nlines"),
        ("\ud83d", r"\ud83d"),
        (10**5000, "<int>"),
        (Unwritable(), "<Unwritable>"),
        (None, "<NoneType>"),
    ],
    ids=["lines", "surrogate", "huge", "unwritable", "none"],
)
def test_whatever_an_id_is_the_log_names_it_in_one_line(
    mocked: Any, order_id: Any, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    mocked.post(URL, json={"result": 7})
    assert redis_get_order(order_id) is None
    assert redis_save_order(order_id, {}) is False
    assert redis_delete_order(order_id) in (True, False)
    assert f"Failed to save order {shown} to Redis: " in caplog.text


def test_an_id_that_cannot_be_sent_does_not_cost_the_others(
    connected: LocalEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    wrong: list[Any] = [10**5000, None, 1.5, "\ud83c", "x" * 40_000]
    orders = {order_id: {} for order_id in ["a", *wrong, 7, "b"]}
    assert redis_save_orders(orders) == 3
    assert sorted(redis_get_all_orders()) == ["7", "a", "b"]
    for shown in ("<int>", "<NoneType>", "<float>", "'\\ud83c'", "xxx"):
        assert shown in caplog.text


@pytest.mark.parametrize("orders", [None, 7, [{}], {"1": None}, {None: {}}])
def test_whatever_is_saved_as_many_nothing_leaves(mocked: Any, orders: Any) -> None:
    mocked.post(URL, json={"result": "OK"})
    mocked.post(URL + "/pipeline", json=[])
    assert redis_save_orders(orders) == 0


@pytest.mark.parametrize("orders", [None, [{"id": "1"}]])
def test_orders_in_anything_but_a_dict_are_refused_in_one_line(
    mocked: Any, caplog: pytest.LogCaptureFixture, orders: Any
) -> None:
    assert redis_save_orders(orders) == 0
    [record] = caplog.records
    assert record.exc_info is None
    what = f"orders must be a dict of orders by id, not {type(orders).__name__}"
    assert record.getMessage() == f"Failed to save orders to Redis: {what}"


def test_an_unreadable_order_is_none(connected: LocalEndpoint) -> None:
    client = get_redis_client()
    assert client is not None
    client.set("order:5866", "no json")
    assert redis_get_order("5866") is None


def test_the_first_connection_is_announced(
    connected: LocalEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "upstash_state")
    assert redis_save_order("1", {})
    assert get_redis_client() is get_redis_client()
    (record,) = caplog.records
    assert record.getMessage() == "Redis connection established"


def test_first_use_from_many_threads_makes_one_client(
    connected: LocalEndpoint,
) -> None:
    start = threading.Barrier(32)
    clients = []

    def first_use() -> None:
        start.wait(timeout=5)
        clients.append(get_redis_client())

    threads = [threading.Thread(target=first_use) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(clients) == 32
    assert len(set(map(id, clients))) == 1
    asked = connected.usage().commands
    assert 1 <= asked <= 32
    assert get_redis_client() is clients[0]
    assert connected.usage().commands == asked


def test_a_reset_reads_the_environment_anew(endpoint: LocalEndpoint, environ: Environ) -> None:
    environ.use(URL, TOKEN)
    with responses.RequestsMock() as mock:
        mock.post(URL, json={"result": "OK"})
        assert redis_save_order("1", {})
    environ.use(endpoint.url, endpoint.token)
    reset_client()
    assert redis_save_order("1", {})
    assert endpoint.usage().commands == 1


def test_the_shortest_possible_mock_is_enough(mocked: Any) -> None:
    mocked.post(URL, json={"result": "OK"})
    assert redis_save_order("5866", ORDER) is True
    assert [json.loads(call.request.body)[0] for call in mocked.calls] == ["SET"]
