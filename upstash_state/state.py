"""The functions that an app calls. They log failures and fall back; `store` does the work.

They do not raise, whatever the endpoint, the network or an order does. Only KeyboardInterrupt and
SystemExit pass. A call takes at most UPSTASH_STATE_TIMEOUT seconds, retries and pauses included,
and less inside a `time_budget`. In `redis_get_all_orders`, `redis_save_orders` and
`redis_cleanup_old_orders`, each request has this limit.
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
    """Return the process's client. The first call creates it and tests it with PING.

    Returns:
        The client, or None when there are no credentials or the endpoint does not answer.
    """
    with logged("Failed to connect to Redis: %s", "get_redis_client"):
        return process.client()
    return None


def redis_save_order(order_id: str | int, order_data: Mapping[str, Any]) -> bool:
    """Save an order. It expires in 604,800 s (UPSTASH_STATE_TTL). Costs one command.

    A save that fails stays pending, unless a retry cannot help. It is sent with the next call that
    finds the endpoint working (UPSTASH_STATE_CATCH_UP).

    Args:
        order_id: Any text, or an int.
        order_data: The order, as `serialize_order` takes it.

    Returns:
        True once Redis holds the order, or a newer one with this id. In background mode
        (UPSTASH_STATE_BACKGROUND), True once the order is accepted. False when anything failed.
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
        The order. None if there is none, or when anything failed; `OrderStore.get` tells these
        apart.
    """
    with logged("Failed to get order %s from Redis: %s", "redis_get_order", order_id):
        return process.store().get(order_id)
    return None


def redis_delete_order(order_id: str | int) -> bool:
    """Delete an order. A delete that fails stays pending, like a save.

    Args:
        order_id: The id it was saved under.

    Returns:
        True, even if there was no such order. False when anything failed.
    """
    with logged("Failed to delete order %s from Redis: %s", "redis_delete_order", order_id):
        process.store().delete(order_id)
        return True
    return False


def redis_get_all_orders() -> dict[str, dict[str, Any]]:
    """Restore all orders. Costs about two commands for each 1,000 orders.

    While the endpoint is unavailable, it tries again for UPSTASH_STATE_RESTORE_WAIT seconds.

    Returns:
        All orders by id, or {} when anything failed; `OrderStore.get_all` tells a failed restore
        from an empty one. An unreadable order is left out, and the log names it.
    """
    with logged("Failed to get all orders from Redis: %s", "redis_get_all_orders"):
        return process.store().get_all()
    return {}


def redis_get_order_count() -> int:
    """Count the orders. Costs one command for each 10,000 keys of the database.

    Returns:
        The number of orders, or 0 when anything failed; `OrderStore.health` tells these apart.
    """
    with logged("Failed to get order count from Redis: %s", "redis_get_order_count"):
        return process.store().count()
    return 0


def redis_save_orders(orders: Mapping[str, Mapping[str, Any]]) -> int:
    """Save many orders in few requests. Each request is one command if the endpoint has MSETEX.

    Args:
        orders: The orders by id, such as the app's whole STATE. Other threads may change it during
            the call.

    Returns:
        The number of these orders that Redis now holds; in background mode, the number accepted.
    """
    with logged("Failed to save orders to Redis: %s", "redis_save_orders"):
        try:
            return len(process.store().save_many(orders))
        except SaveManyError as error:
            log_unsaved(error.failed)
            return len(error.saved)
    return 0


def redis_cleanup_old_orders(days_to_keep: int = 2) -> int:
    """Delete the orders that were created before midnight `days_to_keep` days ago.

    An order without `created_at` is kept.

    Args:
        days_to_keep: Days in the machine's time zone. 0 keeps only the orders of today.

    Returns:
        The number of deleted orders; 0 when anything failed.
    """
    template = "Failed to clean up old orders in Redis: %s"
    with logged(template, "redis_cleanup_old_orders"):
        return len(process.store().delete_older_than(midnight(days_to_keep)))
    return 0


def redis_flush(timeout: float | None = None) -> bool:
    """Send all pending saves and deletes now, for example at the end of a process.

    Args:
        timeout: Seconds that it may take; None for UPSTASH_STATE_TIMEOUT. 0 sends nothing.

    Returns:
        True when nothing is pending. An order that failed and is not tried again, such as one that
        JSON cannot hold, does not count as pending.
    """
    with logged("Failed to flush to Redis: %s", "redis_flush"):
        return process.store().flush(timeout)
    return False
