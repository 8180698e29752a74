"""The functions that an app calls: they catch, log and fall back. What they do lives in `store`.

No exception leaves them, whatever the endpoint, the network or an order does; KeyboardInterrupt
and SystemExit do. A call takes at most UPSTASH_STATE_TIMEOUT seconds in all, retries and pauses
included (`redis_get_all_orders` and `redis_save_orders`: each request), and less inside a
`time_budget`.
"""

from __future__ import annotations

from logging import getLogger

from .errors import (
    CircuitOpenError,
    NotConnectedError,
    RestoreError,
    SaveManyError,
    SettingsError,
    UpstashError,
)
from .shared import shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .client import UpstashRedis

log = getLogger("upstash_state")


def get_redis_client() -> UpstashRedis | None:
    """The process's one client, made on first use and tested with PING.

    Returns:
        The client, or None when there are no credentials or the endpoint does not answer.
    """
    try:
        with shared.call() as store:
            return store.client
    except Exception as error:
        _log(error, "get_redis_client", "Failed to connect to Redis")
        return None


def redis_save_order(order_id: str | int, order_data: dict[str, Any]) -> bool:
    """Back an order up, to expire in 604,800 s (UPSTASH_STATE_TTL). One request, one command.

    Args:
        order_id: Any text, or an int.
        order_data: The order, as `serialize_order` takes it.

    Returns:
        True once Redis holds it, False when anything failed.
    """
    try:
        with shared.call() as store:
            store.save(order_id, order_data)
        return True
    except Exception as error:
        _log(
            error, "redis_save_order", f"Failed to save order {_shown(order_id)} to Redis", order_id
        )
        return False


def redis_get_order(order_id: str | int) -> dict[str, Any] | None:
    """Read an order back.

    Args:
        order_id: The id it was saved under.

    Returns:
        The order, or None if there is none, or when anything failed. `OrderStore.get` tells
        these apart.
    """
    try:
        with shared.call() as store:
            return store.get(order_id)
    except Exception as error:
        _log(
            error, "redis_get_order", f"Failed to get order {_shown(order_id)} from Redis", order_id
        )
        return None


def redis_delete_order(order_id: str | int) -> bool:
    """Delete an order from the backup.

    Args:
        order_id: The id it was saved under.

    Returns:
        True, also when there was none; False when anything failed.
    """
    try:
        with shared.call() as store:
            store.delete(order_id)
        return True
    except Exception as error:
        _log(
            error,
            "redis_delete_order",
            f"Failed to delete order {_shown(order_id)} from Redis",
            order_id,
        )
        return False


def redis_get_all_orders() -> dict[str, dict[str, Any]]:
    """Restore all orders. About N/1,000 requests and twice as many commands for N orders.

    Returns:
        The orders by id, or {} when anything failed: all or nothing, but an order that is itself
        unreadable is left out and named in the log. `OrderStore.get_all` tells a failed restore
        from an empty one.
    """
    try:
        return shared.store().get_all()
    except Exception as error:
        _log(error, "redis_get_all_orders", "Failed to get all orders from Redis")
        return {}


def redis_get_order_count() -> int:
    """Count the orders. A command for each 10,000 keys of the database.

    Returns:
        How many there are, or 0 when anything failed. `OrderStore.health` tells these apart.
    """
    try:
        with shared.call() as store:
            return store.count()
    except Exception as error:
        _log(error, "redis_get_order_count", "Failed to get order count from Redis")
        return 0


def redis_save_orders(orders: Mapping[str, dict[str, Any]]) -> int:
    """Back many orders up in few requests, one command each.

    Args:
        orders: The orders by id, such as the app's whole STATE.

    Returns:
        How many of them Redis now holds; 0 when the endpoint could not be asked.
    """
    try:
        return len(shared.store().save_many(orders))
    except SaveManyError as error:
        _log_unsaved(error)
        return len(error.saved)
    except Exception as error:
        _log(error, "redis_save_orders", "Failed to save orders to Redis")
        return 0


def _shown(order_id: object) -> str:
    # In one line, and without a chance to raise: it may be anything that an app calls an id.
    try:
        text = str(order_id) if isinstance(order_id, (str, int)) else f"<{type(order_id).__name__}>"
    except ValueError:
        text = "<int of too many digits>"
    return text if text.isprintable() else ascii(text)


def _log_unsaved(error: SaveManyError) -> None:
    by_cause: dict[int, list[str]] = {}
    for order_id, cause in error.failed.items():
        by_cause.setdefault(id(cause), []).append(order_id)
    for ids in by_cause.values():
        cause = error.failed[ids[0]]
        if len(ids) == 1:
            message = f"Failed to save order {_shown(ids[0])} to Redis"
            _log(cause, "redis_save_orders", message, ids[0])
        else:
            _log(cause, "redis_save_orders", f"Failed to save {len(ids)} orders to Redis")


def _log(error: Exception, operation: str, message: str, order_id: object = None) -> None:
    cause = error.__cause__ if isinstance(error, RestoreError) else error
    if isinstance(error, NotConnectedError):
        message = "Failed to connect to Redis"
    # An open circuit and unusable settings have been reported once, when they came about.
    quiet = isinstance(cause, (CircuitOpenError, SettingsError))
    (log.debug if quiet else log.error)(
        "%s: %s",
        message,
        error,
        extra={"operation": operation, "order_id": order_id},
        # What this package does not raise on purpose is a fault of its own: show where.
        exc_info=None if isinstance(error, UpstashError) else error,
    )
