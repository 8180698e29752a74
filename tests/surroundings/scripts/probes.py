"""What every script asks of the package, in whatever surroundings. Imports it at first use only."""

from __future__ import annotations

import logging
import os
import threading
import time

URL = os.environ["UPSTASH_REDIS_REST_URL"]
TOKEN = os.environ["UPSTASH_REDIS_REST_TOKEN"]
DRIPPING = [os.environ["DRIPPING_HEADERS_URL"], os.environ["DRIPPING_BODY_URL"]]
ORDER = {"name": "#26", "status": "new"}

BUDGET = 1.0
# Far more than the budget, for a machine under load, and far less than the 35 s that both drip for.
PATIENCE = 12.0

logging.basicConfig(level=logging.INFO)


def saves(order_id: str = "5866") -> None:
    """An order is saved, read and deleted."""
    from upstash_state import redis_delete_order, redis_get_order, redis_save_order

    assert redis_save_order(order_id, ORDER), "not saved"
    assert redis_get_order(order_id) == ORDER, "not read"
    assert redis_delete_order(order_id), "not deleted"
    assert redis_get_order(order_id) is None, "not gone"


def saves_from_threads(count: int = 20) -> None:
    """So many threads (or what has taken their place) save at once."""
    from upstash_state import redis_save_order

    saved: list[bool] = []
    threads = [
        threading.Thread(target=lambda n=n: saved.append(redis_save_order(str(n), ORDER)))
        for n in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert saved == [True] * count, f"{saved.count(True)} of {count} saved"


def time_limit_holds(urls: list[str] = DRIPPING) -> None:
    """What comes a byte at a time, headers or body, ends with the budget. Threads run meanwhile."""
    from upstash_state import UnavailableError, UpstashRedis

    ticks = 0
    over = False

    def tick() -> None:
        nonlocal ticks
        while not over:
            ticks += 1
            time.sleep(BUDGET / 20)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        for url in urls:
            before = ticks
            client = UpstashRedis(url, TOKEN, timeout=BUDGET)
            begin = time.monotonic()
            try:
                answer = client.get("order:5866")
            except UnavailableError as error:
                assert "time" in str(error), error
            else:
                raise AssertionError(f"answered with {answer!r} by a server that drips")
            took = time.monotonic() - begin
            assert took < PATIENCE, f"{took:.1f} s of a budget of {BUDGET:.0f} s"
            assert ticks - before > 2, "nothing else ran meanwhile"
    finally:
        over = True
        ticker.join(30)


def replied(command: list[str]) -> dict[str, object]:
    """What a mock of the endpoint answers."""
    return {"result": {"PING": "PONG", "SET": "OK"}.get(command[0])}


def was_only_mocked(order_id: str = "mocked") -> None:
    """What a mock took has not reached the endpoint, and that is reached again."""
    from upstash_state import OrderStore

    assert OrderStore.from_env().get(order_id) is None, "the mock did not see it"
    saves()
