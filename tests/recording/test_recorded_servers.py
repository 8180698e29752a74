"""The package against recorded answers: of two independent servers, and of a real Redis.

Where the two servers differ from Upstash's documentation, what is asserted is what the
documentation says, and their answer is one more that the package must live with.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.support.saving import save_in_one_pipeline
from upstash_state import (
    AuthenticationError,
    ResponseError,
    UpstashRedis,
    WrongTypeError,
    get_redis_client,
    redis_get_all_orders,
    redis_get_order,
    redis_get_order_count,
    redis_save_order,
    serialize_order,
)
from upstash_state.recording import recording
from upstash_state.recording.exchange import Exchange
from upstash_state.recording.file import dump, load

RECORDINGS = sorted((Path(__file__).parent / "recordings" / Path(__file__).stem).glob("*.yaml"))

recorded = pytest.mark.upstash_recording
both_servers = pytest.mark.parametrize("server", ["serverless-redis-http", "upstashdis"])

ORDER = {
    "name": "dishbee #26",
    "order_type": "shopify",
    "vendors": ["JS", "LR"],
    "created_at": datetime(2024, 12, 6, 14, 30, tzinfo=timezone.utc),
    "requested_time": "14:30",
    "confirmed_times": {"JS": "14:35"},
    "customer": {
        "name": "Jürgen Müller",
        "address": "Hauptstraße 5, 94032 Passau",
        "phone": "+49 851 0000000",
    },
    "products": {"JS": ["2 x Pizza Tonno", "1 x Cola 0,5l"], "LR": ["1 x Döner"]},
    "tips": 2.5,
    "status_history": [
        {
            "type": "new",
            "time": "14:25",
            "timestamp": datetime(2024, 12, 6, 14, 25, 10, 123456, tzinfo=timezone.utc),
        },
        {
            "type": "time_sent",
            "vendor": "JS",
            "time": "14:30",
            "timestamp": datetime(2024, 12, 6, 14, 30, tzinfo=timezone.utc),
        },
        {
            "type": "assigned",
            "assigned_to": 123456,
            "timestamp": datetime(2024, 12, 6, 14, 31, tzinfo=timezone.utc),
        },
    ],
}
ORDERS = {str(number): {**ORDER, "name": f"dishbee #{number}"} for number in range(1, 6)}
# As both servers gave them.
KEYS = ["order:2", "order:3", "order:1", "order:4", "order:5"]


@pytest.fixture
def client(upstash_recording: object) -> UpstashRedis:
    return UpstashRedis.from_env()


@recorded
@both_servers
def test_an_order_is_saved_read_and_deleted(server: str) -> None:
    assert redis_save_order("5866", ORDER) is True
    client = get_redis_client()
    assert client is not None
    assert client.ttl("order:5866") == 604_800
    assert redis_get_order("5866") == ORDER
    assert client.get("order:nope") is None
    assert client.delete("order:5866") == 1
    assert client.delete("order:5866") == 0


@recorded
@both_servers
def test_many_orders_are_saved_in_one_pipeline(server: str, client: UpstashRedis) -> None:
    assert save_in_one_pipeline(client, ORDERS) == 5


@recorded
@both_servers
def test_many_values_are_read_at_once(server: str, client: UpstashRedis) -> None:
    first, second, third = (serialize_order(ORDERS[key]) for key in ("1", "2", "3"))
    assert client.mget("order:1", "order:nope", "order:2") == [first, None, second]
    pipeline = client.pipeline(transaction=False)
    pipeline.mget("order:1", "order:2", "order:3").scan(0, match="order:*", count=1000)
    assert pipeline.execute() == [[first, second, third], (0, KEYS)]


@recorded
@both_servers
def test_keys_are_found(server: str, client: UpstashRedis) -> None:
    assert client.scan(0, match="order:*", count=1000, _type="string") == (0, KEYS)
    assert client.scan(0, match="nothing:*", count=1000) == (0, [])
    assert client.keys("order:*") == KEYS
    assert client.expire("order:1", 100) is True
    assert client.exists("order:1", "order:2", "order:nope") == 2
    assert client.dbsize() == {"serverless-redis-http": 9, "upstashdis": 8}[server]


@recorded
@both_servers
def test_any_text_is_a_key(server: str, client: UpstashRedis) -> None:
    text = '{"note": "Tür 🍕 \\u0000 \\ud83d"}'
    assert client.set("order:ü-🍕/?#% *", text, ex=60) is True
    assert client.get("order:ü-🍕/?#% *") == text


@recorded
@both_servers
def test_items_of_a_pipeline_fail_one_by_one(server: str, client: UpstashRedis) -> None:
    pipeline = client.pipeline(transaction=False)
    pipeline.set("k", "v", ex=60).execute_command("INCR", "k").get("k")
    was_set, error, value = pipeline.execute(raise_on_error=False)
    assert (was_set, value) == (True, "v")
    assert type(error) is ResponseError
    assert str(error) == "ERR value is not an integer or out of range"


@recorded
@both_servers
def test_a_key_of_another_type_is_no_value(server: str, client: UpstashRedis) -> None:
    text = "WRONGTYPE Operation against a key holding the wrong kind of value"
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command("HSET", "order:hash", "f", "v")
    pipeline.get("order:hash").mget("order:hash", "order:1")
    added, error, values = pipeline.execute(raise_on_error=False)
    assert (added, values) == (1, [None, serialize_order(ORDERS["1"])])
    assert (type(error), str(error)) == (WrongTypeError, text)
    with pytest.raises(WrongTypeError) as refused:
        client.get("order:hash")
    assert str(refused.value) == text
    # With its type given, SCAN does not see it.
    assert client.scan(0, match="order:*", count=1000, _type="string") == (0, KEYS)
    assert client.delete("order:hash") == 1


@recorded
@both_servers
def test_a_refused_command_says_why(server: str, client: UpstashRedis) -> None:
    for command, text in (
        (("NOSUCHCOMMAND",), "ERR unknown command 'NOSUCHCOMMAND', with args beginning with: "),
        (("GET",), "ERR wrong number of arguments for 'get' command"),
        (("SET", "k", "v", "EX", "0"), "ERR invalid expire time in 'set' command"),
        (("SET", "k", "v", "FOO"), "ERR syntax error"),
    ):
        with pytest.raises(ResponseError) as refused:
            client.execute_command(*command)
        assert str(refused.value) == text


@recorded
@both_servers
def test_a_token_that_is_not_accepted_is_an_error_of_its_own(
    server: str, client: UpstashRedis
) -> None:
    wrong, missing = {
        "serverless-redis-http": ("Invalid token", "Missing/Invalid authorization header"),
        "upstashdis": ("Unauthorized", "Unauthorized"),
    }[server]
    for text in (wrong, missing):
        with pytest.raises(AuthenticationError) as refused:
            client.execute_command("PING")
        assert str(refused.value) == text
    with pytest.raises(AuthenticationError) as refused:
        client.pipeline(transaction=False).ping().execute()
    assert str(refused.value) == wrong


@recorded
def test_a_transaction_is_answered_item_by_item(client: UpstashRedis) -> None:
    assert client.pipeline().set("t1", "a", ex=60).get("t1").execute() == [True, "a"]


@recorded
def test_a_server_without_transactions_refuses_one(client: UpstashRedis) -> None:
    with pytest.raises(ResponseError) as refused:
        client.pipeline().set("t1", "a", ex=60).get("t1").execute()
    # What the server repeats of the request is cut off.
    assert str(refused.value) == "ERR unknown command 'multi-exec', with args beginning with…"


@recorded
def test_a_backup_over_real_redis_is_restored(client: UpstashRedis) -> None:
    """Recorded with the embedded endpoint over a Redis 7.0.15 server."""
    orders = {"a": ORDERS["1"], "b": {"total": "58,68€", "note": "Tisch T5 🔴"}}
    assert redis_get_order_count() == 0
    assert save_in_one_pipeline(client, orders) == 2
    assert redis_save_order("c/*?", ORDER) is True
    assert redis_get_all_orders() == {**orders, "c/*?": ORDER}
    assert get_redis_client() is not None
    assert client.ttl("order:b") == 604_800
    assert client.delete("order:a") == 1
    assert client.get("order:a") is None
    results = client.pipeline().set("visits", 1).execute_command("INCR", "visits").execute()
    assert results == [True, 2]


@pytest.mark.slow
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_every_change_of_a_recording_fails_its_test(path: Path, tmp_path: Path) -> None:
    exchanges = load(path.read_text(encoding="utf-8"))
    changed = tmp_path / "changed.yaml"
    changed.write_text(dump(exchanges), encoding="utf-8")
    run(path.stem, changed)
    unnoticed = []
    for what, mutated in mutations(exchanges):
        changed.write_text(dump(mutated), encoding="utf-8")
        try:
            run(path.stem, changed)
        except Exception:
            continue
        unnoticed.append(what)
    assert unnoticed == []


def run(test: str, path: Path) -> None:
    """Run one of the tests above, as the plugin would, on another file."""
    name, _, server = test.removesuffix("]").partition("[")
    function = globals()[name]
    with recording(path):
        given = {"server": lambda: server, "client": UpstashRedis.from_env}
        function(**{name: given[name]() for name in inspect.signature(function).parameters})


def mutations(exchanges: list[Exchange]) -> Iterator[tuple[str, list[Exchange]]]:
    """The recording with each one word, key, value or number of it changed, and what that is."""
    for index, exchange in enumerate(exchanges):

        def recorded_with(other: Exchange, index: int = index) -> list[Exchange]:
            return [*exchanges[:index], other, *exchanges[index + 1 :]]

        commands = [list(command) for command in exchange.request.commands]
        for what, mutated in changes(commands):
            request = replace(exchange.request, commands=tuple(map(tuple, mutated)))
            yield f"{index} commands{what}", recorded_with(replace(exchange, request=request))
        if commands == [["PING"]] and "error" not in exchange.answer:
            # What a PING is answered with is not looked at, by intention.
            continue
        for what, mutated in changes(exchange.answer):
            if what:
                yield f"{index} answer{what}", recorded_with(exchange.with_answer(mutated))


def changes(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, member in value.items():
            for what, changed in changes(member):
                yield f".{key}{what}", {**value, key: changed}
    elif isinstance(value, list):
        for index, member in enumerate(value):
            for what, changed in changes(member):
                yield f"[{index}]{what}", [*value[:index], changed, *value[index + 1 :]]
    elif isinstance(value, str) and value.startswith("{"):
        for what, changed in changes(json.loads(value)):
            yield what, json.dumps(changed, ensure_ascii=False)
    elif isinstance(value, str):
        # At its start, since an error's text ends where it repeats the request.
        yield "", str(int(value) + 1) if value.isdigit() else f"x{value}"
    elif isinstance(value, (int, float)):
        yield "", value + 1
    else:
        yield "", "something"
