"""Does the backup end up right? Rows of what used to go wrong, on a simulated clock.

python -m tests.benchmarks.right
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

from tests.support.clock import Clock
from tests.support.memory import MemoryEndpoint
from upstash_state import (
    OrderStore,
    UpstashError,
    UpstashRedis,
    redis_get_all_orders,
    redis_save_order,
    redis_save_orders,
    reset_client,
)
from upstash_state.transport import intercepting

OUTAGES = 40
DAY = 86_400.0
ENVIRON = {"UPSTASH_REDIS_REST_URL": "http://127.0.0.1:1", "UPSTASH_REDIS_REST_TOKEN": "token"}


@contextmanager
def simulated(**settings: Any) -> Iterator[tuple[OrderStore, MemoryEndpoint, Clock]]:
    """A store over an endpoint in memory; nothing waits, and time is what the clock says."""
    clock = Clock()
    redis = MemoryEndpoint(clock)
    # The circuit counts its pauses on the monotonic clock.
    with intercepting(redis, simulated=True), mock.patch.object(time, "monotonic", clock):
        yield (
            OrderStore(UpstashRedis("http://127.0.0.1:1", "token"), clock=clock, **settings),
            redis,
            clock,
        )
    reset_client(flush=False)


def outages(orders_a_day: int, hours: float = 1.0) -> str:
    """Share of outages after which, an hour later, Redis lacks some order's last state."""
    wrong = 0
    for seed in range(OUTAGES):
        chance = random.Random(seed)
        with simulated() as (store, redis, clock):
            begin = clock.now
            state: dict[str, dict[str, Any]] = {}
            changes = sorted(
                (begin + first + n * chance.uniform(60, 1200), f"{day}-{order}")
                for day in range(1)
                for order in range(orders_a_day)
                for first in [chance.uniform(0, DAY)]
                for n in range(12)
            )
            down_from = begin + chance.uniform(DAY / 4, DAY / 2)
            down_until = down_from + hours * 3600
            checks = iter(range(int(begin), int(down_until + 3600), 60))
            check = next(checks)
            for at, order_id in changes:
                while check is not None and check < at:
                    clock.now = max(clock.now, check)
                    redis.down = down_from <= clock.now < down_until
                    store.health(max_age=0)
                    check = next(checks, None)
                if at > down_until + 3600:
                    break
                clock.now = max(clock.now, at)
                redis.down = down_from <= clock.now < down_until
                state[order_id] = {"changes": state.get(order_id, {"changes": 0})["changes"] + 1}
                with suppress(UpstashError):
                    store.save(order_id, state[order_id])
            wrong += any(
                redis.get(f"order:{order_id}") != json.dumps(order)
                for order_id, order in state.items()
            )
    return f"{wrong / OUTAGES:.0%} of {OUTAGES}"


def growing() -> str:
    """redis_save_orders of 500 orders while another thread adds one every 20 ms."""

    def once() -> bool:
        state: dict[str, Any] = {str(n): {"n": n} for n in range(500)}
        over = threading.Event()

        def add() -> None:
            while not over.wait(0.02):
                state[str(len(state))] = {}

        thread = threading.Thread(target=add)
        with served():
            thread.start()
            saved = redis_save_orders(state)
            over.set()
            thread.join()
        return saved >= 500

    return f"all saved, {sum(once() for _ in range(10))} times of 10"


def overtaking() -> str:
    """asyncio.to_thread(redis_save_order, …) twice, 30 ms apart, the way sometimes slow."""
    chance = random.Random(7)
    slow = threading.Event()

    async def twice() -> None:
        first = asyncio.create_task(asyncio.to_thread(redis_save_order, "1", {"n": 1}))
        await asyncio.sleep(0.03)
        await asyncio.gather(first, asyncio.to_thread(redis_save_order, "1", {"n": 2}))

    def once() -> bool:
        with served() as redis:
            redis.before = lambda commands: slow.wait(chance.choice([0, 0, 0.08])) and None
            asyncio.run(twice())
            return redis.get("order:1") != '{"n": 2}'

    return f"the older version stays in {sum(once() for _ in range(60))} of 60"


def echo() -> str:
    """A first attempt given up, arriving after the next save, with skip-unchanged."""
    with simulated(skip_unchanged=DAY) as (store, redis, clock):
        redis.plan.append("late")
        with suppress(UpstashError):
            store.save("1", {"n": 1})
        store.save("1", {"n": 2})
        redis.arrive()
        clock.now += 61
        store.health(max_age=0)
        return "repaired after a minute" if redis.get("order:1") == '{"n": 2}' else "stays wrong"


def expiring() -> str:
    """UPSTASH_STATE_TTL=2, SKIP_UNCHANGED=86400: save, wait, save."""
    with simulated(ttl=2, skip_unchanged=DAY) as (store, redis, clock):
        store.save("1", {})
        clock.now += 2
        store.save("1", {})
        return "Redis has it" if redis.get("order:1") else "Redis has nothing"


def restart() -> str:
    """A restart while the endpoint is down: the log."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("upstash_state").addHandler(handler)
    with served() as redis:
        redis.down = True
        for n in range(5):
            redis_save_order(str(n), {})
        records.clear()
        redis_get_all_orders()
    logging.getLogger("upstash_state").removeHandler(handler)
    return "; ".join(f"{r.levelname}: {r.getMessage()}" for r in records if r.levelno > 10)


def swap() -> str:
    """The import swap on the original app's newest version."""
    from upstash_state import redis_cleanup_old_orders

    return f"{redis_cleanup_old_orders.__name__} is there"


@contextmanager
def served() -> Iterator[MemoryEndpoint]:
    """The functions over an endpoint in memory, in real time."""
    redis = MemoryEndpoint(Clock(time.time()))
    with mock.patch.dict("os.environ", ENVIRON), intercepting(redis, simulated=True):
        reset_client(flush=False)
        yield redis
        reset_client(flush=False)


ROWS: list[tuple[str, Callable[[], str]]] = [
    ("outage of 1 h, 15 orders a day: wrong an hour later", lambda: outages(15)),
    ("the same, 45 orders a day", lambda: outages(45)),
    ("save 500 orders while a thread adds more", growing),
    ("two saves of one order from two threads", overtaking),
    ("a late first attempt, with skip-unchanged", echo),
    ("TTL=2, SKIP_UNCHANGED=86400: save, wait, save", expiring),
    ("a restart while the endpoint is down: the log", restart),
    ("the import swap", swap),
]

if __name__ == "__main__":
    logging.getLogger("upstash_state").setLevel(logging.ERROR)
    logging.lastResort = None
    for name, row in ROWS:
        print(f"| {name} | {row()} |", flush=True)
