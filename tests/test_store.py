"""OrderStore's raising forms: saving many, skipping what is unchanged, health."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import responses

from tests.support.clock import Clock
from tests.support.environ import URL
from tests.support.memory import MemoryEndpoint
from upstash_state import (
    AuthenticationError,
    CapacityExceededError,
    DataError,
    Health,
    OrderNotSerializableError,
    OrderStore,
    OrderUnreadableError,
    RestoreError,
    SaveManyError,
    SettingsError,
    UnavailableError,
    UpstashError,
    UpstashRedis,
    registry,
    time_budget,
)
from upstash_state.local import LocalEndpoint
from upstash_state.store import boot_clock, midnight
from upstash_state.transport import intercepting


@pytest.fixture
def store(store: OrderStore, clock: Clock) -> OrderStore:
    """The same, which skips what is unchanged."""
    return OrderStore(store.client, skip_unchanged=60, clock=clock)


@pytest.fixture
def redis(clock: Clock) -> Iterator[MemoryEndpoint]:
    redis = MemoryEndpoint(clock)
    with intercepting(redis, simulated=True):
        yield redis


def commands(endpoint: LocalEndpoint) -> int:
    return endpoint.usage().commands


def test_a_store_is_made_from_the_environment(
    endpoint: LocalEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {
        "UPSTASH_REDIS_REST_URL": endpoint.url,
        "UPSTASH_REDIS_REST_TOKEN": endpoint.token,
        "UPSTASH_STATE_PREFIX": "shop:",
        "UPSTASH_STATE_TTL": "60",
        "UPSTASH_STATE_TIMEOUT": "2",
        "UPSTASH_STATE_SKIP_UNCHANGED": "soon",
    }
    store = OrderStore.from_env(environ)
    store.save("1", {})
    store.save("1", {})
    assert commands(endpoint) == 2
    assert 50 < store.client.ttl("shop:1") <= 60
    assert store.client.timeout == 2
    assert "UPSTASH_STATE_SKIP_UNCHANGED is not a number of seconds" in caplog.text


def test_an_order_that_is_none_is_told_from_one_that_is_not_there(store: OrderStore) -> None:
    store.client.set("order:bad", "no json")
    with pytest.raises(OrderUnreadableError):
        store.get("bad")
    assert store.get("none") is None


@pytest.mark.parametrize("order_id", [None, True, 1.5, b"1", ["1"]])
def test_an_id_is_text_or_an_int(store: OrderStore, order_id: Any) -> None:
    for call in (store.get, store.delete, lambda i: store.save(i, {})):
        with pytest.raises(DataError, match="invalid order id"):
            call(order_id)


def test_many_orders_are_saved_in_one_request(store: OrderStore, endpoint: LocalEndpoint) -> None:
    orders = {str(number): {"number": number} for number in range(500)}
    assert sorted(store.save_many(orders)) == sorted(orders)
    assert (endpoint.usage().requests, commands(endpoint)) == (1, 1)
    assert store.get_all() == orders
    assert store.client.ttl("order:7") > 604_000


UNKNOWN = {"error": "ERR unknown command 'MSETEX', with args beginning with: '2'"}


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, [UNKNOWN]),
        (400, UNKNOWN),
        (400, {"error": "Bad Request"}),
        (404, {"error": "Not Found"}),
        (404, "page not found"),
        (500, {"error": "Internal Server Error"}),
    ],
)
def test_an_endpoint_that_does_not_know_the_one_command_gets_one_each(
    status: int, answer: Any
) -> None:
    store = OrderStore(UpstashRedis(URL, "token"))
    sent: list[Any] = []

    def reply(request: Any) -> tuple[int, dict[str, str], str]:
        sent.append(json.loads(request.body))
        if sent[-1][0][0] == "MSETEX":
            return status, {}, json.dumps(answer)
        return 200, {}, json.dumps([{"result": "OK"}] * len(sent[-1]))

    with responses.RequestsMock() as mock:
        mock.add_callback(responses.POST, URL + "/pipeline", reply)
        for _ in range(2):
            assert store.save_many({"a": {}, "b": {}}) == ["a", "b"]
    together = ["MSETEX", "2", "order:a", "{}", "order:b", "{}", "EX", "604800"]
    ones = [["SET", key, "{}", "EX", "604800"] for key in ("order:a", "order:b")]
    assert sent[0] == [together]
    # An attempt that status 500 answered is made again.
    assert sent[-2:] == [ones, ones]
    assert sent.count(ones) == 2


def test_one_order_to_blame_does_not_make_the_others_dear(
    store: OrderStore, endpoint: LocalEndpoint
) -> None:
    long = "x" * 40_000
    with pytest.raises(SaveManyError) as caught:
        store.save_many({"a": {}, long: {}, "b": {}})
    assert caught.value.saved == ["a", "b"]
    before = commands(endpoint)
    store.save_many({str(number): {} for number in range(50)})
    assert commands(endpoint) - before == 1


def test_deletes_are_one_command(store: OrderStore, endpoint: LocalEndpoint) -> None:
    old = datetime(2020, 1, 1, tzinfo=timezone.utc)
    store.save_many({"new": {}, **{str(number): {"created_at": old} for number in range(50)}})
    before = endpoint.usage()
    assert len(store.delete_older_than(datetime(2021, 1, 1, tzinfo=timezone.utc))) == 50
    after = endpoint.usage()
    assert (after.requests - before.requests, after.commands - before.commands) == (3, 3)
    assert store.get_all() == {"new": {}}


def test_an_old_order_that_is_saved_again_during_the_cleanup_is_kept(
    redis: MemoryEndpoint, clock: Clock
) -> None:
    store = OrderStore(UpstashRedis("http://127.0.0.1:1", "token"), clock=clock)
    old = {"created_at": datetime(2020, 1, 1, tzinfo=timezone.utc)}
    store.save_many({"old": old, "again": old})
    run = redis.run

    def run_and_save(command: list[str]) -> Any:
        result = run(command)
        if command[0] == "MGET":
            store.save("again", {"created_at": datetime.now(timezone.utc)})
        return result

    redis.run = run_and_save  # type: ignore[method-assign]
    store.delete_older_than(datetime(2021, 1, 1, tzinfo=timezone.utc))
    assert list(redis.keys) == ["order:again"]
    assert redis.commands[-1] == ["DEL", "order:old"]


def test_requests_stay_below_the_size_limit(endpoint: LocalEndpoint) -> None:
    store = OrderStore(UpstashRedis(endpoint.url, endpoint.token))
    orders = {str(number): {"text": '"\\' * 100_000} for number in range(60)}
    before = endpoint.usage()
    store.save_many(orders)
    after = endpoint.usage()
    in_one_request = 4_000_000 // len(json.dumps(json.dumps(orders["1"])))
    assert in_one_request == 4
    assert after.requests - before.requests == 60 / in_one_request


@pytest.mark.parametrize("missing", ["MSETEX", ""], ids=["one each", "together"])
def test_a_request_over_the_plans_limit_is_halved(missing: str) -> None:
    with LocalEndpoint(max_request_bytes=10_000) as small:
        store = OrderStore(UpstashRedis(small.url, small.token))
        store._delivery._missing.add(missing)
        store._delivery._try_again = store._clock() + 60
        orders: dict[str, Any] = {str(number): {"text": "x" * 1000} for number in range(40)}
        assert len(store.save_many(orders)) == 40
        orders["huge"] = {"text": "x" * 20_000}
        with pytest.raises(SaveManyError) as caught:
            store.save_many(orders)
    assert list(caught.value.failed) == ["huge"]
    assert len(caught.value.saved) == 40


def test_of_two_ids_with_the_same_text_the_last_one_wins(store: OrderStore) -> None:
    orders: dict[Any, Any] = {5: {"n": 1}, "6": {}, "5": {"n": 2}}
    assert store.save_many(orders) == ["5", "6"]
    assert store.get_all() == {"5": {"n": 2}, "6": {}}


def test_the_time_of_a_save_starts_when_it_is_accepted(
    redis: MemoryEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = OrderStore(UpstashRedis("http://127.0.0.1:1", "token", timeout=5))
    sends = [store.accept("1", {}), store.accept_delete("2")]
    late = time.monotonic() + 5
    monkeypatch.setattr(time, "monotonic", lambda: late)
    # As when all threads of `upstash_state.aio` wait for an endpoint that hangs.
    for send in sends:
        with pytest.raises(UnavailableError):
            send()
    assert (redis.requests, store.unsaved) == (0, ("1", "2"))


def test_an_order_that_cannot_be_stored_does_not_cost_the_others(store: OrderStore) -> None:
    with pytest.raises(SaveManyError) as caught:
        store.save_many({"a": {"n": 1}, "b": {"n": {1, 2}}, "c": {"n": 3}})
    assert caught.value.saved == ["a", "c"]
    assert isinstance(caught.value.failed["b"], OrderNotSerializableError)
    assert sorted(store.get_all()) == ["a", "c"]


def test_an_order_that_is_refused_does_not_cost_the_others() -> None:
    store = OrderStore(UpstashRedis(URL, "token"))
    with responses.RequestsMock() as mock:
        mock.post(
            URL + "/pipeline",
            json=[{"result": "OK"}, {"error": "ERR DB capacity quota exceeded"}, {"result": None}],
        )
        with pytest.raises(SaveManyError) as caught:
            store.save_many({"a": {}, "b": {}, "c": {}})
    assert caught.value.saved == ["a"]
    assert isinstance(caught.value.failed["b"], CapacityExceededError)
    assert isinstance(caught.value.failed["c"], UnavailableError)


def test_after_a_refused_request_no_further_one_is_made() -> None:
    store = OrderStore(UpstashRedis(URL, "token"))
    with responses.RequestsMock() as mock:
        mock.post(URL + "/pipeline", status=401, json={"error": "WRONGPASS"})
        with pytest.raises(SaveManyError) as caught:
            store.save_many({str(n): {"text": "x" * 1_000_000} for n in range(10)})
        assert len(mock.calls) == 1
    assert len(caught.value.failed) == 10
    assert len({id(error) for error in caught.value.failed.values()}) == 1
    assert isinstance(caught.value.failed["9"], AuthenticationError)


def test_an_unchanged_order_is_not_sent_again(
    store: OrderStore, endpoint: LocalEndpoint, clock: Clock
) -> None:
    store.save("1", {"n": 1})
    store.save("1", {"n": 1})
    assert commands(endpoint) == 1
    store.save("1", {"n": 2})
    assert commands(endpoint) == 2
    clock.now += 59
    store.save("1", {"n": 2})
    assert commands(endpoint) == 2
    clock.now += 1
    store.save("1", {"n": 2})
    assert commands(endpoint) == 3


def test_only_the_changed_of_many_are_sent(store: OrderStore, endpoint: LocalEndpoint) -> None:
    orders: dict[str, Any] = {str(number): {"number": number} for number in range(500)}
    store.save_many(orders)
    orders["7"]["status"] = "delivered"
    before = endpoint.usage()
    assert len(store.save_many(orders)) == 500
    after = endpoint.usage()
    assert (after.requests - before.requests, after.commands - before.commands) == (1, 1)
    store.save_many(orders)
    assert endpoint.usage() == after


def test_nothing_is_remembered_unless_asked_for(endpoint: LocalEndpoint) -> None:
    store = OrderStore(UpstashRedis(endpoint.url, endpoint.token))
    store.save("1", {"n": 1})
    store.save("1", {"n": 1})
    assert commands(endpoint) == 2


def test_a_deleted_order_is_sent_again(store: OrderStore, endpoint: LocalEndpoint) -> None:
    store.save("1", {"n": 1})
    store.delete("1")
    store.save("1", {"n": 1})
    assert commands(endpoint) == 3
    assert store.get("1") == {"n": 1}


def test_an_order_that_failed_is_sent_again(store: OrderStore, endpoint: LocalEndpoint) -> None:
    store.save("1", {"n": 1})
    with responses.RequestsMock() as mock:
        mock.post(endpoint.url, status=404)
        with pytest.raises(UpstashError):
            store.save("1", {"n": 2})
    store.save("1", {"n": 1})
    assert commands(endpoint) == 2


def test_a_many_that_failed_is_sent_again(store: OrderStore, endpoint: LocalEndpoint) -> None:
    store.save_many({"1": {"n": 1}})
    with responses.RequestsMock() as mock:
        mock.post(endpoint.url + "/pipeline", status=404)
        with pytest.raises(SaveManyError):
            store.save_many({"1": {"n": 2}})
    store.save_many({"1": {"n": 1}})
    assert commands(endpoint) == 2


def test_health_counts_only_now_and_then(
    store: OrderStore, endpoint: LocalEndpoint, clock: Clock
) -> None:
    store.save("1", {})
    health = store.health(max_age=60)
    assert (health.ok, health.orders, health.error) == (True, 1, None)
    assert health.latency is not None
    assert 0 < health.latency < 5
    # The save, and the count, which is a test of the endpoint too.
    assert commands(endpoint) == 2
    store.save("2", {})
    clock.now += 59
    assert store.health(max_age=60).orders == 1
    assert commands(endpoint) == 3
    clock.now += 1
    assert store.health(max_age=60).orders == 2
    assert commands(endpoint) == 4


@pytest.mark.parametrize("read", [lambda s: s.get("1"), lambda s: s.get_all()])
def test_a_read_that_shows_a_change_of_another_writer_ends_the_skipping(
    redis: MemoryEndpoint, clock: Clock, read: Any
) -> None:
    store = OrderStore(UpstashRedis(URL, "token"), clock=clock, skip_unchanged=3600)
    store.save("1", {"v": 1})
    redis.set("order:1", '{"v": 2}', 604_800)
    read(store)
    store.save("1", {"v": 1})
    assert redis.get("order:1") == '{"v": 1}'
    redis.requests = 0
    store.save("1", {"v": 1})
    assert redis.requests == 0


def test_an_order_whose_own_code_raises_costs_no_other(redis: MemoryEndpoint, clock: Clock) -> None:
    class Proxy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("outside of its context")

    class Detached(dict[str, Any]):
        def __iter__(self) -> Any:
            raise RuntimeError("detached from its session")

        items = keys = values = __iter__

    store = OrderStore(UpstashRedis(URL, "token"), clock=clock)
    orders: dict[str, Any] = {"1": {"v": 1}, "2": Proxy(), "3": Detached(a=1), "4": {"v": 4}}
    with pytest.raises(SaveManyError) as caught:
        store.save_many(orders)
    assert caught.value.saved == ["1", "4"]
    assert set(redis.keys) == {"order:1", "order:4"}
    assert set(caught.value.failed) == {"2", "3"}
    assert {type(error) for error in caught.value.failed.values()} == {OrderNotSerializableError}


def test_a_cleanup_names_only_the_orders_that_it_deleted(
    redis: MemoryEndpoint, clock: Clock
) -> None:
    store = OrderStore(UpstashRedis(URL, "token"), clock=clock)
    order = {"created_at": datetime(2020, 1, 1, tzinfo=timezone.utc)}
    store.save_many({"1": order, "2": order})

    def before(commands: list[list[str]]) -> None:
        if commands[0][0] == "MGET":
            redis.before = lambda commands: None
            store.save("1", {**order, "v": 2})

    redis.before = before
    assert store.delete_older_than(datetime(2021, 1, 1, tzinfo=timezone.utc)) == ["2"]
    assert set(redis.keys) == {"order:1"}


def test_at_exit_the_longest_timeout_of_all_stores_counts() -> None:
    clock = Clock()
    stores = [OrderStore(UpstashRedis(URL, "token", timeout=t), clock=clock) for t in (1, 5, 2)]
    assert [store.unsaved for store in stores] == [()] * 3
    (delivery,) = registry.deliveries.values()
    assert delivery.client.timeout == 5


def test_health_costs_nothing_after_other_traffic(
    store: OrderStore, endpoint: LocalEndpoint, clock: Clock
) -> None:
    other = OrderStore(UpstashRedis(endpoint.url, endpoint.token), clock=clock)
    assert store.health(max_age=600).ok
    clock.now += 599
    other.save("1", {})
    asked = commands(endpoint)
    assert store.health(max_age=600).ok
    assert commands(endpoint) == asked
    clock.now += 599
    store.count()
    clock.now += 599
    asked = commands(endpoint)
    assert store.health(max_age=600).ok
    assert commands(endpoint) == asked


def test_health_of_an_endpoint_that_refuses_or_is_down() -> None:
    store = OrderStore(UpstashRedis(URL, "token"))
    with responses.RequestsMock() as mock:
        mock.post(URL, status=401, json={"error": "WRONGPASS"})
        health = store.health()
    assert isinstance(health, Health)
    assert (health.ok, health.orders, health.latency) == (False, None, None)
    assert isinstance(health.error, AuthenticationError)


def test_health_says_how_many_orders_are_pending_and_for_how_long() -> None:
    clock = Clock()
    store = OrderStore(UpstashRedis("http://127.0.0.1:1", "token"), clock=clock)
    with responses.RequestsMock() as mock:
        mock.post("http://127.0.0.1:1", status=401, json={"error": "WRONGPASS"})
        for order_id in ("a", "b"):
            with pytest.raises(AuthenticationError):
                store.save(order_id, {})
            clock.now += 60
        health = store.health()
    assert (health.unsaved, health.unsaved_for) == (2, 120)
    assert OrderStore(UpstashRedis(URL, "other-token")).health().unsaved_for == 0


def test_counting_costs_a_command_for_ten_thousand_keys(endpoint: LocalEndpoint) -> None:
    store = OrderStore(UpstashRedis(endpoint.url, endpoint.token))
    store.save_many({str(number): {} for number in range(5000)})
    store.client.set("other", "v")
    before = commands(endpoint)
    assert store.count() == 5000
    assert commands(endpoint) - before == 1


@pytest.mark.parametrize("seconds", [1, 30])
def test_a_restore_that_waits_ends_with_a_time_budget_around_it(
    redis: MemoryEndpoint, clock: Clock, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.down = True
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    store = OrderStore(UpstashRedis("http://127.0.0.1:1", "token"), restore_wait=6)
    begin = clock.now
    with time_budget(seconds), pytest.raises(RestoreError):
        store.get_all()
    assert clock.now - begin <= min(seconds, 6) + 0.1


class Waiting:
    """Time that passes only where somebody sleeps."""

    def __init__(self, redis: MemoryEndpoint, back_after: float) -> None:
        self.now = 1000.0
        self._redis = redis
        self._back = self.now + back_after

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        self._redis.down = self.now < self._back


@pytest.mark.parametrize(("back_after", "comes_back"), [(0.5, True), (29, True), (31, False)])
def test_a_restore_waits_for_the_endpoint_as_long_as_it_may(
    back_after: float, comes_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = MemoryEndpoint(Clock())
    redis.keys["order:1"] = ("{}", float("inf"))
    redis.down = True
    waiting = Waiting(redis, back_after)
    monkeypatch.setattr(time, "sleep", waiting.sleep)
    monkeypatch.setattr(time, "monotonic", lambda: waiting.now)
    client = UpstashRedis("http://127.0.0.1:1", "token")
    with intercepting(redis, simulated=True):
        store = OrderStore(client, restore_wait=30)
        if comes_back:
            assert store.get_all() == {"1": {}}
            # Not for the pauses of the circuit.
            assert waiting.now <= 1000 + back_after + 1
        else:
            with pytest.raises(RestoreError):
                store.get_all()
            assert waiting.now == 1030


def test_a_restore_that_is_refused_does_not_wait() -> None:
    with responses.RequestsMock() as mock:
        mock.post(URL, status=401, json={"error": "WRONGPASS"})
        with pytest.raises(RestoreError, match="WRONGPASS"):
            OrderStore(UpstashRedis(URL, "token"), restore_wait=30).get_all()


def test_old_orders_are_deleted_by_the_day_they_were_created(endpoint: LocalEndpoint) -> None:
    store = OrderStore(UpstashRedis(endpoint.url, endpoint.token))
    today = midnight(0)
    store.save_many(
        {
            "just before": {"created_at": today - timedelta(days=2, microseconds=1)},
            "just then": {"created_at": today - timedelta(days=2)},
            "elsewhere": {"created_at": (today - timedelta(days=3)).astimezone(timezone.utc)},
            "without a zone": {"created_at": (today - timedelta(days=3)).replace(tzinfo=None)},
            "a text": {"created_at": "the day before yesterday"},
            "before all time": {"created_at": datetime.min},
            "none": {},
        }
    )
    old = store.delete_older_than(midnight(2))
    assert sorted(old) == ["before all time", "elsewhere", "just before", "without a zone"]
    assert sorted(store.get_all()) == ["a text", "just then", "none"]
    assert store.delete_older_than(midnight(2)) == []


@pytest.mark.parametrize("days", [-1, 1.5, "2", None, 10**9])
def test_days_to_keep_are_a_number_of_days(days: Any) -> None:
    with pytest.raises(DataError, match="days_to_keep"):
        midnight(days)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("background", ["1", None, -1, float("nan"), float("inf"), True]),
        ("skip_unchanged", ["60", None, -1]),
        ("restore_wait", ["6", None, -1]),
        ("ttl", [None, 0, -1, "60", 60.5, True, 10**11]),
        ("prefix", [None, 1, b"order:", "\ud83c"]),
        ("catch_up", [None, 2, "0"]),
    ],
)
def test_an_argument_of_a_wrong_type_or_value_is_refused_at_once(
    name: str, values: list[Any]
) -> None:
    client = UpstashRedis(URL, "token")
    for value in values:
        with pytest.raises(SettingsError, match=f"^{name} is not "):
            OrderStore(client, **{name: value})


def test_where_a_clock_has_only_a_name_another_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pyodide: the constant is there, and the system call fails.
    def fail(clock: int) -> float:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(time, "clock_gettime", fail, raising=False)
    assert boot_clock()() == pytest.approx(time.monotonic(), abs=60)
