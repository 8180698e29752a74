"""The functions that an app calls: they catch, log and fall back. What they do lives in `store`.

Apart from the two serializers none of them raises, whatever the endpoint, the network or an order
does; KeyboardInterrupt and SystemExit pass. A call takes at most UPSTASH_STATE_TIMEOUT seconds in
all, retries and pauses included (`redis_get_all_orders`, `redis_save_orders` and
`redis_cleanup_old_orders`: each request), and less inside a `time_budget`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from logging import getLogger
from typing import Any, TypeVar

from .client import UpstashRedis
from .entry import Ticket
from .errors import RestoreError, SaveManyError, SettingsError, UnavailableError, UpstashError
from .process import process
from .serialization import shown_order_id
from .store import OrderStore, midnight

T = TypeVar("T")

log = getLogger("upstash_state")


def get_redis_client() -> UpstashRedis | None:
    """The process's one client, made on first use and tested with PING.

    Returns:
        The client, or None when there are no credentials or the endpoint does not answer.
    """
    return _guarded(process.client, None, "get_redis_client", "Failed to connect to Redis")


def redis_save_order(order_id: str | int, order_data: Mapping[str, Any]) -> bool:
    """Back an order up, to expire in 604,800 s (UPSTASH_STATE_TTL). One request, one command.

    A save that fails for a reason that can pass is owed: it is sent later, with the next call that
    finds the endpoint working (UPSTASH_STATE_CATCH_UP).

    Args:
        order_id: Any text, or an int.
        order_data: The order, as `serialize_order` takes it.

    Returns:
        True once Redis holds it, or what was saved under this id after it; in background mode
        (UPSTASH_STATE_BACKGROUND) once it is noted. False when anything failed.
    """
    return begin_save(order_id, order_data)()


def redis_get_order(order_id: str | int) -> dict[str, Any] | None:
    """Read an order back. What is owed counts as saved.

    Args:
        order_id: The id it was saved under.

    Returns:
        The order, or None if there is none, or when anything failed. `OrderStore.get` tells
        these apart.
    """

    def get() -> dict[str, Any] | None:
        with process.call() as store:
            return store.get(order_id)

    message = f"Failed to get order {shown_order_id(order_id)} from Redis"
    return _guarded(get, None, "redis_get_order", message, order_id)


def redis_delete_order(order_id: str | int) -> bool:
    """Delete an order from the backup. One that fails is owed, as a save is.

    Args:
        order_id: The id it was saved under.

    Returns:
        True, also when there was none; False when anything failed.
    """
    return begin_delete(order_id)()


def redis_get_all_orders() -> dict[str, dict[str, Any]]:
    """Restore all orders. About N/1,000 requests and twice as many commands for N orders.

    While the endpoint is unavailable it tries again for UPSTASH_STATE_RESTORE_WAIT seconds.

    Returns:
        The orders by id, or {} when anything failed: all or nothing, but an order that is itself
        unreadable is left out and named in the log. `OrderStore.get_all` tells a failed restore
        from an empty one.
    """
    return _guarded(
        lambda: process.store().get_all(),
        {},
        "redis_get_all_orders",
        "Failed to get all orders from Redis",
    )


def redis_get_order_count() -> int:
    """Count the orders. A command for each 10,000 keys of the database.

    Returns:
        How many there are, or 0 when anything failed. `OrderStore.health` tells these apart.
    """

    def count() -> int:
        with process.call() as store:
            return store.count()

    return _guarded(count, 0, "redis_get_order_count", "Failed to get order count from Redis")


def redis_save_orders(orders: Mapping[str, Mapping[str, Any]]) -> int:
    """Back many orders up in few requests. A request is one command where the endpoint has MSETEX.

    Args:
        orders: The orders by id, such as the app's whole STATE. Other threads may go on changing
            it meanwhile.

    Returns:
        How many of them Redis now holds; in background mode, how many are noted.
    """
    return begin_save_many(orders)()


def redis_cleanup_old_orders(days_to_keep: int = 2) -> int:
    """Delete the orders that were created before 0:00 of the day so many days ago.

    Args:
        days_to_keep: Days in the machine's time zone. 0 keeps only what was created today.

    Returns:
        How many were deleted; 0 when anything failed. An order without `created_at` is kept.
    """
    return _guarded(
        lambda: len(process.store().delete_older_than(midnight(days_to_keep))),
        0,
        "redis_cleanup_old_orders",
        "Failed to clean up old orders in Redis",
    )


def redis_flush(timeout: float | None = None) -> bool:
    """Send what is owed, or noted in background mode, now. For the end of a process.

    Args:
        timeout: Seconds that it may take; None for UPSTASH_STATE_TIMEOUT. 0 sends nothing.

    Returns:
        True when nothing is left to send. What failed and is not owed, such as an order that
        JSON cannot hold, does not count.
    """
    return _guarded(
        lambda: process.store().flush(timeout), False, "redis_flush", "Failed to flush to Redis"
    )


def begin_save(order_id: str | int, order_data: Mapping[str, Any]) -> Callable[[], bool]:
    """Take an order as it is now, and give the function that sends it: `aio` calls that later."""
    return _begin(
        lambda store: store.note_save(order_id, order_data),
        "redis_save_order",
        f"Failed to save order {shown_order_id(order_id)} to Redis",
        order_id,
    )


def begin_delete(order_id: str | int) -> Callable[[], bool]:
    """Note a delete, and give the function that sends it."""
    return _begin(
        lambda store: store.note_delete(order_id),
        "redis_delete_order",
        f"Failed to delete order {shown_order_id(order_id)} from Redis",
        order_id,
    )


def begin_save_many(orders: Mapping[str, Mapping[str, Any]]) -> Callable[[], int]:
    """Take orders as they are now, and give the function that sends them."""
    about = ("redis_save_orders", "Failed to save orders to Redis")
    noted = _guarded(lambda: process.store().note_many(orders), None, *about)

    def deliver() -> int:
        try:
            return 0 if noted is None else len(process.store().deliver_many(noted))
        except SaveManyError as error:
            _log_unsaved(error)
            return len(error.saved)

    return lambda: _guarded(deliver, 0, *about)


def _begin(
    note: Callable[[OrderStore], Ticket | None], operation: str, message: str, order_id: object
) -> Callable[[], bool]:
    about = (operation, message, order_id)
    noted = _guarded(lambda: [note(process.store())], None, *about)

    def deliver() -> bool:
        with process.call() as store:
            for ticket in noted or ():
                store.deliver(ticket)
        return noted is not None

    return lambda: _guarded(deliver, False, *about)


def _guarded(
    work: Callable[[], T], fallback: T, operation: str, message: str, order_id: object = None
) -> T:
    try:
        return work()
    except Exception as error:
        _log(error, operation, message, order_id)
        return fallback


def _log_unsaved(error: SaveManyError) -> None:
    by_cause: dict[int, list[str]] = {}
    for order_id, cause in error.failed.items():
        by_cause.setdefault(id(cause), []).append(order_id)
    for ids in by_cause.values():
        one = len(ids) == 1
        what = f"order {shown_order_id(ids[0])}" if one else f"{len(ids)} orders"
        message = f"Failed to save {what} to Redis"
        _log(error.failed[ids[0]], "redis_save_orders", message, ids[0] if one else None)


def _log(error: Exception, operation: str, message: str, order_id: object) -> None:
    cause = error.__cause__ if isinstance(error, RestoreError) else error
    # What has been reported once, when it came about. That a restore failed is always said: an app
    # that begins empty must be told.
    quiet = isinstance(cause, SettingsError) or (
        isinstance(cause, UnavailableError)
        and cause.reported
        and operation != "redis_get_all_orders"
    )
    (log.debug if quiet else log.error)(
        "%s: %s%s",
        message,
        error,
        "" if quiet else process.advice(cause),
        extra={"operation": operation, "order_id": order_id},
        # A fault of this package or of what surrounds it: show where.
        exc_info=_fault(error),
    )


def _fault(error: BaseException) -> BaseException | None:
    if isinstance(error, UnavailableError) and error.reason == "local":
        return error.__cause__
    return None if isinstance(error, UpstashError) else error
