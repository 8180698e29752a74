"""Saves and deletes of one order from several threads, in schedules that the test decides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.memory import MemoryEndpoint
from upstash_state import OrderStore, UpstashError, UpstashRedis
from upstash_state.transport import intercepting

LONG = 20.0


class Schedule:
    """Threads that stop where they would send, until they are let go on."""

    def __init__(self, redis: MemoryEndpoint) -> None:
        self.redis = redis
        self.results: dict[str, Any] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._arrived: dict[str, threading.Semaphore] = {}
        self._go_on: dict[str, threading.Semaphore] = {}
        redis.before = self._stop

    def _stop(self, commands: list[list[str]]) -> None:
        name = threading.current_thread().name
        if name in self._arrived:
            self._arrived[name].release()
            assert self._go_on[name].acquire(timeout=LONG)

    def start(self, name: str, call: Callable[[], Any]) -> None:
        """Begin a call in a thread of this name."""

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

    def waits(self, store: OrderStore, waiters: int) -> None:
        """Wait until so many threads wait for another one's save."""
        turn = threading.Event()
        for _ in range(int(LONG * 1000)):
            if len(store._saver.book.waiters) >= waiters:
                return
            turn.wait(0.001)
        raise AssertionError("nobody waits")

    def go_on(self, name: str) -> None:
        self._go_on[name].release()

    def ends(self, name: str) -> Any:
        """Let a thread go on to its end, and give what came of its call."""
        for _ in range(10):
            self._go_on[name].release()
        self._threads[name].join(LONG)
        assert not self._threads[name].is_alive()
        return self.results[name]


@pytest.fixture
def redis() -> MemoryEndpoint:
    return MemoryEndpoint(Clock())


@pytest.fixture
def store(redis: MemoryEndpoint) -> Iterator[OrderStore]:
    with intercepting(redis, simulated=True):
        yield OrderStore(UpstashRedis("http://127.0.0.1:1", "token", timeout=LONG))


@pytest.fixture
def schedule(redis: MemoryEndpoint) -> Iterator[Schedule]:
    schedule = Schedule(redis)
    yield schedule
    for name in schedule._threads:
        schedule.ends(name)


def saving(store: OrderStore, n: int) -> Callable[[], None]:
    return lambda: store.save("1", {"n": n})


def texts(redis: MemoryEndpoint) -> list[str]:
    return [command[2] for command in redis.commands if command[0] == "SET"]


def test_saves_arrive_in_the_order_of_their_calls(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    schedule.start("older", saving(store, 1))
    schedule.sends("older")
    schedule.start("newer", saving(store, 2))
    schedule.waits(store, 1)
    assert schedule.ends("older") == "done"
    assert schedule.ends("newer") == "done"
    assert texts(redis) == ['{"n": 1}', '{"n": 2}']


def test_who_is_overtaken_is_not_sent_and_told_the_truth(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    schedule.start("first", saving(store, 1))
    schedule.sends("first")
    for number, name in enumerate(("second", "third"), 2):
        schedule.start(name, saving(store, number))
        schedule.waits(store, number - 1)
    assert [schedule.ends(name) for name in ("first", "second", "third")] == ["done"] * 3
    assert texts(redis) == ['{"n": 1}', '{"n": 3}']


def test_who_is_overtaken_is_told_when_the_newer_one_fails(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    schedule.start("first", saving(store, 1))
    schedule.sends("first")
    for number, name in enumerate(("second", "third"), 2):
        schedule.start(name, saving(store, number))
        schedule.waits(store, number - 1)
    redis.plan.extend(["", "refused"])
    assert schedule.ends("first") == "done"
    results = [schedule.ends(name) for name in ("second", "third")]
    assert all(isinstance(result, UpstashError) for result in results)
    assert store.unsaved == ("1",)
    redis.before = lambda commands: None
    assert store.flush()
    assert texts(redis) == ['{"n": 1}', '{"n": 3}']


def test_a_save_that_fails_leaves_the_newer_one_to_its_caller(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    schedule.start("older", saving(store, 1))
    schedule.sends("older")
    schedule.start("newer", saving(store, 2))
    schedule.waits(store, 1)
    redis.plan.append("refused")
    # Its text is superseded, and Redis holds the newer one by the time that it returns.
    schedule.go_on("older")
    schedule.sends("newer")
    assert schedule.ends("newer") == "done"
    assert schedule.ends("older") == "done"
    assert texts(redis) == ['{"n": 2}']


def test_a_delete_waits_for_the_save_before(
    store: OrderStore, redis: MemoryEndpoint, schedule: Schedule
) -> None:
    schedule.start("save", saving(store, 1))
    schedule.sends("save")
    schedule.start("delete", lambda: store.delete("1"))
    schedule.waits(store, 1)
    assert schedule.ends("save") == "done"
    assert schedule.ends("delete") == "done"
    assert redis.get("order:1") is None


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
    for name in ("three", "two", "one"):
        schedule.go_on(name)
    assert sorted(schedule.ends("one")) == list("abc")
    assert sorted(schedule.ends("two")) == list("abcdef")
    assert sorted(schedule.ends("three")) == list("aef")
    held = {order_id: redis.get(f"order:{order_id}") for order_id in "abcdef"}
    assert held == {
        "a": '{"n": 3}',
        "b": '{"n": 2}',
        "c": '{"n": 2}',
        "d": '{"n": 2}',
        "e": '{"n": 3}',
        "f": '{"n": 3}',
    }


def test_an_interrupted_save_is_owed_and_blocks_nobody(
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

    def wait(event: threading.Event, timeout: float | None = None) -> bool:
        raise AssertionError("it waits")

    def save_within(commands: list[list[str]]) -> None:
        redis.before = lambda commands: None
        with monkeypatch.context() as patch:
            patch.setattr(threading.Event, "wait", wait)
            with pytest.raises(UpstashError, match="under way"):
                store.save("1", {"n": 2})
        store.save("2", {"n": 2})
        inner.append(True)

    redis.before = save_within
    store.save("1", {"n": 1})
    assert inner
    # The save that was interrupted has made up for the one that interrupted it.
    assert redis.get("order:1") == '{"n": 2}'
    assert store.unsaved == ()


def test_a_sender_that_never_ends_is_replaced(store: OrderStore, redis: MemoryEndpoint) -> None:
    ticket = store.note_save("1", {"n": 1})
    assert ticket is not None
    book = store._saver.book
    # As if a thread had been killed between taking and sending.
    book.ledger.take([ticket.entry.key], object(), 0.0)
    store.save("1", {"n": 2})
    assert redis.get("order:1") == '{"n": 2}'


def test_orders_may_be_added_while_they_are_saved(store: OrderStore) -> None:
    class Growing(dict[str, dict[str, Any]]):
        """As a dict looks to a thread that is interrupted while it iterates."""

        def items(self) -> Any:
            for order_id in list(self):
                yield order_id, self[order_id]
                if len(self) < 5:
                    self[str(len(self))] = {}
                    raise RuntimeError("dictionary changed size during iteration")

    assert len(store.save_many(Growing({"0": {}}))) == 5
