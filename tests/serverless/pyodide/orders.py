"""Runs in Pyodide. Prints what came of each call as JSON, in the last line."""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from types import ModuleType, SimpleNamespace
from typing import Any

from pyodide.code import run_js

import upstash_state
from upstash_state import UpstashError, UpstashRedis, aio, reset_client

MANY = 1500
ORDER = {
    "name": "Zoë 🍕",
    "created_at": datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc),
    "status_history": [{"at": datetime(2026, 1, 2, 3, 5)}],
}

results: dict[str, Any] = {}
lines: list[str] = []


class Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        lines.append(record.getMessage())


logging.getLogger("upstash_state").addHandler(Lines())


def use(prefix: str, **settings: str) -> None:
    """Start again with other orders and settings."""
    for name in [name for name in os.environ if name.startswith("UPSTASH_STATE_")]:
        del os.environ[name]
    os.environ["UPSTASH_STATE_PREFIX"] = prefix
    os.environ.update(settings)
    reset_client()


def failure(call: Callable[[], object]) -> dict[str, Any]:
    """What a call raises, and the seconds that it takes."""
    begin = time.monotonic()
    try:
        call()
    except UpstashError as error:
        seconds = time.monotonic() - begin
        return {"text": str(error), "reason": getattr(error, "reason", None), "seconds": seconds}
    return {"text": "", "reason": None, "seconds": time.monotonic() - begin}


async def functions(prefix: str, module: Any) -> list[Any]:
    """Each function once, and what it returns."""
    use(prefix)

    async def call(name: str, *args: object) -> Any:
        result = getattr(module, name)(*args)
        return await result if asyncio.iscoroutine(result) else result

    old = {str(number): ORDER for number in range(MANY)}
    return [
        await call("get_redis_client") is not None,
        await call("redis_save_order", "a", {**ORDER, "created_at": datetime.now()}),
        await call("redis_save_orders", old),
        await call("redis_get_order", "7") == ORDER,
        await call("redis_get_order_count"),
        (await call("redis_get_all_orders")).keys() == {"a", *old},
        await call("redis_delete_order", "7"),
        await call("redis_get_order", "7"),
        await call("redis_cleanup_old_orders", 2),
        await call("redis_flush"),
    ]


async def main() -> None:
    results["functions"] = await functions("functions:", upstash_state)
    results["aio"] = await functions("aio:", aio)

    use("tasks:")
    different = (aio.redis_save_order(str(number), {}) for number in range(8))
    results["different orders"] = await asyncio.gather(*different)
    same = (aio.redis_save_order("same", {"n": number}) for number in range(5))
    results["one order"] = await asyncio.gather(*same)
    results["the last"] = upstash_state.redis_get_order("same")
    results["flush"] = await asyncio.gather(aio.redis_save_order("b", {}), aio.redis_flush())

    use("background:", UPSTASH_STATE_BACKGROUND="0.05")
    saved = upstash_state.redis_save_order("a", {"n": 1})
    results["background"] = [saved, UpstashRedis.from_env().get("background:a")]

    workers: Any = ModuleType("workers")
    workers.WorkerEntrypoint = type("WorkerEntrypoint", (), {})
    workers.Response = SimpleNamespace(json=lambda body, status: [status, body])
    sys.modules["workers"] = workers
    example: dict[str, Any] = {}
    exec(os.environ["WORKER"], example)

    async def text() -> str:
        return json.dumps({"id": 5866})

    use("worker:")
    worker = example["Default"]()
    worker.env = SimpleNamespace(**os.environ)
    results["worker"] = await worker.fetch(SimpleNamespace(text=text))

    del lines[:]
    for name in ("STALLED", "LATE", "REFUSED", "BROKEN_ONCE"):
        redis = UpstashRedis(os.environ[name], os.environ["TOKEN"], timeout=4)
        results[name] = failure(redis.ping)
    redis = UpstashRedis.from_env()
    # JavaScript that waits for no promise has called this call, so it cannot wait either.
    run_js("(call) => call()")(lambda: results.update({"not promised": failure(redis.ping)}))
    use("down:", UPSTASH_REDIS_REST_URL=os.environ["REFUSED"])
    results["down"] = [await aio.redis_save_order("a", {}) for _ in range(4)]
    results["down"] += [upstash_state.redis_get_all_orders(), await aio.redis_flush(0.3)]
    results["lines"] = lines
    print(json.dumps(results))
