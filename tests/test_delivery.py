"""What is pending is sent, in order, once; what is uncertain is checked; no outage costs a bill."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from datetime import datetime, timedelta, tzinfo
from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.memory import MemoryEndpoint, Refused
from upstash_state import (
    OrderStore,
    SaveManyError,
    UpstashError,
    UpstashRedis,
    delivery,
    registry,
    time_budget,
)
from upstash_state.delivery import Delivery
from upstash_state.errors import QuotaExceededError
from upstash_state.outbox import DELAYED_AFTER, Batch, Write
from upstash_state.registry import end_of_process, forget_all
from upstash_state.transport import deadline_within, intercepting
from upstash_state.writes import MAX_WRITES

DAY = 86_400.0
TTL = 604_800
FULL = "ERR DB capacity quota exceeded"


class Worker:
    """Stands for the thread of background mode: it works when the test says so."""

    def __init__(self) -> None:
        self.work: Callable[[], float | None] = lambda: None
        self.woken = False

    def wake(self) -> bool:
        self.woken = True
        return True


@pytest.fixture
def redis(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryEndpoint]:
    # Deadlines go by the same clock.
    monkeypatch.setattr(time, "monotonic", clock)
    redis = MemoryEndpoint(clock)
    with intercepting(redis, simulated=True, clock=clock):
        yield redis


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()

    def start(work: Callable[[], float | None], gather: float) -> Worker:
        worker.work = work
        return worker

    monkeypatch.setattr(delivery, "Worker", start)
    return worker


@pytest.fixture
def store(redis: MemoryEndpoint, clock: Clock) -> OrderStore:
    return new_store(clock)


@pytest.fixture
def background(redis: MemoryEndpoint, clock: Clock, worker: Worker) -> OrderStore:
    return new_store(clock, background=60)


@pytest.fixture
def waits(redis: MemoryEndpoint, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each wait took, by the clock, instead of waiting."""
    waits: list[float] = []

    def wait(*args: Any) -> None:
        clock.now += args[-1]
        waits.append(round(args[-1], 2))

    monkeypatch.setattr(threading.Condition, "wait", wait)
    monkeypatch.setattr(time, "sleep", wait)
    return waits


def new_store(clock: Clock, **settings: Any) -> OrderStore:
    return OrderStore(UpstashRedis("http://127.0.0.1:1", "token"), clock=clock, **settings)


def fails(store: OrderStore, redis: MemoryEndpoint, *fates: str, **orders: Any) -> None:
    """Save orders, or delete them for None, each in a request that fails."""
    for order_id, order in orders.items():
        redis.plan.extend(fates or ["refused"])
        with pytest.raises(UpstashError):
            (store.accept_delete(order_id) if order is None else store.accept(order_id, order))()
        # However many fail, the circuit stays out of it.
        store.client.retry_now()


def names(redis: MemoryEndpoint) -> list[str]:
    return [command[0] for command in redis.commands]


# Delayed writes.


@pytest.mark.parametrize(
    "traffic",
    [
        lambda store: store.save("other", {}),
        lambda store: store.save_many({"other": {}}),
        lambda store: store.get("other"),
        lambda store: store.delete("other"),
        lambda store: store.count(),
        lambda store: store.get_all(),
        lambda store: store.health(),
        lambda store: store.ping(),
        lambda store: store.flush(),
    ],
    ids=["save", "save_many", "get", "delete", "count", "get_all", "health", "ping", "flush"],
)
def test_a_failed_save_is_sent_with_the_next_traffic(
    store: OrderStore, redis: MemoryEndpoint, traffic: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "upstash_state")
    fails(store, redis, a={"n": 1})
    fails(store, redis, a={"n": 2})
    assert store.unsaved == ("a",)
    traffic(store)
    assert store.unsaved == ()
    assert redis.get("order:a") == '{"n": 2}'
    assert "Redis now holds 1 order whose save or delete had failed before" in caplog.text


def test_a_failed_delete_is_sent_with_the_next_traffic(
    store: OrderStore, redis: MemoryEndpoint
) -> None:
    store.save("a", {})
    fails(store, redis, a=None)
    assert store.get("a") is None
    assert redis.get("order:a") is None


def test_all_delayed_writes_are_one_request_and_one_script(
    store: OrderStore, redis: MemoryEndpoint
) -> None:
    fails(store, redis, a={}, b={}, c=None)
    redis.requests = 0
    assert store.flush()
    assert (redis.requests, names(redis)) == (1, ["EVAL"])


