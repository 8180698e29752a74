"""What the package logs about failures: one template for each kind, and advice once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, copy_context
from logging import DEBUG, ERROR, getLogger
from types import TracebackType

from .errors import (
    AuthenticationError,
    NoPermissionError,
    RestoreError,
    SettingsError,
    UnavailableError,
    UpstashError,
)
from .serialization import shown_order_id
from .settings import DOCTOR, TOKEN_ADVICE
from .texts import LONGEST, shown, text_of, type_name

log = getLogger("upstash_state")

# How many ids one line names.
NAMED = 20

# A handler of log records may save them. A save of its own that fails is logged, and so is one that
# is made for that record; the next would lead to another, without end.
DEEPEST = 1

_nested: ContextVar[int] = ContextVar("upstash_state_nested_failures", default=0)
_said: dict[str, object] = {}


class logged:
    """Log what is raised inside the block, instead of raising it.

        with logged("Failed to get all orders from Redis: %s", "redis_get_all_orders"):
            return process.store().get_all()
        return {}

    KeyboardInterrupt and SystemExit pass.

    Args:
        template: The message, with a place for the order's id, if one is given, and for the cause.
        operation: The function that failed, for the record's `operation`.
        order_id: The order's id, for the record's `order_id`.
    """

    __slots__ = ("_operation", "_order_id", "_template")

    def __init__(self, template: str, operation: str, *order_id: object) -> None:
        self._template, self._operation, self._order_id = template, operation, order_id

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        order_id = self._order_id[0] if self._order_id else None
        ids = map(shown_order_id, self._order_id)
        log_failure(error, self._template, *ids, operation=self._operation, order_id=order_id)
        return True


def log_failure(
    error: Exception,
    template: str,
    *args: object,
    operation: str,
    order_id: object = None,
    affected: str = "",
) -> None:
    """Log that an operation failed.

    Args:
        error: Why.
        template: The message, with a place for each argument and one for the cause.
        args: The arguments.
        operation: The function, for the record's `operation`.
        order_id: The order's id, for the record's `order_id`.
        affected: What to add to the cause.
    """
    cause = error.__cause__ if isinstance(error, RestoreError) else error
    # Settings and an open circuit have been reported once. That a restore failed is always an
    # error: an app that starts empty must be told.
    quiet = isinstance(cause, SettingsError) or (
        isinstance(cause, UnavailableError)
        and cause.reported
        and operation != "redis_get_all_orders"
    )
    depth = _nested.get()
    if depth > DEEPEST:
        return
    # In a context of its own, so that an interruption leaves no depth behind.
    context = copy_context()
    context.run(_nested.set, depth + 1)
    # A handler that raises is not the app's failure.
    with suppress(Exception):
        context.run(
            log.log,
            DEBUG if quiet else ERROR,
            template,
            *args,
            f"{_line(error)}{affected}{'' if quiet else _advice(cause)}",
            extra={"operation": operation, "order_id": order_id},
            exc_info=_unexpected(error),
        )


def log_unsaved(failed: Mapping[str, UpstashError], *, deleted: bool = False) -> None:
    """Log why orders could not be saved or deleted, a line for each cause.

    Args:
        failed: What went wrong, by order id.
        deleted: Whether they were to be deleted.
    """
    operation, template = (
        ("redis_delete_order", "Failed to delete %s from Redis: %s")
        if deleted
        else ("redis_save_orders", "Failed to save %s to Redis: %s")
    )
    by_cause: dict[str, list[str]] = {}
    for order_id, error in failed.items():
        by_cause.setdefault(str(error), []).append(order_id)
    for ids in by_cause.values():
        one = len(ids) == 1
        log_failure(
            failed[ids[0]],
            template,
            f"order {shown_order_id(ids[0])}" if one else f"{len(ids)} orders",
            operation=operation,
            order_id=ids[0] if one else None,
            affected="" if one else f" ({named(ids)})",
        )


def complain(text: str) -> None:
    """Log a warning, once until `forget`."""
    if _is_first(text):
        log.warning("%s", text)


def forget() -> None:
    """Let everything be said again."""
    _said.clear()


def named(ids: list[str]) -> str:
    """Order ids for a log line, the first twenty of them."""
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(map(shown_order_id, ids[:NAMED])) + more


def plural(count: int, noun: str = "order") -> str:
    """A number of things, such as "1 order" or "2 orders"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _advice(error: BaseException | None) -> str:
    if isinstance(error, AuthenticationError):
        text = f" - {TOKEN_ADVICE}. {DOCTOR}"
    elif isinstance(error, NoPermissionError) or (
        isinstance(error, UnavailableError) and not error.transient
    ):
        text = f". {DOCTOR}"
    else:
        return ""
    return text if _is_first("advice") else ""


def _is_first(said: str) -> bool:
    # Without a lock, which a log handler that saves would wait for.
    mine = object()
    return _said.setdefault(said, mine) is mine


def _line(error: Exception) -> str:
    # An order's own code may raise it, with any text.
    return shown(text_of(error) or type_name(error), 2 * LONGEST)


def _unexpected(error: Exception) -> BaseException | None:
    """The exception to show with its traceback: a fault of the package or its surroundings."""
    if isinstance(error, UnavailableError) and error.reason == "local":
        return error.__cause__
    return None if isinstance(error, UpstashError) else error
