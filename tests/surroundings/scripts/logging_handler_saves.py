"""a handler of `upstash_state` and one of `urllib3` at DEBUG save an order for each record"""

import logging
import os
import threading

from probes import ORDER, saves, time_limit_holds

from upstash_state import redis_save_order, reset_client

LIMIT = 20.0
saved: list[bool] = []
inside = threading.local()


class Saves(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # Its own saves are logged, too.
        if not getattr(inside, "handler", False):
            inside.handler = True
            try:
                saved.append(redis_save_order("log", {"text": record.getMessage()}))
            finally:
                inside.handler = False


def ends(expected: bool) -> None:
    """A save that makes the handler save ends, and so does one from another thread meanwhile."""
    saved.clear()
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(redis_save_order("1", ORDER)), daemon=True)
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), "it hangs"
    assert results == [expected] * 3, results
    assert saved, "the handler was not called"
    assert set(saved) == {expected}, saved


handler = Saves()
logging.getLogger("upstash_state").addHandler(handler)
os.environ["UPSTASH_STATE_TIMEOUT"] = "five"
ends(True)
del os.environ["UPSTASH_STATE_TIMEOUT"]

token = os.environ.pop("UPSTASH_REDIS_REST_TOKEN")
reset_client()
ends(False)
os.environ["UPSTASH_REDIS_REST_TOKEN"] = token
reset_client()
saves()

logging.getLogger("urllib3").addHandler(handler)
logging.getLogger("urllib3").setLevel(logging.DEBUG)
for _ in range(3):
    reset_client()
    ends(True)
    ends(True)
time_limit_holds()
