"""The functions that an app calls. They log failures and fall back; the work is done in `store`.

Apart from the two serializers, none of them raises, whatever the endpoint, the network or an order
does. KeyboardInterrupt and SystemExit pass. A call takes at most UPSTASH_STATE_TIMEOUT seconds,
retries and pauses included (`redis_get_all_orders`, `redis_save_orders` and
`redis_cleanup_old_orders`: each request), and less inside a `time_budget`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import process
from .client import UpstashRedis
from .errors import SaveManyError
from .logs import log_unsaved, logged
from .store import midnight


def get_redis_client() -> UpstashRedis | None:
    """Return the process's client, which is created on first use and tested with PING.

    Returns:
        The client, or None when there are no credentials or the endpoint does not answer.
    """
    with logged("Failed to connect to Redis: %s", "get_redis_client"):
        return process.client()
    return None


def redis_save_order(order_id: str | int, order_data: Mapping[str, Any]) -> bool:
    """Save an order, to expire in 604,800 s (UPSTASH_STATE_TTL). One request, one command.

    A save that fails for a reason that can pass stays pending. It is sent later, with the next call
    that finds the endpoint working (UPSTASH_STATE_CATCH_UP).

    Args:
        order_id: Any text, or an int.
        order_data: The order, as `serialize_order` takes it.

    Returns:
        True once Redis holds it, or what was saved under this id after it; in background mode
        (UPSTASH_STATE_BACKGROUND) once it is accepted. False when anything failed.
    """
    with logged("Failed to save order %s to Redis: %s", "redis_save_order", order_id):
        process.store().save(order_id, order_data)
        return True
    return False


def redis_get_order(order_id: str | int) -> dict[str, Any] | None:
    """Return an order. A pending save or delete counts as done.

    Args:
        order_id: The id it was saved under.

    Returns:
        The order, or None if there is none, or when anything failed. `OrderStore.get` tells
        these apart.
    """
    with logged("Failed to get order %s from Redis: %s", "redis_get_order", order_id):
        return process.store().get(order_id)
    return None


def redis_delete_order(order_id: str | int) -> bool:
    """Delete an order. A delete that fails stays pending, like a save.

    Args:
        order_id: The id it was saved under.

    Returns:
        True, also when there was none; False when anything failed.
    """
    with logged("Failed to delete order %s from Redis: %s", "redis_delete_order", order_id):
        process.store().delete(order_id)
        return True
    return False


def redis_get_all_orders() -> dict[str, dict[str, Any]]:
    """Restore all orders. About N/1,000 requests and twice as many commands for N orders.

    While the endpoint is unavailable it tries again for UPSTASH_STATE_RESTORE_WAIT seconds.

    Returns:
        The orders by id, or {} when anything failed: all or nothing, but an order that is itself
        unreadable is left out and named in the log. `OrderStore.get_all` tells a failed restore
        from an empty one.
    """
    with logged("Failed to get all orders from Redis: %s", "redis_get_all_orders"):
        return process.store().get_all()
    return {}


def redis_get_order_count() -> int:
    """Count the orders. A command for each 10,000 keys of the database.

    Returns:
        How many there are, or 0 when anything failed. `OrderStore.health` tells these apart.
    """
    with logged("Failed to get order count from Redis: %s", "redis_get_order_count"):
        return process.store().count()
    return 0


def redis_save_orders(orders: Mapping[str, Mapping[str, Any]]) -> int:
    """Save many orders in few requests. A request is one command where the endpoint has MSETEX.

    Args:
        orders: The orders by id, such as the app's whole STATE. Other threads may go on changing
            it meanwhile.

    Returns:
        How many of them Redis now holds; in background mode, how many were accepted.
    """
    with logged("Failed to save orders to Redis: %s", "redis_save_orders"):
        try:
            return len(process.store().save_many(orders))
        except SaveManyError as error:
            log_unsaved(error.failed)
            return len(error.saved)
    return 0


def redis_cleanup_old_orders(days_to_keep: int = 2) -> int:
    """Delete the orders that were created before midnight, that many days ago.

    Args:
        days_to_keep: Days in the machine's time zone. 0 keeps only what was created today.

    Returns:
        How many were deleted; 0 when anything failed. An order without `created_at` is kept.
    """
    template = "Failed to clean up old orders in Redis: %s"
    with logged(template, "redis_cleanup_old_orders"):
        return len(process.store().delete_older_than(midnight(days_to_keep)))
    return 0


def redis_flush(timeout: float | None = None) -> bool:
    """Send everything that is pending, now. For the end of a process.

    Args:
        timeout: Seconds that it may take; None for UPSTASH_STATE_TIMEOUT. 0 sends nothing.

    Returns:
        True when nothing is pending. An order that failed and is not tried again, such as one that
        JSON cannot hold, is not pending.
    """
    with logged("Failed to flush to Redis: %s", "redis_flush"):
        return process.store().flush(timeout)
    return False
