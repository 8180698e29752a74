"""The functions as coroutine functions, for apps with an event loop, and `lifespan`.

    from upstash_state.aio import lifespan, redis_save_order

    app = FastAPI(lifespan=lifespan)

A save or delete is accepted when its coroutine starts, so saves of one order keep the order of the
calls. This module sends in a small thread pool of its own, so the event loop keeps running. A save
that is cancelled stays pending, and is sent with the next call that finds the endpoint working. A
`time_budget` applies to the calls in its block.

The serializers do not wait for anything, so they are the same plain functions.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from . import process, registry, state
from .client import UpstashRedis
from .errors import SaveManyError, UpstashError
from .logs import log_unsaved, logged
from .serialization import deserialize_order, serialize_order
from .transport import deadline_within, one_by_one, time_budget

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = [
    "deserialize_order",
    "get_redis_client",
    "lifespan",
    "redis_cleanup_old_orders",
    "redis_delete_order",
    "redis_flush",
    "redis_get_all_orders",
    "redis_get_order",
    "redis_get_order_count",
    "redis_save_order",
    "redis_save_orders",
    "serialize_order",
]

T = TypeVar("T")

# The number of requests that may be under way at the same time. An endpoint that hangs must not
# occupy all threads of the app's executor, so this module has its own.
THREADS = 16

_pool: list[ThreadPoolExecutor] = []


async def get_redis_client() -> UpstashRedis | None:
    """Return the process's client, like `upstash_state.get_redis_client`.

    The client's own methods block the event loop while they wait.
    """
    return await _in_time(state.get_redis_client)


async def redis_save_order(order_id: str | int, order_data: Mapping[str, Any]) -> bool:
    """Save an order, like `upstash_state.redis_save_order`.

    The order may be changed as soon as the coroutine has started.
    """
    with logged("Failed to save order %s to Redis: %s", "redis_save_order", order_id):
        await _in_time(process.store().accept(order_id, order_data))
        return True
    return False


async def redis_get_order(order_id: str | int) -> dict[str, Any] | None:
    """Return an order, like `upstash_state.redis_get_order`."""
    return await _in_time(state.redis_get_order, order_id)


async def redis_delete_order(order_id: str | int) -> bool:
    """Delete an order, like `upstash_state.redis_delete_order`."""
    with logged("Failed to delete order %s from Redis: %s", "redis_delete_order", order_id):
        await _in_time(process.store().accept_delete(order_id))
        return True
    return False


async def redis_get_all_orders() -> dict[str, dict[str, Any]]:
    """Restore all orders, like `upstash_state.redis_get_all_orders`."""
    return await _in_thread(state.redis_get_all_orders)


async def redis_get_order_count() -> int:
    """Count the orders, like `upstash_state.redis_get_order_count`."""
    return await _in_time(state.redis_get_order_count)


async def redis_save_orders(orders: Mapping[str, Mapping[str, Any]]) -> int:
    """Save many orders, like `upstash_state.redis_save_orders`.

    The orders may be changed as soon as the coroutine has started.
    """
    with logged("Failed to save orders to Redis: %s", "redis_save_orders"):
        send = process.store().accept_many(orders)
        try:
            return len(await _in_thread(send))
        except SaveManyError as error:
            log_unsaved(error.failed)
            return len(error.saved)
    return 0


async def redis_cleanup_old_orders(days_to_keep: int = 2) -> int:
    """Delete old orders, like `upstash_state.redis_cleanup_old_orders`."""
    return await _in_thread(state.redis_cleanup_old_orders, days_to_keep)


async def redis_flush(timeout: float | None = None) -> bool:
    """Send all pending saves and deletes now, like `upstash_state.redis_flush`."""
    return await _in_thread(state.redis_flush, timeout)


@asynccontextmanager
async def lifespan(app: object = None) -> AsyncIterator[None]:
    """Send all pending saves and deletes when an ASGI app shuts down.

        app = FastAPI(lifespan=lifespan)
        app = Starlette(lifespan=lifespan)
        app = Litestar(lifespan=[lifespan])

    Inside a lifespan of your own: `async with lifespan(app): yield ...`.

    It takes at most UPSTASH_STATE_TIMEOUT seconds. The log names the orders that are left. After
    that, each save is sent by its own call, even in background mode, until the event loop is closed
    or another `lifespan` starts on it.

    Args:
        app: The app. It is not used.
    """
    loops = []
    with suppress(RuntimeError):
        loops.append(asyncio.get_running_loop())
    ended = registry.shut_down
    ended[:] = [loop for loop in ended if loop not in loops and not loop.is_closed()]
    try:
        yield
    finally:
        ended += loops
        await _in_thread(registry.end_of_app)


async def _in_time(call: Callable[..., T], *args: object) -> T:
    """Run a call in a thread. The client's timeout includes the wait for a free thread."""
    try:
        seconds = process.store().client.timeout
    except UpstashError:
        # The call logs it.
        return await _in_thread(call, *args)
    with time_budget(seconds):
        return await _in_thread(call, *args)


async def _in_thread(call: Callable[..., T], *args: object) -> T:
    """Run a call in a thread of this module, in the caller's context."""
    run = copy_context().run
    if one_by_one():
        # A recording needs the requests in the order of the calls.
        return run(call, *args)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        trio: Any = sys.modules.get("trio")
        if trio is not None and trio.lowlevel.in_trio_run():
            result: T = await trio.to_thread.run_sync(run, call, *args)
            return result
        # This module cannot use threads with other event loops, so the call blocks the loop.
        return run(call, *args)
    try:
        job = _executor().submit(run, call, *args)
    except RuntimeError:
        # No thread starts at the end of the interpreter, so the call blocks the loop.
        return run(call, *args)
    future = asyncio.wrap_future(job)
    left = deadline_within(math.inf) - time.monotonic()
    try:
        await asyncio.wait([future], timeout=None if left == math.inf else max(left, 0.0))
    except BaseException:
        future.cancel()
        raise
    if job.cancel():
        # No thread was free within the time budget, so the call fails at once.
        return run(call, *args)
    return await future


def _executor() -> ThreadPoolExecutor:
    if not _pool:
        from concurrent.futures import ThreadPoolExecutor

        _pool.append(ThreadPoolExecutor(THREADS, "upstash_state aio"))
    return _pool[0]


if hasattr(os, "register_at_fork"):
    # A forked child does not have its parent's threads.
    os.register_at_fork(after_in_child=_pool.clear)
