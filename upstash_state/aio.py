"""The functions as coroutines, for apps on an event loop: `from upstash_state.aio import …`.

Each runs in a thread, so the loop goes on while the network is waited for. An order is taken as it
is when the function is called, and saves and deletes of one order keep the order of the calls,
awaited or not:

    saving = asyncio.create_task(redis_save_order("5866", order))

The serializers do not wait for anything, so they are the plain ones. A `time_budget` goes along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from . import state
from .client import UpstashRedis
from .serialization import deserialize_order, serialize_order

__all__ = [
    "deserialize_order",
    "get_redis_client",
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
Result = Coroutine[Any, Any, T]


def get_redis_client() -> Result[UpstashRedis | None]:
    """As `upstash_state.get_redis_client`. The client's own methods wait in the caller's thread."""
    return _in_thread(state.get_redis_client)


def redis_save_order(order_id: str | int, order_data: Mapping[str, Any]) -> Result[bool]:
    """As `upstash_state.redis_save_order`. The order may be changed once this has been called."""
    return _in_thread(state.begin_save(order_id, order_data))


def redis_get_order(order_id: str | int) -> Result[dict[str, Any] | None]:
    """As `upstash_state.redis_get_order`."""
    return _in_thread(lambda: state.redis_get_order(order_id))


def redis_delete_order(order_id: str | int) -> Result[bool]:
    """As `upstash_state.redis_delete_order`."""
    return _in_thread(state.begin_delete(order_id))


def redis_get_all_orders() -> Result[dict[str, dict[str, Any]]]:
    """As `upstash_state.redis_get_all_orders`."""
    return _in_thread(state.redis_get_all_orders)


def redis_get_order_count() -> Result[int]:
    """As `upstash_state.redis_get_order_count`."""
    return _in_thread(state.redis_get_order_count)


def redis_save_orders(orders: Mapping[str, Mapping[str, Any]]) -> Result[int]:
    """As `upstash_state.redis_save_orders`. The orders may be changed once this has been called."""
    return _in_thread(state.begin_save_many(orders))


def redis_cleanup_old_orders(days_to_keep: int = 2) -> Result[int]:
    """As `upstash_state.redis_cleanup_old_orders`."""
    return _in_thread(lambda: state.redis_cleanup_old_orders(days_to_keep))


def redis_flush(timeout: float | None = None) -> Result[bool]:
    """As `upstash_state.redis_flush`."""
    return _in_thread(lambda: state.redis_flush(timeout))


def _in_thread(call: Callable[[], T]) -> Result[T]:
    run = partial(copy_context().run, call)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # As in `asyncio.run(redis_save_order(…))`: the loop begins after the call.
        return _begun_later(run)
    # Begun now, so that it is done even if nobody awaits it.
    return _awaited(_begun(loop, run))


def _begun(loop: asyncio.AbstractEventLoop, run: Callable[[], T]) -> asyncio.Future[T]:
    try:
        return loop.run_in_executor(None, run)
    except RuntimeError:
        # The loop's executor is shut down, as at the end of the program, so the loop waits.
        future: asyncio.Future[T] = loop.create_future()
        future.set_result(run())
        return future


async def _begun_later(run: Callable[[], T]) -> T:
    return await _begun(asyncio.get_running_loop(), run)


async def _awaited(future: asyncio.Future[T]) -> T:
    return await future