def test_a_delayed_write_expires_as_if_it_had_been_sent_in_time(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    fails(store, redis, a={})
    clock.now += DAY
    assert store.flush()
    assert redis.keys["order:a"] == ("{}", clock.now - DAY + TTL)


def test_a_write_that_waited_for_long_is_a_delayed_one(
    background: OrderStore, redis: MemoryEndpoint, clock: Clock, worker: Worker
) -> None:
    """As in a process that was stopped, or where the worker was busy."""
    background.save("a", {"n": 1})
    # The worker gathers for 60 s.
    clock.now += 60 + DELAYED_AFTER + 1
    redis.set("order:a", '{"n": "theirs"}', TTL - 5)
    worker.work()
    assert redis.get("order:a") == '{"n": "theirs"}'


def test_a_retry_of_a_delayed_write_does_not_overwrite_what_was_saved_meanwhile(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    fails(store, redis, a={"n": 1})
    redis.plan.extend(["", "503", "503"])

    def before(commands: list[list[str]]) -> None:
        if commands[0][0] == "EVAL":
            clock.now += 2
            if len(redis.plan) == 1:
                redis.set("order:a", '{"n": "theirs"}', TTL)

    redis.before = before
    store.ping()
    assert redis.get("order:a") == '{"n": "theirs"}'


def test_a_flush_checks_orders_whose_request_was_abandoned(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    fails(store, redis, "late", a={"n": 1})
    store.save("a", {"n": 2})
    redis.arrive()
    assert redis.get("order:a") == '{"n": 1}'
    clock.now += 61
    assert store.flush()
    assert redis.get("order:a") == '{"n": 2}'
    redis.requests = 0
    assert store.flush()
    assert redis.requests == 0


def test_a_flush_that_cannot_check_an_order_ends(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    fails(store, redis, "late", a={"n": 1})
    store.save("a", {"n": 2})
    clock.now += 61
    redis.down, redis.requests = True, 0
    assert store.flush()
    assert redis.requests < 10


def test_an_order_that_was_saved_later_by_another_writer_is_not_overwritten(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fails(store, redis, a={"n": 1})
    clock.now += 10
    redis.set("order:a", '{"n": "theirs"}', TTL)
    assert store.get("a") == {"n": "theirs"}
    assert store.unsaved == ()
    (line,) = [r for r in caplog.records if "another writer" in r.getMessage()]
    assert line.getMessage() == "Saved later by another writer, so not sent: a"
    assert line.levelno == logging.WARNING


def test_a_restore_gives_what_another_writer_has_saved_later(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    fails(store, redis, a={"n": 1})
    clock.now += 10
    redis.set("order:a", '{"n": "theirs"}', TTL)
    assert store.get_all() == {"a": {"n": "theirs"}}


@pytest.mark.parametrize("expires_in", [60, TTL - 60, TTL + 60, float("inf")])
def test_what_was_saved_earlier_or_with_another_ttl_or_none_is_overwritten(
    store: OrderStore, redis: MemoryEndpoint, expires_in: float
) -> None:
    redis.set("order:a", '{"n": "theirs"}', expires_in)
    fails(store, redis, a={"n": 1})
    assert store.flush()
    assert store.get("a") == {"n": 1}


@pytest.mark.parametrize("step", [-7200, 7200])
def test_a_step_of_the_wall_clock_changes_nothing(
    redis: MemoryEndpoint, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = UpstashRedis("http://127.0.0.1:1", "token")
    store = OrderStore(client)
    redis.set("order:a", '{"n": 0}', TTL - 60)
    fails(store, redis, a={"n": 1})
    now = time.time() + step
    monkeypatch.setattr(time, "time", lambda: now)
    assert store.flush()
    assert redis.get("order:a") == '{"n": 1}'


def test_what_would_have_expired_by_now_is_not_sent_and_stops_nothing(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fails(store, redis, old={"n": 1})
    clock.now += TTL
    redis.requests = 0
    assert store.flush()
    assert redis.requests == 0
    fails(store, redis, old={"n": 1})
    clock.now += TTL - 1
    fails(store, redis, new={"n": 2})
    clock.now += 60
    store.count()
    assert (redis.get("order:old"), redis.get("order:new")) == (None, '{"n": 2}')
    assert store._outbox.pause_left() == 0


def test_a_used_up_budget_leaves_the_write_pending(
    store: OrderStore, redis: MemoryEndpoint
) -> None:
    with time_budget(0), pytest.raises(UpstashError):
        store.save("a", {})
    store.count()
    assert redis.get("order:a") == "{}"


def test_nothing_stays_pending_where_that_is_turned_off(
    redis: MemoryEndpoint, clock: Clock
) -> None:
    store = new_store(clock, catch_up=False)
    fails(store, redis, a={})
    assert store.unsaved == ()
    assert store.get("a") is None


def test_a_store_that_keeps_nothing_drops_nothing_of_another_store(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    fails(store, redis, a={})
    other = new_store(clock, catch_up=False)
    redis.plan.extend(["", "refused"])
    other.ping()
    assert store.unsaved == ("a",)


def test_an_error_that_a_retry_cannot_fix_leaves_nothing_pending(
    store: OrderStore, redis: MemoryEndpoint
) -> None:
    redis.refuse = lambda command: "ERR max single record size exceeded"
    for order in ({"n": 1}, {"n": {1}}):
        with pytest.raises(UpstashError):
            store.save("a", order)
    assert store.unsaved == ()


def test_a_fault_in_catching_up_does_not_fail_the_call_that_worked(
    store: OrderStore,
    redis: MemoryEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fails(store, redis, a={})

    def explode(**options: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(store._outbox, "due", explode)
    store.count()
    assert "Failed to send delayed writes to Redis" in caplog.text
    assert "RuntimeError: boom" in caplog.text


# Attempts that were given up.


def test_the_text_of_an_abandoned_attempt_is_not_taken_for_another_writers(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    fails(store, redis, "late", a={"n": 1})
    fails(store, redis, a={"n": 2})
    clock.now += 10
    redis.arrive()
    assert store.flush()
    assert redis.get("order:a") == '{"n": 2}'


@pytest.mark.parametrize("first", [{"n": 1}, None], ids=["save", "delete"])
@pytest.mark.parametrize("many", [False, True], ids=["alone", "of many"])
def test_an_abandoned_attempt_that_is_executed_late_is_mended_after_a_minute(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock, first: Any, many: bool
) -> None:
    if first and many:
        redis.plan.append("late")
        with pytest.raises(UpstashError):
            store.save_many({"a": first, "b": first})
    else:
        fails(store, redis, "late", a=first)
    store.save("a", {"n": 2})
    redis.arrive()
    assert store.get("a") == first
    clock.now += 59
    store.count()
    assert redis.get("order:a") != '{"n": 2}'
    clock.now += 1
    store.count()
    assert redis.get("order:a") == '{"n": 2}'
    # Once only.
    clock.now += 600
    redis.requests = 0
    store.count()
    assert redis.requests == 1


def test_an_attempt_that_was_given_up_before_one_that_worked_is_checked_too(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    redis.plan.append("again")
    store.save("a", {"n": 1})
    store.save("a", {"n": 2})
    redis.arrive()
    clock.now += 61
    store.count()
    assert redis.get("order:a") == '{"n": 2}'


def test_an_order_that_another_process_deleted_stays_deleted(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    fails(store, redis, "late", a={"n": 1})
    store.save("a", {"n": 2})
    del redis.keys["order:a"]
    clock.now += 61
    store.count()
    assert redis.get("order:a") is None
    assert store._outbox.is_idle()


@pytest.mark.parametrize("fate", ["refused", "lost", "full"])
def test_a_check_that_fails_is_tried_again(
    store: OrderStore,
    redis: MemoryEndpoint,
    clock: Clock,
    fate: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "upstash_state")
    fails(store, redis, "late", a={"n": 1})
    store.save("a", {"n": 2})
    redis.arrive()
    clock.now += 61
    redis.refuse = lambda command: FULL if fate == "full" else None
    redis.plan.extend(["", fate])
    store.count()
    redis.refuse = lambda command: None
    for seconds in (1, 61):
        clock.now += seconds
        store.count()
        assert redis.get("order:a") == '{"n": 2}'
    assert store._outbox.is_idle()
    assert "had failed before" not in caplog.text


# Skipping what is unchanged.


def test_a_marked_order_is_not_skipped_as_unchanged(redis: MemoryEndpoint, clock: Clock) -> None:
    store = new_store(clock, skip_unchanged=DAY)
    fails(store, redis, "late", a={"n": 1})
    store.save("a", {"n": 2})
    redis.arrive()
    store.save("a", {"n": 2})
    assert redis.get("order:a") == '{"n": 2}'


@pytest.mark.parametrize("look", [OrderStore.count, OrderStore.get_all, lambda s: s.get("a")])
def test_a_read_that_misses_an_order_ends_skipping(
    redis: MemoryEndpoint, clock: Clock, look: Any
) -> None:
    store = new_store(clock, skip_unchanged=DAY)
    store.save("a", {})
    redis.keys.clear()
    clock.now += 1
    look(store)
    store.save("a", {})
    assert redis.get("order:a") == "{}"


# Many pending writes.


def test_what_is_dropped_for_want_of_memory_is_reported_once_a_minute(
    background: OrderStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    background._outbox._max_bytes = 100_000
    for n in range(300):
        background.save(str(n), {"text": "x" * 1000})
    assert len(caplog.records) == 1
    clock.now += 60
    background.save("last", {})
    assert "Too much is pending - dropped the oldest: " in caplog.text
    counts = [int(r.getMessage().split()[-2]) for r in caplog.records]
    assert len(counts) == 2
    assert sum(counts) + len(background.unsaved) == 301


# Reads.


def test_health_counts_what_it_sends(store: OrderStore, redis: MemoryEndpoint) -> None:
    fails(store, redis, a={})
    health = store.health(max_age=60)
    assert (health.ok, health.orders, health.unsaved) == (True, 1, 0)
    redis.requests = 0
    assert store.health(max_age=60) == health
    assert redis.requests == 0


def test_two_stores_of_one_database_know_the_same(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    other = new_store(clock)
    fails(store, redis, a={})
    assert other.unsaved == ("a",)
    assert other.health().unsaved == 0
    assert store.unsaved == ()


def test_reads_see_what_is_pending_but_a_restore_needs_the_endpoint(
    store: OrderStore, redis: MemoryEndpoint
) -> None:
    store.save_many({"a": {"n": 1}, "b": {"n": 1}})
    fails(store, redis, a={"n": 2}, b=None)
    redis.down = True
    assert store.get("a") == {"n": 2}
    assert store.get("b") is None
    with pytest.raises(UpstashError):
        store.get_all()
    redis.down = False
    store.client.retry_now()
    assert store.get_all() == {"a": {"n": 2}}


def test_health_asks_while_something_is_pending(
    background: OrderStore, redis: MemoryEndpoint
) -> None:
    assert background.health(max_age=600).ok
    redis.requests = 0
    assert background.health(max_age=600).ok
    assert redis.requests == 0
    background.save("a", {})
    assert background.health(max_age=600).unsaved == 1
    assert redis.requests == 1


# Pauses, pages and costs.


def test_a_refusal_that_can_pass_is_not_tried_with_every_call(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    redis.refuse = lambda command: "ERR max daily request limit exceeded"
    with pytest.raises(QuotaExceededError):
        store.save("a", {"n": 1})
    tries = []
    for _ in range(600):
        redis.commands.clear()
        store.count()
        tries.append("EVAL" in names(redis))
        clock.now += 1
    # After 1, 2, 4, 8, 16, 32, 60, 60, … seconds.
    assert sum(tries) == 15
    redis.refuse = lambda command: None
    assert store.flush()
    assert redis.get("order:a") == '{"n": 1}'
    # The next outage starts with a short pause.
    fails(store, redis, a={"n": 2})
    redis.plan.extend(["", "refused"])
    store.count()
    assert store._outbox.pause_left() == 1


def test_a_full_database_costs_a_few_commands_a_minute_in_background_mode(
    background: OrderStore, redis: MemoryEndpoint, clock: Clock, worker: Worker
) -> None:
    redis.refuse = lambda command: FULL
    begin = clock.now
    while clock.now - begin < 600:
        # Whatever wakes the worker, such as a change of each order every two seconds.
        background.save_many({str(n): {"at": clock.now} for n in range(105)})
        again = worker.work()
        assert again
        clock.now += min(again, 2)
    assert redis.requests <= 16
    # Each page that fails is followed by one half as large.
    assert sum(map(billed, redis.commands)) < 500
    redis.refuse = lambda command: None
    clock.now += 60
    worker.work()
    assert background.unsaved == ()


@pytest.mark.parametrize(
    ("orders", "per_order", "rounds"),
    [(10_000, 0.0, 1), (2_000, 0.02, 18)],
    ids=["a slow network", "a slow endpoint"],
)
def test_what_is_pending_after_an_outage_is_sent_page_by_page(
    store: OrderStore,
    redis: MemoryEndpoint,
    clock: Clock,
    orders: int,
    per_order: float,
    rounds: int,
) -> None:
    redis.down = True
    with pytest.raises(UpstashError):
        store.save_many({str(n): {"n": n} for n in range(orders)})
    redis.down = False

    def before(commands: list[list[str]]) -> None:
        redis.latency = 0.15 + per_order * sum(map(billed, commands)) / 2

    redis.before = before
    for _ in range(rounds):
        clock.now += 60
        store.count()
    assert store.unsaved == ()
    assert len(redis.keys) == orders
    assert sum(map(billed, redis.commands)) <= 3 * orders


def billed(command: list[str]) -> int:
    """Return how many commands are billed: a script has PTTL, and SET or DEL, for each key."""
    return 1 + 2 * int(command[2]) if command[0] == "EVAL" else 1


def test_a_flush_sends_ten_thousand_orders_in_its_time(
    background: OrderStore, redis: MemoryEndpoint
) -> None:
    background.save_many({str(n): {"n": n} for n in range(10_000)})
    redis.latency = 0.15
    assert background.flush(20)
    assert redis.requests == 10_000 / MAX_WRITES


def test_one_order_to_blame_does_not_stop_the_others(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    fails(store, redis, **{str(n): {} for n in range(20)})
    redis.refuse = lambda command: FULL if "order:7" in command else None
    for _ in range(10):
        clock.now += 60
        store.count()
    assert store.unsaved == ("7",)


@pytest.mark.parametrize(
    "error", ["ERR unknown command 'EVAL'", "NOPERM this user has no permissions", "Bad request"]
)
def test_an_endpoint_without_scripts_gets_plain_commands(
    store: OrderStore, redis: MemoryEndpoint, error: str
) -> None:
    run = redis.run

    def without_scripts(command: list[str]) -> Any:
        if command[0] == "EVAL":
            raise Refused(error)
        return run(command)

    redis.run = without_scripts  # type: ignore[method-assign]
    for _ in range(2):
        fails(store, redis, a={}, b=None)
        redis.commands.clear()
        redis.requests = 0
        assert store.flush()
    assert (redis.requests, names(redis)) == (1, ["SET", "DEL"])


@pytest.mark.parametrize("status", ["503", "520", "403"])
def test_a_script_is_not_replaced_for_a_bad_answer(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock, status: str
) -> None:
    """The answer may be that of a gateway, whose endpoint comes back after an outage."""
    for key in "ab":
        fails(store, redis, **{key: {"n": "ours"}})
        redis.set(f"order:{key}", '{"n": "theirs"}', TTL + 5)
        clock.now += 10
        redis.plan.extend(["", *[status] * 4])
        store.ping()
        redis.plan.clear()
        assert redis.get(f"order:{key}") == '{"n": "theirs"}'
    assert "SET" not in names(redis)


def test_a_bad_answer_makes_bulk_saves_dear_for_a_minute(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    redis.plan.append("520")
    for seconds, command in ((0, "SET"), (59, "SET"), (1, "MSETEX")):
        clock.now += seconds
        store.save_many({"a": {}, "b": {}})
        assert redis.commands[-1][0] == command


@pytest.mark.parametrize("error", ["OOM command not allowed", FULL, "READONLY You can't write"])
def test_an_endpoint_that_is_full_is_not_one_without_scripts(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock, error: str
) -> None:
    """Redis deletes when it is full. Then a plain DEL might delete what another writer saved."""
    fails(store, redis, a={}, b=None)
    clock.now += 10
    redis.set("order:b", "{}", TTL)
    redis.refuse = lambda command: error if command[0] == "SET" else None
    store.count()
    assert "DEL" not in names(redis)
    assert redis.get("order:b") == "{}"


def test_scripts_are_tried_again_where_plain_commands_failed_too(
    store: OrderStore, redis: MemoryEndpoint
) -> None:
    for text in ("ERR out of memory", None):
        redis.refuse = lambda command, text=text: text if command[0] == "SET" else None  # type: ignore[misc]
        fails(store, redis, a={}, b=None)
        redis.commands.clear()
        store.flush()
    assert set(names(redis)) == {"EVAL"}


# Many at once.


def test_more_orders_than_may_stay_pending_are_saved_in_one_call(
    store: OrderStore, redis: MemoryEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    store._outbox._max_bytes = 100_000
    orders = {str(n): {"text": "x" * 1000} for n in range(600)}
    assert len(store.save_many(orders)) == len(redis.keys) == 600
    redis.down = True
    with pytest.raises(UpstashError):
        store.save_many(orders)
    assert 0 < len(store.unsaved) < 100
    dropped = 600 - len(store.unsaved)
    assert f"Too much is pending - dropped the oldest: {dropped} orders" in caplog.text


def test_what_was_dropped_since_the_last_report_is_reported_at_the_end(
    store: OrderStore, redis: MemoryEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    store._outbox._max_bytes = 100_000
    redis.down = True
    for n in range(3):
        with pytest.raises(UpstashError):
            store.save_many({f"{n}-{m}": {"text": "x" * 1000} for m in range(90)})
    left = len(store.unsaved)
    store._delivery.close("at exit")
    lines = [r.getMessage() for r in caplog.records if "dropped the oldest" in r.getMessage()]
    assert len(lines) == 2
    assert sum(int(line.split()[-2]) for line in lines) == 270 - left


def test_orders_that_another_call_is_sending_follow_in_one_request(
    store: OrderStore, redis: MemoryEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, waits = store._outbox, threading.Event()
    take = outbox.take

    def taking(batch: Batch, writes: Iterable[Write]) -> None:
        take(batch, writes)
        if not batch.writes:
            waits.set()

    monkeypatch.setattr(outbox, "take", taking)
    orders = [{str(n): {"n": call} for n in range(100)} for call in range(2)]
    saved: list[str] = []
    other = threading.Thread(target=lambda: saved.extend(store.save_many(orders[1])))

    def before(commands: list[list[str]]) -> None:
        if not waits.is_set():
            other.start()
            assert waits.wait(10)

    redis.before = before
    store.save_many(orders[0])
    other.join()
    assert saved == list(orders[1])
    assert {text for text, _ in redis.keys.values()} == {'{"n": 1}'}
    assert names(redis) == ["MSETEX", "MSETEX"]


# Flush, exit.


def test_a_flush_without_time_says_what_is_true(store: OrderStore, redis: MemoryEndpoint) -> None:
    assert store.flush(0)
    fails(store, redis, a={})
    redis.requests = 0
    assert not store.flush(0)
    assert redis.requests == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_flush_waits_longer_after_each_failure(
    store: OrderStore,
    redis: MemoryEndpoint,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
) -> None:
    fails(store, redis, a={})
    redis.down = True
    monkeypatch.setattr(threading, "active_count", lambda: threads)
    assert not store.flush(1)
    assert waits == [0.1, 0.2, 0.4, 0.3]


def test_a_flush_does_not_wait_for_the_circuit_or_the_pause(
    store: OrderStore, redis: MemoryEndpoint
) -> None:
    redis.down = True
    for n in range(4):
        with pytest.raises(UpstashError):
            store.save(str(n), {})
    assert redis.requests == 3
    store._outbox.pause()
    redis.down = False
    assert store.flush(5)


def test_a_flush_takes_no_longer_than_a_time_budget_around_it(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    fails(store, redis, a={})
    redis.down = True
    redis.before = lambda commands: setattr(clock, "now", clock.now + 0.4)
    begin = clock.now
    with time_budget(1):
        assert not store.flush(6)
    assert clock.now - begin < 2


def test_at_the_end_what_is_pending_is_tried_once_and_what_is_left_is_named(
    store: OrderStore, redis: MemoryEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    fails(store, redis, **{**{str(n): {} for n in range(50)}, "gone": None})
    redis.down = True
    redis.requests = 0
    store._delivery.close("at exit")
    assert redis.requests == 1
    assert store.unsaved == ()
    lines = [record.getMessage() for record in caplog.records if "at exit" in record.getMessage()]
    named = [line.removeprefix("Not saved to Redis at exit: ").split(", ") for line in lines[:-1]]
    assert [len(ids) for ids in named] == [20, 20, 10]
    assert [order_id for ids in named for order_id in ids] == [str(n) for n in range(50)]
    assert lines[-1] == "Not deleted from Redis at exit: gone"


@pytest.mark.parametrize("fates", [["520"], ["503"] * 4])
def test_at_the_end_a_bad_answer_costs_no_order(
    background: OrderStore,
    redis: MemoryEndpoint,
    caplog: pytest.LogCaptureFixture,
    waits: list[float],
    fates: list[str],
) -> None:
    background.save("a", {})
    redis.plan.extend(fates)
    background._delivery.close("at exit")
    assert redis.get("order:a") == "{}"
    assert "Not saved" not in caplog.text


def test_at_the_end_an_order_that_a_gateway_blocks_costs_no_other(
    background: OrderStore,
    redis: MemoryEndpoint,
    caplog: pytest.LogCaptureFixture,
    waits: list[float],
) -> None:
    background.save_many({str(n): {} for n in range(100)})

    def before(commands: list[list[str]]) -> None:
        if any("order:7" in command for command in commands):
            redis.plan.append("403")

    redis.before = before
    background._delivery.close("at exit")
    assert len(redis.keys) == 99
    assert "Not saved to Redis at exit: 7" in caplog.text


def test_an_interrupted_end_names_what_is_left(
    background: OrderStore, redis: MemoryEndpoint, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    other = new_store(clock, background=60, prefix="other:")

    def interrupt(commands: list[list[str]]) -> None:
        raise KeyboardInterrupt

    redis.before = interrupt
    background.save("17", {})
    other.save("18", {})
    with pytest.raises(KeyboardInterrupt):
        forget_all(flush=True)
    # The reset was given up, so nothing is lost.
    assert (background.unsaved, other.unsaved) == (("17",), ("18",))
    try:
        with pytest.raises(KeyboardInterrupt):
            end_of_process()
    finally:
        registry._ending.clear()
    lines = [r.getMessage() for r in caplog.records if "at exit" in r.getMessage()]
    assert lines == [f"Not saved to Redis at exit: {key}" for key in ("17", "18")]


def test_a_save_during_the_flush_of_a_reset_is_sent_after_the_older_one(
    background: OrderStore, redis: MemoryEndpoint
) -> None:
    def save_newer(commands: list[list[str]]) -> None:
        redis.before = lambda commands: None
        background.save("a", {"n": 2})

    redis.before = save_newer
    background.save("a", {"n": 1})
    forget_all(flush=True)
    assert [command[2] for command in redis.commands] == ['{"n": 1}', '{"n": 2}']


def test_a_save_that_meets_a_reset_is_sent(background: OrderStore, redis: MemoryEndpoint) -> None:
    class Zone(tzinfo):
        def utcoffset(self, when: datetime | None) -> timedelta:
            forget_all(flush=True)
            return timedelta()

    background.save("before", {})
    background.save("during", {"at": datetime(2026, 1, 1, tzinfo=Zone())})
    assert sorted(redis.keys) == ["order:before", "order:during"]
    redis.down = True
    with pytest.raises(UpstashError):
        background.save("failed", {"at": datetime(2026, 1, 1, tzinfo=Zone())})


def test_a_save_that_is_accepted_at_the_end_of_a_reset_is_sent(
    background: OrderStore, redis: MemoryEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    background.save("before", {})
    found = background._delivery
    flush, accepted = found.flush, []

    def flushing(*, once: bool) -> bool:
        done = flush(once=once)
        accepted.append(found.outbox.put("order:during", "{}", 99, 100.0))
        return done

    monkeypatch.setattr(found, "flush", flushing)
    forget_all(flush=True)
    found.deliver([write for write in accepted if write is not None])
    assert sorted(redis.keys) == ["order:before", "order:during"]


@pytest.mark.parametrize("flush", [False, True])
def test_after_a_reset_nothing_is_left_to_send_or_to_check(
    background: OrderStore, redis: MemoryEndpoint, clock: Clock, worker: Worker, flush: bool
) -> None:
    redis.plan.append("late")
    for n in range(2):
        background.save("a", {"n": n})
        worker.work()
        clock.now += 2
    background.save("b", {})
    forget_all(flush=flush)
    assert ("order:b" in redis.keys) == flush
    clock.now += 61
    redis.requests = 0
    assert worker.work() is None
    assert redis.requests == 0


# Background mode.


def test_what_succeeds_meanwhile_does_not_shorten_the_pause_of_what_is_refused(
    background: OrderStore, redis: MemoryEndpoint, clock: Clock, worker: Worker
) -> None:
    redis.refuse = lambda command: FULL if command[0] != "DEL" else None
    background.save_many({str(n): {} for n in range(3)})
    for n in range(600):
        background.delete(f"gone {n}")
        worker.work()
        clock.now += 1
    assert names(redis).count("DEL") == 600
    assert names(redis).count("EVAL") < 40


def test_a_slow_network_gets_larger_pages_again_after_an_outage(
    redis: MemoryEndpoint, clock: Clock, worker: Worker
) -> None:
    store = new_store(clock, background=60)
    store.client.timeout = 0.4
    redis.down = True
    for n in range(12):
        store.save(n, {})
        clock.now += 60
        worker.work()
    redis.down, redis.latency = False, 0.25
    for n in range(250):
        store.save_many({f"{n} {m}": {} for m in range(5)})
        clock.now += 60
        worker.work()
        clock.now += 0.4
    assert store.unsaved == ()


def test_the_check_of_a_confirmed_order_is_no_failed_save(
    redis: MemoryEndpoint, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = new_store(clock, catch_up=False)
    redis.plan.append("again")
    store.save("a", {"n": 1})
    store.save("a", {"n": 2})
    redis.plan.clear()
    redis.arrive()
    clock.now += 61
    redis.plan.extend(["", "refused"])
    store.ping()
    assert "Failed" not in caplog.text
    assert redis.get("order:a") == '{"n": 1}'
    clock.now += 61
    store.ping()
    assert redis.get("order:a") == '{"n": 2}'


def test_background_gathers_changes_into_one_command(
    background: OrderStore, redis: MemoryEndpoint, worker: Worker
) -> None:
    for n in range(50):
        background.save("a", {"n": n})
    assert (redis.requests, worker.woken, background.unsaved) == (0, True, ("a",))
    assert background.get("a") == {"n": 49}
    redis.commands.clear()
    assert worker.work() is None
    assert redis.commands == [["SET", "order:a", '{"n": 49}', "EX", "604800"]]


def test_background_keeps_what_fails(
    background: OrderStore, redis: MemoryEndpoint, clock: Clock, worker: Worker
) -> None:
    background.save("a", {})
    redis.plan.append("refused")
    again = worker.work()
    assert again
    clock.now += again
    background.save("b", {})
    worker.work()
    assert sorted(redis.keys) == ["order:a", "order:b"]


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        ("ERR max request size exceeded", False),
        ("ERR max single record size exceeded", False),
        ("ERR max key size exceeded", False),
        (FULL, True),
        ("NOPERM this user has no permissions", True),
    ],
)
@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize("age", [0, 60], ids=["fresh", "delayed"])
def test_background_names_an_order_that_is_refused(
    background: OrderStore,
    redis: MemoryEndpoint,
    worker: Worker,
    clock: Clock,
    error: str,
    stays: bool,
    others: int,
    age: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    redis.refuse = lambda command: error if "order:17" in command else None
    background.save_many({str(n): {} for n in [*range(others), 17]})
    clock.now += age
    for _ in range(5):
        worker.work()
        clock.now += 60
    assert len(redis.keys) == others
    lines = [r for r in caplog.records if error in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].levelno == logging.ERROR
    assert "17" in lines[0].getMessage()
    assert background.unsaved == ("17",) * stays
    assert background.flush(0) == (not stays)


def test_the_worker_does_not_inherit_the_time_budget_of_a_call(
    redis: MemoryEndpoint, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Inheriting(threading.Thread):
        """A thread as of Python 3.14 with `-X thread_inherit_context=1`."""

        def start(self) -> None:
            self._starter = copy_context()
            super().start()

        def run(self) -> None:
            self._starter.run(super().run)

    monkeypatch.setattr(threading, "Thread", Inheriting)
    store = new_store(clock, background=0.001)
    arrived = threading.Event()
    redis.before = lambda commands: arrived.set()
    with time_budget(0):
        store.save("a", {})
        assert arrived.wait(10)


@pytest.mark.parametrize("fate", ["", "refused"], ids=["established", "failed"])
def test_background_mode_goes_on_after_a_log_handler_raised_in_its_thread(
    redis: MemoryEndpoint, clock: Clock, fate: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "upstash_state")
    store = new_store(clock, background=0.001)
    raised, arrived = threading.Event(), threading.Event()

    class Handler(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raised.set()
            raise RuntimeError("disk full")

    handler = Handler()
    logging.getLogger("upstash_state").addHandler(handler)
    try:
        redis.plan.append(fate)
        store.save("a", {})
        assert raised.wait(10)
    finally:
        logging.getLogger("upstash_state").removeHandler(handler)
    redis.before = lambda commands: arrived.set()
    clock.now += 60
    store.save("b", {})
    assert arrived.wait(10)
    assert store.flush(10)
    assert sorted(redis.keys) == ["order:a", "order:b"]


def test_where_no_thread_can_be_started_background_mode_sends_at_once(
    redis: MemoryEndpoint, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    new_store(clock, background=60).save("a", {})
    assert redis.get("order:a") == "{}"


def test_a_command_that_seemed_to_be_missing_is_tried_again_after_an_hour(
    store: OrderStore, redis: MemoryEndpoint, clock: Clock
) -> None:
    redis.refuse = lambda command: "ERR unknown" if command[0] == "MSETEX" else None
    store.save_many({"a": {}, "b": {}})
    redis.refuse = lambda command: None
    for seconds, command in ((3599, "SET"), (1, "MSETEX")):
        clock.now += seconds
        store.save_many({"a": {}, "b": {}})
        assert redis.commands[-1][0] == command


@pytest.mark.parametrize("text", ["OOM command not allowed", "LOADING Redis is loading", "NOPERM"])
def test_a_refusal_that_is_not_about_the_command_costs_no_single_saves(
    store: OrderStore, redis: MemoryEndpoint, text: str
) -> None:
    orders: dict[str, Any] = {str(n): {} for n in range(100)}
    store.save_many(orders)
    redis.refuse = lambda command: text
    redis.commands.clear()
    for order in orders.values():
        order["n"] = 1
    with pytest.raises(SaveManyError):
        store.save_many(orders)
    assert names(redis) == ["MSETEX"]


def test_all_databases_share_one_timeout_at_a_reset(
    store: OrderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = OrderStore(store.client, prefix="other:")
    ends: list[float] = []
    monkeypatch.setattr(Delivery, "close", lambda self, when: ends.append(deadline_within(99)))
    assert store._delivery is not other._delivery
    forget_all(flush=True)
    assert len(ends) == 2
    # Each has its share, and what another one leaves.
    assert ends[0] < ends[1] <= time.monotonic() + store.client.timeout


def test_a_log_handler_that_raises_does_not_cost_the_other_databases(
    store: OrderStore, redis: MemoryEndpoint
) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    other = OrderStore(store.client, prefix="other:", clock=store._clock)
    fails(store, redis, a={})
    fails(other, redis, b={})
    redis.plan.append("refused")
    handler = Handler()
    logging.getLogger("upstash_state").addHandler(handler)
    try:
        forget_all(flush=True)
    finally:
        logging.getLogger("upstash_state").removeHandler(handler)
    assert redis.get("other:b") == "{}"
