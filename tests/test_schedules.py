"""Saves and deletes of one order from several threads, in schedules that the test decides.

tests/simulation tries all schedules of few threads. These are about what a caller is told, and who
waits for whom.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.memory import MemoryEndpoint
from upstash_state import OrderStore, UpstashError, UpstashRedis
from upstash_state.transport import intercepting

LONG = 20.0


class Changed(threading.Condition):
    """The outbox's condition, where the test can wait until somebody waits."""

    def __init__(self, lock: Any) -> None:
        super().__init__(lock)
        self.waiting = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting.release()
        return super().wait(timeout)


class Schedule:
    """Threads that stop where they would send, until they are let go on."""

    def __init__(self, redis: MemoryEndpoint, store: OrderStore) -> None:
        self.results: dict[str, Any] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._arrived: dict[str, threading.Semaphore] = {}
        self._go_on: dict[str, threading.Semaphore] = {}
        self._changed = store._outbox.changed = Changed(store._outbox.lock)
        redis.before = self._stop

    def _stop(self, commands: list[list[str]]) -> None:
        name = threading.current_thread().name
        if name in self._arrived:
            self._arrived[name].release()
            assert self._go_on[name].acquire(timeout=LONG)

    def start(self, name: str, call: Callable[[], Any]) -> None:
        """Start a call in a thread of this name."""

        def run() -> None:
            try:
                self.results[name] = call() or "done"
            except UpstashError as error:
                self.results[name] = error

        self._arrived[name] = threading.Semaphore(0)
        self._go_on[name] = threading.Semaphore(0)
        self._threads[name] = threading.Thread(target=run, name=name)
        self._threads[name].start()

    def sends(self, name: str) -> None:
        """Wait until a thread is about to send."""
        assert self._arrived[name].acquire(timeout=LONG)

    def one_waits(self) -> None:
        """Wait until one more thread waits for another one's save."""
        assert self._changed.waiting.acquire(timeout=LONG)

    def ends(self, *names: str) -> list[Any]:
        """Let threads go on to their end, and return the results of their calls."""
        for name in names:
            for _ in range(10):
                self._go_on[name].release()
        for name in names:
            self._threads[name].join(LONG)
            assert not self._threads[name].is_alive()
        return [self.results[name] for name in names]


@pytest.fixture
def redis(clock: Clock) -> MemoryEndpoint:
    return MemoryEndpoint(clock)


@pytest.fixture
def store(redis: MemoryEndpoint, clock: Clock) -> Iterator[OrderStore]:
    client = UpstashRedis("http://127.0.0.1:1", "token", timeout=LONG)
    with intercepting(redis, simulated=True):
        yield OrderStore(client, clock=clock)


@pytest.fixture
def schedule(redis: MemoryEndpoint, store: OrderStore) -> Iterator[Schedule]:
    schedule = Schedule(redis, store)
    yield schedule
    schedule.ends(*schedule._threads)


def saving(store: OrderStore, n: int) -> Callable[[], None]:
    return lambda: store.save("1", {"n": n})


def texts(redis: MemoryEndpoint) -> list[str]:
    return [command[2] for command in redis.commands if command[0] == "SET"]


def start_three(store: OrderStore, schedule: Schedule) -> None:
    schedule.start("first", saving(store, 1))
    schedule.sends("first")
    for number, name in enumerate(("second", "third"), 2):
        schedule.start(name, saving(store, number))
        schedule.one_waits()


def test_a_save_that_a_newer_one_overtook_is_not_sent_and_told_the_truth(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    start_three(store, schedule)
    assert schedule.ends("first", "second", "third") == ["done"] * 3
    assert texts(redis) == ['{"n": 1}', '{"n": 3}']


def test_a_save_that_a_newer_one_overtook_is_told_when_that_fails(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    start_three(store, schedule)
    redis.plan.extend(["", "refused"])
    first, *others = schedule.ends("first", "second", "third")
    assert first == "done"
    assert all(isinstance(result, UpstashError) for result in others)
    assert store.unsaved == ("1",)
    redis.before = lambda commands: None
    assert store.flush()
    assert redis.get("order:1") == '{"n": 3}'


def test_a_save_that_somebody_else_sends_is_told_before_a_newer_one_fails(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    send = store.accept("1", {"n": 1})
    schedule.start("flush", store.flush)
    schedule.sends("flush")
    schedule.start("first", send)
    schedule.one_waits()
    schedule.start("second", saving(store, 2))
    schedule.one_waits()
    redis.plan.extend(["", "refused"])
    _, first, second = schedule.ends("flush", "first", "second")
    assert first == "done"
    assert isinstance(second, UpstashError)


def test_the_later_call_wins_though_its_order_is_serialized_first(
    store: OrderStore, redis: MemoryEndpoint
) -> None:
    class Zone(tzinfo):
        def utcoffset(self, when: datetime | None) -> timedelta:
            store.save("1", {"n": 2})
            return timedelta()

    store.save("1", {"at": datetime(2026, 1, 1, tzinfo=Zone())})
    assert texts(redis) == ['{"n": 2}']


def test_a_save_that_fails_leaves_the_newer_one_to_its_caller(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    schedule.start("older", saving(store, 1))
    schedule.sends("older")
    schedule.start("newer", saving(store, 2))
    schedule.one_waits()
    redis.plan.append("refused")
    older, newer = schedule.ends("older", "newer")
    assert isinstance(older, UpstashError)
    assert newer == "done"
    assert texts(redis) == ['{"n": 2}']


def test_the_save_of_another_order_does_not_wait(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    schedule.start("one", saving(store, 1))
    schedule.sends("one")
    store.save("2", {"n": 2})
    assert texts(redis) == ['{"n": 2}']


def test_a_save_waits_no_longer_than_its_call_may_take(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    schedule.start("one", saving(store, 1))
    schedule.sends("one")
    store.client.timeout = 0.01
    with pytest.raises(UpstashError, match="an earlier save of the order is under way"):
        store.save("1", {"n": 2})
    assert schedule.ends("one") == ["done"]
    store.count()
    assert redis.get("order:1") == '{"n": 2}'


def test_many_saves_at_once_do_not_wait_for_each_other_in_a_circle(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    def many(ids: str, n: int) -> Callable[[], Any]:
        return lambda: store.save_many({order_id: {"n": n} for order_id in ids})

    schedule.start("one", many("abc", 1))
    schedule.sends("one")
    schedule.start("two", many("cbadef", 2))
    schedule.sends("two")
    schedule.start("three", many("fea", 3))
    schedule.one_waits()
    one, two, three = schedule.ends("one", "two", "three")
    assert (sorted(one), sorted(two), sorted(three)) == (list("abc"), list("abcdef"), list("aef"))
    held = {order_id: redis.get(f"order:{order_id}") for order_id in "abcdef"}
    assert held == {
        "a": '{"n": 3}',
        "b": '{"n": 2}',
        "c": '{"n": 2}',
        "d": '{"n": 2}',
        "e": '{"n": 3}',
        "f": '{"n": 3}',
    }


def test_an_interrupted_save_stays_pending_and_blocks_nobody(
    store: OrderStore, redis: MemoryEndpoint
) -> None:
    @contextmanager
    def interrupted() -> Iterator[None]:
        def interrupt(commands: list[list[str]]) -> None:
            raise KeyboardInterrupt

        redis.before = interrupt
        with pytest.raises(KeyboardInterrupt):
            yield
        redis.before = lambda commands: None

    with interrupted():
        store.save("1", {"n": 1})
    with interrupted():
        store.save_many({"1": {"n": 2}, "2": {"n": 2}})
    assert store.unsaved == ("1", "2")
    store.count()
    assert store.unsaved == ()
    assert redis.get("order:1") == redis.get("order:2") == '{"n": 2}'


def test_a_handler_that_saves_what_it_interrupts_does_not_wait_for_itself(
    store: OrderStore, redis: MemoryEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner: list[Any] = []

    def wait(condition: threading.Condition, timeout: float | None = None) -> bool:
        raise AssertionError("it waits")

    def save_within(commands: list[list[str]]) -> None:
        redis.before = lambda commands: None
        with monkeypatch.context() as patch:
            patch.setattr(threading.Condition, "wait", wait)
            with pytest.raises(UpstashError, match="under way"):
                store.save("1", {"n": 2})
        store.save("2", {"n": 2})
        inner.append(True)

    redis.before = save_within
    store.save("1", {"n": 1})
    assert inner
    # The save that was interrupted has sent the one that interrupted it.
    assert redis.get("order:1") == '{"n": 2}'
    assert store.unsaved == ()


# Tasks of one thread, as in Pyodide: while a call waits for its answer, or sleeps, others go on.


def sleep_lets_end(
    monkeypatch: pytest.MonkeyPatch, store: OrderStore, schedule: Schedule, name: str
) -> None:
    """Let a thread stand for another task. In one thread, the outbox's lock stops no task."""

    def sleep(seconds: float) -> None:
        store._outbox.lock.release()
        schedule.ends(name)
        store._outbox.lock.acquire()

    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(time, "sleep", sleep)


def test_a_task_waits_for_another_one_that_sends_its_order(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule.start("first", saving(store, 1))
    schedule.sends("first")
    sleep_lets_end(monkeypatch, store, schedule, "first")
    store.save("1", {"n": 2})
    assert redis.get("order:1") == '{"n": 2}'
    assert store.unsaved == ()


def test_a_flush_lets_other_tasks_send(
    store: OrderStore, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule.start("save", lambda: store.save("1", {}))
    schedule.sends("save")
    sleep_lets_end(monkeypatch, store, schedule, "save")
    assert store.flush(5)
